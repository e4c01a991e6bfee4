// The IoT Hub device twin tutorial with the official packages: a device application and a back-end application.
'use strict';
const assert = require('node:assert/strict');
const { before, after, test } = require('node:test');

const { Client } = require('azure-iot-device');
const { Mqtt } = require('azure-iot-device-mqtt');
const { Registry } = require('azure-iothub');

const hub = require('./lib/hub.js');
const { updateReported, listening, Inbox } = require('./lib/clients.js');

const registry = Registry.fromConnectionString(hub.ready.ownerConnectionString);
let device;
let client;
let twin;
const desired = new Inbox();
const climate = new Inbox();
const systemControl = new Inbox();

before(async () => { device = await hub.createDevice({ id: 'tutorial-device' }); });
after(() => client.close());

test('device: opens the connection', async () => {
  client = Client.fromConnectionString(hub.deviceConnectionString(device), Mqtt);
  await client.setOptions({ ca: hub.ca });
  await client.open();
});

test('device: gets the twin', async () => {
  twin = await client.getTwin();
  assert.ok(twin.properties.desired);
  assert.ok(twin.properties.reported);
});

test('device: reports connectivity.type = cellular', async () => {
  await updateReported(twin, { connectivity: { type: 'cellular' } });
});

test('device: listens to all desired changes, to a group and to one property', async () => {
  twin.on('properties.desired', (delta) => desired.push(delta));
  twin.on('properties.desired.climate', (delta) => {
    climate.push({ delta, min: twin.properties.desired.climate.minTemperature,
      max: twin.properties.desired.climate.maxTemperature });
  });
  twin.on('properties.desired.climate.hvac.systemControl', (delta) => {
    systemControl.push({ delta, fanOn: twin.properties.desired.climate.hvac.systemControl.fanOn });
  });
  assert.deepEqual(await desired.next('the initial desired properties'), { $version: 1 });
  await listening(twin);
});

test('back end: gets the twin and patches tags and desired properties together', async () => {
  const { responseBody: stored } = await registry.getTwin(device.id);
  assert.equal(stored.deviceId, device.id);
  assert.equal(stored.properties.reported.connectivity.type, 'cellular');
  await stored.update({
    tags: { location: { region: 'US', plant: 'Redmond43' } },
    properties: { desired: { climate: { minTemperature: 68, maxTemperature: 76 } } },
  });
  assert.deepEqual(stored.tags, { location: { region: 'US', plant: 'Redmond43' } });
  assert.equal(stored.properties.desired.$version, 2);
});

test('device: the group listener fires and the twin object shows the new values', async () => {
  assert.deepEqual(await desired.next('the patch'),
    { climate: { minTemperature: 68, maxTemperature: 76 }, $version: 2 });
  assert.deepEqual(await climate.next('the group'),
    { delta: { minTemperature: 68, maxTemperature: 76 }, min: 68, max: 76 });
  assert.equal(systemControl.size, 0);
});

test('back end patches fanOn; device: the listener of one property fires', async () => {
  await registry.updateTwin(device.id,
    { properties: { desired: { climate: { hvac: { systemControl: { fanOn: true } } } } } }, '*');
  assert.deepEqual(await systemControl.next('the property'), { delta: { fanOn: true }, fanOn: true });
  assert.deepEqual((await climate.next('the group')).delta, { hvac: { systemControl: { fanOn: true } } });
  assert.deepEqual(await desired.next('the patch'),
    { climate: { hvac: { systemControl: { fanOn: true } } }, $version: 3 });
  assert.deepEqual(twin.properties.desired.climate,
    { minTemperature: 68, maxTemperature: 76, hvac: { systemControl: { fanOn: true } } });
});

test('back end: a failing update carries class name and message', async () => {
  await assert.rejects(registry.updateTwin('no-such-device', { tags: {} }, '*'),
    { name: 'DeviceNotFoundError', message: /no-such-device/ });
});

const plant = "SELECT * FROM devices WHERE tags.location.plant = 'Redmond43'";
const cellular = `${plant} AND properties.reported.connectivity.type = 'cellular'`;

/** The tutorial's loop: pages as twins, until there are no more. */
async function deviceIds(query) {
  const ids = [];
  let pages = 0;
  while (query.hasMoreResults && (pages += 1) < 50) {
    const { result } = await query.nextAsTwin();
    ids.push(...result.map((each) => each.deviceId));
  }
  return { ids: ids.sort(), pages };
}

test('back end: query 1 finds the devices of the plant', async () => {
  assert.deepEqual((await deviceIds(registry.createQuery(plant, 100))).ids, [device.id]);
});

test('back end: query 2 finds those of them on a cellular network', async () => {
  const wired = await hub.createDevice({ id: 'tutorial-wired' });
  await hub.patchTwin(wired, { tags: { location: { region: 'US', plant: 'Redmond43' } } });
  assert.deepEqual((await deviceIds(registry.createQuery(plant, 100))).ids, [device.id, wired.id]);
  assert.deepEqual((await deviceIds(registry.createQuery(cellular, 100))).ids, [device.id]);
});

test('back end: pages follow hasMoreResults, each device once', async () => {
  const names = Array.from({ length: 7 }, (_, i) => `paged-${i}`);
  await hub.call('POST', '/devices', {
    body: names.map((id) => ({ id, importMode: 'create', status: 'enabled', tags: { line: 'paged' } })),
  });
  const select = "SELECT * FROM devices WHERE tags.line = 'paged'";
  for (const [size, pages] of [[1, 7], [3, 3], [7, 1], [100, 1]]) {
    assert.deepEqual(await deviceIds(registry.createQuery(select, size)), { ids: names, pages });
  }
  assert.deepEqual((await deviceIds(registry.createQuery(select))).ids, names);
});

test('back end: twins of a query can be updated in place', async () => {
  const query = registry.createQuery(cellular, 100);
  const { result: [found] } = await query.nextAsTwin();
  await found.update({ tags: { seen: true } });
  assert.equal(found.tags.seen, true);
  await hub.patchTwin(device, { tags: { seen: 'by another back end' } });
  await assert.rejects(found.update({ tags: { seen: false } }), { name: 'InvalidEtagError' });
});

test('back end: next gives the plain rows of aggregates and projections', async () => {
  const count = registry.createQuery("SELECT COUNT() AS n FROM devices WHERE tags.line = 'paged'", 100);
  assert.deepEqual((await count.next()).result, [{ n: 7 }]);
  assert.equal(count.hasMoreResults, false);

  const rows = registry.createQuery("SELECT deviceId FROM devices WHERE tags.line = 'paged'", 4);
  const first = await rows.next();
  assert.equal(first.result.length, 4);
  const second = await rows.next(rows.continuationToken);
  assert.deepEqual([...first.result, ...second.result].map((row) => row.deviceId).sort(),
    Array.from({ length: 7 }, (_, i) => `paged-${i}`));
  assert.equal(rows.hasMoreResults, false);
});

test('back end: a query that cannot be parsed is an ArgumentError', async () => {
  await assert.rejects(registry.createQuery('SELECT * FROM', 10).nextAsTwin(), { name: 'ArgumentError' });
});

test('device: a failing open is caught and has a message', async () => {
  const stranger = Client.fromConnectionString(
    hub.deviceConnectionString({ id: 'nobody', key: Buffer.alloc(32).toString('base64') }), Mqtt);
  await stranger.setOptions({ ca: hub.ca });
  await assert.rejects(stranger.open(), (error) => error.name === 'UnauthorizedError' && error.message.length > 0);
});
