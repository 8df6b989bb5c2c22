// permessage-deflate: /testhub-deflate and /ws-echo-deflate with the `ws` client and its own zlib, and by hand where a
// test says what a client must not.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { constants, deflateRawSync, inflateRawSync } from 'node:zlib';
import WebSocket from 'ws';
import { within } from './support/client.mjs';
import { BINARY, CLOSE, HubSocket, PING, RS, TEXT, frame, pack, split } from './support/frames.mjs';
import { testhubForThisFile } from './support/testhub.mjs';

const WAIT_MS = 20_000;
const PLAIN_BYTES_MIN = 256;
const COMPRESSED = 4;
const TERMS = 'permessage-deflate; server_no_context_takeover; client_no_context_takeover';

const testhub = await testhubForThisFile();
const url = (path) => testhub.url.replace('http', 'ws') + path;

/** A `ws` client and what it has received, with the RSV1 bit of each message. */
async function using(path, use, options = {}) {
  const socket = new WebSocket(url(path), { maxPayload: 1 << 27, perMessageDeflate: { threshold: 0 }, ...options });
  const inbox = new Inbox();
  socket.on('message', (data, binary) => inbox.put({ data, binary, compressed: socket._receiver._compressed }));
  socket.on('close', (code) => inbox.end(code));
  socket.on('error', () => {});
  await within(WAIT_MS, 'the upgrade', new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject)));
  try {
    return await use(socket, inbox);
  } finally {
    socket.terminate();
  }
}

class Inbox {
  constructor() {
    this.messages = [];
    this.code = undefined;
    this.wake = () => {};
  }

  put(message) {
    this.messages.push(message);
    this.wake();
  }

  end(code) {
    this.code = code;
    this.wake();
  }

  async next() {
    while (!this.messages.length) {
      if (this.code !== undefined) throw new Error(`closed with ${this.code}`);
      await this.news();
    }
    return this.messages.shift();
  }

  async closed() {
    while (this.code === undefined) await this.news();
    return this.code;
  }

  news() {
    return within(WAIT_MS, 'news', new Promise((resolve) => (this.wake = resolve)));
  }
}

/** A hub client on the `ws` client. */
async function usingHub(protocol, use, options = {}) {
  return using(options.path ?? '/testhub-deflate', async (socket, inbox) => {
    socket.send(JSON.stringify({ protocol, version: 1 }) + RS);
    assert.equal((await inbox.next()).data.toString(), `{}${RS}`);
    const hub = {
      inbox,
      records: [],
      invoke(id, target, ...args) {
        if (protocol === 'json') socket.send(JSON.stringify({ type: 1, invocationId: id, target, arguments: args }) + RS);
        else socket.send(pack(1, {}, id, target, args));
      },
      /** The next hub message that is no ping, with whether it came compressed. */
      async next() {
        for (;;) {
          while (!hub.records.length) {
            const { data, binary, compressed } = await inbox.next();
            assert.equal(binary, protocol !== 'json');
            hub.records.push(...split(protocol, data).map(({ value }) => ({ value, compressed })));
          }
          const record = hub.records.shift();
          if ((record.value.type ?? record.value[0]) !== 6) return record;
        }
      },
    };
    return use(hub);
  }, options);
}

const args = (value) => value.arguments ?? value[4];
const deflated = (text) => deflateRawSync(text, { finishFlush: constants.Z_SYNC_FLUSH }).subarray(0, -4);
const inflated = (payload) => inflateRawSync(Buffer.concat([payload, Buffer.from([0, 0, 255, 255])]), { finishFlush: constants.Z_SYNC_FLUSH }).toString();

/** A raw socket that has agreed to permessage-deflate. */
async function usingRaw(path, use) {
  const raw = await HubSocket.open(testhub, path, { headers: { 'Sec-WebSocket-Extensions': 'permessage-deflate' } });
  try {
    return await use(raw);
  } finally {
    raw.destroy();
  }
}

/** The next frame of the server, with its reserved bits. */
async function rawFrame(raw) {
  const [first, second] = await raw.socket.take(2);
  const length = (second & 127) === 126 ? (await raw.socket.take(2)).readUInt16BE() : second & 127;
  return { opcode: first & 15, rsv: (first >> 4) & 7, fin: first >> 7, payload: await raw.socket.take(length) };
}

