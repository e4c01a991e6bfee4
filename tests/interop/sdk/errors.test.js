// What the service SDK makes of refusals, and their bodies and headers.
'use strict';
const assert = require('node:assert/strict');
const { test } = require('node:test');

const { Registry } = require('azure-iothub');

const hub = require('./lib/hub.js');

const owner = hub.parts(hub.ready.ownerConnectionString);
const now = () => Math.floor(Date.now() / 1000);

/** A 401 as documented: form A with the code in body and header. */
function isUnauthorized(error) {
  assert.equal(error.name, 'UnauthorizedError');
  assert.equal(error.response.statusCode, 401);
  assert.match(error.response.headers['content-type'], /^application\/json/);
  assert.match(error.response.headers['iothub-errorcode'], /^IotHubUnauthorizedAccess$/);
  const body = JSON.parse(error.responseBody);
  assert.match(body.Message, /^ErrorCode:IotHubUnauthorizedAccess;/);
  assert.match(body.ExceptionMessage, /^Tracking ID:/);
  return true;
}

test('a wrong key, an unknown policy and an expired token are 401', async () => {
  const connection = (name, key) => `HostName=localhost;SharedAccessKeyName=${name};SharedAccessKey=${key}`;
  const wrong = Buffer.alloc(32, 9).toString('base64');
  await assert.rejects(Registry.fromConnectionString(connection('iothubowner', wrong)).list(), isUnauthorized);
  const unknown = Registry.fromConnectionString(connection('nobody', owner.SharedAccessKey));
  await assert.rejects(unknown.list(), isUnauthorized);
  const token = (expires) => hub.serviceToken({ expires });
  await Registry.fromSharedAccessSignature(token(now() + 600)).list();
  await assert.rejects(Registry.fromSharedAccessSignature(token(now() - 3600)).list(), isUnauthorized);
});

test('a policy is refused what it has no permission for', async () => {
  const service = Registry.fromConnectionString(hub.ready.serviceConnectionString);
  const device = await hub.createDevice();
  await service.getTwin(device.id);
  await assert.rejects(service.get(device.id), isUnauthorized);
  await assert.rejects(service.create({ deviceId: 'not-allowed' }), isUnauthorized);
});

test('a token for one path opens that path and nothing beside it', async () => {
  const device = await hub.createDevice();
  const authorization = hub.serviceToken({ resource: `localhost/devices/${device.id}` });
  assert.equal((await hub.request('GET', device.path, { authorization })).status, 200);
  assert.equal((await hub.request('GET', `${device.path}x`, { authorization })).status, 401);
  assert.equal((await hub.request('GET', '/devices', { authorization })).status, 401);
});

test('404 names the device', async () => {
  const registry = Registry.fromConnectionString(hub.ready.ownerConnectionString);
  for (const operation of [() => registry.get('ghost'), () => registry.getTwin('ghost'),
    () => registry.updateTwin('ghost', { tags: {} }, '*')]) {
    await assert.rejects(operation(), (error) => {
      assert.equal(error.name, 'DeviceNotFoundError');
      assert.equal(error.response.headers['iothub-errorcode'], 'DeviceNotFound');
      assert.match(error.message, /ghost/);
      return true;
    });
  }
});

test('409 and 412 have their names in body and header', async () => {
  const device = await hub.createDevice();
  const again = await hub.request('PUT', device.path, { body: { deviceId: device.id } });
  assert.equal(again.status, 409);
  assert.equal(again.headers['iothub-errorcode'], 'DeviceAlreadyExists');
  assert.equal(again.json.Message,
    `ErrorCode:DeviceAlreadyExists;A device with ID '${device.id}' is already registered.`);
  const bare = await hub.request('DELETE', device.path);
  assert.equal(bare.status, 412);
  const stale = await hub.request('PATCH', `/twins/${device.id}`,
    { body: { tags: {} }, headers: { 'if-match': '"AAAAAAAAAAk="' } });
  assert.equal(stale.status, 412);
  assert.match(stale.json.Message, /^ErrorCode:PreconditionFailed;/);
});

test('400: JSON that is none, a key that is not allowed, an id that is not allowed', async () => {
  const device = await hub.createDevice();
  const registry = Registry.fromConnectionString(hub.ready.ownerConnectionString);
  const broken = await hub.request('PATCH', `/twins/${device.id}`,
    { body: '{"tags":', headers: { 'content-type': 'application/json' } });
  assert.equal(broken.status, 400);
  const bad = { name: 'ArgumentError' };
  await assert.rejects(registry.updateTwin(device.id, { tags: { 'a.b': 1 } }, '*'), bad);
  await assert.rejects(registry.updateTwin(device.id, { tags: { big: 'x'.repeat(5000) } }, '*'), bad);
  await assert.rejects(registry.create({ deviceId: 'white space' }), bad);
  await assert.rejects(registry.create({ deviceId: 'x'.repeat(129) }), bad);
});

test('every answer is JSON with a request id, over one kept connection', async () => {
  const answer = await hub.request('GET', '/devices');
  assert.equal(answer.headers['content-type'], 'application/json; charset=utf-8');
  assert.match(answer.headers['x-ms-request-id'], /^[0-9a-f-]{36}$/);
  const before = await hub.counts();
  const registry = Registry.fromConnectionString(hub.ready.ownerConnectionString);
  for (let i = 0; i < 10; i += 1) await registry.getRegistryStatistics();
  // One for the SDK, one for each of the two questions for the counts.
  assert.ok((await hub.counts()).httpConnections - before.httpConnections <= 3);
});

