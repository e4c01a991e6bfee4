// Microsoft Entra: the service SDK with a token credential. The issuer is the test's own; the hub knows its key set.
'use strict';
const assert = require('node:assert/strict');
const { execFileSync } = require('node:child_process');
const { createPrivateKey, generateKeyPairSync, sign } = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');
const { test } = require('node:test');

const { Client: ServiceClient, Registry } = require('azure-iothub');

const hub = require('./lib/hub.js');

const issuer = JSON.parse(fs.readFileSync(process.env.TWINSTORM_ENTRA, 'utf8'));
const base64url = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
const now = () => Math.floor(Date.now() / 1000);

function jwt({ claims = {}, header = {}, key = createPrivateKey(issuer.key) } = {}) {
  const body = { aud: issuer.audience, iss: issuer.issuer, iat: now(), nbf: now() - 5, exp: now() + 3600, sub: 'tests',
    roles: ['IoT Hub Data Contributor'], ...claims };
  const text = `${base64url({ alg: 'RS256', typ: 'JWT', kid: issuer.keyId, ...header })}.${base64url(body)}`;
  return `${text}.${sign('sha256', Buffer.from(text), key).toString('base64url')}`;
}

/** What `@azure/identity` would be. */
const credential = (token) => ({
  asked: [],
  async getToken(scope) {
    this.asked.push(scope);
    return { token, expiresOnTimestamp: (now() + 3600) * 1000 };
  },
});
const registryWith = (token) => Registry.fromTokenCredential('localhost', credential(token));

test('a good token opens registry, twins, queries and methods', async () => {
  const using = credential(jwt());
  const registry = Registry.fromTokenCredential('localhost', using);
  await registry.create({ deviceId: 'entra-device' });
  await registry.updateTwin('entra-device', { tags: { login: 'entra' } }, '*');
  const query = registry.createQuery("SELECT * FROM devices WHERE tags.login = 'entra'");
  assert.equal((await query.nextAsTwin()).result[0].deviceId, 'entra-device');
  assert.deepEqual([...new Set(using.asked.flat())], ['https://iothubs.azure.net/.default']);
  const service = ServiceClient.fromTokenCredential('localhost', credential(jwt()));
  await assert.rejects(service.invokeDeviceMethod('entra-device', { methodName: 'x' }),
    (error) => error.response.statusCode === 404 && /404103/.test(error.responseBody));
});

test('a token of "hub --issue-dev-token" opens what its role allows and nothing else', async () => {
  const data = path.join(path.dirname(process.env.TWINSTORM_HUB_READY), 'hub');
  const issue = (...args) => execFileSync(process.env.TWINSTORM_BINARY,
    ['hub', '--issue-dev-token', '--data', data, ...args], { encoding: 'utf8' }).trim();
  await registryWith(issue()).create({ deviceId: 'by-dev-token' });
  const reader = registryWith(issue('--role', 'IoT Hub Data Reader'));
  await reader.get('by-dev-token');
  await assert.rejects(reader.delete('by-dev-token'), { name: 'UnauthorizedError' });
});

test('expired, not yet valid, for another audience, from another issuer: 401', async () => {
  for (const claims of [{ exp: now() - 3600 }, { nbf: now() + 3600 }, { aud: 'https://elsewhere.example' },
    { iss: 'https://elsewhere.example/' }]) {
    await assert.rejects(registryWith(jwt({ claims })).list(), { name: 'UnauthorizedError' }, JSON.stringify(claims));
  }
});

test('signed by another key, not signed, or no token at all: 401', async () => {
  const { privateKey: foreign } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  await assert.rejects(registryWith(jwt({ key: foreign })).list(), { name: 'UnauthorizedError' });
  const [header, body] = jwt().split('.');
  await assert.rejects(registryWith(`${header}.${body}.`).list(), { name: 'UnauthorizedError' });
  const none = `${base64url({ alg: 'none', typ: 'JWT' })}.${body}.`;
  await assert.rejects(registryWith(none).list(), { name: 'UnauthorizedError' });
  await assert.rejects(registryWith('garbage').list(), { name: 'UnauthorizedError' });
});

test('the 401 says Unauthorized in body and header and shows nothing of the token', async () => {
  const token = jwt({ claims: { exp: now() - 3600 } });
  await assert.rejects(registryWith(token).list(), (error) => {
    assert.equal(error.response.headers['iothub-errorcode'], 'IotHubUnauthorizedAccess');
    assert.match(JSON.parse(error.responseBody).Message, /^ErrorCode:IotHubUnauthorizedAccess;/);
    assert.equal(error.responseBody.includes(token.split('.')[2]), false);
    return true;
  });
});
