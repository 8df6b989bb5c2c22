// Every single-value hub method of the contract, with the stock client over every transport and protocol.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { build, failure, Inbox, VARIANTS, within, withConnection } from './support/client.mjs';
import { testhubForThisFile } from './support/testhub.mjs';

const testhub = await testhubForThisFile();

const STRINGS = {
  empty: '',
  plain: 'hello world',
  'quotes and backslashes': '"\\"\\\\/\b\f',
  'the record separator': 'a\u001eb\u001e\u001e',
  'every control character': String.fromCharCode(...Array(32).keys(), 127),
  'two, three and four byte characters': 'é ß ж 汉字 \u{1F600}\u{1F468}\u200D\u{1F469}',
  'line separators': '\u2028\u2029\r\n\n',
  'the end of the plane': '\uFFFD\uFFFE\uFFFF\u{10FFFF}',
  'what looks like HTML': '<script>&amp;\'</script>',
  'ten thousand characters': 'x汉'.repeat(5_000),
};

const bytesOf = (variant, bytes) => (variant.protocol === 'json' ? Buffer.from(bytes).toString('base64') : Uint8Array.from(bytes));
const readBytes = (variant, value) => (variant.protocol === 'json' ? [...Buffer.from(value, 'base64')] : [...value]);

for (const variant of VARIANTS) {
  const using = (use, options) => withConnection(testhub, variant, options, use);

  describe(`values: ${variant.name}`, () => {
    for (const [what, string] of Object.entries(STRINGS)) {
      test(`line 153: Echo gives back ${what}`, () => using(async (hub) => assert.equal(await hub.invoke('Echo', string), string)));
    }

    test('Add sums, negative numbers too', () =>
      using(async (hub) => {
        assert.equal(await hub.invoke('Add', 19, 23), 42);
        assert.equal(await hub.invoke('Add', -2147483648, 1), -2147483647);
        assert.equal(await hub.invoke('Add', 0, 0), 0);
      }));

    test('EchoMany gives back every kind of argument', () =>
      using(async (hub) => {
        for (const many of [
          { a: 'text', b: 1, c: 1.5, d: true, e: null, f: [1, 2, 3] },
          { a: '', b: 0, c: 0, d: false, e: '', f: [] },
          { a: '汉\u001e', b: Number.MAX_SAFE_INTEGER, c: 1.7976931348623157e308, d: true, e: 'e', f: [-2147483648, 2147483647] },
          { a: 'a', b: Number.MIN_SAFE_INTEGER, c: 5e-324, d: false, e: null, f: [127, 128, 255, 256, 65535, 65536, -32, -33] },
          { a: 'a', b: 4294967296, c: -0.1, d: true, e: null, f: Array.from({ length: 1000 }, (_, i) => i) },
        ]) {
          assert.deepEqual(await hub.invoke('EchoMany', many.a, many.b, many.c, many.d, many.e, many.f), many);
        }
      }));

    test('EchoComplexObject gives back an object with its property names as written', () =>
      using(async (hub) => {
        const when = new Date('2002-04-01T20:15:10.250Z');
        const sent = {
          ByteArray: bytesOf(variant, [0x01, 0x02, 0xff]),
          DateTime: variant.protocol === 'json' ? when.toISOString() : when,
          Guid: '00010203-0405-0607-0706-050403020100',
          IntArray: [0x01, 0x02, 0x03, 0xff],
          String: 'Hello, World!',
        };
        const got = await hub.invoke('EchoComplexObject', sent);
        assert.deepEqual(Object.keys(got), ['ByteArray', 'DateTime', 'Guid', 'IntArray', 'String']);
        assert.deepEqual(readBytes(variant, got.ByteArray), [1, 2, 255]);
        assert.equal(new Date(got.DateTime).getTime(), when.getTime());
        assert.deepEqual([got.Guid, got.IntArray, got.String], [sent.Guid, sent.IntArray, sent.String]);
      }));

    test('SendComplexObject gives the object of the contract', () =>
      using(async (hub) => {
        const got = await hub.invoke('SendComplexObject');
        assert.deepEqual(readBytes(variant, got.ByteArray), [1, 2, 3]);
        if (variant.protocol === 'messagepack') assert.ok(got.DateTime instanceof Date, 'a timestamp extension');
        assert.equal(new Date(got.DateTime).toISOString(), '2000-01-01T00:00:00.000Z');
        assert.equal(got.Guid, '00010203-0405-0607-0706-050403020100');
        assert.deepEqual([got.IntArray, got.String], [[1, 2, 3], 'hello world']);
      }));

    test('EchoBinary and BinaryLength take and give bytes', () =>
      using(async (hub) => {
        for (const length of [0, 1, 2, 3, 255, 256, 5_000]) {
          const bytes = Array.from({ length }, (_, i) => (i * 7) & 255);
          assert.deepEqual(readBytes(variant, await hub.invoke('EchoBinary', bytesOf(variant, bytes))), bytes);
          assert.equal(await hub.invoke('BinaryLength', bytesOf(variant, bytes)), length);
        }
      }));

    test('GetLargeString and GetLargeBinary give the sizes asked for', () =>
      using(async (hub) => {
        for (const length of [0, 1, 15, 16, 17, 2_043, 2_044, 2_045, 4_088, 65_535, 65_536, 1_000_000]) {
          const string = await hub.invoke('GetLargeString', length);
          assert.equal(string, '0123456789abcdef'.repeat(length / 16 + 1).slice(0, length));
          const bytes = await hub.invoke('GetLargeBinary', length);
          assert.ok(readBytes(variant, bytes).every((byte, i) => byte === i % 256));
          assert.equal(readBytes(variant, bytes).length, length);
        }
      }));

    test('Delay answers after its time', () =>
      using(async (hub) => {
        const start_ms = Date.now();
        assert.equal(await hub.invoke('Delay', 300), 300);
        const took_ms = Date.now() - start_ms;
        assert.ok(took_ms >= 295 && took_ms < 2_000, `took ${took_ms} ms`);
      }));

    test('line 132: method names are found whatever their case', () =>
      using(async (hub) => {
        assert.equal(await hub.invoke('echo', 'a'), 'a');
        assert.equal(await hub.invoke('ECHO', 'b'), 'b');
        assert.equal(await hub.invoke('gETcALLERcONNECTIONiD'), await hub.invoke('GetCallerConnectionId'));
      }));
  });

  describe(`sends to the caller: ${variant.name}`, () => {
    test('line 91: InvokeWithString sends Message, then completes without a result', () =>
      using(async (hub) => {
        const inbox = new Inbox(hub, 'Message');
        const result = await hub.invoke('InvokeWithString', 'héllo\u001e');
        assert.equal(result ?? null, null);
        assert.deepEqual(await inbox.take(1), [['héllo\u001e']]);
      }));

    test('line 153: a fire-and-forget call does its work too', () =>
      using(async (hub) => {
        const inbox = new Inbox(hub, 'Message');
        await hub.send('InvokeWithString', 'fired');
        assert.deepEqual(await inbox.take(1), [['fired']]);
      }));

    test('SendCustomObject sends CustomObject', () =>
      using(async (hub) => {
        const inbox = new Inbox(hub, 'CustomObject');
        await hub.invoke('SendCustomObject', { Name: 'a name', Value: -7 });
        assert.deepEqual(await inbox.take(1), [[{ Name: 'a name', Value: -7 }]]);
      }));

    test('SendLargeString sends Large', () =>
      using(async (hub) => {
        const inbox = new Inbox(hub, 'Large');
        await hub.invoke('SendLargeString', 100_001);
        assert.deepEqual(await inbox.take(1), [['0123456789abcdef'.repeat(6_251).slice(0, 100_001)]]);
      }));

    test('Flood sends what it says, then completes', () =>
      using(async (hub) => {
        const inbox = new Inbox(hub, 'Flood');
        await within(20_000, 'Flood', hub.invoke('Flood', 300, 10_000));
        const calls = await inbox.take(300);
        assert.ok(calls.every(([string]) => string.length === 10_000));
        assert.equal(inbox.calls.length, 300);
      }));
  });

  describe(`the connection: ${variant.name}`, () => {
    test('line 155: GetCallerConnectionId is the id of negotiate; without negotiate the client knows none', () =>
      using(async (hub) => {
        const id = await hub.invoke('GetCallerConnectionId');
        assert.match(id, /^[A-Za-z0-9_-]{22,}$/);
        if (variant.skipNegotiation) assert.equal(hub.connectionId, null);
        else assert.equal(id, hub.connectionId);
      }));

    test('GetActiveTransportName, GetUserName and GetNumRedirects of a plain connection', () =>
      using(async (hub) => {
        assert.equal(await hub.invoke('GetActiveTransportName'), variant.transport);
        assert.equal(await hub.invoke('GetUserName'), null);
        assert.equal(await hub.invoke('GetNumRedirects'), 0);
      }));

    test('line 10: the query of the connection is the hub\'s to read', () =>
      using(async (hub) => assert.equal(await hub.invoke('GetNumRedirects'), 3), { query: 'numRedirects=3' }));

    test('GetHeader reads the headers of the connecting request', () =>
      using(
        async (hub) => {
          assert.equal(await hub.invoke('GetHeader', 'X-Test'), 'one two');
          assert.equal(await hub.invoke('GetHeader', 'x-test'), 'one two');
          assert.match(await hub.invoke('GetHeader', 'User-Agent'), /^Microsoft SignalR\/10\.0/);
          assert.equal(await hub.invoke('GetHeader', 'X-Not-There'), null);
        },
        { headers: { 'X-Test': 'one two' } },
      ));

    test('line 152: GetCookie reads the cookie that negotiate set', () =>
      using(async (hub) => {
        assert.equal(await hub.invoke('GetCookie', 'testCookie'), variant.skipNegotiation ? null : 'testValue');
        assert.equal(await hub.invoke('GetCookie', 'noSuchCookie'), null);
      }));

    test('GetCookie reads cookies the client brings', () =>
      using(async (hub) => assert.equal(await hub.invoke('GetCookie', 'second'), '2'), {
        headers: { Cookie: 'first=1; second=2' },
      }));

    test('lines 153 and 155: a connection stops and starts again', async () => {
      const hub = build(testhub, variant);
      await hub.start();
      const first = await hub.invoke('GetCallerConnectionId');
      await hub.stop();
      assert.equal(hub.state, 'Disconnected');
      await hub.start();
      assert.notEqual(await hub.invoke('GetCallerConnectionId'), first);
      await hub.stop();
    });
  });
}

