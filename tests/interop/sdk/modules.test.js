// Module identities: their own connection, twin, telemetry, outputs, methods, inputs.
'use strict';
const assert = require('node:assert/strict');
const { test } = require('node:test');

const { Message } = require('azure-iot-common');
const { Client: ServiceClient, Registry } = require('azure-iothub');

const hub = require('./lib/hub.js');
const { openClient, updateReported, listening, Inbox, within } = require('./lib/clients.js');

const service = ServiceClient.fromConnectionString(hub.ready.serviceConnectionString);
const registry = Registry.fromConnectionString(hub.ready.ownerConnectionString);

async function newModule(name = 'sensors') {
  const device = await hub.createDevice();
  return { device, module: await hub.createModule(device, name) };
}

test('twin: get, report, desired changes; the device\'s own twin is another one', async (t) => {
  const { device, module } = await newModule();
  const client = await openClient(t, module);
  const twin = await client.getTwin();
  await updateReported(twin, { kind: 'module' });
  const deltas = new Inbox();
  twin.on('properties.desired', (delta) => deltas.push(delta));
  await deltas.next('the initial desired properties');
  await listening(twin);
  await registry.updateModuleTwin(device.id, module.moduleId, { properties: { desired: { rate: 5 } } }, '*');
  assert.equal((await deltas.next('the change')).rate, 5);
  const { responseBody: stored } = await registry.getModuleTwin(device.id, module.moduleId);
  assert.equal(stored.properties.reported.kind, 'module');
  const { responseBody: deviceTwin } = await registry.getTwin(device.id);
  assert.equal('kind' in deviceTwin.properties.reported, false);
});

test('telemetry and outputs, with and without properties', async (t) => {
  const { module } = await newModule();
  const client = await openClient(t, module);
  await hub.watch(module);
  await within(client.sendEvent(new Message('plain')), 'telemetry');
  await within(client.sendOutputEvent('alerts', new Message('output')), 'an output');
  const message = new Message('with properties');
  message.messageId = 'm1';
  message.properties.add('a', 'b/c');
  await within(client.sendOutputEvent('alerts', message), 'an output with properties');
  const events = await hub.watch(module);
  assert.deepEqual(events.map((event) => Buffer.from(event.body, 'base64').toString()),
    ['plain', 'output', 'with properties']);
  assert.deepEqual(events[2].properties, { a: 'b/c' });
  assert.match(JSON.stringify(events[1].systemProperties), /alerts/);
});

test('methods of a module', async (t) => {
  const { device, module } = await newModule();
  const client = await openClient(t, module);
  const twin = await client.getTwin();
  client.onMethod('sum', (request, response) => {
    response.send(200, { sum: request.payload.a + request.payload.b }).catch(() => {});
  });
  await listening(twin);
  const { result } = await service.invokeDeviceMethod(device.id, module.moduleId,
    { methodName: 'sum', payload: { a: 2, b: 3 }, responseTimeoutInSeconds: 10 });
  assert.deepEqual(result, { status: 200, payload: { sum: 5 } });
});

test('inputs of a module', async (t) => {
  const { device, module } = await newModule();
  const client = await openClient(t, module);
  const inputs = new Inbox();
  client.on('inputMessage', (name, message) => inputs.push([name, message.getData().toString()]));
  await listening(await client.getTwin());
  await hub.call('POST', `/twinstorm/devices/${device.id}/modules/${module.moduleId}/inputs/commands`,
    { body: 'go', headers: { 'content-type': 'text/plain' } });
  assert.deepEqual(await inputs.next('the input'), ['commands', 'go']);
});

test('a device and its modules are connected side by side', async (t) => {
  const { device, module } = await newModule();
  const second = await hub.createModule(device, 'other');
  const before = await hub.counts();
  for (const identity of [device, module, second]) await openClient(t, identity);
  const now = await hub.counts();
  assert.equal(now.connectedDevices, before.connectedDevices + 3);
  assert.equal(now.disconnectsTakeOver, before.disconnectsTakeOver);
});

test('a module key opens its module only; an unknown module is refused', async (t) => {
  const { device, module } = await newModule();
  const other = await hub.createModule(device, 'other');
  await assert.rejects(openClient(t, { ...other, key: module.key }), { name: 'UnauthorizedError' });
  await assert.rejects(openClient(t, { ...module, moduleId: 'missing' }), { name: 'UnauthorizedError' });
});
