// Follows a channel with the client of the ws package, which offers
// permessage-deflate of its own accord, and prints what it sees, one JSON object
// a line, until the channel's second message:
//
//   node deflate.js ws://127.0.0.1:8080/ws test:name
'use strict';

const WebSocket = require('ws');

const [url, channel] = process.argv.slice(2);
const ws = new WebSocket(url);
const say = (what) => process.stdout.write(JSON.stringify(what) + '\n');

let socket;
let read = 0; // bytes from the socket up to the last message
let left = 2;

ws.on('upgrade', (response) => { socket = response.socket; });
ws.on('open', () => {
  say({ got: 'open', extensions: ws.extensions });
  // More than the 1024 bytes from which on ws compresses.
  ws.send(JSON.stringify({ type: 'subscribe', channels: [channel], padding: 'x'.repeat(3000) }));
});
ws.on('message', (data) => {
  const wire = socket.bytesRead - read;
  read = socket.bytesRead;
  const message = JSON.parse(data);
  say({ got: message.type, channel: message.channel, bytes: data.length, wire, data: message.data });
  if (message.channel === channel && --left === 0) {
    ws.close(1000);
  }
});
ws.on('error', (error) => { say({ got: 'error', error: String(error) }); process.exitCode = 1; });
ws.on('close', (code) => say({ got: 'close', code }));
