// The client specification's checklist, lines 89-99: the JSON hub protocol, record by record.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { TEXT, withHub } from './support/frames.mjs';
import { testhubForThisFile } from './support/testhub.mjs';

const testhub = await testhubForThisFile();
const using = (use) => withHub(testhub, {}, use);
/** The next hub message is the answer to this Echo: nothing else was sent before it. */
async function isNext(hub, id) {
  hub.invoke(id, 'Echo', `marker ${id}`);
  assert.deepEqual(await hub.completion(), { id, result: `marker ${id}`, error: undefined });
}

describe('invocations', () => {
  for (const record of [
    '{"type":1,"target":"Echo","arguments":["x"]}',
    '{"type":1,"target":"NoSuchMethod","arguments":[]}',
    '{"type":1,"target":"ThrowException","arguments":["x"]}',
    '{"type":1,"target":"Add","arguments":[1]}',
    '{"type":1,"invocationId":null,"target":"ThrowHubException","arguments":["x"]}',
    '{"type":1,"invocationId":"","target":"NoSuchMethod","arguments":[]}',
  ]) {
    test(`line 89: never answered: ${record}`, () =>
      using(async (hub) => {
        hub.text(record);
        await isNext(hub, '9');
      }));
  }

  for (const id of ['0', 'a b', 'é汉\u{1F600}', '"\\\u001e\u0000', 'x'.repeat(200), '-1', '00']) {
    test(`line 90: one Completion, with the id ${JSON.stringify(id).slice(0, 40)}`, () =>
      using(async (hub) => {
        hub.invoke(id, 'Echo', 'x');
        assert.deepEqual(await hub.completion(), { id, result: 'x', error: undefined });
        await isNext(hub, 'next');
      }));
  }

  for (const [target, ...args] of [['GetUserName'], ['InvokeWithString', 'x'], ['LeaveGroup', 'none']]) {
    test(`line 91: the result of ${target} is null or absent`, () =>
      using(async (hub) => {
        hub.invoke('0', target, ...args);
        let record = await hub.next();
        if (record.value.type === 1) record = await hub.next();
        assert.equal(record.value.type, 3);
        assert.equal(record.value.result ?? null, null);
        assert.ok(!('error' in record.value));
      }));
  }

  for (const record of [
    '{"arguments":["x"],"target":"Echo","invocationId":"1","type":1}',
    '{"invocationId":"1","arguments":["x"],"type":1,"target":"Echo"}',
    ' { "type" : 1 ,\r\n\t"target":"Echo","arguments" : [ "x" ] , "invocationId" : "1" } ',
    '{"\\u0074ype":1,"t\\u0061rget":"Ec\\u0068o","arguments":["\\u0078"],"invocationId":"\\u0031"}',
    '{"type":5,"type":1,"target":"No","target":"Echo","arguments":[],"arguments":["x"],"invocationId":"1"}',
    '{"type":1,"invocationId":"1","target":"Echo","arguments":["x"],"streamIds":[]}',
  ]) {
    test(`line 92: in any order, however written: ${record}`, () =>
      using(async (hub) => {
        hub.text(record);
        assert.deepEqual(await hub.completion(), { id: '1', result: 'x', error: undefined });
      }));
  }

  for (const [what, record] of Object.entries({
    'unknown properties': '{"a":{"b":[1,"]}"]},"type":1,"target":"Echo","arguments":["x"],"invocationId":"1","z":null}',
    'empty headers': '{"headers":{},"type":1,"target":"Echo","arguments":["x"],"invocationId":"1"}',
    'unknown headers': '{"type":1,"headers":{"traceparent":"00-x","é":"ü"},"target":"Echo","arguments":["x"],"invocationId":"1"}',
    'headers that are null': '{"type":1,"headers":null,"target":"Echo","arguments":["x"],"invocationId":"1"}',
  })) {
    test(`lines 93 and 95: ${what} are skipped, and headers never sent`, () =>
      using(async (hub) => {
        hub.text(record);
        const { value } = await hub.next();
        assert.deepEqual(Object.keys(value).sort(), ['invocationId', 'result', 'type']);
        assert.equal(value.result, 'x');
      }));
  }

  for (const record of ['{"type":42}', '{"type":42,"target":7,"arguments":"x"}', '{"type":10,"a":1}', '{"type":-1}', '{"type":0}']) {
    test(`line 93: ${record} is ignored and the next message works`, () =>
      using(async (hub) => {
        hub.text(record);
        await isNext(hub, '1');
      }));
  }

  test('a sent invocation has type, target and arguments, and nothing else', () =>
    using(async (hub) => {
      hub.invoke('0', 'InvokeWithString', 'x');
      const { value } = await hub.next();
      assert.deepEqual(value, { type: 1, target: 'Message', arguments: ['x'] });
    }));
});

