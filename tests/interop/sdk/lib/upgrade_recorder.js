// A web server in front of the hub's HTTP port that notes the request by which a device goes on to WebSocket.
'use strict';
const http = require('node:http');
const https = require('node:https');
const net = require('node:net');

const { mask } = require('./trace.js');

/** The request as a packet for lib/trace.js: the request line and every header by its lower-case name. */
function describeUpgrade(request, names) {
  const fields = { request: `${request.method} ${request.url} HTTP/${request.httpVersion}` };
  for (const [name, value] of Object.entries(request.headers).sort()) fields[name] = mask(value, names);
  const key = Buffer.from(request.headers['sec-websocket-key'] ?? '', 'base64');
  fields['sec-websocket-key'] = key.length === 16 ? '{16 bytes, base64}' : request.headers['sec-websocket-key'];
  return { title: 'UPGRADE', fields };
}

/** `target`: the hub's HTTP port. `secure`: `{key, cert}` to speak TLS. Resolves to `{port, packets, stop}`; `packets`
 * grows by one for each upgrade. */
async function recordUpgrades({ target, secure, names }) {
  const packets = [];
  const sockets = new Set();
  const server = secure ? https.createServer(secure) : http.createServer();
  server.on('connection', (socket) => sockets.add(socket));
  server.on('request', (request, response) => {
    const { method, url: path, headers } = request;
    const onward = http.request({ host: '127.0.0.1', port: target, method, path, headers, agent: false }, (answer) => {
      response.writeHead(answer.statusCode, answer.rawHeaders);
      answer.pipe(response);
    });
    onward.on('error', () => response.destroy());
    request.pipe(onward);
  });
  server.on('upgrade', (request, device, head) => {
    packets.push(describeUpgrade(request, names));
    const hub = net.connect(target, '127.0.0.1');
    sockets.add(hub);
    const { rawHeaders: raw } = request;
    const lines = raw.flatMap((text, i) => (i % 2 ? [] : [`${text}: ${raw[i + 1]}`]));
    hub.write(`${request.method} ${request.url} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`);
    hub.write(head);
    for (const [from, to] of [[device, hub], [hub, device]]) {
      from.on('error', () => to.destroy());
      from.pipe(to);
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: server.address().port,
    packets,
    async stop() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

module.exports = { recordUpgrades };
