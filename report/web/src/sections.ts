/** The sections of the report, each a pure function from the data to an element (or null when it does not apply). */
import { canarySection } from "./canary";
import { chart, type Colour } from "./chart";
import { cumulative, spectrum, wantsLog } from "./curve";
import { definitions } from "./definitions";
import { etagSection, querySection, throttlingSection } from "./service";
import { badge, empty, h, pairs, table, type Child, type Column } from "./dom";
import { bytes, clock, count, duration, foreign, percent, rate } from "./format";
import type { Convergence, Counts, Latency, LedgerRow, Operation, PageData, Series, Stream } from "./model";
import uPlot from "uplot";

export interface Section {
  id: string;
  title: string;
  body: Child;
}

const sum = (values: number[]) => values.reduce((a, b) => a + b, 0);
export const hasSamples = (values: Series) => values.some((v) => v !== null);

export function sections(data: PageData): Section[] {
  return [
    { id: "objectives", title: "Objectives and invariants", body: objectives(data) },
    { id: "setup", title: "Set-up and environment", body: setup(data) },
    { id: "load", title: "Load: asked and delivered", body: load(data) },
    { id: "operations", title: "Latency by operation", body: operations(data) },
    { id: "convergence", title: "Convergence: desired to reported", body: convergence(data) },
    ...(data.queries === null ? [] : [{ id: "queries", title: "Queries", body: querySection(data, data.queries) }]),
    ...(data.etags === null ? [] : [{ id: "etags", title: "ETags", body: etagSection(data, data.etags) }]),
    ...(data.throttling === null ? [] : [{ id: "throttling", title: "Throttling", body: throttlingSection(data, data.throttling) }]),
    { id: "devices", title: "Devices and connections", body: devices(data) },
    { id: "errors", title: "Errors", body: errors(data) },
    { id: "ledger", title: "Ledger", body: ledger(data) },
    { id: "generator", title: "Health of the generator", body: generator(data) },
    { id: "canary", title: "Canary", body: canarySection(data.canary) },
    { id: "definitions", title: "Definitions", body: definitionList() },
  ];
}

export function banner(data: PageData): HTMLElement {
  const { status, reading, reasons, exitCode } = data.verdict;
  const words = { passed: "Passed", failed: "Failed", invalid: "INVALID", aborted: "Aborted" };
  const shapes = { passed: "✓", failed: "✕", invalid: "!", aborted: "■" };
  return h(
    "section",
    { class: `banner ${status}`, "aria-labelledby": "verdict" },
    h("div", { class: "shape", "aria-hidden": "true" }, shapes[status]),
    h(
      "div",
      { class: "words" },
      h("h2", { id: "verdict" }, words[status], h("span", { class: "code" }, ` exit code ${exitCode}`)),
      h("p", { class: "reading" }, foreign(reading, 2000)),
      reasons.length > 0 && h("ul", { class: "reasons" }, reasons.map((r) => h("li", {}, foreign(r)))),
    ),
  );
}

export function tiles(data: PageData): HTMLElement {
  const c = data.convergence;
  const all = data.operations;
  const sent = sum(all.map((o) => o.sent));
  const broken = sum(all.map((o) => o.failed + o.timedOut));
  const asked = sum(all.map((o) => o.asked));
  const done = sum(all.map((o) => o.acknowledged));
  const list: [string, string, string][] = [
    ["Devices connected", count(data.devices.connected), `of ${count(data.devices.target)}`],
    ["Operations acknowledged", count(done), asked > 0 ? `${percent(done / asked)} of those asked` : "none asked"],
    ["Failed or timed out", count(broken), sent > 0 ? `${percent(broken / sent)} of those sent` : "none sent"],
  ];
  if (c !== null && c.started > 0) {
    const p50 = `p50 ${duration(c.total?.p50)}`;
    if (typeof c.total?.p99 === "number") list.push(["Convergence p99", duration(c.total.p99), p50]);
    else list.push(["Slowest convergence", duration(c.total?.max), `${p50}; too few samples for a p99`]);
    list.push(["Changes lost", count(c.lost + c.unconverged), `of ${count(c.started)}, unconverged included`]);
  }
  list.push(["Schedule lag p99", duration(data.generator.lag?.p99), "lateness of the generator itself"]);
  return h(
    "ul",
    { class: "tiles", "aria-label": "Key figures" },
    list.map(([name, value, below]) =>
      h("li", {}, h("span", { class: "name" }, name), h("span", { class: "figure" }, value), h("span", { class: "below" }, below)),
    ),
  );
}

