// RFC 6455 by hand, so that a test can say every bit of a frame, and hub messages on top of it.

import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { decode, encode } from '@msgpack/msgpack';
import { Socket } from './socket.mjs';

export const RS = '\u001e';
export const TEXT = 1;
export const BINARY = 2;
export const CLOSE = 8;
export const PING = 9;
export const PONG = 10;

/** One frame as a client writes it; every rule may be broken on purpose. */
export function frame(opcode, payload = '', { fin = true, rsv = 0, masked = true, length } = {}) {
  const body = Buffer.from(payload);
  const stated = length ?? body.length;
  const head = [(fin ? 0x80 : 0) | (rsv << 4) | opcode];
  const mask = masked ? 0x80 : 0;
  if (stated < 126) head.push(mask | stated);
  else if (stated < 65536) head.push(mask | 126, stated >> 8, stated & 255);
  else {
    const wide = Buffer.alloc(8);
    wide.writeBigUInt64BE(BigInt(stated));
    head.push(mask | 127, ...wide);
  }
  if (!masked) return Buffer.concat([Buffer.from(head), body]);
  const key = randomBytes(4);
  const covered = Buffer.alloc(body.length);
  for (let i = 0; i < body.length; i++) covered[i] = body[i] ^ key[i & 3];
  return Buffer.concat([Buffer.from(head), key, covered]);
}

export function acceptFor(key) {
  return createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
}

/** `[VarInt length][body]`. */
export function framed(body) {
  const bytes = Buffer.from(body);
  const prefix = [];
  let left = bytes.length;
  do {
    prefix.push((left & 127) | (left > 127 ? 128 : 0));
    left >>>= 7;
  } while (left);
  return Buffer.concat([Buffer.from(prefix), bytes]);
}

export const pack = (...items) => framed(encode(items));

export class HubSocket {
  constructor(socket, answer, key) {
    this.socket = socket;
    this.answer = answer;
    this.key = key;
    this.protocol = 'json';
    this.records = [];
    this.opcodes = [];
    this.parts = null;
  }

  /** Sends the upgrade and reads the answer, whatever it is. `headers` replaces or adds by name. */
  static async upgrade(testhub, path, { headers = {}, key = randomBytes(16).toString('base64') } = {}) {
    const socket = await Socket.open(testhub.url);
    const fields = {
      Host: new URL(testhub.url).host,
      Connection: 'Upgrade',
      Upgrade: 'websocket',
      'Sec-WebSocket-Version': '13',
      'Sec-WebSocket-Key': key,
      ...headers,
    };
    const lines = Object.entries(fields).filter(([, value]) => value !== null);
    socket.write(`GET ${path} HTTP/1.1\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`);
    try {
      return new HubSocket(socket, await socket.answer(), key);
    } catch (error) {
      socket.destroy();
      throw error;
    }
  }

  /** An open WebSocket. */
  static async open(testhub, path = '/testhub', options = {}) {
    const opened = await HubSocket.upgrade(testhub, path, options);
    if (opened.answer.status !== 101) {
      opened.destroy();
      throw new Error(`upgrade of ${path} answered ${opened.answer.status} ${opened.answer.body}`);
    }
    return opened;
  }

  /** An open hub connection, handshake done. */
  static async connect(testhub, { path = '/testhub', protocol = 'json', headers = {} } = {}) {
    const opened = await HubSocket.open(testhub, path, { headers });
    await opened.shakeHands(protocol);
    return opened;
  }

  async shakeHands(protocol = 'json', version = 1) {
    this.send(TEXT, `{"protocol":"${protocol}","version":${version}}${RS}`);
    const reply = await this.message();
    assert.equal(reply.payload.toString(), `{}${RS}`);
    this.protocol = protocol;
    return reply;
  }

  send(opcode, payload, options) {
    this.socket.write(frame(opcode, payload, options));
  }

  /** Hub messages in the connection's protocol: objects for JSON, item arrays for MessagePack; one WebSocket message. */
  hub(...messages) {
    if (this.protocol === 'json') this.send(TEXT, messages.map((message) => JSON.stringify(message) + RS).join(''));
    else this.send(BINARY, Buffer.concat(messages.map((items) => pack(...items))));
  }

  /** A JSON record exactly as written. */
  text(record) {
    this.send(TEXT, record + RS);
  }

  invoke(id, target, ...args) {
    if (this.protocol === 'json') this.hub({ type: 1, invocationId: id, target, arguments: args });
    else this.hub([1, {}, id, target, args]);
  }

  /** The next frame, checked for what no server frame may have. */
  async frame(limit_ms) {
    const [first, second] = await this.socket.take(2, 'a frame', limit_ms);
    assert.equal(first & 0x70, 0, 'a server frame without an extension has no RSV bits');
    assert.equal(second & 0x80, 0, 'a server frame is not masked');
    let length = second & 127;
    if (length === 126) length = (await this.socket.take(2)).readUInt16BE();
    else if (length === 127) length = Number((await this.socket.take(8)).readBigUInt64BE());
    const payload = await this.socket.take(length, `a payload of ${length} bytes`, limit_ms ?? 60_000);
    return { fin: (first & 0x80) !== 0, opcode: first & 15, payload };
  }

