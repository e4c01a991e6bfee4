// A device application of its own, to be killed: opens the device of TWINSTORM_LISTENER and listens to methods. An SDK
// client that has lost its identity to another never ends by itself.
'use strict';
const { Client } = require('azure-iot-device');
const { Mqtt } = require('azure-iot-device-mqtt');

const client = Client.fromConnectionString(process.env.TWINSTORM_LISTENER, Mqtt);
client.on('error', () => {});
client.onDeviceMethod('x', () => {});
client.open();
