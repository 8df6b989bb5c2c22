// Stateful reconnect: the client specification's checklist, lines 136-147, by raw sockets and by the stock client behind
// a proxy that cuts, with JSON and MessagePack, on one shard and on four.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { build, failure, Inbox, pause, signalr, VARIANTS, within, withConnections } from './support/client.mjs';
import { Cutter } from './support/cutter.mjs';
import { HubSocket } from './support/frames.mjs';
import { ACK, COMPLETION, HUB_CLOSE, INVOCATION, ITEM, Resumable, SEQUENCE, withResumable } from './support/resumable.mjs';
import { Testhub, testhubForThisFile } from './support/testhub.mjs';

const WEBSOCKETS = Object.fromEntries(
  VARIANTS.filter(({ transport, skipNegotiation }) => transport === 'WebSockets' && !skipNegotiation).map((variant) => [variant.protocol, variant]),
);
const GONE = [204, 404];
const seconds = (since_ms) => (Date.now() - since_ms) / 1000;

/** Items of a stream, in order, until it ends. */
function collect(streamed, seen = () => {}) {
  const items = [];
  return new Promise((resolve, reject) => {
    streamed.subscribe({
      next: (item) => {
        items.push(item);
        seen(items.length);
      },
      complete: () => resolve(items),
      error: (error) => reject(new Error(`${error.message} after ${items.length} items`)),
    });
  });
}

const counting = (from, count) => Array.from({ length: count }, (_, n) => from + n);

/** The connection is gone within `limit_ms`, and so is its token. Asking for it first would take it up. */
async function becomesUnknown(lost, own, limit_ms) {
  const end_ms = Date.now() + limit_ms;
  while ((await own.connections()) !== 0 && Date.now() < end_ms) await pause(20);
  assert.equal(await own.connections(), 0, `the connection is still held after ${limit_ms} ms`);
  assert.ok(GONE.includes(await lost.status()));
}

const SERVERS = { 1: await testhubForThisFile(1), 4: await testhubForThisFile(4) };
const SETUPS = [1, 4].flatMap((shards) => ['json', 'messagepack'].map((protocol) => ({ shards, protocol })));

/** A server for one test alone. */
async function withOwn(shards, use) {
  const own = await Testhub.spawn(undefined, shards);
  try {
    await use(own);
  } finally {
    await own.stop();
  }
}

