/** The canary: percentiles of an independent client beside the fleet's, each with its sampling error. */
import { badge, empty, h, pairs, table, type Child, type Column } from "./dom";
import { count, duration, foreign, percent, percentile } from "./format";
import type { Canary, CanaryPercentile, CanaryRow, CanaryVerdict, Estimate } from "./model";

const kWords: Record<CanaryVerdict, string> = {
  agree: "agree",
  disagree: "disagree beyond sampling error",
  tooFewSamples: "too few samples",
};

const kShort: Record<CanaryVerdict, string> = { agree: "agree", disagree: "disagree", tooFewSamples: "too few samples" };

const compared = (row: CanaryRow) => row.percentiles.filter((p) => p.canary !== null && p.fleet !== null);
const place = (row: CanaryRow) => `${foreign(row.operation, 40)} · ${foreign(row.phase, 60)}`;

/** A warning for the top of the page; nothing while the two agree. */
export function canaryWarning(c: Canary | null): Child {
  if (c === null || c.verdict !== "disagree") return null;
  return h("section", { class: "warning", role: "note", "aria-label": "Canary" },
    h("strong", {}, "! The canary disagrees. "),
    `${sentence(c.detail)} `,
    h("a", { href: "#canary" }, "The figures"), ".");
}

export function canarySection(c: Canary | null): Child {
  if (c === null) return empty("The canary was switched off (canary: false), so no other client checked the figures of this run.");
  const rows = c.rows.filter((r) => r.canarySamples > 0 || r.fleetSamples > 0);
  const drawn = rows.filter((r) => compared(r).length > 0);
  return [
    h("p", { class: "lead" },
      badge(kWords[c.verdict]), ` ${sentence(c.detail)}`),
    h("p", { class: "note" },
      `One device on ${foreign(c.client, 60)}, a client by other authors, did the same as the fleet a few times a second and timed it with its own stopwatch. `,
      `Two percentiles agree when their ${percent(c.confidence)} intervals meet or lie within ${duration(c.allowanceSeconds)} plus ${percent(c.allowanceShare)} of the smaller value, `,
      "which is what another client on other threads may differ by. ", h("a", { href: "#def-canary" }, "What is compared.")),
    drawn.length > 0 && intervals(drawn),
    rows.length > 0 && table("Fleet and canary: latency from when it was sent", columns(), rows),
    h("details", {}, h("summary", {}, "The canary's own books (in no total of the run)"),
      table("Operations of the canary, whole run", [
        { title: "Operation", cell: (o) => foreign(o.name, 40) },
        { title: "Sent", number: true, cell: (o) => count(o.sent) },
        { title: "Acknowledged", number: true, cell: (o) => count(o.acknowledged) },
        { title: "Failed", number: true, cell: (o) => count(o.failed) },
        { title: "Timed out", number: true, cell: (o) => count(o.timedOut) },
      ], c.counts),
      pairs([
        ["Device", foreign(c.device, 140)],
        ["CPU time of the canary and of Paho's threads", c.cpuSeconds === null ? "shared with a fleet on Paho" : duration(c.cpuSeconds)],
      ])),
  ];
}

/** A capital at the beginning, a full stop at the end. */
function sentence(text: string): string {
  const clean = foreign(text, 1000);
  const begun = clean.charAt(0).toUpperCase() + clean.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}

function columns(): Column<CanaryRow>[] {
  const at = (q: number): Column<CanaryRow>[] => {
    const pick = (r: CanaryRow) => r.percentiles.find((p) => p.q === q);
    return [
      { title: `p${q * 100} fleet`, number: true, cell: (r) => value(pick(r)?.fleet ?? null) },
      { title: `p${q * 100} canary`, number: true, cell: (r) => value(pick(r)?.canary ?? null) },
    ];
  };
  return [
    { title: "Operation · phase", cell: place },
    { title: "Verdict", cell: (r) => badge(kShort[r.verdict]) },
    { title: "Samples: fleet", number: true, cell: (r) => count(r.fleetSamples) },
    { title: "canary", number: true, cell: (r) => count(r.canarySamples) },
    ...at(0.5), ...at(0.9), ...at(0.99),
  ];
}

