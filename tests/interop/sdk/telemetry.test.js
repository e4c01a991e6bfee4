// Device-to-cloud messages over MQTT.
'use strict';
const assert = require('node:assert/strict');
const { test } = require('node:test');

const { Message } = require('azure-iot-common');

const hub = require('./lib/hub.js');
const { openClient, within } = require('./lib/clients.js');

/** Sends and resolves to what the hub received. */
async function received(device, client, message) {
  await hub.watch(device);
  await within(client.sendEvent(message), 'the acknowledgement');
  const events = await hub.watch(device);
  assert.equal(events.length, 1);
  return events[0];
}

test('a message with every system property and odd application properties arrives as sent', async (t) => {
  const device = await hub.createDevice();
  const client = await openClient(t, device);
  const message = new Message(JSON.stringify({ temperature: 21.5 }));
  message.messageId = 'm 1/ä';
  message.correlationId = 'c1';
  message.userId = 'u';
  message.contentType = 'application/json';
  message.contentEncoding = 'utf-8';
  message.expiryTimeUtc = new Date(1700000000000);
  message.properties.add('k 1', 'v&=/ü+%');
  message.properties.add('empty', '');
  message.properties.add('dt-subject', 'thermostat');
  const event = await received(device, client, message);
  assert.deepEqual(event.properties, { 'k 1': 'v&=/ü+%', empty: '' });
  const system = event.systemProperties;
  assert.equal(system.messageId ?? system['message-id'], 'm 1/ä');
  assert.equal(Buffer.from(event.body, 'base64').toString(), '{"temperature":21.5}');
});

test('three binary bytes arrive as they are', async (t) => {
  const device = await hub.createDevice();
  const client = await openClient(t, device);
  const event = await received(device, client, new Message(Buffer.from([1, 0, 255])));
  assert.equal(event.bodySize, 3);
  assert.deepEqual([...Buffer.from(event.body, 'base64')], [1, 0, 255]);
});

test('an empty message is accepted', async (t) => {
  const device = await hub.createDevice();
  const client = await openClient(t, device);
  assert.equal((await received(device, client, new Message(''))).bodySize, 0);
});

test('256 KiB are accepted; one byte more is refused by the SDK itself', async (t) => {
  const device = await hub.createDevice();
  const client = await openClient(t, device);
  const event = await received(device, client, new Message(Buffer.alloc(262144, 120)));
  assert.equal(event.bodySize, 262144);
  await assert.rejects(client.sendEvent(new Message(Buffer.alloc(262145, 120))), { name: 'MessageTooLargeError' });
  await client.getTwin();
});

test('many messages at once are all acknowledged and counted', async (t) => {
  const device = await hub.createDevice();
  const client = await openClient(t, device);
  const before = await hub.counts();
  await within(Promise.all(Array.from({ length: 200 }, (_, i) => client.sendEvent(new Message(`message ${i}`)))),
    'all acknowledgements');
  assert.equal((await hub.counts()).telemetryMessages, before.telemetryMessages + 200);
});

test('what MQTT does not have is refused by the SDK: batches', async (t) => {
  const client = await openClient(t, await hub.createDevice());
  await assert.rejects(client.sendEventBatch([new Message('a')]), { name: 'NotImplementedError' });
});
