// The client specification's checklist over server-sent events and long polling: lines 8, 31, 33, 35, 37-39 (dispatch),
// 54, 55-57, 59-62 (events), 63, 65-67, 69-72, 74-77 (polls), 78-84, 86-88 (handshake), 111, 113, 128, 129 (limits and
// ends), and what HTTP clients do to both.
// Every request has a TCP connection of its own, so with four shards one session's requests reach the server anywhere.
// The lines that need waiting (12, 58, 64, 68, 73, 85) are in checklist_transports_time.test.mjs.
// Where the others are: docs/conformance.md.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { pause } from './support/client.mjs';
import { HubSocket, RS, withHub } from './support/frames.mjs';
import { Events, EVENTS, Polling, requestBytes, withSession } from './support/sessions.mjs';
import { negotiate, request, Socket } from './support/socket.mjs';
import { Testhub, testhubForThisFile } from './support/testhub.mjs';
import { token } from './support/tokens.mjs';

const TEXT_PLAIN = /^text\/plain\b/;
const UNKNOWN = [404, 'No Connection with that ID'];
const CLOSE = `{"type":7}${RS}`;
const brief = ({ status, body }) => [status, body];
const bearer = (sub) => [['Authorization', `Bearer ${token({ sub })}`]];

/** Waits until the session's token is unknown. An empty POST changes nothing while it is known. */
async function gone(session, limit_ms = 3_000) {
  const end_ms = Date.now() + limit_ms;
  for (;;) {
    const answer = await session.post('');
    if (answer.status === 404) return;
    assert.equal(answer.status, 200);
    assert.ok(Date.now() < end_ms, `still known after ${limit_ms} ms`);
    await pause(20);
  }
}

const poll_headers = (answer) => {
  assert.deepEqual(answer.headers.get('cache-control')?.split(/, */), ['no-cache', 'no-store']);
  assert.equal(answer.headers.get('pragma'), 'no-cache');
  assert.equal(answer.headers.get('expires'), 'Thu, 01 Jan 1970 00:00:00 GMT');
};

