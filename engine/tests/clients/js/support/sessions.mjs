// Server-sent events and long polling by hand, request by request, each on a TCP connection of its own unless told.

import assert from 'node:assert/strict';
import { pack, RS, split } from './frames.mjs';
import { negotiate, request, Socket } from './socket.mjs';

export const EVENTS = [['Accept', 'text/event-stream']];

/** A request as bytes; Content-Length is added where there is a body or a POST. */
export function requestBytes(testhub, method, path, { headers = [], body = '', version = '1.1' } = {}) {
  const bytes = Buffer.from(body);
  const fields = [['Host', new URL(testhub.url).host], ...headers];
  const framed = fields.some(([name]) => /^(content-length|transfer-encoding)$/i.test(name));
  if (!framed && (bytes.length || method === 'POST')) fields.push(['Content-Length', String(bytes.length)]);
  const head = `${method} ${path} HTTP/${version}\r\n${fields.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`;
  return Buffer.concat([Buffer.from(head, 'latin1'), bytes]);
}

/** What both transports have: a token, POST, hub messages of a protocol. */
class Session {
  constructor(testhub, path, token, id, headers) {
    Object.assign(this, { testhub, path, token, id, headers, protocol: 'json', records: [] });
  }

  get target() {
    return `${this.path}?id=${this.token}`;
  }

  static async negotiated(testhub, { path = '/testhub', headers = [] } = {}) {
    const { connectionToken, connectionId } = await negotiate(testhub, path, 'negotiateVersion=1', headers);
    return new this(testhub, path, connectionToken, connectionId, headers);
  }

  request(method, { headers = [], ...options } = {}) {
    return request(this.testhub, method, this.target, { headers: [...this.headers, ...headers], ...options });
  }

  bytesOf(method, { headers = [], ...options } = {}) {
    return requestBytes(this.testhub, method, this.target, { headers: [...this.headers, ...headers], ...options });
  }

  post(body, options = {}) {
    return this.request('POST', { body, ...options });
  }

  async posted(body) {
    const answer = await this.post(body);
    assert.deepEqual([answer.status, answer.body], [200, '']);
  }

  handshake(protocol = 'json', version = 1) {
    return `{"protocol":"${protocol}","version":${version}}${RS}`;
  }

  /** Hub messages in the connection's protocol, as bytes. */
  encode(...messages) {
    if (this.protocol === 'json') return Buffer.from(messages.map((message) => JSON.stringify(message) + RS).join(''));
    return Buffer.concat(messages.map((items) => pack(...items)));
  }

  invocation(id, target, ...args) {
    if (this.protocol === 'json') return this.encode({ type: 1, ...(id === null ? {} : { invocationId: id }), target, arguments: args });
    return this.encode([1, {}, id, target, args]);
  }

  async invoke(id, target, ...args) {
    await this.posted(this.invocation(id, target, ...args));
  }

  /** The next Completion: { id, result } or { id, error }; other messages before it are dropped when `past`. */
  async completion({ limit_ms, past = false } = {}) {
    for (;;) {
      const { value } = await this.next(limit_ms);
      const json = this.protocol === 'json';
      if ((json ? value.type : value[0]) === 3) {
        if (json) return { id: value.invocationId, result: value.result, error: value.error };
        return { id: value[2], result: value[3] === 3 ? value[4] : undefined, error: value[3] === 1 ? value[4] : undefined };
      }
      assert.ok(past, `a Completion, not ${JSON.stringify(value)}`);
    }
  }

  async call(target, ...args) {
    await this.invoke('call', target, ...args);
    const { id, result, error } = await this.completion();
    assert.deepEqual([id, error], ['call', undefined]);
    return result;
  }

  /** The next call of a client method: its arguments. */
  async received(limit_ms) {
    const { value } = await this.next(limit_ms);
    const json = this.protocol === 'json';
    assert.equal(json ? value.type : value[0], 1, `an Invocation, not ${JSON.stringify(value)}`);
    return json ? value.arguments : value[4];
  }
}

/** One long-polling client. */
export class Polling extends Session {
  /** Handshake done; nothing is waiting. */
  static async connect(testhub, { protocol = 'json', ...options } = {}) {
    const session = await this.negotiated(testhub, options);
    const first = await session.poll();
    assert.deepEqual([first.status, first.body], [200, '']);
    await session.posted(session.handshake(protocol));
    const reply = await session.poll();
    assert.deepEqual([reply.status, reply.body], [200, `{}${RS}`]);
    session.protocol = protocol;
    return session;
  }

