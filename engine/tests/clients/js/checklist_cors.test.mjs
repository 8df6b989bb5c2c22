// The client specification's checklist, lines 21-25 (CORS and the origin of an upgrade), request by request. testhub
// lets in pages of its own host, so an allowed origin is the Host that the request was sent to.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { pause } from './support/client.mjs';
import { HubSocket, RS } from './support/frames.mjs';
import { Events, EVENTS, Polling } from './support/sessions.mjs';
import { request, Socket } from './support/socket.mjs';
import { testhubForThisFile } from './support/testhub.mjs';
import { token } from './support/tokens.mjs';

const CORS = ['origin', 'credentials', 'methods', 'headers', 'max-age', 'expose-headers'].map((name) => `access-control-allow-${name}`);
const list = (value) => (value ?? '').split(',').map((item) => item.trim().toLowerCase());

for (const shards of [1, 4]) {
  const testhub = await testhubForThisFile(shards);
  const host = new URL(testhub.url).host;
  const own = `http://${host}`;
  const from = (origin) => [['Origin', origin]];

  const FOREIGN = {
    'another site': 'https://evil.example',
    'another site on our port': `http://evil.example:${new URL(testhub.url).port}`,
    'our host as a prefix': `${own}.evil.example`,
    'our host as a suffix': `http://evil${host}`,
    'our host as user': `http://${host}@evil.example`,
    'our host in a path': `http://evil.example/${host}`,
    'no origin of its own': 'null',
    'an empty one': '',
    'our host without a scheme': host,
    'two at once': `${own} https://evil.example`,
    'a file': 'file://',
  };

  const allows = ({ status, headers }, origin) => {
    assert.equal(headers.get('access-control-allow-origin'), origin, `${status}: the exact origin`);
    assert.equal(headers.get('access-control-allow-credentials'), 'true', `${status}: credentials`);
    assert.ok(list(headers.get('vary')).includes('origin'), `${status}: Vary: Origin, not ${headers.get('vary')}`);
  };
  const silent = ({ status, headers }) => {
    for (const name of CORS) assert.ok(!headers.has(name), `${status}: no ${name}, not ${headers.get(name)}`);
  };

  describe(`preflights, ${shards} shards`, () => {
    const asked = 'authorization,content-type,x-requested-with,x-signalr-user-agent';
    const preflight = (path, origin, method, headers = asked) =>
      request(testhub, 'OPTIONS', path, {
        headers: [...from(origin), ['Access-Control-Request-Method', method], ...(headers ? [['Access-Control-Request-Headers', headers]] : [])],
      });

    for (const hub of ['/testhub', '/testhub-nowebsockets', '/authorizedhub', '/redirecthub']) {
      const targets = [['line 21: preflight', `${hub}/negotiate?negotiateVersion=1`, ['POST']]];
      if (hub !== '/redirecthub') targets.push(['line 22: preflight', `${hub}?id=AAAAAAAAAAAAAAAAAAAAAA`, ['GET', 'POST', 'DELETE']], ['line 22: preflight', hub, ['GET', 'POST', 'DELETE']]);
      for (const [line, path, methods] of targets) {
        for (const method of methods) {
          test(`${line} of ${method} ${path}`, async () => {
            const answer = await preflight(path, own, method);
            assert.ok([200, 204].includes(answer.status), `answered ${answer.status}`);
            assert.equal(answer.body, '');
            allows(answer, own);
            assert.ok(list(answer.headers.get('access-control-allow-methods')).includes(method.toLowerCase()));
            const headers = list(answer.headers.get('access-control-allow-headers'));
            for (const name of asked.split(',')) assert.ok(headers.includes(name), `${name} is allowed`);
          });
        }
      }
    }

    test('line 21: a preflight that asks for no header', async () => {
      const answer = await preflight('/testhub/negotiate', own, 'POST', null);
      assert.ok([200, 204].includes(answer.status));
      allows(answer, own);
    });

    test('line 21: the socket of a preflight serves the request that follows', async () => {
      const socket = await Socket.open(testhub.url);
      socket.write(`OPTIONS /testhub/negotiate HTTP/1.1\r\nHost: ${host}\r\nOrigin: ${own}\r\nAccess-Control-Request-Method: POST\r\n\r\n`);
      allows(await socket.answer(), own);
      socket.write(`POST /testhub/negotiate HTTP/1.1\r\nHost: ${host}\r\nOrigin: ${own}\r\nContent-Length: 0\r\n\r\n`);
      allows(await socket.answer(), own);
      socket.destroy();
    });

    for (const [what, origin] of Object.entries(FOREIGN)) {
      test(`line 24: a preflight from ${what} gets no CORS header`, async () => {
        for (const path of ['/testhub/negotiate', '/testhub']) silent(await preflight(path, origin, 'POST'));
      });
    }
  });

  describe(`answers, ${shards} shards`, () => {
    /** One answer of every kind a page can get: name, status, the answer. */
    async function* kinds(origin) {
      const headers = [...from(origin)];
      const send = (method, path, options = {}) => request(testhub, method, path, { ...options, headers: [...headers, ...(options.headers ?? [])] });
      yield ['negotiate', 200, await send('POST', '/testhub/negotiate?negotiateVersion=1')];
      yield ['negotiate with an error', 200, await send('POST', '/testhub/negotiate?negotiateVersion=x')];
      yield ['negotiate of the redirect', 200, await send('POST', '/redirecthub/negotiate')];
      yield ['negotiate by GET', 405, await send('GET', '/testhub/negotiate')];
      yield ['negotiate without a token', 401, await send('POST', '/authorizedhub/negotiate')];
      yield ['negotiate with a token', 200, await send('POST', '/authorizedhub/negotiate', { headers: [['Authorization', `Bearer ${token()}`]] })];
      yield ['POST without an id', 400, await send('POST', '/testhub')];
      yield ['a poll without an id', 400, await send('GET', '/testhub')];
      yield ['a poll of an unknown id', 404, await send('GET', '/testhub?id=x')];
      yield ['events of an unknown id', 404, await send('GET', '/testhub?id=x', { headers: EVENTS })];
      yield ['DELETE of an unknown id', 404, await send('DELETE', '/testhub?id=x')];
      yield ['PUT', 405, await send('PUT', '/testhub')];
      yield ['a poll without a token', 401, await send('GET', '/authorizedhub?id=x')];

      const session = await Polling.negotiated(testhub);
      session.headers = headers;
      yield ['DELETE of a connection that is only negotiated', 400, await session.delete()];
      yield ['the first poll', 200, await session.poll()];
      yield ['a POST', 200, await session.post(session.handshake())];
      yield ['a poll with data', 200, await session.poll()];
      yield ['events of a polling connection', 400, await session.request('GET', { headers: EVENTS })];
      yield ['a body that is too long', 413, await session.post('x', { headers: [['Content-Length', '30000001']] })];
      const waiting = await session.openPoll();
      await pause(30);
      const replacing = await session.openPoll();
      yield ['a replaced poll', 204, await waiting.answer()];
      yield ['a DELETE', 202, await session.delete()];
      yield ['the last poll', 204, await replacing.answer()];
      waiting.destroy();
      replacing.destroy();

      const events = await Events.negotiated(testhub);
      events.headers = headers;
      await events.get();
      yield ['events', 200, events.answer];
      yield ['a second reader of events', 409, await events.request('GET', { headers: EVENTS })];
      yield ['a POST beside events', 200, await events.post(events.handshake())];
      assert.equal((await events.event()).toString(), `{}${RS}`);
      events.destroy();

      const fast = await Polling.negotiated(testhub, { path: '/testhub-fast' });
      fast.headers = headers;
      await fast.poll();
      await fast.posted(fast.handshake());
      await fast.poll();
      yield ['a poll without data', 200, await fast.poll()];
    }

    test('line 23: every answer to an allowed origin says so', async () => {
      const wrong = [];
      for await (const [what, status, answer] of kinds(own)) {
        try {
          assert.equal(answer.status, status);
          allows(answer, own);
        } catch (error) {
          wrong.push(`${what}: ${error.message}`);
        }
      }
      assert.deepEqual(wrong, []);
    });

    test('line 24: no answer to another origin has a CORS header, and each is what it would be', async () => {
      const wrong = [];
      for await (const [what, status, answer] of kinds('https://evil.example')) {
        try {
          assert.equal(answer.status, status);
          silent(answer);
        } catch (error) {
          wrong.push(`${what}: ${error.message}`);
        }
      }
      assert.deepEqual(wrong, []);
    });

    for (const [what, origin] of Object.entries(FOREIGN)) {
      test(`line 24: negotiate from ${what} gets no CORS header`, async () => {
        silent(await request(testhub, 'POST', '/testhub/negotiate', { headers: from(origin) }));
      });
    }

    test('without an Origin there are no CORS headers', async () => {
      silent(await request(testhub, 'POST', '/testhub/negotiate'));
      silent(await request(testhub, 'GET', '/testhub?id=x'));
    });

    test('line 23: behind a proxy the host is the one of the request', async () => {
      const origin = 'https://chat.example.org';
      const socket = await Socket.open(testhub.url);
      socket.write(`POST /testhub/negotiate HTTP/1.1\r\nHost: chat.example.org\r\nOrigin: ${origin}\r\nContent-Length: 0\r\n\r\n`);
      allows(await socket.answer(), origin);
      socket.destroy();
    });

    test('a path that is no hub says nothing of CORS to others', async () =>
      silent(await request(testhub, 'GET', '/nothing', { headers: from('https://evil.example') })));
  });

  describe(`upgrades, ${shards} shards`, () => {
    const upgrade = async (headers, path = '/testhub') => {
      const opened = await HubSocket.upgrade(testhub, path, { headers });
      opened.destroy();
      return opened.answer.status;
    };

    test('line 24: from our own host, and from no page at all, it is 101', async () => {
      assert.equal(await upgrade({ Origin: own }), 101);
      assert.equal(await upgrade({ Origin: own.toUpperCase().replace('HTTP', 'http') }), 101);
      assert.equal(await upgrade({}), 101);
      assert.equal(await upgrade({ Host: 'chat.example.org', Origin: 'https://chat.example.org' }), 101);
    });

    for (const origin of ['https://chat.example.org.evil.example', 'https://evilchat.example.org', 'https://example.org', 'https://chat.example.or']) {
      test(`line 24: to chat.example.org from ${origin} it is 403`, async () =>
        assert.equal(await upgrade({ Host: 'chat.example.org', Origin: origin }), 403));
    }

    for (const [what, origin] of Object.entries(FOREIGN)) {
      test(`line 24: from ${what} it is 403`, async () => {
        assert.equal(await upgrade({ Origin: origin }), 403);
        const headers = { Origin: origin, Authorization: `Bearer ${token()}` };
        assert.equal(await upgrade(headers, '/authorizedhub'), 403);
      });
    }

    test('line 24: a refused upgrade leaves the negotiated connection to its owner', async () => {
      const session = await Polling.negotiated(testhub);
      assert.equal(await upgrade({ Origin: 'https://evil.example' }, session.target), 403);
      const opened = await HubSocket.open(testhub, session.target, { headers: { Origin: own } });
      await opened.shakeHands();
      opened.destroy();
    });
  });
}
