#!/usr/bin/env node
// A run with a fault in the middle, scraped by a real Prometheus that is then asked every question of the dashboards and
// the alert rules: each has an answer where there is something to tell, counters are those of summary.json, and quantiles
// agree with the report within a bucket.
//
// Environment: TWINSTORM_BINARY, PROMETHEUS and PROMTOOL name the programs.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const source = path.join(path.dirname(fileURLToPath(import.meta.url)), '..', '..', '..');
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'twinstorm-prometheus-'));
const { TWINSTORM_BINARY, PROMETHEUS, PROMTOOL } = process.env;
const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await new Promise((done) => server.on('listening', done));
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}

const children = [];
function start(command, args) {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  child.output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (bytes) => { child.output += bytes; });
  child.ended = new Promise((done) => child.on('exit', done));
  children.push(child);
  return child;
}

async function until(what, condition, seconds = 30) {
  for (let i = 0; i < 10 * seconds; ++i) {
    if (await condition()) return;
    await pause(0.1);
  }
  throw new Error(`${what} did not happen within ${seconds} s`);
}

// --- Prometheus, a hub and a run -------------------------------------------------------------------------------------

const [prometheusPort, runPort, hubPort] = [await freePort(), await freePort(), await freePort()];
const api = `http://127.0.0.1:${prometheusPort}/api/v1`;

async function ask(what, parameters) {
  const answer = await fetch(`${api}/${what}?${new URLSearchParams(parameters)}`);
  const { status, data, error } = await answer.json();
  assert.equal(status, 'success', `${JSON.stringify(parameters)}: ${error}`);
  return data.result ?? data;
}

function startPrometheus() {
  const config = fs.readFileSync(path.join(source, 'dashboards', 'prometheus.yml'), 'utf8')
    .replaceAll('127.0.0.1:9464', `127.0.0.1:${runPort}`).replaceAll('127.0.0.1:9465', `127.0.0.1:${hubPort}`);
  fs.writeFileSync(path.join(folder, 'prometheus.yml'), config);
  for (const rules of config.match(/[a-z]+\.yml/g)) fs.copyFileSync(path.join(source, 'dashboards', rules), path.join(folder, rules));
  return start(PROMETHEUS, [`--config.file=${path.join(folder, 'prometheus.yml')}`, `--storage.tsdb.path=${path.join(folder, 'data')}`,
    `--web.listen-address=127.0.0.1:${prometheusPort}`, '--log.level=error']);
}

const scenario = `schema: twinstorm/scenario/1
name: dashboards
target: {readyFile: '${folder}/hub.json'}
fleets:
  - {name: meters, count: 100, deviceId: 'meter-{index:03}', reported: {value: {uniform: [1, 9]}}, onDesired: {report: echo}, reconnect: {backoff: {initial: 100ms, max: 1s}}}
backends:
  - {name: rollout, do: patchDesired, patch: {firmware: {uniform: [1, 99]}}, staleness: {share: 20%, every: 100ms, timeout: 5s}}
  - {name: editors, do: patchTags, tags: {floor: {uniform: [1, 9]}}, ifMatch: readModifyWrite}
  - {name: ops, do: query, sql: "SELECT * FROM devices WHERE properties.reported.value > 3", pageSize: 50, pages: all}
phases:
  - {name: connect, connect: 100/s}
  - {name: steady, duration: 8s, load: {rollout: 50/s, editors: 20/s, ops: 5/s, meters.report: 50/s, meters.telemetry: 100/s}}
  - {name: storm, duration: 8s, load: {rollout: 50/s, ops: 5/s, meters.report: 100/s}, disconnect: {share: 50%, after: 2s, over: 1s}}
  - {name: settle, until: {converged: 100%}, timeout: 20s}
slos: [convergence p99 < 20s during storm, rollout errors < 50%]
invariants: [noLostUpdates]
`;

// --- what is asked ---------------------------------------------------------------------------------------------------

/** What Grafana would put in the place of its variables. */
const filled = (expression) => expression.replaceAll('$__rate_interval', '5s').replace(/\$(instance|owner|phase|op|protocol|run)\b/g, '.*');

