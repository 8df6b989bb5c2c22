// The stock client from npm in headless Chromium: a page of one port speaks to testhub on another.
//   CHROMIUM     path of the browser, /usr/bin/chromium when not given
//   SCREENSHOT   where to leave a picture of the page when all is done

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { NEGOTIATED, VARIANTS } from '../support/client.mjs';
import { Cutter } from '../support/cutter.mjs';
import { Testhub, testhubForThisFile } from '../support/testhub.mjs';
import { token } from '../support/tokens.mjs';

const testhub = await testhubForThisFile();
const at = (path) => fileURLToPath(new URL(path, import.meta.url));
const SERVED = {
  '/': ['text/html; charset=utf-8', at('page.html')],
  '/signalr.js': ['text/javascript', at('../node_modules/@microsoft/signalr/dist/browser/signalr.js')],
  '/signalr-protocol-msgpack.js': ['text/javascript', at('../node_modules/@microsoft/signalr-protocol-msgpack/dist/browser/signalr-protocol-msgpack.js')],
};

const pages = createServer(async (request, response) => {
  const served = SERVED[request.url];
  if (!served) return response.writeHead(404).end();
  response.writeHead(200, { 'Content-Type': served[0] }).end(await readFile(served[1]));
});
await new Promise((resolve) => pages.listen(0, '127.0.0.1', resolve));
const port = pages.address().port;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
const context = await browser.newContext();
const page = await opened(`http://127.0.0.1:${port}/`);
after(async () => {
  if (process.env.SCREENSHOT) await page.screenshot({ path: process.env.SCREENSHOT, fullPage: true });
  await browser.close();
  pages.close();
  pages.closeAllConnections();
});

async function opened(url) {
  const made = await context.newPage();
  await made.goto(url);
  return made;
}

/** A test whose function runs in the page, with the variant and what `arranged` adds. */
function inPage(name, variant, act, arranged = {}, where = page) {
  test(name, async () => {
    const args = { url: `${testhub.url}/testhub`, large: `${testhub.url}/testhub-large`, variant, ...(typeof arranged === 'function' ? await arranged() : arranged) };
    await spoken(`${variant.name}: ${name}`, where, () => where.evaluate(act, args));
  });
}

/** What a test does, told on the page as well. */
async function spoken(name, where, act) {
  try {
    await act();
    await where.evaluate((line) => say(line), name);
  } catch (error) {
    await where.evaluate((line) => say(line, true), `${name}: ${error.message}`);
    throw error;
  }
}

/** The page's own assertion. */
await page.evaluate(() => {
  window.same = (got, expected) => {
    const [one, other] = [JSON.stringify(got), JSON.stringify(expected)];
    if (one !== other) throw new Error(`got ${one?.slice(0, 300)}, expected ${other?.slice(0, 300)}`);
  };
});