describe('what is agreed', () => {
  const answer = async (path, offer) => {
    const headers = offer === null ? {} : { 'Sec-WebSocket-Extensions': offer };
    const upgraded = await HubSocket.upgrade(testhub, path, { headers });
    upgraded.destroy();
    assert.equal(upgraded.answer.status, 101);
    return upgraded.answer.headers.get('sec-websocket-extensions');
  };
  for (const path of ['/testhub-deflate', '/ws-echo-deflate']) {
    for (const [offer, agreed] of [
      ['permessage-deflate', TERMS],
      ['permessage-deflate; client_max_window_bits', TERMS],
      ['permessage-deflate; server_max_window_bits=15', `${TERMS}; server_max_window_bits=12`],
      ['permessage-deflate; server_max_window_bits=9, permessage-deflate', TERMS],
      ['permessage-deflate; server_max_window_bits=9', undefined],
      ['permessage-deflate; surprise', undefined],
      ['x-webkit-deflate-frame', undefined],
      [null, undefined],
    ]) {
      test(`${path}: ${offer}`, async () => assert.equal(await answer(path, offer), agreed));
    }
  }
  for (const path of ['/testhub', '/ws-echo']) {
    test(`${path} declines`, async () => assert.equal(await answer(path, 'permessage-deflate'), undefined));
  }
});

describe('/ws-echo-deflate', () => {
  for (const size of [0, 1, 255, 256, 2_044, 20_000, 1_000_000, 5_000_000]) {
    for (const binary of [false, true]) {
      test(`${size} bytes of ${binary ? 'binary' : 'text'} come back the same`, () =>
        using('/ws-echo-deflate', async (socket, inbox) => {
          const sent = binary ? randomBytes(size) : Buffer.alloc(size, 'abcdefghij');
          socket.send(sent, { binary });
          const got = await inbox.next();
          assert.equal(got.binary, binary);
          assert.ok(got.data.equals(sent));
        }));
    }
  }

  test('line 41: a compressed message in fragments with pings between comes back as one', () =>
    usingRaw('/ws-echo-deflate', async (raw) => {
      const text = 'fragment '.repeat(200);
      const payload = deflated(text);
      for (const [at, byte] of [...payload].entries()) {
        const last = at === payload.length - 1;
        raw.send(at ? 0 : TEXT, Buffer.from([byte]), { fin: last, rsv: at ? 0 : COMPRESSED });
        if (at % 7 === 0) {
          raw.send(PING, `${at}`);
          const pong = await rawFrame(raw);
          assert.deepEqual([pong.opcode, pong.rsv, pong.payload.toString()], [10, 0, `${at}`]);
        }
      }
      const got = await rawFrame(raw);
      assert.deepEqual([got.opcode, got.rsv, got.fin], [TEXT, COMPRESSED, 1]);
      assert.equal(inflated(got.payload), text);
    }));

  test('what is short comes back plain, and what is plain is taken', () =>
    usingRaw('/ws-echo-deflate', async (raw) => {
      raw.send(TEXT, deflated('short'), { rsv: COMPRESSED });
      raw.send(TEXT, 'plain');
      for (const text of ['short', 'plain']) {
        const got = await rawFrame(raw);
        assert.deepEqual([got.rsv, got.payload.toString()], [0, text]);
      }
    }));

  for (const [what, bytes, code] of [
    ['a bit for compression on a continuation', [frame(TEXT, 'a', { fin: false }), frame(0, 'b', { rsv: COMPRESSED })], 1002],
    ['a bit for compression on a ping', [frame(PING, '', { rsv: COMPRESSED })], 1002],
    ['another reserved bit', [frame(TEXT, 'a', { rsv: 2 })], 1002],
    ['no DEFLATE at all', [frame(TEXT, Buffer.from([0xff, 0xff, 0xff]), { rsv: COMPRESSED })], 1007],
    ['text that is not UTF-8', [frame(TEXT, deflated(Buffer.from([0xc3, 0x28])), { rsv: COMPRESSED })], 1007],
  ]) {
    test(`${what} is refused with ${code}`, () =>
      usingRaw('/ws-echo-deflate', async (raw) => {
        raw.socket.write(Buffer.concat(bytes));
        for (;;) {
          const got = await rawFrame(raw);
          if (got.opcode !== CLOSE) continue;
          assert.equal(got.payload.readUInt16BE(), code);
          break;
        }
      }));
  }

  test('a message that inflates to more than 64 MiB is refused with 1009', () =>
    using('/ws-echo-deflate', async (socket, inbox) => {
      socket.send(Buffer.alloc((64 << 20) + 1));
      assert.equal(await inbox.closed(), 1009);
    }));

  test('a close frame behind compressed messages is answered', () =>
    usingRaw('/ws-echo-deflate', async (raw) => {
      const large = deflated('x'.repeat(50_000));
      const frames = Array.from({ length: 20 }, () => frame(TEXT, large, { rsv: COMPRESSED }));
      raw.socket.write(Buffer.concat([...frames, frame(CLOSE, Buffer.from([0x03, 0xe8]))]));
      for (let echoes = 0; ; ) {
        const got = await rawFrame(raw);
        if (got.opcode !== CLOSE) {
          echoes += inflated(got.payload).length === 50_000;
          continue;
        }
        assert.equal(echoes, 20);
        assert.equal(got.payload.readUInt16BE(), 1000);
        break;
      }
      await raw.socket.waitForEnd(WAIT_MS);
    }));
});

