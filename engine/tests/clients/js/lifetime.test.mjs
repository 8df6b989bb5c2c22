// How connections begin and end: redirects, keep-alive, time-outs, abort, stop, reconnecting.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { build, failure, NEGOTIATED, VARIANTS, pause, within, withConnection } from './support/client.mjs';
import { Testhub, testhubForThisFile } from './support/testhub.mjs';

const testhub = await testhubForThisFile();

const closing = (hub) => new Promise((resolve) => hub.onclose((error) => resolve({ error })));

describe('life', { concurrency: true }, () => {
  for (const variant of NEGOTIATED) {
    describe(variant.name, { concurrency: true }, () => {
      test('a redirect is followed, once (line 16)', () =>
        withConnection(testhub, variant, { path: '/redirecthub' }, async (hub) => {
          assert.equal(await hub.invoke('GetNumRedirects'), 1);
          assert.equal(await hub.invoke('Echo', 'there'), 'there');
          assert.ok(hub.baseUrl.endsWith('/redirecthub'), 'the user\'s URL stays');
        }));

      test('/testhub-fast keeps an idle connection alive', () =>
        withConnection(testhub, variant, { path: '/testhub-fast', client_timeout_ms: 2_500, ping_ms: 1_000 }, async (hub) => {
          const closed = closing(hub);
          const outcome = await Promise.race([closed, pause(8_000)]);
          assert.equal(outcome, undefined, `closed while idle: ${outcome?.error}`);
          assert.equal(await hub.invoke('Echo', 'alive'), 'alive');
        }));

      test('a long call does not time its client out', () =>
        withConnection(testhub, variant, { path: '/testhub-fast', ping_ms: 1_000 }, async (hub) => {
          assert.equal(await within(12_000, 'Delay', hub.invoke('Delay', 6_000)), 6_000);
          assert.equal(await hub.invoke('Echo', 'alive'), 'alive');
        }));

      if (variant.transport !== 'LongPolling') test('a client that pings too seldom is closed and may reconnect', async () => {
        const hub = build(testhub, variant, { path: '/testhub-fast', ping_ms: 600_000, reconnect: [0, 200, 1_000] });
        const reconnecting = new Promise((resolve) => hub.onreconnecting(resolve));
        const reconnected = new Promise((resolve) => hub.onreconnected(resolve));
        await hub.start();
        try {
          const first = await hub.invoke('GetCallerConnectionId');
          const error = await within(8_000, 'onreconnecting', reconnecting);
          assert.match(error.message, /Connection closed with an error\./);
          const second = await within(8_000, 'onreconnected', reconnected);
          assert.notEqual(second, first);
          assert.equal(await hub.invoke('GetCallerConnectionId'), second);
        } finally {
          await hub.stop();
        }
      });

      if (variant.transport === 'LongPolling') test('a client that polls need not ping', () =>
        withConnection(testhub, variant, { path: '/testhub-fast', ping_ms: 600_000 }, async (hub) => {
          const closed = closing(hub);
          const outcome = await Promise.race([closed, pause(6_000)]);
          assert.equal(outcome, undefined, `closed while idle: ${outcome?.error}`);
          assert.equal(await hub.invoke('Echo', 'alive'), 'alive');
        }));

      test('Abort closes the caller without an error and without a reconnect', async () => {
        const hub = build(testhub, variant, { reconnect: [0] });
        let reconnects = 0;
        hub.onreconnecting(() => reconnects++);
        const closed = closing(hub);
        await hub.start();
        hub.invoke('Abort').catch(() => {});
        const { error } = await within(5_000, 'onclose', closed);
        assert.equal(error, undefined);
        assert.equal(hub.state, 'Disconnected');
        assert.equal(reconnects, 0);
      });

      test('stop during a call fails the call, not the client', async () => {
        const hub = build(testhub, variant);
        const closed = closing(hub);
        await hub.start();
        const call = failure(hub.invoke('Delay', 10_000));
        await pause(100);
        await hub.stop();
        assert.match(await call, /Invocation canceled|connection/i);
        assert.equal((await within(5_000, 'onclose', closed)).error, undefined);
      });
    });
  }
});

describe('counting connections', () => {
  for (const variant of VARIANTS) {
    test(`/stats counts a connection while it lives: ${variant.name}`, async () => {
      const own = process.env.TESTHUB_BIN ? await Testhub.spawn() : testhub;
      try {
        const before = await own.connections();
        const hubs = Array.from({ length: 5 }, () => build(own, variant));
        await Promise.all(hubs.map((hub) => hub.start()));
        assert.equal(await own.connections(), before + 5);
        await Promise.all(hubs.map((hub) => hub.stop()));
        const end_ms = Date.now() + 6_000;
        while ((await own.connections()) !== before && Date.now() < end_ms) await pause(50);
        assert.equal(await own.connections(), before);
      } finally {
        if (own !== testhub) await own.stop();
      }
    });
  }
});

describe('the server goes away', { concurrency: true }, () => {
  for (const variant of VARIANTS) {
    for (const signal of ['SIGTERM', 'SIGKILL']) {
      test(`lines 153 and 155: clients reconnect to its successor after ${signal}: ${variant.name}`, async () => {
        const first = await Testhub.spawn();
        const hub = build(first, variant, { reconnect: [0, 250, 500, 1_000, 2_000, 4_000] });
        const reconnecting = new Promise((resolve) => hub.onreconnecting(resolve));
        await hub.start();
        const call = failure(hub.invoke('Delay', 60_000));
        const ended = await first.stop(signal);
        if (signal === 'SIGTERM') assert.deepEqual(ended, { code: 0, signal: null });
        await within(5_000, 'onreconnecting', reconnecting);
        await call;
        const second = await Testhub.spawn(Number(new URL(first.url).port));
        try {
          const end_ms = Date.now() + 15_000;
          let echoed;
          while (echoed !== 'again' && Date.now() < end_ms) {
            await pause(50);
            if (hub.state === 'Connected') echoed = await hub.invoke('Echo', 'again').catch(() => undefined);
          }
          assert.equal(echoed, 'again');
        } finally {
          await hub.stop();
          await second.stop();
        }
      });
    }
  }

  test('a client without automatic reconnect is told of the shutdown', async () => {
    const server = await Testhub.spawn();
    const hub = build(server, VARIANTS[0]);
    const closed = closing(hub);
    await hub.start();
    await server.stop();
    await within(5_000, 'onclose', closed);
    assert.equal(hub.state, 'Disconnected');
  });
});
