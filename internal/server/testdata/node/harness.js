// Runs the client that TICKET-003 sketches, exactly as it stands there, against
// a server and prints what it gets, one JSON object a line:
//
//   node harness.js ws://127.0.0.1:8080/ws
//
// The sketch calls four methods that it leaves out. They are added here by a
// subclass that does what their names say and no more. "ping" on the standard
// input sends a ping; its end closes.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const readline = require('node:readline');
const vm = require('node:vm');

globalThis.WebSocket = require('ws');

const sketch = path.join(__dirname, '..', 'ticket003.js');
const CryptoIntelWebSocket = vm.runInThisContext(
  fs.readFileSync(sketch, 'utf8') + '\nCryptoIntelWebSocket;', { filename: sketch });

const say = (what) => process.stdout.write(JSON.stringify(what) + '\n');

class Client extends CryptoIntelWebSocket {
  send(message) {
    if (this.ws && this.ws.readyState === WebSocket.OPEN) {
      this.ws.send(JSON.stringify(message));
    } else {
      this.messageQueue.push(message);
    }
  }

  flushMessageQueue() {
    const waiting = this.messageQueue;
    this.messageQueue = [];
    waiting.forEach((message) => this.send(message));
  }

  resubscribe() {
    if (this.subscriptions.size > 0) {
      this.send({ type: 'subscribe', channels: [...this.subscriptions] });
    }
  }

  handleMessage(message) {
    const callbacks = this.listeners.get(message.channel);
    if (message.type === 'error') {
      say({ error: message.error.code });
    } else if (callbacks) {
      callbacks.forEach((callback) => callback(message));
    } else {
      say({ got: message.type, message });
    }
  }

  connect() {
    super.connect();
    say({ got: 'connect' });
  }
}

const client = new Client(process.argv[2]);
const delivered = (message) => say({ got: message.type, channel: message.channel, data: message.data });
client.subscribe('price:bitcoin', delivered); // before there is a socket
client.connect();
client.subscribe(['signals:all'], delivered); // while it connects

readline.createInterface({ input: process.stdin })
  .on('line', (command) => client.send({ type: command }))
  .on('close', () => {
    client.reconnect = () => {};
    client.ws.close();
  });
