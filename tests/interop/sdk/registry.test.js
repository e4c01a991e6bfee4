// The service SDK's Registry: identities, bulk, modules, twins, statistics, preconditions.
'use strict';
const assert = require('node:assert/strict');
const { test } = require('node:test');

const { Registry } = require('azure-iothub');

const hub = require('./lib/hub.js');
const { openClient } = require('./lib/clients.js');

const registry = Registry.fromConnectionString(hub.ready.ownerConnectionString);
const missing = { name: 'DeviceNotFoundError' };
const stale = { name: 'InvalidEtagError' };

test('create makes keys, get gives the same identity, delete removes it', async () => {
  const { responseBody: created } = await registry.create({ deviceId: 'created' });
  assert.equal(created.deviceId, 'created');
  assert.equal(created.status, 'enabled');
  assert.equal(created.connectionState, 'Disconnected');
  assert.equal(created.authentication.type, 'sas');
  assert.equal(Buffer.from(created.authentication.symmetricKey.primaryKey, 'base64').length, 32);
  assert.ok(created.generationId && created.etag);
  const { responseBody: got } = await registry.get('created');
  assert.equal(got.etag, created.etag);
  assert.deepEqual(got.authentication, created.authentication);
  await registry.delete('created');
  await assert.rejects(registry.get('created'), missing);
});

test('create with given keys keeps them; with a thumbprint the type is selfSigned', async () => {
  const symmetricKey = { primaryKey: Buffer.alloc(32, 1).toString('base64'),
    secondaryKey: Buffer.alloc(32, 2).toString('base64') };
  const { responseBody: keyed } = await registry.create({ deviceId: 'keyed', authentication: { symmetricKey } });
  assert.deepEqual({ ...keyed.authentication.symmetricKey }, symmetricKey);
  const x509Thumbprint = { primaryThumbprint: 'A1'.repeat(20), secondaryThumbprint: 'B2'.repeat(20) };
  const { responseBody: printed } = await registry.create({ deviceId: 'printed', authentication: { x509Thumbprint } });
  assert.equal(printed.authentication.type, 'selfSigned');
  assert.equal(printed.authentication.x509Thumbprint.primaryThumbprint, x509Thumbprint.primaryThumbprint);
});

test('a second create of the same id is DeviceAlreadyExistsError', async () => {
  await registry.create({ deviceId: 'twice' });
  await assert.rejects(registry.create({ deviceId: 'twice' }), { name: 'DeviceAlreadyExistsError' });
});

test('update, unconditionally and with an ETag; a stale ETag is refused', async () => {
  const { responseBody: created } = await registry.create({ deviceId: 'updated' });
  const { authentication } = created;
  const body = { deviceId: 'updated', authentication, status: 'disabled', statusReason: 'repair' };
  const { responseBody: disabled } = await registry.update(body);
  assert.equal(disabled.status, 'disabled');
  assert.equal(disabled.statusReason, 'repair');
  assert.notEqual(disabled.etag, created.etag);
  await registry.update({ ...body, status: 'enabled', etag: disabled.etag });
  // The SDK's update always sends `*`: the stale one goes through the bulk call and through REST.
  const answer = await hub.request('PUT', '/devices/updated', { body, headers: { 'if-match': `"${created.etag}"` } });
  assert.equal(answer.status, 412);
  assert.equal(answer.headers['iothub-errorcode'], 'PreconditionFailed');
  await assert.rejects(registry.update({ deviceId: 'missing-device' }), missing);
});

test('a disabled device is cut off and may come back when enabled', async (t) => {
  const device = await hub.createDevice();
  const client = await openClient(t, device);
  const { responseBody: identity } = await registry.get(device.id);
  await registry.update({ deviceId: device.id, authentication: identity.authentication, status: 'disabled' });
  await assert.rejects(openClient(t, device), { name: 'UnauthorizedError' });
  assert.equal((await registry.get(device.id)).responseBody.connectionState, 'Disconnected');
  await client.close();
  await registry.update({ deviceId: device.id, authentication: identity.authentication, status: 'enabled' });
  await openClient(t, device);
});

test('delete of what is not there is DeviceNotFoundError', async () => {
  await assert.rejects(registry.delete('missing-device'), missing);
});

test('addDevices, updateDevices and removeDevices work on many at once', async () => {
  const devices = Array.from({ length: 100 }, (_, i) => ({ deviceId: `bulk-${i}` }));
  const { responseBody: added } = await registry.addDevices(devices);
  assert.deepEqual({ ...added }, { isSuccessful: true, errors: [], warnings: [] });
  const { responseBody: some } = await registry.get('bulk-99');
  assert.ok(some.authentication.symmetricKey.primaryKey);
  const changes = [{ deviceId: 'bulk-0', status: 'disabled' }, { deviceId: 'bulk-1', status: 'enabled' }];
  await registry.updateDevices(changes, true);
  assert.equal((await registry.get('bulk-0')).responseBody.status, 'disabled');
  await registry.updateDevices([{ deviceId: 'bulk-99', etag: some.etag, status: 'disabled' }], false);
  await assert.rejects(registry.updateDevices([{ deviceId: 'bulk-99', etag: some.etag, status: 'enabled' }], false),
    (error) => error.name === 'ArgumentError' && JSON.parse(error.responseBody).isSuccessful === false);
  const { responseBody: removed } = await registry.removeDevices(devices, true);
  assert.equal(removed.isSuccessful, true);
  await assert.rejects(registry.get('bulk-50'), missing);
});

