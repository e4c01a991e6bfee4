/**
 * What the page is given: the run record, reduced by the C++ side (report/html/page_data.cpp) to what is drawn. Times
 * are seconds since the start of the run, durations seconds, rates per second, shares 0..1. All series are as long as
 * `time`; null means that the second had no sample.
 */
export type VerdictStatus = "passed" | "failed" | "invalid" | "aborted";
export type Series = (number | null)[];

export interface Latency {
  count: number;
  mean: number | null;
  /** A percentile with fewer than ten samples beyond it is null: not worth printing. */
  p50: number | null;
  p90: number | null;
  p95: number | null;
  p99: number | null;
  p999: number | null;
  max: number | null;
  /** Points of the distribution: `value[i]` is not exceeded by the share `quantile[i]` of the samples; the last is 1. */
  quantile: number[];
  value: number[];
}

export interface Phase {
  name: string;
  start: number;
  end: number;
  /** false: warm-up, ramp or drain, left out of every total but the ledger. */
  recorded: boolean;
  /** Why it ended, if not by its plan. */
  note: string;
}

export interface Mark {
  at: number;
  text: string;
}

export interface Event {
  at: number;
  kind: string;
  text: string;
}

/** An objective that is drawn as a line into the chart of what it limits. */
export interface Limit {
  value: number;
  label: string;
}

export interface Slo {
  text: string;
  during: string;
  target: string;
  actual: string;
  samples: number;
  status: "passed" | "failed" | "undecided";
  detail: string;
}

export interface Invariant {
  name: string;
  status: "held" | "violated" | "undecided" | "notChecked";
  detail: string;
  examples: string[];
}

export interface Counts {
  asked: number;
  sent: number;
  acknowledged: number;
  failed: number;
  timedOut: number;
  dropped: number;
  inFlight: number;
  ratePerSecond: number;
}

export interface Stream extends Counts {
  name: string;
  operation: string;
  /** One sentence: delivered or not and, if not, who was slow. */
  note: string;
  delivered: boolean;
  limit: Limit | null;
  askedRate: Series;
  acknowledgedRate: Series;
  lostRate: Series;
  intendedP50: Series;
  intendedP99: Series;
  serviceP50: Series;
  serviceP99: Series;
}

export interface OperationPhase extends Counts {
  name: string;
  recorded: boolean;
  p50: number | null;
  p99: number | null;
  max: number | null;
}

export interface Operation extends Counts {
  name: string;
  streams: string[];
  /** Only phases in which the operation was asked for. */
  phases: OperationPhase[];
  intended: Latency | null;
  service: Latency | null;
}

export interface Convergence {
  started: number;
  applied: number;
  superseded: number;
  lost: number;
  unconverged: number;
  failed: number;
  applyFailed: number;
  open: number;
  duplicate: number;
  reordered: number;
  backlogMax: number;
  total: Latency | null;
  system: Latency | null;
  patch: Latency | null;
  delivery: Latency | null;
  apply: Latency | null;
  acknowledge: Latency | null;
  limit: Limit | null;
  backlog: Series;
  p50: Series;
  p99: Series;
}

export interface QueryStream {
  name: string;
  queries: number;
  pages: number;
  rows: number;
  pagesPerQuery: number | null;
  rowsPerQuery: number | null;
  pagesMax: number;
  rowsMax: number;
  p50: number | null;
  p99: number | null;
  pageRate: Series;
  rowRate: Series;
}

/** Writes that were looked for in queries. */
export interface Staleness {
  started: number;
  visible: number;
  notVisible: number;
  unknown: number;
  open: number;
  /** Seconds between two looks. */
  resolution: number | null;
  latency: Latency | null;
  limit: Limit | null;
  p50: Series;
  p99: Series;
}

export interface Queries {
  streams: QueryStream[];
  staleness: Staleness | null;
}

export interface EtagStream {
  name: string;
  operation: string;
  acknowledged: number;
  conflicts: number;
  conflictShare: number | null;
  retries: number;
  retriesPerSuccess: number | null;
  givenUp: number;
  conflictRate: Series;
  retryRate: Series;
}

