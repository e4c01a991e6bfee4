// What a device sent, as text that two devices can be compared by: every field of every MQTT packet, with ids, tokens
// and times masked where they must differ and spelled out where they must not.
'use strict';

const uuid4 = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

/** `names`: device id -> mask. Longer names first, so that one within another is not torn. */
function mask(text, names) {
  let out = text;
  for (const [name, label] of Object.entries(names)) out = out.replaceAll(name, label);
  return out;
}

/** The hub makes up the ids of method calls; those of twin requests are the device's. */
function maskRid(topic) {
  if (topic.startsWith('$iothub/methods/res/')) return topic.replace(/\$rid=[^&/]+$/, '$rid={of the call}');
  return topic.replace(/\$rid=([^&/]*)/, (_, rid) => `$rid=${uuid4.test(rid) ? '{uuid v4}' : rid}`);
}

/** The parts of a user name, one field each: `{host}/{device}/?api-version=...&DeviceClientType=...`. */
function userNameFields(userName, names) {
  const [form, query = ''] = userName.split('?');
  const fields = { 'user name': `${mask(form, names)}?` };
  const keys = [];
  for (const pair of query.split('&')) {
    const at = pair.indexOf('=');
    const key = pair.slice(0, at);
    keys.push(key);
    // The platform part in parentheses is that of the machine the trace was made on.
    fields[`user name ${key}`] = pair.slice(at + 1).replace(/\(.*\)/, '({platform})')
      .replace(/^twinstorm%2F[0-9.]+/, 'twinstorm%2F{version}');
  }
  fields['user name keys'] = keys.join(' ');
  return fields;
}

/** The parts of a SAS token, one field each. `now` in seconds since 1970. */
function tokenFields(token, names, now) {
  if (!token) return { password: 'none' };
  const space = token.indexOf(' ');
  const fields = { password: token.slice(0, space) };
  const keys = [];
  for (const pair of token.slice(space + 1).split('&')) {
    const at = pair.indexOf('=');
    const [key, value] = [pair.slice(0, at), pair.slice(at + 1)];
    keys.push(key);
    if (key === 'sr') fields['password sr'] = mask(value, names);
    if (key === 'sig') {
      fields['password sig'] = /^(%2[BF]|[A-Za-z0-9])+%3D$/.test(value) ? '{base64, encoded}' : value;
    }
    if (key === 'se') {
      // Both ask for 8 s; a second or two may pass before the token is here.
      const ahead = Number(value) - now;
      fields['password se'] = ahead >= 5 && ahead <= 9 ? '{8 s ahead}' : value;
    }
    if (key === 'skn') fields['password skn'] = value;
  }
  fields['password parts'] = keys.join(' ');
  return fields;
}

/** `{title, fields}` of one packet as mqtt-packet decodes it. The title says what it is for. */
function describe(packet, names, now) {
  switch (packet.cmd) {
    case 'connect':
      return {
        title: 'CONNECT',
        fields: {
          protocol: `${packet.protocolId} ${packet.protocolVersion}`,
          'clean session': String(packet.clean),
          'keep alive': String(packet.keepalive),
          will: packet.will ? 'yes' : 'none',
          'client id': mask(packet.clientId, names),
          ...userNameFields(packet.username ?? '', names),
          ...tokenFields(packet.password?.toString(), names, now),
        },
      };
    case 'subscribe': {
      const filters = packet.subscriptions.map(({ topic, qos }) => `${mask(topic, names)} qos ${qos}`);
      return { title: `SUBSCRIBE ${filters.map((filter) => filter.split(' qos')[0]).join(', ')}`,
        fields: { filters: filters.join(', '), 'packet id': packet.messageId > 0 ? '{id}' : '0' } };
    }
    case 'publish': {
      const topic = maskRid(mask(packet.topic, names));
      return {
        title: `PUBLISH ${purpose(topic)}`,
        fields: { topic, qos: String(packet.qos), retain: String(packet.retain), dup: String(packet.dup),
          'packet id': packet.qos > 0 ? '{id}' : 'none', payload: JSON.stringify(packet.payload.toString('latin1')) },
      };
    }
    case 'puback':
      return { title: 'PUBACK', fields: { 'packet id': '{id of the message}' } };
    default:
      return { title: packet.cmd.toUpperCase(), fields: {} };
  }
}

function purpose(topic) {
  if (topic.includes('/twin/GET/')) return 'twin get';
  if (topic.includes('/twin/PATCH/')) return 'reported properties';
  if (topic.includes('/methods/res/')) return 'method answer';
  if (topic.endsWith('/messages/events/')) return 'telemetry';
  if (topic.includes('/messages/events/')) return 'telemetry with properties';
  return topic;
}

/** Collects what comes through an MqttProxy. `connections`: a list of packets for each that sent a
 * CONNECT. */
class Recorder {
  connections = [];
  accepted = 0; // reported properties, as the hub answered
  #numbers = new Map();
  constructor(proxy, names) {
    proxy.on('packet', ({ connection, from, packet }) => {
      if (from === 'hub') {
        if (packet.cmd === 'publish' && packet.topic.startsWith('$iothub/twin/res/204/')) this.accepted += 1;
        return;
      }
      if (!this.#numbers.has(connection)) this.#numbers.set(connection, this.connections.push([]) - 1);
      this.connections[this.#numbers.get(connection)].push(describe(packet, names, Math.floor(Date.now() / 1000)));
    });
  }
  /** How many packets of this title were seen. */
  count(title) { return this.connections.flat().filter((packet) => packet.title === title).length; }
}

/** The golden file's text. */
function format(connections, about) {
  let out = `${about.map((line) => `# ${line}`).join('\n')}\n`;
  connections.forEach((packets, i) => {
    out += `\nconnection ${i + 1}\n`;
    for (const { title, fields } of packets) {
      out += `  ${title}\n`;
      for (const [name, value] of Object.entries(fields)) out += `    ${name}: ${value}\n`;
    }
  });
  return out;
}

/** Differences as rows `{where, sdk, ours}`; `where` is unique: 'connection 1, CONNECT: keep alive'. Packets are paired
 * by title, the first of each title with the first. */
function compare(sdk, ours) {
  const rows = [];
  for (let i = 0; i < Math.max(sdk.length, ours.length); i += 1) {
    const [theirs, own] = [sdk[i] ?? [], ours[i] ?? []];
    const order = (packets) => packets.map(({ title }) => title);
    const titles = [...new Set([...order(theirs), ...order(own)])];
    for (const title of titles) {
      const [a, b] = [theirs, own].map((packets) => packets.filter((packet) => packet.title === title));
      if (a.length !== b.length) {
        const where = `connection ${i + 1}, ${title}: times sent`;
        rows.push({ where, sdk: String(a.length), ours: String(b.length) });
      }
      if (a.length === 0 || b.length === 0) continue;
      for (const name of new Set([...Object.keys(a[0].fields), ...Object.keys(b[0].fields)])) {
        const [x, y] = [a[0].fields[name] ?? 'absent', b[0].fields[name] ?? 'absent'];
        if (x !== y) rows.push({ where: `connection ${i + 1}, ${title}: ${name}`, sdk: x, ours: y });
      }
    }
    const both = (packets) => [...new Set(order(packets).filter((title) => order(theirs).includes(title)
      && order(own).includes(title)))].join('; ');
    if (both(theirs) !== both(own)) {
      rows.push({ where: `connection ${i + 1}: order`, sdk: both(theirs), ours: both(own) });
    }
  }
  return rows;
}

module.exports = { mask, Recorder, format, compare };
