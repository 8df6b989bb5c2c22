// A TCP proxy in front of testhub whose connections can be cut, held or refused, and that knows what was asked through it.

import { connect, createServer } from 'node:net';
import { after } from 'node:test';

export class Cutter {
  constructor(target) {
    this.target = new URL(target);
    this.pairs = new Set();
    this.requests = [];
    this.waiters = new Set();
    this.cuts = 0;
    this.refusing = false;
    /** For every opened WebSocket: after how many bytes of the server behind the answer to the upgrade it is cut; undefined: never. */
    this.cutAfter = () => undefined;
    this.server = createServer({ noDelay: true }, (client) => this.accept(client));
  }

  /** Goes when the test file ends, or by `close`. */
  static async before(testhub) {
    const cutter = new Cutter(testhub.url);
    await new Promise((resolve) => cutter.server.listen(0, '127.0.0.1', resolve));
    after(() => cutter.close());
    cutter.url = `http://127.0.0.1:${cutter.server.address().port}`;
    return cutter;
  }

  accept(client) {
    if (this.refusing) return client.destroy();
    const server = connect({ host: this.target.hostname, port: Number(this.target.port), noDelay: true });
    const pair = { client, server, held: false };
    this.pairs.add(pair);
    const end = () => {
      this.pairs.delete(pair);
      client.destroy();
      server.destroy();
    };
    for (const [from, to] of [[client, server], [server, client]]) {
      from.on('error', end);
      from.on('close', end);
      if (from === client) from.on('data', (bytes) => this.noteRequest(bytes));
      from.on('data', (bytes) => {
        if (!pair.held) this.pass(pair, from === server, bytes, to);
      });
    }
  }

  noteRequest(bytes) {
    const head = /^(GET|POST|DELETE|OPTIONS) (\S+) HTTP\/1\.1\r\n/.exec(bytes.toString('latin1', 0, 4_096));
    if (!head) return;
    this.requests.push({ method: head[1], path: head[2], upgrade: /\r\nupgrade: websocket\r\n/i.test(bytes.toString('latin1')) });
    for (const waiter of [...this.waiters]) waiter();
  }

  pass(pair, down, bytes, to) {
    if (down && pair.left === undefined && bytes.toString('latin1', 0, 12) === 'HTTP/1.1 101') {
      const head = bytes.indexOf('\r\n\r\n') + 4;
      const limit = this.cutAfter();
      pair.left = limit === undefined ? Infinity : limit + head;
    }
    if (down && pair.left !== undefined && pair.left !== Infinity) {
      if (bytes.length >= pair.left) {
        this.cuts++;
        to.write(bytes.subarray(0, pair.left));
        pair.held = true;
        // What was let through arrives, then comes the end; the server sees a reset.
        pair.client.end();
        pair.server.resetAndDestroy();
        for (const waiter of [...this.waiters]) waiter();
        return;
      }
      pair.left -= bytes.length;
    }
    to.write(bytes);
  }

  /** Every connection ends now, at both ends, without a Close frame. */
  cut() {
    this.cuts++;
    for (const { client, server } of [...this.pairs]) {
      client.resetAndDestroy();
      server.resetAndDestroy();
    }
  }

  upgrades() {
    return this.requests.filter(({ upgrade }) => upgrade);
  }

  negotiates() {
    return this.requests.filter(({ path }) => path.includes('/negotiate'));
  }

  /** Waits until `ready()`, asked after every request and every cut. */
  until(what, ready, limit_ms = 10_000) {
    return new Promise((resolve, reject) => {
      const done = () => {
        clearTimeout(timer);
        this.waiters.delete(check);
      };
      const check = () => {
        if (!ready()) return;
        done();
        resolve();
      };
      const timer = setTimeout(() => {
        done();
        reject(new Error(`${what}: not within ${limit_ms} ms`));
      }, limit_ms);
      this.waiters.add(check);
      check();
    });
  }

  close() {
    this.server.close();
    for (const { client, server } of [...this.pairs]) {
      client.destroy();
      server.destroy();
    }
  }
}
