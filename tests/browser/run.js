// Plays page.html in headless Chromium: `node run.js REPOSITORY MODULE TORTURE-SERVER [WORD]`, by tests/scripts/browser:
// the scenarios whose names have this word.
// The current directory has the library `ws`.
'use strict';

const assert = require('node:assert');
const { spawn } = require('node:child_process');
const fs = require('node:fs');
const http = require('node:http');
const os = require('node:os');
const path = require('node:path');
const readline = require('node:readline');
const WebSocket = require(require.resolve('ws', { paths: [process.cwd()] }));

const [repository, module_, tortureServer, word = ''] = process.argv.slice(2);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// The page's times, in ms.
const IDLE = 2000;
const TIMES = { idle: IDLE, silence: 500, pong: 1000 };
// How long a page is frozen.
const FROZEN = 3 * IDLE;
// A timer in a background tab fires once a second; after five minutes once a minute, which is two thirds of the default
// idle_timeout. Here a minute is shortened to more than the idle timeout, which is harder.
const ONCE_A_SECOND = 1000;
const RARELY = 2.5 * IDLE;

const ended = [];

// A program that prints a JSON object a line, and ends with its standard input. `said` fills up.
async function server(command, ...args) {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  ended.push(() => child.stdin.end());
  const said = [];
  const port = await new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', () => reject(new Error(`${command} ended`)));
    readline.createInterface({ input: child.stdout }).on('line', (line) => {
      const fact = JSON.parse(line);
      said.push(fact);
      const listening = fact.port ?? fact.listening;
      if (listening) resolve(listening);
    });
  });
  return { port, said };
}

// The page and the module, on loopback.
async function site() {
  const files = {
    '/': [path.join(repository, 'tests/browser/page.html'), 'text/html'],
    '/heartbeat.wasm': [module_, 'application/wasm'],
  };
  const server = http.createServer((request, response) => {
    const file = files[new URL(request.url, 'http://page').pathname];
    if (!file) return response.writeHead(404).end();
    response.writeHead(200, { 'Content-Type': file[1] }).end(fs.readFileSync(file[0]));
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  ended.push(() => server.close());
  return server.address().port;
}

// Chromium, by its DevTools protocol.
async function browser() {
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'heartbeat-browser-'));
  const child = spawn('chromium', [
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--remote-debugging-port=0', `--user-data-dir=${profile}`, 'about:blank',
  ], { stdio: ['ignore', 'ignore', 'pipe'] });
  const gone = new Promise((resolve) => child.on('exit', resolve));
  ended.push(async () => {
    child.kill();
    await gone;
    fs.rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  });
  const address = await new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', () => reject(new Error('chromium ended')));
    readline.createInterface({ input: child.stderr }).on('line', (line) => {
      const listening = /^DevTools listening on (.*)$/.exec(line);
      if (listening) resolve(listening[1]);
    });
  });
  const socket = new WebSocket(address);
  await new Promise((resolve, reject) => socket.on('open', resolve).on('error', reject));
  ended.push(() => socket.close());
  const waiting = new Map();
  socket.on('message', (text) => {
    const { id, result, error } = JSON.parse(text);
    if (!waiting.has(id)) return;
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (error) reject(new Error(error.message));
    else resolve(result);
  });
  let last = 0;
  return (method, params = {}, sessionId) => new Promise((resolve, reject) => {
    waiting.set(++last, { resolve, reject });
    socket.send(JSON.stringify({ id: last, method, params, sessionId }));
  });
}

class Tab {
  static async open(call, url) {
    const { targetId } = await call('Target.createTarget', { url });
    const { sessionId } = await call('Target.attachToTarget', { targetId, flatten: true });
    return Object.assign(new Tab(), { call, targetId, sessionId });
  }

  do(method, params) {
    return this.call(method, params, this.sessionId);
  }

  async value(expression) {
    const { result, exceptionDetails } =
      await this.do('Runtime.evaluate', { expression, returnByValue: true, awaitPromise: true });
    assert(!exceptionDetails, `${expression}: ${exceptionDetails?.exception?.description}`);
    return result.value;
  }

