// The client specification's checklist over server-sent events and long polling: the lines that need waiting
// (12, 53, 58, 64, 68, 69, 73, 85, 109, 110), side by side.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { pause } from './support/client.mjs';
import { RS } from './support/frames.mjs';
import { Events, EVENTS, Polling, withSession } from './support/sessions.mjs';
import { request, Socket } from './support/socket.mjs';
import { Testhub, testhubForThisFile } from './support/testhub.mjs';

const UNKNOWN = [404, 'No Connection with that ID'];
const CANCELED = `{"error":"Handshake was canceled."}${RS}`;
const brief = ({ status, body }) => [status, body];
const seconds = async (act) => {
  const start_ms = Date.now();
  const value = await act();
  return [(Date.now() - start_ms) / 1000, value];
};
const between = (low, high, value) => assert.ok(value >= low && value <= high, `${value} s is not from ${low} to ${high} s`);
const settles = async (testhub, expected, limit_ms) => {
  const end_ms = Date.now() + limit_ms;
  while ((await testhub.connections()) !== expected && Date.now() < end_ms) await pause(200);
  assert.equal(await testhub.connections(), expected);
};

const few = await testhubForThisFile(1);
const many = await testhubForThisFile(4);

/** A server for one test, stopped whatever happens. */
async function withOwn(shards, use) {
  const own = await Testhub.spawn(undefined, shards);
  let ended;
  try {
    await use(own);
  } finally {
    ended = await own.stop();
  }
  assert.deepEqual(ended, { code: 0, signal: null });
}

