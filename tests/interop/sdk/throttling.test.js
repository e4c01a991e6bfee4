// What the service SDK makes of a hub with a tier (S1, one unit): it waits, then gets its ThrottlingError.
'use strict';
const assert = require('node:assert/strict');
const { test } = require('node:test');

const { Registry } = require('azure-iothub');

const hub = require('./lib/hub.js');

const identities = (prefix, count) => Array.from({ length: count }, (_, i) => ({ deviceId: `${prefix}${i}` }));

async function figures(name) {
  const { json } = await hub.request('GET', '/twinstorm/throttle');
  return json.classes.find((each) => each.class === name);
}

test('a burst goes through, then requests take their turn, then the SDK reports a ThrottlingError', async () => {
  const registry = Registry.fromConnectionString(hub.ready.ownerConnectionString);
  await registry.addDevices(identities('first', 99)); // 100 a minute, and 100 at once

  const begin = Date.now();
  await registry.get('first1');
  await registry.get('first2');
  const waited = Date.now() - begin;
  assert.ok(waited > 300, `the second has to wait for its turn, 0.6 s at the most; both took ${waited} ms`);

  await assert.rejects(registry.addDevices(identities('second', 100)), (error) => {
    assert.equal(error.name, 'ThrottlingError');
    assert.equal(error.response.statusCode, 429);
    assert.equal(error.response.headers['iothub-errorcode'], 'ThrottlingBacklogTimeout');
    assert.equal(error.response.headers.connection, 'close');
    assert.equal(error.response.headers['retry-after'], undefined);
    assert.equal(error.message,
      'The request has been throttled. Wait 10 seconds and try again. Operation type: RegistryWrite');
    assert.match(JSON.parse(error.responseBody).ExceptionMessage, /^Tracking ID:/);
    return true;
  });

  const seen = await figures('identityRegistry');
  assert.equal(seen.refused, 1);
  assert.equal(seen.refusedCost, 100);
  assert.ok(seen.shaped >= 1);
  assert.ok(seen.delay.max > 0 && seen.delay.max < 1.3);
  assert.equal((await hub.request('GET', '/twins/first3')).status, 200, 'other operations have rates of their own');
});