function objectives(data: PageData): Child {
  return [
    data.slos.length === 0
      ? empty("The scenario states no service-level objectives.")
      : table(
          "Service-level objectives",
          [
            { title: "Objective", cell: (s) => h("code", {}, foreign(s.text)) },
            { title: "Verdict", cell: (s) => badge(s.status) },
            { title: "Target", number: true, cell: (s) => s.target },
            { title: "Actual", number: true, cell: (s) => s.actual },
            { title: "Samples", number: true, cell: (s) => count(s.samples) },
            { title: "Judged over", cell: (s) => foreign(s.during) },
            { title: "Remark", cell: (s) => foreign(s.detail) },
          ],
          data.slos,
        ),
    data.invariants.length === 0
      ? empty("The scenario asks for no invariants.")
      : table(
          "Invariants: must hold for every single device",
          [
            { title: "Invariant", cell: (i) => h("code", {}, foreign(i.name)) },
            { title: "Verdict", cell: (i) => badge(i.status) },
            { title: "What was found", cell: (i) => foreign(i.detail) },
            {
              title: "Examples",
              cell: (i) =>
                i.examples.length === 0 ? "–" : h("ul", { class: "plain" }, i.examples.map((e) => h("li", {}, foreign(e, 200)))),
            },
          ],
          data.invariants,
        ),
    h("p", { class: "note" }, "Judged at the end of the run over the recorded phases, from exact final counts and merged histograms. Undecided means too few samples, and is not a pass."),
  ];
}

function setup(data: PageData): Child {
  const texts = (entries: [string, string][]) => entries.map(([k, v]): [string, Child] => [k, foreign(v)]);
  return [
    h(
      "div",
      { class: "two" },
      h("div", {}, h("h3", {}, "Test set-up"), pairs(texts(data.setup))),
      h("div", {}, h("h3", {}, "Environment"), pairs(texts(data.environment))),
    ),
    h("h3", {}, "Run it again"),
    data.commands.map((c) => h("div", { class: "command" }, h("p", { class: "note" }, c.label), commandLine(c.text))),
    h("h3", {}, "Phases"),
    table(
      "Phases of the run",
      [
        { title: "Phase", cell: (p) => foreign(p.name) },
        { title: "From", number: true, cell: (p) => clock(p.start) },
        { title: "To", number: true, cell: (p) => clock(p.end) },
        { title: "Lasted", number: true, cell: (p) => duration(p.end - p.start) },
        { title: "In the totals", cell: (p) => (p.recorded ? "yes" : "no (not recorded)") },
        { title: "Remark", cell: (p) => foreign(p.note) },
      ],
      data.phases,
    ),
    data.events.length > 0 &&
      h("details", {}, h("summary", {}, `Events of the run (${count(data.eventsTotal)})`),
        table(data.eventsTotal > data.events.length ? `The first ${count(data.events.length)} events` : "Events", [
          { title: "At", number: true, cell: (e) => clock(e.at) },
          { title: "Kind", cell: (e) => foreign(e.kind, 40) },
          { title: "What", cell: (e) => foreign(e.text) },
        ], data.events)),
    data.scenarioText !== "" &&
      h("details", {}, h("summary", {}, "Scenario as it was resolved (YAML)"), h("pre", { tabindex: 0 }, data.scenarioText)),
  ];
}

function commandLine(text: string): HTMLElement {
  const button = h("button", { type: "button", class: "small" }, "Copy");
  button.addEventListener("click", () => {
    const done = () => (button.textContent = "Copied");
    void navigator.clipboard?.writeText(text).then(done, () => undefined);
  });
  return h("div", { class: "line" }, h("pre", { tabindex: 0 }, h("code", {}, foreign(text, 2000))), button);
}

function countColumns<Row extends Counts>(): Column<Row>[] {
  return [
    { title: "Asked", number: true, cell: (o) => count(o.asked) },
    { title: "Sent", number: true, cell: (o) => count(o.sent) },
    { title: "Acknowledged", number: true, cell: (o) => count(o.acknowledged) },
    { title: "Failed", number: true, cell: (o) => count(o.failed) },
    { title: "Timed out", number: true, cell: (o) => count(o.timedOut) },
    { title: "Dropped", number: true, cell: (o) => count(o.dropped) },
    { title: "In flight", number: true, cell: (o) => count(o.inFlight) },
  ];
}

