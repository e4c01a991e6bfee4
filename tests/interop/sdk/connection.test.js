// Connecting, refusals, losing a connection and coming back, token renewal.
'use strict';
const assert = require('node:assert/strict');
const { spawn } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { before, after, test } = require('node:test');

const { Message, SharedAccessSignature } = require('azure-iot-common');

const hub = require('./lib/hub.js');
const { authority } = require('./lib/certificates.js');
const { client, openClient, updateReported, listening, Inbox, within, eventually } = require('./lib/clients.js');
const { MqttProxy, connack } = require('./lib/mqtt_proxy.js');

const unauthorized = { name: 'UnauthorizedError' };
const inSeconds = (n) => Math.floor(Date.now() / 1000) + n;

let folder;
let certificates;
let proxy;

before(async () => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'twinstorm-sdk-connection-'));
  certificates = authority(folder, 'proxy');
  const secure = certificates.issue('localhost', 'subjectAltName=DNS:localhost');
  proxy = await MqttProxy.start({ target: hub.ready.mqttPort, secure });
});
after(async () => {
  await proxy.stop();
  fs.rmSync(folder, { recursive: true });
});

/** A client whose connection passes through the proxy. */
const proxied = async (t, device, options = {}) => client(t, device, {
  port: proxy.port, options: { ca: certificates.pem, ...options } });

const deviceToken = (device, { key = device.key, resource, expires = inSeconds(600) } = {}) => SharedAccessSignature
  .create(resource ?? `localhost/devices/${encodeURIComponent(device.id)}`, null, key, expires).toString();

/** CONNECT of a hand-made client over plain MQTT. */
const rawConnect = (device, fields = {}) => connack(hub.ready.mqttPort, {
  clientId: device.id,
  username: `localhost/${device.id}/?api-version=2021-04-12`,
  password: deviceToken(device),
  ...fields,
});

test('a primary or secondary key of the device opens, over TLS with the hub\'s own authority', async (t) => {
  const device = await hub.createDevice();
  const identity = await hub.call('GET', device.path);
  await openClient(t, device);
  await openClient(t, { ...device, key: identity.authentication.symmetricKey.secondaryKey });
});

test('by IP address, the authority named by its file', async (t) => {
  const device = await hub.createDevice();
  const byAddress = await openClient(t, device, {
    connectionString: hub.deviceConnectionString(device, { host: '127.0.0.1' }), options: { ca: hub.ready.caFile } });
  await updateReported(await byAddress.getTwin(), { by: 'address' });
});

test('the authority known from NODE_EXTRA_CA_CERTS alone; by way of a gateway name', async (t) => {
  const device = await hub.createDevice();
  const gateway = `HostName=localhost;DeviceId=${device.id};SharedAccessKey=${device.key};`
    + `GatewayHostName=localhost:${hub.ready.mqttsPort}`;
  await openClient(t, device, { connectionString: gateway, options: { ca: undefined } });
});

test('a policy with DeviceConnect opens for any device, one without does not', async (t) => {
  const device = await hub.createDevice();
  const { SharedAccessKeyName: skn, SharedAccessKey: key } = hub.parts(hub.ready.ownerConnectionString);
  const { SharedAccessKey: serviceKey } = hub.parts(hub.ready.serviceConnectionString);
  const sign = (name, secret) => SharedAccessSignature
    .create(`localhost/devices/${device.id}`, name, secret, inSeconds(600)).toString();
  assert.equal(await rawConnect(device, { password: sign(skn, key) }), 0);
  assert.equal(await rawConnect(device, { password: sign('service', serviceKey) }), 5);
  assert.equal(await rawConnect(device, { password: sign('service', key) }), 5);
});

test('CONNACK 5: wrong key, expired token, unknown device, disabled device, foreign token, other host, no token',
  async (t) => {
    const device = await hub.createDevice();
    const other = await hub.createDevice();
    const wrongKey = Buffer.alloc(32, 7).toString('base64');
    await assert.rejects(openClient(t, { ...device, key: wrongKey }), unauthorized);
    await assert.rejects(openClient(t, { id: 'unknown-device', key: wrongKey }), unauthorized);
    assert.equal(await rawConnect(device), 0);
    assert.equal(await rawConnect(device, { password: deviceToken(device, { expires: inSeconds(-3600) }) }), 5);
    assert.equal(await rawConnect(device, { password: deviceToken(other) }), 5);
    assert.equal(await rawConnect(device, { clientId: other.id }), 5);
    assert.equal(await rawConnect(device, {
      password: deviceToken(device, { resource: `elsewhere.example/devices/${device.id}` }) }), 5);
    assert.equal(await rawConnect(device, { password: undefined }), 5);
    assert.equal(await rawConnect(device, { username: undefined, password: undefined }), 5);
    await hub.call('PUT', device.path, { headers: { 'if-match': '*' }, body: {
      deviceId: device.id, status: 'disabled',
      authentication: { type: 'sas', symmetricKey: { primaryKey: device.key, secondaryKey: device.key } } } });
    await assert.rejects(openClient(t, device), unauthorized);
  });

