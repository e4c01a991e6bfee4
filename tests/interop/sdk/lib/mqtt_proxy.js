// A man in the middle for MQTT: sees every packet between device and hub, cuts connections, answers in the hub's place.
'use strict';
const { EventEmitter } = require('node:events');
const net = require('node:net');
const tls = require('node:tls');

const mqttPacket = require('mqtt-packet');

/** Listens on `localhost:port`. `target`: the hub's port to pass bytes to. `secure`: `{key, cert}` to speak TLS with
 * the device, or nothing to take the bytes as they come. Emits `packet` ({connection, from: 'device'|'hub', packet})
 * for what is MQTT. Connections are numbered from 1. */
class MqttProxy extends EventEmitter {
  #server;
  #links = new Set();
  #connacks = [];
  connections = 0;

  static async start({ target, secure }) {
    const proxy = new MqttProxy();
    proxy.#server = net.createServer((socket) => proxy.#accept(socket, secure, target));
    await new Promise((resolve) => proxy.#server.listen(0, '127.0.0.1', resolve));
    proxy.port = proxy.#server.address().port;
    return proxy;
  }

  /** The next CONNECTs are answered with these codes by the proxy; the hub never sees them. */
  answerConnect(...codes) { this.#connacks.push(...codes); }

  /** Ends every connection there is without a word of MQTT. `reset`: by RST, possible where the proxy does not speak
   * TLS itself. */
  cut({ reset = false } = {}) {
    for (const { device, hub } of this.#links) {
      if (reset) {
        device.resetAndDestroy();
        hub.resetAndDestroy();
      } else {
        device.destroy();
        hub.destroy();
      }
    }
  }

  async stop() {
    for (const { socket, hub } of this.#links) {
      socket.destroy();
      hub.destroy();
    }
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #accept(socket, secure, target) {
    this.connections += 1;
    const connection = this.connections;
    socket.on('error', () => {});
    const device = secure ? new tls.TLSSocket(socket, { isServer: true, ...secure }) : socket;
    const hub = net.connect(target, '127.0.0.1');
    const link = { socket, device, hub };
    this.#links.add(link);
    const fromDevice = this.#parser('device', connection, (packet) => {
      if (packet.cmd !== 'connect' || this.#connacks.length === 0) return false;
      const returnCode = this.#connacks.shift();
      device.end(mqttPacket.generate({ cmd: 'connack', returnCode, sessionPresent: false }));
      hub.destroy();
      return true;
    });
    const fromHub = this.#parser('hub', connection, () => false);
    device.on('data', (bytes) => { if (!fromDevice(bytes)) hub.write(bytes); });
    hub.on('data', (bytes) => {
      fromHub(bytes);
      device.write(bytes);
    });
    device.on('error', () => {});
    hub.on('error', () => {});
    device.on('close', () => {
      hub.end();
      this.#links.delete(link);
    });
    hub.on('close', () => { if (!device.writableEnded) device.end(); });
  }

  /** Gives a function for bytes that tells whether `swallow` took one of their packets. */
  #parser(from, connection, swallow) {
    const parser = mqttPacket.parser({ protocolVersion: 4 });
    let swallowed = false;
    parser.on('packet', (packet) => {
      this.emit('packet', { connection, from, packet });
      swallowed = swallow(packet) || swallowed;
    });
    // What is no MQTT (TLS, say) passes unseen.
    let readable = true;
    parser.on('error', () => { readable = false; });
    return (bytes) => {
      if (readable) parser.parse(bytes);
      return swallowed;
    };
  }
}

/** Sends one CONNECT to a plain MQTT port; resolves to the CONNACK's code, or 'closed' when none came. */
function connack(port, fields) {
  return new Promise((resolve, reject) => {
    const socket = net.connect(port, '127.0.0.1', () => {
      socket.write(mqttPacket.generate({ cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, clean: false,
        keepalive: 60, ...fields }));
    });
    const parser = mqttPacket.parser();
    parser.on('packet', (packet) => {
      socket.end(packet.returnCode === 0 ? mqttPacket.generate({ cmd: 'disconnect' }) : undefined);
      resolve(packet.returnCode);
    });
    socket.on('data', (bytes) => parser.parse(bytes));
    socket.on('close', () => resolve('closed'));
    socket.on('error', reject);
  });
}

module.exports = { MqttProxy, connack };