for (const variant of VARIANTS) {
  describe(`browser: ${variant.name}`, () => {
    inPage('calls, results and errors', variant, ({ url, variant }) =>
      withHubs([build(url, variant)], async (hub) => {
        for (const text of ['', 'plain', 'a\u001eb\u001e', 'é ß 汉字 😀', 'x汉'.repeat(2000)]) same(await hub.invoke('Echo', text), text);
        same(await hub.invoke('Add', -19, 61), 42);
        const many = { a: 'é', b: 2 ** 40, c: 1.5, d: true, e: null, f: [1, -2, 3] };
        same(await hub.invoke('EchoMany', ...Object.values(many)), many);
        same(await hub.invoke('GetActiveTransportName'), variant.transport);
        if (!variant.skipNegotiation) same(await hub.invoke('GetCallerConnectionId'), hub.connectionId);
        const refused = await failure(hub.invoke('ThrowHubException', 'for all to see'));
        same(refused, "An unexpected error occurred invoking 'ThrowHubException' on the server. HubException: for all to see");
        if (variant.protocol === 'messagepack') {
          const bytes = Uint8Array.from({ length: 20_000 }, (_, n) => n & 255);
          same([...(await hub.invoke('EchoBinary', bytes))], [...bytes]);
        }
        const message = inbox(hub, 'Message');
        await hub.send('InvokeWithString', 'fired');
        same(await message.take(1), [['fired']]);
      }),
    );

    inPage('the page\'s own origin and the cookie of negotiate', variant, ({ url, variant }) =>
      withHubs([build(url, variant)], async (hub) => {
        same(await hub.invoke('GetHeader', 'Origin'), location.origin);
        // Cookies know no ports: this one was set by an earlier answer to the same host.
        same(await hub.invoke('GetCookie', 'testCookie'), 'testValue');
      }),
    );

    inPage('broadcasts and groups', variant, ({ url, variant }) =>
      withHubs([build(url, variant), build(url, variant), build(url, variant)], async (...hubs) => {
        const inboxes = hubs.map((hub) => inbox(hub, 'Broadcast'));
        const texts = Array.from({ length: 100 }, (_, n) => `message ${n}`);
        for (const text of texts) await hubs[0].invoke('BroadcastAll', text);
        for (const { take } of inboxes) same((await take(100)).map(([, text]) => text), texts);
        const group = crypto.randomUUID();
        await hubs[1].invoke('JoinGroup', group);
        await hubs[0].invoke('SendToGroup', group, 'to one');
        same((await inboxes[1].take(101))[100][1], 'to one');
        same(inboxes.map(({ calls }) => calls.length), [100, 101, 100]);
      }),
    );

    inPage('streams from the server', variant, ({ url, variant }) =>
      withHubs([build(url, variant)], async (hub) => {
        same(await collect(hub.stream('Stream')), ['a', 'b', 'c']);
        same(await collect(hub.stream('Counter', 1_000, 0)), Array.from({ length: 1_000 }, (_, n) => n));
        same(/boom$/.test(await failure(collect(hub.stream('FailingStream', 3, 'boom')))), true);
        const cancelled = once((resolve) => hub.on('StreamCanceled', resolve));
        const reading = hub.stream('InfiniteStream').subscribe({ next() {}, complete() {}, error() {} });
        same(await hub.invoke('Echo', 'meanwhile'), 'meanwhile');
        reading.dispose();
        await cancelled;
      }),
    );

    inPage('streams to the server', variant, ({ url, variant }) =>
      withHubs([build(url, variant)], async (hub) => {
        const [letters, numbers, mirrored] = [new signalR.Subject(), new signalR.Subject(), new signalR.Subject()];
        const calls = [hub.invoke('StreamingConcat', letters), hub.invoke('SumStream', numbers)];
        const back = collect(hub.stream('MirrorStream', mirrored));
        feed(letters, ['a', '\u001e', '汉', '']);
        feed(numbers, Array.from({ length: 200 }, (_, n) => n));
        feed(mirrored, ['x', 'y', 'z']);
        same(await Promise.all(calls), ['a\u001e汉', 19_900]);
        same(await back, ['x', 'y', 'z']);
      }),
    );

    inPage('client results', variant, ({ url, variant }) =>
      withHubs([build(url, variant), build(url, variant)], async (asker, other) => {
        const id = await other.invoke('GetCallerConnectionId');
        other.on('Answer', async (value) => 2 * value);
        same(await asker.invoke('AskClient', id, 21), 42);
        other.off('Answer');
        same(/Client didn't provide a result\.$/.test(await failure(asker.invoke('AskClient', id, 1))), true);
      }),
    );

    inPage('large messages', variant, ({ large, variant }) =>
      withHubs([build(large, variant)], async (hub) => {
        same(await hub.invoke('GetLargeString', 3_000_000), '0123456789abcdef'.repeat(187_500));
        same(await hub.invoke('Echo', '汉'.repeat(700_000)), '汉'.repeat(700_000));
        const flood = inbox(hub, 'Flood');
        await hub.invoke('Flood', 200, 10_000);
        same((await flood.take(200)).map(([text]) => text.length), Array(200).fill(10_000));
      }),
    );

    inPage('automatic reconnect after the server has ended the connection', variant, async ({ url, variant }) => {
      const hub = build(url, { ...variant, reconnect: [0, 100, 1_000] });
      const [reconnecting, reconnected] = [once((resolve) => hub.onreconnecting(resolve)), once((resolve) => hub.onreconnected(resolve))];
      await withHubs([hub], async () => {
        const first = await hub.invoke('GetCallerConnectionId');
        const call = failure(hub.invoke('Echo', 'x'.repeat(40_000)));
        same(/maximum message size of 32768B was exceeded/.test((await reconnecting).message), true);
        await call;
        await reconnected;
        same((await hub.invoke('GetCallerConnectionId')) === first, false);
        same(await hub.invoke('Echo', 'again'), 'again');
      });
    });

    inPage('closed by the server', variant, async ({ url, variant }) => {
      const hub = build(url, variant);
      const closed = once((resolve) => hub.onclose((error) => resolve({ error })));
      await hub.start();
      hub.send('Abort').catch(() => {});
      same((await closed).error, undefined);
      same(hub.state, 'Disconnected');
    });

    if (!variant.skipNegotiation) {
      inPage('redirects', variant, ({ url, variant }) =>
        withHubs([build(url.replace('/testhub', '/redirecthub'), variant)], async (hub) => same(await hub.invoke('GetNumRedirects'), 1)),
      );
    }

    inPage('keep-alive', variant, ({ url, variant }) => {
      const hub = build(`${url}-fast`, variant);
      hub.serverTimeoutInMilliseconds = 2_500;
      hub.keepAliveIntervalInMilliseconds = 1_000;
      const closed = once((resolve) => hub.onclose((error) => resolve(`closed while idle: ${error}`)));
      // The hub's client timeout is 3 s.
      const idle = new Promise((resolve) => setTimeout(() => resolve('alive'), 5_000));
      return withHubs([hub], async () => {
        same(await Promise.race([closed, idle]), 'alive');
        same(await hub.invoke('Echo', 'alive'), 'alive');
      });
    });

    test('tokens: in the header where there is one to set, else in the query', async () => {
      const seen = [];
      const note = (address, authorization) => {
        const { pathname, searchParams } = new URL(address);
        if (pathname.startsWith('/authorizedhub')) seen.push({ path: pathname, header: Boolean(authorization), query: searchParams.has('access_token') });
      };
      const onRequest = (request) => request.method() !== 'OPTIONS' && note(request.url(), request.headers().authorization);
      const onSocket = (socket) => note(socket.url());
      page.on('request', onRequest);
      page.on('websocket', onSocket);
      try {
        await spoken(`${variant.name}: tokens`, page, () =>
          page.evaluate(
            async ({ url, variant, token }) => {
              await withHubs([build(url, { ...variant, token })], async (hub) => same(await hub.invoke('GetUserName'), 'browser é'));
              same(/401|WebSocket/.test(await failure(build(url, variant).start())), true);
            },
            { url: `${testhub.url}/authorizedhub`, variant, token: token({ sub: 'browser é' }) },
          ),
        );
      } finally {
        page.off('request', onRequest);
        page.off('websocket', onSocket);
      }
      const carrying = seen.filter(({ query, header }) => query || header);
      if (!variant.skipNegotiation) assert.ok(carrying.some(({ path, header, query }) => path.endsWith('/negotiate') && header && !query), JSON.stringify(seen));
      assert.equal(carrying.some(({ query }) => query), variant.transport !== 'LongPolling', JSON.stringify(seen));
    });

    test('a server that restarts', async () => {
      const first = await Testhub.spawn();
      await page.evaluate(
        async ({ url, variant }) => {
          window.lasting = build(url, { ...variant, reconnect: Array(100).fill(100) });
          window.back = once((resolve) => window.lasting.onreconnected(resolve));
          await window.lasting.start();
          same(await window.lasting.invoke('Echo', 'first'), 'first');
        },
        { url: `${first.url}/testhub`, variant },
      );
      assert.deepEqual(await first.stop(), { code: 0, signal: null });
      const second = await Testhub.spawn(Number(new URL(first.url).port));
      try {
        await spoken(`${variant.name}: a server that restarts`, page, () =>
          page.evaluate(async () => {
            await window.back;
            same(await window.lasting.invoke('Echo', 'second'), 'second');
            await window.lasting.stop();
          }),
        );
      } finally {
        await second.stop();
      }
    });
  });
}

for (const variant of VARIANTS.filter(({ transport, skipNegotiation }) => transport === 'WebSockets' && !skipNegotiation)) {
  describe(`browser: ${variant.name}`, () => {
    test('stateful reconnect: cuts are not noticed', async () => {
      const cutter = await Cutter.before(testhub);
      let cut = 0;
      const expose = `cut_${variant.protocol}`;
      await page.exposeFunction(expose, async () => {
        cut++;
        cutter.cut();
        await cutter.until('the upgrade after the cut', () => cutter.upgrades().length === cut + 1);
      });
      await spoken(`${variant.name}: stateful reconnect`, page, () =>
        page.evaluate(
          async ({ url, variant, expose }) => {
            const hub = build(url, { ...variant, stateful: true });
            const closed = [];
            hub.onclose((error) => closed.push(String(error)));
            await withHubs([hub], async () => {
              const id = hub.connectionId;
              const broadcasts = inbox(hub, 'Broadcast');
              await hub.invoke('JoinGroup', id);
              const counted = collect(hub.stream('Counter', 300, 5));
              for (let n = 0; n < 5; n++) {
                const slow = hub.invoke('Delay', 200);
                const cutting = window[expose]();
                const sent = hub.invoke('SendToGroup', id, `${n}`);
                await cutting;
                same(await slow, 200);
                await sent;
                same(await hub.invoke('GetCallerConnectionId'), id);
              }
              same(await counted, Array.from({ length: 300 }, (_, n) => n));
              same(broadcasts.calls.map(([, text]) => text), ['0', '1', '2', '3', '4']);
              same(closed, []);
            });
          },
          { url: `${cutter.url}/testhub`, variant, expose },
        ),
      );
      assert.equal(cutter.negotiates().filter(({ method }) => method === 'POST').length, 1);
    });
  });
}

describe('browser: a page of another host', async () => {
  const foreign = await opened(`http://localhost:${port}/`);
  for (const variant of VARIANTS) {
    test(`is refused: ${variant.name}`, async () => {
      const before = await testhub.connections();
      const refused = await foreign.evaluate(({ url, variant }) => failure(build(url, variant).start()), { url: `${testhub.url}/testhub`, variant });
      assert.match(refused, variant.skipNegotiation ? /WebSocket failed to connect/ : /Failed to complete negotiation/);
      // What a page may ask for and not read: its negotiate is answered, and holds a connection that nobody can take.
      assert.ok((await testhub.connections()) <= before + 1);
    });
  }

  for (const variant of NEGOTIATED.filter(({ transport }) => transport === 'WebSockets')) {
    test(`cannot take a connection whose token it knows: ${variant.name}`, async () => {
      const { connectionToken } = await (await fetch(`${testhub.url}/testhub/negotiate?negotiateVersion=1`, { method: 'POST' })).json();
      const outcome = await foreign.evaluate(
        (url) =>
          new Promise((resolve) => {
            const socket = new WebSocket(url);
            socket.onopen = () => resolve('open');
            socket.onerror = () => resolve('refused');
          }),
        `${testhub.url.replace('http', 'ws')}/testhub?id=${connectionToken}`,
      );
      assert.equal(outcome, 'refused');
    });
  }
});