/** As the hub counted it, over the whole run. */
export interface ThrottlingClass {
  name: string;
  limit: number | null;
  admitted: number;
  shaped: number;
  refused: number;
  delayP50: number | null;
  delayP99: number | null;
  delayMax: number | null;
  delaySum: number | null;
}

/** As the run saw it: counts of the whole run, latencies of recorded phases. */
export interface ThrottledStream {
  name: string;
  operation: string;
  sent: number;
  acknowledged: number;
  refused: number;
  serviceP50: number | null;
  serviceP99: number | null;
  /** Empty if nothing was refused. */
  refusedRate: Series;
}

export interface Throttling {
  hub: { tier: string; units: number; classes: ThrottlingClass[]; quotaUsed: number | null; quotaLimit: number | null } | null;
  streams: ThrottledStream[];
}

export interface ErrorRow {
  operation: string;
  stream: string;
  errorClass: string;
  count: number;
  first: number | null;
  last: number | null;
}

export interface LedgerRow extends Counts {
  name: string;
  notStarted: number;
  balanced: boolean;
}

export interface HubRow {
  name: string;
  run: number;
  hub: number;
}

/** A percentile and its sampling error; null bounds: the samples give none. */
export interface Estimate {
  value: number;
  low: number | null;
  high: number | null;
}

export type CanaryVerdict = "agree" | "disagree" | "tooFewSamples";

export interface CanaryPercentile {
  q: number;
  canary: Estimate | null;
  fleet: Estimate | null;
  verdict: CanaryVerdict;
}

export interface CanaryRow {
  phase: string;
  operation: string;
  canarySamples: number;
  fleetSamples: number;
  verdict: CanaryVerdict;
  percentiles: CanaryPercentile[];
}

/** One device on somebody else's client beside the fleet. */
export interface Canary {
  verdict: CanaryVerdict;
  detail: string;
  device: string;
  client: string;
  confidence: number;
  allowanceSeconds: number;
  allowanceShare: number;
  cpuSeconds: number | null;
  counts: { name: string; sent: number; acknowledged: number; failed: number; timedOut: number }[];
  rows: CanaryRow[];
}

export interface PageData {
  schema: "twinstorm/page/1";
  verdict: { status: VerdictStatus; exitCode: number; reading: string; reasons: string[] };
  run: {
    id: string;
    scenario: string;
    description: string;
    seed: string;
    startedAt: string;
    durationSeconds: number;
    version: string;
  };
  commands: { label: string; text: string }[];
  setup: [string, string][];
  environment: [string, string][];
  scenarioText: string;
  phases: Phase[];
  marks: Mark[];
  /** The first of them; `eventsTotal` says how many there were. */
  events: Event[];
  eventsTotal: number;
  slos: Slo[];
  invariants: Invariant[];
  time: number[];
  /** Seconds one point of a series stands for; above 1 the series were thinned. */
  pointSeconds: number;
  streams: Stream[];
  operations: Operation[];
  convergence: Convergence | null;
  /** These three are null when there is nothing of the kind, and then have no section. */
  queries: Queries | null;
  etags: EtagStream[] | null;
  throttling: Throttling | null;
  devices: {
    target: number;
    connected: number;
    connectedMax: number;
    reconnects: number;
    reasons: [string, number][];
    online: Series;
    connecting: Series;
    waiting: Series;
    offline: Series;
    reconnectRate: Series;
  };
  errors: ErrorRow[];
  /** Per second and class, of all operations; only classes that occurred. */
  errorRates: [errorClass: string, perSecond: Series][];
  ledger: LedgerRow[];
  ledgerHolds: boolean;
  hub: { compared: boolean; matches: boolean; note: string; rows: HubRow[] };
  generator: {
    figures: [string, string][];
    cpu: Series;
    busy: Series;
    resident: Series;
    lagP99: Series;
    lag: Latency | null;
    limit: Limit | null;
  };
  /** null: switched off. */
  canary: Canary | null;
}