  poll(options) {
    return this.request('GET', options);
  }

  /** A poll on a socket that stays in the caller's hand. */
  async openPoll(options) {
    const socket = await Socket.open(this.testhub.url);
    socket.write(this.bytesOf('GET', options));
    return socket;
  }

  /** The next hub message, polling as often as needed. */
  async next() {
    while (!this.records.length) {
      const answer = await this.poll();
      assert.equal(answer.status, 200, `a poll answered ${answer.status} ${answer.body}`);
      if (answer.bytes.length) this.records.push(...split(this.protocol, answer.bytes));
    }
    return this.records.shift();
  }

  delete(options) {
    return this.request('DELETE', options);
  }

  destroy() {}
}

/** One client of server-sent events; its socket stays open. */
export class Events extends Session {
  /** Negotiated, and the GET answered with 200; nothing read after the head. */
  static async open(testhub, options = {}) {
    const session = await this.negotiated(testhub, options);
    await session.get(options.version);
    return session;
  }

  static async connect(testhub, options = {}) {
    const session = await this.open(testhub, options);
    await session.posted(session.handshake());
    assert.equal((await session.event()).toString(), `{}${RS}`);
    return session;
  }

  async get(version) {
    this.socket = await Socket.open(this.testhub.url);
    this.socket.write(this.bytesOf('GET', { headers: EVENTS, version }));
    this.answer = await this.socket.head();
    assert.equal(this.answer.status, 200);
    this.chunked = /chunked/i.test(this.answer.headers.get('transfer-encoding') ?? '');
    this.text = Buffer.alloc(0);
    this.over = false;
  }

  /** Reads more of the body; false when it has ended. */
  async more(limit_ms) {
    if (this.over) return false;
    let piece;
    if (this.chunked) {
      const line = await this.socket.until('a chunk size', (bytes) => (bytes.indexOf('\r\n') < 0 ? undefined : bytes.indexOf('\r\n')), limit_ms);
      const size = parseInt((await this.socket.take(line + 2)).toString('latin1'), 16);
      assert.ok(Number.isSafeInteger(size), 'a chunk size');
      piece = (await this.socket.take(size + 2, 'a chunk', 30_000)).subarray(0, size);
      this.over = size === 0;
    } else {
      const got = await this.socket.until('a byte or the end', (bytes) => bytes.length || (this.socket.ended ? 0 : undefined), limit_ms);
      this.over = got === 0;
      piece = await this.socket.take(got);
    }
    this.text = Buffer.concat([this.text, piece]);
    return !this.over;
  }

  /** The body's next `count` bytes as they came, chunk heads left out. */
  async raw(count, limit_ms) {
    while (this.text.length < count) assert.ok(await this.more(limit_ms), `the body ended before ${count} bytes`);
    const taken = this.text.subarray(0, count);
    this.text = this.text.subarray(count);
    return taken;
  }

  /** The payload of the next event, strictly as it must be written; comments are passed over. */
  async event(limit_ms = 10_000) {
    for (;;) {
      let end;
      while ((end = this.text.indexOf('\r\n')) < 0) assert.ok(await this.more(limit_ms), 'the body ended before an event');
      if (this.text[0] === 0x3a) {
        this.text = this.text.subarray(end + 2);
        continue;
      }
      while ((end = this.text.indexOf('\r\n\r\n')) < 0) assert.ok(await this.more(limit_ms), 'the body ended within an event');
      const lines = this.text.subarray(0, end).toString('utf8').split('\r\n');
      this.text = this.text.subarray(end + 4);
      for (const line of lines) assert.ok(line.startsWith('data: ') && !/[\r\n]/.test(line), `a data line, not ${JSON.stringify(line)}`);
      return Buffer.from(lines.map((line) => line.slice(6)).join('\n'));
    }
  }

  async next(limit_ms = 10_000, { pings = false } = {}) {
    for (;;) {
      while (!this.records.length) this.records.push(...split('json', await this.event(limit_ms)));
      const record = this.records.shift();
      if (pings || record.value.type !== 6) return record;
    }
  }

  /** Expects the end of the body: the last chunk, or of the connection where there are none. */
  async ends(limit_ms = 10_000) {
    while (await this.more(limit_ms));
    assert.equal(this.text.toString(), '', 'nothing after the last event');
  }

  destroy() {
    this.socket?.destroy();
  }
}

/** Opens a session for the length of `use`. */
export async function withSession(kind, testhub, options, use) {
  const session = await kind.connect(testhub, options);
  try {
    return await use(session);
  } finally {
    session.destroy();
  }
}
