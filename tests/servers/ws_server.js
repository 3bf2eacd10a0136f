// A server on the `ws` library. The URL's path says how it behaves: see tests/README.md.
'use strict';

const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');
const { performance } = require('node:perf_hooks');
// The tests install the library beside their other output, not beside this file.
const { WebSocketServer } = require(require.resolve('ws', { paths: [process.cwd()] }));

const RETRY_AFTER = { 503: '2' };
const CHAT_EVERY_MS = 100;
const PATIENCE_MS = 2000;
const BATCHES = JSON.parse(fs.readFileSync(path.join(__dirname, 'pings.json'), 'utf8'));

function say(event, facts) {
  fs.writeSync(1, JSON.stringify({ event, ...facts }) + '\n');
}

// Asks what pings.json asks, batch after batch, and tells every answer with its delay.
class Pings {
  askedAt = [];
  allAnswered = () => {};

  async ask(ws) {
    for (const batch of BATCHES) {
      for (const question of batch) {
        if (!('data' in question)) this.askedAt.push(performance.now());
        if ('frame' in question) ws.ping(Buffer.from(question.frame, 'hex'));
        else ws.send(question.text ?? question.data);
      }
      await this.answers();
    }
    ws.send('asked');
  }

  answers() {
    return new Promise((resolve) => {
      const late = setTimeout(resolve, PATIENCE_MS);
      this.allAnswered = () => {
        clearTimeout(late);
        resolve();
      };
    });
  }

  answered(what) {
    const askedAt = this.askedAt.shift();
    const delay_ms = askedAt === undefined ? null : performance.now() - askedAt;
    say('answer', { ...what, delay_ms });
    if (this.askedAt.length === 0) this.allAnswered();
  }
}

function refuse({ req }, accept) {
  if (!req.url.startsWith('/status/')) return accept(true);
  const status = Number(req.url.slice('/status/'.length));
  say('refused', { status });
  accept(false, status, 'refused', status in RETRY_AFTER ? { 'Retry-After': RETRY_AFTER[status] } : {});
}

let connections = 0;

function behave(ws, request) {
  const conn = ++connections;
  say('open', { conn, path: request.url });
  ws.on('error', () => {});
  ws.on('close', (code) => say('closed', { conn, code }));
  if (request.url === '/pings') {
    const pings = new Pings();
    ws.on('pong', (payload) => pings.answered({ frame: payload.toString('hex') }));
    ws.on('message', (data) => pings.answered({ text: data.toString() }));
    pings.ask(ws);
  } else if (request.url === '/chat') {
    let n = 0;
    const chat = () => ws.send(JSON.stringify({ n: n++ }));
    const chatting = setInterval(chat, CHAT_EVERY_MS);
    ws.on('close', () => clearInterval(chatting));
    chat();
  } else if (request.url === '/echo') {
    ws.on('message', (data) => {
      say('message', { text: data.toString() });
      ws.send(data.toString());
    });
  } else if (request.url.startsWith('/close/')) {
    ws.close(Number(request.url.slice('/close/'.length)));
  }
}

// `/deflate/none`, or no context takeover of the server's and the client's, bits of both windows; 0 says nothing.
function deflate(path) {
  if (path === 'none') return false;
  const [serverAlone, clientAlone, serverBits, clientBits] = path.split('/').map(Number);
  return {
    threshold: 0,
    ...(serverAlone && { serverNoContextTakeover: true }),
    ...(clientAlone && { clientNoContextTakeover: true }),
    ...(serverBits && { serverMaxWindowBits: serverBits }),
    ...(clientBits && { clientMaxWindowBits: clientBits }),
  };
}

const server = new WebSocketServer({ noServer: true, verifyClient: refuse });
server.on('connection', behave);

const upgrades = http.createServer((_, response) => response.writeHead(426).end());
upgrades.on('upgrade', (request, socket, head) => {
  if (!request.url.startsWith('/deflate/')) {
    server.handleUpgrade(request, socket, head, (ws) => server.emit('connection', ws, request));
    return;
  }
  const perMessageDeflate = deflate(request.url.slice('/deflate/'.length));
  const echoes = new WebSocketServer({ noServer: true, perMessageDeflate });
  echoes.handleUpgrade(request, socket, head, (ws) => {
    ws.on('error', () => {});
    ws.on('message', (data, isBinary) => ws.send(data, { binary: isBinary }));
  });
});
upgrades.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => say('listening', { port: upgrades.address().port }));

// A server whose tests are gone ends too: its stdin has no other end any more.
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