describe('stateful reconnect', { concurrency: true }, () => {
  for (const { shards, protocol } of SETUPS) {
    const testhub = SERVERS[shards];
    const alone = (use) => withOwn(shards, use);
    const using = (use, options = {}) => withResumable(testhub, protocol, options, use);
    /** Another connection that sends numbered messages to the one under test; each has been sent when the promise is done. */
    const withSender = async (use) => {
      const hub = await HubSocket.connect(testhub, { protocol });
      let calls = 0;
      try {
        await use(async (id, ...texts) => {
          const asked = texts.map((text) => {
            hub.invoke(String(calls), 'SendToConnection', id, text);
            return String(calls++);
          });
          for (const asking of asked) {
            const { id, error } = await hub.completion();
            assert.deepEqual([id, error], [asking, undefined]);
          }
        });
      } finally {
        hub.destroy();
      }
    };

    describe(`by hand: ${protocol}, ${shards} shards`, { concurrency: true }, () => {
      test('line 136: a handshake of version 1 turns it off: no Acks, and what is lost is gone at once', () =>
        alone(async (own) => {
          const lost = await Resumable.open(own, protocol, { version: 1 });
          const id = lost.call('Delay', 1_500);
          assert.deepEqual(await lost.next(), { type: COMPLETION, invocationId: id, result: 1_500 });
          lost.lose();
          await becomesUnknown(lost, own, 2_000);
        }));

      test('line 137: the same token, a Sequence first, then what was not acknowledged, the same connection id and groups', () =>
        using((lost) =>
          withSender(async (send) => {
            const group = `group ${lost.session.connectionId}`;
            const asked = [lost.call('GetCallerConnectionId'), lost.call('JoinGroup', group), lost.call('InvokeWithString', 'once')];
            const first = [];
            for (let n = 0; n < 4; n++) first.push(await lost.nextTracked());
            assert.deepEqual(first[0], { type: COMPLETION, invocationId: asked[0], result: lost.session.connectionId });
            lost.lose();
            await send(lost.session.connectionId, 'missed 1', 'missed 2');
            await lost.resume();
            assert.deepEqual(await lost.next(), { type: SEQUENCE, sequenceId: 1 });
            for (const message of first) assert.deepEqual(await lost.nextTracked(), message);
            for (const text of ['missed 1', 'missed 2']) assert.equal((await lost.nextTracked()).arguments[1], text);
            lost.sequence(4);
            const id = lost.call('GetCallerConnectionId');
            assert.deepEqual(await lost.nextTracked(), { type: COMPLETION, invocationId: id, result: lost.session.connectionId });
            lost.call('SendToGroup', group, 'still in');
            const last = [await lost.nextTracked(), await lost.nextTracked()].find(({ type }) => type === INVOCATION);
            assert.deepEqual(last.arguments, [lost.session.connectionId, 'still in']);
          }),
        ));

      test('line 137: what an Ack has covered is not sent again', () =>
        using(async (lost) => {
          // One by one: what is written at once may be kept and sent again as one.
          const ids = [];
          for (let n = 0; n < 5; n++) {
            ids.push(lost.call('Add', n, 1));
            assert.equal((await lost.nextTracked()).invocationId, ids[n]);
          }
          lost.ack(3);
          // Answered after the Ack was read.
          const id = lost.call('Echo', 'x');
          assert.equal((await lost.nextTracked()).invocationId, id);
          lost.lose();
          await lost.resume();
          assert.deepEqual(await lost.next(), { type: SEQUENCE, sequenceId: 4 });
          for (const again of [ids[3], ids[4], id]) assert.equal((await lost.nextTracked()).invocationId, again);
        }));

      test('line 137: again and again, and still at 13 s', () =>
        using((lost) =>
          withSender(async (send) => {
            for (let round = 1; round <= 20; round++) {
              lost.lose();
              await send(lost.session.connectionId, `round ${round}`);
              await lost.resume();
              assert.deepEqual(await lost.next(), { type: SEQUENCE, sequenceId: 1 });
              for (let n = 1; n <= round; n++) assert.equal((await lost.nextTracked()).arguments[1], `round ${n}`);
            }
            lost.lose();
            await pause(13_000);
            await lost.resume();
            assert.deepEqual(await lost.next(), { type: SEQUENCE, sequenceId: 1 });
          }),
        ));

      test('line 138: the Sequence of an empty buffer is the next number', () =>
        using(async (lost) => {
          lost.lose();
          await lost.resume();
          assert.deepEqual(await lost.next(), { type: SEQUENCE, sequenceId: 1 });
          lost.sequence(1);
          const ids = [lost.call('Echo', 'a'), lost.call('Echo', 'b')];
          for (const id of ids) assert.equal((await lost.nextTracked()).invocationId, id);
          lost.ack(2);
          const id = lost.call('Echo', 'c');
          assert.equal((await lost.nextTracked()).invocationId, id);
          lost.ack(3);
          // The Acks of both sides: ours comes before the answer to what is sent behind it, theirs says what they have read.
          while ((await lost.next()).type !== ACK);
          lost.lose();
          await lost.resume();
          assert.deepEqual(await lost.next(), { type: SEQUENCE, sequenceId: 4 });
        }));

      test('line 139: what the client sends again runs once', () =>
        using((lost) =>
          using(async (witness) => {
            const send = (text) => lost.hub.invoke(text, 'SendToConnection', witness.session.connectionId, text);
            for (const text of ['1', '2', '3']) send(text);
            for (const text of ['1', '2', '3']) assert.equal((await lost.nextTracked()).invocationId, text);
            lost.lose();
            await lost.resume();
            lost.sequence(1);
            for (const text of ['1', '2', '3', '4', '5']) send(text);
            assert.equal((await lost.nextTracked()).type, SEQUENCE);
            for (const text of ['1', '2', '3', '4', '5']) assert.equal((await lost.nextTracked()).invocationId, text);
            for (const text of ['1', '2', '3', '4', '5']) assert.equal((await witness.nextTracked()).arguments[1], text);
            const id = witness.call('Echo', 'no more');
            assert.equal((await witness.nextTracked()).invocationId, id);
          }),
        ));

      test('line 139: what was lost on its way to the server runs when it is sent again', () =>
        using((lost) =>
          using(async (witness) => {
            const send = (text) => lost.hub.invoke(text, 'SendToConnection', witness.session.connectionId, text);
            send('1');
            assert.equal((await lost.nextTracked()).invocationId, '1');
            lost.lose();
            await lost.resume();
            // Number 1 was read; 2 and 3 never left.
            lost.sequence(2);
            send('2');
            send('3');
            for (const text of ['1', '2', '3']) assert.equal((await witness.nextTracked()).arguments[1], text);
          }),
        ));

      test('line 140: a Sequence beyond what was sent ends the connection', () =>
        using(async (lost) => {
          const id = lost.call('Echo', 'one');
          assert.equal((await lost.nextTracked()).invocationId, id);
          lost.lose();
          await lost.resume();
          lost.sequence(3);
          const ended_ms = await lost.hub.socket.waitForEnd(8_000);
          assert.ok(ended_ms < 7_000, `ended after ${ended_ms} ms`);
          assert.ok(GONE.includes(await lost.status()));
        }));

      test('line 141: one Ack within about a second of what it covers, none while nothing comes', () =>
        using(async (lost) => {
          const start_ms = Date.now();
          for (let n = 0; n < 3; n++) lost.call('Echo', `${n}`);
          let covered = 0;
          let acks = 0;
          while (covered < 3) {
            const message = await lost.next(3_000);
            if (message.type !== ACK) continue;
            assert.ok(message.sequenceId > covered && message.sequenceId <= 3, `an Ack of ${message.sequenceId} after ${covered}`);
            covered = message.sequenceId;
            acks++;
          }
          assert.ok(seconds(start_ms) < 2.5, `covered after ${seconds(start_ms)} s`);
          assert.ok(acks <= 2, `${acks} Acks`);
          assert.match(await failure(lost.next(3_000)), /nothing within/);
        }));

      test('line 142: beyond 100 000 bytes that are not acknowledged sends wait; each Ack lets more through; nothing is lost', () =>
        using(async (lost) => {
          const [count, size] = [40, 20_000];
          const id = lost.call('Flood', count, size);
          let got = 0;
          for (;;) {
            const arrived = await lost.nextTracked(1_000).catch((error) => {
              assert.match(error.message, /nothing within/);
            });
            if (!arrived) break;
            assert.deepEqual([arrived.type, arrived.arguments[0].length], [INVOCATION, size]);
            got++;
          }
          assert.ok(got >= 5 && got <= 8, `${got} messages of ${size} bytes before the first Ack`);
          while (got < count) {
            lost.ack(got);
            assert.equal((await lost.nextTracked()).arguments[0].length, size);
            got++;
          }
          lost.ack(got);
          assert.equal((await lost.nextTracked()).invocationId, id);
        }));

      test('line 142: what waits while the client is away arrives after it, in order', () =>
        using((lost) =>
          withSender(async (send) => {
            const texts = counting(0, 30).map((n) => String(n).padStart(10_000, '.'));
            lost.lose();
            await send(lost.session.connectionId, ...texts);
            await lost.resume();
            assert.deepEqual(await lost.next(), { type: SEQUENCE, sequenceId: 1 });
            for (let n = 0; n < texts.length; n++) {
              assert.equal((await lost.nextTracked()).arguments[1], texts[n]);
              lost.ack(n + 1);
            }
          }),
        ));

      test('line 143: a second socket takes over from one that is still open', () =>
        alone(async (own) => {
          const lost = await Resumable.open(own, protocol);
          const id = lost.call('Echo', 'first');
          assert.equal((await lost.nextTracked()).invocationId, id);
          const old = lost.hub;
          await lost.resume();
          assert.deepEqual(await lost.next(), { type: SEQUENCE, sequenceId: 1 });
          assert.equal((await lost.nextTracked()).invocationId, id);
          await old.socket.waitForEnd(7_000);
          lost.sequence(2);
          const again = lost.call('Echo', 'second');
          assert.deepEqual(await lost.nextTracked(), { type: COMPLETION, invocationId: again, result: 'second' });
          assert.equal(await own.connections(), 1);
          lost.destroy();
        }));

      test('line 144: 15 s without a socket, and the connection is gone', () =>
        alone(async (own) => {
          const lost = await Resumable.open(own, protocol);
          const id = lost.call('Echo', 'x');
          assert.equal((await lost.nextTracked()).invocationId, id);
          const start_ms = Date.now();
          lost.lose();
          while (await own.connections()) {
            assert.ok(seconds(start_ms) < 18, 'still held after 18 s');
            await pause(50);
          }
          assert.ok(seconds(start_ms) > 14, `gone after ${seconds(start_ms)} s`);
          assert.equal(await lost.status(), 404);
        }));

      test('line 145: after the client\'s Close the token is refused', () =>
        using(async (lost) => {
          lost.close();
          assert.equal((await lost.nextTracked()).type, HUB_CLOSE);
          assert.ok(GONE.includes(await lost.status()));
        }));

      test('line 145: after the server\'s abort the token is refused', () =>
        using(async (lost) => {
          lost.hub.invoke(undefined, 'Abort');
          assert.equal((await lost.nextTracked()).type, HUB_CLOSE);
          assert.ok(GONE.includes(await lost.status()));
        }));

      test('line 145: an abort while the client is away ends what it would take up', () =>
        using(async (lost) => {
          lost.call('Delay', 400);
          lost.hub.invoke(undefined, 'Abort');
          lost.lose();
          await pause(1_000);
          assert.ok(GONE.includes(await lost.status()));
        }));

      // Broadcasts reach every connection of a server: those who send them without end have one of their own.
      test('line 146: nothing that counts comes with the answer to the handshake', () => alone(async (own) => {
        const sender = await HubSocket.connect(own, { protocol });
        let storming = true;
        const storm = (async () => {
          for (let n = 0; storming; n++) {
            sender.invoke(String(n), 'BroadcastAll', `storm ${n}`);
            for (let answered = false; !answered; ) {
              const { value } = await sender.next();
              answered = (protocol === 'json' ? value.type : value[0]) === COMPLETION;
            }
          }
        })();
        try {
          for (let n = 0; n < 20; n++) {
            await withResumable(own, protocol, {}, async (lost) => {
              assert.equal(lost.hub.records.length + lost.hub.socket.buffered.length, 0, 'something behind the answer to the handshake');
              lost.call('Echo', 'here');
              await lost.next();
            });
          }
        } finally {
          storming = false;
          await storm;
          sender.destroy();
        }
      }));

      test('line 147: a stream goes on over a switch, without a gap and without a repeat', () =>
        using(async (lost) => {
          const id = '7';
          lost.hub.hub(protocol === 'json' ? { type: 4, invocationId: id, target: 'Counter', arguments: [300, 5] } : [4, {}, id, 'Counter', [300, 5]]);
          const items = [];
          let number = 0;
          let latest = 0;
          let cut = 70;
          for (let ended = false; !ended; ) {
            const message = await lost.nextTracked();
            number++;
            if (number > latest) {
              latest = number;
              if (message.type === ITEM) items.push(message.item);
              else {
                assert.deepEqual(message, { type: COMPLETION, invocationId: id });
                ended = true;
              }
              if (latest % 10 === 0) lost.ack(latest);
            }
            if (latest === cut) {
              // Once each: an Ack may be lost with its socket, and what comes again reaches this number again.
              cut += 70;
              lost.lose();
              await lost.resume();
              const { type, sequenceId } = await lost.next();
              assert.equal(type, SEQUENCE);
              assert.ok(sequenceId <= latest + 1, `${sequenceId} after ${latest}`);
              number = sequenceId - 1;
              lost.sequence(2);
            }
          }
          assert.deepEqual(items, counting(0, 300));
        }));
    });

    describe(`the stock client: ${protocol}, ${shards} shards`, { concurrency: true }, () => {
      /** One client behind a proxy of its own; it must never fall back to a new connection. */
      const through = async (use, server = testhub) => {
        const cutter = await Cutter.before(server);
        const hub = build(cutter, WEBSOCKETS[protocol], { stateful: true });
        const closed = [];
        hub.onclose((error) => closed.push(error));
        await hub.start();
        try {
          await use(hub, cutter);
          assert.deepEqual(closed, []);
          assert.equal(cutter.negotiates().length, 1);
        } finally {
          await hub.stop();
          cutter.close();
        }
      };
      const resumed = (cutter) => cutter.until('the upgrade after the cut', () => cutter.upgrades().length === cutter.cuts + 1);

      test('line 137: a cut is not noticed: same id, same group, calls and messages under way', () =>
        through(async (hub, cutter) => {
          const inbox = new Inbox(hub, 'Broadcast');
          const id = hub.connectionId;
          const group = `stock ${id}`;
          await hub.invoke('JoinGroup', group);
          for (let round = 0; round < 5; round++) {
            const slow = hub.invoke('Delay', 300);
            cutter.cut();
            const sent = hub.invoke('SendToGroup', group, `round ${round}`);
            await resumed(cutter);
            assert.equal(await within(5_000, 'Delay', slow), 300);
            await within(5_000, 'SendToGroup', sent);
            assert.equal(await hub.invoke('GetCallerConnectionId'), id);
          }
          assert.deepEqual((await inbox.take(5)).map(([, text]) => text), counting(0, 5).map((n) => `round ${n}`));
          assert.equal(inbox.calls.length, 5);
        }));

      test('line 139: calls sent around a cut run once each, in order', () =>
        through(async (hub, cutter) => {
          const witness = build(testhub, WEBSOCKETS[protocol]);
          const inbox = new Inbox(witness, 'Broadcast');
          await withConnections([witness], async () => {
            const calls = [];
            for (let n = 0; n < 300; n++) {
              calls.push(hub.invoke('SendToConnection', witness.connectionId, `${n}`));
              if (n % 60 === 30) {
                cutter.cut();
                await resumed(cutter);
              }
              await pause(1);
            }
            await within(10_000, 'all calls', Promise.all(calls));
            assert.equal(await witness.invoke('Echo', 'end'), 'end');
            assert.deepEqual(inbox.calls.map(([, text]) => text), counting(0, 300).map(String));
          });
        }));

      test('line 142: more than the server keeps, over a cut', () =>
        through(async (hub, cutter) => {
          const inbox = new Inbox(hub, 'Flood');
          const flood = hub.invoke('Flood', 60, 20_000);
          await inbox.take(3);
          cutter.cut();
          await resumed(cutter);
          await within(60_000, 'the flood', flood);
          assert.deepEqual((await inbox.take(60)).map(([text]) => text.length), Array(60).fill(20_000));
          assert.equal(inbox.calls.length, 60);
        }));

      test('line 142: more than the client keeps, over a cut', () =>
        through(async (hub, cutter) => {
          const texts = counting(0, 30).map((n) => String(n).padStart(20_000, '.'));
          const sent = Promise.all(texts.map((text) => hub.invoke('Echo', text)));
          cutter.cut();
          await resumed(cutter);
          assert.deepEqual(await within(60_000, 'the echoes', sent), texts);
        }));

      test('line 146: connected in a storm, the first cut is survived', () => alone(async (own) => {
        const sender = build(own, WEBSOCKETS[protocol]);
        await sender.start();
        let storming = true;
        const storm = (async () => {
          for (let n = 0; storming; n++) await sender.invoke('BroadcastAll', `${n}`);
        })();
        try {
          for (let n = 0; n < 10; n++) {
            await through(async (hub, cutter) => {
              const inbox = new Inbox(hub, 'Broadcast');
              const id = hub.connectionId;
              await inbox.take(3);
              cutter.cut();
              await resumed(cutter);
              const seen = inbox.calls.length;
              await inbox.take(seen + 3);
              assert.equal(await within(5_000, 'the id', hub.invoke('GetCallerConnectionId')), id);
              const numbers = inbox.calls.filter(([from]) => from === sender.connectionId).map(([, text]) => Number(text));
              assert.deepEqual(numbers, counting(numbers[0], numbers.length));
            }, own);
          }
        } finally {
          storming = false;
          await storm;
          await sender.stop();
        }
      }));

      test('line 147: streams in both directions go on over cuts', () =>
        through(async (hub, cutter) => {
          const subject = new signalr.Subject();
          const [mirrored, summed] = [new signalr.Subject(), hub.invoke('SumStream', subject)];
          const back = collect(hub.stream('MirrorStream', mirrored));
          const counted = collect(hub.stream('Counter', 400, 4), (n) => n % 100 === 50 && cutter.cut());
          for (let n = 0; n < 400; n++) {
            subject.next(n);
            mirrored.next(`${n}`);
            await pause(3);
          }
          subject.complete();
          mirrored.complete();
          assert.deepEqual(await within(20_000, 'Counter', counted), counting(0, 400));
          assert.deepEqual(await within(20_000, 'MirrorStream', back), counting(0, 400).map(String));
          assert.equal(await within(20_000, 'SumStream', summed), 79_800);
          assert.equal(cutter.cuts, 4);
        }));

      test('line 145: a stopped client asks for nothing again', () =>
        alone(async (own) => {
          const cutter = await Cutter.before(own);
          const hub = build(cutter, WEBSOCKETS[protocol], { stateful: true, reconnect: [0] });
          await hub.start();
          await hub.stop();
          const end_ms = Date.now() + 3_000;
          while ((await own.connections()) && Date.now() < end_ms) await pause(20);
          assert.equal(await own.connections(), 0);
          assert.equal(cutter.upgrades().length, 1);
        }));

      test('line 144: a client that cannot come back is told so, and reconnects with a new id when it may', async () => {
        const cutter = await Cutter.before(testhub);
        const hub = build(cutter, WEBSOCKETS[protocol], { stateful: true, reconnect: [0, 300, 300, 1_000] });
        const reconnecting = new Promise((resolve) => hub.onreconnecting(resolve));
        const reconnected = new Promise((resolve) => hub.onreconnected(resolve));
        await hub.start();
        const first = hub.connectionId;
        cutter.refusing = true;
        cutter.cut();
        await within(5_000, 'onreconnecting', reconnecting);
        cutter.refusing = false;
        assert.notEqual(await within(5_000, 'onreconnected', reconnected), first);
        assert.equal(await hub.invoke('Echo', 'again'), 'again');
        await hub.stop();
      });
    });
  }
});

