// An issuer of bearer tokens that stands in for Microsoft Entra.
'use strict';
const { generateKeyPairSync } = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');

/** Makes a signing key and the hub's view of it, below `folder`. `file`: JSON with `key` (PEM), `keyId`, `issuer`,
 * `audience`; `hubArguments`: what tells a hub to trust it. */
function makeIssuer(folder) {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const keyId = 'test-key';
  const issuer = 'https://issuer.example/tenant/';
  const audience = 'https://iothubs.azure.net';
  const keySet = path.join(folder, 'jwks.json');
  const jwk = { ...publicKey.export({ format: 'jwk' }), kid: keyId, use: 'sig', alg: 'RS256' };
  fs.writeFileSync(keySet, JSON.stringify({ keys: [jwk] }));
  const file = path.join(folder, 'issuer.json');
  const key = privateKey.export({ type: 'pkcs8', format: 'pem' });
  fs.writeFileSync(file, JSON.stringify({ key, keyId, issuer, audience }), { mode: 0o600 });
  return { file, hubArguments: ['--jwks', keySet, '--entra-issuer', issuer] };
}

module.exports = { makeIssuer };
