// A hub as a process of its own, as a user starts it.
'use strict';
const { spawn } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');

/** Starts a hub that keeps everything below `folder`; resolves once it listens.
 * `ready` is its ready file: ports, connection strings, `caFile`. `stop()` resolves to what went wrong, or ''. */
async function startHub({ folder, args = [] }) {
  const readyFile = path.join(folder, 'ready.json');
  fs.rmSync(readyFile, { force: true });
  const ports = ['--mqtt-port', '0', '--http-port', '0', '--mqtts-port', '0', '--https-port', '0'];
  const child = spawn(
    process.env.TWINSTORM_BINARY,
    ['hub', '--hostname', 'localhost', ...ports, '--data', path.join(folder, 'hub'), '--threads', '2',
      '--ready-file', readyFile, ...args],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let log = '';
  child.stderr.setEncoding('utf8').on('data', (text) => { log = (log + text).slice(-8192); });
  const exited = new Promise((resolve) => {
    child.on('error', (error) => { log += error.message; resolve({ code: -1 }); });
    child.on('exit', (code, signal) => resolve({ code, signal }));
  });
  process.once('exit', () => child.kill('SIGKILL'));
  let ended;
  exited.then((how) => { ended = how; });
  for (const begin = Date.now(); !fs.existsSync(readyFile);) {
    if (ended) throw new Error(`the hub ended at once (code ${ended.code}): ${log}`);
    if (Date.now() - begin > 20000) {
      child.kill('SIGKILL');
      throw new Error(`the hub did not listen within 20 s: ${log}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return {
    readyFile,
    ready: JSON.parse(fs.readFileSync(readyFile, 'utf8')),
    async stop() {
      if (ended) return `ended during the tests (code ${ended.code}, signal ${ended.signal}): ${log}`;
      child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), 10000);
      const { code, signal } = await exited;
      clearTimeout(timer);
      return code === 0 ? '' : `ended with code ${code}, signal ${signal}: ${log}`;
    },
  };
}

module.exports = { startHub };
