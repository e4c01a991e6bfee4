// Automatic device management: the configuration calls of the Registry, and what they do to devices.
'use strict';
const assert = require('node:assert/strict');
const { test } = require('node:test');
const { randomBytes } = require('node:crypto');

const { Registry } = require('azure-iothub');

const hub = require('./lib/hub.js');
const { openClient, listening, Inbox, eventually } = require('./lib/clients.js');

const registry = Registry.fromConnectionString(hub.ready.ownerConnectionString);

const newId = (name) => `${name}-${randomBytes(3).toString('hex')}`;

/** A tag value of this test's own, so that its configurations meet no other test's devices. */
const newSite = () => newId('site');

function configurationFor(site, content, more = {}) {
  return { id: newId('c'), content, targetCondition: `tags.site = '${site}'`, priority: 10, ...more };
}
const deviceContent = (value) => ({ deviceContent: { 'properties.desired.chiller': value } });

async function newDevice(site, members = {}) {
  const device = await hub.createDevice(members);
  await hub.patchTwin(device, { tags: { site } });
  return device;
}

const read = async (id) => (await registry.getConfiguration(id)).responseBody;
const statusOf = async (device, id) => (await hub.serviceTwin(device)).configurations?.[id]?.status;
const applied = (device, id) => eventually(
  async () => (await statusOf(device, id)) === 'Applied', `${id} to be applied to ${device.id}`);

