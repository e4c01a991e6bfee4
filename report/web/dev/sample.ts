/** A run that never was, for working on the page: everything that can be drawn occurs in it. Deterministic. */
import type {
  Canary, CanaryRow, Counts, EtagStream, Latency, OperationPhase, PageData, Queries, Series, Stream, Throttling,
} from "../src/model";

let state = 20260301;
function random(): number {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state / 2 ** 32;
}

const kSeconds = 75;
const time = Array.from({ length: kSeconds }, (_, i) => i + 1);

function latency(count: number, median: number, spread: number): Latency {
  const at = (q: number) => median * Math.exp(spread * Math.log(1 / Math.max(1e-9, 1 - q)) * 0.45 - spread * 0.31);
  const quantile = Array.from({ length: 50 }, (_, i) => i / 50);
  for (let step = 1; 10 ** (step / 20) * 50 < count; step += 1) quantile.push(1 - 1 / (50 * 10 ** (step / 20)));
  const max = at(1 - 0.5 / count);
  const ifEnough = (q: number) => (count * (1 - q) >= 10 ? at(q) : null);
  return {
    count, mean: at(0.6), p50: ifEnough(0.5), p90: ifEnough(0.9), p95: ifEnough(0.95), p99: ifEnough(0.99), p999: ifEnough(0.999), max,
    quantile: [...quantile, 1],
    value: [...quantile.map(at), max],
  };
}

function line(fn: (t: number) => number | null): Series {
  return time.map((t) => {
    const v = fn(t);
    return v === null ? null : Number(v.toPrecision(4));
  });
}
const noise = (size: number) => 1 + (random() - 0.5) * size;
const inPhase = (t: number, from: number, to: number, fn: () => number) => (t > from && t <= to ? fn() : null);

function stream(name: string, operation: string, from: number, to: number, rate: number, base: number, counts: Partial<Counts>, note: string, delivered = true): Stream {
  const total = Math.round(rate * (to - from));
  const slow = (t: number) => (t > 52 && t < 56 ? 6 : 1);
  return {
    name, operation, note, delivered, limit: null,
    asked: total, sent: total, acknowledged: total, failed: 0, timedOut: 0, dropped: 0, inFlight: 0, ratePerSecond: rate, ...counts,
    askedRate: line((t) => inPhase(t, from, to, () => rate) ?? 0),
    acknowledgedRate: line((t) => inPhase(t, from, to, () => rate * noise(0.04) * (delivered || slow(t) === 1 ? 1 : 0.7)) ?? 0),
    lostRate: line((t) => (delivered ? 0 : (inPhase(t, from, to, () => (slow(t) === 1 ? 0 : rate * 0.28)) ?? 0))),
    intendedP50: line((t) => inPhase(t, from, to, () => base * noise(0.2) * slow(t))),
    intendedP99: line((t) => inPhase(t, from, to, () => base * 4 * noise(0.5) * slow(t) * slow(t))),
    serviceP50: line((t) => inPhase(t, from, to, () => base * 0.9 * noise(0.2))),
    serviceP99: line((t) => inPhase(t, from, to, () => base * 3 * noise(0.5) * slow(t))),
  };
}

function phases(s: Stream, names: [string, boolean][]): OperationPhase[] {
  return names.map(([name, recorded]) => ({
    name, recorded, ...counts(s), asked: s.asked / names.length, acknowledged: s.acknowledged / names.length, p50: 0.002, p99: 0.008, max: 0.04,
  }));
}

function counts(s: Stream): Counts {
  const { asked, sent, acknowledged, failed, timedOut, dropped, inFlight, ratePerSecond } = s;
  return { asked, sent, acknowledged, failed, timedOut, dropped, inFlight, ratePerSecond };
}

