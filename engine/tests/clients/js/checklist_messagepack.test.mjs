// The client specification's checklist, lines 100-107: the MessagePack hub protocol, byte by byte.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { encode } from '@msgpack/msgpack';
import { pause } from './support/client.mjs';
import { BINARY, framed, pack, withHub } from './support/frames.mjs';
import { testhubForThisFile } from './support/testhub.mjs';

const testhub = await testhubForThisFile();
const using = (use, path = '/testhub') => withHub(testhub, { path, protocol: 'messagepack' }, use);
const hex = (text) => Buffer.from(text.replaceAll(' ', ''), 'hex');
const sendHex = (hub, text) => hub.send(BINARY, hex(text));
const nextHex = async (hub) => (await hub.next()).bytes.toString('hex');
const str = (text) => Buffer.from(encode(text)).toString('hex');

async function isNext(hub, id = 'next') {
  hub.invoke(id, 'Echo', 'marker');
  assert.deepEqual(await hub.completion(), { id, result: 'marker', error: undefined });
}

async function isProtocolError(hub) {
  const { error, allowReconnect } = await hub.hubClose();
  assert.match(error, /^Connection closed with an error\./);
  assert.equal(allowReconnect, true);
  const { code } = await hub.close();
  assert.ok([1000, 1011].includes(code), `code ${code}`);
}

describe('bytes written', () => {
  test('line 100: a Completion with a result', () =>
    using(async (hub) => {
      sendHex(hub, '0e 95 01 80 a1 30 a4 4563686f 91 a2 6869');
      assert.equal(await nextHex(hub), '09950380a13003a26869');
    }));

  test('line 100: a Completion with nil', () =>
    using(async (hub) => {
      hub.invoke('0', 'GetUserName');
      assert.equal(await nextHex(hub), '07950380a13003c0');
    }));

  test('line 100: a Completion without a result is void or nil', () =>
    using(async (hub) => {
      hub.invoke('0', 'LeaveGroup', 'g');
      assert.ok(['06940380a13002', '07950380a13003c0'].includes(await nextHex(hub)));
    }));

  test('line 100: a Completion with an error', () =>
    using(async (hub) => {
      hub.invoke('0', 'm');
      const text = "Failed to invoke 'm' due to an error on the server. HubException: Method does not exist.";
      assert.equal(await nextHex(hub), framed(hex(`950380a13001${str(text)}`)).toString('hex'));
    }));

  test('lines 100 and 103: an Invocation has six items', () =>
    using(async (hub) => {
      hub.invoke(null, 'InvokeWithString', 'hi');
      assert.equal(await nextHex(hub), `11960180c0a7${Buffer.from('Message').toString('hex')}91a2686990`);
    }));

  test('lines 100 and 103: a Close has three items', () =>
    using(async (hub) => {
      hub.invoke(null, 'Abort');
      assert.equal(await nextHex(hub), '049307c0c2');
    }));

  test('line 103: a Close with an error has three items', () =>
    using(async (hub) => {
      sendHex(hub, '03 92 01 80');
      const { value } = await hub.next();
      assert.equal(value.length, 3);
      assert.equal(value[2], true);
    }));

  test('integers are written in their shortest form', () =>
    using(async (hub) => {
      for (const [sum, bytes] of [[127, '7f'], [128, 'cc80'], [256, 'cd0100'], [65536, 'ce00010000'], [-32, 'e0'], [-33, 'd0df'], [-129, 'd1ff7f']]) {
        hub.invoke('0', 'Add', sum, 0);
        assert.equal(await nextHex(hub), framed(hex(`950380a13003${bytes}`)).toString('hex'));
      }
    }));
});

