/**
 * Charts: uPlot with our palette, phases behind the time axis, one cursor and one zoom for all time charts, a keyboard,
 * a legend that can be operated, and the figures as CSV.
 */
import uPlot from "uplot";
import { extent, isolated, nines, toCsv } from "./curve";
import { h } from "./dom";
import { clock, count, percentile, rate } from "./format";
import type { Mark, Phase, Series } from "./model";

export type Colour = "blue" | "orange" | "green" | "red" | "purple" | "sky" | "grey";

export interface Line {
  label: string;
  values: Series;
  colour: Colour;
  dashed?: boolean;
  filled?: boolean;
}

export interface ChartSpec {
  title: string;
  /** What is drawn, how to read it; one sentence. */
  note?: string;
  kind: "time" | "spectrum" | "cdf" | "rate";
  x: number[];
  lines: Line[];
  format: (value: number) => string;
  /** A logarithmic value axis is offered; true starts with it. */
  log?: boolean;
  /** Spectrum: number of samples, to shade the part that fewer than ten samples carry. */
  samples?: number;
  /** Upper end of the value axis where it is known (shares). */
  top?: number;
  /** Bytes: ticks at powers of two. */
  binary?: boolean;
  /** A horizontal line with a name, such as a limit. */
  limit?: { value: number; label: string };
  /** A vertical line with a name. */
  mark?: { at: number; label: string };
}

interface Timeline {
  phases: Phase[];
  marks: Mark[];
  end: number;
}

const kHeight = 240;
const kDash = [6, 4];
const kClockSteps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400];

let timeline: Timeline = { phases: [], marks: [], end: 1 };
const charts = new Set<Chart>();

export function setTimeline(phases: Phase[], marks: Mark[], end: number): void {
  timeline = { phases, marks, end };
}

/** After a change of theme: colours live in the canvas, so everything is drawn anew. */
export function redrawAll(): void {
  for (const chart of charts) chart.build();
}

export function resetZoom(): void {
  for (const chart of charts) chart.showAll();
}