for (const variant of VARIANTS) {
  const using = (use, options) => withConnection(testhub, variant, options, use);
  const GENERIC = 'An unexpected error occurred invoking';

  describe(`errors: ${variant.name}`, () => {
    test('ThrowException shows its kind and message with detailed errors', () =>
      using(async (hub) =>
        assert.match(
          await failure(hub.invoke('ThrowException', 'the detail é')),
          /^An unexpected error occurred invoking 'ThrowException' on the server\. [A-Za-z.]+: the detail é$/,
        ),
      ));

    test('ThrowHubException shows its message', () =>
      using(async (hub) =>
        assert.equal(
          await failure(hub.invoke('ThrowHubException', 'for all to see')),
          `${GENERIC} 'ThrowHubException' on the server. HubException: for all to see`,
        ),
      ));

    test('an unknown method says so', () =>
      using(async (hub) =>
        assert.equal(
          await failure(hub.invoke('NoSuchMethod', 1, 2)),
          "Failed to invoke 'NoSuchMethod' due to an error on the server. HubException: Method does not exist.",
        ),
      ));

    test('too few and too many arguments name both numbers', () =>
      using(async (hub) => {
        assert.equal(
          await failure(hub.invoke('Add', 1)),
          "Failed to invoke 'Add' due to an error on the server. InvalidDataException: Invocation provides 1 argument(s) but target expects 2.",
        );
        assert.equal(
          await failure(hub.invoke('Add', 1, 2, 3)),
          "Failed to invoke 'Add' due to an error on the server. InvalidDataException: Invocation provides 3 argument(s) but target expects 2.",
        );
        assert.equal(
          await failure(hub.invoke('Echo')),
          "Failed to invoke 'Echo' due to an error on the server. InvalidDataException: Invocation provides 0 argument(s) but target expects 1.",
        );
      }));

    test('arguments of the wrong type are refused and the connection lives', () =>
      using(async (hub) => {
        for (const [method, ...args] of [
          ['Echo', 7],
          ['Add', 'one', 2],
          ['Add', 1.5, 2],
          ['Add', 2147483648, 0],
          ['EchoMany', 'a', 1, 1.5, 'true', null, []],
          ['EchoMany', 'a', 1, 1.5, true, null, ['1']],
          ['EchoBinary', 5],
        ]) {
          assert.match(
            await failure(hub.invoke(method, ...args)),
            new RegExp(`^Failed to invoke '${method}' due to an error on the server\\. InvalidDataException: Error binding arguments\\.`),
          );
        }
        assert.equal(await hub.invoke('Echo', 'alive'), 'alive');
      }));

    test('a streaming method called with invoke says so', () =>
      using(async (hub) =>
        assert.equal(
          await failure(hub.invoke('Counter', 1, 0)),
          "The client attempted to invoke the streaming 'Counter' method with a non-streaming invocation.",
        ),
      ));

    test('a plain method called with stream says so', () =>
      using(async (hub) => {
        const streamed = new Promise((resolve, reject) =>
          hub.stream('Echo', 'x').subscribe({ next: resolve, complete: resolve, error: reject }),
        );
        assert.equal(
          await failure(within(5_000, 'the error', streamed)),
          "The client attempted to invoke the non-streaming 'Echo' method with a streaming invocation.",
        );
      }));

    test('a failed fire-and-forget call leaves the connection alone', () =>
      using(async (hub) => {
        await hub.send('ThrowException', 'x');
        await hub.send('NoSuchMethod');
        await hub.send('Add', 1);
        assert.equal(await hub.invoke('Echo', 'alive'), 'alive');
      }));
  });
}