describe('bytes read', () => {
  const unknown = (id) => ({
    id,
    result: undefined,
    error: "Failed to invoke 'm' due to an error on the server. HubException: Method does not exist.",
  });

  test('line 100: an Invocation with id "s1", and one with a header', () =>
    using(async (hub) => {
      sendHex(hub, '0d 96 01 80 a2 73 31 a1 6d 91 a2 68 69 90');
      assert.deepEqual(await hub.completion(), unknown('s1'));
      sendHex(hub, '0d 96 01 81 a1 61 a1 62 a1 31 a1 6d 90 90');
      assert.deepEqual(await hub.completion(), unknown('1'));
    }));

  test('line 100: a StreamInvocation is answered by its id', () =>
    using(async (hub) => {
      sendHex(hub, '0a 96 04 80 a1 30 a1 53 91 02 90');
      const { id, error } = await hub.completion();
      assert.equal(id, '0');
      assert.match(error, /'S'/);
    }));

  for (const [what, bytes] of Object.entries({
    'Ping': '02 91 06',
    'an Invocation without id': '0b 96 01 80 c0 a1 6d 91 a2 68 69 90',
    'a StreamItem': '06 94 02 80 a1 30 07',
    'a Completion with an error': '0b 95 03 80 a1 30 01 a4 62 6f 6f 6d',
    'a void Completion': '06 94 03 80 a1 30 02',
    'a Completion with a result': '09 95 03 80 a1 30 03 a2 68 69',
    'a Completion with nil': '07 95 03 80 a1 30 03 c0',
    'a CancelInvocation': '05 93 05 80 a1 30',
    'an Ack': '03 92 08 24',
    "the JS client's Fire": '22 95 01 80 c0 a4 46697265 95 01 a3 74776f 81 a1 61 c0 cb 400c000000000000 d6 ff 00000000',
    "the JS client's Up with a stream": '0c 96 01 80 c0 a2 5570 91 05 91 a1 31',
  })) {
    test(`line 100: ${what} is taken without an answer`, () =>
      using(async (hub) => {
        sendHex(hub, bytes);
        await isNext(hub);
      }));
  }

  test('line 100: Close ends the connection', () =>
    using(async (hub) => {
      sendHex(hub, '03 92 07 c0');
      assert.equal(await nextHex(hub), '049307c0c2');
      await hub.closesNormally();
    }));

  for (const [what, items] of Object.entries({
    'five items': [1, {}, '0', 'Echo', ['x']],
    'six items': [1, {}, '0', 'Echo', ['x'], []],
    'seven items': [1, {}, '0', 'Echo', ['x'], [], { later: [1, 2] }],
    'headers': [1, { a: 'b', 'é': '' }, '0', 'Echo', ['x'], []],
  })) {
    test(`line 101: an Invocation of ${what} is accepted`, () =>
      using(async (hub) => {
        hub.hub(items);
        assert.deepEqual(await hub.completion(), { id: '0', result: 'x', error: undefined });
      }));
  }

  for (const id of [null, '']) {
    test(`line 102: an Invocation with id ${JSON.stringify(id)} is never answered`, () =>
      using(async (hub) => {
        hub.hub([1, {}, id, 'Echo', ['x']], [1, {}, id, 'NoSuch', []]);
        await isNext(hub);
      }));
  }

  test('numbers and strings are read in every width', () =>
    using(async (hub) => {
      for (const type of ['01', 'cc01', 'cd0001', 'ce00000001', 'cf0000000000000001', 'd001', 'd10001', 'd200000001', 'd30000000000000001']) {
        for (const name of ['a44563686f', 'd9044563686f', 'da00044563686f', 'db000000044563686f']) {
          hub.send(BINARY, framed(hex(`95${type}80a130${name}91a178`)));
          assert.equal((await hub.completion()).result, 'x');
        }
      }
      hub.send(BINARY, framed(hex('dc00050180a130a44563686fdc0001a178')));
      assert.equal((await hub.completion()).result, 'x');
      hub.send(BINARY, framed(hex('dd0000000501de0000a130a44563686fdd00000001a178')));
      assert.equal((await hub.completion()).result, 'x');
    }));
});

