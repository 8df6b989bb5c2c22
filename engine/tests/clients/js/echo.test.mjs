// /ws-echo with the `ws` client; the frame-by-frame work is Autobahn's.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import WebSocket from 'ws';
import { within } from './support/client.mjs';
import { testhubForThisFile } from './support/testhub.mjs';

const testhub = await testhubForThisFile();
const url = `${testhub.url.replace('http', 'ws')}/ws-echo`;

async function using(use, options = {}) {
  const socket = new WebSocket(url, { maxPayload: 1 << 27, ...options });
  await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject));
  try {
    await use(socket);
  } finally {
    socket.terminate();
  }
}

const echoed = (socket, limit_ms = 30_000) =>
  within(limit_ms, 'the echo', new Promise((resolve, reject) => {
    socket.once('message', (data, binary) => resolve({ data, binary }));
    socket.once('close', (code) => reject(new Error(`closed with ${code}`)));
  }));

describe('/ws-echo', () => {
  for (const size of [0, 1, 125, 126, 2_044, 2_045, 65_535, 65_536, 1_000_000, 20_000_000, 64 << 20]) {
    for (const binary of [false, true]) {
      test(`${size} bytes of ${binary ? 'binary' : 'text'} come back the same`, () =>
        using(async (socket) => {
          const sent = binary ? randomBytes(size) : Buffer.alloc(size, 'abcdefghij');
          const answer = echoed(socket);
          socket.send(sent, { binary });
          const got = await answer;
          assert.equal(got.binary, binary);
          assert.ok(got.data.equals(sent));
        }));
    }
  }

  test('a client that offers compression is served without', () =>
    using(async (socket) => {
      assert.equal(socket.extensions, '');
      const answer = echoed(socket);
      socket.send('plain');
      assert.equal((await answer).data.toString(), 'plain');
    }, { perMessageDeflate: true }));

  test('1,000 messages sent at once come back in order', () =>
    using(async (socket) => {
      const got = [];
      const all = new Promise((resolve) => socket.on('message', (data) => got.push(data.toString()) === 1_000 && resolve()));
      for (let i = 0; i < 1_000; i++) socket.send(`${i} ${'x'.repeat(i)}`);
      await within(20_000, '1,000 echoes', all);
      assert.ok(got.every((text, i) => text === `${i} ${'x'.repeat(i)}`));
    }));

  test('a message in fragments comes back whole', () =>
    using(async (socket) => {
      const answer = echoed(socket);
      socket.send('é', { fin: false });
      socket.send('', { fin: false });
      socket.send('汉', { fin: true });
      assert.equal((await answer).data.toString(), 'é汉');
    }));

  test('a message above 64 MiB is refused with 1009', () =>
    using(async (socket) => {
      const closed = new Promise((resolve) => socket.once('close', resolve));
      socket.on('error', () => {});
      socket.send(Buffer.alloc((64 << 20) + 1));
      assert.equal(await within(30_000, 'the close', closed), 1009);
    }));

  test('a close with a code and a reason is answered with the code', () =>
    using(async (socket) => {
      const closed = new Promise((resolve) => socket.once('close', resolve));
      socket.close(3_000, 'bye');
      assert.equal(await within(5_000, 'the close', closed), 3_000);
    }));
});