for (const shards of [1, 4]) {
  const testhub = await testhubForThisFile(shards);
  const events = (use, options = {}) => withSession(Events, testhub, options, use);
  const polling = (use, options = {}) => withSession(Polling, testhub, options, use);
  const kinds = { ServerSentEvents: events, LongPolling: polling };

  describe(`dispatch, ${shards} shards`, () => {
    test('line 8: exactly the enabled transports are offered, in order, with their formats', async () => {
      const all = [
        { transport: 'WebSockets', transferFormats: ['Text', 'Binary'] },
        { transport: 'ServerSentEvents', transferFormats: ['Text'] },
        { transport: 'LongPolling', transferFormats: ['Text', 'Binary'] },
      ];
      assert.deepEqual((await negotiate(testhub)).availableTransports, all);
      assert.deepEqual((await negotiate(testhub, '/testhub-nowebsockets')).availableTransports, all.slice(1));
    });

    for (const [name, using] of Object.entries(kinds)) {
      for (const method of ['PUT', 'PATCH', 'HEAD', 'OPTIONS']) {
        test(`line 31: ${method} of a live connection is 405 and leaves it alone: ${name}`, () =>
          using(async (session) => {
            const answer = await session.request(method);
            assert.deepEqual(brief(answer), [405, '']);
            assert.match(answer.headers.get('content-type'), TEXT_PLAIN);
            assert.equal(await session.call('Echo', 'alive'), 'alive');
          }));
      }
    }

    const changes = {
      'a poll of an SSE connection': [events, (session) => session.request('GET')],
      'SSE of a polling connection': [polling, (session) => session.request('GET', { headers: EVENTS })],
      'an upgrade of an SSE connection': [events, (session) => upgrade(session)],
      'an upgrade of a polling connection': [polling, (session) => upgrade(session)],
    };
    const upgrade = async (session) => {
      const refused = await HubSocket.upgrade(testhub, session.target);
      refused.destroy();
      return refused.answer;
    };
    for (const [what, [using, act]] of Object.entries(changes)) {
      test(`line 33: ${what} is 400 and leaves it alone`, () =>
        using(async (session) => {
          assert.deepEqual(brief(await act(session)), [400, 'Cannot change transports mid-connection']);
          assert.equal(await session.call('Echo', 'alive'), 'alive');
        }));
    }

    test('line 33: of SSE, upgrade and poll at once one binds the connection, the others are 400', async () => {
      for (let i = 0; i < 20; i++) {
        const session = await Polling.negotiated(testhub);
        const get = async (headers) => {
          const socket = await Socket.open(testhub.url);
          socket.write(session.bytesOf('GET', { headers }));
          return [(await socket.head()).status, socket];
        };
        const opening = HubSocket.upgrade(testhub, session.target).then((opened) => [opened.answer.status, opened]);
        const answers = await Promise.all([get(EVENTS), opening, get([])]);
        for (const [, socket] of answers) socket.destroy();
        const statuses = answers.map(([status]) => status);
        assert.equal(statuses.filter((status) => status === 400).length, 2, String(statuses));
        assert.ok(statuses.some((status) => status === 200 || status === 101), String(statuses));
      }
    });

    for (const [what, headers] of [['a poll', []], ['SSE', EVENTS]]) {
      test(`line 33: ${what} of a WebSocket connection is 400 and leaves it alone`, async () => {
        const { connectionToken } = await negotiate(testhub);
        await withHub(testhub, { path: `/testhub?id=${connectionToken}` }, async (hub) => {
          const answer = await request(testhub, 'GET', `/testhub?id=${connectionToken}`, { headers });
          assert.deepEqual(brief(answer), [400, 'Cannot change transports mid-connection']);
          hub.invoke('0', 'Echo', 'alive');
          assert.equal((await hub.completion()).result, 'alive');
        });
      });
    }

    test('line 35: DELETE of an SSE connection is 400 and leaves it alone', () =>
      events(async (session) => {
        assert.deepEqual(brief(await session.request('DELETE')), [400, 'Cannot terminate this connection using the DELETE endpoint.']);
        assert.equal(await session.call('Echo', 'alive'), 'alive');
      }));

    test('line 37: a second SSE GET is 409, empty, and leaves the first alone', () =>
      events(async (session) => {
        assert.deepEqual(brief(await session.request('GET', { headers: EVENTS })), [409, '']);
        assert.equal(await session.call('Echo', 'alive'), 'alive');
      }));

    test('line 38: POSTs before the GET are kept: ServerSentEvents', async () => {
      const session = await Events.negotiated(testhub);
      await session.posted(session.handshake());
      await session.posted(session.invocation('0', 'Echo', 'early'));
      await session.get();
      assert.equal((await session.raw(3)).toString(), ':\r\n');
      const [reply, ...rest] = (await session.event()).toString().split(RS);
      assert.equal(reply, '{}');
      if (rest[0]) assert.equal(JSON.parse(rest[0]).result, 'early');
      else assert.equal((await session.completion()).result, 'early');
      session.destroy();
    });

    test('line 38: POSTs before the GET are kept: LongPolling', async () => {
      const session = await Polling.negotiated(testhub);
      await session.posted(session.handshake());
      await session.posted(session.invocation('0', 'Echo', 'early'));
      assert.deepEqual(brief(await session.poll()), [200, '']);
      let text = '';
      while (!text.includes('early')) {
        const answer = await session.poll();
        assert.equal(answer.status, 200);
        text += answer.body;
      }
      assert.equal(text, `{}${RS}{"type":3,"invocationId":"0","result":"early"}${RS}`);
    });

    test('line 38: POSTs before the GET are kept: WebSockets', async () => {
      const session = await Polling.negotiated(testhub);
      await session.posted(session.handshake());
      const opened = await HubSocket.open(testhub, session.target);
      assert.equal((await opened.message()).payload.toString(), `{}${RS}`);
      opened.invoke('0', 'Echo', 'x');
      assert.equal((await opened.completion()).result, 'x');
      opened.destroy();
    });

    for (const [name, using] of Object.entries(kinds)) {
      test(`line 39: every request after the end is 404: ${name}`, () =>
        using(async (session) => {
          await session.posted(CLOSE);
          if (name === 'LongPolling') for (const status of [200, 204]) assert.equal((await session.poll()).status, status);
          else await session.event().then(() => session.ends());
          await gone(session);
          for (const [method, headers] of [['POST', []], ['GET', []], ['GET', EVENTS], ['DELETE', []]]) {
            const answer = await session.request(method, { headers });
            assert.deepEqual(brief(answer), UNKNOWN);
            assert.match(answer.headers.get('content-type'), TEXT_PLAIN);
          }
          assert.deepEqual(brief(await upgrade(session)), UNKNOWN);
        }));

      test(`keys of the query are found whatever their case: ${name}`, () =>
        using(async (session) => {
          const answer = await request(testhub, 'POST', `/testhub?x=1&ID=${session.token}&y`, { body: session.invocation('0', 'Echo', 'x') });
          assert.deepEqual(brief(answer), [200, '']);
          assert.equal((await session.completion()).result, 'x');
        }));
    }
  });

  describe(`server-sent events, ${shards} shards`, () => {
    test('line 55: the head, and the first comment before anything is sent', async () => {
      const session = await Events.open(testhub);
      const { headers } = session.answer;
      assert.equal(headers.get('content-type'), 'text/event-stream');
      assert.deepEqual(headers.get('cache-control')?.split(/, */), ['no-cache', 'no-store']);
      assert.equal(headers.get('pragma'), 'no-cache');
      assert.equal(headers.get('content-encoding'), 'identity');
      assert.equal(headers.get('x-accel-buffering'), 'no');
      assert.ok(!headers.has('content-length'));
      assert.equal((await session.raw(3, 1_000)).toString(), ':\r\n');
      session.destroy();
    });

    test('line 56: events byte for byte', async () => {
      const session = await Events.open(testhub);
      await session.posted(session.handshake());
      let expected = `:\r\ndata: {}${RS}\r\n\r\n`;
      assert.equal((await session.raw(expected.length)).toString(), expected);
      await session.posted(session.invocation('0', 'Echo', 'hé'));
      expected = Buffer.from(`data: {"type":3,"invocationId":"0","result":"hé"}${RS}\r\n\r\n`);
      assert.equal((await session.raw(expected.length)).toString(), expected.toString());
      session.destroy();
    });

    test('line 57: line ends within strings do not cut events', () =>
      events(async (session) => {
        for (const text of ['a\nb', 'a\r\nb', 'a\rb', '\n', '\r\n\r\n', 'data: x\n\ndata: y\n\n', '\u2028\u2029\u0085']) {
          assert.equal(await session.call('Echo', text), text);
        }
      }));

    test('large messages and many messages arrive whole, in order', () =>
      events(async (session) => {
        for (const length of [4_000, 65_536, 1_000_000]) assert.equal((await session.call('GetLargeString', length)).length, length);
        await session.invoke('0', 'Flood', 500, 1_000);
        for (let i = 0; i < 500; i++) assert.equal((await session.received())[0].length, 1_000);
        assert.equal((await session.completion()).id, '0');
      }));

    for (const [how, act] of [['FIN', (socket) => socket.raw.end()], ['RST', (socket) => socket.resetNow()]]) {
      test(`line 59: the client's ${how} is the end of the connection at once`, () =>
        events(async (session) => {
          act(session.socket);
          await gone(session, 2_000);
          assert.deepEqual(brief(await session.post(session.invocation('0', 'Echo', 'x'))), UNKNOWN);
        }));
    }

    test('line 60: the server\'s end finishes the body; the next GET is 404', () =>
      events(async (session) => {
        await session.invoke(null, 'Abort');
        assert.equal((await session.event()).toString(), CLOSE);
        await session.ends();
        assert.deepEqual(brief(await session.request('GET', { headers: EVENTS })), UNKNOWN);
      }));

    for (const accept of ['text/html, text/event-stream', 'text/event-stream,*/*', 'application/json;q=0.9,text/event-stream', 'Text/Event-Stream', ' text/event-stream ']) {
      test(`line 61: Accept: ${accept} asks for events`, async () => {
        const session = await Events.negotiated(testhub);
        const socket = await Socket.open(testhub.url);
        socket.write(session.bytesOf('GET', { headers: [['Accept', accept]] }));
        const head = await socket.head();
        socket.destroy();
        assert.deepEqual([head.status, head.headers.get('content-type')], [200, 'text/event-stream']);
      });
    }

    test('line 61: two Accept fields are one list', async () => {
      const session = await Events.negotiated(testhub);
      const socket = await Socket.open(testhub.url);
      socket.write(session.bytesOf('GET', { headers: [['Accept', 'text/html'], ...EVENTS] }));
      const head = await socket.head();
      socket.destroy();
      assert.equal(head.headers.get('content-type'), 'text/event-stream');
    });

    for (const accept of ['*/*', 'text/event-streams', 'text/*', 'application/x; a="text/event-stream"']) {
      test(`line 61: Accept: ${accept} is a poll`, async () => {
        const session = await Polling.negotiated(testhub);
        const answer = await session.poll({ headers: [['Accept', accept]] });
        assert.deepEqual([...brief(answer), answer.headers.get('content-type')], [200, '', 'application/octet-stream']);
      });
    }

    test('line 62: MessagePack is refused by name', async () => {
      const session = await Events.open(testhub);
      await session.posted(session.handshake('messagepack'));
      const text = "Cannot use the 'messagepack' protocol on the current transport. The transport does not support 'Binary' transfer format.";
      assert.equal((await session.event()).toString(), `${JSON.stringify({ error: text })}${RS}`);
      await session.ends();
      await gone(session);
    });

    test('HTTP/1.0: no chunks, the end of the connection ends the body', async () => {
      const session = await Events.open(testhub, { version: '1.0' });
      assert.ok(!session.chunked);
      await session.posted(session.handshake());
      assert.equal((await session.event()).toString(), `{}${RS}`);
      assert.equal(await session.call('Echo', 'x'), 'x');
      await session.invoke(null, 'Abort');
      assert.equal((await session.event()).toString(), CLOSE);
      await session.ends();
    });

    test('a broadcast reaches 200 streams', async () => {
      const streams = await Promise.all(Array.from({ length: 200 }, () => Events.connect(testhub)));
      await polling(async (sender) => {
        await sender.invoke(null, 'BroadcastAll', 'é');
        for (const stream of streams) assert.deepEqual(await stream.received(), [sender.id, 'é']);
        await sender.delete();
      });
      for (const stream of streams) stream.destroy();
    });

    test('bytes sent behind the GET harm nobody', () =>
      events(async (session) => {
        for (let i = 0; i < 50; i++) session.socket.write(Buffer.alloc(20_000, 'GET /health HTTP/1.1\r\nHost: a\r\n\r\n'));
        assert.equal((await request(testhub, 'GET', '/health')).status, 200);
      }));
  });

  describe(`long polling, ${shards} shards`, () => {
    test('line 63: the first poll is answered at once, empty; line 66: with its headers', async () => {
      const session = await Polling.negotiated(testhub);
      const start_ms = Date.now();
      const answer = await session.poll();
      assert.ok(Date.now() - start_ms < 1_000);
      assert.deepEqual(brief(answer), [200, '']);
      assert.equal(answer.headers.get('content-type'), 'application/octet-stream');
      assert.equal(answer.headers.get('content-length'), '0');
      poll_headers(answer);
    });

    test('line 65: a poll with data: its headers, all that is queued, whole messages', () =>
      polling((session) =>
        polling(async (other) => {
          for (let i = 0; i < 20; i++) await other.call('SendToConnection', session.id, `message ${i}`);
          await pause(100);
          const answer = await session.poll();
          assert.equal(answer.status, 200);
          assert.equal(answer.headers.get('content-type'), 'application/octet-stream');
          const expected = Array.from({ length: 20 }, (_, i) => `{"type":1,"target":"Broadcast","arguments":["${other.id}","message ${i}"]}${RS}`);
          assert.equal(answer.body, expected.join(''));
          assert.equal(Number(answer.headers.get('content-length')), answer.bytes.length);
          poll_headers(answer);
        }),
      ));

    test('line 65: a waiting poll is answered when there is something', () =>
      polling(async (session) => {
        const waiting = await session.openPoll();
        await session.invoke('0', 'Echo', 'hé');
        const answer = await waiting.answer();
        waiting.destroy();
        assert.deepEqual(brief(answer), [200, `{"type":3,"invocationId":"0","result":"hé"}${RS}`]);
        poll_headers(answer);
      }));

    test('line 65: five megabytes come in whole messages', () =>
      polling(async (session) => {
        const posted = session.invoke('0', 'GetLargeString', 5_000_000);
        assert.equal((await session.completion()).result.length, 5_000_000);
        await posted;
        const flood = session.invoke('1', 'Flood', 500, 1_000);
        for (let i = 0; i < 500; i++) assert.equal((await session.received())[0].length, 1_000);
        assert.equal((await session.completion()).id, '1');
        await flood;
      }));

    test('line 67: overlapping poll: the old one is answered with 204, the new one gets what comes', () =>
      polling(async (session) => {
        const old = await session.openPoll();
        await pause(50);
        const current = await session.openPoll();
        const answer = await old.answer();
        assert.deepEqual(brief(answer), [204, '']);
        poll_headers(answer);
        await session.invoke('0', 'Echo', 'x');
        assert.equal((await current.answer()).body, `{"type":3,"invocationId":"0","result":"x"}${RS}`);
        old.destroy();
        current.destroy();
      }));

    test('line 67: nothing is lost and nothing comes twice while polls overlap', () =>
      polling((session) =>
        polling(async (other) => {
          const sending = (async () => {
            for (let i = 0; i < 200; i++) await other.posted(other.invocation(null, 'SendToConnection', session.id, String(i)));
          })();
          const got = [];
          const take = async () => {
            const answer = await session.poll();
            assert.ok([200, 204].includes(answer.status), `a poll answered ${answer.status} ${answer.body}`);
            for (const record of answer.body.split(RS).slice(0, -1)) got.push(JSON.parse(record).arguments[1]);
          };
          while (got.length < 200) await Promise.race([take(), take(), take()]);
          await sending;
          // Answers to overlapping polls come on sockets of their own: their order is nobody's.
          assert.deepEqual(got.map(Number).sort((a, b) => a - b), Array.from({ length: 200 }, (_, i) => i));
        }),
      ));

    for (const [how, act] of [['FIN', (socket) => socket.raw.end()], ['RST', (socket) => socket.resetNow()]]) {
      test(`line 69: ${how} of a waiting poll loses nothing`, () =>
        polling((session) =>
          polling(async (other) => {
            for (let i = 0; i < 5; i++) {
              const waiting = await session.openPoll();
              await pause(30);
              act(waiting);
              await pause(30);
              await other.call('SendToConnection', session.id, `after ${i}`);
              assert.deepEqual(await session.received(), [other.id, `after ${i}`]);
            }
          }),
        ));
    }

    test('line 70: DELETE is 202; the waiting poll 204; later polls 404; line 71: a second DELETE 404', () =>
      polling(async (session) => {
        const waiting = await session.openPoll();
        await pause(50);
        const answer = await session.delete();
        assert.deepEqual(brief(answer), [202, '']);
        assert.match(answer.headers.get('content-type'), TEXT_PLAIN);
        assert.deepEqual(brief(await waiting.answer()), [204, '']);
        waiting.destroy();
        await gone(session);
        assert.deepEqual(brief(await session.poll()), UNKNOWN);
        assert.deepEqual(brief(await session.delete()), UNKNOWN);
        assert.deepEqual(brief(await session.post(CLOSE)), UNKNOWN);
      }));

    test('line 70: DELETE without a waiting poll ends the connection too', () =>
      polling((session) =>
        polling(async (other) => {
          await session.call('JoinGroup', 'deleted');
          assert.deepEqual(brief(await session.delete()), [202, '']);
          await gone(session);
          assert.equal(await other.call('SendToGroup', 'deleted', 'anyone?') ?? null, null);
          assert.deepEqual(brief(await session.poll()), UNKNOWN);
        }),
      ));

    test('line 70: two DELETEs at once are 202 or 404, one of them 202', () =>
      polling(async (session) => {
        const answers = await Promise.all([session.delete(), session.delete()]);
        const statuses = answers.map((answer) => answer.status);
        assert.ok(statuses.includes(202) && statuses.every((status) => [202, 404].includes(status)), String(statuses));
      }));

    for (const waits of [true, false]) {
      test(`line 72: the end with data is 200, then 204, then 404, ${waits ? 'a poll waiting' : 'no poll waiting'}`, () =>
        polling(async (session) => {
          const waiting = waits ? await session.openPoll() : null;
          await session.invoke(null, 'Abort');
          const answer = await (waits ? waiting.answer() : session.poll());
          waiting?.destroy();
          assert.deepEqual(brief(answer), [200, CLOSE]);
          poll_headers(answer);
          const last = await session.poll();
          assert.deepEqual(brief(last), [204, '']);
          poll_headers(last);
          assert.deepEqual(brief(await session.poll()), UNKNOWN);
        }));
    }

    test('line 76: the cache buster and other keys are ignored', () =>
      polling(async (session) => {
        for (const query of ['&_=1795339451793', '&_=', '&_', '&_=x&_=y&id2=z']) {
          await session.invoke('0', 'Echo', query);
          const answer = await request(testhub, 'GET', `${session.target}${query}`);
          assert.deepEqual(brief(answer), [200, `{"type":3,"invocationId":"0","result":${JSON.stringify(query)}}${RS}`]);
        }
      }));

    test('line 77: MessagePack byte for byte', () =>
      polling(async (session) => {
        const waiting = await session.openPoll();
        await session.posted(Buffer.from('0e950180a130a44563686f91a26869', 'hex'));
        const answer = await waiting.answer();
        waiting.destroy();
        assert.equal(answer.bytes.toString('hex'), '09950380a13003a26869');
        const bytes = Buffer.from(Array.from({ length: 5_000 }, (_, i) => i & 255));
        assert.ok(Buffer.from(await session.call('EchoBinary', bytes)).equals(bytes));
        await session.posted(session.encode([7, null]));
        assert.equal((await session.poll()).bytes.toString('hex'), '049307c0c2');
      }, { protocol: 'messagepack' }));

    test('two polls in one write: both are answered, in order, and nothing is lost', () =>
      polling((session) =>
        polling(async (other) => {
          const socket = await Socket.open(testhub.url);
          socket.write(Buffer.concat([session.bytesOf('GET'), session.bytesOf('GET')]));
          const got = [];
          for (const message of ['first', 'second']) {
            await other.call('SendToConnection', session.id, message);
            const answer = await socket.answer();
            assert.ok([200, 204].includes(answer.status));
            for (const record of answer.body.split(RS).slice(0, -1)) got.push(JSON.parse(record).arguments[1]);
          }
          socket.destroy();
          while (got.length < 2) got.push((await session.received())[1]);
          assert.deepEqual(got, ['first', 'second']);
        }),
      ));

    test('a POST behind a poll on the same socket waits for the poll, then is heard', () =>
      polling((session) =>
        polling(async (other) => {
          const socket = await Socket.open(testhub.url);
          socket.write(Buffer.concat([session.bytesOf('GET'), session.bytesOf('POST', { body: session.invocation('0', 'Echo', 'x') })]));
          await pause(50);
          await other.call('SendToConnection', session.id, 'now');
          const answer = await socket.answer();
          assert.equal(answer.status, 200);
          assert.match(answer.body, /now/);
          assert.deepEqual(brief(await socket.answer()), [200, '']);
          socket.destroy();
          assert.equal((await session.completion()).result, 'x');
        }),
      ));

    test('one socket serves polls, POSTs and DELETE of several connections by turns', () =>
      polling((one) =>
        polling(async (two) => {
          const socket = await Socket.open(testhub.url);
          for (let i = 0; i < 20; i++) {
            for (const session of [one, two]) {
              socket.write(session.bytesOf('POST', { body: session.invocation(String(i), 'Echo', `turn ${i}`) }));
              assert.deepEqual(brief(await socket.answer()), [200, '']);
              socket.write(session.bytesOf('GET'));
              assert.equal((await socket.answer()).body, `{"type":3,"invocationId":"${i}","result":"turn ${i}"}${RS}`);
            }
          }
          for (const session of [one, two]) {
            socket.write(session.bytesOf('DELETE'));
            assert.deepEqual(brief(await socket.answer()), [202, '']);
          }
          socket.write('GET /health HTTP/1.1\r\nHost: a\r\n\r\n');
          assert.equal((await socket.answer()).status, 200);
          socket.destroy();
        }),
      ));

    test('Connection: close is kept by polls, POSTs and DELETE', () =>
      polling(async (session) => {
        const close = [['Connection', 'close']];
        for (const [method, body, status] of [['POST', session.invocation('0', 'Echo', 'x'), 200], ['GET', '', 200], ['DELETE', '', 202]]) {
          const socket = await Socket.open(testhub.url);
          socket.write(session.bytesOf(method, { body, headers: close }));
          assert.equal((await socket.answer()).status, status);
          await socket.waitForEnd(2_000);
        }
      }));

    test('HTTP/1.0: each request is answered and its connection ends', () =>
      polling(async (session) => {
        for (const [method, body, status] of [['POST', session.invocation('0', 'Echo', 'x'), 200], ['GET', '', 200], ['DELETE', '', 202]]) {
          const socket = await Socket.open(testhub.url);
          socket.write(session.bytesOf(method, { body, version: '1.0' }));
          assert.equal((await socket.answer()).status, status);
          await socket.waitForEnd(2_000);
        }
      }));

    test('a poll with a body is a poll or refused, and its body no request', () =>
      polling(async (session) => {
        const socket = await Socket.open(testhub.url);
        await session.invoke('0', 'Echo', 'x');
        socket.write(session.bytesOf('GET', { body: 'GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n' }));
        const { status, body, headers } = await socket.answer();
        const polled = status === 200;
        if (!polled) assert.equal(status, 400);
        if (!polled && headers.get('connection')?.toLowerCase() === 'close') await socket.waitForEnd();
        else {
          socket.write('GET /health HTTP/1.1\r\nHost: a\r\n\r\n');
          assert.equal((await socket.answer()).status, 200);
        }
        socket.destroy();
        const got = polled ? body : (await session.poll()).body;
        assert.equal(got, `{"type":3,"invocationId":"0","result":"x"}${RS}`);
      }));

    test('a poll with a head of 20 KB is 431, and the connection lives', () =>
      polling(async (session) => {
        const answer = await session.poll({ headers: [['X', 'x'.repeat(20_000)]] });
        assert.equal(answer.status, 431);
        assert.equal(await session.call('Echo', 'alive'), 'alive');
      }));

    test('bytes sent behind a waiting poll harm nobody', () =>
      polling(async (session) => {
        const waiting = await session.openPoll();
        for (let i = 0; i < 50; i++) waiting.write(Buffer.alloc(20_000, 'x'));
        assert.equal((await request(testhub, 'GET', '/health')).status, 200);
        waiting.destroy();
      }));

    test('of 20 polls at once 19 are 204, and the last gets what comes', () =>
      polling(async (session) => {
        const polls = await Promise.all(Array.from({ length: 20 }, () => session.openPoll()));
        await pause(100);
        await session.invoke('0', 'Echo', 'x');
        const answers = await Promise.all(polls.map((poll) => poll.answer()));
        for (const poll of polls) poll.destroy();
        const expected = [[200, `{"type":3,"invocationId":"0","result":"x"}${RS}`], ...Array(19).fill([204, ''])];
        assert.deepEqual(answers.map(brief).sort(([a], [b]) => a - b), expected);
      }));

    test('poll, POST and DELETE at once are each answered, and the connection is gone', async () => {
      for (let i = 0; i < 20; i++) {
        const session = await Polling.connect(testhub);
        const requests = [session.poll(), session.post(session.invocation('0', 'Echo', 'x')), session.delete()];
        const [poll, post, end] = (await Promise.all(requests)).map(({ status }) => status);
        assert.ok([200, 204, 404].includes(poll) && [200, 404].includes(post) && end === 202, `${poll} ${post} ${end}`);
        await gone(session);
      }
    });

    test('200 clients at once, each with 20 calls, each answered with its own', async () => {
      const sessions = await Promise.all(Array.from({ length: 200 }, (_, i) => Polling.connect(testhub, { protocol: i % 2 ? 'json' : 'messagepack' })));
      await Promise.all(
        sessions.map(async (session, i) => {
          for (let n = 0; n < 20; n++) assert.equal(await session.call('Echo', `${i} ${n}`), `${i} ${n}`);
          assert.deepEqual(brief(await session.delete()), [202, '']);
        }),
      );
    });
  });

  for (const [name, using] of Object.entries(kinds)) {
    describe(`POST, ${name}, ${shards} shards`, () => {
      test('line 74: 200, text/plain, empty', () =>
        using(async (session) => {
          for (const type of [null, 'text/plain;charset=UTF-8', 'application/octet-stream', 'x']) {
            const headers = type ? [['Content-Type', type]] : [];
            const answer = await session.post(session.invocation('0', 'Echo', 'x'), { headers });
            assert.deepEqual(brief(answer), [200, '']);
            assert.match(answer.headers.get('content-type'), TEXT_PLAIN);
            assert.equal(answer.headers.get('content-length'), '0');
            assert.equal((await session.completion()).result, 'x');
          }
          assert.deepEqual(brief(await session.post('')), [200, '']);
        }));

      test('line 74: two POSTs at once are heard one after the other', () =>
        using(async (session) => {
          for (let i = 0; i < 10; i++) {
            const slow = await Socket.open(testhub.url);
            const bytes = session.bytesOf('POST', { body: session.invocation('slow', 'Echo', 'slow '.repeat(100)) });
            slow.write(bytes.subarray(0, bytes.length - 200));
            const fast = session.post(session.invocation('fast', 'Echo', 'fast'));
            await pause(10);
            slow.write(bytes.subarray(bytes.length - 200));
            assert.equal((await fast).status, 200);
            assert.equal((await slow.answer()).status, 200);
            slow.destroy();
            const got = [await session.completion(), await session.completion()];
            assert.deepEqual(got.map(({ id }) => id).sort(), ['fast', 'slow']);
            assert.ok(got.every(({ error }) => error === undefined));
          }
        }));

      test('line 74: 50 POSTs one after the other on sockets of their own keep their order', () =>
        using(async (session) => {
          for (let i = 0; i < 50; i++) await session.invoke(String(i), 'Echo', String(i));
          for (let i = 0; i < 50; i++) assert.deepEqual(await session.completion(), { id: String(i), result: String(i), error: undefined });
        }));

      test('line 74: a POST is answered though its call\'s answer fills the connection', () =>
        using(async (session) => {
          await session.invoke('0', 'GetLargeString', 5_000_000);
          assert.equal((await session.completion()).result.length, 5_000_000);
        }));

      test('line 75: a message in two POSTs, and one in POSTs of a byte', () =>
        using(async (session) => {
          const message = session.invocation('0', 'Echo', 'é halves');
          await session.posted(message.subarray(0, 62));
          await session.posted(message.subarray(62));
          assert.equal((await session.completion()).result, 'é halves');
          for (const byte of message) await session.posted(Buffer.from([byte]));
          assert.equal((await session.completion()).result, 'é halves');
        }));

      test('many messages in one POST, together above the limit of one', () =>
        using(async (session) => {
          const posted = session.posted(Buffer.concat(Array.from({ length: 100 }, (_, i) => session.invocation(String(i), 'Echo', 'x'.repeat(1_000)))));
          for (let i = 0; i < 100; i++) assert.equal((await session.completion()).id, String(i));
          await posted;
        }));

      test('line 111: 32,769 bytes are a Close with its text, then the end', () =>
        using(async (session) => {
          const bare = session.invocation('0', 'Echo', '').length;
          assert.equal((await session.post(session.invocation('0', 'Echo', 'x'.repeat(32_769 - bare)))).status, 200);
          const { value } = await session.next();
          assert.deepEqual(value, {
            type: 7,
            error:
              'Connection closed with an error. InvalidDataException: The maximum message size of 32768B was exceeded. The message size can be configured in AddHubOptions.',
            allowReconnect: true,
          });
          if (name === 'LongPolling') for (const status of [204, 404]) assert.equal((await session.poll()).status, status);
          else await session.ends();
        }));

      test('line 113: calls behind a slow one wait, however much was posted', () =>
        using(async (session) => {
          await session.invoke('slow', 'Delay', 700);
          const posts = [];
          for (let i = 0; i < 10; i++) {
            posts.push(await Socket.open(testhub.url));
            posts.at(-1).write(session.bytesOf('POST', { body: Buffer.concat([0, 1].map((n) => session.invocation(`${i} ${n}`, 'Echo', 'x'.repeat(20_000)))) }));
          }
          assert.equal((await session.completion()).id, 'slow');
          const ids = [];
          for (let i = 0; i < 20; i++) ids.push((await session.completion()).id);
          assert.deepEqual(ids.sort(), Array.from({ length: 10 }, (_, i) => [`${i} 0`, `${i} 1`]).flat());
          for (const post of posts) {
            assert.equal((await post.answer()).status, 200);
            post.destroy();
          }
        }));

      test('a body in single bytes', () =>
        using(async (session) => {
          const socket = await Socket.open(testhub.url);
          for (const byte of session.bytesOf('POST', { body: session.invocation('0', 'Echo', 'é bytes') })) {
            socket.write(Buffer.from([byte]));
            await new Promise((resolve) => setImmediate(resolve));
          }
          assert.deepEqual(brief(await socket.answer()), [200, '']);
          socket.destroy();
          assert.equal((await session.completion()).result, 'é bytes');
        }));

      const chunk = (bytes, extension = '') => Buffer.concat([Buffer.from(`${bytes.length.toString(16)}${extension}\r\n`), bytes, Buffer.from('\r\n')]);
      for (const [what, cut] of Object.entries({
        'one chunk': (bytes) => [chunk(bytes), '0\r\n\r\n'],
        'chunks of a byte': (bytes) => [...bytes].map((byte) => chunk(Buffer.from([byte]))).concat('0\r\n\r\n'),
        'chunks with extensions and trailers': (bytes) => [chunk(bytes.subarray(0, 9), ';a=b'), chunk(bytes.subarray(9), ';c="d"'), '000;e\r\nX-Trailer: y\r\n\r\n'],
      })) {
        test(`a chunked body: ${what}`, () =>
          using(async (session) => {
            const body = Buffer.concat(cut(session.invocation('0', 'Echo', 'chunks')).map((piece) => Buffer.from(piece)));
            const socket = await Socket.open(testhub.url);
            socket.write(session.bytesOf('POST', { body, headers: [['Transfer-Encoding', 'chunked']] }));
            assert.deepEqual(brief(await socket.answer()), [200, '']);
            socket.write('GET /health HTTP/1.1\r\nHost: a\r\n\r\n');
            assert.equal((await socket.answer()).status, 200);
            socket.destroy();
            assert.equal((await session.completion()).result, 'chunks');
          }));
      }

      for (const [what, headers, body] of [
        ['a chunk size that is none', [['Transfer-Encoding', 'chunked']], 'xyz\r\n'],
        ['a chunk longer than it says', [['Transfer-Encoding', 'chunked']], '1\r\nab\r\n0\r\n\r\n'],
        ['length and chunks', [['Transfer-Encoding', 'chunked'], ['Content-Length', '5']], '0\r\n\r\n'],
        ['a transfer encoding that is none', [['Transfer-Encoding', 'gzip']], 'x'],
        ['two lengths', [['Content-Length', '1'], ['Content-Length', '2']], 'ab'],
      ]) {
        test(`${what} is an error of the request, and the connection lives`, () =>
          using(async (session) => {
            const answer = await session.post(body, { headers });
            assert.ok([400, 501].includes(answer.status), `answered ${answer.status}`);
            assert.equal(await session.call('Echo', 'alive'), 'alive');
          }));
      }

      for (const [how, act] of [['FIN', (socket) => socket.raw.end()], ['RST', (socket) => socket.resetNow()]]) {
        test(`nothing of a POST aborted half way is heard: ${how}`, () =>
          using(async (session) => {
            const body = Buffer.concat([session.invocation('whole', 'Echo', 'x'), session.invocation('half', 'Echo', 'y'.repeat(500))]);
            const bytes = session.bytesOf('POST', { body });
            const socket = await Socket.open(testhub.url);
            socket.write(bytes.subarray(0, bytes.length - 100));
            await pause(50);
            act(socket);
            await pause(50);
            assert.equal(await session.call('Echo', 'the next'), 'the next');
          }));
      }

      test('three POSTs in one write are heard in order', () =>
        using(async (session) => {
          const socket = await Socket.open(testhub.url);
          socket.write(Buffer.concat(['0', '1', '2'].map((id) => session.bytesOf('POST', { body: session.invocation(id, 'Echo', id) }))));
          for (let i = 0; i < 3; i++) assert.deepEqual(brief(await socket.answer()), [200, '']);
          socket.destroy();
          for (const id of ['0', '1', '2']) assert.equal((await session.completion()).id, id);
        }));

      test('Expect: 100-continue is answered before the body', () =>
        using(async (session) => {
          const socket = await Socket.open(testhub.url);
          const body = session.invocation('0', 'Echo', 'expected');
          const bytes = session.bytesOf('POST', { body, headers: [['Expect', '100-continue']] });
          socket.write(bytes.subarray(0, bytes.length - body.length));
          assert.equal((await socket.head(2_000)).status, 100);
          socket.write(body);
          assert.deepEqual(brief(await socket.answer()), [200, '']);
          socket.destroy();
          assert.equal((await session.completion()).result, 'expected');
        }));

      test('a body above 30,000,000 bytes is 413, and the connection lives', () =>
        using(async (session) => {
          const answer = await session.post('x', { headers: [['Content-Length', '30000001']] });
          assert.equal(answer.status, 413);
          assert.equal(await session.call('Echo', 'alive'), 'alive');
        }));

      test('/testhub-large takes 5 MB in one message', () =>
        using(async (session) => {
          await session.invoke('0', 'BinaryLength', Buffer.alloc(3_750_000, 7).toString('base64'));
          assert.equal((await session.completion({ limit_ms: 20_000 })).result, 3_750_000);
        }, { path: '/testhub-large' }));

      test('line 128: a client Close is answered with a Close, then the end', () =>
        using(async (session) => {
          await session.posted(CLOSE);
          if (name === 'LongPolling') {
            assert.deepEqual(brief(await session.poll()), [200, CLOSE]);
            assert.deepEqual(brief(await session.poll()), [204, '']);
          } else {
            assert.equal((await session.event()).toString(), CLOSE);
            await session.ends();
          }
          assert.deepEqual(brief(await session.post('')), UNKNOWN);
        }));

      test('what is no hub message is a Close with an error, then the end', () =>
        using(async (session) => {
          await session.posted(`nonsense${RS}`);
          const { value } = await session.next();
          assert.equal(value.type, 7);
          assert.match(value.error, /^Connection closed with an error\./);
          assert.equal(value.allowReconnect, true);
          if (name === 'LongPolling') for (const status of [204, 404]) assert.equal((await session.poll()).status, status);
          else await session.ends();
        }));

      describe('/authorizedhub', () => {
        const mine = { path: '/authorizedhub', headers: bearer('owner') };
        const requests = [['POST', '', []], ['GET', '', []], ['GET', '', EVENTS], ['DELETE', '', []]];

        test('line 148: requests without a token are 401, empty, and leave the connection alone', () =>
          using(async (session) => {
            for (const [method, body, headers] of requests) {
              const answer = await request(testhub, method, session.target, { body, headers });
              assert.deepEqual([answer.status, answer.reason, answer.body], [401, 'Unauthorized', '']);
            }
            assert.equal(await session.call('GetUserName'), 'owner');
          }, mine));

        test('requests of another user are refused and leave the connection alone', () =>
          using(async (session) => {
            for (const [method, , headers] of requests) {
              const body = method === 'POST' ? session.invocation('stolen', 'Echo', 'x') : '';
              const answer = await request(testhub, method, session.target, { body, headers: [...headers, ...bearer('thief')] });
              assert.ok([401, 403, 404].includes(answer.status), `${method} answered ${answer.status}`);
            }
            assert.equal(await session.call('GetUserName'), 'owner');
          }, mine));
      });
    });

    describe(`handshake, ${name}, ${shards} shards`, () => {
      const open = async (options) => {
        if (name === 'ServerSentEvents') return Events.open(testhub, options);
        const session = await Polling.negotiated(testhub, options);
        assert.equal((await session.poll()).status, 200);
        return session;
      };
      /** The next bytes of the connection: an event, or the body of a poll. */
      const bytes = async (session) => {
        if (name === 'ServerSentEvents') return (await session.event()).toString();
        const answer = await session.poll();
        assert.equal(answer.status, 200);
        return answer.body;
      };
      const over = async (session) => {
        if (name === 'ServerSentEvents') await session.ends();
        else assert.deepEqual(brief(await session.poll()), [204, '']);
        await gone(session);
      };
      const refused = async (body, text, options) => {
        const session = await open(options);
        try {
          assert.equal((await session.post(body)).status, 200);
          const reply = await bytes(session);
          if (text instanceof RegExp) assert.match(reply, text);
          else assert.equal(reply, `${JSON.stringify({ error: text })}${RS}`);
          await over(session);
        } finally {
          session.destroy();
        }
      };
      const accepted = async (bodies, use = async () => {}) => {
        const session = await open();
        for (const body of bodies) await session.posted(body);
        assert.equal(await bytes(session), `{}${RS}`);
        await use(session);
        session.destroy();
      };

      test('lines 78 and 87: the reply is {} and nothing else', () => accepted([`{"protocol":"json","version":1}${RS}`]));
      test('line 79: order, white space and unknown properties', () => accepted([`{ "x": [1, {"y": null}], "version" : 1 , "protocol":\t"json"}${RS}`]));
      test('line 80: split over two POSTs', () => accepted(['{"protocol":"js', `on","version":1}${RS}`]));

      test('line 80: messages behind the request in the same POST', async () => {
        const session = await open();
        await session.posted(session.handshake() + session.invocation('0', 'Echo', 'early'));
        const [reply, ...rest] = (await bytes(session)).split(RS);
        assert.equal(reply, '{}');
        if (rest[0]) assert.equal(JSON.parse(rest[0]).result, 'early');
        else assert.equal((await session.completion()).result, 'early');
        session.destroy();
      });

      test('line 81: an unknown protocol is named', () => refused(`{"protocol":"xyz","version":1}${RS}`, "The protocol 'xyz' is not supported."));
      test('line 82: version 3 is named', () => refused(`{"protocol":"json","version":3}${RS}`, "The server does not support version 3 of the 'json' protocol."));

      for (const version of [0, 2]) {
        test(`line 83: version ${version} is accepted`, () =>
          accepted([`{"protocol":"json","version":${version}}${RS}`], async (session) => assert.equal(await session.call('Echo', 'x'), 'x')));
      }

      for (const [what, body] of Object.entries({ 'no version': '{"protocol":"json"}', 'no JSON': 'hello', 'nothing': '' })) {
        test(`line 84: ${what} is an error of the handshake`, () => refused(body + RS, /^\{"error":"An unexpected error occurred during connection handshake\..*"\}\u001e$/));
      }

      test('line 84: without detailed errors nothing more is said', () =>
        refused(`{"protocol":"json"}${RS}`, 'An unexpected error occurred during connection handshake.', { path: '/authorizedhub', headers: bearer('x') }));

      test('line 86: 40 KB without a separator is canceled', () => refused(`{"protocol":"${'x'.repeat(40_000)}`, 'Handshake was canceled.'));

      test('line 88: before the handshake a connection is no member of the hub', async () => {
        const session = await open();
        await withHub(testhub, {}, async (sender) => {
          sender.invoke('0', 'SendToOthers', 'who hears this?');
          assert.equal((await sender.completion()).error, undefined);
        });
        await session.posted(session.handshake());
        assert.equal(await bytes(session), `{}${RS}`);
        assert.equal(await session.call('Echo', 'first words'), 'first words');
        session.destroy();
      });
    });
  }

  test(`line 54: an upgrade with Connection: keep-alive, Upgrade binds a negotiated connection, ${shards} shards`, async () => {
    const { connectionToken } = await negotiate(testhub);
    await withHub(testhub, { path: `/testhub?id=${connectionToken}`, headers: { Connection: 'keep-alive, UPGRADE' } }, async (hub) => {
      hub.invoke('0', 'GetActiveTransportName');
      assert.equal((await hub.completion()).result, 'WebSockets');
    });
  });

  test(`everything of one negotiate on one socket, ${shards} shards`, async () => {
    const socket = await Socket.open(testhub.url);
    socket.write(requestBytes(testhub, 'POST', '/testhub/negotiate?negotiateVersion=1'));
    const { connectionToken } = JSON.parse((await socket.answer()).body);
    const target = `/testhub?id=${connectionToken}`;
    const turn = async (method, body = '') => {
      socket.write(requestBytes(testhub, method, target, { body }));
      return brief(await socket.answer());
    };
    assert.deepEqual(await turn('GET'), [200, '']);
    assert.deepEqual(await turn('POST', `{"protocol":"json","version":1}${RS}`), [200, '']);
    assert.deepEqual(await turn('GET'), [200, `{}${RS}`]);
    assert.deepEqual(await turn('DELETE'), [202, '']);
    assert.deepEqual(await turn('GET'), UNKNOWN);
    socket.destroy();
  });

  describe(`line 129: the server's end, ${shards} shards`, { concurrency: true }, () => {
    const SHUTDOWN = `{"type":7,"allowReconnect":true}${RS}`;

    /** A server that is gone after the test, whatever happens. */
    const withOwn = async (use) => {
      const own = await Testhub.spawn(undefined, shards);
      try {
        await use(own);
      } finally {
        await own.stop('SIGKILL');
      }
    };

    test('events and waiting polls carry a Close with allowReconnect, and the server ends within 5 s', () => withOwn(async (own) => {
      const streams = await Promise.all(Array.from({ length: 20 }, () => Events.connect(own)));
      const polls = await Promise.all(Array.from({ length: 20 }, async () => (await Polling.connect(own)).openPoll()));
      await pause(100);
      const start_ms = Date.now();
      const stopped = own.stop();
      for (const stream of streams) {
        assert.equal((await stream.event(5_000)).toString(), SHUTDOWN);
        await stream.ends(5_000);
      }
      for (const poll of polls) assert.deepEqual(brief(await poll.answer({ limit_ms: 5_000 })), [200, SHUTDOWN]);
      assert.deepEqual(await stopped, { code: 0, signal: null });
      assert.ok(Date.now() - start_ms < 6_000);
      for (const each of [...streams, ...polls]) each.destroy();
    }));

    test('clients that do not poll do not hold the server up beyond 5 s', () => withOwn(async (own) => {
      for (let i = 0; i < 5; i++) await Polling.connect(own);
      const start_ms = Date.now();
      assert.deepEqual(await own.stop(), { code: 0, signal: null });
      assert.ok(Date.now() - start_ms < 6_000);
    }));

    test('a poll answered at the end does not hold the server up', () => withOwn(async (own) => {
      const session = await Polling.connect(own);
      const waiting = await session.openPoll();
      await pause(50);
      const start_ms = Date.now();
      const stopped = own.stop();
      assert.deepEqual(brief(await waiting.answer()), [200, SHUTDOWN]);
      assert.deepEqual(await stopped, { code: 0, signal: null });
      const took_ms = Date.now() - start_ms;
      waiting.destroy();
      assert.ok(took_ms < 2_000, `took ${took_ms} ms`);
    }));

    test('idle sockets of ended connections do not hold the server up', () => withOwn(async (own) => {
      const sockets = [];
      for (let i = 0; i < 8; i++) {
        const session = await Polling.connect(own);
        const socket = await Socket.open(own.url);
        socket.write(session.bytesOf('DELETE'));
        assert.equal((await socket.answer()).status, 202);
        sockets.push(socket);
      }
      const start_ms = Date.now();
      assert.deepEqual(await own.stop(), { code: 0, signal: null });
      const took_ms = Date.now() - start_ms;
      for (const socket of sockets) socket.destroy();
      assert.ok(took_ms < 2_000, `took ${took_ms} ms`);
    }));
  });
}
