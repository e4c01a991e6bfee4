#!/usr/bin/env node
// What the whole generator costs and how well it keeps its time, against a hub that does next to nothing (the null hub,
// tests/support/scripted_hub):
//
//   node bench/engine/engine.mjs [--build build/release] [--rounds 3] [--seconds 5] [--only rates|devices|shards]
//
// - rates: reports at 1,000 to 20,000 a second; what was acknowledged of what was asked, and how late operations started
// - devices: CPU per report with 1,000 and with 18,000 devices, in turns
// - shards: CPU per report with one shard and with two, in turns. Shards share nothing, so two do twice the work of one
//   where each has a processor; what could take that away is more CPU per operation, which is what is compared. (With
//   the hub on the same two processors, a rate in wall-clock time would show the hub's share instead.)
//
// CPU is that of the generator's process in whole seconds of the steady phase (series.ndjson). Every run is bounded by its
// phases. About four minutes; meant for a machine that has nothing else to do.
import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const source = path.join(path.dirname(fileURLToPath(import.meta.url)), '..', '..');
const { values: options } = parseArgs({
  options: {
    build: { type: 'string', default: path.join(source, 'build', 'release') },
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '5' },
    only: { type: 'string' },
  },
});
const twinstorm = path.join(options.build, 'sim', 'cli', 'twinstorm');
const nullHub = path.join(options.build, 'tests', 'support', 'scripted_hub', 'scripted_hub');
for (const program of [twinstorm, nullHub]) {
  if (fs.existsSync(program)) continue;
  console.error(`engine: no program at ${program}: build it (scripts/test), or name the build folder with --build`);
  process.exit(2);
}
const rounds = Number(options.rounds), seconds = Number(options.seconds);
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'twinstorm-engine-'));

const median = (values) => values.slice().sort((a, b) => a - b)[Math.floor(values.length / 2)];
const micros = (value) => `${(value * 1e6).toFixed(1)} us`;

async function withHub(body) {
  const ready = path.join(folder, 'hub.json');
  fs.rmSync(ready, { force: true });
  const hub = spawn(nullHub, ['--ready-file', ready], { stdio: 'ignore' });
  try {
    for (let i = 0; i < 500 && !fs.existsSync(ready); ++i) await new Promise((done) => setTimeout(done, 10));
    return body(ready);
  } finally {
    hub.kill('SIGTERM');
    await new Promise((done) => hub.on('exit', done));
  }
}

/** One run; `{achieved, lagP99, cpu}`: share of what was asked, seconds, CPU seconds per report. */
function measure({ devices, rate, shards }) {
  return withHub((ready) => {
    const scenario = path.join(folder, 'scenario.yaml');
    const out = path.join(folder, 'run');
    fs.rmSync(out, { recursive: true, force: true });
    fs.writeFileSync(scenario, `schema: twinstorm/scenario/1
name: engine
canary: false
target: {readyFile: '${ready}'}
fleets:
  - {name: devices, count: ${devices}, deviceId: 'dev-{index:05}', reported: {value: {uniform: [1, 1000]}}}
phases:
  - {name: connect, connect: 3000/s, until: {devicesConnected: 100%}, timeout: 60s, record: false}
  - {name: warm-up, duration: 2s, load: {devices.report: ${rate}/s}, record: false}
  - {name: steady, duration: ${seconds}s, load: {devices.report: ${rate}/s}}
`);
    const run = spawnSync(twinstorm, ['run', scenario, '--out', out, '--quiet', '--shards', String(shards)],
      { encoding: 'utf8', timeout: 180_000 });
    if (![0, 13].includes(run.status)) throw new Error(`exit code ${run.status}\n${run.stderr}${run.stdout}`);
    const summary = JSON.parse(fs.readFileSync(path.join(out, 'summary.json'), 'utf8'));
    // Only whole seconds inside of the phase: the first and the last are shared with its neighbours.
    const steady = fs.readFileSync(path.join(out, 'series.ndjson'), 'utf8').trim().split('\n').map((line) => JSON.parse(line))
      .filter(({ phase, seconds: length }) => phase === 'steady' && length > 0.9).slice(1, -1);
    const cpu = steady.reduce((sum, at) => sum + at.cpuShare * at.seconds, 0);
    const done = steady.reduce((sum, at) => sum + at.streams['devices.report'].acknowledged, 0);
    return {
      achieved: summary.operations.report.acknowledged / (rate * seconds),
      lagP99: summary.generator.scheduleLag.p99,
      cpu: cpu / done,
      verdict: summary.verdict.status,
    };
  });
}

/** Both in turns; the median of each, and of the ratio of the turns. */
async function compare(a, b) {
  const first = [], second = [], ratios = [];
  for (let i = 0; i < rounds; ++i) {
    first.push((await measure(a)).cpu);
    second.push((await measure(b)).cpu);
    ratios.push(second[i] / first[i]);
  }
  return { first: median(first), second: median(second), ratio: median(ratios) };
}

const wanted = (part) => options.only === undefined || options.only === part;
try {
  if (wanted('rates')) {
    console.log('reports of 1,000 devices, one shard: acknowledged of asked, start lateness p99, CPU per report, verdict');
    for (const rate of [1000, 5000, 10000, 20000]) {
      const { achieved, lagP99, cpu, verdict } = await measure({ devices: 1000, rate, shards: 1 });
      console.log(`  ${rate}/s: ${(100 * achieved).toFixed(3)} %, ${micros(lagP99)}, ${micros(cpu)}, ${verdict}`);
    }
  }
  if (wanted('devices')) {
    const { first, second, ratio } = await compare({ devices: 1000, rate: 8000, shards: 1 },
      { devices: 18000, rate: 8000, shards: 1 });
    console.log(`CPU per report: 1,000 devices ${micros(first)}, 18,000 devices ${micros(second)}, ratio ${ratio.toFixed(3)}`);
  }
  if (wanted('shards')) {
    const { first, second, ratio } = await compare({ devices: 2000, rate: 10000, shards: 1 },
      { devices: 2000, rate: 20000, shards: 2 });
    console.log(`CPU per report: one shard at 10,000/s ${micros(first)}, two at 20,000/s ${micros(second)}: `
      + `twice the shards do ${(2 / ratio).toFixed(2)} times the work for twice the CPU`);
  }
} finally {
  fs.rmSync(folder, { recursive: true, force: true });
}