/** Every question of the dashboards: `{where, expression}`. */
function questions() {
  const all = [];
  for (const name of fs.readdirSync(path.join(source, 'dashboards', 'grafana'))) {
    const { title, panels, annotations, templating } = JSON.parse(fs.readFileSync(path.join(source, 'dashboards', 'grafana', name), 'utf8'));
    for (const panel of panels) {
      for (const { expr } of panel.targets ?? []) all.push({ where: `${title}: ${panel.title}`, expression: filled(expr) });
    }
    for (const { name: what, expr } of annotations.list) all.push({ where: `${title}: annotation ${what}`, expression: filled(expr) });
    for (const { query, type } of templating.list) {
      const series = type === 'query' && /^label_values\((.*), \w+\)$/.exec(query);
      if (series) all.push({ where: `${title}: a variable`, expression: filled(series[1]) });
    }
  }
  return all;
}

/** What each second of the run had to say: the number of series with a value that is not NaN. */
async function answers(expression, from, to) {
  const series = await ask('query_range', { query: expression, start: from, end: to, step: 1 });
  return series.filter(({ values }) => values.some(([, value]) => value !== 'NaN')).length;
}

async function checkQuestions(from, to) {
  let asked = 0;
  for (const { where, expression } of questions()) {
    assert.ok(await answers(expression, from, to) > 0, `${where}: no data for ${expression}`);
    ++asked;
  }
  console.log(`${asked} questions of the dashboards have answers`);
}

async function checkRules(from, to) {
  const { groups } = await ask('rules', {});
  const rules = groups.flatMap(({ rules: all }) => all);
  assert.ok(rules.length >= 10);
  // Nothing of this happens in a run that goes well, or not within one that is so short.
  for (const { name, health, lastError, query, type } of rules) {
    assert.equal(health, 'ok', `${name}: ${lastError}`);
    if (type === 'recording') assert.ok(await answers(query, from, to) > 0, `${name}: no data for ${query}`);
  }
  console.log(`${rules.length} rules evaluate`);
}

/** Sums of the last scrape by the values of `labels`, joined. */
async function last(metric, labels, at) {
  const result = await ask('query', { query: `sum by (${labels.join(', ')}) (${metric})`, time: at });
  return new Map(result.map(({ metric: values, value }) => [labels.map((label) => values[label]).join(' '), Number(value[1])]));
}

async function checkCounters(summary, at) {
  const columns = { acknowledged: 'acknowledged', failed: 'failed', timedOut: 'timedOut', dropped: 'dropped' };
  let compared = 0;
  const ended = await last('twinstorm_ops_total', ['op', 'phase', 'result'], at);
  const asked = await last('twinstorm_ops_asked_total', ['op', 'phase'], at);
  const sent = await last('twinstorm_ops_sent_total', ['op', 'phase'], at);
  for (const { name: phase, operations } of summary.phases) {
    for (const [op, told] of Object.entries(operations)) {
      assert.equal(asked.get(`${op} ${phase}`), told.asked, `${op} asked in ${phase}`);
      assert.equal(sent.get(`${op} ${phase}`), told.sent, `${op} sent in ${phase}`);
      for (const [result, column] of Object.entries(columns)) {
        assert.equal(ended.get(`${op} ${phase} ${result}`), told[column], `${op} ${result} in ${phase}`);
        ++compared;
      }
    }
  }
  const updates = await last('twinstorm_twin_updates_total', ['outcome'], at);
  for (const outcome of ['applied', 'superseded', 'lost', 'unconverged', 'failed', 'applyFailed']) {
    assert.equal(updates.get(outcome), summary.convergence[outcome], `updates ${outcome}`);
  }
  const reconnects = await last('twinstorm_reconnects_total', ['reason'], at);
  assert.equal([...reconnects.values()].reduce((sum, n) => sum + n, 0), summary.devices.reconnects);
  assert.ok(summary.devices.reconnects >= 30, 'the fault did not happen');
  const verdict = await ask('query', { query: 'twinstorm_run_verdict == 1', time: at });
  assert.deepEqual(verdict.map(({ metric }) => metric.status), [summary.verdict.status]);
  console.log(`${compared} counters are those of summary.json`);
}

