// A load run against the hub, and afterwards the official service SDK reads every twin: the versions say how many
// updates the hub took in, and that must be what the run counted as acknowledged.
'use strict';
const assert = require('node:assert/strict');
const { spawn } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { test } = require('node:test');

const { Registry } = require('azure-iothub');

const hub = require('./lib/hub.js');

/** Exit code and output of a command. */
function run(command, args) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (bytes) => { output += bytes; });
    child.on('exit', (code) => resolve({ code, output }));
  });
}

/** Every twin, by the SDK's query. */
async function twins(registry) {
  const query = registry.createQuery('SELECT * FROM devices', 100);
  const all = [];
  do all.push(...(await query.nextAsTwin()).result); while (query.hasMoreResults);
  return all;
}

for (const workers of ['1', '2']) {
  test(`versions in the hub are what a run of ${workers} process(es) counted`, async () => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'twinstorm-counts-'));
    try {
      const scenario = path.join(__dirname, '..', '..', '..', 'scenarios', 'smoke.yaml');
      const prefix = `counted${workers}-`;
      const { code, output } = await run(process.env.TWINSTORM_BINARY, [
        'run', scenario, '--workers', workers, '--out', path.join(folder, 'run'), '--quiet', '--set', 'canary=false',
        '--set', `target={readyFile: '${process.env.TWINSTORM_HUB_READY}'}`,
        '--set', `fleets[0].deviceId=${prefix}{index}`, '--set', 'phases[steady].duration=4s',
      ]);
      // 13: the machine was busy, which says nothing about the counts.
      assert.ok([0, 13].includes(code), `exit code ${code}\n${output}`);
      const { operations } = JSON.parse(fs.readFileSync(path.join(folder, 'run', 'summary.json'), 'utf8'));
      const fleet = (await twins(Registry.fromConnectionString(hub.ready.ownerConnectionString)))
        .filter(({ deviceId }) => deviceId.startsWith(prefix));
      assert.equal(fleet.length, 200);
      const written = (section) => fleet.reduce((sum, twin) => sum + twin.properties[section].$version - 1, 0);
      assert.ok(operations.patchDesired.acknowledged > 300);
      assert.equal(written('desired'), operations.patchDesired.acknowledged);
      assert.equal(written('reported'), operations.report.acknowledged);
      for (const { deviceId, properties: { desired, reported } } of fleet) {
        if (desired.$version === 1) continue;
        assert.equal(reported.climate.minTemperature, desired.climate.minTemperature, deviceId);
      }
    } finally {
      fs.rmSync(folder, { recursive: true, force: true });
    }
  });
}
