// Preloaded with `node --require`: TLS connections to localhost:443 go to the hub's HTTPS port instead. Some SDK parts
// (service clients, MqttWs, Http) have 443 fixed, and binding 443 needs root. Nothing else is changed: names,
// certificates, headers and bytes are those of port 443.
'use strict';
const tls = require('node:tls');

const httpsPort = Number(process.env.TWINSTORM_SDK_HTTPS_PORT);
const connect = tls.connect;

tls.connect = function connectElsewhere(...args) {
  const [options] = args;
  if (options && typeof options === 'object' && Number(options.port) === 443 && options.host === 'localhost') {
    return connect.call(this, { ...options, port: httpsPort }, ...args.slice(1));
  }
  return connect.apply(this, args);
};
