#!/usr/bin/env node
// QoS 1 telemetry that a client publishes per CPU second against mosquitto: our own client, Paho MQTT C (the engine
// `paho`), and MQTT.js, in turns. Each of the connections has one message of 256 bytes open.
//
//   (cd bench/peers && npm ci)
//   node bench/peers/telemetry.mjs [--build build/release] [--clients 1000] [--seconds 4] [--rounds 3]
//
// Needs mosquitto (Debian: apt-get install mosquitto). About two minutes. Exit code 1 when our client makes less than three
// times MQTT.js's.
import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const here = path.dirname(fileURLToPath(import.meta.url));
const { values: options } = parseArgs({
  options: {
    build: { type: 'string', default: path.join(here, '..', '..', 'build', 'release') },
    clients: { type: 'string', default: '1000' },
    seconds: { type: 'string', default: '4' },
    rounds: { type: 'string', default: '3' },
  },
});
const ours = path.join(options.build, 'bench', 'peers', 'telemetry_client');
const wanted = 3;

const median = (values) => values.slice().sort((a, b) => a - b)[Math.floor(values.length / 2)];
const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await new Promise((done) => server.on('listening', done));
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}

function measure(command, args) {
  const result = spawnSync(command, args, { encoding: 'utf8', timeout: 120_000, cwd: here });
  if (result.status !== 0) throw new Error(`${command} ${args.join(' ')}: ${result.error ?? result.stderr}`);
  const { acknowledged, cpuSeconds, seconds } = JSON.parse(result.stdout);
  return { perCpuSecond: acknowledged / cpuSeconds, perSecond: acknowledged / seconds };
}

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'twinstorm-peers-'));
const port = await freePort();
const config = path.join(folder, 'mosquitto.conf');
fs.writeFileSync(config, `listener ${port} 127.0.0.1\nallow_anonymous true\nlog_type error\nmax_inflight_messages 0\n`);
const broker = spawn('mosquitto', ['-c', config], { stdio: 'ignore' });
try {
  await pause(500);
  if (broker.exitCode !== null) throw new Error('mosquitto did not start');
  const load = [String(port), options.clients, options.seconds];
  const contenders = {
    twinstorm: () => measure(ours, ['native', ...load]),
    'Paho MQTT C': () => measure(ours, ['paho', ...load]),
    'MQTT.js': () => measure(process.execPath, ['telemetry_mqttjs.mjs', ...load]),
  };
  const figures = Object.fromEntries(Object.keys(contenders).map((name) => [name, []]));
  for (let round = 0; round < Number(options.rounds); ++round) {
    for (const [name, run] of Object.entries(contenders)) figures[name].push(run());
  }
  console.log(`${options.clients} connections, medians of ${options.rounds} rounds of ${options.seconds} s in turns`);
  const of = (name, key) => median(figures[name].map((each) => each[key]));
  const base = of('MQTT.js', 'perCpuSecond');
  for (const name of Object.keys(contenders)) {
    const perCpu = of(name, 'perCpuSecond');
    console.log(`  ${name.padEnd(12)} ${Math.round(perCpu).toLocaleString('en')} publishes per CPU second, `
      + `${(1e6 / perCpu).toFixed(1)} us each, ${(perCpu / base).toFixed(2)} x MQTT.js `
      + `(${Math.round(of(name, 'perSecond')).toLocaleString('en')}/s in wall-clock time)`);
  }
  const ratio = of('twinstorm', 'perCpuSecond') / base;
  console.log(`wanted: at least ${wanted} x MQTT.js: ${ratio >= wanted ? 'reached' : 'MISSED'}`);
  process.exitCode = ratio >= wanted ? 0 : 1;
} finally {
  broker.kill('SIGTERM');
  fs.rmSync(folder, { recursive: true, force: true });
}
