// The client specification's checklist, lines 40-52 and 54 (WebSockets) and 78-84, 86-88 (handshake), frame by frame.
// The lines that need waiting (48, 50, 53, 85) are in checklist_time.test.mjs.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { pause } from './support/client.mjs';
import {
  acceptFor, BINARY, CLOSE, frame, HubSocket, pack, PING, PONG, RS, split, TEXT, withHub, withWebSocket,
} from './support/frames.mjs';
import { negotiate } from './support/socket.mjs';
import { testhubForThisFile } from './support/testhub.mjs';

const testhub = await testhubForThisFile();
const HANDSHAKE = `{"protocol":"json","version":1}${RS}`;
const PROTOCOLS = ['json', 'messagepack'];
const echo = (protocol, id, text) =>
  protocol === 'json'
    ? Buffer.from(JSON.stringify({ type: 1, invocationId: id, target: 'Echo', arguments: [text] }) + RS)
    : pack(1, {}, id, 'Echo', [text]);
const opcodeOf = (protocol) => (protocol === 'json' ? TEXT : BINARY);

describe('the upgrade', () => {
  test('line 40: 101 has the right accept key, no subprotocol, no extension', () =>
    withWebSocket(testhub, '/testhub', async ({ answer, key }) => {
      assert.equal(answer.headers.get('sec-websocket-accept'), acceptFor(key));
      assert.equal(answer.headers.get('upgrade').toLowerCase(), 'websocket');
      assert.equal(answer.headers.get('connection').toLowerCase(), 'upgrade');
      assert.ok(!answer.headers.has('sec-websocket-protocol'));
      assert.ok(!answer.headers.has('sec-websocket-extensions'));
    }));

  test('line 40: the example of RFC 6455 1.3', async () => {
    const opened = await HubSocket.open(testhub, '/testhub', { key: 'dGhlIHNhbXBsZSBub25jZQ==' });
    opened.destroy();
    assert.equal(opened.answer.headers.get('sec-websocket-accept'), 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=');
  });

  test('line 41: permessage-deflate is declined, or what was agreed works', async () => {
    const offer = { 'Sec-WebSocket-Extensions': 'permessage-deflate; client_max_window_bits' };
    const opened = await HubSocket.open(testhub, '/testhub', { headers: offer });
    assert.ok(!opened.answer.headers.has('sec-websocket-extensions'), 'this server offers no extension');
    await opened.shakeHands();
    opened.invoke('0', 'Echo', 'plain');
    assert.equal((await opened.completion()).result, 'plain');
    opened.destroy();
  });

  for (const headers of [
    { Connection: 'keep-alive, Upgrade' },
    { Connection: 'UPGRADE', Upgrade: 'WebSocket' },
    { Connection: 'upgrade', Upgrade: 'WEBSOCKET' },
    { Connection: 'x,\tupgrade , y' },
  ]) {
    test(`line 54: ${JSON.stringify(headers)} is accepted`, async () => {
      const opened = await HubSocket.open(testhub, '/testhub', { headers });
      await opened.shakeHands();
      opened.destroy();
    });
  }

  for (const [what, headers] of Object.entries({
    'no key': { 'Sec-WebSocket-Key': null },
    'a key of 15 bytes': { 'Sec-WebSocket-Key': Buffer.alloc(15).toString('base64') },
    'a key that is no base64': { 'Sec-WebSocket-Key': '!'.repeat(24) },
    'version 8': { 'Sec-WebSocket-Version': '8' },
    'no version': { 'Sec-WebSocket-Version': null },
  })) {
    test(`a bad upgrade is refused with 400 or 426: ${what}`, async () => {
      const refused = await HubSocket.upgrade(testhub, '/testhub', { headers });
      refused.destroy();
      assert.ok([400, 426].includes(refused.answer.status), `answered ${refused.answer.status}`);
    });
  }
});

describe('frames', () => {
  for (const protocol of PROTOCOLS) {
    test(`line 42: ${protocol} answers in its own frame type, the handshake reply too`, () =>
      withWebSocket(testhub, '/testhub', async (opened) => {
        assert.equal((await opened.shakeHands(protocol)).opcode, opcodeOf(protocol));
        opened.invoke('0', 'Echo', 'x');
        assert.equal((await opened.message()).opcode, opcodeOf(protocol));
      }));

    test(`line 43: ${protocol} takes Text and Binary frames alike`, () =>
      withWebSocket(testhub, '/testhub', async (opened) => {
        opened.send(protocol === 'json' ? BINARY : TEXT, `{"protocol":"${protocol}","version":1}${RS}`);
        assert.equal((await opened.message()).payload.toString(), `{}${RS}`);
        opened.protocol = protocol;
        opened.send(BINARY, echo(protocol, '0', 'binary'));
        assert.equal((await opened.completion()).result, 'binary');
        // An Echo of ASCII in MessagePack has one byte that is no UTF-8: the array header. Text must not carry it.
        if (protocol === 'json') {
          opened.send(TEXT, echo(protocol, '1', 'text'));
          assert.equal((await opened.completion()).result, 'text');
        }
      }));

    test(`line 44: ${protocol}: a hub message over three fragments and over two messages`, () =>
      withHub(testhub, { protocol }, async (hub) => {
        const bytes = echo(protocol, '0', 'cut é');
        hub.send(opcodeOf(protocol), bytes.subarray(0, 5), { fin: false });
        hub.send(0, bytes.subarray(5, 20), { fin: false });
        hub.send(0, bytes.subarray(20));
        assert.equal((await hub.completion()).result, 'cut é');
        const opcode = BINARY;
        hub.send(opcode, bytes.subarray(0, 13));
        await pause(20);
        hub.send(opcode, bytes.subarray(13));
        assert.equal((await hub.completion()).result, 'cut é');
      }));

    test(`line 44: ${protocol}: every byte a frame, control frames between the fragments`, () =>
      withHub(testhub, { protocol }, async (hub) => {
        const bytes = echo(protocol, '0', 'bit by bit');
        const frames = [...bytes].map((byte, i) =>
          frame(i === 0 ? BINARY : 0, Buffer.from([byte]), { fin: i === bytes.length - 1 }),
        );
        frames.splice(3, 0, frame(PING, 'between'));
        hub.socket.write(Buffer.concat(frames));
        const pong = await hub.message();
        assert.deepEqual([pong.opcode, pong.payload.toString()], [PONG, 'between']);
        assert.equal((await hub.completion()).result, 'bit by bit');
      }));

    test(`line 45: ${protocol}: ten hub messages in one message are answered in order`, () =>
      withHub(testhub, { protocol }, async (hub) => {
        const ids = Array.from({ length: 10 }, (_, i) => String(i));
        hub.send(opcodeOf(protocol), Buffer.concat(ids.map((id) => echo(protocol, id, `message ${id}`))));
        for (const id of ids) assert.deepEqual(await hub.completion(), { id, result: `message ${id}`, error: undefined });
      }));

    test(`line 46: ${protocol}: under load every message ends at a hub message boundary`, () =>
      withHub(testhub, { protocol }, async (hub) => {
        const sizes = [1, 2_000, 2_044, 2_045, 70_000, 300_000, 1_000_000, 5, 3_000_000];
        for (const [i, size] of sizes.entries()) hub.invoke(String(i), 'SendLargeString', size);
        let completed = 0;
        let larges = 0;
        while (completed < sizes.length) {
          // `next` asserts the boundary of every WebSocket message.
          const { value } = await hub.next({ limit_ms: 30_000 });
          const kind = protocol === 'json' ? value.type : value[0];
          if (kind === 3) completed++;
          else {
            const [string] = protocol === 'json' ? value.arguments : value[4];
            assert.equal(string.length, sizes[larges++]);
          }
        }
        assert.equal(larges, sizes.length);
      }));
  }

  for (const payload of ['', 'x', 'é'.repeat(60), Buffer.from([0, 255, 128, 1]), 'p'.repeat(125)]) {
    test(`line 47: a Ping of ${payload.length} is answered with its payload`, () =>
      withHub(testhub, {}, async (hub) => {
        hub.send(PING, payload);
        const pong = await hub.message();
        assert.equal(pong.opcode, PONG);
        assert.deepEqual(pong.payload, Buffer.from(payload));
      }));
  }

  test('line 47: an unasked Pong is ignored', () =>
    withHub(testhub, {}, async (hub) => {
      hub.send(PONG, 'unasked');
      hub.invoke('0', 'Echo', 'alive');
      assert.equal((await hub.completion()).result, 'alive');
    }));

  test('line 49: a Close without a code is answered and TCP ends', () =>
    withHub(testhub, {}, async (hub) => {
      hub.send(CLOSE);
      const { code } = await hub.close();
      assert.ok([1000, 1005].includes(code), `code ${code}`);
      await hub.socket.waitForEnd(6_000);
    }));

  test('line 49: a Close with 1000 and a reason is answered with 1000', () =>
    withHub(testhub, {}, async (hub) => {
      hub.send(CLOSE, Buffer.concat([Buffer.from([0x03, 0xe8]), Buffer.from('bye é')]));
      assert.equal((await hub.close()).code, 1000);
      await hub.socket.waitForEnd(6_000);
    }));

  const FORBIDDEN = {
    'an unmasked frame': [frame(TEXT, 'x', { masked: false })],
    'RSV1': [frame(TEXT, 'x', { rsv: 4 })],
    'RSV2': [frame(TEXT, 'x', { rsv: 2 })],
    'RSV3': [frame(TEXT, 'x', { rsv: 1 })],
    'RSV1 on a Ping': [frame(PING, 'x', { rsv: 4 })],
    ...Object.fromEntries([3, 4, 5, 6, 7, 11, 12, 13, 14, 15].map((opcode) => [`opcode ${opcode}`, [frame(opcode, 'x')]])),
    'a Ping of 126 bytes': [frame(PING, 'x'.repeat(126))],
    'a Ping in two fragments': [frame(PING, 'x', { fin: false })],
    'a Close in two fragments': [frame(CLOSE, Buffer.from([0x03, 0xe8]), { fin: false })],
    'a continuation of nothing': [frame(0, 'x')],
    'a new message inside another': [frame(TEXT, '{', { fin: false }), frame(TEXT, '}')],
    'a Close of one byte': [frame(CLOSE, 'x')],
    'a Close with code 999': [frame(CLOSE, Buffer.from([0x03, 0xe7]))],
    'a Close with code 1005': [frame(CLOSE, Buffer.from([0x03, 0xed]))],
    'a Close with code 1006': [frame(CLOSE, Buffer.from([0x03, 0xee]))],
    'a length of 2^63': [Buffer.from([0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4])],
  };
  for (const [what, frames] of Object.entries(FORBIDDEN)) {
    test(`line 51: ${what} is 1002`, () =>
      withHub(testhub, {}, async (hub) => {
        hub.socket.write(Buffer.concat(frames));
        for (;;) {
          const next = await hub.message();
          if (next.opcode !== CLOSE) continue;
          assert.equal(next.payload.readUInt16BE(), 1002);
          break;
        }
        await hub.socket.waitForEnd(6_000);
      }));
  }

  for (const [what, bytes] of Object.entries({
    'a lone continuation byte': [0x22, 0x80, 0x22],
    'an overlong slash': [0xc0, 0xaf],
    'a surrogate': [0xed, 0xa0, 0x80],
    'above U+10FFFF': [0xf4, 0x90, 0x80, 0x80],
    'a sequence cut at the end': [0x22, 0xe2, 0x82],
  })) {
    test(`line 52: Text with ${what} is 1007, or a protocol error`, () =>
      withHub(testhub, {}, async (hub) => {
        hub.send(TEXT, Buffer.from(bytes));
        for (;;) {
          const next = await hub.message();
          if (next.opcode !== CLOSE) continue;
          assert.ok([1007, 1000].includes(next.payload.readUInt16BE()), next.payload.toString('hex'));
          break;
        }
        await hub.socket.waitForEnd(6_000);
      }));
  }
});

describe('the handshake', () => {
  const shake = (bytes, use, path = '/testhub') =>
    withWebSocket(testhub, path, async (opened) => {
      opened.send(TEXT, bytes);
      await use(opened);
    });
  const refused = (text) => async (opened) => {
    const reply = await opened.message();
    assert.equal(reply.opcode, TEXT);
    assert.equal(reply.payload.at(-1), 0x1e);
    const parsed = JSON.parse(reply.payload.subarray(0, -1));
    assert.deepEqual(Object.keys(parsed), ['error']);
    if (text instanceof RegExp) assert.match(parsed.error, text);
    else assert.equal(parsed.error, text);
    await opened.closesNormally();
  };

  test('line 78: the plain request gets {} and 0x1e, three bytes', () =>
    shake(HANDSHAKE, async (opened) => assert.deepEqual([...(await opened.message()).payload], [0x7b, 0x7d, 0x1e])));

  for (const request of [
    '{"version":1,"protocol":"json"}',
    ' {\r\n\t"protocol" : "json" , "version" : 1 } ',
    '{"a":null,"protocol":"json","b":[1,{"c":"}"}],"version":1,"d":{"type":6}}',
    '{"protocol": "json", "version": 1}',
    '{"protocol":"js\\u006fn","version":1}',
  ]) {
    test(`line 79: ${JSON.stringify(request)} is accepted`, () =>
      shake(request + RS, async (opened) => assert.equal((await opened.message()).payload.toString(), `{}${RS}`)));
  }

  test('line 80: split over two frames, and over single bytes', async () => {
    await withWebSocket(testhub, '/testhub', async (opened) => {
      opened.send(TEXT, HANDSHAKE.slice(0, 11));
      await pause(50);
      opened.send(TEXT, HANDSHAKE.slice(11));
      assert.equal((await opened.message()).payload.toString(), `{}${RS}`);
    });
    await withWebSocket(testhub, '/testhub', async (opened) => {
      for (const character of HANDSHAKE) opened.send(TEXT, character);
      assert.equal((await opened.message()).payload.toString(), `{}${RS}`);
    });
  });

  test('line 80: hub messages behind the request, in the same frame, are processed', () =>
    shake(
      HANDSHAKE + echo('json', '0', 'early') + echo('json', '1', 'birds'),
      async (opened) => {
        const reply = await opened.message();
        const [head, ...rest] = reply.payload.toString().split(RS);
        assert.equal(head, '{}');
        if (rest.length > 1) opened.records.push(...split('json', reply.payload.subarray(3)));
        assert.equal((await opened.completion()).result, 'early');
        assert.equal((await opened.completion()).result, 'birds');
      },
    ));

  test('line 80: MessagePack behind the request, in the same frame', () =>
    withWebSocket(testhub, '/testhub', async (opened) => {
      const request = Buffer.from(`{"protocol":"messagepack","version":1}${RS}`);
      opened.send(BINARY, Buffer.concat([request, echo('messagepack', '0', 'early')]));
      const reply = await opened.message();
      assert.equal(reply.payload.subarray(0, 3).toString(), `{}${RS}`);
      opened.protocol = 'messagepack';
      opened.records.push(...split('messagepack', reply.payload.subarray(3)));
      assert.equal((await opened.completion()).result, 'early');
    }));

  test('line 81: an unknown protocol is named, then close 1000', () =>
    shake(`{"protocol":"xyz","version":1}${RS}`, refused("The protocol 'xyz' is not supported.")));

  test('line 82: version 3 is named', () =>
    shake(`{"protocol":"json","version":3}${RS}`, refused("The server does not support version 3 of the 'json' protocol.")));

  for (const version of [0, 2]) {
    test(`line 83: version ${version} is accepted`, () =>
      shake(`{"protocol":"json","version":${version}}${RS}`, async (opened) => {
        assert.equal((await opened.message()).payload.toString(), `{}${RS}`);
        opened.invoke('0', 'Echo', 'x');
        assert.equal((await opened.completion()).result, 'x');
      }));
  }

  for (const [what, request] of Object.entries({
    'no version': '{"protocol":"json"}',
    'no protocol': '{"version":1}',
    'a version that is text': '{"protocol":"json","version":"1"}',
    'a protocol that is a number': '{"protocol":1,"version":1}',
    'no JSON': 'hello',
    'an array': '[]',
    'nothing': '',
    'JSON cut short': '{"protocol":"json","version":1',
  })) {
    test(`line 84: ${what} is an error of the handshake`, () =>
      shake(request + RS, refused(/^An unexpected error occurred during connection handshake\./)));
  }

  test('line 84: without detailed errors nothing more is said', async () => {
    const { token } = await import('./support/tokens.mjs');
    const opened = await HubSocket.open(testhub, '/authorizedhub', { headers: { Authorization: `Bearer ${token()}` } });
    opened.send(TEXT, `{"protocol":"json"}${RS}`);
    await refused('An unexpected error occurred during connection handshake.')(opened);
    opened.destroy();
  });

  test('line 86: 40 KB without a separator is canceled', () =>
    shake(`{"protocol":"${'x'.repeat(40_000)}`, refused('Handshake was canceled.')));

  test('line 87: the reply has no type', () =>
    shake(HANDSHAKE, async (opened) => {
      const reply = await opened.message();
      assert.deepEqual(Object.keys(JSON.parse(reply.payload.subarray(0, -1))), []);
    }));

  test('line 88: before the handshake, and after a failed one, a connection is no member of the hub', async () => {
    await withWebSocket(testhub, '/testhub', async (waiting) => {
      const failed = await HubSocket.open(testhub, '/testhub');
      failed.send(TEXT, `{"protocol":"xyz","version":1}${RS}`);
      await refused("The protocol 'xyz' is not supported.")(failed);
      await withHub(testhub, {}, async (sender) => {
        sender.invoke('0', 'SendToOthers', 'who hears this?');
        assert.equal((await sender.completion()).error, undefined);
      });
      await pause(100);
      await waiting.shakeHands();
      waiting.invoke('0', 'Echo', 'first words');
      assert.equal((await waiting.completion()).result, 'first words');
    });
  });

  test('an id of negotiate is good for one connection only', async () => {
    const { connectionToken } = await negotiate(testhub);
    await withHub(testhub, { path: `/testhub?id=${connectionToken}` }, async (hub) => {
      hub.hub({ type: 7 });
      await hub.hubClose();
    });
  });
});
