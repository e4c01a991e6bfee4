// SDK device clients that end with their test, and ways to wait without sleeping.
'use strict';
const { EventEmitter, once } = require('node:events');

const { Client, ModuleClient } = require('azure-iot-device');
const { Mqtt } = require('azure-iot-device-mqtt');

const hub = require('./hub.js');

/** An SDK client of a device or module, closed when test `t` ends. Options go to `setOptions` with the hub's CA. */
async function client(t, device, { transport = Mqtt, port, options = {}, connectionString } = {}) {
  const factory = device.moduleId ? ModuleClient : Client;
  const credentials = connectionString ?? hub.deviceConnectionString(device, { port });
  const made = factory.fromConnectionString(credentials, transport);
  t.after(() => made.close().catch(() => {}));
  // Over HTTP `setOptions` never settles and a `ca` comes into force some time later (properties of the SDK); without
  // one it takes effect at once, and the agent or NODE_EXTRA_CA_CERTS knows the authority.
  if (transport.name === 'Http') made.setOptions(options);
  else await made.setOptions({ ca: hub.ca, ...options });
  return made;
}

/** As `client`, connected. */
async function openClient(t, device, settings) {
  const made = await client(t, device, settings);
  await made.open();
  return made;
}

const updateReported = (twin, patch) => new Promise((resolve, reject) => {
  twin.properties.reported.update(patch, (error) => (error ? reject(error) : resolve()));
});

/** Resolves once the hub has seen every SUBSCRIBE sent before: packets of a connection are answered in order, and the
 * SDK does not tell when a listener of desired properties is in force. */
const listening = (twin) => updateReported(twin, {});

/** A list that can be waited for: `push` adds, `next()` resolves to the oldest one not yet taken. */
class Inbox {
  #items = [];
  #arrivals = new EventEmitter();
  push(item) {
    this.#items.push(item);
    this.#arrivals.emit('item');
  }
  get size() { return this.#items.length; }
  async next(what = 'the next item', timeout = 10000) {
    if (this.#items.length === 0) await within(once(this.#arrivals, 'item'), what, timeout);
    return this.#items.shift();
  }
}

/** Fails with "waited 10 s for …" unless `promise` settles first. */
function within(promise, what, timeout = 10000) {
  let timer;
  const limit = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${timeout / 1000} s for ${what}`)), timeout);
  });
  return Promise.race([promise, limit]).finally(() => clearTimeout(timer));
}

/** Asks again until `probe` gives something truthy, and resolves to that. */
async function eventually(probe, what, timeout = 10000) {
  for (const begin = Date.now(); Date.now() - begin < timeout;) {
    const found = await probe();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`waited ${timeout / 1000} s for ${what}`);
}

module.exports = { client, openClient, updateReported, listening, Inbox, within, eventually };
