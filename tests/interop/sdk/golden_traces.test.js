// The official SDK and our simulated device do the same steps; their packets are recorded, kept under
// tests/golden/traces and compared field by field. A difference must be in differences.json with its reason.
//
// TWINSTORM_UPDATE_GOLDEN=1 writes the traces anew instead of comparing them with what is kept.
'use strict';
const assert = require('node:assert/strict');
const { spawn } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { before, after, test } = require('node:test');

const { Message } = require('azure-iot-common');
const { MqttWs } = require('azure-iot-device-mqtt');

const hub = require('./lib/hub.js');
const { authority } = require('./lib/certificates.js');
const { client: makeClient, updateReported, Inbox, within, eventually } = require('./lib/clients.js');
const { MqttProxy } = require('./lib/mqtt_proxy.js');
const { Recorder, format, compare } = require('./lib/trace.js');
const { recordUpgrades } = require('./lib/upgrade_recorder.js');

const golden = path.join(__dirname, '..', '..', 'golden', 'traces');
const desired = { climate: { minTemperature: 68, hvac: { systemControl: { fanOn: true } } } };
let folder;
let sdk;
let ours;

before(() => { folder = fs.mkdtempSync(path.join(os.tmpdir(), 'twinstorm-sdk-traces-')); });
after(() => fs.rmSync(folder, { recursive: true }));

const invoke = (device) => hub.call('POST', `/twins/${device.id}/methods`,
  { body: { methodName: 'reboot', payload: { delay: 3 }, responseTimeoutInSeconds: 10, connectTimeoutInSeconds: 5 } });

/** Makes the hub's side of the steps happen, one after the other, as the recorder sees the device answer. The device
 * echoes desired properties, answers the method with its payload and renews its token by itself. */
async function lead(device, proxy, recorder) {
  // A report whose answer is lost would be sent again.
  const change = async (what) => {
    const { accepted } = recorder;
    await hub.patchTwin(device, { properties: { desired } });
    await eventually(() => recorder.accepted > accepted, what);
  };
  await eventually(() => recorder.count('SUBSCRIBE devices/{device}/messages/devicebound/#') > 0, 'all subscriptions');
  await eventually(() => recorder.count('PUBLISH telemetry') > 0, 'telemetry');
  await change('the first report');
  await invoke(device);
  const acknowledged = recorder.count('PUBACK');
  await hub.enqueue(device, 'hello', { 'iothub-messageid': 'm1' });
  await eventually(() => recorder.count('PUBACK') > acknowledged, 'the acknowledgement of a message');
  await eventually(() => recorder.connections.length >= 2, 'the renewal of the token', 8000);
  await connected(device);
  await change('the report after the renewal');
  proxy.cut();
  await eventually(() => recorder.connections.length >= 3, 'the connection after the cut');
  await connected(device);
  await change('the report after the reconnect');
}

const connected = (device) => eventually(
  async () => (await hub.call('GET', device.path)).connectionState === 'Connected', 'the device to be connected');

const saysGoodbye = (recorder) => eventually(
  () => recorder.connections[2].some(({ title }) => title === 'DISCONNECT'), 'the DISCONNECT');

// Open, twin, desired, report, telemetry, method, message, renewal, reconnect, close.
test('the official SDK does the steps', async (t) => {
  const device = await hub.createDevice();
  const certificates = authority(folder, 'proxy');
  const proxy = await MqttProxy.start({ target: hub.ready.mqttPort,
    secure: certificates.issue('localhost', 'subjectAltName=DNS:localhost') });
  t.after(() => proxy.stop());
  const recorder = new Recorder(proxy, { [device.id]: '{device}', localhost: '{host}' });
  // By way of a gateway name the protocol holds the hub's name without the proxy's port.
  const client = await makeClient(t, device, {
    connectionString: `HostName=localhost;DeviceId=${device.id};SharedAccessKey=${device.key};`
      + `GatewayHostName=localhost:${proxy.port}`,
    options: { ca: certificates.pem, tokenRenewal: { tokenValidTimeInSeconds: 8, tokenRenewalMarginInSeconds: 3 } },
  });
  await client.open();
  const twin = await client.getTwin();
  const deltas = new Inbox();
  twin.on('properties.desired', (delta) => deltas.push(delta));
  await deltas.next('the initial desired properties');
  await eventually(() => recorder.count('SUBSCRIBE $iothub/twin/PATCH/properties/desired/#') > 0, 'its SUBSCRIBE');
  twin.on('properties.desired.climate', (climate) => updateReported(twin, { climate }).catch(() => {}));
  client.onDeviceMethod('reboot', (request, response) => response.send(200, request.payload).catch(() => {}));
  await eventually(() => recorder.count('SUBSCRIBE $iothub/methods/POST/#') > 0, 'its SUBSCRIBE');
  client.on('message', () => {});
  await eventually(() => recorder.count('SUBSCRIBE devices/{device}/messages/devicebound/#') > 0, 'its SUBSCRIBE');
  await client.sendEvent(new Message('x'.repeat(16)));
  const rich = new Message('x'.repeat(16));
  rich.messageId = 'm/1';
  rich.contentType = 'application/json';
  rich.properties.add('plant', 'Redmond 43');
  await client.sendEvent(rich);
  await within(lead(device, proxy, recorder), 'all steps', 30000);
  await client.close();
  await saysGoodbye(recorder);
  sdk = recorder.connections;
});