describe('protocol errors', () => {
  for (const [what, record] of Object.entries({
    'no type': '{"target":"Echo","arguments":["x"]}',
    'a type that is text': '{"type":"1","target":"Echo","arguments":["x"]}',
    'a type that is null': '{"type":null}',
    'no target': '{"type":1,"arguments":["x"],"invocationId":"1"}',
    'a target that is a number': '{"type":1,"target":1,"arguments":[],"invocationId":"1"}',
    'no arguments': '{"type":1,"target":"Echo","invocationId":"1"}',
    'arguments that are no array': '{"type":1,"target":"Echo","arguments":"x","invocationId":"1"}',
    'an id that is a number': '{"type":1,"target":"Echo","arguments":["x"],"invocationId":1}',
    'a StreamInvocation without id': '{"type":4,"target":"Counter","arguments":[1,1]}',
    'a StreamItem without item': '{"type":2,"invocationId":"1"}',
    'a Completion with result and error': '{"type":3,"invocationId":"1","result":1,"error":"x"}',
    'a CancelInvocation without id': '{"type":5}',
    'no JSON': 'hello',
    'JSON cut short': '{"type":1,"target":"Echo"',
    'two objects in one record': '{"type":6}{"type":6}',
    'a trailing comma': '{"type":6,}',
    'a comment': '{"type":6/* */}',
    'single quotes': "{'type':6}",
    'a control character in a string': '{"type":6,"a":"\n"}',
    'a bad escape': '{"type":6,"a":"\\x"}',
    'a number that is none': '{"type":6,"a":01}',
    'an array': '[6]',
    'a bare number': '6',
    'null': 'null',
    'an empty record': '',
    'white space only': '  ',
  })) {
    test(`line 94: ${what} is a Close with an error and allowReconnect, then the end`, () =>
      using(async (hub) => {
        hub.text(record);
        const { error, allowReconnect } = await hub.hubClose();
        assert.match(error, /^Connection closed with an error\./);
        assert.equal(allowReconnect, true);
        const { code } = await hub.close();
        assert.ok([1000, 1011].includes(code), `code ${code}`);
        hub.destroy();
      }));
  }

  test('line 94: nothing after a protocol error is done', () =>
    using(async (hub) => {
      hub.send(TEXT, '{"type":1}\u001e{"type":1,"target":"Echo","arguments":["x"],"invocationId":"1"}\u001e');
      await hub.hubClose();
      await hub.close();
    }));
});