test('CONNACK 1 for MQTT 5; MQTT 3.1 is closed', async () => {
  const device = await hub.createDevice();
  assert.equal(await rawConnect(device, { protocolVersion: 5 }), 1);
  assert.equal(await rawConnect(device, { protocolId: 'MQIsdp', protocolVersion: 3 }), 'closed');
});

test('CONNACK 1, 2, 4, 5 and 6 end the first open; 3 is repeated until the hub accepts', async (t) => {
  const device = await hub.createDevice();
  for (const [code, name] of [[1, 'NotImplementedError'], [2, 'UnauthorizedError'], [4, 'UnauthorizedError'],
    [5, 'UnauthorizedError'], [6, 'UnauthorizedError']]) {
    const refused = await proxied(t, device);
    proxy.answerConnect(code);
    await assert.rejects(refused.open(), { name }, `CONNACK ${code}`);
  }
  const patient = await proxied(t, device);
  proxy.answerConnect(3, 3);
  await within(patient.open(), 'the third CONNECT');
  await patient.getTwin();
});

test('a certificate the device does not trust ends open with an error', async (t) => {
  const device = await hub.createDevice();
  const trusting = await client(t, device, { options: { ca: certificates.pem }, port: proxy.port });
  await trusting.open();
  const wrong = await client(t, device, { options: { ca: hub.ca }, port: proxy.port });
  await assert.rejects(wrong.open(), (error) => error.message.length > 0);
});

test('keep-alive: pings are answered and the connection stays', async (t) => {
  const device = await hub.createDevice();
  const before = await hub.counts();
  const quiet = await openClient(t, device, { options: { keepalive: 1 } });
  await eventually(async () => (await hub.counts()).pings >= before.pings + 3, 'three pings', 6000);
  await quiet.getTwin();
  assert.equal((await hub.counts()).connectsAccepted, before.connectsAccepted + 1);
});

/** A device that listens to everything. */
async function busyDevice(t, settings) {
  const device = await hub.createDevice();
  const busy = await client(t, device, settings);
  await busy.open();
  const twin = await busy.getTwin();
  const desired = new Inbox();
  const messages = new Inbox();
  twin.on('properties.desired', (delta) => desired.push(delta));
  busy.onDeviceMethod('echo', (request, response) => response.send(200, request.payload).catch(() => {}));
  busy.on('message', (message) => messages.push(message.getData().toString()));
  await desired.next('the initial desired properties');
  await listening(twin);
  return { device, client: busy, twin, desired, messages };
}

const invoke = (device, methodName, payload) => hub.call('POST', `/twins/${device.id}/methods`,
  { body: { methodName, payload, responseTimeoutInSeconds: 10, connectTimeoutInSeconds: 5 } });

/** Everything that can reach a device reaches it, and what it sends arrives. */
async function allDeliveries({ device, client: connected, twin, desired, messages }, round) {
  await hub.patchTwin(device, { properties: { desired: { round } } });
  assert.equal((await desired.next(`desired properties, round ${round}`)).round, round);
  await within(updateReported(twin, { round }), `a reported update, round ${round}`);
  assert.deepEqual(await invoke(device, 'echo', { round }), { status: 200, payload: { round } });
  await hub.enqueue(device, `message ${round}`);
  assert.equal(await messages.next(`a message, round ${round}`), `message ${round}`);
  await within(connected.sendEvent(new Message('telemetry')), `telemetry, round ${round}`);
}

test('token renewal: the device reconnects with a new token, subscribes to nothing, and everything is delivered',
  async (t) => {
    const renewing = await busyDevice(t, {
      options: { tokenRenewal: { tokenValidTimeInSeconds: 5, tokenRenewalMarginInSeconds: 2 } } });
    await allDeliveries(renewing, 1);
    const before = await hub.counts();
    for (const renewal of [1, 2]) {
      await eventually(async () => (await hub.counts()).connectsAccepted >= before.connectsAccepted + renewal,
        `renewal ${renewal}`, 8000);
      await allDeliveries(renewing, 1 + renewal);
    }
    const now = await hub.counts();
    assert.equal(now.subscribes, before.subscribes);
    assert.equal(now.connectsRefused, before.connectsRefused);
  });