/** Starts `golden_traces.yaml` for this device, with more `settings`. */
function startRun(t, device, settings) {
  const run = spawn(process.env.TWINSTORM_BINARY, ['run', path.join(__dirname, 'golden_traces.yaml'), '--quiet',
    '--out', fs.mkdtempSync(path.join(folder, 'run-')), ...settings.flatMap((setting) => ['--set', setting])], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, GOLDEN_HUB: hub.ready.ownerConnectionString,
      GOLDEN_DEVICE: `HostName=localhost;DeviceId=${device.id};SharedAccessKey=${device.key}` },
  });
  t.after(() => run.kill('SIGKILL'));
  let output = '';
  for (const stream of [run.stdout, run.stderr]) stream.on('data', (text) => { output += text; });
  const exited = new Promise((resolve) => run.on('exit', (code) => resolve(code)));
  return {
    /** Waits for `steps` while the run goes on, then ends it. A run that ends by itself before is a failure. */
    async during(steps) {
      const early = exited.then((code) => { throw new Error(`the run ended early with code ${code}: ${output}`); });
      await Promise.race([steps, early]).catch((error) => { throw new Error(`${error.message}\n${output}`); });
      early.catch(() => {});
      run.kill('SIGINT');
      await within(exited, 'the end of the run', 30000);
    },
  };
}

test('our simulated device does the steps', async (t) => {
  const device = await hub.createDevice();
  const proxy = await MqttProxy.start({ target: hub.ready.mqttPort });
  t.after(() => proxy.stop());
  const recorder = new Recorder(proxy, { [device.id]: '{device}', localhost: '{host}' });
  const run = startRun(t, device, [`target.mqttPort=${proxy.port}`, `target.httpPort=${hub.ready.httpPort}`]);
  await run.during(within(lead(device, proxy, recorder), 'all steps', 30000));
  await saysGoodbye(recorder);
  ours = recorder.connections;
});

test('both ask for a WebSocket', async (t) => {
  assert.ok(sdk && ours, 'a recording is missing');
  const target = hub.ready.httpPort;
  const device = await hub.createDevice();
  const names = { localhost: '{host}' };
  const certificates = authority(folder, 'web');
  const secure = certificates.issue('localhost', 'subjectAltName=DNS:localhost');
  const theirs = await recordUpgrades({ target, secure, names });
  t.after(() => theirs.stop());
  const webSocketAgent = hub.agent({ ca: certificates.pem, port: theirs.port });
  const client = await makeClient(t, device, { transport: MqttWs, port: false, options: { mqtt: { webSocketAgent } } });
  await client.open();
  await client.getTwin();
  await client.close();

  const own = await recordUpgrades({ target, names });
  t.after(() => own.stop());
  const run = startRun(t, device, ['fleets[device].transport=mqttws', `target.httpPort=${own.port}`]);
  await run.during(connected(device));
  for (const [trace, { packets }] of [[sdk, theirs], [ours, own]]) trace.push([packets[0]]);
});

/** A table for people: one row a difference. */
function table(rows) {
  return rows.map(({ where, sdk: theirs, ours: own, reason }) => (
    `${where}\n    SDK:  ${theirs}\n    ours: ${own}\n    ${reason ? `why:  ${reason}` : 'NOT ALLOWED'}\n`)).join('');
}

test('every difference between the two is a known one with a reason, and every known one is there', () => {
  assert.ok(sdk && ours, 'a recording is missing');
  const rows = compare(sdk, ours);
  const allowed = JSON.parse(fs.readFileSync(path.join(golden, 'differences.json'), 'utf8'));
  for (const row of rows) {
    row.reason = allowed.find(({ where, sdk: theirs, ours: own }) => (
      where === row.where && theirs === row.sdk && own === row.ours))?.reason;
  }
  process.stdout.write(table(rows));
  const unknown = rows.filter(({ reason }) => !reason);
  assert.deepEqual(unknown, [], `differences without a reason:\n${table(unknown)}`);
  const gone = allowed.filter(({ where }) => !rows.some((row) => row.where === where));
  assert.deepEqual(gone, [], 'these differences exist no more: take them out of differences.json');
});

for (const [name, about, connections] of [
  ['sdk.txt', ['What azure-iot-device 1.18.4 with azure-iot-device-mqtt 1.16.4 sends, packet by packet.'], () => sdk],
  ['twinstorm.txt', ['What a simulated device of twinstorm sends for the same steps, packet by packet.'], () => ours],
]) {
  test(`the trace is the one kept in tests/golden/traces/${name}`, () => {
    assert.ok(connections(), 'the recording is missing');
    const file = path.join(golden, name);
    const text = format(connections(), [...about,
      'Made by tests/interop/sdk/golden_traces.test.js; {...} stands for what differs from run to run.',
      'The second connection renews the token, the third follows a lost one; of the fourth, by WebSocket, there is only',
      'the request.']);
    if (process.env.TWINSTORM_UPDATE_GOLDEN) fs.writeFileSync(file, text);
    else assert.equal(text, fs.readFileSync(file, 'utf8'), `${name}: TWINSTORM_UPDATE_GOLDEN=1 writes it anew`);
  });
}