function thinned(data: PageData): Child {
  return (
    data.pointSeconds > 1 &&
    h(
      "p",
      { class: "note" },
      `One point stands for ${data.pointSeconds} s: rates are means, latencies, lag, CPU and backlog the worst second, devices online the lowest.`,
    )
  );
}

function load(data: PageData): Child {
  const active = data.streams.filter((s) => s.asked > 0 || s.sent > 0);
  const idle = data.streams.filter((s) => s.asked === 0 && s.sent === 0);
  if (active.length === 0) return empty("No operation was asked for.");
  return [
    h("p", { class: "lead" }, "A stream is one thing that arrives: a back end by its name, or an operation of a fleet. If delivered stays below asked, the sentence below the title says who was slow."),
    thinned(data),
    h(
      "div",
      { class: "grid" },
      active.map((s) =>
        chart({
          title: foreign(s.name, 80),
          note: foreign(s.note, 600),
          kind: "time",
          x: data.time,
          format: rate,
          lines: [
            { label: "asked", values: s.askedRate, colour: "grey", dashed: true },
            { label: "acknowledged", values: s.acknowledgedRate, colour: "blue", filled: true },
            { label: "failed, timed out, dropped", values: s.lostRate, colour: "red" },
          ],
        }),
      ),
    ),
    idle.length > 0 && h("p", { class: "note" }, `Nothing was asked of: ${idle.map((s) => foreign(s.name, 80)).join(", ")}.`),
  ];
}

export function latencyTable(caption: string, rows: { name: string; latency: Latency | null }[]): HTMLElement {
  type Row = (typeof rows)[number];
  const at = (title: string, pick: (l: Latency) => number | null): Column<Row> => ({
    title,
    number: true,
    cell: (r) => (r.latency === null ? "–" : duration(pick(r.latency))),
  });
  return table<Row>(
    caption,
    [
      { title: "", cell: (r) => r.name },
      { title: "Samples", number: true, cell: (r) => count(r.latency?.count ?? 0) },
      at("Mean", (l) => l.mean),
      at("p50", (l) => l.p50),
      at("p90", (l) => l.p90),
      at("p95", (l) => l.p95),
      at("p99", (l) => l.p99),
      at("p99.9", (l) => l.p999),
      at("Max", (l) => l.max),
    ],
    rows,
  );
}

function operations(data: PageData): Child {
  if (data.operations.length === 0) return empty("No operation took place.");
  return [
    h("p", { class: "lead" },
      h("a", { href: "#def-intended" }, "Intended"), " latency starts when an operation was due, ",
      h("a", { href: "#def-service" }, "service"), " latency when it was sent. Failures and time-outs are counted, not timed. Of recorded phases in tables and spectra; of the whole run over time."),
    table(
      "All operations",
      [
        {
          title: "Operation",
          cell: (o) => [
            h("a", { href: `#op-${o.name}` }, foreign(o.name)),
            o.asked === 0 && o.phases.length > 0 && h("span", { class: "note" }, " outside the recorded phases"),
          ],
        },
        ...countColumns<Operation>(),
        { title: "Rate", number: true, cell: (o) => rate(o.ratePerSecond) },
        { title: "p50", number: true, cell: (o) => duration(o.intended?.p50) },
        { title: "p99", number: true, cell: (o) => duration(o.intended?.p99) },
      ],
      data.operations,
    ),
    thinned(data),
    data.operations.map((o) => operation(data, o)),
  ];
}

function operation(data: PageData, o: Operation): HTMLElement {
  const streams = data.streams.filter((s) => o.streams.includes(s.name));
  const body: Child[] = [];
  if (o.intended === null || o.service === null || o.intended.count === 0) {
    const elsewhere = o.phases.length > 0 && o.phases.every((p) => !p.recorded);
    body.push(
      empty(
        elsewhere
          ? `All of its operations fell into phases that are not recorded (${o.phases.map((p) => foreign(p.name, 40)).join(", ")}), so they are in no total.`
          : o.phases.length === 0
            ? "Nothing was asked of this operation."
            : "No acknowledged operation in the recorded phases, so there is no latency to show.",
      ),
    );
  } else {
    body.push(
      latencyTable(`${o.name}: latency of acknowledged operations`, [
        { name: "intended", latency: o.intended },
        { name: "service", latency: o.service },
      ]),
    );
  }
  if (o.phases.length > 1 || o.phases.some((p) => !p.recorded)) body.push(byPhase(o));
  const charts: HTMLElement[] = streams
    .filter((s) => hasSamples(s.intendedP50))
    .map((s) => overTime(data, s, streams.length > 1));
  if (o.intended !== null && o.service !== null && o.intended.count > 1) charts.push(spectrumChart(o.name, o.intended, o.service));
  if (charts.length > 0) body.push(h("div", { class: "grid" }, charts));
  return h("section", { class: "operation", id: `op-${o.name}`, "aria-label": o.name }, h("h3", {}, foreign(o.name)), body);
}