test('addConfiguration, getConfiguration, getConfigurations, updateConfiguration, removeConfiguration', async () => {
  const wanted = configurationFor(newSite(), deviceContent({ temperature: 66 }), {
    labels: { App: 'Mongo' },
    metrics: { queries: { waiting: "SELECT deviceId FROM devices WHERE properties.reported.chiller.status='pending'" } },
  });
  const { responseBody: added } = await registry.addConfiguration({ ...wanted });
  assert.equal(added.id, wanted.id);
  assert.equal(added.schemaVersion, '1.0');
  assert.equal(added.etag, 'MQ==');
  assert.deepEqual(added.content, wanted.content);
  assert.deepEqual(added.labels, wanted.labels);
  assert.deepEqual(added.systemMetrics.results, { targetedCount: 0, appliedCount: 0 });
  assert.match(added.systemMetrics.queries.appliedCount, /configurations\.\[\[c-/);
  assert.equal((await read(wanted.id)).id, wanted.id);
  const { responseBody: all } = await registry.getConfigurations();
  assert.ok(all.some((each) => each.id === wanted.id));

  const change = { ...added, priority: 20, content: deviceContent({ temperature: 1 }) };
  const { responseBody: updated } = await registry.updateConfiguration(change);
  assert.equal(updated.priority, 20);
  assert.equal(updated.etag, 'Mg==');
  assert.deepEqual(updated.content, wanted.content, 'the content stays as it was created');
  await assert.rejects(registry.updateConfiguration({ ...added, priority: 30 }), { name: 'InvalidEtagError' });
  const { responseBody: forced } = await registry.updateConfiguration({ ...added, priority: 30 }, true);
  assert.equal(forced.priority, 30);

  await registry.removeConfiguration(wanted.id);
  await assert.rejects(registry.getConfiguration(wanted.id), (error) => {
    assert.equal(error.response.statusCode, 404);
    assert.match(error.responseBody, /ErrorCode:ConfigurationNotFound;/);
    return true;
  });
});

test('the callback forms', async () => {
  const wanted = configurationFor(newSite(), deviceContent(1));
  const added = await new Promise((resolve, reject) => {
    registry.addConfiguration(wanted, (error, body) => (error ? reject(error) : resolve(body)));
  });
  assert.equal(added.id, wanted.id);
  const found = await new Promise((resolve, reject) => {
    registry.getConfiguration(wanted.id, (error, body) => (error ? reject(error) : resolve(body)));
  });
  assert.equal(found.etag, added.etag);
  await new Promise((resolve, reject) => {
    registry.removeConfiguration(wanted.id, (error) => (error ? reject(error) : resolve()));
  });
});

test('refusals: existing id, upper case, content, target condition', async () => {
  const wanted = configurationFor(newSite(), deviceContent(1));
  await registry.addConfiguration({ ...wanted });
  await assert.rejects(registry.addConfiguration({ ...wanted }), (error) => {
    assert.equal(error.name, 'DeviceAlreadyExistsError');  // what the SDK makes of every 409
    assert.equal(error.response.headers['iothub-errorcode'], 'ConfigurationAlreadyExists');
    return true;
  });
  const refused = async (changes, name) => {
    await assert.rejects(registry.addConfiguration({ ...wanted, id: newId('c'), ...changes }), (error) => {
      assert.equal(error.name, 'ArgumentError');
      assert.equal(error.response.headers['iothub-errorcode'], name);
      return true;
    });
  };
  await refused({ id: 'Upper' }, 'ArgumentInvalid');
  await refused({ content: {} }, 'InvalidConfigurationContent');
  await refused({ content: { ...deviceContent(1), moduleContent: { 'properties.desired.a': 1 } } },
    'InvalidConfigurationContent');
  await refused({ targetCondition: "status = 'enabled'" }, 'InvalidConfigurationTargetCondition');
  await refused({ targetCondition: 'tags.a =' }, 'InvalidConfigurationTargetCondition');
  await registry.removeConfiguration(wanted.id);
});

test('content reaches a device, the queries and the metrics', async (t) => {
  const site = newSite();
  const device = await newDevice(site);
  const client = await openClient(t, device);
  const twin = await client.getTwin();
  const changes = new Inbox();
  twin.on('properties.desired.chiller', (delta) => changes.push(delta));
  await listening(twin);
  const wanted = configurationFor(site, deviceContent({ temperature: 66, pressure: 28 }), {
    metrics: { queries: { hot: `SELECT deviceId FROM devices WHERE properties.desired.chiller.temperature > 60
                                AND tags.site = '${site}'` } },
  });
  await registry.addConfiguration(wanted);
  assert.deepEqual(await changes.next('the desired change'), { temperature: 66, pressure: 28 });
  await applied(device, wanted.id);
  const rows = await registry.createQuery(
    `SELECT deviceId FROM devices WHERE configurations.[[${wanted.id}]].status = 'Applied'`, 10).next();
  assert.deepEqual(rows.result, [{ deviceId: device.id }]);
  const figures = await eventually(async () => {
    const found = await read(wanted.id);
    return found.metrics.results.hot !== undefined && found;
  }, 'the metrics');
  assert.deepEqual(figures.systemMetrics.results, { targetedCount: 1, appliedCount: 1 });
  assert.deepEqual(figures.metrics.results, { hot: 1 });
  const { desired } = (await hub.serviceTwin(device)).properties;
  assert.equal(desired.$metadata.chiller.temperature.$lastUpdatedBy, wanted.id);
  await registry.removeConfiguration(wanted.id);
  await eventually(async () => (await statusOf(device, wanted.id)) === undefined, 'the entry to leave the twin');
  assert.deepEqual((await hub.serviceTwin(device)).properties.desired.chiller, { temperature: 66, pressure: 28 });
});

test('priority: the highest wins, and the next takes over when a device leaves', async () => {
  const site = newSite();
  const device = await newDevice(site);
  const low = configurationFor(site, deviceContent('low'), { priority: 1 });
  const high = configurationFor(site, deviceContent('high'), {
    priority: 2, targetCondition: `tags.site = '${site}' AND NOT is_defined(tags.left)`,
  });
  await registry.addConfiguration(low);
  await registry.addConfiguration(high);
  await applied(device, high.id);
  assert.equal(await statusOf(device, low.id), 'Targeted');
  assert.equal((await hub.serviceTwin(device)).properties.desired.chiller, 'high');
  await hub.patchTwin(device, { tags: { left: true } });
  await registry.updateConfiguration(await read(low.id));  // an evaluation follows every change
  await applied(device, low.id);
  assert.equal(await statusOf(device, high.id), undefined);
  assert.equal((await hub.serviceTwin(device)).properties.desired.chiller, 'low');
  await registry.removeConfiguration(high.id);
  await registry.removeConfiguration(low.id);
});

test('modules', async () => {
  const site = newSite();
  const device = await hub.createDevice();
  const module = await hub.createModule(device, 'camera');
  await hub.patchTwin(module, { tags: { site } });
  const wanted = configurationFor(site, { moduleContent: { 'properties.desired.rate': 5 } }, {
    targetCondition: `from devices.modules where tags.site = '${site}'`,
  });
  await registry.addConfiguration(wanted);
  await applied(module, wanted.id);
  assert.equal((await hub.serviceTwin(module)).properties.desired.rate, 5);
  await registry.removeConfiguration(wanted.id);
});

test('applyConfigurationContentOnDevice: an edge device takes it, another does not', async () => {
  const content = {
    modulesContent: { $edgeAgent: { 'properties.desired': { schemaVersion: '1.1', modules: {} } } },
  };
  const gateway = await hub.createDevice({ capabilities: { iotEdge: true } });
  await registry.applyConfigurationContentOnDevice(gateway.id, content);
  const { responseBody: agent } = await registry.getModuleTwin(gateway.id, '$edgeAgent');
  assert.equal(agent.properties.desired.schemaVersion, '1.1');
  const plain = await hub.createDevice();
  await assert.rejects(registry.applyConfigurationContentOnDevice(plain.id, content), { name: 'ArgumentError' });
});
