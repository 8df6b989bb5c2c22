// A TCP connection read by awaiting: bytes, lines of HTTP, whole HTTP answers.

import { connect } from 'node:net';

const LIMIT_MS = 10_000;

export class Socket {
  constructor(raw) {
    this.raw = raw;
    this.buffered = Buffer.alloc(0);
    this.ended = false;
    this.reset = false;
    this.waiters = new Set();
    raw.setNoDelay(true);
    raw.on('data', (bytes) => {
      this.buffered = this.buffered.length ? Buffer.concat([this.buffered, bytes]) : bytes;
      this.wake();
    });
    raw.on('end', () => this.finish(false));
    raw.on('close', () => this.finish(false));
    raw.on('error', (error) => this.finish(error.code === 'ECONNRESET'));
  }

  static open(url) {
    const { hostname, port } = new URL(url);
    return new Promise((resolve, reject) => {
      const raw = connect({ host: hostname, port: Number(port), allowHalfOpen: false });
      raw.once('error', reject);
      raw.once('connect', () => {
        raw.removeListener('error', reject);
        resolve(new Socket(raw));
      });
    });
  }

  wake() {
    for (const waiter of [...this.waiters]) waiter();
  }

  finish(reset) {
    this.ended = true;
    this.reset ||= reset;
    this.wake();
  }

  /** Waits until `ready(buffered)` gives something other than undefined. */
  until(what, ready, limit_ms = LIMIT_MS) {
    return new Promise((resolve, reject) => {
      const settle = (act, value) => {
        clearTimeout(timer);
        this.waiters.delete(check);
        act(value);
      };
      const check = () => {
        let value;
        try {
          value = ready(this.buffered);
        } catch (error) {
          return settle(reject, error);
        }
        if (value !== undefined) return settle(resolve, value);
        if (this.ended) {
          return settle(reject, new Error(`${what}: the connection ended with ${this.buffered.length} bytes unread`));
        }
      };
      const timer = setTimeout(
        () => settle(reject, new Error(`${what}: nothing within ${limit_ms} ms (${this.buffered.length} bytes unread)`)),
        limit_ms,
      );
      this.waiters.add(check);
      check();
    });
  }

  async take(count, what = `${count} bytes`, limit_ms = LIMIT_MS) {
    await this.until(what, (bytes) => (bytes.length >= count ? true : undefined), limit_ms);
    const taken = this.buffered.subarray(0, count);
    this.buffered = this.buffered.subarray(count);
    return taken;
  }

  /** Waits for the end of the connection; answers how long that took. */
  async waitForEnd(limit_ms = LIMIT_MS) {
    const start_ms = Date.now();
    if (!this.ended) {
      await new Promise((resolve, reject) => {
        const timer = setTimeout(() => {
          this.waiters.delete(check);
          reject(new Error(`the connection is still open after ${limit_ms} ms`));
        }, limit_ms);
        const check = () => {
          if (!this.ended) return;
          clearTimeout(timer);
          this.waiters.delete(check);
          resolve();
        };
        this.waiters.add(check);
      });
    }
    return Date.now() - start_ms;
  }

  write(bytes) {
    if (!this.raw.destroyed) this.raw.write(bytes);
  }

  destroy() {
    this.raw.destroy();
  }

  resetNow() {
    this.raw.resetAndDestroy();
  }

  /** Reads one HTTP answer. `bodyless` for HEAD and 101. */
  async answer({ bodyless = false, limit_ms = LIMIT_MS } = {}) {
    const { status, reason, headers } = await this.head(limit_ms);
    const length = bodyless || status === 101 || status === 204 ? 0 : Number(headers.get('content-length') ?? NaN);
    if (Number.isNaN(length)) throw new Error(`an answer ${status} without Content-Length`);
    const bytes = await this.take(length, 'an HTTP body', limit_ms);
    return { status, reason, headers, body: bytes.toString('utf8'), bytes };
  }

  /** Reads the head of one HTTP answer. */
  async head(limit_ms = LIMIT_MS) {
    const end = await this.until(
      'an HTTP head',
      (bytes) => (bytes.indexOf('\r\n\r\n') < 0 ? undefined : bytes.indexOf('\r\n\r\n')),
      limit_ms,
    );
    const head = (await this.take(end + 4)).toString('latin1');
    const [line, ...fields] = head.slice(0, -4).split('\r\n');
    const parts = /^HTTP\/1\.[01] (\d{3}) (.*)$/.exec(line);
    if (!parts) throw new Error(`not a status line: ${JSON.stringify(line)}`);
    const headers = new Map();
    for (const field of fields) {
      const [, name, value] = /^([^:]+):[ \t]*(.*)$/.exec(field);
      const key = name.toLowerCase();
      headers.set(key, headers.has(key) ? `${headers.get(key)}, ${value}` : value);
    }
    return { status: Number(parts[1]), reason: parts[2], headers };
  }
}

/** One request on a connection of its own. `headers` is a list of [name, value]; Host is added. */
export async function request(testhub, method, path, { headers = [], body = '', bodyless = method === 'HEAD' } = {}) {
  const socket = await Socket.open(testhub.url);
  try {
    const bytes = Buffer.from(body);
    const fields = [['Host', new URL(testhub.url).host], ...headers];
    const framed = fields.some(([name]) => /^(content-length|transfer-encoding)$/i.test(name));
    if (!framed && (bytes.length || method === 'POST')) fields.push(['Content-Length', String(bytes.length)]);
    const head = `${method} ${path} HTTP/1.1\r\n${fields.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`;
    socket.write(Buffer.concat([Buffer.from(head, 'latin1'), bytes]));
    return await socket.answer({ bodyless });
  } finally {
    socket.destroy();
  }
}

/** POST negotiate, parsed. */
export async function negotiate(testhub, path = '/testhub', query = 'negotiateVersion=1', headers = []) {
  const answer = await request(testhub, 'POST', `${path}/negotiate${query ? `?${query}` : ''}`, { headers });
  if (answer.status !== 200) throw new Error(`negotiate answered ${answer.status} ${answer.body}`);
  return JSON.parse(answer.body);
}
