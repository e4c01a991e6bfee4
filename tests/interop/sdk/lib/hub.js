// The running hub as a test sees it: addresses, a small REST client, devices.
'use strict';
const fs = require('node:fs');
const http = require('node:http');
const https = require('node:https');
const { randomBytes } = require('node:crypto');

const { SharedAccessSignature } = require('azure-iot-common');

const ready = JSON.parse(fs.readFileSync(process.env.TWINSTORM_HUB_READY, 'utf8'));
const ca = fs.readFileSync(ready.caFile, 'utf8');

/** `{HostName, SharedAccessKey...}` of a connection string. */
function parts(connectionString) {
  return Object.fromEntries(connectionString.split(';').map((part) => {
    const at = part.indexOf('=');
    return [part.slice(0, at), part.slice(at + 1)];
  }));
}

/** A service token; expiry in seconds since 1970. */
function serviceToken({ connectionString = ready.ownerConnectionString, expires, resource } = {}) {
  const { HostName, SharedAccessKeyName, SharedAccessKey } = parts(connectionString);
  const expiry = expires ?? Math.floor(Date.now() / 1000) + 3600;
  return SharedAccessSignature.create(resource ?? HostName, SharedAccessKeyName, SharedAccessKey, expiry).toString();
}

/** One request over plain HTTP. Resolves to `{status, headers, text, json}`; `json` is undefined for other bodies. */
function request(method, path, { body, headers = {}, authorization = serviceToken() } = {}) {
  const json = body !== undefined && typeof body !== 'string' && !Buffer.isBuffer(body);
  const content = body === undefined ? undefined : Buffer.from(json ? JSON.stringify(body) : body);
  const all = { ...(json && { 'content-type': 'application/json; charset=utf-8' }), ...headers };
  if (authorization) all.authorization = authorization;
  if (content) all['content-length'] = content.length;
  const separator = path.includes('?') ? '&' : '?';
  return new Promise((resolve, reject) => {
    const call = http.request({
      host: '127.0.0.1', port: ready.httpPort, method, headers: all, agent: false,
      path: `${path}${separator}api-version=2021-04-12`,
    }, (answer) => {
      const chunks = [];
      answer.on('data', (chunk) => chunks.push(chunk));
      answer.on('end', () => {
        const text = Buffer.concat(chunks).toString();
        const isJson = /json/.test(answer.headers['content-type'] ?? '') && text !== '';
        const parsed = isJson ? JSON.parse(text) : undefined;
        resolve({ status: answer.statusCode, headers: answer.headers, text, json: parsed });
      });
    });
    call.on('error', reject);
    call.end(content);
  });
}

/** As `request`, and a failure unless the answer is a success. Resolves to the JSON. */
async function call(method, path, options) {
  const answer = await request(method, path, options);
  if (answer.status >= 300) throw new Error(`${method} ${path}: ${answer.status} ${answer.text}`);
  return answer.json;
}

let lastDevice = 0;
/** Registers a device and resolves to `{id, key, path}`. */
async function createDevice({ id = `d${(lastDevice += 1)}-${randomBytes(3).toString('hex')}`, ...members } = {}) {
  const path = `/devices/${encodeURIComponent(id)}`;
  const identity = await call('PUT', path, { body: { deviceId: id, ...members } });
  return { id, path, key: identity.authentication.symmetricKey?.primaryKey };
}

/** Registers a module and resolves to `{id, moduleId, key, path}`. */
async function createModule(device, moduleId) {
  const path = `${device.path}/modules/${encodeURIComponent(moduleId)}`;
  const identity = await call('PUT', path, { body: { deviceId: device.id, moduleId } });
  return { id: device.id, moduleId, path, key: identity.authentication.symmetricKey.primaryKey };
}

/** Of a device or module. `port`: MQTT/TLS port, false for transports that are fixed to 443. */
function deviceConnectionString({ id, moduleId, key }, { port = ready.mqttsPort, host = 'localhost' } = {}) {
  const module = moduleId ? `;ModuleId=${moduleId}` : '';
  const credentials = key ? `SharedAccessKey=${key}` : 'x509=true';
  return `HostName=${host}${port ? `:${port}` : ''};DeviceId=${id}${module};${credentials}`;
}

/** An agent that dials the hub's HTTPS port whatever port the SDK asks for: the documented `http.agent` and
 * `mqtt.webSocketAgent` options. `options` go to TLS (`cert` and `key` for X.509), `port` and `ca` lead
 * elsewhere. */
function agent(options = {}) {
  const made = new https.Agent({ keepAlive: false });
  const create = made.createConnection;
  made.createConnection = (wanted, done) => create.call(
    made, { ...wanted, ca, port: ready.httpsPort, ...options }, done);
  return made;
}

const serviceTwin = (device) => call('GET', `/twins${device.path.slice('/devices'.length)}`);
const patchTwin = (device, body) => call('PATCH', `/twins${device.path.slice('/devices'.length)}`, { body });
const counts = () => call('GET', '/twinstorm/counts');

/** The hub's extension that stands in for the service's AMQP: puts a cloud-to-device message into a device's queue. */
const enqueue = (device, body, headers) => call(
  'POST', `/twinstorm/devices/${encodeURIComponent(device.id)}/messages/devicebound`, { body, headers });

/** What the hub has received from a device since the last call; the first call starts the watch. */
const watch = (device) => call('GET', `/twinstorm${device.path}/messages/events`);

module.exports = {
  ready, ca, parts, serviceToken, request, call, createDevice, createModule, deviceConnectionString, agent, serviceTwin,
  patchTwin, counts, enqueue, watch,
};
