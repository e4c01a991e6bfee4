// The device SDK over HTTPS: telemetry, batches, polled messages with their outcomes, errors.
'use strict';
const assert = require('node:assert/strict');
const { test } = require('node:test');

const { Message } = require('azure-iot-common');
const { Http } = require('azure-iot-device-http');

const hub = require('./lib/hub.js');
const { client: makeClient, Inbox, within, eventually } = require('./lib/clients.js');

/** An SDK client over HTTPS, through an agent that knows the hub's port. */
const httpClient = (t, device, options = {}) => makeClient(t, device,
  { transport: Http, port: false, options: { http: { agent: hub.agent() }, ...options } });

const queued = async (device) => (await hub.call('GET', device.path)).cloudToDeviceMessageCount;

/** Polls every 100 ms and collects messages. */
async function polling(t, device) {
  const client = await httpClient(t, device,
    { http: { agent: hub.agent(), receivePolicy: { interval: 1, drain: true } } });
  const messages = new Inbox();
  client.on('message', (message) => messages.push(message));
  client.on('error', () => {});
  return { client, messages };
}

test('telemetry with properties arrives as sent', async (t) => {
  const device = await hub.createDevice();
  const client = await httpClient(t, device);
  await hub.watch(device);
  const message = new Message(Buffer.from([1, 0, 255]));
  message.messageId = 'm1';
  message.contentType = 'application/octet-stream';
  message.properties.add('k', 'v');
  await within(client.sendEvent(message), 'the answer');
  const [event] = await hub.watch(device);
  assert.deepEqual([...Buffer.from(event.body, 'base64')], [1, 0, 255]);
  assert.deepEqual(event.properties, { k: 'v' });
  assert.match(JSON.stringify(event.systemProperties), /"m1"/);
});

test('a batch counts as its messages', async (t) => {
  const device = await hub.createDevice();
  const client = await httpClient(t, device);
  await hub.watch(device);
  const before = await hub.counts();
  const second = new Message('two');
  second.properties.add('k', 'v');
  await within(client.sendEventBatch([new Message('one'), second, new Message(Buffer.from([0, 255]))]), 'the answer');
  const events = await hub.watch(device);
  const bodies = events.map((event) => Buffer.from(event.body, 'base64').toString('latin1'));
  assert.deepEqual(bodies, ['one', 'two', '\0\xff']);
  assert.deepEqual(events[1].properties, { k: 'v' });
  assert.equal((await hub.counts()).telemetryMessages, before.telemetryMessages + 3);
});

test('on port 443 without an agent', async (t) => {
  const device = await hub.createDevice();
  const client = await makeClient(t, device, { transport: Http, port: false });
  await within(client.sendEvent(new Message('x')), 'the answer');
});

test('a polled message is completed', async (t) => {
  const device = await hub.createDevice();
  const { client, messages } = await polling(t, device);
  await hub.enqueue(device, 'hello', { 'iothub-messageid': 'c2d-1', 'iothub-correlationid': 'c', 'iothub-app-k': 'v' });
  const message = await messages.next('the message');
  assert.equal(message.getData().toString(), 'hello');
  assert.equal(message.messageId, 'c2d-1');
  assert.equal(message.correlationId, 'c');
  assert.equal(message.properties.getValue('iothub-app-k'), 'v');
  assert.equal(await queued(device), 1);
  await within(client.complete(message), 'complete');
  assert.equal(await queued(device), 0);
});

test('a rejected message is gone, and its sender hears of it', async (t) => {
  const device = await hub.createDevice();
  const { client, messages } = await polling(t, device);
  await hub.enqueue(device, 'no', { 'iothub-messageid': 'rejected-1', 'iothub-ack': 'negative' });
  await within(client.reject(await messages.next('the message')), 'reject');
  assert.equal(await queued(device), 0);
  const answer = await eventually(async () => {
    const got = await hub.request('GET', '/messages/serviceBound/feedback');
    return got.status === 200 && got;
  }, 'feedback');
  const [record] = JSON.parse(answer.text);
  assert.equal(record.originalMessageId, 'rejected-1');
  assert.match(record.statusCode, /^rejected$/i);
});

test('an abandoned message comes again', async (t) => {
  const device = await hub.createDevice();
  const { client, messages } = await polling(t, device);
  await hub.enqueue(device, 'again');
  await within(client.abandon(await messages.next('the first delivery')), 'abandon');
  const second = await messages.next('the second delivery');
  assert.equal(second.getData().toString(), 'again');
  await within(client.complete(second), 'complete');
  assert.equal(await queued(device), 0);
});

test('several messages are drained one after the other', async (t) => {
  const device = await hub.createDevice();
  for (let i = 0; i < 4; i += 1) await hub.enqueue(device, `${i}`);
  const { client, messages } = await polling(t, device);
  const seen = [];
  for (let i = 0; i < 4; i += 1) {
    const message = await messages.next(`message ${i}`);
    seen.push(message.getData().toString());
    await client.complete(message);
  }
  assert.deepEqual(seen, ['0', '1', '2', '3']);
  assert.equal(await queued(device), 0);
});

test('errors: wrong key, unknown device, too much', async (t) => {
  const device = await hub.createDevice();
  const send = async (identity, body) => {
    const client = await httpClient(t, identity);
    return within(client.sendEvent(new Message(body)), 'the answer');
  };
  const wrongKey = Buffer.alloc(32).toString('base64');
  await assert.rejects(send({ ...device, key: wrongKey }, 'x'), { name: 'UnauthorizedError' });
  await assert.rejects(send({ id: 'ghost', key: wrongKey }, 'x'), { name: 'UnauthorizedError' });
  await assert.rejects(send(device, Buffer.alloc(300 * 1024)), { name: 'MessageTooLargeError' });
});

test('what HTTP does not have is refused by the SDK: twins and methods', async (t) => {
  const client = await httpClient(t, await hub.createDevice());
  await assert.rejects(client.getTwin(), { name: 'NotImplementedError' });
  assert.throws(() => client.onDeviceMethod('x', () => {}), { name: 'NotImplementedError' });
});