test('a bulk call tells which devices failed', async () => {
  await registry.create({ deviceId: 'present' });
  await assert.rejects(registry.addDevices([{ deviceId: 'fresh' }, { deviceId: 'present' }]), (error) => {
    assert.equal(error.name, 'ArgumentError');
    const { isSuccessful, errors } = JSON.parse(error.responseBody);
    assert.equal(isSuccessful, false);
    assert.equal(errors.length, 1);
    assert.equal(errors[0].deviceId, 'present');
    assert.equal(errors[0].errorCode, 'DeviceAlreadyExists');
    return true;
  });
  await registry.get('fresh');
});

test('more than 100 at once, and the same id twice, are refused', async () => {
  const many = Array.from({ length: 101 }, (_, i) => ({ deviceId: `many-${i}` }));
  await assert.rejects(registry.addDevices(many), { name: 'ArgumentError' });  // by the SDK
  const answer = await hub.request('POST', '/devices',
    { body: many.map(({ deviceId }) => ({ id: deviceId, importMode: 'create', status: 'enabled' })) });
  assert.equal(answer.status, 400);
  await assert.rejects(registry.addDevices([{ deviceId: 'same' }, { deviceId: 'same' }]), { name: 'ArgumentError' });
});

test('list and statistics', async () => {
  await registry.create({ deviceId: 'listed' });
  const { responseBody: devices } = await registry.list();
  assert.ok(devices.some(({ deviceId }) => deviceId === 'listed'));
  const { responseBody: statistics } = await registry.getRegistryStatistics();
  assert.equal(statistics.totalDeviceCount, devices.length);
  assert.equal(statistics.enabledDeviceCount + statistics.disabledDeviceCount, statistics.totalDeviceCount);
});

test('modules: add, get, list, update, remove', async () => {
  await registry.create({ deviceId: 'host' });
  await registry.addModule({ deviceId: 'host', moduleId: 'm1' });
  await registry.addModule({ deviceId: 'host', moduleId: 'm2' });
  await assert.rejects(registry.addModule({ deviceId: 'host', moduleId: 'm1' }),
    (error) => error.response.statusCode === 409);
  const { responseBody: module } = await registry.getModule('host', 'm1');
  assert.equal(module.moduleId, 'm1');
  assert.ok(module.authentication.symmetricKey.primaryKey);
  const { responseBody: modules } = await registry.getModulesOnDevice('host');
  assert.deepEqual(modules.map(({ moduleId }) => moduleId).sort(), ['m1', 'm2']);
  const { responseBody: changed } = await registry.updateModule({ ...module, managedBy: 'me' });
  assert.equal(changed.managedBy, 'me');
  await assert.rejects(registry.updateModule({ ...module, managedBy: 'late' }), stale);
  await registry.updateModule({ ...module, managedBy: 'forced' }, true);
  await registry.removeModule('host', 'm1');
  await assert.rejects(registry.getModule('host', 'm1'), (error) => error.response.statusCode === 404);
  const { responseBody: rest } = await registry.getModulesOnDevice('host');
  assert.deepEqual(rest.map(({ moduleId }) => moduleId), ['m2']);
});

test('twins: tags, desired, null, ETags', async () => {
  await registry.create({ deviceId: 'twin' });
  const { responseBody: fresh } = await registry.getTwin('twin');
  assert.equal(fresh.etag, 'AAAAAAAAAAE=');
  assert.deepEqual(fresh.tags, {});
  const { responseBody: one } = await registry.updateTwin('twin', { tags: { a: { b: 1, c: 2 } } }, fresh.etag);
  assert.equal(one.etag, 'AAAAAAAAAAI=');
  const { responseBody: two } = await registry.updateTwin('twin',
    { tags: { a: { b: null } }, properties: { desired: { list: [1, 2], deep: { x: 'y' } } } }, '*');
  assert.deepEqual(two.tags, { a: { c: 2 } });
  assert.deepEqual(two.properties.desired.list, [1, 2]);
  assert.equal(two.properties.desired.$version, 2);
  assert.ok(two.properties.desired.$metadata.deep.x.$lastUpdated);
  await assert.rejects(registry.updateTwin('twin', { tags: { late: true } }, one.etag), stale);
  await two.get();
  assert.equal(two.tags.late, undefined);
});

test('ids that need encoding in a path', async () => {
  for (const deviceId of ["a:b#c?d'e!f(g)h*i", '100%25', 'x,y=z@$', 'plus+plus']) {
    await registry.create({ deviceId });
    assert.equal((await registry.get(deviceId)).responseBody.deviceId, deviceId);
    await registry.updateTwin(deviceId, { tags: { id: deviceId } }, '*');
    assert.equal((await registry.getTwin(deviceId)).responseBody.tags.id, deviceId);
    await registry.delete(deviceId);
  }
});
