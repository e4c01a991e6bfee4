/** Numbers the way the whole report prints them: thousands separators, a unit, three significant digits. */

const kCount = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

export function count(n: number): string {
  return kCount.format(n);
}

/** Three significant digits with separators, never in exponent form: 0.412, 48.2, 1,530. */
export function significant(value: number, digits = 3): string {
  if (value === 0 || !Number.isFinite(value)) return value === 0 ? "0" : "–";
  const magnitude = Math.floor(Math.log10(Math.abs(value)));
  const decimals = Math.min(6, Math.max(0, digits - 1 - magnitude));
  const rounded = Number(value.toFixed(decimals));
  return rounded.toLocaleString("en-US", { maximumFractionDigits: decimals });
}

/** A duration: us below one millisecond, ms below one second, s below two minutes, then min and s. */
export function duration(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  const size = Math.abs(seconds);
  if (size > 0 && size < 0.0009995) return `${significant(seconds * 1e6)} us`;
  if (size < 0.9995) return `${significant(seconds * 1e3)} ms`;
  if (size < 119.5) return `${significant(seconds)} s`;
  const whole = Math.round(size);
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor((whole % 3600) / 60);
  const rest = whole % 60;
  if (hours > 0) return `${hours} h ${minutes} min`;
  return rest === 0 ? `${minutes} min` : `${minutes} min ${rest} s`;
}

/** A point in the run: 0:07, 12:30, 1:02:03. */
export function clock(seconds: number): string {
  const tenths = Math.round(seconds * 10) % 10 !== 0 && seconds < 60;
  const whole = tenths ? Math.floor(seconds) : Math.round(seconds);
  const h = Math.floor(whole / 3600);
  const m = Math.floor((whole % 3600) / 60);
  const s = tenths ? (seconds % 60).toFixed(1).padStart(4, "0") : String(whole % 60).padStart(2, "0");
  return h > 0 ? `${h}:${String(m).padStart(2, "0")}:${s}` : `${m}:${s}`;
}

export function rate(perSecond: number | null | undefined): string {
  return perSecond === null || perSecond === undefined ? "–" : `${significant(perSecond)}/s`;
}

/** A share in percent. What is not complete is never rounded up to 100 %, what is not nothing never down to 0 %. */
export function percent(share: number | null | undefined): string {
  if (share === null || share === undefined || !Number.isFinite(share)) return "–";
  const value = share * 100;
  if (value > 0 && value < 0.001) return "< 0.001 %";
  if (value < 100 && value > 99.999) return "> 99.999 %";
  if (value < 100 && value >= 99.95) return `${value.toFixed(3)} %`;
  return `${significant(value)} %`;
}

export function bytes(n: number | null | undefined): string {
  if (n === null || n === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = n;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return unit === 0 ? `${count(value)} B` : `${significant(value)} ${units[unit]}`;
}

/** 0.5 -> "50%", 0.999 -> "99.9%": the label of a percentile. */
export function percentile(q: number): string {
  if (q >= 1) return "100%";
  const digits = Math.max(0, Math.ceil(-Math.log10(1 - q) - 1e-9) - 2);
  return `${(q * 100).toFixed(digits)}%`;
}

// Control characters and those that change the writing direction: text of a record must not reorder the page around it.
const kInvisible = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** Text that came from outside (names, messages): made visible and of bounded length. */
export function foreign(text: string, limit = 400): string {
  const visible = text.replace(kInvisible, (c) =>
    c === "\n" || c === "\t" ? " " : `\\u{${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}}`,
  );
  const letters = Array.from(visible);
  return letters.length <= limit ? visible : `${letters.slice(0, limit).join("")}…`;
}