for (const { shards, protocol } of SETUPS) {
  test(`50 clients, each cut 10 times at random bytes of a stream of broadcasts: ${protocol}, ${shards} shards`, () =>
    withOwn(shards, async (own) => {
      const [clients, cuts] = [50, 10];
      const all = await Promise.all(
        counting(0, clients).map(async () => {
          const cutter = await Cutter.before(own);
          // The stock client gives up when its new socket ends before it has said its Sequence on it.
          cutter.cutAfter = () => (cutter.cuts < cuts ? 600 + Math.floor(Math.random() * 40_000) : undefined);
          const hub = build(cutter, WEBSOCKETS[protocol], { stateful: true });
          const seen = [];
          const closed = [];
          hub.on('Broadcast', (_, text) => seen.push(text));
          hub.onclose((error) => closed.push(error ?? 'without an error'));
          await hub.start();
          return { cutter, hub, seen, closed };
        }),
      );
      const sender = build(own, WEBSOCKETS[protocol]);
      await sender.start();
      let sent = 0;
      try {
        const end_ms = Date.now() + 90_000;
        while (all.some(({ cutter, closed }) => cutter.cuts < cuts && !closed.length) && Date.now() < end_ms) {
          await sender.invoke('BroadcastAll', `${sent++} ${'.'.repeat(sent % 200)}`);
          await pause(2);
        }
        const last = `${sent++} end`;
        await sender.invoke('BroadcastAll', last);
        const wait_ms = Date.now() + 20_000;
        while (all.some(({ seen, closed }) => !closed.length && seen.at(-1) !== last) && Date.now() < wait_ms) await pause(20);
        const wrong = all.flatMap(({ cutter, seen, closed }, client) => {
          const numbers = seen.map((text) => Number(text.split(' ')[0]));
          const missing = counting(0, sent).filter((n) => !numbers.includes(n)).length;
          const duplicate = numbers.length - new Set(numbers).size;
          const disorder = numbers.filter((n, at) => at && n < numbers[at - 1]).length;
          const whole = closed.length + missing + duplicate + disorder === 0 && cutter.cuts === cuts && cutter.negotiates().length === 1;
          return whole ? [] : [{ client, cuts: cutter.cuts, sent, missing, duplicate, disorder, closed: closed.map(String) }];
        });
        assert.deepEqual(wrong, []);
        assert.ok(sent >= 100, `${sent} broadcasts`);
      } finally {
        await Promise.all([...all.map(({ hub }) => hub.stop()), sender.stop()]);
        for (const { cutter } of all) cutter.close();
      }
    }));
}