describe('framing', () => {
  const bodyOf = (length) => {
    let string = 'x'.repeat(length);
    for (;;) {
      const body = encode([1, {}, '0', 'Echo', [string]]);
      if (body.length === length) return { body, string };
      string = string.slice(0, string.length - (body.length - length));
    }
  };
  for (const length of [127, 128, 16_383, 16_384, 2_097_151, 2_097_152]) {
    test(`line 104: a body of ${length} bytes comes in`, () =>
      using(async (hub) => {
        const { body, string } = bodyOf(length);
        hub.send(BINARY, framed(body));
        assert.equal((await hub.completion(20_000)).result, string);
      }, '/testhub-large'));

    test(`line 104: a body of ${length} bytes goes out`, () =>
      using(async (hub) => {
        const header = length < 256 + 8 ? 2 : length < 65_536 ? 3 : 5;
        hub.invoke('0', 'GetLargeString', length - 6 - header);
        const { bytes } = await hub.next({ limit_ms: 20_000 });
        assert.equal(bytes.length, length + framed(Buffer.alloc(length)).length - length);
        assert.deepEqual(bytes.subarray(0, 6), framed(Buffer.concat([hex('950380a13003'), Buffer.alloc(length - 6)])).subarray(0, 6));
      }));
  }

  for (const [what, bytes] of Object.entries({
    'a prefix of six bytes': 'ff ff ff ff ff 01',
    'a prefix above 2 GB': 'ff ff ff ff 08',
    'an empty body': '00',
    'a body that is no array': '01 06',
    'an empty array': '01 90',
    'an Invocation of four items': '09 94 01 80 c0 a4 4563686f',
    'a target that is nil': '06 95 01 80 c0 c0 90',
    'a target that is a number': '06 95 01 80 c0 07 90',
    'arguments that are no array': '0a 95 01 80 c0 a4 4563686f 07',
    'a type that is text': '03 91 a1 31',
    'an id that is a number': '0a 95 01 80 07 a4 4563686f 90',
    'a body cut short inside': '04 95 01 80 c0',
    'an array of four billion items': '06 dd ff ff ff ff 01',
    'a string longer than the body': '0b 95 01 80 c0 db 7f ff ff ff 65 90',
    'a byte MessagePack never uses': '02 91 c1',
  })) {
    test(`lines 94 and 104: ${what} is a protocol error`, () =>
      using(async (hub) => {
        sendHex(hub, bytes);
        await isProtocolError(hub);
      }));
  }

  test('a message that states more than 32,768 bytes is refused', () =>
    using(async (hub) => {
      hub.send(BINARY, Buffer.concat([hex('818002'), Buffer.alloc(32_767)]));
      const { error } = await hub.hubClose();
      assert.ok(error.includes('The maximum message size of 32768B was exceeded.'), error);
    }));

  test('line 105: a frame cut at every byte is read', () =>
    using(async (hub) => {
      const { body, string } = bodyOf(200);
      const bytes = framed(body);
      for (let at = 1; at < bytes.length; at++) {
        hub.send(BINARY, bytes.subarray(0, at));
        if (at % 20 === 0) await pause(5);
        hub.send(BINARY, bytes.subarray(at));
        assert.equal((await hub.completion()).result, string);
      }
    }));

  test('line 105: two messages cut at every byte, the cut inside either', () =>
    using(async (hub) => {
      const two = Buffer.concat([pack(1, {}, '0', 'Echo', ['first']), pack(1, {}, '1', 'Echo', ['second'])]);
      for (let at = 1; at < two.length; at++) {
        hub.send(BINARY, two.subarray(0, at));
        hub.send(BINARY, two.subarray(at));
        assert.equal((await hub.completion()).result, 'first');
        assert.equal((await hub.completion()).result, 'second');
      }
    }));

  test('nesting of 30,000 is refused, and the server lives', () =>
    using(async (hub) => {
      const head = Buffer.from(encode([1, {}, '0', 'EchoComplexObject'])).subarray(1);
      hub.send(BINARY, framed(Buffer.concat([hex('95'), head, hex('91'), Buffer.alloc(30_000, 0x91), hex('c0')])));
      const { value } = await hub.next();
      assert.ok(value[0] === 7 || (value[0] === 3 && value[3] === 1), JSON.stringify(value));
      await using((other) => isNext(other));
    }));
});

describe('values', () => {
  const dated = (ext) =>
    framed(hex(`950180a130b1${Buffer.from('EchoComplexObject').toString('hex')}9181a8${Buffer.from('DateTime').toString('hex')}${ext}`));
  for (const [ext, time_ms] of [
    ['d6ff00000000', 0],
    ['d6ffffffffff', 4_294_967_295_000],
    ['d7ff77359400000f4240', 1_000_000.5 * 1000],
    ['c70cff00000000ffffffffffffffff', -1000],
    ['c70cff1dcd6500fffffffffffffffe', -1500],
  ]) {
    test(`line 106: the timestamp ${ext} survives`, () =>
      using(async (hub) => {
        hub.send(BINARY, dated(ext));
        const { value, bytes } = await hub.next();
        assert.equal(value[3], 3, JSON.stringify(value));
        assert.ok(value[4].DateTime instanceof Date);
        assert.equal(value[4].DateTime.getTime(), time_ms);
        assert.ok(bytes.toString('hex').includes(ext));
      }));
  }

  for (const length of [0, 1, 255, 256, 20_000]) {
    test(`line 106: ${length} bytes of binary survive`, () =>
      using(async (hub) => {
        const sent = Uint8Array.from({ length }, (_, i) => i & 255);
        hub.invoke('0', 'EchoBinary', sent);
        const { result } = await hub.completion();
        assert.ok(result instanceof Uint8Array);
        assert.deepEqual([...result], [...sent]);
      }));
  }

  test('line 106: integers of 64 bits survive', () =>
    using(async (hub) => {
      for (const number of ['d38000000000000000', 'cf7fffffffffffffff', 'd3ff00000000000001']) {
        hub.send(BINARY, framed(hex(`950180a130a8${Buffer.from('EchoMany').toString('hex')}96a161${number}cb3fe0000000000000c3c090`)));
        const { bytes } = await hub.next();
        const written = number.startsWith('cf') ? [number, number.replace('cf', 'd3')] : [number];
        assert.ok(written.some((form) => bytes.toString('hex').includes(`a162${form}`)), bytes.toString('hex'));
      }
    }));

  test('line 107: result kind 4 is a protocol error', () =>
    using(async (hub) => {
      sendHex(hub, '06 94 03 80 a1 30 04');
      await isProtocolError(hub);
    }));

  for (const bytes of ['02 91 2a', '07 95 2a 01 c0 a1 78 c3', '03 91 cc ff']) {
    test(`line 107: the unknown type in ${bytes} is ignored`, () =>
      using(async (hub) => {
        sendHex(hub, bytes);
        await isNext(hub);
      }));
  }
});
