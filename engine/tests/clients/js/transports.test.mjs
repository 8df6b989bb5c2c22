// How the stock client chooses, keeps and leaves a transport: fallback, automatic reconnect, stop in every state.

import assert from 'node:assert/strict';
import { createServer, request as httpRequest } from 'node:http';
import { after, describe, test } from 'node:test';
import { build, failure, NEGOTIATED, pause, signalr, within, withConnection } from './support/client.mjs';
import { Testhub, testhubForThisFile } from './support/testhub.mjs';
import { token } from './support/tokens.mjs';

const testhub = await testhubForThisFile(4);
const { HttpTransportType } = signalr;
const [JSON_WS, MESSAGEPACK_WS] = NEGOTIATED;

/** A proxy in front of testhub that refuses what `refuses(request)` says and counts negotiates. */
async function proxy(refuses) {
  const target = new URL(testhub.url);
  const seen = { url: '', negotiates: 0 };
  const server = createServer((incoming, outgoing) => {
    if (incoming.url.includes('/negotiate')) seen.negotiates++;
    if (refuses(incoming)) return outgoing.writeHead(404).end();
    const { method, url: path, headers } = incoming;
    const onward = httpRequest({ host: target.hostname, port: target.port, method, path, headers, agent: false }, (answer) => {
      outgoing.writeHead(answer.statusCode, answer.headers);
      answer.pipe(outgoing);
    });
    onward.on('error', () => outgoing.destroy());
    outgoing.on('close', () => onward.destroy());
    incoming.pipe(onward);
  });
  server.on('upgrade', (_, socket) => socket.end('HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'));
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  after(() => {
    server.close();
    server.closeAllConnections();
  });
  seen.url = `http://127.0.0.1:${server.address().port}`;
  return seen;
}

describe('the choice of a transport', () => {
  const name = (at, variant, options) =>
    withConnection(at, variant, options, async (hub) => {
      assert.equal(await hub.invoke('Echo', 'é'), 'é');
      return hub.invoke('GetActiveTransportName');
    });
  const { ServerSentEvents } = HttpTransportType;
  const ANY = [];

  for (const [variant, path, asked, expected] of [
    [JSON_WS, '/testhub', ANY, 'WebSockets'],
    [MESSAGEPACK_WS, '/testhub', ANY, 'WebSockets'],
    [JSON_WS, '/testhub-nowebsockets', ANY, 'ServerSentEvents'],
    [MESSAGEPACK_WS, '/testhub-nowebsockets', ANY, 'LongPolling'],
    [JSON_WS, '/testhub', ['LongPolling'], 'LongPolling'],
    [JSON_WS, '/testhub', ['ServerSentEvents'], 'ServerSentEvents'],
    [JSON_WS, '/testhub', ['ServerSentEvents', 'LongPolling'], 'ServerSentEvents'],
    [MESSAGEPACK_WS, '/testhub', ['ServerSentEvents', 'LongPolling'], 'LongPolling'],
    [JSON_WS, '/testhub-nowebsockets', ['WebSockets', 'LongPolling'], 'LongPolling'],
    [JSON_WS, '/redirecthub', ANY, 'WebSockets'],
    [JSON_WS, '/redirecthub', ['ServerSentEvents'], 'ServerSentEvents'],
    [MESSAGEPACK_WS, '/redirecthub', ['LongPolling'], 'LongPolling'],
  ]) {
    test(`${variant.protocol}, ${path}, asked for ${asked.join(' or ') || 'nothing'}: ${expected}`, async () => {
      const transport = asked.length ? asked.reduce((bits, each) => bits | HttpTransportType[each], 0) : undefined;
      assert.equal(await name(testhub, variant, { path, transport }), expected);
    });
  }

  test('only WebSockets asked for where there are none is an error', async () =>
    assert.match(await failure(build(testhub, JSON_WS, { path: '/testhub-nowebsockets' }).start()), /WebSockets|transports/));

  test('only server-sent events asked for with MessagePack is an error', async () =>
    assert.match(await failure(build(testhub, MESSAGEPACK_WS, { transport: ServerSentEvents }).start()), /'ServerSentEvents' does not support Binary/));

  test('line 154: a proxy that refuses upgrades: server-sent events, with a second negotiate', async () => {
    const between = await proxy(() => false);
    assert.equal(await name(between, JSON_WS, { transport: undefined }), 'ServerSentEvents');
    assert.equal(between.negotiates, 2);
  });

  test('line 154: a proxy that refuses upgrades and events: long polling, with a third negotiate', async () => {
    const between = await proxy((request) => /event-stream/.test(request.headers.accept));
    assert.equal(await name(between, JSON_WS, { transport: undefined }), 'LongPolling');
    assert.equal(between.negotiates, 3);
  });

  test('line 154: a proxy that refuses upgrades, MessagePack: long polling', async () => {
    const between = await proxy(() => false);
    assert.equal(await name(between, MESSAGEPACK_WS, { transport: undefined }), 'LongPolling');
    assert.equal(between.negotiates, 2);
  });
});

