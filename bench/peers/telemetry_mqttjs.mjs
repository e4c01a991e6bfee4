// What telemetry_client does, with the npm package mqtt (MQTT.js):
//
//   node telemetry_mqttjs.mjs PORT CLIENTS SECONDS
import mqtt from 'mqtt';

const [port, clients, seconds] = process.argv.slice(2).map(Number);
const payload = Buffer.alloc(256, 'x');
let acknowledged = 0;

function publish(client, topic) {
  client.publish(topic, payload, { qos: 1 }, (error) => {
    if (error) throw error;
    ++acknowledged;
    publish(client, topic);
  });
}

const links = [];
for (let i = 0; i < clients; ++i) {
  const clientId = `client-${String(i).padStart(5, '0')}`;
  const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${port}`, { clientId, reconnectPeriod: 0, protocolVersion: 4 });
  links.push([client, `devices/${clientId}/messages/events/`]);
}
for (const [client, topic] of links) publish(client, topic);
await new Promise((done) => setTimeout(done, 500));
const cpu = process.cpuUsage(), before = acknowledged, start = process.hrtime.bigint();
await new Promise((done) => setTimeout(done, seconds * 1000));
const used = process.cpuUsage(cpu);
console.log(JSON.stringify({
  acknowledged: acknowledged - before,
  cpuSeconds: (used.user + used.system) / 1e6,
  seconds: Number(process.hrtime.bigint() - start) / 1e9,
}));
process.exit(0);