describe('/testhub-deflate', () => {
  for (const protocol of ['json', 'messagepack']) {
    test(`line 41: ${protocol}: broadcasts reach clients with and without compression, long ones compressed`, async () => {
      const plain = { perMessageDeflate: false };
      await usingHub(protocol, (one) => usingHub(protocol, (two) => usingHub(protocol, (without) => usingHub(protocol, async (elsewhere) => {
        for (const length of [10, PLAIN_BYTES_MIN, 2_000, 30_000]) {
          const text = `${length} `.padEnd(length, 'hello hub ');
          one.invoke(`b${length}`, 'BroadcastAll', text);
          for (const hub of [one, two, without, elsewhere]) {
            const { value, compressed } = await hub.next();
            assert.equal(args(value).at(-1), text);
            const agreed = hub === one || hub === two;
            assert.equal(Boolean(compressed), agreed && length >= PLAIN_BYTES_MIN, `${length} bytes`);
          }
          assert.equal((await one.next()).value[0] ?? 3, 3);
        }
        const noise = randomBytes(3_000).toString('latin1');
        one.invoke('noise', 'BroadcastAll', noise);
        for (const hub of [one, two, without, elsewhere]) assert.equal(args((await hub.next()).value).at(-1), noise);
      }, { path: '/testhub' }), plain)));
    });

    test(`${protocol}: answers are never compressed`, () =>
      usingHub(protocol, async (hub) => {
        const text = 'answer '.repeat(2_000);
        hub.invoke('1', 'Echo', text);
        const { value, compressed } = await hub.next();
        assert.equal(value.result ?? value.at(-1), text);
        assert.ok(!compressed);
      }));

    test(`${protocol}: 200 invocations in a few hundred bytes are answered in order, and so is the next`, () =>
      usingRaw('/testhub-deflate', async (raw) => {
        raw.send(TEXT, JSON.stringify({ protocol, version: 1 }) + RS);
        await raw.message();
        const text = 'x'.repeat(20_000);
        const invocation = (id) =>
          protocol === 'json'
            ? Buffer.from(JSON.stringify({ type: 1, invocationId: `${id}`, target: 'Echo', arguments: [text] }) + RS)
            : pack(1, {}, `${id}`, 'Echo', [text]);
        const kind = protocol === 'json' ? TEXT : BINARY;
        const frames = Array.from({ length: 200 }, (_, id) => frame(kind, deflated(invocation(id)), { rsv: COMPRESSED }));
        raw.protocol = protocol;
        raw.socket.write(Buffer.concat(frames));
        for (let id = 0; id < 200; id++) assert.equal((await raw.completion()).id, `${id}`);
        raw.send(kind, invocation(200));
        assert.equal((await raw.completion()).id, '200');
      }));
  }

  test('several hub messages in one compressed message, and one hub message in two', () =>
    usingRaw('/testhub-deflate', async (raw) => {
      await raw.shakeHands();
      const record = (id) => JSON.stringify({ type: 1, invocationId: id, target: 'Echo', arguments: ['y'.repeat(400)] }) + RS;
      const three = record('1') + record('2') + record('3');
      raw.send(TEXT, deflated(three.slice(0, 700)), { rsv: COMPRESSED });
      raw.send(TEXT, deflated(three.slice(700)), { rsv: COMPRESSED });
      for (const id of ['1', '2', '3']) assert.equal((await raw.completion()).id, id);
    }));

  test('a bomb is refused with 1009', () =>
    usingRaw('/testhub-deflate', async (raw) => {
      await raw.shakeHands();
      raw.send(TEXT, deflated(Buffer.alloc(64 << 20, 'x')), { rsv: COMPRESSED });
      assert.equal((await raw.close()).code, 1009);
      await raw.socket.waitForEnd(WAIT_MS);
    }));

  test('a hub message above its limit inside of a compressed one ends the connection', () =>
    usingRaw('/testhub-deflate', async (raw) => {
      await raw.shakeHands();
      const record = JSON.stringify({ type: 1, invocationId: '1', target: 'Echo', arguments: ['z'.repeat(40_000)] }) + RS;
      raw.send(TEXT, deflated(record), { rsv: COMPRESSED });
      const { error } = await raw.hubClose();
      assert.match(error, /32768/);
      assert.equal((await raw.close()).code, 1000);
      // The answer to the goodbye is found behind more compressed messages, which nobody inflates any more.
      raw.send(TEXT, deflated(Buffer.alloc(1 << 20, 'x')), { rsv: COMPRESSED });
      raw.send(CLOSE, Buffer.from([0x03, 0xe8]));
      const took_ms = await raw.socket.waitForEnd(4_000);
      assert.ok(took_ms < 2_000, `${took_ms} ms`);
    }));
});