describe('automatic reconnect', { concurrency: true }, () => {
  for (const variant of NEGOTIATED) {
    test(`after the server has closed with allowReconnect: ${variant.name}`, async () => {
      const hub = build(testhub, variant, { reconnect: [0, 100, 1_000] });
      const reconnecting = new Promise((resolve) => hub.onreconnecting(resolve));
      const reconnected = new Promise((resolve) => hub.onreconnected(resolve));
      await hub.start();
      try {
        const first = hub.connectionId;
        const call = failure(hub.invoke('Echo', 'x'.repeat(40_000)));
        const error = await within(5_000, 'onreconnecting', reconnecting);
        assert.match(error.message, /maximum message size of 32768B was exceeded/);
        await call;
        const second = await within(5_000, 'onreconnected', reconnected);
        assert.notEqual(second, first);
        assert.equal(await hub.invoke('GetCallerConnectionId'), second);
        assert.equal(await hub.invoke('GetActiveTransportName'), variant.transport);
      } finally {
        await hub.stop();
      }
    });

    test(`not after a Close without it: ${variant.name}`, async () => {
      const hub = build(testhub, variant, { reconnect: [0] });
      let reconnects = 0;
      hub.onreconnecting(() => reconnects++);
      const closed = new Promise((resolve) => hub.onclose((error) => resolve({ error })));
      await hub.start();
      await hub.send('Abort');
      assert.equal((await within(5_000, 'onclose', closed)).error, undefined);
      assert.equal(reconnects, 0);
    });
  }
});

// The stock client's fetch throws at a 401 before it could ask for another token (line 149): the call fails.
describe('a token that has run out', { concurrency: true }, () => {
  for (const variant of NEGOTIATED.filter(({ transport }) => transport !== 'WebSockets')) {
    test(`line 149: is 401 at the next POST, and a new start asks for another: ${variant.name}`, async () => {
      // Clocks may differ by 5 s: the first one is good for two more.
      const good_s = [2 - 5, 600];
      const factory = () => token({ exp: Math.floor(Date.now() / 1000) + (good_s.length > 1 ? good_s.shift() : good_s[0]) });
      const hub = build(testhub, variant, { path: '/authorizedhub', token: factory });
      await hub.start();
      try {
        assert.equal(await hub.invoke('GetUserName'), 'alice');
        await pause(4_000);
        assert.match(await failure(hub.invoke('Echo', 'too late')), /^Unauthorized: Status code '401'$/);
        await hub.stop();
        await hub.start();
        assert.equal(await hub.invoke('GetUserName'), 'alice');
      } finally {
        await hub.stop();
      }
    });
  }
});

describe('line 159: stop in every state leaves no connection', { concurrency: true }, () => {
  for (const variant of NEGOTIATED) {
    const states = {
      'while connecting, after negotiate': async (hub) => {
        const starting = hub.start().catch(() => {});
        await pause(5);
        await hub.stop();
        await starting;
      },
      'at once after start': async (hub) => {
        const starting = hub.start().catch(() => {});
        await hub.stop();
        await starting;
      },
      'connected': async (hub) => {
        await hub.start();
        await hub.stop();
      },
      'with a call under way': async (hub) => {
        await hub.start();
        const call = failure(hub.invoke('Delay', 60_000));
        await hub.stop();
        await call;
      },
      'with messages on their way': async (hub) => {
        await hub.start();
        hub.on('Flood', () => {});
        const call = failure(hub.invoke('Flood', 10_000, 10_000));
        await new Promise((resolve) => hub.on('Flood', resolve));
        await hub.stop();
        await call;
      },
      'twice at once': async (hub) => {
        await hub.start();
        await Promise.all([hub.stop(), hub.stop()]);
      },
      'reconnecting': async (hub) => {
        const reconnecting = new Promise((resolve) => hub.onreconnecting(resolve));
        await hub.start();
        hub.send('Echo', 'x'.repeat(40_000)).catch(() => {});
        await within(5_000, 'onreconnecting', reconnecting);
        await hub.stop();
      },
      'closed by the server': async (hub) => {
        const closed = new Promise((resolve) => hub.onclose(resolve));
        await hub.start();
        await hub.send('Abort').catch(() => {});
        await within(5_000, 'onclose', closed);
        await hub.stop();
      },
    };
    test(variant.name, async () => {
      const own = await Testhub.spawn(undefined, 4);
      try {
        const wrong = [];
        await Promise.all(
          Object.entries(states).map(async ([what, act]) => {
            const hub = build(own, variant, { reconnect: what === 'reconnecting' ? [200] : undefined });
            await act(hub).catch((error) => wrong.push(`${what}: ${error.message}`));
            if (hub.state !== 'Disconnected') wrong.push(`${what}: ${hub.state}`);
          }),
        );
        assert.deepEqual(wrong, []);
        const end_ms = Date.now() + 20_000;
        while ((await own.connections()) && Date.now() < end_ms) await pause(100);
        assert.equal(await own.connections(), 0);
      } finally {
        await own.stop('SIGKILL');
      }
    });
  }
});
