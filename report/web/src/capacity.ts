/** The page of a search for capacity: what was found, latency against load, every run. */
import { chart, type Colour, type Line } from "./chart";
import { h, table } from "./dom";
import { duration, foreign, percent, rate } from "./format";

interface Percentiles {
  count: number;
  p50: number | null;
  p99: number | null;
}

interface Probe {
  run: string;
  factor: number;
  askedPerSecond: number;
  deliveredPerSecond: number;
  verdict: "holds" | "breaks" | "generator" | "unusable";
  reasons: string[];
  latencies: Record<string, Percentiles>;
  busyShare: number | null;
}

export interface Capacity {
  limit: string;
  interrupted: boolean;
  reading: string;
  lower: { perSecond: number | null; held: number; runs: number };
  upper: { perSecond: number | null };
  run: { id: string; scenario: string; description: string; seed: number; startedAt: string; durationSeconds: number; version: string; command: string };
  slos: { description: string }[];
  probes: Probe[];
}

const kColours: Colour[] = ["blue", "orange", "green", "purple", "red", "sky", "grey"];
const kVerdicts = { holds: "holds", breaks: "does not hold", generator: "generator's limit", unusable: "says nothing" };

/** One point per rate that was run: of several runs the median, so that a repetition neither adds nor hides a point. */
export function byRate(probes: Probe[], value: (probe: Probe) => number | null): [x: number[], y: (number | null)[]] {
  const rates = new Map<number, number[]>();
  for (const probe of probes) {
    const values = rates.get(probe.askedPerSecond) ?? [];
    const v = value(probe);
    if (v !== null) values.push(v);
    rates.set(probe.askedPerSecond, values);
  }
  const x = [...rates.keys()].sort((a, b) => a - b);
  const y = x.map((r) => {
    const values = (rates.get(r) ?? []).sort((a, b) => a - b);
    return values.length === 0 ? null : (values[Math.floor((values.length - 1) / 2)] ?? null);
  });
  return [x, y];
}

function curves(capacity: Capacity): HTMLElement[] {
  const names = [...new Set(capacity.probes.flatMap((p) => Object.keys(p.latencies)))].sort();
  const figures: HTMLElement[] = [];
  for (const percentile of ["p99", "p50"] as const) {
    const lines: Line[] = [];
    let x: number[] = [];
    names.forEach((name, i) => {
      const [at, values] = byRate(capacity.probes, (p) => p.latencies[name]?.[percentile] ?? null);
      x = at;
      lines.push({ label: name, values, colour: kColours[i % kColours.length] ?? "grey" });
    });
    figures.push(chart({
      title: `Latency against load, ${percentile}`,
      note: `Intended latency (from when each operation was due) of every rate that was run; the dashed line is the rate that held. Of several runs at a rate the median.`,
      kind: "rate", x, lines, format: duration, log: true,
      ...(capacity.lower.perSecond === null ? {} : { mark: { at: capacity.lower.perSecond, label: `${rate(capacity.lower.perSecond)} holds` } }),
    }));
  }
  const [x, delivered] = byRate(capacity.probes, (p) => p.deliveredPerSecond);
  figures.push(chart({
    title: "Delivered against asked",
    note: "Operations acknowledged per second. Where the line leaves the diagonal, not everything that was asked for was done.",
    kind: "rate", x, format: rate,
    lines: [
      { label: "delivered", values: delivered, colour: "blue" },
      { label: "asked", values: x, colour: "grey", dashed: true },
    ],
  }));
  return figures;
}

function runs(capacity: Capacity): HTMLElement {
  const probes = [...capacity.probes].sort((a, b) => a.askedPerSecond - b.askedPerSecond);
  return table(`The ${probes.length} runs, by rate`, [
    { title: "Run", cell: (p) => h("a", { href: `${encodeURIComponent(p.run)}/report.html` }, foreign(p.run, 40)) },
    { title: "Asked", number: true, cell: (p) => rate(p.askedPerSecond) },
    { title: "Delivered", number: true, cell: (p) => rate(p.deliveredPerSecond) },
    { title: "Verdict", cell: (p) => kVerdicts[p.verdict] },
    { title: "Busiest shard", number: true, cell: (p) => percent(p.busyShare) },
    { title: "Why", cell: (p) => foreign(p.reasons[0] ?? "", 300) },
  ], probes);
}

export function capacityTitle(capacity: Capacity): string {
  const { lower, limit } = capacity;
  if (lower.perSecond === null) return "No rate held";
  return limit === "objective" ? `Capacity ${rate(lower.perSecond)}` : `At least ${rate(lower.perSecond)}`;
}

export function capacityBanner(capacity: Capacity): HTMLElement {
  const found = capacity.lower.perSecond !== null && !capacity.interrupted && capacity.limit !== "unusable";
  return h("section", { class: `banner ${found ? "passed" : "aborted"}`, "aria-labelledby": "verdict" },
    h("div", { class: "shape", "aria-hidden": "true" }, found ? "✓" : "■"),
    h("div", { class: "words" },
      h("h2", { id: "verdict" }, capacityTitle(capacity)),
      h("p", { class: "reading" }, foreign(capacity.reading, 2000))));
}

export function capacityParts(capacity: Capacity): { id: string; title: string; body: HTMLElement }[] {
  return [
    { id: "curve", title: "Latency against load", body: h("div", {}, curves(capacity)) },
    { id: "runs", title: "Runs", body: runs(capacity) },
    { id: "setup", title: "What was judged, and how to repeat it", body: h("div", {},
      h("ul", {}, capacity.slos.map((slo) => h("li", {}, foreign(slo.description, 300)))),
      h("pre", {}, foreign(capacity.run.command, 1000))) },
  ];
}
