// Direct methods: the service SDK calls, the device SDK answers.
'use strict';
const assert = require('node:assert/strict');
const { test } = require('node:test');

const { Client: ServiceClient } = require('azure-iothub');

const hub = require('./lib/hub.js');
const { openClient, updateReported, Inbox, within } = require('./lib/clients.js');

const service = ServiceClient.fromConnectionString(hub.ready.serviceConnectionString);

/** Calls a method; resolves to the device's `{status, payload}`. */
async function invoke(device, methodName, payload, timeouts = {}) {
  const { result } = await service.invokeDeviceMethod(device.id,
    { methodName, payload, responseTimeoutInSeconds: 10, ...timeouts });
  return result;
}

/** A connected device with methods `name: (request, response) => …`, once the hub knows its subscription. */
async function deviceWith(t, methods) {
  const device = await hub.createDevice();
  const client = await openClient(t, device);
  const twin = await client.getTwin();
  for (const [name, handler] of Object.entries(methods)) client.onDeviceMethod(name, handler);
  await updateReported(twin, {});
  return device;
}

test('payloads of every JSON kind, null and none arrive at the device', async (t) => {
  const requests = new Inbox();
  const device = await deviceWith(t, {
    take(request, response) {
      requests.push(request);
      response.send(200, null).catch(() => {});
    },
  });
  for (const payload of [{ delay: 3, text: 'ü/&' }, [1, [2]], 'text', '', 0, 12.5, true, false, {}, null]) {
    await invoke(device, 'take', payload);
    const request = await requests.next('the request');
    assert.equal(request.methodName, 'take');
    assert.deepEqual(request.payload, payload);
  }
  await invoke(device, 'take');
  assert.equal((await requests.next('a request without payload')).payload, null);
  await hub.call('POST', `/twins/${device.id}/methods`, { body: { methodName: 'take' } });
  assert.equal((await requests.next('a request without the member')).payload, null);
});

test('answers: an object, null and nothing, with the status the device chose', async (t) => {
  const device = await deviceWith(t, {
    object: (request, response) => response.send(200, { ok: 1, list: ['ü'] }).catch(() => {}),
    nothing: (request, response) => response.send(202).catch(() => {}),
    none: (request, response) => response.send(404, null).catch(() => {}),
    text: (request, response) => response.send(-7, 'no').catch(() => {}),
  });
  assert.deepEqual(await invoke(device, 'object'), { status: 200, payload: { ok: 1, list: ['ü'] } });
  assert.deepEqual(await invoke(device, 'nothing'), { status: 202, payload: null });
  assert.deepEqual(await invoke(device, 'none'), { status: 404, payload: null });
  assert.deepEqual(await invoke(device, 'text'), { status: -7, payload: 'no' });
});

test('a method the device does not know: 504 after the response timeout', async (t) => {
  const device = await deviceWith(t, { known: () => {} });
  const begin = Date.now();
  await assert.rejects(invoke(device, 'unknown', null, { responseTimeoutInSeconds: 5 }), (error) => {
    assert.equal(error.name, 'GatewayTimeoutError');
    assert.equal(error.response.statusCode, 504);
    assert.match(error.responseBody, /504101/);
    return true;
  });
  assert.ok(Date.now() - begin > 4900 && Date.now() - begin < 7000);
});

test('an offline device: 404 with 404103 at once; it may connect within the connect timeout', async (t) => {
  const device = await hub.createDevice();
  await assert.rejects(invoke(device, 'late'), (error) => {
    assert.equal(error.response.statusCode, 404);
    assert.match(error.responseBody, /404103/);
    return true;
  });
  const calling = invoke(device, 'late', { n: 1 }, { connectTimeoutInSeconds: 10 });
  const client = await openClient(t, device);
  client.onDeviceMethod('late', (request, response) => response.send(200, request.payload).catch(() => {}));
  assert.deepEqual(await within(calling, 'the answer'), { status: 200, payload: { n: 1 } });
});

test('an unknown device: 404 with 404001', async () => {
  await assert.rejects(invoke({ id: 'no-such-device' }, 'x'), (error) => {
    assert.equal(error.response.statusCode, 404);
    assert.match(error.responseBody, /404001|DeviceNotFound/);
    return true;
  });
});

test('timeouts and names outside their limits are 400', async (t) => {
  const device = await deviceWith(t, {});
  const refused = (error) => error.name === 'ArgumentError';
  await assert.rejects(invoke(device, 'x', null, { responseTimeoutInSeconds: 4 }), refused);
  await assert.rejects(invoke(device, 'x', null, { responseTimeoutInSeconds: 301 }), refused);
  await assert.rejects(invoke(device, 'x', null, { connectTimeoutInSeconds: 301 }), refused);
  await assert.rejects(invoke(device, 'x', null, { responseTimeoutInSeconds: 5, connectTimeoutInSeconds: 6 }), refused);
});

test('large payloads go both ways', async (t) => {
  const device = await deviceWith(t, {
    echo: (request, response) => response.send(200, request.payload).catch(() => {}),
  });
  const payload = 'x'.repeat(100 * 1024);
  assert.deepEqual(await invoke(device, 'echo', payload), { status: 200, payload });
});

test('calls at the same time find their own answers', async (t) => {
  const device = await deviceWith(t, {
    slow: (request, response) => setTimeout(() => response.send(200, request.payload).catch(() => {}), 200),
    fast: (request, response) => response.send(200, request.payload).catch(() => {}),
  });
  const calls = Array.from({ length: 20 }, (_, i) => invoke(device, i % 2 ? 'slow' : 'fast', i));
  const answers = await within(Promise.all(calls), 'all answers');
  assert.deepEqual(answers.map((answer) => answer.payload), Array.from({ length: 20 }, (_, i) => i));
});
