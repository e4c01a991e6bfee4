/** What back ends meet beside plain success and failure: pages of queries and their staleness, ETags, throttling. */
import { chart, type Colour } from "./chart";
import { cumulative, wantsLog } from "./curve";
import { empty, h, pairs, table, type Child } from "./dom";
import { count, duration, foreign, percent, rate, significant } from "./format";
import type { EtagStream, PageData, Queries, Series, Staleness, ThrottlingClass, Throttling } from "./model";
import { hasSamples, latencyTable } from "./sections";

const kColours: Colour[] = ["blue", "orange", "purple", "green", "sky", "red"];
const ratio = (value: number | null) => (value === null ? "–" : significant(value));
const of = (part: number, whole: number) => (whole > 0 ? percent(part / whole) : "–");

function lines<Row extends { name: string }>(rows: Row[], pick: (row: Row) => Series) {
  return rows
    .filter((row) => pick(row).some((v) => v !== null && v > 0))
    .slice(0, kColours.length)
    .map((row, i) => ({ label: foreign(row.name, 60), values: pick(row), colour: kColours[i] ?? ("grey" as Colour), dashed: i % 2 === 1 }));
}

export function querySection(data: PageData, queries: Queries): Child {
  const pages = lines(queries.streams, (s) => s.pageRate);
  const rows = lines(queries.streams, (s) => s.rowRate);
  const charts: HTMLElement[] = [];
  if (pages.length > 0) charts.push(chart({ title: "Pages answered", kind: "time", x: data.time, format: rate, lines: pages }));
  if (rows.length > 0) charts.push(chart({ title: "Rows received", kind: "time", x: data.time, format: rate, lines: rows }));
  return [
    h("p", { class: "lead" }, queries.streams.length > 0 && "What queries brought.", queries.staleness !== null && " How long after its acknowledgement a write showed in queries."),
    queries.streams.length > 0 &&
      table("Pages and rows, recorded phases", [
        { title: "Back end", cell: (s) => foreign(s.name, 80) },
        { title: "Queries", number: true, cell: (s) => count(s.queries) },
        { title: "Pages", number: true, cell: (s) => count(s.pages) },
        { title: "Rows", number: true, cell: (s) => count(s.rows) },
        { title: "Pages per query", number: true, cell: (s) => ratio(s.pagesPerQuery) },
        { title: "Rows per query", number: true, cell: (s) => ratio(s.rowsPerQuery) },
        { title: "Most rows", number: true, cell: (s) => (s.pagesPerQuery === null ? "–" : count(s.rowsMax)) },
        { title: "p50", number: true, cell: (s) => duration(s.p50) },
        { title: "p99", number: true, cell: (s) => duration(s.p99) },
      ], queries.streams),
    charts.length > 0 && h("div", { class: "grid" }, charts),
    queries.staleness !== null && staleness(data, queries.staleness),
  ];
}

function staleness(data: PageData, s: Staleness): Child {
  const charts: HTMLElement[] = [];
  if (s.latency !== null && s.latency.count > 1) {
    const [x, share] = cumulative(s.latency);
    charts.push(chart({ title: "Share of writes visible within a time (CDF)", kind: "cdf", x, format: duration, log: wantsLog([x]), lines: [{ label: "visible", values: share, colour: "blue" }] }));
  }
  if (hasSamples(s.p50))
    charts.push(
      chart({
        title: "Query staleness over time", kind: "time", x: data.time, format: duration, log: wantsLog([s.p50, s.p99]),
        ...(s.limit !== null ? { limit: s.limit } : {}),
        lines: [
          { label: "p99", values: s.p99, colour: "red" },
          { label: "p50", values: s.p50, colour: "blue" },
        ],
      }),
    );
  return [
    h("h3", {}, "Query staleness"),
    h("p", { class: "note" },
      h("a", { href: "#def-staleness" }, "From acknowledged to visible."),
      ` ${count(s.started)} writes were followed: ${count(s.visible)} became visible, ${count(s.notVisible)} did not in time, ${count(s.unknown)} are unknown, ${count(s.open)} were open at the end.`,
      s.resolution !== null && ` Looked for every ${duration(s.resolution)}, so the figures are exact to that.`),
    s.latency === null ? empty("Not one of them became visible in the recorded phases.") : latencyTable("From acknowledged to visible, recorded phases", [{ name: "acknowledged → visible", latency: s.latency }]),
    charts.length > 0 && h("div", { class: "grid" }, charts),
  ];
}