function byPhase(o: Operation): HTMLElement {
  return table(`${o.name}: by phase (intended latency)`, [
    { title: "Phase", cell: (p) => [foreign(p.name, 80), !p.recorded && h("span", { class: "note" }, " not recorded")] },
    { title: "Asked", number: true, cell: (p) => count(p.asked) },
    { title: "Acknowledged", number: true, cell: (p) => count(p.acknowledged) },
    { title: "Failed or timed out", number: true, cell: (p) => count(p.failed + p.timedOut) },
    { title: "Rate", number: true, cell: (p) => rate(p.ratePerSecond) },
    { title: "p50", number: true, cell: (p) => duration(p.p50) },
    { title: "p99", number: true, cell: (p) => duration(p.p99) },
    { title: "Max", number: true, cell: (p) => duration(p.max) },
  ], o.phases);
}

function overTime(data: PageData, s: Stream, named: boolean): HTMLElement {
  return chart({
    title: named ? `Latency over time: ${foreign(s.name, 80)}` : `Latency over time (${foreign(s.operation, 80)})`,
    kind: "time",
    x: data.time,
    format: duration,
    log: wantsLog([s.intendedP50, s.intendedP99, s.serviceP50]),
    ...(s.limit !== null ? { limit: s.limit } : {}),
    lines: [
      { label: "p99 intended", values: s.intendedP99, colour: "red" },
      { label: "p99 service", values: s.serviceP99, colour: "orange", dashed: true },
      { label: "p50 intended", values: s.intendedP50, colour: "blue" },
      { label: "p50 service", values: s.serviceP50, colour: "sky", dashed: true },
    ],
  });
}

function spectrumChart(name: string, intended: Latency, service: Latency): HTMLElement {
  const [x, a, b] = uPlot.join([spectrum(intended), spectrum(service)]) as [number[], Series, Series];
  return chart({
    title: `Percentile spectrum (${foreign(name, 80)})`,
    kind: "spectrum",
    x,
    format: duration,
    samples: intended.count,
    log: wantsLog([a, b]),
    lines: [
      { label: "intended", values: a, colour: "blue" },
      { label: "service", values: b, colour: "orange", dashed: true },
    ],
  });
}

function convergence(data: PageData): Child {
  const c = data.convergence;
  if (c === null || c.started === 0) return empty("No desired property was changed in this run, so nothing had to converge.");
  const body: Child[] = [
    h("p", { class: "lead" }, "How long it takes until a change of desired properties is reported back by the device and acknowledged by the hub."),
    outcomes(c),
  ];
  if (c.total === null || c.total.count === 0) {
    body.push(empty("Not one change was applied in the recorded phases, so there is no convergence time to show."));
    return body;
  }
  const { total } = c;
  body.push(
    latencyTable("Convergence time", [
      { name: "total", latency: total },
      { name: "system (without apply)", latency: c.system },
      { name: "leg: patch", latency: c.patch },
      { name: "leg: delivery", latency: c.delivery },
      { name: "leg: apply (simulated)", latency: c.apply },
      { name: "leg: acknowledge", latency: c.acknowledge },
    ]),
    legs(c),
  );
  const [x, a, b] = uPlot.join([cumulative(total), ...(c.system !== null ? [cumulative(c.system)] : [])] as [number[], number[]][]) as [number[], Series, Series?];
  const charts: HTMLElement[] = [];
  if (total.count > 1)
    charts.push(
      chart({
        title: "Share converged within a time (CDF)",
        kind: "cdf",
        x,
        format: duration,
        log: wantsLog([x]),
        lines: [
          { label: "total", values: a, colour: "blue" },
          ...(b !== undefined ? [{ label: "system (without apply)", values: b, colour: "orange" as const, dashed: true }] : []),
        ],
      }),
    );
  charts.push(
    chart({ title: "Backlog: changes under way", kind: "time", x: data.time, format: count, lines: [{ label: "backlog", values: c.backlog, colour: "purple", filled: true }] }),
  );
  if (hasSamples(c.p50))
    charts.push(
      chart({
        title: "Convergence over time", kind: "time", x: data.time, format: duration, log: wantsLog([c.p50, c.p99]),
        ...(c.limit !== null ? { limit: c.limit } : {}),
        lines: [
          { label: "p99", values: c.p99, colour: "red" },
          { label: "p50", values: c.p50, colour: "blue" },
        ],
      }),
    );
  body.push(h("div", { class: "grid" }, charts));
  return body;
}

