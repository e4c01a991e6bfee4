#!/usr/bin/env node
// CPU per twin patch over HTTP: a whole run of twinstorm (back end `patchTags`, closed model) next to wrk sending the same
// request, in turns against the same hub over as many connections.
//
//   node bench/peers/http.mjs [--build build/release] [--connections 32] [--seconds 4] [--rounds 3]
//
// Needs wrk (Debian: apt-get install wrk). About a minute. wrk's script counts through the devices as a back end does; its
// CPU is that of its process, user and system, set-up included. Exit code 1 when twinstorm needs more than 1.3 times
// wrk's CPU.
import { spawn, spawnSync } from 'node:child_process';
import { createHmac } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const source = path.join(path.dirname(fileURLToPath(import.meta.url)), '..', '..');
const { values: options } = parseArgs({
  options: {
    build: { type: 'string', default: path.join(source, 'build', 'release') },
    connections: { type: 'string', default: '32' },
    seconds: { type: 'string', default: '4' },
    rounds: { type: 'string', default: '3' },
  },
});
const twinstorm = path.join(options.build, 'sim', 'cli', 'twinstorm');
const devices = 1000, mostAllowed = 1.3;
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'twinstorm-peers-'));
const ready = path.join(folder, 'hub.json');

const median = (values) => values.slice().sort((a, b) => a - b)[Math.floor(values.length / 2)];

function token(connectionString) {
  const parts = Object.fromEntries(connectionString.split(';').map((part) => [part.split('=')[0], part.slice(part.indexOf('=') + 1)]));
  const expiry = Math.floor(Date.now() / 1000) + 3600;
  const resource = encodeURIComponent(parts.HostName);
  const signature = createHmac('sha256', Buffer.from(parts.SharedAccessKey, 'base64')).update(`${resource}\n${expiry}`).digest('base64');
  return `SharedAccessSignature sr=${resource}&sig=${encodeURIComponent(signature)}&se=${expiry}&skn=${parts.SharedAccessKeyName}`;
}

/** CPU seconds per request of a whole run, from the seconds inside of its steady phase. */
function ours() {
  const scenario = path.join(folder, 'scenario.yaml'), out = path.join(folder, 'run');
  fs.rmSync(out, { recursive: true, force: true });
  fs.writeFileSync(scenario, `schema: twinstorm/scenario/1
name: http
canary: false
target: {readyFile: '${ready}'}
fleets:
  - {name: devices, count: ${devices}, deviceId: 'dev-{index:04}'}
backends:
  - {name: writer, do: patchTags, tags: {location: {floor: {uniform: [1, 40]}}}, connections: ${options.connections}}
phases:
  - {name: warm-up, duration: 1s, load: {writer: {concurrency: ${options.connections}}}, record: false}
  - {name: steady, duration: ${Number(options.seconds) + 2}s, load: {writer: {concurrency: ${options.connections}}}}
`);
  const run = spawnSync(twinstorm, ['run', scenario, '--out', out, '--quiet', '--shards', '1'], { encoding: 'utf8', timeout: 120_000 });
  if (![0, 13].includes(run.status)) throw new Error(`exit code ${run.status}\n${run.stderr}${run.stdout}`);
  const steady = fs.readFileSync(path.join(out, 'series.ndjson'), 'utf8').trim().split('\n').map((line) => JSON.parse(line))
    .filter(({ phase, seconds }) => phase === 'steady' && seconds > 0.9).slice(1, -1);
  const cpu = steady.reduce((sum, at) => sum + at.cpuShare * at.seconds, 0);
  const done = steady.reduce((sum, at) => sum + at.streams.writer.acknowledged, 0);
  return { cpu: cpu / done, rate: done / steady.length };
}

function wrk({ httpPort, ownerConnectionString }) {
  const script = path.join(folder, 'patch.lua');
  fs.writeFileSync(script, `
local headers = {["Authorization"] = "${token(ownerConnectionString)}", ["Content-Type"] = "application/json; charset=utf-8", ["If-Match"] = "*"}
local n = 0
function request()
  n = n + 1
  return wrk.format("PATCH", string.format("/twins/dev-%04d?api-version=2021-04-12", n % ${devices}), headers,
    string.format('{"tags":{"location":{"floor":%d}}}', n % 40 + 1))
end
function done(summary, latency, requests)
  io.write(string.format("\\nREQUESTS %d ERRORS %d\\n", summary.requests, summary.errors.status + summary.errors.read + summary.errors.timeout))
end
`);
  const result = spawnSync('bash', ['-c', `TIMEFORMAT='CPU %U %S'; time wrk -t1 -c${options.connections} -d${options.seconds}s -s ${script} http://127.0.0.1:${httpPort}`],
    { encoding: 'utf8', timeout: 120_000 });
  const [, requests, errors] = result.stdout.match(/REQUESTS (\d+) ERRORS (\d+)/) ?? [];
  const [, user, system] = result.stderr.match(/CPU ([\d.]+) ([\d.]+)/) ?? [];
  if (requests === undefined || user === undefined || errors !== '0') throw new Error(`wrk: ${result.stdout}${result.stderr}`);
  return { cpu: (Number(user) + Number(system)) / Number(requests), rate: Number(requests) / Number(options.seconds) };
}

const hub = spawn(twinstorm, ['hub', '--mqtt-port', '0', '--http-port', '0', '--mqtts-port', 'off', '--https-port', 'off',
  '--ready-file', ready, '--quiet'], { stdio: 'ignore' });
try {
  for (let i = 0; i < 500 && !fs.existsSync(ready); ++i) await new Promise((done) => setTimeout(done, 20));
  const address = JSON.parse(fs.readFileSync(ready, 'utf8'));
  ours();  // registers the devices
  const mine = [], theirs = [], ratios = [];
  for (let round = 0; round < Number(options.rounds); ++round) {
    mine.push(ours());
    theirs.push(wrk(address));
    ratios.push(mine[round].cpu / theirs[round].cpu);
  }
  const line = (name, all) => console.log(`  ${name.padEnd(10)} ${(1e6 * median(all.map(({ cpu }) => cpu))).toFixed(1)} us of CPU per patch `
    + `(${Math.round(median(all.map(({ rate }) => rate))).toLocaleString('en')}/s in wall-clock time)`);
  console.log(`${options.connections} connections, medians of ${options.rounds} rounds of ${options.seconds} s in turns`);
  line('twinstorm', mine);
  line('wrk', theirs);
  const ratio = median(ratios);
  console.log(`wanted: at most ${mostAllowed} x wrk's: ${ratio.toFixed(2)}, ${ratio <= mostAllowed ? 'reached' : 'MISSED'}`);
  process.exitCode = ratio <= mostAllowed ? 0 : 1;
} finally {
  hub.kill('SIGTERM');
  fs.rmSync(folder, { recursive: true, force: true });
}