export function sample(status: PageData["verdict"]["status"] = "failed"): PageData {
  state = 20260301;
  const streams = [
    stream("thermostats.connect", "connect", 0, 10, 500, 0.004, {}, "Delivered as asked: 5,000 of 5,000 acknowledged."),
    stream("thermostats.report", "report", 10, 70, 1000, 0.0012, {}, "Delivered as asked: 60,000 of 60,000 acknowledged."),
    stream("rollout", "patchDesired", 10, 70, 1000, 0.0021,
      { acknowledged: 59_104, failed: 412, timedOut: 84, dropped: 400, sent: 59_600 },
      "98.5 % of what was asked was delivered. The hub was slow: 84 timed out, 412 failed and the generator's backlog filled up, which dropped 400.", false),
    stream("dashboard", "query", 10, 70, 2, 0.031, {}, "Delivered as asked: 120 of 120 acknowledged."),
    stream("thermostats.telemetry", "telemetry", 0, 0, 0, 0.001, {}, ""),
  ];
  const [connect, report, rollout, query, telemetry] = streams as [Stream, Stream, Stream, Stream, Stream];
  const words = {
    passed: "All 4 objectives and all 3 invariants held. 59,104 changes reached 5,000 devices; half of them converged within 12.4 ms and 99 % within 61.3 ms. The generator kept its schedule (lag p99 0.41 ms), so the figures can be trusted.",
    failed: "1 of 4 objectives failed; all 3 invariants held. 59,104 changes reached 5,000 devices; half of them converged within 12.4 ms and 99 % within 61.3 ms. The generator kept its schedule (lag p99 0.41 ms), so the figures can be trusted.",
    invalid: "The figures of this run can't be trusted and say nothing about the hub: the generator itself could not keep up.",
    aborted: "The run was interrupted after 1 min 15 s. What was measured until then is shown.",
  };
  return {
    schema: "twinstorm/page/1",
    verdict: {
      status, exitCode: { passed: 0, failed: 11, invalid: 13, aborted: 130 }[status], reading: words[status],
      reasons: status === "passed" ? [] : ["patchDesired errors < 0.1%: 0.832 % of 59,600 sent failed or timed out"],
    },
    run: {
      id: "rollout-20260301T080000Z", scenario: "rollout", description: "A firmware setting is rolled out to 5,000 thermostats while a dashboard queries them.",
      seed: "42", startedAt: "2026-03-01T08:00:00.123Z", durationSeconds: 75, version: "0.1.0",
    },
    commands: [{ label: "The same run once more", text: "twinstorm run scenarios/rollout.yaml --seed 42" }],
    setup: [["Target", "embedded hub (own process)"], ["Devices", "5,000 over MQTT"], ["Arrivals", "open model: due times do not wait for answers"]],
    environment: [["CPU", "AMD EPYC, 2 cores"], ["Kernel", "Linux 6.1"], ["Build", "g++ 12.2, RelWithDebInfo"]],
    scenarioText: "schema: twinstorm/scenario/1\nname: rollout\n",
    phases: [
      { name: "connect", start: 0, end: 10, recorded: false, note: "" },
      { name: "rollout", start: 10, end: 40, recorded: true, note: "" },
      { name: "storm", start: 40, end: 70, recorded: true, note: "" },
      { name: "drain", start: 70, end: 75, recorded: false, note: "ended early: everything converged" },
    ],
    events: [{ at: 52, kind: "storm", text: "disconnect 20 %" }], eventsTotal: 1,
    marks: [{ at: 52, text: "disconnect 20 %" }],
    slos: [
      { text: "convergence p99 < 250ms", during: "all recorded phases", target: "< 250 ms", actual: "61.3 ms", samples: 59_104, status: "passed", detail: "" },
      { text: "patchDesired errors < 0.1%", during: "all recorded phases", target: "< 0.1 %", actual: "0.832 %", samples: 59_600, status: "failed", detail: "0.832 % is above 0.1 %" },
      { text: "query p95 < 100ms during storm", during: "storm", target: "< 100 ms", actual: "–", samples: 60, status: "undecided", detail: "needs 200 samples, has 60" },
      { text: "rollout rate >= 950/s", during: "all recorded phases", target: "≥ 950/s", actual: "985/s", samples: 59_104, status: "passed", detail: "" },
    ],
    invariants: [
      { name: "noLostUpdates", status: "held", detail: "0 of 59,104 changes lost.", examples: [] },
      { name: "versionsMonotonic", status: "held", detail: "0 of 59,104 notifications out of order.", examples: [] },
      { name: "finalStateMatches", status: "violated", detail: "2 of 5,000 twins differ.", examples: ["therm-00042: desired version 7, device holds 6", "<script>alert(1)</script>\u202Eevil"] },
    ],
    time, pointSeconds: 1, streams,
    operations: [
      { name: "connect", streams: [connect.name], phases: phases(connect, [["connect", false]]), ...counts(connect), intended: null, service: null },
      { name: "report", streams: [report.name], phases: phases(report, [["rollout", true], ["storm", true]]), ...counts(report), intended: latency(60_000, 0.0012, 1), service: latency(60_000, 0.0011, 0.9) },
      { name: "patchDesired", streams: [rollout.name], phases: phases(rollout, [["rollout", true], ["storm", true]]), ...counts(rollout), intended: latency(59_104, 0.0021, 1.6), service: latency(59_104, 0.0019, 1.1) },
      { name: "query", streams: [query.name], phases: phases(query, [["rollout", true], ["storm", true]]), ...counts(query), intended: latency(120, 0.031, 0.7), service: latency(120, 0.03, 0.6) },
      { name: "telemetry", streams: [telemetry.name], phases: [], ...counts(telemetry), intended: null, service: null },
    ],
    convergence: {
      started: 59_600, applied: 58_900, superseded: 204, lost: 0, unconverged: 0, failed: 496, applyFailed: 0, open: 0, duplicate: 3, reordered: 0, backlogMax: 212, limit: { value: 0.25, label: "objective: p99 < 250 ms" },
      total: latency(59_104, 0.0124, 1), system: latency(58_900, 0.0061, 1.2), patch: latency(59_104, 0.0021, 1.6), delivery: latency(58_900, 0.0024, 1.2),
      apply: latency(58_900, 0.0055, 0.6), acknowledge: latency(58_900, 0.0012, 1),
      backlog: line((t) => (t > 10 && t < 72 ? 14 * noise(0.6) + (t > 52 && t < 58 ? 190 : 0) : 0)),
      p50: line((t) => inPhase(t, 10, 70, () => 0.0124 * noise(0.1))),
      p99: line((t) => inPhase(t, 10, 70, () => 0.05 * noise(0.3) * (t > 52 && t < 57 ? 5 : 1))),
    },
    queries: queries(),
    etags: etags(),
    throttling: throttling(),
    devices: {
      target: 5000, connected: 5000, connectedMax: 5000, reconnects: 1000, reconnectRate: line((t) => (t >= 52 && t < 56 ? 250 : 0)), reasons: [["scripted", 1000]],
      online: line((t) => (t < 10 ? 500 * t : t >= 52 && t < 56 ? 4000 + (t - 52) * 250 : 5000)),
      connecting: line((t) => (t < 10 ? 12 : t >= 52 && t < 56 ? 120 : 0)),
      waiting: line((t) => (t >= 52 && t < 56 ? 880 - (t - 52) * 250 : 0)),
      offline: line((t) => (t < 10 ? 5000 - 500 * t : 0)),
    },
    errors: [
      { operation: "patchDesired", stream: "rollout", errorClass: "throttled", count: 412, first: 52, last: 55 },
      { operation: "patchDesired", stream: "rollout", errorClass: "backlogFull", count: 400, first: 53, last: 55 },
      { operation: "patchDesired", stream: "rollout", errorClass: "timeout", count: 84, first: 62, last: 63 },
    ],
    errorRates: [
      ["throttled", line((t) => (t > 51 && t < 56 ? 103 : 0))],
      ["backlogFull", line((t) => (t > 52 && t < 56 ? 133 : 0))],
      ["timeout", line((t) => (t === 62 || t === 63 ? 42 : 0))],
    ],
    ledgerHolds: true,
    ledger: [connect, report, rollout, query].map((s) => ({ name: s.operation, ...counts(s), notStarted: 0, balanced: true })),
    hub: { compared: true, matches: false, note: "Counted by the embedded hub itself.", rows: [{ name: "twinPatches", run: 59_104, hub: 59_104 }, { name: "connects", run: 6000, hub: 5999 }] },
    generator: {
      figures: [["CPU", "41.2 s (0.549 cores)"], ["Resident memory at the end", "212 MiB"], ["Heap per device", "612 B"], ["Schedule lag p99", "0.41 ms"]],
      cpu: line(() => 0.55 * noise(0.2)), busy: line(() => 0.31 * noise(0.3)), resident: line((t) => 2.2e8 * (1 - Math.exp(-t / 4))),
      lagP99: line((t) => 0.0004 * noise(0.9) * (t === 53 ? 8 : 1)), lag: latency(125_000, 0.0001, 1), limit: null,
    },
    canary: canary(status === "failed"),
  };
}