function outcomes(c: Convergence): HTMLElement {
  const rows: [string, number, string][] = [
    ["applied", c.applied, "applied"],
    ["superseded", c.superseded, "superseded"],
    ["lost", c.lost, "lost"],
    ["unconverged", c.unconverged, "unconverged"],
    ["failed (patch not accepted)", c.failed, "failed"],
    ["still open", c.open, "backlog"],
  ];
  // Only scenarios that ask for failures have them.
  if (c.applyFailed > 0) rows.splice(-1, 0, ["simulated work failed", c.applyFailed, "apply-failed"]);
  const ended = sum(rows.map((r) => r[1]));
  return h(
    "div",
    { class: "narrow" },
    table(
      "What became of every change",
      [
        { title: "Outcome", cell: ([name, , id]) => h("a", { href: `#def-${id}` }, name) },
        { title: "Changes", number: true, cell: (r) => count(r[1]) },
        { title: "Share", number: true, cell: (r) => (c.started > 0 ? percent(r[1] / c.started) : "–") },
      ],
      rows,
    ),
    h("p", { class: "note" }, badge(ended === c.started ? "balanced" : "differs"),
      ` ${count(c.started)} started, ${count(ended)} accounted for, at most ${count(c.backlogMax)} under way at once. Notifications beside that: ${count(c.duplicate)} duplicate, ${count(c.reordered)} reordered.`),
  );
}

/** Means add up, percentiles don't: the bar shows means. */
function legs(c: Convergence): HTMLElement {
  const parts: { name: string; mean: number; colour: string }[] = [];
  // `total` also has the superseded changes; those that went the whole way are in `system` and `apply`.
  const start = (c.system?.mean ?? 0) - (c.delivery?.mean ?? 0) - (c.acknowledge?.mean ?? 0);
  parts.push({ name: "start", mean: Math.max(0, start), colour: "grey" });
  parts.push({ name: "delivery", mean: c.delivery?.mean ?? 0, colour: "blue" });
  parts.push({ name: "apply (simulated)", mean: c.apply?.mean ?? 0, colour: "orange" });
  parts.push({ name: "acknowledge", mean: c.acknowledge?.mean ?? 0, colour: "green" });
  const whole = Math.max(1e-12, sum(parts.map((p) => p.mean)));
  return h(
    "figure",
    { class: "chart legs" },
    h("figcaption", {}, h("div", { class: "head" }, h("h4", {}, `Where the time goes: mean of ${duration(whole)}`)),
      h("p", { class: "note" }, "Means add up, percentiles do not. ", h("a", { href: "#def-legs" }, "What the legs are."))),
    h("div", { class: "bar", "aria-hidden": "true" },
      parts.map((p) => h("span", { style: `flex-grow: ${(p.mean / whole) * 1000}; --line: var(--c-${p.colour})` }))),
    h("ul", { class: "legend" },
      parts.map((p) => h("li", {}, h("span", { class: "entry" }, h("span", { class: "swatch block", style: `--line: var(--c-${p.colour})` }), p.name,
        h("span", { class: "value" }, `${duration(p.mean)} (${percent(p.mean / whole)})`))))),
  );
}

function devices(data: PageData): Child {
  const d = data.devices;
  if (d.target === 0) return empty("The scenario has no devices.");
  return [
    pairs([
      ["Devices in the scenario", count(d.target)],
      ["Connected at the end", count(d.connected)],
      ["Most connected at once", count(d.connectedMax)],
      ["Reconnects", count(d.reconnects)],
    ]),
    chart({
      title: "Devices by state", kind: "time", x: data.time, format: count,
      lines: [
        { label: "online", values: d.online, colour: "blue", filled: true },
        { label: "connecting", values: d.connecting, colour: "orange" },
        { label: "waiting to reconnect", values: d.waiting, colour: "purple", dashed: true },
        { label: "offline", values: d.offline, colour: "grey", dashed: true },
      ],
    }),
    d.reconnects > 0 &&
      chart({ title: "Reconnects", kind: "time", x: data.time, format: rate, lines: [{ label: "reconnects", values: d.reconnectRate, colour: "purple", filled: true }] }),
    d.reasons.length > 0
      ? table("Disconnections that led to a reconnect, by reason", [
          { title: "Reason", cell: ([name]) => name },
          { title: "Reconnects", number: true, cell: (r) => count(r[1]) },
        ], d.reasons)
      : empty("No device had to reconnect."),
  ];
}

