/** Arithmetic behind the charts, apart from any drawing. */
import type { Latency, Series } from "./model";

/** The percentile axis: 1/(1-q) on a logarithmic scale gives every further nine the same width. */
export function spectrum(latency: Latency): [x: number[], y: number[]] {
  const x: number[] = [];
  const y: number[] = [];
  latency.quantile.forEach((q, i) => {
    const value = latency.value[i];
    if (value === undefined) return;
    // The largest sample stands at its own rank: of n samples one lies there.
    const position = q >= 1 ? Math.max(latency.count, (x.at(-1) ?? 1) * 1.0001) : 1 / (1 - q);
    x.push(position);
    y.push(value);
  });
  return [x, y];
}

/** Value on x, share of samples not above it on y; of equal values the highest share counts. */
export function cumulative(latency: Latency): [x: number[], y: number[]] {
  const x: number[] = [];
  const y: number[] = [];
  latency.quantile.forEach((q, i) => {
    const value = latency.value[i];
    if (value === undefined) return;
    if (x.at(-1) === value) y[y.length - 1] = q;
    else {
      x.push(value);
      y.push(q);
    }
  });
  return [x, y];
}

/** Labelled places of the percentile axis up to the last sample. */
export function nines(largest: number): number[] {
  const places = [1, 2];
  for (let x = 10; x <= largest * 1.01; x *= 10) places.push(x);
  return places;
}

export function extent(values: Series): [number, number] | null {
  let low = Infinity;
  let high = -Infinity;
  for (const v of values) {
    if (v === null) continue;
    if (v < low) low = v;
    if (v > high) high = v;
  }
  return low <= high ? [low, high] : null;
}

/** Samples with a gap on both sides: a line can't show them, a dot must. */
export function isolated(values: Series): number[] {
  const found: number[] = [];
  values.forEach((v, i) => {
    if (v !== null && (values[i - 1] ?? null) === null && (values[i + 1] ?? null) === null) found.push(i);
  });
  return found;
}

/** A logarithmic axis pays when the values span more than two decades. */
export function wantsLog(lines: Series[]): boolean {
  let low = Infinity;
  let high = 0;
  for (const line of lines)
    for (const v of line)
      if (v !== null && v > 0) {
        low = Math.min(low, v);
        high = Math.max(high, v);
      }
  return high / low > 100;
}

export function toCsv(xTitle: string, x: number[], lines: { label: string; values: Series }[]): string {
  const quote = (text: string) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const head = [xTitle, ...lines.map((l) => l.label)].map(quote).join(",");
  const rows = x.map((value, i) => [value, ...lines.map((l) => l.values[i] ?? "")].join(","));
  return `${[head, ...rows].join("\r\n")}\r\n`;
}