  // What happened in the page so far: all of it, or what is of these kinds.
  async story(...kinds) {
    const story = (await this.value('window.story')) ?? [];
    return kinds.length ? story.filter(({ what }) => kinds.includes(what)) : story;
  }

  async until(what, condition, ms = 10_000) {
    for (const end = Date.now() + ms; ;) {
      const story = await this.story();
      if (condition(story)) return story;
      if (Date.now() > end) assert.fail(`not within ${ms} ms: ${what}\n${JSON.stringify(story.slice(-20), null, 1)}`);
      await sleep(50);
    }
  }

  close() {
    return this.call('Target.closeTarget', { targetId: this.targetId });
  }
}

const count = (story, what) => story.filter((entry) => entry.what === what).length;

// One dial, one connection, nothing judged, nothing ended.
async function unharmed(tab, why) {
  const story = await tab.story('connect', 'open', 'abort', 'close');
  assert.deepStrictEqual(story.map(({ what }) => what), ['connect', 'open'], `${why}: ${JSON.stringify(story)}`);
}

async function main() {
  const library = await server('node', path.join(repository, 'tests/servers/ws_server.js'), '0');
  const torture = await server(tortureServer, '--ping', '500', '--death', String(IDLE));
  const port = await site();
  const call = await browser();
  const { product } = await call('Browser.getVersion');
  console.log(product);
  const page = (url, more = {}) =>
    Tab.open(call, `http://127.0.0.1:${port}/?${new URLSearchParams({ ...TIMES, ...more, url })}`);
  const of_library = (path) => `ws://127.0.0.1:${library.port}${path}`;

  const scenarios = {
    // The server's own notes: it has heard an answer to each of its questions, of frames (the browser's) and of text.
    async 'a ping by message is answered'() {
      const tab = await page(of_library('/pings'));
      await tab.until('the server has asked everything', (story) => story.some(({ data }) => data === 'asked'), 20_000);
      const questions = JSON.parse(fs.readFileSync(path.join(repository, 'tests/servers/pings.json'))).flat();
      const texts = questions.filter(({ text }) => text).length;
      const answers = library.said.filter(({ event, text }) => event === 'answer' && text === '{"type":"pong"}');
      assert.strictEqual(answers.length, texts);
      const slowest = Math.max(...answers.map(({ delay_ms }) => delay_ms));
      assert(slowest < 500, `an answer took ${slowest} ms`);
      await tab.close();
      return `${texts} answers, the slowest after ${slowest.toFixed(1)} ms`;
    },

    async 'a server that froze is noticed, and dialled anew'() {
      const tab = await page(`ws://127.0.0.1:${torture.port}/@page/t1`);
      const story = await tab.until('a second connection', (story) => count(story, 'open') >= 2, 15_000);
      const verdict = story.find(({ what }) => what === 'abort');
      const last = story.filter(({ what, conn, at }) => at < verdict.at && conn === verdict.conn && ['open', 'message'].includes(what)).at(-1);
      const silence = verdict.at - last.at;
      assert(['idle_timeout', 'pong_timeout'].includes(verdict.reason), verdict.reason);
      // Not before the earlier of its two deadlines, and not long after the idle timeout.
      assert(silence >= TIMES.silence + TIMES.pong && silence < IDLE + 500, `judged after ${silence} ms`);
      await tab.close();
      return `${verdict.reason} after ${silence.toFixed(0)} ms of silence`;
    },

    // The server talks on, and what it said waits in the browser.
    async 'a page that was frozen reads before it judges'() {
      return frozen('/chat');
    },

    // The server says nothing unless it is asked, and nobody could ask.
    async 'a page that was frozen asks before it judges'() {
      return frozen('/echo');
    },

    // Chromium itself ends the connections of a page that it freezes: the page is told when it is back.
    async 'a page that the browser froze dials anew'() {
      const tab = await page(of_library('/echo'));
      await tab.until('it is open', (story) => count(story, 'open') === 1);
      await tab.do('Page.setWebLifecycleState', { state: 'frozen' });
      await sleep(FROZEN);
      await tab.do('Page.setWebLifecycleState', { state: 'active' });
      await tab.until('a second connection', (story) => count(story, 'open') === 2);
      await stoodStill(tab);
      const story = await tab.story('connect', 'open', 'abort', 'close');
      assert.deepStrictEqual(story.map(({ what }) => what), ['connect', 'open', 'close', 'connect', 'open']);
      await tab.close();
      return `its end was told as ${story[2].code}, the next dial came ${(story[3].at - story[2].at).toFixed(0)} ms later`;
    },

    async 'timers once a second kill nothing'() {
      return throttled(ONCE_A_SECOND);
    },

    async 'timers later than the idle timeout kill nothing'() {
      return throttled(RARELY);
    },

    // The browser's own throttling: another tab is in front.
    async 'a tab in the background kills nothing'() {
      const tab = await page(of_library('/echo'));
      await tab.until('it is open', (story) => count(story, 'open') === 1);
      const front = await Tab.open(call, 'about:blank');
      await call('Target.activateTarget', { targetId: front.targetId });
      await front.do('Page.bringToFront');
      await sleep(500);
      const visibility = await tab.value('document.visibilityState');
      const waited = await tab.value(`new Promise((resolve) => {
        const start = performance.now();
        let turns = 0;
        const turn = () => ++turns === 8 ? resolve((performance.now() - start) / turns) : setTimeout(turn, 20);
        turn();
      })`);
      assert(visibility === 'hidden' && waited > 500, `not throttled: ${visibility}, ${waited} ms`);
      await sleep(3 * IDLE);
      await unharmed(tab, 'a tab in the background');
      await front.close();
      await tab.close();
      return `${visibility}; a timeout of 20 ms took ${waited.toFixed(0)} ms`;
    },
  };

  // Stops the process of a page that is open, for longer than its idle timeout.
  async function frozen(path) {
    const tab = await page(of_library(path));
    await tab.until('it is open', (story) => count(story, 'open') === 1);
    await sleep(300);
    const { processInfo } = await call('SystemInfo.getProcessInfo');
    const pages = processInfo.filter(({ type }) => type === 'renderer').map(({ id }) => id);
    assert(pages.length, 'chromium tells no renderer');
    try {
      for (const pid of pages) process.kill(pid, 'SIGSTOP');
      await sleep(FROZEN);
    } finally {
      for (const pid of pages) process.kill(pid, 'SIGCONT');
    }
    await sleep(500);
    const stopped = await stoodStill(tab);
    await sleep(IDLE);
    await unharmed(tab, 'a live server');
    await tab.close();
    return `frozen for ${stopped.toFixed(0)} ms`;
  }

  // The longest time in ms in which nothing happened in the page. A page that was frozen must really have stood still.
  async function stoodStill(tab) {
    const times = (await tab.story()).map(({ at }) => at);
    const longest = Math.max(...times.slice(1).map((at, n) => at - times[n]));
    assert(longest > 2 * IDLE, `the page stood still for ${longest} ms only`);
    return longest;
  }

  async function throttled(every) {
    const tab = await page(of_library('/echo'), { throttle: every });
    await tab.until('it is open', (story) => count(story, 'open') === 1, 2 * every + 5000);
    await sleep(3 * every + IDLE);
    await unharmed(tab, `timers at multiples of ${every} ms`);
    const asked = count(await tab.story(), 'send');
    assert(asked > 0, 'the page has asked nothing');
    await tab.close();
    return `one timer in ${every} ms`;
  }

  let failed = 0;
  for (const [name, play] of Object.entries(scenarios)) {
    if (!name.includes(word)) continue;
    try {
      console.log(`ok      ${name} (${await play()})`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED  ${name}: ${error.message}`);
    }
  }
  return failed;
}

main().catch((error) => {
  console.error(error);
  return 1;
}).then(async (failed) => {
  for (const end of ended.reverse()) await end();
  process.exit(failed ? 1 : 0);
});
