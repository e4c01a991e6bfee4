#!/usr/bin/env node
// Writes the Grafana dashboards of dashboards/grafana/ from the panels below, so that every one has the same variables,
// annotations, links and a sentence that says what is shown.
//
//   node dashboards/generate.mjs            writes them
//   node dashboards/generate.mjs --check    exit code 1 when a file is not what would be written
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const folder = path.join(path.dirname(fileURLToPath(import.meta.url)), 'grafana');
const datasource = { type: 'prometheus', uid: '${datasource}' };

// --- what expressions have in common ---------------------------------------------------------------------------------

/** Series of the chosen run. */
const run = 'instance=~"$instance"';
/** Of operations: also of the chosen fleets and back ends, phases, operations and protocols. */
const ops = `${run},owner=~"$owner",op=~"$op",protocol=~"$protocol"`;
const opsInPhase = `${ops},phase=~"$phase"`;
const inPhase = `${run},phase=~"$phase"`;

const rate = (metric, labels) => `rate(${metric}{${labels}}[$__rate_interval])`;
const quantile = (q, metric, labels, by = '') =>
  `histogram_quantile(${q}, sum by (le${by && `, ${by}`}) (${rate(`${metric}_bucket`, labels)}))`;

// --- panels ----------------------------------------------------------------------------------------------------------

const row = (title) => ({ row: title });
const target = ([expr, legendFormat], i, more = {}) =>
  ({ refId: String.fromCharCode(65 + i), expr, legendFormat: legendFormat ?? '__auto', datasource, ...more });

/** A chart over time. `lines`: [expression, legend]. */
function chart(title, description, unit, lines, { width = 12, stack = false, max } = {}) {
  return {
    type: 'timeseries', title, description, width, height: 8,
    fieldConfig: {
      defaults: {
        unit, min: 0, ...(max !== undefined && { max }),
        custom: { fillOpacity: stack ? 30 : 5, showPoints: 'never', ...(stack && { stacking: { mode: 'normal', group: 'A' } }) },
      },
      overrides: [],
    },
    options: { legend: { displayMode: 'list', placement: 'bottom' }, tooltip: { mode: 'multi', sort: 'desc' } },
    targets: lines.map((line, i) => target(line, i)),
  };
}

/** One number each, coloured by `steps` ([from, colour]). */
function stat(title, description, unit, expr, steps, { width = 4, legend, mappings = [] } = {}) {
  return {
    type: 'stat', title, description, width, height: 4,
    fieldConfig: {
      defaults: {
        unit, mappings,
        thresholds: { mode: 'absolute', steps: steps.map(([value, color]) => ({ value, color })) },
      },
      overrides: [],
    },
    options: {
      colorMode: 'value', graphMode: 'none', textMode: legend ? 'name' : 'auto',
      reduceOptions: { calcs: ['lastNotNull'], fields: '', values: false },
    },
    targets: [target([expr, legend], 0, { instant: true })],
  };
}

function table(title, description, expr, hidden, { width = 12 } = {}) {
  return {
    type: 'table', title, description, width, height: 8,
    fieldConfig: { defaults: { unit: 'none' }, overrides: [] },
    transformations: [{ id: 'organize', options: { excludeByName: Object.fromEntries(hidden.map((name) => [name, true])) } }],
    targets: [target([expr], 0, { format: 'table', instant: true })],
  };
}

function heatmap(title, description, metric, labels) {
  return {
    type: 'heatmap', title, description, width: 24, height: 9,
    fieldConfig: { defaults: {}, overrides: [] },
    options: {
      calculate: false, cellGap: 1, yAxis: { unit: 's' }, color: { mode: 'scheme', scheme: 'Oranges', steps: 64 },
      tooltip: { mode: 'single', yHistogram: true },
    },
    targets: [target([`sum by (le) (increase(${metric}_bucket{${labels}}[$__rate_interval]))`, '{{le}}'], 0, { format: 'heatmap' })],
  };
}