test('a token that expires on a live connection ends the connection', async (t) => {
  const device = await hub.createDevice();
  const before = await hub.counts();
  const token = deviceToken(device, { resource: `localhost:${hub.ready.mqttsPort}/devices/${device.id}`,
    expires: inSeconds(2) });
  const fixed = await client(t, device, { connectionString:
    `HostName=localhost:${hub.ready.mqttsPort};DeviceId=${device.id};SharedAccessSignature=${token}` });
  await fixed.open();
  await fixed.getTwin();
  await eventually(async () => (await hub.counts()).disconnectsTokenExpired > before.disconnectsTokenExpired,
    'the hub to close the connection', 10000);
});

/** A busy device whose connection passes through `network`, below TLS. */
async function overNetwork(t) {
  const network = await MqttProxy.start({ target: hub.ready.mqttsPort });
  t.after(() => network.stop());
  return { network, busy: await busyDevice(t, { port: network.port }) };
}

const isConnected = (device) => eventually(
  async () => (await hub.call('GET', device.path)).connectionState === 'Connected', 'the device to be connected');

test('socket kill: the device comes back by itself and everything is delivered', async (t) => {
  const { network, busy } = await overNetwork(t);
  await allDeliveries(busy, 1);
  for (const round of [2, 3]) {
    const { connections } = network;
    network.cut();
    await eventually(() => network.connections > connections, 'a new connection');
    await isConnected(busy.device);
    await allDeliveries(busy, round);
  }
});

test('network reset: the SDK says "disconnect"; opened again, it subscribes to nothing and everything is delivered',
  async (t) => {
    const { network, busy } = await overNetwork(t);
    await allDeliveries(busy, 1);
    const disconnected = new Inbox();
    busy.client.on('disconnect', (result) => disconnected.push(result));
    const { subscribes } = await hub.counts();
    network.cut({ reset: true });
    await disconnected.next('the disconnect event');
    await busy.client.open();
    await allDeliveries(busy, 2);
    assert.equal((await hub.counts()).subscribes, subscribes);
  });

test('the hub drops a device; it comes back by itself', async (t) => {
  const busy = await busyDevice(t);
  const before = await hub.counts();
  await hub.call('POST', `/twinstorm/devices/${busy.device.id}/disconnect`);
  await eventually(async () => (await hub.counts()).connectsAccepted > before.connectsAccepted, 'a new connection');
  await allDeliveries(busy, 2);
});

test('a second client with the same id: the newest wins, the older is closed without a packet', async (t) => {
  const device = await hub.createDevice();
  const older = await openClient(t, device);
  const before = await hub.counts();
  const newer = await openClient(t, device);
  const newerTwin = await newer.getTwin();
  assert.equal((await hub.counts()).disconnectsTakeOver, before.disconnectsTakeOver + 1);
  await updateReported(newerTwin, { by: 'newer' });
  // The older one has no listeners: it stays away until it is used, and is then the newest itself.
  await within(older.getTwin(), 'the older client to come back');
  assert.equal((await hub.counts()).disconnectsTakeOver, before.disconnectsTakeOver + 2);
});

test('two clients that listen under one id fight for it; the hub slows them down and serves others', async (t) => {
  const device = await hub.createDevice();
  const bystander = await openClient(t, await hub.createDevice());
  const before = await hub.counts();
  for (let i = 0; i < 2; i += 1) {
    const fighter = spawn(process.execPath, [path.join(__dirname, 'lib', 'listener.js')], {
      stdio: 'ignore', env: { ...process.env, TWINSTORM_LISTENER: hub.deviceConnectionString(device) } });
    t.after(() => fighter.kill('SIGKILL'));
  }
  await eventually(async () => (await hub.counts()).disconnectsTakeOver > before.disconnectsTakeOver, 'a take-over');
  const end = Date.now() + 2000;
  while (Date.now() < end) await within(bystander.getTwin(), 'the twin of another device', 1000);
  const fights = (await hub.counts()).disconnectsTakeOver - before.disconnectsTakeOver;
  // Without a brake it is hundreds a second.
  assert.ok(fights >= 1 && fights <= 20, `${fights} take-overs in 2 s`);
});

test('device ids with every allowed kind of character', async (t) => {
  for (const id of ["Dev(1)*'!", 'a.b_c-d:e=f@g', '100%25', 'q?x,y', '$dollar']) {
    const device = await hub.createDevice({ id });
    const odd = await openClient(t, device);
    const twin = await odd.getTwin();
    await updateReported(twin, { id });
    await odd.sendEvent(new Message('x'));
    await odd.close();
    assert.equal((await hub.serviceTwin(device)).properties.reported.id, id);
  }
});
