#!/usr/bin/env node
// Starts `twinstorm hub`, runs one test file against it, stops it; file after file.
//
//   node run.js [FILE...]          all *.test.js by default
//
// Environment: TWINSTORM_BINARY (the program to test), NODE_PATH (where the packages are, unless `npm ci` ran here),
// TWINSTORM_SDK_TIMEOUT (seconds one file may take, 110).
'use strict';
const { spawn } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

const { authority } = require('./lib/certificates.js');
const { startHub } = require('./lib/hub_process.js');
const { makeIssuer } = require('./lib/issuer.js');

// What the hub of a file needs beside the usual.
const hubArguments = {
  'queries.test.js': ['--import', path.join(__dirname, '..', '..', 'vectors', 'query-cases.json')],
  'throttling.test.js': ['--tier', 'S1'],
};
const fileTimeout = 1000 * Number(process.env.TWINSTORM_SDK_TIMEOUT || 110);

function fail(text) {
  process.stderr.write(`sdk tests: ${text}\n`);
  process.exit(1);
}

function runFile(file, hub, more) {
  const env = {
    ...process.env,
    ...more,
    NODE_EXTRA_CA_CERTS: hub.ready.caFile,
    TWINSTORM_HUB_READY: hub.readyFile,
    TWINSTORM_SDK_HTTPS_PORT: String(hub.ready.httpsPort),
  };
  // The service SDK always dials 443; the preload leads that to the hub's port. The packages stay as published.
  const args = ['--require', path.join(__dirname, 'lib', 'port_443.js'), '--test-reporter=spec', file];
  return new Promise((resolve) => {
    const child = spawn(process.execPath, args, { env, stdio: 'inherit' });
    const timer = setTimeout(() => {
      process.stderr.write(`sdk tests: ${path.basename(file)} did not end within ${fileTimeout / 1000} s\n`);
      child.kill('SIGKILL');
    }, fileTimeout);
    child.on('exit', (code) => {
      clearTimeout(timer);
      resolve(code === 0);
    });
  });
}

async function main() {
  if (!process.env.TWINSTORM_BINARY) fail('TWINSTORM_BINARY names the twinstorm program to test; it is not set');
  try {
    require.resolve('azure-iot-device');
  } catch {
    fail('the npm packages are missing: run "npm ci" here, or let ctest do it (NODE_PATH)');
  }
  let files = process.argv.slice(2).map((name) => path.resolve(name));
  if (files.length === 0) {
    files = fs.readdirSync(__dirname).filter((name) => name.endsWith('.test.js')).sort();
    files = files.map((name) => path.join(__dirname, name));
  }
  let failed = 0;
  for (const file of files) {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'twinstorm-sdk-'));
    const devices = authority(folder, 'twinstorm test devices');
    const issuer = makeIssuer(folder);
    const more = hubArguments[path.basename(file)] ?? [];
    const args = ['--device-ca', `${devices.base}.pem`, ...issuer.hubArguments, ...more];
    const hub = await startHub({ folder, args });
    try {
      const env = { TWINSTORM_DEVICE_AUTHORITY: devices.base, TWINSTORM_ENTRA: issuer.file };
      if (!(await runFile(file, hub, env))) failed += 1;
    } finally {
      const trouble = await hub.stop();
      if (trouble) {
        process.stderr.write(`sdk tests: the hub of ${path.basename(file)} ${trouble}\n`);
        failed += 1;
      }
      fs.rmSync(folder, { recursive: true, force: true });
    }
  }
  process.exit(failed === 0 ? 0 : 1);
}

main().catch((error) => fail(error.stack));