function timeline(title, description, expr, legend) {
  return {
    type: 'state-timeline', title, description, width: 24, height: 5,
    fieldConfig: { defaults: { unit: 'none', custom: { fillOpacity: 70 } }, overrides: [] },
    options: { showValue: 'never', mergeValues: true, legend: { displayMode: 'list', placement: 'bottom' } },
    targets: [target([expr, legend], 0)],
  };
}

const good = 'green', bad = 'red', odd = 'orange', plain = 'text';
const none = [[null, good], [1, bad]];

// --- panels that several dashboards have -----------------------------------------------------------------------------

const load = chart('Asked and acknowledged', 'What the load shape asks for, what came due and what the hub acknowledged, per second. Where they part, the schedule lag says whether the generator was late.', 'ops', [
  [`sum by (stream) (twinstorm_target_rate{${run}}) > 0`, '{{stream}} asked'],
  [`sum by (stream) (${rate('twinstorm_ops_asked_total', opsInPhase)})`, '{{stream}} due'],
  [`sum by (stream) (${rate('twinstorm_ops_total', `${opsInPhase},result="acknowledged"`)})`, '{{stream}} acknowledged'],
]);
const unsuccessful = chart('Not successful', 'Operations a second that failed, had no answer in time, or were never sent (dropped), and why.', 'ops', [
  [`sum by (op, result) (${rate('twinstorm_ops_total', `${opsInPhase},result!="acknowledged"`)})`, '{{op}} {{result}}'],
  [`sum by (op, reason) (${rate('twinstorm_op_errors_total', ops)}) > 0`, '{{op}}: {{reason}}'],
]);
const latency = chart('Latency p99 and p50', 'From when an operation was due to its acknowledgement: waiting to be sent is in it, so a slow hub cannot hide behind a slow generator.', 's', [
  [quantile(0.99, 'twinstorm_op_duration_seconds', opsInPhase, 'op'), '{{op}} p99'],
  [quantile(0.5, 'twinstorm_op_duration_seconds', opsInPhase, 'op'), '{{op}} p50'],
]);
const service = chart('Service time p99', 'From sending to acknowledgement. Far below the latency beside it: operations wait before they are sent.', 's', [
  [quantile(0.99, 'twinstorm_op_service_seconds', opsInPhase, 'op'), '{{op}}'],
]);
const convergence = chart('Convergence', 'From when a desired-property update was due until its device held it and the hub acknowledged the report.', 's', [
  [quantile(0.99, 'twinstorm_convergence_seconds', inPhase), 'p99'],
  [quantile(0.5, 'twinstorm_convergence_seconds', inPhase), 'p50'],
]);
const legs = chart('Where the time goes, p99', 'Legs of the convergence of applied updates: the back end\'s request, patch sent to device notified, simulated work, report sent to acknowledged.', 's', [
  [quantile(0.99, 'twinstorm_convergence_leg_seconds', run, 'leg'), '{{leg}}'],
]);
const backlog = chart('Updates under way', 'Desired-property updates started and not ended. A line that keeps rising: updates come faster than devices converge.', 'short', [
  [`sum(twinstorm_converging_updates{${run}})`, 'backlog'],
]);
const correctness = chart('Lost, unconverged, out of order', 'Counts since the start. Lost: accepted by the hub and never delivered. Duplicate and reordered: notifications with a version the device had already, or had passed.', 'short', [
  [`sum by (outcome) (twinstorm_twin_updates_total{${inPhase},outcome=~"lost|unconverged|failed"})`, '{{outcome}}'],
  [`sum by (reason) (twinstorm_twin_notifications_unexpected_total{${run}})`, '{{reason}}'],
]);
const devices = chart('Devices', 'By state. Online: connected and subscribed. Waiting: backing off before the next attempt.', 'short', [
  [`sum by (state) (twinstorm_devices{${run}})`, '{{state}}'],
  [`sum(twinstorm_devices_target{${run}})`, 'target'],
]);
const reconnects = chart('Reconnects', 'Connections lost and made again, per second, by why they were lost.', 'ops', [
  [`sum by (reason) (${rate('twinstorm_reconnects_total', run)})`, '{{reason}}'],
]);
const lag = chart('Schedule lag', 'How late operations were started. Above 100 ms at p99 the run is INVALID: the generator, not the hub, was measured.', 's', [
  [quantile(0.99, 'twinstorm_schedule_lag_seconds', inPhase), 'p99'],
  [quantile(0.5, 'twinstorm_schedule_lag_seconds', inPhase), 'p50'],
]);
const busy = chart('Busy share of the loops', 'CPU time of each shard\'s thread. Above 95 % the run is INVALID.', 'percentunit', [
  [rate('twinstorm_worker_busy_seconds_total', run), '{{worker}} shard {{shard}}'],
], { max: 1 });