export function etagSection(data: PageData, streams: EtagStream[]): Child {
  return [
    h("p", { class: "lead" }, "Writers that send an ETag change a twin only if nobody else did meanwhile: a ",
      h("a", { href: "#def-conflict" }, "conflict"), " is an answer 412, a ", h("a", { href: "#def-retry" }, "retry"), " the same change once more on the twin as it is now."),
    table("Conflicts and retries, recorded phases", [
      { title: "Back end", cell: (s) => foreign(s.name, 80) },
      { title: "Operation", cell: (s) => h("a", { href: `#op-${s.operation}` }, foreign(s.operation)) },
      { title: "Acknowledged", number: true, cell: (s) => count(s.acknowledged) },
      { title: "Conflicts", number: true, cell: (s) => count(s.conflicts) },
      { title: "Share", number: true, cell: (s) => percent(s.conflictShare) },
      { title: "Retries", number: true, cell: (s) => count(s.retries) },
      { title: "Retries per success", number: true, cell: (s) => ratio(s.retriesPerSuccess) },
      { title: "Given up", number: true, cell: (s) => count(s.givenUp) },
    ], streams),
    // Without the successes, which are so many more that nothing else would be seen; "Load" has them.
    h("div", { class: "grid" },
      streams.map((s) =>
        chart({
          title: `${foreign(s.name, 80)}: conflicts and retries`, kind: "time", x: data.time, format: rate,
          lines: [
            { label: "conflicts", values: s.conflictRate, colour: "red" },
            { label: "retries", values: s.retryRate, colour: "orange", dashed: true },
          ],
        }),
      )),
  ];
}

export function throttlingSection(data: PageData, t: Throttling): Child {
  const refused = lines(t.streams, (s) => s.refusedRate);
  return [
    h("p", { class: "lead" }, "Above the rate of its tier a hub first ", h("a", { href: "#def-shaped" }, "delays"),
      " operations and then ", h("a", { href: "#def-refused-429" }, "refuses"), " them with 429, each class of operations for itself. Over the whole run."),
    t.hub === null
      ? empty("The target tells nothing of its limits; what follows is what the run was answered.")
      : [
          pairs([
            ["Tier", `${foreign(t.hub.tier, 20)}, ${count(t.hub.units)} ${t.hub.units === 1 ? "unit" : "units"}`],
            ...(t.hub.quotaUsed !== null && t.hub.quotaLimit !== null
              ? [["Messages of the day", `${count(t.hub.quotaUsed)} of ${count(t.hub.quotaLimit)}`] as [string, Child]]
              : []),
          ]),
          t.hub.classes.length > 0 && table<ThrottlingClass>("By class of operations, as the hub counted", [
            { title: "Class", cell: (c) => foreign(c.name, 60) },
            { title: "Limit", number: true, cell: (c) => rate(c.limit) },
            { title: "Admitted", number: true, cell: (c) => count(c.admitted) },
            { title: "Of these delayed", number: true, cell: (c) => count(c.shaped) },
            { title: "Delay p50", number: true, cell: (c) => duration(c.delayP50) },
            { title: "p99", number: true, cell: (c) => duration(c.delayP99) },
            { title: "Max", number: true, cell: (c) => duration(c.delayMax) },
            { title: "Refused (429)", number: true, cell: (c) => count(c.refused) },
            { title: "Share refused", number: true, cell: (c) => of(c.refused, c.admitted + c.refused) },
          ], t.hub.classes),
          bars(t.hub.classes),
        ],
    table("By stream, as the run was answered", [
      { title: "Stream", cell: (s) => foreign(s.name, 80) },
      { title: "Operation", cell: (s) => h("a", { href: `#op-${s.operation}` }, foreign(s.operation)) },
      { title: "Sent", number: true, cell: (s) => count(s.sent) },
      { title: "Acknowledged", number: true, cell: (s) => count(s.acknowledged) },
      { title: "Answered 429", number: true, cell: (s) => count(s.refused) },
      { title: "Share", number: true, cell: (s) => of(s.refused, s.sent) },
      { title: "Service p50", number: true, cell: (s) => duration(s.serviceP50) },
      { title: "p99", number: true, cell: (s) => duration(s.serviceP99) },
    ], t.streams),
    h("p", { class: "note" }, "Service times are those of the recorded phases."),
    refused.length > 0 && chart({ title: "Answers 429 by stream", kind: "time", x: data.time, format: rate, lines: refused }),
  ];
}

/** What became of each class's operations: at once, delayed, refused. The table above has the numbers. */
function bars(classes: ThrottlingClass[]): Child {
  const touched = classes.filter((c) => c.shaped + c.refused > 0);
  if (touched.length === 0) return h("p", { class: "note" }, "No class came above its limit.");
  const parts: [string, Colour, (c: ThrottlingClass) => number][] = [
    ["at once", "blue", (c) => c.admitted - c.shaped],
    ["delayed", "orange", (c) => c.shaped],
    ["refused (429)", "red", (c) => c.refused],
  ];
  return h("figure", { class: "chart legs shares" },
    h("figcaption", {}, h("div", { class: "head" }, h("h4", {}, "What became of the operations of each class that came above its limit"))),
    touched.map((c) => [
      h("p", { class: "bar-name" }, foreign(c.name, 60)),
      h("div", { class: "bar", "aria-hidden": "true" }, parts.map(([, colour, pick]) => h("span", { style: `flex-grow: ${(pick(c) / (c.admitted + c.refused)) * 1000}; --line: var(--c-${colour})` }))),
    ]),
    h("ul", { class: "legend" }, parts.map(([name, colour]) => h("li", {}, h("span", { class: "entry" }, h("span", { class: "swatch block", style: `--line: var(--c-${colour})` }), name)))));
}
