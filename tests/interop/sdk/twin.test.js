// Twins as the device SDK's Twin object sees them.
'use strict';
const assert = require('node:assert/strict');
const { test } = require('node:test');

const hub = require('./lib/hub.js');
const { openClient, updateReported, listening, Inbox, within } = require('./lib/clients.js');

/** Collects `[path, value]` of every event of the given paths. */
function listen(twin, ...paths) {
  const events = new Inbox();
  for (const path of paths) twin.on(path, (value) => events.push([path, structuredClone(value)]));
  return events;
}

test('open and getTwin give desired and reported with their versions and nothing else', async (t) => {
  const device = await hub.createDevice();
  await hub.patchTwin(device, { tags: { hidden: true }, properties: { desired: { led: true } } });
  const client = await openClient(t, device);
  const twin = await client.getTwin();
  assert.deepEqual(JSON.parse(JSON.stringify(twin.properties)), {
    desired: { led: true, $version: 2 },
    reported: { $version: 1 },
  });
});

test('a listener hears the initial value, then deltas, then null for a removed member', async (t) => {
  const device = await hub.createDevice();
  await hub.patchTwin(device, { properties: { desired: { tele: { freq: 5, unit: 's' }, led: true } } });
  const client = await openClient(t, device);
  const twin = await client.getTwin();
  const events = listen(twin, 'properties.desired');
  assert.deepEqual(await events.next('the initial value'),
    ['properties.desired', { tele: { freq: 5, unit: 's' }, led: true, $version: 2 }]);

  await listening(twin);
  await hub.patchTwin(device, { properties: { desired: { tele: { freq: 9 }, led: null } } });
  const [, delta] = await events.next('the delta');
  assert.deepEqual({ ...delta, $version: 0 }, { tele: { freq: 9 }, led: null, $version: 0 });
  assert.deepEqual(twin.properties.desired.tele, { freq: 9, unit: 's' });
  assert.equal('led' in twin.properties.desired, false);
});

test('listeners of a group and of one property fire for their part only, parents first', async (t) => {
  const device = await hub.createDevice();
  const client = await openClient(t, device);
  const twin = await client.getTwin();
  const events = listen(twin, 'properties.desired', 'properties.desired.a', 'properties.desired.a.b',
    'properties.desired.a.b.c', 'properties.desired.other');
  await events.next('the initial value');
  await listening(twin);
  await hub.patchTwin(device, { properties: { desired: { a: { b: { c: 1 } } } } });
  const order = [];
  for (let i = 0; i < 4; i += 1) order.push((await events.next('an event'))[0].slice('properties.desired'.length));
  assert.deepEqual(order, ['', '.a', '.a.b', '.a.b.c']);
  assert.equal(events.size, 0);
});

test('replacing desired properties sends null for the members that vanished', async (t) => {
  const device = await hub.createDevice();
  await hub.patchTwin(device, { properties: { desired: { a: 1, b: 2 } } });
  const client = await openClient(t, device);
  const twin = await client.getTwin();
  const events = listen(twin, 'properties.desired');
  await events.next('the initial value');
  await listening(twin);
  await hub.call('PUT', `/twins/${device.id}`, { body: { properties: { desired: { a: 1, c: 100 } } } });
  const [, delta] = await events.next('the replacement');
  assert.equal(delta.b, null);
  assert.equal(delta.c, 100);
  assert.equal(twin.properties.desired.c, 100);
  assert.equal('b' in twin.properties.desired, false);
});

test('reported updates merge, null removes, and the service sees them', async (t) => {
  const device = await hub.createDevice();
  const client = await openClient(t, device);
  const twin = await client.getTwin();
  await updateReported(twin, { fw: '1.1', a: { b: 1, c: [1, { d: 'ü' }] } });
  await updateReported(twin, { a: { b: null, e: false } });
  const { reported } = (await hub.serviceTwin(device)).properties;
  assert.equal(reported.$version, 3);
  delete reported.$metadata;
  assert.deepEqual(reported, { fw: '1.1', a: { c: [1, { d: 'ü' }], e: false }, $version: 3 });
  assert.deepEqual(twin.properties.reported.a, { c: [1, { d: 'ü' }], e: false });
});

test('twin errors reach the application with the hub\'s message and change nothing', async (t) => {
  const device = await hub.createDevice();
  const client = await openClient(t, device);
  const twin = await client.getTwin();
  await assert.rejects(updateReported(twin, { big: Array.from({ length: 10 }, () => 'x'.repeat(4000)) }), {
    message: /size should be less than 32768/,
  });
  await assert.rejects(updateReported(twin, { 'a.b': 1 }), (error) => error.message.length > 0);
  await assert.rejects(updateReported(twin, { n: 4503599627370496 }), (error) => error.message.length > 0);
  assert.equal('big' in twin.properties.reported, false);
  await updateReported(twin, { still: 'alive' });
  const { reported } = (await hub.serviceTwin(device)).properties;
  assert.deepEqual(Object.keys(reported).sort(), ['$metadata', '$version', 'still']);
});

test('getTwin and updates after close and open again need no new subscription', async (t) => {
  const device = await hub.createDevice();
  const client = await openClient(t, device);
  const twin = await client.getTwin();
  const events = listen(twin, 'properties.desired');
  await events.next('the initial value');
  await listening(twin);
  const { subscribes } = await hub.counts();
  await client.close();
  await client.open();
  await hub.patchTwin(device, { properties: { desired: { after: 'reopening' } } });
  assert.equal((await events.next('a delivery after reopening'))[1].after, 'reopening');
  await within(updateReported(twin, { reopened: true }), 'an update after reopening');
  assert.equal((await hub.counts()).subscribes, subscribes);
});
