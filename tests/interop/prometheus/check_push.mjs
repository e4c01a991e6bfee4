#!/usr/bin/env node
// Short runs push to a real Pushgateway: it ends up with the final figures, or with nothing when asked to delete them.
//
// Environment: TWINSTORM_BINARY and PUSHGATEWAY name the programs.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const source = path.join(path.dirname(fileURLToPath(import.meta.url)), '..', '..', '..');
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'twinstorm-push-'));

async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await new Promise((done) => server.on('listening', done));
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}

const port = await freePort();
const read = async () => (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
function run(name, more) {
  return spawnSync(process.env.TWINSTORM_BINARY, ['run', path.join(source, 'scenarios', 'smoke.yaml'), '--out', path.join(folder, name),
    '--set', 'phases[steady].duration=3s', '--set', 'fleets[0].count=50', '--push-gateway', `127.0.0.1:${port}`, ...more],
  { encoding: 'utf8', timeout: 60_000 });
}

const nobody = run('nobody', []);
assert.equal(nobody.status, 3, nobody.stderr);
assert.match(nobody.stderr, /cannot push metrics to http:\/\/127\.0\.0\.1:\d+: it cannot be reached/);

const gateway = spawn(process.env.PUSHGATEWAY, [`--web.listen-address=127.0.0.1:${port}`], { stdio: 'ignore' });
try {
  for (let i = 0; i < 100 && !(await fetch(`http://127.0.0.1:${port}/-/ready`).catch(() => ({}))).ok; ++i) {
    await new Promise((done) => setTimeout(done, 100));
  }
  const kept = run('kept', ['--push-every', '1s']);
  assert.ok([0, 13].includes(kept.status), kept.stderr);
  const summary = JSON.parse(fs.readFileSync(path.join(folder, 'kept', 'summary.json'), 'utf8'));
  const lines = (await read()).split('\n').filter((line) => line.includes('job="twinstorm"') && line.includes('instance="kept"'));
  const sum = (metric, ...labels) => lines.filter((line) => line.startsWith(`${metric}{`) && labels.every((label) => line.includes(label)))
    .reduce((total, line) => total + Number(line.slice(line.lastIndexOf(' '))), 0);
  for (const [op, { asked, acknowledged }] of Object.entries(summary.operations)) {
    assert.equal(sum('twinstorm_ops_asked_total', `op="${op}"`), asked, `${op} asked`);
    assert.equal(sum('twinstorm_ops_total', `op="${op}"`, 'result="acknowledged"'), acknowledged, `${op} acknowledged`);
  }
  assert.equal(sum('twinstorm_run_verdict', `status="${summary.verdict.status}"`), 1);
  assert.equal(sum('twinstorm_twin_updates_total', 'outcome="applied"'), summary.convergence.applied);

  const deleted = run('deleted', ['--push-delete']);
  assert.ok([0, 13].includes(deleted.status), deleted.stderr);
  assert.doesNotMatch(await read(), /instance="deleted"/);
  console.log('the gateway has the final figures of one run, and nothing of the one that asked to delete them');
} finally {
  gateway.kill('SIGKILL');
  fs.rmSync(folder, { recursive: true, force: true });
}
