// A process of its own, because Node reads NODE_EXTRA_CA_CERTS when it starts: the stock client over TLS, every way.
//   tls_client.mjs https://localhost:PORT
// Prints one JSON object: for each variant, for each case, null or what went wrong. ../tls.test.mjs judges it.

import assert from 'node:assert/strict';
import { build, Inbox, signalr, VARIANTS, within, withConnection, withConnections } from './client.mjs';

const LIMIT_MS = 20_000;
const testhub = { url: process.argv[2] };

function collect(streamed) {
  const items = [];
  return within(LIMIT_MS, 'the end of the stream', new Promise((resolve, reject) => {
    streamed.subscribe({ next: (item) => items.push(item), complete: () => resolve(items), error: reject });
  }));
}

const CASES = {
  'calls are answered': (variant) =>
    withConnection(testhub, variant, {}, async (hub) => {
      for (const text of ['', 'hello', 'é 汉 \u{1F600}', 'x'.repeat(20_000)]) assert.equal(await hub.invoke('Echo', text), text);
      assert.equal(await hub.invoke('Add', 19, 23), 42);
      assert.equal(await hub.invoke('GetActiveTransportName'), variant.transport);
    }),

  'a broadcast reaches everybody': async (variant) => {
    const hubs = Array.from({ length: 3 }, () => build(testhub, variant));
    const inboxes = hubs.map((hub) => new Inbox(hub, 'Broadcast'));
    await withConnections(hubs, async (first) => {
      const texts = Array.from({ length: 20 }, (_, n) => `${n} ${'y'.repeat(n * 100)}`);
      for (const text of texts) await first.invoke('BroadcastAll', text);
      for (const inbox of inboxes) assert.deepEqual((await inbox.take(texts.length, LIMIT_MS)).map(([, text]) => text), texts);
    });
  },

  'large messages from the server arrive whole': (variant) =>
    withConnection(testhub, variant, {}, async (hub) => {
      const text = await hub.invoke('GetLargeString', 1_000_000);
      assert.equal(text.length, 1_000_000);
    }),

  'streams flow both ways': (variant) =>
    withConnection(testhub, variant, {}, async (hub) => {
      assert.deepEqual(await collect(hub.stream('Counter', 500, 0)), Array.from({ length: 500 }, (_, n) => n));
      const subject = new signalr.Subject();
      const sum = hub.invoke('SumStream', subject);
      for (let n = 1; n <= 100; n++) subject.next(n);
      subject.complete();
      assert.equal(await within(LIMIT_MS, 'the sum', sum), 5_050);
    }),
};

const results = {};
for (const variant of VARIANTS) {
  results[variant.name] = {};
  for (const [name, run] of Object.entries(CASES)) {
    results[variant.name][name] = await run(variant).then(() => null, (error) => error.stack);
  }
}
process.stdout.write(JSON.stringify(results), () => process.exit(0));
