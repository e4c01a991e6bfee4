// Devices that prove who they are with a certificate, over MQTT and HTTPS.
'use strict';
const assert = require('node:assert/strict');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { before, after, test } = require('node:test');

const { Message } = require('azure-iot-common');
const { Http } = require('azure-iot-device-http');
const { Mqtt, MqttWs } = require('azure-iot-device-mqtt');

const hub = require('./lib/hub.js');
const { selfSigned, authority, authorityAt } = require('./lib/certificates.js');
const { client: makeClient, updateReported, within } = require('./lib/clients.js');

const unauthorized = { name: 'UnauthorizedError' };
let folder;
before(() => { folder = fs.mkdtempSync(path.join(os.tmpdir(), 'twinstorm-sdk-x509-')); });
after(() => fs.rmSync(folder, { recursive: true }));

const withThumbprints = (primaryThumbprint, secondaryThumbprint = primaryThumbprint) => hub.createDevice({
  authentication: { type: 'selfSigned', x509Thumbprint: { primaryThumbprint, secondaryThumbprint } } });

/** An SDK client that shows `certificate`. */
async function withCertificate(t, device, { cert, key }, { transport = Mqtt, http } = {}) {
  const agent = http && hub.agent({ cert, key });
  const options = { cert, key, ...(agent && { http: { agent }, mqtt: { webSocketAgent: agent } }) };
  return makeClient(t, { id: device.id }, { transport, port: transport === Mqtt ? undefined : false, options });
}

async function worksOverMqtt(t, device, certificate, settings) {
  const client = await withCertificate(t, device, certificate, settings);
  await client.open();
  await updateReported(await client.getTwin(), { by: 'certificate' });
  await client.close();
}

test('self-signed: SHA-1 and SHA-256 thumbprints, primary and secondary, any case, over MQTT', async (t) => {
  const certificate = selfSigned(folder, 'a-name');
  const unused = 'AB'.repeat(20);
  await worksOverMqtt(t, await withThumbprints(certificate.sha1), certificate);
  await worksOverMqtt(t, await withThumbprints(certificate.sha256.toUpperCase()), certificate);
  await worksOverMqtt(t, await withThumbprints(unused, certificate.sha1), certificate);
});

test('self-signed: over MQTT by WebSocket', async (t) => {
  const certificate = selfSigned(folder, 'a-name');
  await worksOverMqtt(t, await withThumbprints(certificate.sha1), certificate, { transport: MqttWs, http: true });
});

test('self-signed: over HTTPS', async (t) => {
  const certificate = selfSigned(folder, 'a-name');
  const device = await withThumbprints(certificate.sha256);
  const client = await withCertificate(t, device, certificate, { transport: Http, http: true });
  await within(client.sendEvent(new Message('by certificate')), 'the answer');
});

test('self-signed: another certificate is refused, over MQTT and HTTPS', async (t) => {
  const device = await withThumbprints(selfSigned(folder, 'right').sha1);
  const wrong = selfSigned(folder, 'wrong');
  await assert.rejects((await withCertificate(t, device, wrong)).open(), unauthorized);
  const http = await withCertificate(t, device, wrong, { transport: Http, http: true });
  await assert.rejects(within(http.sendEvent(new Message('x')), 'the answer'), unauthorized);
});

test('a certificate does not open a device that has keys, nor a key one that has thumbprints', async (t) => {
  const certificate = selfSigned(folder, 'a-name');
  const keyed = await hub.createDevice();
  await assert.rejects((await withCertificate(t, keyed, certificate)).open(), unauthorized);
  const printed = await withThumbprints(certificate.sha1);
  const client = await makeClient(t, { id: printed.id, key: keyed.key });
  await assert.rejects(client.open(), unauthorized);
});

test('signed by a registered authority: the common name is the device id, over MQTT and HTTPS', async (t) => {
  const devices = authorityAt(process.env.TWINSTORM_DEVICE_AUTHORITY);
  const device = await hub.createDevice({ authentication: { type: 'certificateAuthority' } });
  const certificate = devices.issue(device.id);
  await worksOverMqtt(t, device, certificate);
  const client = await withCertificate(t, device, certificate, { transport: Http, http: true });
  await within(client.sendEvent(new Message('by certificate')), 'the answer');
});

test('signed by a registered authority for another device, or by a foreign one: refused', async (t) => {
  const devices = authorityAt(process.env.TWINSTORM_DEVICE_AUTHORITY);
  const device = await hub.createDevice({ authentication: { type: 'certificateAuthority' } });
  await assert.rejects((await withCertificate(t, device, devices.issue(`${device.id}x`))).open(), unauthorized);
  const foreign = authority(folder, 'foreign');
  await assert.rejects((await withCertificate(t, device, foreign.issue(device.id))).open(), unauthorized);
});