// --- dashboards ------------------------------------------------------------------------------------------------------

const dashboards = {
  'run-overview.json': {
    uid: 'twinstorm-run', title: 'twinstorm: run overview',
    panels: [
      row('Verdict so far'),
      stat('Verdict', 'Of the run, once it is over. INVALID: its figures cannot be believed.', 'none',
        `twinstorm_run_verdict{${run}} == 1`, [[null, plain]], { legend: '{{status}}' }),
      stat('Objectives failed', 'Judged at the end of the run.', 'none', `sum(twinstorm_slo_state{${run},state="failed"}) or vector(0)`, none),
      stat('Updates lost', 'Accepted by the hub and never delivered.', 'none', `sum(twinstorm_twin_updates_total{${run},outcome="lost"})`, none),
      stat('Never sent', 'Operations that came due and were dropped by the generator. Above 1 % the run is INVALID.', 'none', `sum(twinstorm_ops_total{${run},result="dropped"})`, none),
      stat('Devices online', 'Of all that the scenario asks for.', 'percentunit',
        `sum(twinstorm_devices{${run},state="online"}) / sum(twinstorm_devices_target{${run}})`, [[null, odd], [0.999, good]]),
      stat('Schedule lag p99', 'Over the last minute. Above 100 ms the run is INVALID.', 's',
        `histogram_quantile(0.99, sum by (le) (rate(twinstorm_schedule_lag_seconds_bucket{${run}}[1m])))`, [[null, good], [0.05, odd], [0.1, bad]]),
      stat('Version', 'Of the tool.', 'none', `twinstorm_build_info{${run}}`, [[null, plain]], { legend: '{{version}}', width: 24 }),
      table('Run', 'What runs.', `twinstorm_run_info{${run}}`, ['Time', 'Value', '__name__', 'job']),
      table('Objectives', 'The state of each objective; listed when the run is over.', `twinstorm_slo_state{${run}} == 1`, ['Time', 'Value', '__name__', 'job', 'instance']),
      timeline('Phase', 'The phase that is running.', `twinstorm_phase{${run}} == 1`, '{{phase}}'),
      row('Load'), load, unsuccessful,
      row('Latency'), latency, service,
      heatmap('Latency heat map', 'Acknowledged operations by time from due to acknowledged.', 'twinstorm_op_duration_seconds', opsInPhase),
      row('Convergence'), convergence, backlog, correctness, devices,
      row('Can the figures be believed?'), lag, busy,
    ],
  },
  'fleet.json': {
    uid: 'twinstorm-fleet', title: 'twinstorm: fleet and twins',
    panels: [
      row('Connections'), devices, reconnects,
      chart('Connects', 'Connection attempts a second, by how they ended.', 'ops', [
        [`sum by (owner, result) (${rate('twinstorm_ops_total', `${run},op="connect",owner=~"$owner",phase=~"$phase"`)})`, '{{owner}} {{result}}'],
      ]),
      chart('Time to connect', 'From when a device was due to connect until it was online: TCP, TLS, CONNECT, subscriptions.', 's', [
        [quantile(0.99, 'twinstorm_op_duration_seconds', `${run},op="connect",owner=~"$owner",phase=~"$phase"`, 'owner'), '{{owner}} p99'],
        [quantile(0.5, 'twinstorm_op_duration_seconds', `${run},op="connect",owner=~"$owner",phase=~"$phase"`, 'owner'), '{{owner}} p50'],
      ]),
      row('Twins'), convergence, legs, backlog,
      chart('Updates per second', 'Desired-property updates that came due, and how they ended. Superseded: the device learnt this or a newer version by reading its twin.', 'ops', [
        [`sum(${rate('twinstorm_twin_updates_started_total', run)})`, 'started'],
        [`sum by (outcome) (${rate('twinstorm_twin_updates_total', inPhase)})`, '{{outcome}}'],
      ]),
      heatmap('Convergence heat map', 'Updates by time from due to acknowledged report.', 'twinstorm_convergence_seconds', inPhase),
      row('Operations of devices'), load, latency, correctness, unsuccessful,
      row('Cost'), busy,
      chart('CPU and memory', 'Of each process of the generator. Memory that processes share counts in each.', 'short', [
        [rate('twinstorm_worker_cpu_seconds_total', run), '{{worker}} cores'],
        [`twinstorm_worker_resident_bytes{${run}} / 1048576`, '{{worker}} MiB'],
      ]),
      chart('Network', 'Bytes of payload and protocol.', 'Bps', [
        [`sum by (direction) (${rate('twinstorm_worker_network_bytes_total', run)})`, '{{direction}}'],
      ]),
      chart('Turns of the loops', 'Of each shard\'s event loop.', 'ops', [
        [rate('twinstorm_worker_loop_turns_total', run), '{{worker}} shard {{shard}}'],
      ]),
    ],
  },
  'backend.json': {
    uid: 'twinstorm-backend', title: 'twinstorm: back end and queries',
    panels: [
      row('Requests'), load, unsuccessful, latency, service,
      chart('Open operations', 'Sent and not ended.', 'short', [
        [`sum by (op) (twinstorm_ops_in_flight{${ops}})`, '{{op}}'],
      ]),
      chart('Throttled', 'Answers 429, per second.', 'ops', [
        [`sum by (op) (${rate('twinstorm_op_errors_total', `${ops},reason="throttled"`)})`, '{{op}}'],
      ]),
      chart('Sent', 'Operations sent to the hub, per second.', 'ops', [
        [`sum by (op) (${rate('twinstorm_ops_sent_total', opsInPhase)})`, '{{op}}'],
      ]),
      row('Queries'),
      chart('Query staleness', 'From the acknowledgement of a write until a query showed it.', 's', [
        [quantile(0.99, 'twinstorm_query_staleness_seconds', run), 'p99'],
        [quantile(0.5, 'twinstorm_query_staleness_seconds', run), 'p50'],
      ]),
      chart('Writes looked for in queries', 'Now, and by how looking for them ended.', 'short', [
        [`sum(twinstorm_query_staleness_open{${run}})`, 'open'],
        [`sum by (outcome) (twinstorm_query_staleness_writes_total{${run}})`, '{{outcome}}'],
      ]),
      chart('Pages and rows', 'Answered, per second.', 'ops', [
        [`sum by (stream) (${rate('twinstorm_query_pages_total', run)})`, '{{stream}} pages'],
        [`sum by (stream) (${rate('twinstorm_query_rows_total', run)})`, '{{stream}} rows'],
      ]),
      row('ETags'),
      chart('Conflicts and retries', 'Answers 412, and changes sent once more because of them, per second.', 'ops', [
        [`sum by (stream) (${rate('twinstorm_op_conflicts_total', ops)})`, '{{stream}} conflicts'],
        [`sum by (stream) (${rate('twinstorm_op_retries_total', ops)})`, '{{stream}} retries'],
      ]),
    ],
  },
  'hub.json': {
    uid: 'twinstorm-hub', title: 'twinstorm: hub', hub: true,
    panels: [
      row('Devices'),
      chart('Devices', 'Registered, and connected now.', 'short', [
        [`sum(twinstorm_hub_registered_devices{${run}})`, 'registered'],
        [`sum(twinstorm_hub_connected_devices{${run}})`, 'connected'],
      ]),
      chart('Connects', 'CONNECT packets accepted and refused, per second. Damped: held back because the device connects too often.', 'ops', [
        [`sum(${rate('twinstorm_hub_connects_accepted_total', run)})`, 'accepted'],
        [`sum(${rate('twinstorm_hub_connects_refused_total', run)})`, 'refused'],
        [`sum(${rate('twinstorm_hub_connects_damped_total', run)})`, 'damped'],
      ]),
      chart('Disconnects', 'Per second, by why.', 'ops', [
        ['client', 'hub', 'keep_alive', 'protocol', 'slow_reader', 'take_over', 'throttled', 'token_expired'].map((why) =>
          [`sum(${rate(`twinstorm_hub_disconnects_${why}_total`, run)})`, why.replace('_', ' ')]),
      ].flat()),
      chart('TLS', 'Handshakes per second; those that were resumed need no signature.', 'ops', [
        [`sum(${rate('twinstorm_hub_tls_handshakes_total', run)})`, 'handshakes'],
        [`sum(${rate('twinstorm_hub_tls_sessions_resumed_total', run)})`, 'resumed'],
        [`sum(${rate('twinstorm_hub_tls_handshakes_failed_total', run)})`, 'failed'],
      ]),
      row('Twins'),
      chart('Twin operations', 'Carried out, per second.', 'ops', [
        ['twin_gets', 'reported_patches', 'desired_patches', 'tags_patches', 'twin_replaces', 'twin_reads'].map((what) =>
          [`sum(${rate(`twinstorm_hub_${what}_total`, run)})`, what.replaceAll('_', ' ')]),
      ].flat()),
      chart('Notifications and telemetry', 'Desired-property notifications sent to devices, telemetry taken in, per second.', 'ops', [
        [`sum(${rate('twinstorm_hub_desired_notifications_sent_total', run)})`, 'desired notifications'],
        [`sum(${rate('twinstorm_hub_telemetry_messages_total', run)})`, 'telemetry'],
      ]),
      row('Service'),
      chart('Requests', 'Of back ends, per second.', 'ops', [
        [`sum(${rate('twinstorm_hub_http_requests_total', run)})`, 'HTTP'],
        [`sum(${rate('twinstorm_hub_queries_total', run)})`, 'queries'],
        [`sum(${rate('twinstorm_hub_methods_called_total', run)})`, 'methods'],
        [`sum(${rate('twinstorm_hub_registry_writes_total', run)})`, 'registry writes'],
      ]),
      chart('Refused', 'Per second: without rights, with a stale ETag, by the quotas of the tier.', 'ops', [
        [`sum(${rate('twinstorm_hub_unauthorized_total', run)})`, 'unauthorized'],
        [`sum(${rate('twinstorm_hub_precondition_failed_total', run)})`, 'precondition failed'],
        [`sum(${rate('twinstorm_hub_throttle_refused_total', run)})`, 'throttled'],
        [`sum(${rate('twinstorm_hub_throttle_shaped_total', run)})`, 'held back (shaped)'],
      ]),
      row('Network'),
      chart('Bytes', 'Read and written, per second.', 'Bps', [
        [`sum(${rate('twinstorm_hub_mqtt_bytes_in_total', run)})`, 'MQTT in'],
        [`sum(${rate('twinstorm_hub_mqtt_bytes_out_total', run)})`, 'MQTT out'],
        [`sum(${rate('twinstorm_hub_http_bytes_in_total', run)})`, 'HTTP in'],
        [`sum(${rate('twinstorm_hub_http_bytes_out_total', run)})`, 'HTTP out'],
      ]),
    ],
  },
};