/** Bounds of the classic buckets around a value. */
async function bucketOf(metric, value, at) {
  const buckets = await ask('query', { query: `count by (le) (${metric}_bucket)`, time: at });
  const bounds = [0, ...buckets.map(({ metric: { le } }) => (le === '+Inf' ? Infinity : Number(le))).sort((a, b) => a - b)];
  const above = bounds.findIndex((bound) => bound >= value);
  return [bounds[above - 1], bounds[above]];
}

async function checkQuantiles(summary, at) {
  let compared = 0;
  const compare = async (what, metric, labels, q, told) => {
    if (told === null) return;
    const [answer] = await ask('query', { query: `histogram_quantile(${q}, sum by (le) (${metric}_bucket{${labels}}))`, time: at });
    const value = Number(answer.value[1]);
    const [low, high] = await bucketOf(metric, told, at);
    assert.ok(value >= low && value <= high, `${what} p${100 * q}: ${value} s, the report says ${told} s (bucket ${low} to ${high})`);
    ++compared;
  };
  for (const [q, name] of [[0.5, 'p50'], [0.9, 'p90'], [0.99, 'p99']]) {
    for (const [op, { intended, service }] of Object.entries(summary.operations)) {
      await compare(op, 'twinstorm_op_duration_seconds', `op="${op}"`, q, intended[name]);
      await compare(`${op} service`, 'twinstorm_op_service_seconds', `op="${op}"`, q, service[name]);
    }
    await compare('convergence', 'twinstorm_convergence_seconds', '', q, summary.convergence.total[name]);
    await compare('schedule lag', 'twinstorm_schedule_lag_seconds', '', q, summary.generator.scheduleLag[name]);
  }
  assert.ok(compared >= 10);
  console.log(`${compared} quantiles agree within a bucket`);
}

try {
  const hub = start(TWINSTORM_BINARY, ['hub', '--mqtt-port', '0', '--http-port', '0', '--mqtts-port', 'off', '--https-port', 'off',
    '--ready-file', path.join(folder, 'hub.json'), '--metrics-listen', `127.0.0.1:${hubPort}`, '--quiet']);
  const prometheus = startPrometheus();
  await until('the start of the hub', () => fs.existsSync(path.join(folder, 'hub.json')));
  await until('the start of Prometheus', async () => {
    assert.equal(prometheus.exitCode, null, prometheus.output);
    return (await fetch(`${api}/status/config`).catch(() => ({}))).ok;
  });
  fs.writeFileSync(path.join(folder, 'scenario.yaml'), scenario);
  const from = Date.now() / 1000;
  const run = start(TWINSTORM_BINARY, ['run', path.join(folder, 'scenario.yaml'), '--out', path.join(folder, 'run'), '--no-tui',
    '--shards', '2', '--workers', '2', '--metrics-listen', `127.0.0.1:${runPort}`, '--linger', '6s']);
  await until('the end of the load', () => {
    assert.equal(run.exitCode, null, run.output);
    return run.output.includes('keeping the metrics');
  }, 80);
  const scrape = await (await fetch(`http://127.0.0.1:${runPort}/metrics`)).text();
  for (const [who, text] of [['run', scrape], ['hub', await (await fetch(`http://127.0.0.1:${hubPort}/metrics`)).text()]]) {
    const lint = spawnSync(PROMTOOL, ['check', 'metrics'], { input: text, encoding: 'utf8' });
    assert.equal(lint.status, 0, `metrics of the ${who}: ${lint.stdout}${lint.stderr}`);
  }
  await pause(3);  // two more scrapes and evaluations
  const to = Date.now() / 1000;
  const summary = JSON.parse(fs.readFileSync(path.join(folder, 'run', 'summary.json'), 'utf8'));
  await checkCounters(summary, to);
  await checkQuantiles(summary, to);
  await checkQuestions(from, to);
  await checkRules(from, to);
  const code = await run.ended;
  // 13: reports of devices that are away are never sent, which says nothing about what was exported.
  assert.ok([0, 13].includes(code), `exit code ${code}\n${run.output}`);
  hub.kill('SIGTERM');
} finally {
  for (const child of children) child.kill('SIGKILL');
  await Promise.all(children.map(({ ended }) => ended));
  fs.rmSync(folder, { recursive: true, force: true });
}