describe('waiting', { concurrency: true }, () => {
  for (const [shards, testhub] of [[1, few], [4, many]]) {
    for (const [what, method, headers] of [['POST', 'POST', []], ['poll', 'GET', []], ['SSE', 'GET', EVENTS], ['DELETE', 'DELETE', []]]) {
      test(`line 12: a negotiated, unused connection is gone after 15 to 17 s: ${what}, ${shards} shards`, async () => {
        const [early, late] = await Promise.all([Polling.negotiated(testhub), Polling.negotiated(testhub)]);
        await pause(13_000);
        assert.equal((await early.post('')).status, 200);
        await pause(4_500);
        assert.deepEqual(brief(await late.request(method, { headers })), UNKNOWN);
      });
    }

    test(`line 64: a poll without data is 200, empty, after its time: ${shards} shards`, () =>
      withSession(Polling, testhub, { path: '/testhub-fast' }, async (session) => {
        for (let i = 0; i < 2; i++) {
          const [took, answer] = await seconds(() => session.poll());
          between(1.8, 3.5, took);
          assert.deepEqual([...brief(answer), answer.headers.get('content-length')], [200, '', '0']);
          assert.match(answer.headers.get('content-type'), /^text\/plain\b/);
          assert.deepEqual(answer.headers.get('cache-control')?.split(/, */), ['no-cache', 'no-store']);
          assert.equal(answer.headers.get('pragma'), 'no-cache');
          assert.equal(answer.headers.get('expires'), 'Thu, 01 Jan 1970 00:00:00 GMT');
        }
      }));

    test(`line 68: 13 s without a poll are survived, 17.5 s are not: ${shards} shards`, async () => {
      const [early, late] = await Promise.all([Polling.connect(testhub), Polling.connect(testhub)]);
      await pause(13_000);
      await early.invoke('0', 'Echo', 'in time');
      assert.equal((await early.completion()).result, 'in time');
      await pause(4_500);
      assert.deepEqual(brief(await late.poll()), UNKNOWN);
      assert.deepEqual(brief(await late.post('')), UNKNOWN);
      assert.deepEqual(brief(await late.delete()), UNKNOWN);
    });

    test(`line 68: a poll that waits is no gap, and POSTs are no poll: ${shards} shards`, async () => {
      const [waiting, posting] = await Promise.all([Polling.connect(testhub), Polling.connect(testhub)]);
      const poll = await waiting.openPoll();
      for (let i = 0; i < 4; i++) {
        await pause(3_300);
        assert.equal((await posting.post('')).status, 200);
      }
      await pause(4_300);
      assert.equal((await posting.post('')).status, 404);
      await waiting.invoke('0', 'Echo', 'alive');
      assert.match((await poll.answer()).body, /alive/);
      poll.destroy();
    });

    test(`line 69: a lost poll's client has 15 s to come back: ${shards} shards`, async () => {
      const [early, late] = await Promise.all([Polling.connect(testhub), Polling.connect(testhub)]);
      for (const session of [early, late]) {
        const poll = await session.openPoll();
        await pause(50);
        poll.resetNow();
      }
      await pause(12_500);
      await early.invoke('0', 'Echo', 'kept');
      assert.equal((await early.completion()).result, 'kept');
      await pause(5_000);
      assert.deepEqual(brief(await late.poll()), UNKNOWN);
    });

    test(`line 73: no Ping on long polling, and no client time-out: ${shards} shards`, () =>
      withSession(Polling, testhub, { path: '/testhub-fast' }, async (session) => {
        for (let i = 0; i < 4; i++) assert.deepEqual(brief(await session.poll()), [200, '']);
        assert.equal(await session.call('Echo', 'alive'), 'alive');
      }));

    test(`line 85: silence before the handshake ends after 2 s on /testhub-fast: ServerSentEvents, ${shards} shards`, async () => {
      const session = await Events.open(testhub, { path: '/testhub-fast' });
      const [took, event] = await seconds(() => session.event());
      between(1.8, 4, took);
      assert.equal(event.toString(), CANCELED);
      await session.ends();
      assert.deepEqual(brief(await session.post('')), UNKNOWN);
    });

    test(`line 85: silence before the handshake ends after 2 s on /testhub-fast: LongPolling, ${shards} shards`, async () => {
      const session = await Polling.negotiated(testhub, { path: '/testhub-fast' });
      await session.poll();
      let answer = await session.poll();
      if (answer.body === '') answer = await session.poll();
      assert.deepEqual(brief(answer), [200, CANCELED]);
      assert.deepEqual(brief(await session.poll()), [204, '']);
      assert.deepEqual(brief(await session.poll()), UNKNOWN);
    });

    test(`line 85: the handshake's time runs from the first poll, not from negotiate: ${shards} shards`, async () => {
      const session = await Polling.negotiated(testhub, { path: '/testhub-fast' });
      await pause(4_000);
      await session.poll();
      await session.posted(session.handshake());
      assert.deepEqual(brief(await session.poll()), [200, `{}${RS}`]);
    });

    test(`line 58: an idle event stream on /testhub-fast is pinged every 1 to 2 s: ${shards} shards`, () =>
      withSession(Events, testhub, { path: '/testhub-fast' }, async (session) => {
        for (let i = 0; i < 4; i++) {
          const [took, event] = await seconds(() => session.event());
          assert.equal(event.toString(), `{"type":6}${RS}`);
          between(0.5, 2.2, took);
        }
      }));

    test(`line 58: an idle event stream on /testhub is pinged every 15 to 16 s: ${shards} shards`, () =>
      withSession(Events, testhub, {}, async (session) => {
        const [took, event] = await seconds(() => session.event(20_000));
        assert.equal(event.toString(), `{"type":6}${RS}`);
        between(14, 17, took);
      }));

    test(`line 109: an event stream's client that pinged once is closed after 3 s on /testhub-fast: ${shards} shards`, () =>
      withSession(Events, testhub, { path: '/testhub-fast' }, async (session) => {
        await session.posted(`{"type":6}${RS}`);
        const [took, { value }] = await seconds(() => session.next());
        between(2.5, 5, took);
        assert.equal(value.type, 7);
        assert.match(value.error, /^Connection closed with an error\./);
        assert.equal(value.allowReconnect, true);
        await session.ends();
      }));

    test(`line 110: an event stream's client that never pinged stays: ${shards} shards`, () =>
      withSession(Events, testhub, { path: '/testhub-fast' }, async (session) => {
        await pause(8_000);
        assert.equal(await session.call('Echo', 'alive'), 'alive');
      }));

    test(`line 53: readers of events and polls that stall are dropped after the send time-out: ${shards} shards`, () =>
      withOwn(shards, async (own) => {
        const stream = await Events.connect(own);
        stream.socket.raw.pause();
        const session = await Polling.connect(own);
        const poll = await session.openPoll();
        poll.raw.pause();
        // Answered or not: what is asked for is more than any buffer between here and there.
        const posts = await Promise.all([stream, session].map(async (each) => {
          const post = await Socket.open(own.url);
          post.write(each.bytesOf('POST', { body: each.invocation(null, 'SendLargeString', 30_000_000) }));
          return post;
        }));
        await withSession(Polling, own, {}, async (other) => {
          for (let i = 0; i < 50; i++) {
            const [took] = await seconds(() => other.call('SendToOthers', 'x'.repeat(1_000)));
            between(0, 1, took);
          }
          await other.delete();
        });
        await settles(own, 0, 30_000);
        for (const socket of [poll, stream, ...posts]) socket.destroy();
      }));

    test(`1,000 connections opened and left are gone after 15 s: ${shards} shards`, () =>
      withOwn(shards, async (own) => {
        const polled = [];
        for (let batch = 0; batch < 10; batch++) {
          await Promise.all(
            Array.from({ length: 100 }, async (_, i) => {
              const session = await Polling.negotiated(own);
              if (i % 3 === 0) return;
              polled.push(session);
              assert.equal((await session.poll()).status, 200);
              if (i % 3 === 1) await session.posted(session.handshake());
            }),
          );
        }
        const counted = await own.connections();
        await pause(17_500);
        assert.equal(await own.connections(), 0);
        for (const session of polled) assert.deepEqual(brief(await session.post('')), UNKNOWN);
        assert.equal(counted, 1_000);
      }));

    test(`line 68: connections left without a poll are gone after 17.5 s: ${shards} shards`, () =>
      withOwn(shards, async (own) => {
        await Promise.all(Array.from({ length: 40 }, () => Polling.connect(own)));
        assert.equal(await own.connections(), 40);
        await pause(14_000);
        assert.equal(await own.connections(), 40);
        await pause(3_500);
        assert.equal(await own.connections(), 0);
      }));

    test(`line 68: what is queued does not shorten the 15 s: ${shards} shards`, async () => {
      const session = await Polling.connect(testhub);
      await session.invoke('0', 'Echo', 'kept');
      await pause(12_500);
      assert.equal((await session.completion()).result, 'kept');
    });

    test(`a POST that stops half way does not keep its connection or its socket: ${shards} shards`, async () => {
      const session = await Polling.connect(testhub);
      const socket = await Socket.open(testhub.url);
      socket.write(session.bytesOf('POST', { body: 'half', headers: [['Content-Length', '100']] }));
      await pause(17_500);
      assert.deepEqual(brief(await session.poll()), UNKNOWN);
      await socket.waitForEnd(20_000);
      assert.equal((await request(testhub, 'GET', '/health')).status, 200);
    });
  }
});
