// Cloud-to-device messages over MQTT. The service would enqueue them over AMQP; here the hub's own HTTP resource does.
'use strict';
const assert = require('node:assert/strict');
const { test } = require('node:test');

const hub = require('./lib/hub.js');
const { client: makeClient, openClient, updateReported, Inbox, eventually } = require('./lib/clients.js');

/** A client and its messages, subscribed. */
async function receiver(t, device) {
  const client = await openClient(t, device);
  const messages = new Inbox();
  client.on('message', (message) => messages.push(message));
  const twin = await client.getTwin();
  await updateReported(twin, {});
  return { client, messages };
}

const queued = async (device) => (await hub.call('GET', device.path)).cloudToDeviceMessageCount;

test('body and properties arrive: bare, empty, and with characters that need encoding', async (t) => {
  const device = await hub.createDevice();
  const { messages } = await receiver(t, device);
  await hub.enqueue(device, 'hello', {
    'iothub-messageid': 'abc/1',
    'iothub-correlationid': 'c 1',
    'iothub-app-empty': '',
    'iothub-app-text': 'a string/with & = % + blanks',
    'iothub-app-plain': 'v',
  });
  const message = await messages.next('the message');
  assert.equal(message.getData().toString(), 'hello');
  assert.equal(message.messageId, 'abc/1');
  assert.equal(message.correlationId, 'c 1');
  assert.equal(message.to, `/devices/${device.id}/messages/devicebound`);
  const properties = Object.fromEntries(message.properties.propertyList.map(({ key, value }) => [key, value]));
  assert.equal(properties.text, 'a string/with & = % + blanks');
  assert.equal(properties.plain, 'v');
  assert.equal(properties.empty, '');
});

test('a binary body and an empty one', async (t) => {
  const device = await hub.createDevice();
  const { messages } = await receiver(t, device);
  await hub.enqueue(device, Buffer.from([0, 1, 255, 10]));
  await hub.enqueue(device, '');
  assert.deepEqual([...(await messages.next('the first')).getData()], [0, 1, 255, 10]);
  assert.equal((await messages.next('the second')).getData().length, 0);
});

test('messages wait for an offline device and arrive in order when it comes', async (t) => {
  const device = await hub.createDevice();
  for (let i = 0; i < 5; i += 1) await hub.enqueue(device, `${i}`);
  assert.equal(await queued(device), 5);
  const { messages } = await receiver(t, device);
  for (let i = 0; i < 5; i += 1) assert.equal((await messages.next(`message ${i}`)).getData().toString(), `${i}`);
  await eventually(async () => (await queued(device)) === 0, 'the queue to be empty');
});

test('a subscription outlives the connection: what came meanwhile is delivered without a new one', async (t) => {
  const device = await hub.createDevice();
  const { client, messages } = await receiver(t, device);
  await client.close();
  await hub.enqueue(device, 'meanwhile');
  const { subscribes } = await hub.counts();
  await client.open();
  assert.equal((await messages.next('the message')).getData().toString(), 'meanwhile');
  assert.equal((await hub.counts()).subscribes, subscribes);
});

test('complete is accepted; reject and abandon are not for MQTT', async (t) => {
  const device = await hub.createDevice();
  const { client, messages } = await receiver(t, device);
  await hub.enqueue(device, 'one');
  const message = await messages.next('the message');
  await client.complete(message);
  await assert.rejects(client.reject(message), { name: 'NotImplementedError' });
  await assert.rejects(client.abandon(message), { name: 'NotImplementedError' });
  assert.equal(await queued(device), 0);
});

test('no listener any more: the SDK unsubscribes and messages wait', async (t) => {
  const device = await hub.createDevice();
  const { client } = await receiver(t, device);
  const { unsubscribes } = await hub.counts();
  client.removeAllListeners('message');
  await eventually(async () => (await hub.counts()).unsubscribes > unsubscribes, 'the UNSUBSCRIBE');
  await hub.enqueue(device, 'later');
  assert.equal(await queued(device), 1);
  const messages = new Inbox();
  client.on('message', (message) => messages.push(message));
  assert.equal((await messages.next('the message')).getData().toString(), 'later');
});

test('the queue holds 50; one more is refused; purging empties it', async () => {
  const device = await hub.createDevice();
  for (let i = 0; i < 50; i += 1) await hub.enqueue(device, `${i}`);
  await assert.rejects(hub.enqueue(device, 'too much'), /403.*(403004|DeviceMaximumQueueDepthExceeded)/);
  const purged = await hub.call('DELETE', `${device.path}/commands`);
  assert.equal(purged.totalMessagesPurged, 50);
  assert.equal(await queued(device), 0);
});

test('feedback tells the back end what became of a message', async (t) => {
  const device = await hub.createDevice();
  const { messages } = await receiver(t, device);
  await hub.enqueue(device, 'with feedback', { 'iothub-messageid': 'feedback-1', 'iothub-ack': 'full' });
  await messages.next('the message');
  const answer = await eventually(async () => {
    const got = await hub.request('GET', '/messages/serviceBound/feedback');
    return got.status === 200 && got;
  }, 'feedback');
  const records = JSON.parse(answer.text);
  assert.equal(records.length, 1);
  assert.equal(records[0].originalMessageId, 'feedback-1');
  assert.equal(records[0].deviceId, device.id);
  assert.match(records[0].statusCode, /^success$/i);
});

test('a device id that a topic filter cannot hold gets no messages, and the SDK says so', async (t) => {
  const device = await hub.createDevice({ id: 'with+plus' });
  const client = await makeClient(t, device);
  await client.open();
  const errors = new Inbox();
  client.on('error', (error) => errors.push(error));
  client.on('message', () => {});
  await errors.next('the error of the SDK');
});