// --- from panels to files --------------------------------------------------------------------------------------------

const variable = (name, label, query, more = {}) => ({
  name, label, type: 'query', datasource, query, refresh: 2, includeAll: true, multi: true, allValue: '.*',
  current: { text: 'All', value: '$__all' }, ...more,
});

/** Of dashboards about runs: the run, and what of it is shown. */
const ofRuns = [
  variable('run', 'Run', 'label_values(twinstorm_run_info, run)', { includeAll: false, multi: false, allValue: undefined, current: {} }),
  variable('instance', 'Instance', 'label_values(twinstorm_run_info{run=~"$run"}, instance)', { hide: 2 }),
  ...[['owner', 'Fleet or back end'], ['phase', 'Phase'], ['op', 'Operation'], ['protocol', 'Protocol']].map(([label, text]) =>
    variable(label, text, `label_values(twinstorm_ops_asked_total{instance=~"$instance"}, ${label})`)),
  { name: 'report', label: 'Report', type: 'textbox', query: 'about:blank', current: { text: 'about:blank', value: 'about:blank' } },
];
const ofHubs = [variable('instance', 'Hub', 'label_values(twinstorm_hub_registered_devices, instance)')];

function dashboard({ uid, title, panels, hub = false }) {
  let x = 0, y = 0, height = 0;
  const placed = panels.map((panel, i) => {
    const wide = panel.row === undefined ? panel.width : 24;
    if (x + wide > 24) {
      x = 0;
      y += height;
      height = 0;
    }
    const high = panel.row === undefined ? panel.height : 1;
    const gridPos = { h: high, w: wide, x, y };
    x += wide;
    height = Math.max(height, high);
    if (panel.row !== undefined) return { type: 'row', id: i + 1, title: panel.row, collapsed: false, gridPos, panels: [] };
    const { width, height: ignored, ...rest } = panel;
    return { id: i + 1, datasource, gridPos, ...rest };
  });
  return {
    uid, title, tags: ['twinstorm'], timezone: 'utc', schemaVersion: 39, version: 1, editable: true, refresh: '5s',
    time: { from: 'now-15m', to: 'now' },
    links: [
      { title: 'twinstorm', type: 'dashboards', tags: ['twinstorm'], asDropdown: true, includeVars: true, keepTime: true, icon: 'external link', targetBlank: false, tooltip: '', url: '' },
      ...(hub ? [] : [{ title: 'Report (report.html in the run\'s folder)', type: 'link', url: '${report}', tags: [], asDropdown: false, includeVars: false, keepTime: false, icon: 'doc', targetBlank: true, tooltip: 'The address is the variable "report"' }]),
    ],
    templating: {
      list: [
        { name: 'datasource', label: 'Data source', type: 'datasource', query: 'prometheus' },
        ...(hub ? ofHubs : ofRuns),
      ],
    },
    annotations: {
      list: hub ? [] : [
        {
          name: 'Phases', datasource, enable: true, iconColor: 'blue', titleFormat: '{{phase}}',
          expr: `changes(twinstorm_phase{${run}}[5s]) > 0 and twinstorm_phase{${run}} == 1`,
        },
        {
          name: 'Connections lost', datasource, enable: true, iconColor: 'red', titleFormat: 'connections lost: {{reason}}',
          expr: `sum by (reason) (increase(twinstorm_reconnects_total{${run}}[5s])) > 10`,
        },
      ],
    },
    panels: placed,
  };
}

let stale = 0;
for (const [name, content] of Object.entries(dashboards)) {
  const file = path.join(folder, name);
  const text = `${JSON.stringify(dashboard(content), null, 1)}\n`;
  if (!process.argv.includes('--check')) {
    fs.writeFileSync(file, text);
  } else if (!fs.existsSync(file) || fs.readFileSync(file, 'utf8') !== text) {
    console.error(`${file} is not what dashboards/generate.mjs writes: run node dashboards/generate.mjs`);
    ++stale;
  }
}
process.exitCode = stale === 0 ? 0 : 1;