function colourOf(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--c-${name}`).trim();
}

export function chart(spec: ChartSpec): HTMLElement {
  return new Chart(spec).figure;
}

class Chart {
  readonly figure: HTMLElement;
  private readonly plot: HTMLElement;
  private readonly readout: HTMLElement;
  private readonly spoken: HTMLElement;
  private readonly values: HTMLElement[] = [];
  private readonly shown: boolean[];
  private readonly scaleButton: HTMLButtonElement | null;
  private log: boolean;
  private u: uPlot | null = null;

  constructor(private readonly spec: ChartSpec) {
    this.log = spec.log ?? false;
    this.shown = spec.lines.map(() => true);
    this.plot = h("div", {
      class: "plot",
      tabindex: 0,
      role: "group",
      "aria-roledescription": "chart",
      "aria-label": this.summary(),
      keydown: (e) => this.key(e as KeyboardEvent),
    });
    this.readout = h("span", { class: "at" });
    this.spoken = h("span", { class: "unseen", "aria-live": "polite" });
    this.scaleButton =
      spec.log === undefined
        ? null
        : h("button", { type: "button", class: "small", title: "Logarithmic axis", "aria-pressed": String(this.log), click: () => this.toggleLog() }, "log");
    const legend = h(
      "ul",
      { class: "legend", "aria-label": `Lines of ${spec.title}` },
      spec.lines.map((line, i) => {
        const value = h("span", { class: "value" });
        this.values.push(value);
        const button = h(
          "button",
          {
            type: "button",
            "aria-pressed": "true",
            title: "Show or hide this line",
            click: () => {
              this.shown[i] = !this.shown[i];
              button.setAttribute("aria-pressed", String(this.shown[i]));
              this.u?.setSeries(i + 1, { show: this.shown[i] === true });
            },
          },
          h("span", { class: `swatch ${line.dashed ? "dashed" : ""}`, style: `--line: var(--c-${line.colour})` }),
          h("span", {}, line.label),
          value,
        );
        return h("li", {}, button);
      }),
    );
    this.figure = h(
      "figure",
      { class: "chart" },
      h(
        "figcaption",
        {},
        h("div", { class: "head" }, h("h4", {}, spec.title), this.readout, h("span", { class: "tools" },
          this.scaleButton,
          h("button", { type: "button", class: "small", title: "Download the figures of this chart",
                        "aria-label": `Download ${spec.title} as CSV`, click: () => this.download() }, "CSV"))),
        spec.note ? h("p", { class: "note" }, spec.note) : null,
      ),
      this.plot,
      legend,
      this.spoken,
    );
    charts.add(this);
    let width = 0;
    new ResizeObserver(() => {
      const now = Math.floor(this.plot.clientWidth);
      if (now === width || now < 50) return;
      width = now;
      if (this.u === null) this.build();
      else this.u.setSize({ width, height: kHeight });
    }).observe(this.plot);
  }

  build(): void {
    this.u?.destroy();
    const { spec } = this;
    const width = Math.floor(this.plot.clientWidth);
    if (width < 50) return;
    const ink = colourOf("ink-soft");
    const grid = { stroke: colourOf("grid"), width: 1 };
    const font = "12px system-ui, sans-serif";
    const ticks = { ...grid, size: 4 };
    const isTime = spec.kind === "time";
    const positive = (values: Series) => (this.log ? values.map((v) => (v !== null && v > 0 ? v : null)) : values);
    // Where the value runs along x (CDF) the logarithm is x's.
    const logX = spec.kind === "spectrum" || (spec.kind === "cdf" && this.log);
    const logY = this.log && spec.kind !== "cdf";
    const rows: (number | null)[][] = spec.lines.map((l) => (logY ? positive(l.values) : l.values));
    const xs = spec.x;
    const options: uPlot.Options = {
      width,
      height: kHeight,
      padding: [isTime ? (timeline.marks.length > 0 ? 34 : 20) : 10, 14, 0, 0],
      legend: { show: false },
      cursor: {
        y: false,
        drag: { x: true, y: false, setScale: isTime },
        points: { size: 7 },
        hover: { skip: [null, undefined] },
        ...(isTime ? { sync: { key: "time", setSeries: false, scales: ["x", null] as uPlot.Cursor.Sync.Scales } } : {}),
      },
      scales: {
        x: {
          time: false,
          distr: logX ? 3 : 1,
          ...(isTime ? { range: (_u: uPlot, min: number, max: number) => this.timeRange(min, max) } : {}),
          ...(spec.kind === "spectrum" ? { range: (_u: uPlot, min: number, max: number) => [min, max] as uPlot.Range.MinMax } : {}),
          ...(spec.kind === "cdf" && !this.log
            ? { range: (_u: uPlot, _min: number, max: number) => [0, max * 1.02] as uPlot.Range.MinMax }
            : {}),
        },
        y: logY
          ? { distr: 3, range: (_u, min, max) => uPlot.rangeLog(min ?? 1e-3, Math.max(max ?? 1, this.spec.limit?.value ?? 0), 10, false) }
          : { range: (_u, _min, max) => [0, this.top(max)] },
      },
      axes: [
        {
          stroke: ink, font, grid, ticks, size: 30,
          ...(isTime ? { incrs: kClockSteps, values: (_u: uPlot, at: number[]) => at.map(clock), space: 60 } : {}),
          ...(spec.kind === "spectrum"
            ? {
                splits: () => nines(xs.at(-1) ?? 1),
                values: (_u: uPlot, at: number[]) => at.map((x) => (x <= 1 ? "0%" : percentile(1 - 1 / x))),
                filter: (_u: uPlot, at: number[]) => at,
              }
            : {}),
          ...(spec.kind === "rate" ? { values: (_u: uPlot, at: number[]) => at.map(rate), space: 70 } : {}),
          ...(spec.kind === "cdf"
            ? { values: (_u: uPlot, at: (number | null)[]) => at.map((v) => (v === null ? "" : spec.format(v))), space: 70 }
            : {}),
        },
        {
          stroke: ink, font, grid, ticks, size: 68, space: 36,
          ...(spec.binary ? { incrs: Array.from({ length: 44 }, (_, i) => 2 ** i) } : {}),
          values: (_u, at) => at.map((v) => (v === null || v === undefined ? "" : spec.kind === "cdf" ? `${Math.round(v * 100)}%` : spec.format(v))),
        },
      ],
      series: [
        {},
        ...spec.lines.map((line, i): uPlot.Series => {
          const stroke = colourOf(line.colour);
          const dots = isolated(rows[i] ?? []);
          return {
            label: line.label,
            show: this.shown[i] === true,
            stroke,
            width: line.dashed ? 1.5 : 2,
            ...(line.dashed ? { dash: kDash } : {}),
            ...(line.filled ? { fill: `${stroke}33` } : {}),
            spanGaps: !isTime,
            points: spec.kind === "rate"
              ? { show: true, size: 6, fill: stroke, stroke }
              : isTime && dots.length > 0
              ? { show: () => true, filter: () => dots, size: 5, fill: stroke, stroke }
              : { show: false },
          };
        }),
      ],
      hooks: {
        drawClear: [(u) => this.drawBackground(u)],
        draw: [(u) => this.drawLimit(u), (u) => this.drawMark(u)],
        setCursor: [(u) => this.showValues(u)],
        setScale: [() => noteZoom()],
      },
    };
    this.plot.replaceChildren();
    this.u = new uPlot(options, [xs, ...rows] as uPlot.AlignedData, this.plot);
    for (const canvas of this.plot.querySelectorAll("canvas")) canvas.setAttribute("aria-hidden", "true");
  }

  get zoomed(): boolean {
    if (this.u === null || this.spec.kind !== "time") return false;
    const { min, max } = this.u.scales["x"] ?? {};
    return min !== undefined && max !== undefined && (min > 1e-9 || max < timeline.end - 1e-9);
  }

  showAll(): void {
    if (this.u !== null && this.spec.kind === "time") this.u.setScale("x", { min: 0, max: timeline.end });
  }

  private timeRange(min: number, max: number): uPlot.Range.MinMax {
    // uPlot proposes the extent of the data; the axis is the run.
    const first = this.spec.x[0] ?? 0;
    const last = this.spec.x.at(-1) ?? 0;
    return min <= first && max >= last ? [0, timeline.end] : [Math.max(0, min), Math.min(timeline.end, max)];
  }

  private top(max: number | null): number {
    if (this.spec.kind === "cdf") return 1;
    if (this.spec.top !== undefined) return Math.max(this.spec.top, max ?? 0);
    const high = max ?? 0;
    const limit = this.spec.limit?.value ?? 0;
    // A limit far above everything would flatten the lines; the caption says it then.
    const reach = limit > 4 * high ? high : Math.max(high, limit);
    return reach > 0 ? reach * 1.08 : 1;
  }

  private toggleLog(): void {
    this.log = !this.log;
    this.scaleButton?.setAttribute("aria-pressed", String(this.log));
    this.build();
  }

  private xText(x: number): string {
    switch (this.spec.kind) {
      case "time": return `at ${clock(x)}`;
      case "spectrum": return x <= 1 ? "smallest" : `${percentile(1 - 1 / x)} of samples, 1 in ${count(x)} is slower`;
      case "rate": return `at ${rate(x)}`;
      case "cdf": return `within ${this.spec.format(x)}`;
    }
  }

  private showValues(u: uPlot): void {
    const idx = u.cursor.idx;
    const x = idx === null || idx === undefined ? undefined : u.data[0][idx];
    this.readout.textContent = x === undefined ? "" : this.xText(x);
    this.spec.lines.forEach((line, i) => {
      const at = x === undefined ? null : (u.cursor.idxs?.[i + 1] ?? idx);
      const value = at === null || at === undefined ? null : (line.values[at] ?? null);
      const text = value === null ? "" : this.spec.kind === "cdf" ? `${(value * 100).toFixed(1)} %` : this.spec.format(value);
      const place = this.values[i];
      if (place !== undefined) place.textContent = text;
    });
  }

  /** Arrows move the cursor, + and - zoom the time, Escape shows everything. */
  private key(event: KeyboardEvent): void {
    const u = this.u;
    if (u === null || event.ctrlKey || event.metaKey || event.altKey) return;
    const last = this.spec.x.length - 1;
    const idx = u.cursor.idx ?? 0;
    const step = Math.max(1, Math.round(last / 60));
    const moves: Record<string, number> = {
      ArrowLeft: idx - 1, ArrowRight: idx + 1, PageUp: idx - step, PageDown: idx + step, Home: 0, End: last,
    };
    const target = moves[event.key];
    if (target !== undefined) {
      const place = Math.min(last, Math.max(0, target));
      const x = this.spec.x[place] ?? 0;
      u.setCursor({ left: u.valToPos(x, "x"), top: u.rect.height / 2 });
      this.spoken.textContent = `${this.readout.textContent}: ${this.spec.lines
        .map((l, i) => `${l.label} ${this.values[i]?.textContent || "no sample"}`)
        .join(", ")}`;
    } else if (this.spec.kind === "time" && (event.key === "+" || event.key === "-")) {
      const { min = 0, max = timeline.end } = u.scales["x"] ?? {};
      const centre = this.spec.x[idx] ?? (min + max) / 2;
      const factor = event.key === "+" ? 0.5 : 2;
      const low = Math.max(0, centre - (centre - min) * factor);
      const high = Math.min(timeline.end, centre + (max - centre) * factor);
      for (const other of charts) if (other.spec.kind === "time") other.u?.setScale("x", { min: low, max: high });
    } else if (event.key === "Escape") {
      resetZoom();
    } else {
      return;
    }
    event.preventDefault();
  }

  private drawBackground(u: uPlot): void {
    if (this.spec.kind === "time") drawTimeline(u);
    if (this.spec.kind === "spectrum" && this.spec.samples !== undefined) {
      const { ctx, bbox } = u;
      const from = Math.max(bbox.left, u.valToPos(Math.max(1, this.spec.samples / 10), "x", true));
      if (from >= bbox.left + bbox.width) return;
      ctx.save();
      ctx.fillStyle = colourOf("band");
      ctx.fillRect(from, bbox.top, bbox.left + bbox.width - from, bbox.height);
      ctx.fillStyle = colourOf("ink-soft");
      ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
      ctx.textAlign = "right";
      ctx.textBaseline = "bottom";
      const text = fit(ctx, "< 10 samples", bbox.left + bbox.width - from - 8 * devicePixelRatio);
      ctx.fillText(text, bbox.left + bbox.width - 4 * devicePixelRatio, bbox.top + bbox.height - 4 * devicePixelRatio);
      ctx.restore();
    }
  }

  private drawLimit(u: uPlot): void {
    const limit = this.spec.limit;
    if (limit === undefined) return;
    const { ctx, bbox } = u;
    const y = u.valToPos(limit.value, "y", true);
    if (y < bbox.top || y > bbox.top + bbox.height) return;
    ctx.save();
    const dpr = devicePixelRatio;
    ctx.strokeStyle = colourOf("ink");
    ctx.lineWidth = dpr;
    ctx.setLineDash([2 * dpr, 3 * dpr]);
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
    ctx.setLineDash([]);
    ctx.font = `${11 * dpr}px system-ui, sans-serif`;
    ctx.textAlign = "left";
    const below = y - bbox.top < 16 * dpr;
    ctx.textBaseline = below ? "top" : "bottom";
    const at: [number, number] = [bbox.left + 5 * dpr, y + (below ? 3 : -2) * dpr];
    // A halo keeps the words readable across lines.
    ctx.lineWidth = 3 * dpr;
    ctx.strokeStyle = colourOf("card");
    ctx.strokeText(limit.label, ...at);
    ctx.fillStyle = colourOf("ink");
    ctx.fillText(limit.label, ...at);
    ctx.restore();
  }

  private drawMark(u: uPlot): void {
    const { mark } = this.spec;
    if (mark === undefined) return;
    const { ctx, bbox } = u;
    const x = u.valToPos(mark.at, "x", true);
    if (x < bbox.left || x > bbox.left + bbox.width) return;
    ctx.save();
    const dpr = devicePixelRatio;
    ctx.strokeStyle = colourOf("ink");
    ctx.lineWidth = dpr;
    ctx.setLineDash([4 * dpr, 3 * dpr]);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    ctx.setLineDash([]);
    ctx.font = `${11 * dpr}px system-ui, sans-serif`;
    const onLeft = x > bbox.left + bbox.width / 2;
    ctx.textAlign = onLeft ? "right" : "left";
    ctx.textBaseline = "top";
    ctx.fillStyle = colourOf("ink");
    ctx.fillText(mark.label, x + (onLeft ? -5 : 5) * dpr, bbox.top + 3 * dpr);
    ctx.restore();
  }

  private summary(): string {
    const parts = this.spec.lines.map((line) => {
      const range = extent(line.values);
      if (range === null) return `${line.label}: no samples`;
      if (this.spec.kind === "cdf") return line.label;
      return `${line.label}: ${this.spec.format(range[0])} to ${this.spec.format(range[1])}`;
    });
    return `${this.spec.title}. ${parts.join("; ")}. Arrow keys read the values.`;
  }

  private download(): void {
    const xTitle = { time: "seconds", spectrum: "1/(1-quantile)", cdf: "seconds", rate: "per second" }[this.spec.kind];
    const link = h("a", {
      href: URL.createObjectURL(new Blob([toCsv(xTitle, this.spec.x, this.spec.lines)], { type: "text/csv" })),
      download: `${this.spec.title.toLowerCase().replace(/[^a-z0-9]+/g, "-")}.csv`,
    });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }
}

function noteZoom(): void {
  document.documentElement.classList.toggle("zoomed", [...charts].some((c) => c.zoomed));
}

function fit(ctx: CanvasRenderingContext2D, text: string, width: number): string {
  if (ctx.measureText(text).width <= width) return text;
  for (let length = text.length - 1; length > 1; length -= 1) {
    const shorter = `${text.slice(0, length)}…`;
    if (ctx.measureText(shorter).width <= width) return shorter;
  }
  return "";
}

/** Phases as bands with their names above the plot, unrecorded ones shaded; marks as dashed lines with a caption. */
function drawTimeline(u: uPlot): void {
  const { ctx, bbox } = u;
  const dpr = devicePixelRatio;
  const right = bbox.left + bbox.width;
  const place = (at: number) => Math.min(right, Math.max(bbox.left, u.valToPos(at, "x", true)));
  const rowHeight = 14 * dpr;
  const phaseLine = bbox.top - 4 * dpr;
  ctx.save();
  ctx.font = `${11 * dpr}px system-ui, sans-serif`;
  ctx.textBaseline = "bottom";
  ctx.textAlign = "left";
  for (const phase of timeline.phases) {
    const from = place(phase.start);
    const to = place(phase.end);
    if (to - from < 1) continue;
    if (!phase.recorded) {
      ctx.fillStyle = colourOf("band");
      ctx.fillRect(from, bbox.top, to - from, bbox.height);
    }
    ctx.strokeStyle = colourOf("edge");
    ctx.lineWidth = dpr;
    ctx.beginPath();
    ctx.moveTo(from, phaseLine - rowHeight + 2 * dpr);
    ctx.lineTo(from, bbox.top + bbox.height);
    ctx.stroke();
    ctx.fillStyle = colourOf("ink-soft");
    ctx.fillText(fit(ctx, phase.name, to - from - 8 * dpr), from + 4 * dpr, phaseLine);
  }
  ctx.strokeStyle = colourOf("purple");
  ctx.fillStyle = colourOf("purple");
  ctx.setLineDash([3 * dpr, 3 * dpr]);
  let free = -Infinity;
  for (const mark of timeline.marks) {
    const x = u.valToPos(mark.at, "x", true);
    if (x < bbox.left || x > right) continue;
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    // To the right where there's room, else to the left, else nowhere: the events list has it.
    const wanted = ctx.measureText(mark.text).width;
    const onRight = right - x >= Math.min(wanted, 120 * dpr);
    const room = onRight ? right - x : x - Math.max(free, bbox.left);
    if (x < free || room < 30 * dpr) continue;
    const text = fit(ctx, mark.text, Math.min(room, 220 * dpr));
    ctx.textAlign = onRight ? "left" : "right";
    ctx.fillText(text, x, phaseLine - rowHeight);
    free = (onRight ? x + ctx.measureText(text).width : x) + 8 * dpr;
  }
  ctx.restore();
}