function errors(data: PageData): Child {
  if (data.errors.length === 0) return empty("Not one operation failed, timed out or was dropped.");
  return [
    data.errorRates.length > 0 &&
      chart({
        title: "Operations that did not succeed, by class", kind: "time", x: data.time, format: rate,
        lines: data.errorRates.slice(0, kErrorColours.length).map(([name, values], i) => ({
          label: name, values, colour: kErrorColours[i] ?? "grey", dashed: i % 2 === 1,
        })),
      }),
    errorTable(data),
  ];
}

const kErrorColours: Colour[] = ["red", "orange", "purple", "blue", "green", "sky", "grey"];

function errorTable(data: PageData): HTMLElement {
  return table(
    "Errors by class, whole run",
    [
      { title: "Operation", cell: (e) => foreign(e.operation) },
      { title: "Stream", cell: (e) => foreign(e.stream) },
      { title: "Class", cell: (e) => h("code", {}, foreign(e.errorClass)) },
      { title: "Count", number: true, cell: (e) => count(e.count) },
      { title: "First", number: true, cell: (e) => (e.first === null ? "–" : clock(e.first)) },
      { title: "Last", number: true, cell: (e) => (e.last === null ? "–" : clock(e.last)) },
    ],
    data.errors,
  );
}

function ledger(data: PageData): Child {
  return [
    h("p", { class: "lead" }, badge(data.ledgerHolds ? "balanced" : "differs"),
      data.ledgerHolds
        ? " Every operation is accounted for: sent = acknowledged + failed + timed out + in flight, and asked = sent + dropped + not started. Over the whole run, unrecorded phases included."
        : " The generator's books do not add up, so none of its figures can be trusted. This is a defect of twinstorm."),
    table("The generator's own books", [
      { title: "Operation", cell: (r) => foreign(r.name) },
      ...countColumns<LedgerRow>(),
      { title: "Not started", number: true, cell: (r) => count(r.notStarted) },
      { title: "Balance", cell: (r) => badge(r.balanced ? "balanced" : "differs") },
    ], data.ledger),
    data.hub.compared
      ? table("Compared with the hub's own counts", [
          { title: "Count", cell: (r) => foreign(r.name) },
          { title: "Run", number: true, cell: (r) => count(r.run) },
          { title: "Hub", number: true, cell: (r) => count(r.hub) },
          { title: "Comparison", cell: (r) => badge(r.run === r.hub ? "equal" : "differs") },
        ], data.hub.rows)
      : null,
    h("p", { class: "note" }, foreign(data.hub.note)),
  ];
}

function generator(data: PageData): Child {
  const g = data.generator;
  const charts: HTMLElement[] = [];
  const time = (title: string, note: string, format: (v: number) => string, lines: Parameters<typeof chart>[0]["lines"], more: object = {}) => {
    if (lines.some((l) => hasSamples(l.values))) charts.push(chart({ title, note, kind: "time", x: data.time, format, lines, ...more }));
  };
  time("Schedule lag", "How late operations were started. A large lag makes the run INVALID.", duration,
    [{ label: "p99", values: g.lagP99, colour: "purple" }],
    g.limit !== null ? { limit: g.limit } : {});
  time("CPU and event loops", "CPU in cores times 100 %; busy share of the busiest loop.", (v) => percent(v),
    [
      { label: "CPU", values: g.cpu, colour: "blue" },
      { label: "busy share", values: g.busy, colour: "orange", dashed: true },
    ], { top: 1 });
  time("Resident memory", "Of the generator's process, the hub not included.", bytes, [{ label: "resident", values: g.resident, colour: "green", filled: true }], { binary: true });
  return [
    pairs(g.figures.map(([k, v]): [string, Child] => [k, v])),
    charts.length > 0 ? h("div", { class: "grid" }, charts) : empty("No health figures were recorded."),
  ];
}

function definitionList(): HTMLElement {
  return h("dl", { class: "definitions" },
    definitions.map((d) => h("div", { id: `def-${d.id}` }, h("dt", {}, d.term), h("dd", {}, d.text))));
}

