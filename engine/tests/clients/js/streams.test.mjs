// Streams both ways with the stock client, in all four set-ups. Line by line: checklist_streams.test.mjs.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { build, failure, Inbox, pause, signalr, VARIANTS, within, withConnection } from './support/client.mjs';
import { testhubForThisFile } from './support/testhub.mjs';

const { Subject } = signalr;
const testhub = await testhubForThisFile();

/** All items of a stream; rejects with its error, which then has them as `items`. */
function collect(streamed, limit_ms = 20_000) {
  const items = [];
  const ended = new Promise((resolve, reject) => {
    streamed.subscribe({
      next: (item) => items.push(item),
      complete: () => resolve(items),
      error: (error) => reject(Object.assign(error, { items })),
    });
  });
  return within(limit_ms, 'the end of the stream', ended);
}

/** A subject that sends these items once somebody listens. */
function feed(subject, items) {
  for (const item of items) subject.next(item);
  subject.complete();
}

for (const variant of VARIANTS) {
  const using = (use, options) => withConnection(testhub, variant, options, use);

  describe(`streams to the client: ${variant.name}`, () => {
    test('line 153: Stream gives a, b, c', () => using(async (hub) => assert.deepEqual(await collect(hub.stream('Stream')), ['a', 'b', 'c'])));

    test('EmptyStream completes at once', () => using(async (hub) => assert.deepEqual(await collect(hub.stream('EmptyStream')), [])));

    test('Counter counts, with and without a pause', () =>
      using(async (hub) => {
        assert.deepEqual(await collect(hub.stream('Counter', 0, 0)), []);
        assert.deepEqual(await collect(hub.stream('Counter', 5, 20)), [0, 1, 2, 3, 4]);
        const many = await collect(hub.stream('Counter', 3_000, 0));
        assert.deepEqual(many, Array.from({ length: 3_000 }, (_, n) => n));
      }));

    test('streams and calls of one client go side by side', () =>
      using(async (hub) => {
        const streams = Array.from({ length: 20 }, (_, n) => collect(hub.stream('Counter', n, 5)));
        const calls = Array.from({ length: 20 }, (_, n) => hub.invoke('Add', n, 1));
        const slow = hub.invoke('Delay', 300);
        (await Promise.all(streams)).forEach((items, n) => assert.deepEqual(items, Array.from({ length: n }, (_, i) => i)));
        (await Promise.all(calls)).forEach((sum, n) => assert.equal(sum, n + 1));
        assert.equal(await slow, 300);
      }));

    test('an error in the middle keeps the items before it', () =>
      using(async (hub) => {
        const error = await collect(hub.stream('FailingStream', 3, 'boom')).then(() => null, (caught) => caught);
        assert.match(error.message, /^An error occurred on the server while streaming results\. [A-Za-z]+: boom$/);
        assert.deepEqual(error.items, [0, 1, 2]);
      }));

    test('an error before the first item is the method\'s', () =>
      using(async (hub) => {
        const text = await failure(collect(hub.stream('StreamThrowException', 'boom')));
        assert.match(text, /^An unexpected error occurred invoking 'StreamThrowException' on the server\. [A-Za-z]+: boom$/);
      }));

    test('line 153: a cancelled stream tells its producer', () =>
      using(async (hub) => {
        const cancelled = new Inbox(hub, 'StreamCanceled');
        const subscription = hub.stream('InfiniteStream').subscribe({ next() {}, complete() {}, error() {} });
        assert.equal(await hub.invoke('Echo', 'meanwhile'), 'meanwhile');
        subscription.dispose();
        await cancelled.take(1);
        assert.equal(await hub.invoke('Echo', 'afterwards'), 'afterwards');
      }));

    test('a client that goes leaves nothing behind', async () => {
      const hub = build(testhub, variant);
      await hub.start();
      const ended = failure(collect(hub.stream('InfiniteStream')));
      await hub.invoke('Echo', 'there');
      await hub.stop();
      await ended;
    });
  });

  describe(`streams of the client: ${variant.name}`, () => {
    test('line 153: StreamingConcat, SumStream and UploadStream read to the end', () =>
      using(async (hub) => {
        const uploaded = new Inbox(hub, 'Uploaded');
        const [letters, numbers, sent] = [new Subject(), new Subject(), new Subject()];
        const calls = [hub.invoke('StreamingConcat', letters), hub.invoke('SumStream', numbers), hub.send('UploadStream', sent)];
        feed(letters, ['a', '\u001e', '汉', '']);
        feed(numbers, Array.from({ length: 200 }, (_, n) => n));
        feed(sent, ['x', 'y']);
        assert.deepEqual((await Promise.all(calls)).slice(0, 2), ['a\u001e汉', 19_900]);
        assert.deepEqual(await uploaded.take(1), [['xy']]);
      }));

    test('a plain argument beside a stream, and between two', () =>
      using(async (hub) => {
        const [one, first, second] = [new Subject(), new Subject(), new Subject()];
        const calls = [hub.invoke('PrefixStream', 'pre-', one), hub.invoke('ConcatTwoStreams', first, '|', second)];
        feed(second, ['c', 'd']);
        feed(one, ['a', 'b']);
        feed(first, ['a', 'b']);
        assert.deepEqual(await Promise.all(calls), ['pre-ab', 'ab|cd']);
      }));

    test('an empty stream, and one that ends at once', () =>
      using(async (hub) => {
        const empty = new Subject();
        const call = hub.invoke('StreamingConcat', empty);
        empty.complete();
        assert.equal(await call, '');
      }));

    test('the error of a stream fails its method', () =>
      using(async (hub) => {
        const subject = new Subject();
        const call = failure(hub.invoke('StreamingConcat', subject));
        subject.next('a');
        subject.error(new Error('gone wrong'));
        assert.match(await call, /invoking 'StreamingConcat' on the server\. HubException: .*gone wrong$/);
        assert.equal(await hub.invoke('Echo', 'alive'), 'alive');
      }));

    test('an item of the wrong type fails its method and nothing else', () =>
      using(async (hub) => {
        const subject = new Subject();
        const call = failure(hub.invoke('SumStream', subject));
        feed(subject, [1, 'two', 3]);
        assert.match(await call, /HubException: Failed to bind Stream message\.$/);
        // The client sends an item when the one before has gone; what it still sends when it is stopped fails unheard.
        for (let n = 0; n < 5; n++) assert.equal(await hub.invoke('Echo', 'alive'), 'alive');
      }));

    test('MirrorStream gives back each item as it comes', () =>
      using(async (hub) => {
        const subject = new Subject();
        const seen = [];
        const ended = new Promise((resolve, reject) => {
          hub.stream('MirrorStream', subject).subscribe({ next: (item) => seen.push(item), complete: resolve, error: reject });
        });
        for (let n = 0; n < 50; n++) {
          subject.next(`item ${n}`);
          if (n % 10 === 0) await pause(5);
        }
        subject.complete();
        await within(5_000, 'the mirror', ended);
        assert.deepEqual(seen, Array.from({ length: 50 }, (_, n) => `item ${n}`));
      }));

    test('a thousand large items arrive whole', () =>
      using(async (hub) => {
        const subject = new Subject();
        const call = hub.invoke('StreamingConcat', subject);
        for (let n = 0; n < 1_000; n++) subject.next(String.fromCharCode(97 + (n % 26)).repeat(2_000));
        subject.complete();
        const got = await within(30_000, 'the concatenation', call);
        assert.equal(got.length, 2_000_000);
        for (let n = 0; n < 1_000; n++) assert.equal(got.charCodeAt(n * 2_000), 97 + (n % 26));
      }));
  });
}