function canary(disagrees: boolean): Canary {
  const estimate = (value: number, error: number) => ({ value, low: value * (1 - error), high: value * (1 + error) });
  const row = (phase: string, operation: string, fleetSamples: number, base: number, off = 1): CanaryRow => ({
    phase, operation, canarySamples: 151, fleetSamples, verdict: off > 2 ? "disagree" : "agree",
    percentiles: [
      { q: 0.5, fleet: estimate(base, 0.02), canary: estimate(base * 1.3 * off, 0.15), verdict: off > 2 ? "disagree" : "agree" },
      { q: 0.9, fleet: estimate(base * 3, 0.03), canary: estimate(base * 3.6, 0.3), verdict: "agree" },
      { q: 0.99, fleet: estimate(base * 9, 0.05), canary: null, verdict: "tooFewSamples" },
    ],
  });
  const books = (name: string, sent: number, failed = 0) => ({ name, sent, acknowledged: sent - failed, failed, timedOut: 0 });
  return {
    verdict: disagrees ? "disagree" : "agree",
    detail: disagrees
      ? 'the fleet\'s latencies differ from those of the independent client by more than the sampling error and the allowance, in 1 of 4 comparisons; most in p50 of report in phase "storm": the fleet says 1.2 ms (1.18 ms to 1.22 ms), the canary 9.36 ms (7.96 ms to 10.8 ms)'
      : "the fleet's latencies agree with those of the independent client in 4 comparisons",
    device: "rollout-20260301T080000Z-canary", client: "Paho MQTT C++ 1.2.0", confidence: 0.99, allowanceSeconds: 0.002, allowanceShare: 0.5, cpuSeconds: 0.61,
    counts: [books("connect", 1), books("delivery", 302), books("patchDesired", 302), books("report", 604, 2)],
    rows: [
      row("rollout", "report", 30_000, 0.0012), row("rollout", "delivery", 29_500, 0.0024),
      row("storm", "report", 30_000, 0.0012, disagrees ? 6 : 1), row("storm", "delivery", 29_400, 0.0024),
    ],
  };
}

