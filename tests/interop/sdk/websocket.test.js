// MQTT over WebSocket: the SDK dials wss://localhost:443/$iothub/websocket.
'use strict';
const assert = require('node:assert/strict');
const https = require('node:https');
const { test } = require('node:test');

const { Message } = require('azure-iot-common');
const { MqttWs } = require('azure-iot-device-mqtt');
const { Client: ServiceClient } = require('azure-iothub');

const hub = require('./lib/hub.js');
const { openClient, updateReported, listening, Inbox, within, eventually } = require('./lib/clients.js');

const service = ServiceClient.fromConnectionString(hub.ready.serviceConnectionString);

/** By the documented option, or by port 443 (led elsewhere by the preload). */
const byAgent = () => ({ transport: MqttWs, port: false, options: { mqtt: { webSocketAgent: hub.agent() } } });
const by443 = () => ({ transport: MqttWs, port: false });

/** Everything a device does, over one client. */
async function wholeRound(device, client) {
  const twin = await client.getTwin();
  const deltas = new Inbox();
  const messages = new Inbox();
  twin.on('properties.desired', (delta) => deltas.push(delta));
  client.on('message', (message) => messages.push(message.getData().toString()));
  client.onDeviceMethod('echo', (request, response) => response.send(200, request.payload).catch(() => {}));
  await deltas.next('the initial desired properties');
  await listening(twin);
  await hub.patchTwin(device, { properties: { desired: { wanted: 1 } } });
  assert.equal((await deltas.next('the change')).wanted, 1);
  await updateReported(twin, { by: 'websocket' });
  await within(client.sendEvent(new Message('telemetry')), 'the acknowledgement');
  await hub.enqueue(device, 'hello');
  assert.equal(await messages.next('a message'), 'hello');
  const { result } = await service.invokeDeviceMethod(device.id,
    { methodName: 'echo', payload: { n: 1 }, responseTimeoutInSeconds: 10 });
  assert.deepEqual(result, { status: 200, payload: { n: 1 } });
}

test('through an agent on another port: twin, telemetry, method, message', async (t) => {
  const device = await hub.createDevice();
  const { websocketUpgrades } = await hub.counts();
  await wholeRound(device, await openClient(t, device, byAgent()));
  assert.equal((await hub.counts()).websocketUpgrades, websocketUpgrades + 1);
});

test('on port 443: twin, telemetry, method, message', async (t) => {
  const device = await hub.createDevice();
  await wholeRound(device, await openClient(t, device, by443()));
});

test('telemetry of 256 KiB passes in many frames', async (t) => {
  const device = await hub.createDevice();
  const client = await openClient(t, device, byAgent());
  await within(client.sendEvent(new Message(Buffer.alloc(262144, 120))), 'the acknowledgement');
  await client.getTwin();
});

test('a twin of 32 KiB passes', async (t) => {
  const device = await hub.createDevice();
  const desired = Object.fromEntries(Array.from({ length: 8 }, (_, i) => [`k${i}`, 'x'.repeat(4000)]));
  await hub.patchTwin(device, { properties: { desired } });
  const client = await openClient(t, device, byAgent());
  const twin = await within(client.getTwin(), 'the twin');
  assert.equal(twin.properties.desired.k7.length, 4000);
});

test('a wrong key is refused', async (t) => {
  const device = await hub.createDevice();
  await assert.rejects(openClient(t, { ...device, key: Buffer.alloc(32).toString('base64') }, byAgent()),
    { name: 'UnauthorizedError' });
});

test('token renewal reconnects and subscribes to nothing', async (t) => {
  const device = await hub.createDevice();
  const settings = byAgent();
  settings.options.tokenRenewal = { tokenValidTimeInSeconds: 5, tokenRenewalMarginInSeconds: 2 };
  const client = await openClient(t, device, settings);
  const twin = await client.getTwin();
  const deltas = new Inbox();
  twin.on('properties.desired', (delta) => deltas.push(delta));
  await deltas.next('the initial desired properties');
  await listening(twin);
  const before = await hub.counts();
  await eventually(async () => (await hub.counts()).connectsAccepted > before.connectsAccepted, 'the renewal');
  await hub.patchTwin(device, { properties: { desired: { after: 'renewal' } } });
  assert.equal((await deltas.next('a delivery after the renewal')).after, 'renewal');
  assert.equal((await hub.counts()).subscribes, before.subscribes);
});

/** Asks for an upgrade; resolves to `{status, headers}`. */
function upgrade(path, headers = {}) {
  return new Promise((resolve, reject) => {
    const all = {
      connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-version': '13',
      'sec-websocket-key': Buffer.alloc(16, 1).toString('base64'), 'sec-websocket-protocol': 'mqtt', ...headers,
    };
    const call = https.request({
      host: 'localhost', port: hub.ready.httpsPort, ca: hub.ca, path, agent: false, headers: all });
    call.on('upgrade', (answer, socket) => {
      socket.destroy();
      resolve({ status: answer.statusCode, headers: answer.headers });
    });
    call.on('response', (answer) => {
      answer.resume();
      resolve({ status: answer.statusCode, headers: answer.headers });
    });
    call.on('error', reject);
    call.end();
  });
}

test('the upgrade answers 101 with protocol mqtt, also with the query of other SDKs, without compression', async () => {
  const offer = { 'sec-websocket-extensions': 'permessage-deflate; client_max_window_bits' };
  for (const path of ['/$iothub/websocket', '/$iothub/websocket?iothub-no-client-cert=true']) {
    const { status, headers } = await upgrade(path, offer);
    assert.equal(status, 101);
    assert.equal(headers['sec-websocket-protocol'], 'mqtt');
    assert.equal(headers['sec-websocket-extensions'], undefined);
    assert.equal(headers['sec-websocket-accept'], '5tWd1XMQfqfRMZqGrwjPEgEvyeE=');
  }
});

test('other paths, versions and protocols are no upgrade', async () => {
  assert.ok((await upgrade('/other')).status >= 400);
  assert.ok((await upgrade('/$iothub/websocket', { 'sec-websocket-version': '8' })).status >= 400);
  assert.ok((await upgrade('/$iothub/websocket', { 'sec-websocket-protocol': 'chat' })).status >= 400);
});