describe('values', () => {
  const nested = (depth) => '['.repeat(depth) + ']'.repeat(depth);
  const withDepth = (depth) =>
    `{"type":1,"invocationId":"1","target":"EchoComplexObject","arguments":[{"String":"s","X":${nested(depth - 3)}}]}`;

  test('line 96: 64 deep is accepted', () =>
    using(async (hub) => {
      hub.text(withDepth(64));
      const { result, error } = await hub.completion();
      assert.equal(error, undefined);
      assert.equal(result.String, 's');
    }));

  for (const depth of [67, 200, 15_000]) {
    test(`line 96: ${depth} deep is refused, and the server lives`, () =>
      using(async (hub) => {
        hub.text(withDepth(depth));
        const { value } = await hub.next();
        assert.ok(value.type === 7 || (value.type === 3 && value.error), JSON.stringify(value));
        await using((other) => isNext(other, '1'));
      }));
  }

  test('line 97: 0x1e inside a string is written as an escape', () =>
    using(async (hub) => {
      hub.text('{"type":1,"invocationId":"1","target":"Echo","arguments":["a\\u001eb\\u001E"]}');
      const { bytes, value } = await hub.next();
      assert.equal(value.result, 'a\u001eb\u001e');
      assert.match(bytes.toString(), /a\\u001eb\\u001e/i);
      assert.equal(bytes.indexOf(0x1e), bytes.length - 1);
    }));

  test('line 97: in a target, a group and a broadcast too', () =>
    using(async (hub) => {
      hub.text('{"type":1,"invocationId":"1","target":"InvokeWithString","arguments":["\\u001e"]}');
      assert.deepEqual((await hub.next()).value.arguments, ['\u001e']);
      await hub.completion();
      hub.text('{"type":1,"invocationId":"2","target":"No\\u001eSuch","arguments":[]}');
      assert.match((await hub.completion()).error, /^Failed to invoke 'No\u001eSuch' due/);
    }));

  for (const [target, ...args] of [['Echo', 'x'], ['ThrowException', 'x'], ['GetUserName'], ['NoSuch'], ['Add', 1]]) {
    test(`line 98: ${target} gives an error or a result, never both, never a null error`, () =>
      using(async (hub) => {
        hub.invoke('1', target, ...args);
        const { value } = await hub.next();
        assert.ok(!('error' in value && 'result' in value));
        if ('error' in value) assert.ok(typeof value.error === 'string' && value.error.length > 0);
      }));
  }

  for (const number of ['9007199254740993', '-9223372036854775808', '9223372036854775807', '0', '-1']) {
    test(`line 99: the integer ${number} passes unchanged`, () =>
      using(async (hub) => {
        hub.text(`{"type":1,"invocationId":"1","target":"EchoMany","arguments":["a",${number},0.5,true,null,[]]}`);
        const { bytes } = await hub.next();
        assert.ok(bytes.toString().includes(`"b":${number},`), bytes.toString());
      }));
  }

  for (const number of ['0.1', '1e300', '-1.5E-10', '1.7976931348623157e308', '5e-324', '123456789.123456789', '3']) {
    test(`line 99: the float ${number} keeps its value`, () =>
      using(async (hub) => {
        hub.text(`{"type":1,"invocationId":"1","target":"EchoMany","arguments":["a",1,${number},true,null,[]]}`);
        assert.equal((await hub.completion()).result.c, Number(number));
      }));
  }

  for (const [escape, string] of [
    ['\\uD83D\\uDE00', '\u{1F600}'],
    ['\\u00e9\\u6c49', 'é汉'],
    ['\\/\\b\\f\\n\\r\\t\\"\\\\', '/\b\f\n\r\t"\\'],
    ['\\u0000', '\u0000'],
  ]) {
    test(`line 99: the escape ${escape} passes`, () =>
      using(async (hub) => {
        hub.text(`{"type":1,"invocationId":"1","target":"Echo","arguments":["${escape}"]}`);
        assert.equal((await hub.completion()).result, string);
      }));
  }

  test('line 99: half a surrogate pair is refused or replaced, not passed on broken', () =>
    using(async (hub) => {
      hub.text('{"type":1,"invocationId":"1","target":"Echo","arguments":["\\uD83D"]}');
      const { value } = await hub.next();
      assert.ok(value.type === 7 || value.error || value.result === '\uFFFD', JSON.stringify(value));
    }));
});