/** Writes show in queries after one to three seconds, and later during the storm. */
function queries(): Queries {
  const recorded = (fn: () => number) => line((t) => inPhase(t, 10, 70, fn));
  return {
    streams: [
      {
        name: "dashboard", queries: 120, pages: 6_000, rows: 600_000, pagesPerQuery: 50, rowsPerQuery: 5_000, pagesMax: 50, rowsMax: 5_000,
        p50: 0.031, p99: null, pageRate: recorded(() => 100 * noise(0.1)), rowRate: recorded(() => 10_000 * noise(0.1)),
      },
      {
        name: "dashboard.counts", queries: 598, pages: 598, rows: 2_392, pagesPerQuery: 1, rowsPerQuery: 4, pagesMax: 1, rowsMax: 4,
        p50: 0.0042, p99: 0.019, pageRate: recorded(() => 10 * noise(0.2)), rowRate: recorded(() => 40 * noise(0.2)),
      },
    ],
    staleness: {
      started: 2_960, visible: 2_941, notVisible: 12, unknown: 4, open: 3, resolution: 0.05, latency: latency(2_941, 1.8, 0.6),
      limit: { value: 5, label: "objective: p99 < 5 s" },
      p50: recorded(() => 1.8 * noise(0.15)), p99: line((t) => inPhase(t, 11, 70, () => (t > 52 && t < 57 ? 7.5 : 3.4) * noise(0.2))),
    },
  };
}

function etags(): EtagStream[] {
  return [
    {
      name: "rollout", operation: "patchDesired", acknowledged: 59_104, conflicts: 9_420, conflictShare: 0.1371, retries: 9_104, retriesPerSuccess: 0.154, givenUp: 316,
      conflictRate: line((t) => inPhase(t, 10, 70, () => 157 * noise(0.3)) ?? 0), retryRate: line((t) => inPhase(t, 10, 70, () => 150 * noise(0.3)) ?? 0),
    },
  ];
}

function throttling(): Throttling {
  const none = { delayP50: null, delayP99: null, delayMax: null, delaySum: 0 };
  return {
    hub: {
      tier: "S1", units: 2, quotaUsed: 61_204, quotaLimit: 800_000,
      classes: [
        { name: "connects", limit: 24, admitted: 6_000, shaped: 0, refused: 0, ...none },
        { name: "twinReads", limit: 100, admitted: 5_900, shaped: 1_400, refused: 0, delayP50: 0.21, delayP99: 0.94, delayMax: 1.1, delaySum: 402 },
        { name: "twinUpdates", limit: 1_000, admitted: 59_104, shaped: 21_040, refused: 412, delayP50: 0.4, delayP99: 1.9, delayMax: 2, delaySum: 9_480 },
        { name: "queries", limit: null, admitted: 718, shaped: 0, refused: 0, ...none },
      ],
    },
    streams: [
      { name: "rollout", operation: "patchDesired", sent: 59_600, acknowledged: 59_104, refused: 412, serviceP50: 0.0019, serviceP99: 0.9, refusedRate: line((t) => (t > 51 && t < 56 ? 103 : 0)) },
      { name: "dashboard", operation: "query", sent: 120, acknowledged: 120, refused: 0, serviceP50: 0.03, serviceP99: null, refusedRate: [] },
    ],
  };
}
