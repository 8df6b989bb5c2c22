// The client specification's checklist: the lines that need waiting (12, 48, 50, 53, 85, 108, 109, 110), side by side.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { pause } from './support/client.mjs';
import { CLOSE, HubSocket, RS, withHub, withWebSocket } from './support/frames.mjs';
import { negotiate } from './support/socket.mjs';
import { testhubForThisFile } from './support/testhub.mjs';

const testhub = await testhubForThisFile();
const seconds = async (act) => {
  const start_ms = Date.now();
  const value = await act();
  return [(Date.now() - start_ms) / 1000, value];
};
const between = (low, high, value) => assert.ok(value >= low && value <= high, `${value} s is not from ${low} to ${high} s`);
const isPing = (protocol, value) => (protocol === 'json' ? value.type : value[0]) === 6;
const PING = { json: { type: 6 }, messagepack: [6] };

describe('waiting', { concurrency: true }, () => {
  test('line 12: a negotiated, unused connection is known at 13 s and gone at 17.5 s', async () => {
    const [early, late] = await Promise.all([negotiate(testhub), negotiate(testhub)]);
    await pause(13_000);
    await withHub(testhub, { path: `/testhub?id=${early.connectionToken}` }, async (hub) => {
      hub.invoke('0', 'Echo', 'in time');
      assert.equal((await hub.completion()).result, 'in time');
    });
    await pause(4_500);
    const refused = await HubSocket.upgrade(testhub, `/testhub?id=${late.connectionToken}`);
    refused.destroy();
    assert.deepEqual([refused.answer.status, refused.answer.body], [404, 'No Connection with that ID']);
  });

  test('line 48: hub Close, Close 1000, and TCP ends at once when the client answers', () =>
    withHub(testhub, {}, async (hub) => {
      hub.invoke(undefined, 'Abort');
      await hub.hubClose();
      assert.equal((await hub.close()).code, 1000);
      hub.send(CLOSE, Buffer.from([0x03, 0xe8]));
      between(0, 1, (await hub.socket.waitForEnd()) / 1000);
    }));

  test('line 48: TCP ends within 5 s of the server\'s Close even when the client says nothing', () =>
    withHub(testhub, {}, async (hub) => {
      hub.invoke(undefined, 'Abort');
      await hub.hubClose();
      assert.equal((await hub.close()).code, 1000);
      between(0, 6.5, (await hub.socket.waitForEnd()) / 1000);
    }));

  for (const protocol of ['json', 'messagepack']) {
    test(`line 85: silence before the handshake on /testhub-fast ends after 2 s: ${protocol}`, () =>
      withWebSocket(testhub, '/testhub-fast', async (opened) => {
        const [took, reply] = await seconds(() => opened.message(10_000));
        between(1.8, 4, took);
        assert.equal(reply.payload.toString(), `{"error":"Handshake was canceled."}${RS}`);
        await opened.closesNormally();
      }));

    test(`line 108: an idle connection on /testhub is pinged every 15 to 16 s: ${protocol}`, () =>
      withHub(testhub, { protocol }, async (hub) => {
        for (let i = 0; i < 2; i++) {
          const [took, { value }] = await seconds(() => hub.next({ pings: true, limit_ms: 20_000 }));
          assert.ok(isPing(protocol, value));
          between(14, 17, took);
        }
      }));

    test(`line 108: an idle connection on /testhub-fast is pinged every 1 to 2 s: ${protocol}`, () =>
      withHub(testhub, { protocol, path: '/testhub-fast' }, async (hub) => {
        for (let i = 0; i < 4; i++) {
          const [took, { value }] = await seconds(() => hub.next({ pings: true, limit_ms: 5_000 }));
          assert.ok(isPing(protocol, value));
          between(0.5, 2.2, took);
        }
      }));

    test(`line 109: a client that pinged once is closed after 30 to 32 s: ${protocol}`, () =>
      withHub(testhub, { protocol }, async (hub) => {
        hub.hub(PING[protocol]);
        const [took, { error, allowReconnect }] = await seconds(() => hub.hubClose(40_000));
        between(29.5, 33, took);
        assert.match(error, /^Connection closed with an error\./);
        assert.equal(allowReconnect, true);
        await hub.closesNormally();
      }));

    test(`line 109: any message puts the end off: ${protocol}`, () =>
      withHub(testhub, { protocol, path: '/testhub-fast' }, async (hub) => {
        hub.hub(PING[protocol]);
        for (let i = 0; i < 5; i++) {
          await pause(1_500);
          hub.invoke(String(i), 'Echo', 'x');
          assert.equal((await hub.completion()).result, 'x');
        }
        const [took] = await seconds(() => hub.hubClose(10_000));
        between(2.5, 5, took);
      }));

    test(`line 110: a client that never pinged stays: ${protocol}`, () =>
      withHub(testhub, { protocol, path: '/testhub-fast' }, async (hub) => {
        await pause(12_000);
        hub.invoke('0', 'Echo', 'alive');
        assert.equal((await hub.completion()).result, 'alive');
      }));
  }

  test('line 85: silence before the handshake on /testhub ends after 15 s', () =>
    withWebSocket(testhub, '/testhub', async (opened) => {
      const [took, reply] = await seconds(() => opened.message(25_000));
      between(14.5, 18, took);
      assert.equal(reply.payload.toString(), `{"error":"Handshake was canceled."}${RS}`);
      await opened.closesNormally();
    }));

  test('line 85: half a handshake is no handshake', () =>
    withWebSocket(testhub, '/testhub-fast', async (opened) => {
      opened.send(1, '{"protocol":');
      const reply = await opened.message(6_000);
      assert.equal(reply.payload.toString(), `{"error":"Handshake was canceled."}${RS}`);
    }));

  test('line 110: on /testhub too, past the client time-out', () =>
    withHub(testhub, {}, async (hub) => {
      await pause(36_000);
      hub.invoke('0', 'Echo', 'alive');
      assert.equal((await hub.completion()).result, 'alive');
    }));

  test('a connection that sends half a request head is closed', async () => {
    const { Socket } = await import('./support/socket.mjs');
    const socket = await Socket.open(testhub.url);
    socket.write('GET /testhub HT');
    await socket.waitForEnd(30_000);
  });
});

describe('counted', () => {
  const settles = async (expected, limit_ms) => {
    const end_ms = Date.now() + limit_ms;
    while ((await testhub.connections()) !== expected && Date.now() < end_ms) await pause(100);
    assert.equal(await testhub.connections(), expected);
  };

  test('line 50: a TCP reset disconnects at once', async () => {
    const before = await testhub.connections();
    const hub = await HubSocket.connect(testhub);
    assert.equal(await testhub.connections(), before + 1);
    hub.socket.resetNow();
    await settles(before, 2_000);
  });

  test('line 50: the end of TCP without a Close disconnects at once', async () => {
    const before = await testhub.connections();
    const hub = await HubSocket.connect(testhub);
    hub.socket.raw.end();
    await settles(before, 2_000);
  });

  test('line 53: a reader that stalls is dropped after the send time-out, and nobody else waits', async () => {
    const before = await testhub.connections();
    const stalled = await HubSocket.connect(testhub);
    stalled.socket.raw.pause();
    stalled.invoke(undefined, 'SendLargeString', 30_000_000);
    await withHub(testhub, {}, async (hub) => {
      const end_ms = Date.now() + 5_000;
      while (Date.now() < end_ms) {
        hub.invoke('0', 'SendToOthers', 'x'.repeat(1_000));
        await hub.completion(1_000);
        await pause(20);
      }
    });
    await settles(before, 15_000);
    stalled.destroy();
  });
});