const value = (e: Estimate | null) => (e === null ? "–" : duration(e.value));

/** Both intervals of each percentile on one logarithmic scale. */
function intervals(rows: CanaryRow[]): HTMLElement {
  const all = rows.flatMap(compared).flatMap((p) => [p.canary, p.fleet]).filter((e) => e !== null);
  const low = Math.min(...all.map((e) => e.low ?? e.value));
  const high = Math.max(...all.map((e) => e.high ?? e.value));
  const from = Math.log10(Math.max(low, 1e-6)) - 0.1;
  const to = Math.max(Math.log10(Math.max(high, 1e-6)) + 0.1, from + 0.5);
  const x = (seconds: number) => ((Math.log10(Math.max(seconds, 1e-6)) - from) / (to - from)) * 100;
  const ticks = decades(from, to);
  return h("figure", { class: "chart intervals" },
    h("figcaption", {},
      h("div", { class: "head" }, h("h4", {}, "Percentiles with their sampling error")),
      h("ul", { class: "legend" },
        h("li", {}, h("span", { class: "entry" }, h("span", { class: "swatch block", style: "--line: var(--c-blue)" }), "fleet")),
        h("li", {}, h("span", { class: "entry" }, h("span", { class: "swatch block round", style: "--line: var(--c-orange)" }), "canary")))),
    h("div", { class: "lanes" },
      rows.map((row) => h("div", { class: "lane-group" },
        h("h5", {}, place(row)),
        compared(row).map((p) => lane(p, x, ticks)))),
      h("div", { class: "lane axis", "aria-hidden": "true" }, h("span", { class: "lane-name" }),
        h("span", { class: "track" }, ticks.map((t) => h("span", { class: "tick-label", style: `left: ${x(t)}%` }, duration(t)))))));
}

function lane(p: CanaryPercentile, x: (s: number) => number, ticks: number[]): HTMLElement {
  const text = (name: string, e: Estimate | null) =>
    e === null ? `${name}: too few samples` : `${name} ${duration(e.value)} (${duration(e.low)} to ${duration(e.high)})`;
  const whisker = (e: Estimate | null, kind: string): Child => {
    if (e === null) return null;
    const left = x(e.low ?? e.value);
    const right = x(e.high ?? e.value);
    return [
      h("span", { class: `whisker ${kind}`, style: `left: ${left}%; width: ${Math.max(0, right - left)}%` }),
      h("span", { class: `dot ${kind}`, style: `left: ${x(e.value)}%` }),
    ];
  };
  const label = `${percentile(p.q)}: ${text("fleet", p.fleet)}, ${text("canary", p.canary)}, ${kWords[p.verdict]}`;
  return h("div", { class: `lane ${p.verdict}`, role: "img", "aria-label": label, title: label },
    h("span", { class: "lane-name" }, `p${p.q * 100}`, p.verdict === "disagree" && h("span", { class: "badge bad" }, " ✕")),
    h("span", { class: "track" },
      ticks.map((t) => h("span", { class: "tick", style: `left: ${x(t)}%` })),
      whisker(p.fleet, "fleet"), whisker(p.canary, "canary")));
}

/** 1, 2 and 5 of each decade; only the decades themselves, or those and 3, where that would be too many. */
function decades(from: number, to: number): number[] {
  const steps = to - from < 1.2 ? [1, 2, 5] : to - from < 2.2 ? [1, 3] : [1];
  const ticks: number[] = [];
  for (let e = Math.floor(from); e <= Math.ceil(to); e += 1) {
    for (const step of steps) {
      const at = Number((step * 10 ** e).toPrecision(3));
      if (Math.log10(at) >= from && Math.log10(at) <= to) ticks.push(at);
    }
  }
  return ticks;
}