  /** The next whole message, or a control frame if one comes first. */
  async message(limit_ms) {
    for (;;) {
      const next = await this.frame(limit_ms);
      if (next.opcode >= 8) {
        assert.ok(next.fin && next.payload.length <= 125, 'a control frame is whole and short');
        return next;
      }
      assert.equal(next.opcode === 0, this.parts !== null, 'continuation frames continue a message, others start one');
      this.parts ??= { opcode: next.opcode, pieces: [] };
      this.parts.pieces.push(next.payload);
      if (!next.fin) continue;
      const { opcode, pieces } = this.parts;
      this.parts = null;
      return { opcode, payload: Buffer.concat(pieces) };
    }
  }

  /** The next hub message, pings left out unless asked for. `bytes` is the message as it came. */
  async next({ pings = false, limit_ms } = {}) {
    const until_ms = limit_ms === undefined ? undefined : Date.now() + limit_ms;
    for (;;) {
      while (!this.records.length) {
        const left_ms = until_ms === undefined ? undefined : Math.max(1, until_ms - Date.now());
        const message = await this.message(left_ms);
        assert.ok(message.opcode < 8, `a hub message, not control frame ${message.opcode} ${message.payload.toString('hex')}`);
        assert.equal(message.opcode, this.protocol === 'json' ? TEXT : BINARY, 'the frame type of the protocol');
        this.records.push(...split(this.protocol, message.payload));
      }
      const record = this.records.shift();
      if (pings || !isPing(record.value)) return record;
    }
  }

  /** The next Completion: { id, result } or { id, error }. */
  async completion(limit_ms) {
    const { value } = await this.next({ limit_ms });
    if (this.protocol === 'json') {
      assert.equal(value.type, 3, `a Completion, not ${JSON.stringify(value)}`);
      return { id: value.invocationId, result: value.result, error: value.error };
    }
    assert.equal(value[0], 3, `a Completion, not ${JSON.stringify(value)}`);
    const [, , id, kind, last] = value;
    return { id, result: kind === 3 ? last : undefined, error: kind === 1 ? last : undefined };
  }

  /** Expects the hub's Close; answers it as { error, allowReconnect }. */
  async hubClose(limit_ms) {
    const { value } = await this.next({ limit_ms });
    if (this.protocol === 'json') {
      assert.equal(value.type, 7, `a Close, not ${JSON.stringify(value)}`);
      return { error: value.error, allowReconnect: value.allowReconnect ?? false };
    }
    assert.equal(value[0], 7, `a Close, not ${JSON.stringify(value)}`);
    return { error: value[1] ?? undefined, allowReconnect: value[2] ?? false };
  }

  /** Expects the WebSocket Close frame; answers its code (1005 for none) and reason. */
  async close(limit_ms) {
    const next = await this.message(limit_ms);
    assert.equal(next.opcode, CLOSE, `a Close frame, not opcode ${next.opcode} ${next.payload.toString()}`);
    if (next.payload.length === 0) return { code: 1005, reason: '' };
    return { code: next.payload.readUInt16BE(), reason: next.payload.subarray(2).toString() };
  }

  /** Expects Close 1000 and the end of TCP once we answered it. */
  async closesNormally(limit_ms) {
    const { code } = await this.close(limit_ms);
    assert.equal(code, 1000);
    this.send(CLOSE, Buffer.from([0x03, 0xe8]));
    await this.socket.waitForEnd(6_000);
  }

  destroy() {
    this.socket.destroy();
  }
}

function isPing(value) {
  return Array.isArray(value) ? value[0] === 6 : value.type === 6;
}

/** Splits one WebSocket message, event or poll body; it must hold whole hub messages. */
export function split(protocol, payload) {
  const found = [];
  if (protocol === 'json') {
    assert.equal(payload.at(-1), 0x1e, 'what is sent ends with a whole hub message');
    for (const record of payload.subarray(0, -1).toString('utf8').split(RS)) {
      found.push({ value: JSON.parse(record), bytes: Buffer.from(record + RS) });
    }
    return found;
  }
  let at = 0;
  while (at < payload.length) {
    const start = at;
    let length = 0;
    let shift = 0;
    for (;;) {
      assert.ok(at < payload.length && shift < 35, 'a whole length prefix');
      const byte = payload[at++];
      length += (byte & 127) * 2 ** shift;
      shift += 7;
      if (byte < 128) break;
    }
    assert.ok(at + length <= payload.length, 'what is sent ends with a whole hub message');
    found.push({ value: decode(payload.subarray(at, at + length)), bytes: payload.subarray(start, at + length) });
    at += length;
  }
  return found;
}

/** Opens a raw hub connection for the length of `use`. */
export async function withHub(testhub, options, use) {
  const hub = await HubSocket.connect(testhub, options);
  try {
    return await use(hub);
  } finally {
    hub.destroy();
  }
}

/** Opens a WebSocket without a hub handshake for the length of `use`. */
export async function withWebSocket(testhub, path, use) {
  const opened = await HubSocket.open(testhub, path);
  try {
    return await use(opened);
  } finally {
    opened.destroy();
  }
}
