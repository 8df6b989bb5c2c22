// Sizes: the limit to the byte, megabytes in and out, back-pressure.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { build, failure, Inbox, NEGOTIATED, pause, within, withConnection, withConnections } from './support/client.mjs';
import { testhubForThisFile } from './support/testhub.mjs';

const testhub = await testhubForThisFile();

const LIMIT_BYTES = 32_768;
const PATTERN = '0123456789abcdef';
const pattern = (length) => PATTERN.repeat(Math.ceil(length / 16)).slice(0, length);

/** Bytes around the string in `Echo` with invocation id "0", as the stock client writes it. */
const FRAMING_BYTES = {
  json: '{"arguments":[""],"invocationId":"0","target":"Echo","type":1}\u001e'.length,
  // prefix 3, array 1, type 1, headers 1, id 2, target 5, arguments 1, str16 header 3
  messagepack: 17,
};

for (const variant of NEGOTIATED) {
  describe(`sizes: ${variant.name}`, () => {
    test('line 111: a message of exactly 32,768 bytes is accepted', () =>
      withConnection(testhub, variant, {}, async (hub) => {
        const string = pattern(LIMIT_BYTES - FRAMING_BYTES[variant.protocol]);
        assert.equal(await hub.invoke('Echo', string), string);
      }));

    test('line 111: a message of 32,769 bytes ends the connection with a named error', () =>
      withConnection(testhub, variant, {}, async (hub) => {
        const closed = new Promise((resolve) => hub.onclose(resolve));
        const string = pattern(LIMIT_BYTES + 1 - FRAMING_BYTES[variant.protocol]);
        const text = await failure(hub.invoke('Echo', string));
        const shown =
          'Connection closed with an error. InvalidDataException: The maximum message size of 32768B was exceeded. ' +
          'The message size can be configured in AddHubOptions.';
        assert.ok(text.includes(shown), text);
        assert.ok((await within(5_000, 'onclose', closed)).message.includes(shown));
      }));

    test('line 112: /testhub-large takes 5 MB and gives it back', () =>
      withConnection(testhub, variant, { path: '/testhub-large', client_timeout_ms: 60_000 }, async (hub) => {
        const string = pattern(5_000_000);
        assert.equal(await within(40_000, 'Echo of 5 MB', hub.invoke('Echo', string)), string);
        const bytes = Buffer.alloc(3_000_000, 7);
        const sent = variant.protocol === 'json' ? bytes.toString('base64') : bytes;
        assert.equal(await within(40_000, 'BinaryLength', hub.invoke('BinaryLength', sent)), 3_000_000);
      }));

    test('20 MB come out in one answer', () =>
      withConnection(testhub, variant, { client_timeout_ms: 60_000 }, async (hub) => {
        const string = await within(50_000, 'GetLargeString', hub.invoke('GetLargeString', 20_000_000));
        assert.equal(string, pattern(20_000_000));
      }));

    test('10 MB of binary come out in one answer', () =>
      withConnection(testhub, variant, { client_timeout_ms: 60_000 }, async (hub) => {
        const got = await within(50_000, 'GetLargeBinary', hub.invoke('GetLargeBinary', 10_000_000));
        const bytes = variant.protocol === 'json' ? Buffer.from(got, 'base64') : Buffer.from(got);
        assert.equal(bytes.length, 10_000_000);
        assert.ok(bytes.every((byte, i) => byte === i % 256));
      }));

    test('Flood waits for the client and loses nothing', () =>
      withConnection(testhub, variant, { client_timeout_ms: 60_000 }, async (hub) => {
        // 100 MB, and a fifth of it where each of a few megabytes is a request of its own.
        const count_max = variant.transport === 'WebSockets' ? 1_000 : 200;
        let count = 0;
        const expected = pattern(100_000);
        hub.on('Flood', (string) => {
          assert.equal(string, expected);
          count++;
        });
        await within(60_000, 'Flood', hub.invoke('Flood', count_max, 100_000));
        assert.equal(count, count_max, 'every send came before the completion');
      }));
  });
}

describe('sharing the server', () => {
  for (const variant of NEGOTIATED) {
    test(`small calls of others are answered while a client takes 20 MB: ${variant.name}`, () =>
      withConnections([variant, NEGOTIATED[0]].map((each) => build(testhub, each, { client_timeout_ms: 60_000 })), async (large, small) => {
        const inbox = new Inbox(large, 'Large');
        const sending = large.invoke('SendLargeString', 20_000_000);
        for (let i = 0; i < 50; i++) {
          assert.equal(await within(10_000, 'a small call', small.invoke('Add', i, 1)), i + 1);
          await pause(2);
        }
        await sending;
        const [[string]] = await inbox.take(1, 50_000);
        assert.equal(string.length, 20_000_000);
      }));
  }
});
