// The client specification's checklist, lines 1-15, 19 (negotiate) and 26-36, 39 (dispatch), over raw sockets.
// Where the others are: docs/conformance.md.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { HubSocket, withHub, withWebSocket } from './support/frames.mjs';
import { Events, Polling } from './support/sessions.mjs';
import { negotiate, request, Socket } from './support/socket.mjs';
import { Testhub, testhubForThisFile } from './support/testhub.mjs';

const testhub = await testhubForThisFile();
const post = (path, options) => request(testhub, 'POST', path, options);
const TRANSPORTS = [
  { transport: 'WebSockets', transferFormats: ['Text', 'Binary'] },
  { transport: 'ServerSentEvents', transferFormats: ['Text'] },
  { transport: 'LongPolling', transferFormats: ['Text', 'Binary'] },
];
const TEXT_PLAIN = /^text\/plain\b/;

describe('negotiate', () => {
  test('line 1: no query is version 0, with an id and no token', async () => {
    const { negotiateVersion, connectionId, connectionToken } = await negotiate(testhub, '/testhub', '');
    assert.deepEqual([negotiateVersion, typeof connectionId, connectionToken], [0, 'string', undefined]);
  });

  test('line 2: version 1 has a token that is not the id', async () => {
    const reply = await negotiate(testhub);
    assert.equal(reply.negotiateVersion, 1);
    assert.equal(typeof reply.connectionToken, 'string');
    assert.notEqual(reply.connectionToken, reply.connectionId);
  });

  test('line 3: version 7 gets version 1', async () =>
    assert.equal((await negotiate(testhub, '/testhub', 'negotiateVersion=7')).negotiateVersion, 1));

  for (const version of ['abc', '1.5', '1x']) {
    test(`line 4: version ${version} is no integer`, async () =>
      assert.deepEqual(await negotiate(testhub, '/testhub', `negotiateVersion=${version}`), {
        error: 'The client requested a non-integer protocol version.',
      }));
  }

  test('line 4: a version below the minimum is refused by number', async () =>
    assert.deepEqual(await negotiate(testhub, '/testhub', 'negotiateVersion=-1'), {
      error: "The client requested version '-1', but the server does not support this version.",
    }));

  test('line 6: the key of the version is found whatever its case', async () => {
    assert.equal((await negotiate(testhub, '/testhub', 'NEGOTIATEVERSION=1')).negotiateVersion, 1);
    assert.equal((await negotiate(testhub, '/testhub', 'x=1&NegotiateVersion=1&y=2')).negotiateVersion, 1);
  });

  for (const path of ['/testhub', '/testhub-large', '/testhub-fast', '/testhub-nowebsockets', '/redirecthub']) {
    test(`line 7: ${path} answers JSON of exactly Content-Length bytes, and sets the cookie`, async () => {
      const answer = await post(`${path}/negotiate?negotiateVersion=1`);
      assert.equal(answer.status, 200);
      assert.match(answer.headers.get('content-type'), /^application\/json\b/);
      assert.equal(Number(answer.headers.get('content-length')), Buffer.byteLength(answer.body));
      JSON.parse(answer.body);
      assert.match(answer.headers.get('set-cookie'), /^testCookie=testValue(;|$)/);
    });
  }

  test('line 8: only known transports, in the known order, with their formats', async () => {
    const offered = (await negotiate(testhub)).availableTransports;
    const names = offered.map((entry) => entry.transport);
    assert.deepEqual(offered, TRANSPORTS.filter((entry) => names.includes(entry.transport)));
    assert.equal(names[0], 'WebSockets');
    const without = (await negotiate(testhub, '/testhub-nowebsockets')).availableTransports;
    const others = without.map((entry) => entry.transport);
    assert.deepEqual(without, TRANSPORTS.slice(1).filter((entry) => others.includes(entry.transport)));
  });

  for (const method of ['GET', 'PUT', 'DELETE', 'HEAD']) {
    test(`line 9: ${method} negotiate is 405 text/plain, empty`, async () => {
      const answer = await request(testhub, method, '/testhub/negotiate?negotiateVersion=1');
      assert.deepEqual([answer.status, answer.body], [405, '']);
      assert.match(answer.headers.get('content-type'), TEXT_PLAIN);
    });
  }

  test('line 11: ids and tokens are long, URL-safe, unpadded and never the same', async () => {
    const replies = await Promise.all(Array.from({ length: 50 }, () => negotiate(testhub)));
    const all = replies.flatMap((reply) => [reply.connectionId, reply.connectionToken]);
    for (const id of all) assert.match(id, /^[A-Za-z0-9_-]{22,}$/);
    assert.equal(new Set(all).size, 100);
  });

  for (const [what, options] of Object.entries({
    'ten thousand bytes': { body: 'x'.repeat(10_000) },
    'JSON': { body: '{"a":1}', headers: [['Content-Type', 'application/json']] },
    'no body and no length': { headers: [['Content-Length', '0']] },
    'two chunks': { body: '5\r\nhello\r\n3\r\nabc\r\n0\r\n\r\n', headers: [['Transfer-Encoding', 'chunked']] },
  })) {
    test(`line 13: the body is ignored: ${what}`, async () => {
      const answer = await post('/testhub/negotiate?negotiateVersion=1', options);
      assert.equal(answer.status, 200);
      assert.equal(JSON.parse(answer.body).negotiateVersion, 1);
    });
  }

  test('line 13: after a body the connection serves the next request', async () => {
    const socket = await Socket.open(testhub.url);
    for (const body of ['abc', '', 'x'.repeat(5_000)]) {
      socket.write(`POST /testhub/negotiate HTTP/1.1\r\nHost: a\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
      const answer = await socket.answer();
      assert.deepEqual([answer.status, JSON.parse(answer.body).negotiateVersion], [200, 0]);
    }
    socket.destroy();
  });

  test('line 14: useStatefulReconnect is absent unless asked for', async () => {
    assert.ok(!('useStatefulReconnect' in (await negotiate(testhub))));
    assert.ok(!('useStatefulReconnect' in (await negotiate(testhub, '/testhub', 'negotiateVersion=1&useStatefulReconnect=false'))));
  });

  test('line 15: asked for, useStatefulReconnect is true', async () => {
    for (const asked of ['useStatefulReconnect=true', 'USESTATEFULRECONNECT=True']) {
      assert.equal((await negotiate(testhub, '/testhub', `negotiateVersion=1&${asked}`)).useStatefulReconnect, true);
    }
    // A version 0 client has no secret to come back with.
    assert.ok(!('useStatefulReconnect' in (await negotiate(testhub, '/testhub', 'useStatefulReconnect=true'))));
  });

  test('line 19: 401 has its reason phrase and an empty body', async () => {
    const answer = await post('/authorizedhub/negotiate?negotiateVersion=1');
    assert.deepEqual([answer.status, answer.reason, answer.body], [401, 'Unauthorized', '']);
  });

  test('the redirecting negotiate says where to, with the host it was asked by', async () => {
    const answer = await post('/redirecthub/negotiate?negotiateVersion=1');
    const host = new URL(testhub.url).host;
    assert.deepEqual(JSON.parse(answer.body), { url: `http://${host}/testhub?numRedirects=1`, accessToken: '' });
  });
});

describe('dispatch', () => {
  const kinds = [
    ['POST', 'POST', []],
    ['poll', 'GET', []],
    ['SSE', 'GET', [['Accept', 'text/event-stream']]],
    ['DELETE', 'DELETE', []],
  ];
  for (const [what, method, headers] of kinds) {
    for (const query of ['', '?id=', '?other=1']) {
      test(`line 26: ${what} with query '${query}' is 400`, async () => {
        const answer = await request(testhub, method, `/testhub${query}`, { headers });
        assert.deepEqual([answer.status, answer.body], [400, 'Connection ID required']);
        assert.match(answer.headers.get('content-type'), TEXT_PLAIN);
      });
    }

    test(`line 27: ${what} with an unknown id is 404`, async () => {
      const answer = await request(testhub, method, '/testhub?id=AAAAAAAAAAAAAAAAAAAAAA', { headers });
      assert.deepEqual([answer.status, answer.body], [404, 'No Connection with that ID']);
      assert.match(answer.headers.get('content-type'), TEXT_PLAIN);
    });

    test(`line 28: ${what} with the public id in place of the token is 404`, async () => {
      const { connectionId } = await negotiate(testhub);
      const answer = await request(testhub, method, `/testhub?id=${connectionId}`, { headers });
      assert.deepEqual([answer.status, answer.body], [404, 'No Connection with that ID']);
    });
  }

  test('line 28: the upgrade with the public id is 404', async () => {
    const { connectionId } = await negotiate(testhub);
    const refused = await HubSocket.upgrade(testhub, `/testhub?id=${connectionId}`);
    refused.destroy();
    assert.equal(refused.answer.status, 404);
  });

  for (const id of ['AAAAAAAAAAAAAAAAAAAAAA', 'x', '%20', 'a'.repeat(500)]) {
    test(`line 29: the upgrade with unknown id ${id.slice(0, 30)} is 404`, async () => {
      const refused = await HubSocket.upgrade(testhub, `/testhub?id=${id}`);
      refused.destroy();
      assert.deepEqual([refused.answer.status, refused.answer.body], [404, 'No Connection with that ID']);
      assert.match(refused.answer.headers.get('content-type'), TEXT_PLAIN);
    });
  }

  for (const query of ['', '?', '?id=', '?connectionId=abc', '?x=1&y']) {
    test(`line 30: the upgrade with query '${query}' is a new connection`, () =>
      withWebSocket(testhub, `/testhub${query}`, async (opened) => {
        await opened.shakeHands();
        opened.invoke('0', 'GetCallerConnectionId');
        assert.match((await opened.completion()).result, /^[A-Za-z0-9_-]{22,}$/);
      }));
  }

  test('the upgrade with the token of negotiate is that connection', async () => {
    const { connectionId, connectionToken } = await negotiate(testhub);
    await withHub(testhub, { path: `/testhub?x=1&ID=${connectionToken}` }, async (hub) => {
      hub.invoke('0', 'GetCallerConnectionId');
      assert.equal((await hub.completion()).result, connectionId);
    });
  });

  test('in version 0 the id is the token', async () => {
    const { connectionId } = await negotiate(testhub, '/testhub', '');
    await withHub(testhub, { path: `/testhub?id=${connectionId}` }, async (hub) => {
      hub.invoke('0', 'GetCallerConnectionId');
      assert.equal((await hub.completion()).result, connectionId);
    });
  });

  for (const method of ['PUT', 'PATCH', 'HEAD', 'OPTIONS', 'TRACE']) {
    test(`line 31: ${method} is 405 text/plain, empty`, async () => {
      const answer = await request(testhub, method, '/testhub');
      assert.deepEqual([answer.status, answer.body], [405, '']);
      assert.match(answer.headers.get('content-type'), TEXT_PLAIN);
    });
  }

  test('line 32: WebSockets where they are disabled is 404 with its text', async () => {
    const { connectionToken } = await negotiate(testhub, '/testhub-nowebsockets');
    for (const query of ['', `?id=${connectionToken}`]) {
      const refused = await HubSocket.upgrade(testhub, `/testhub-nowebsockets${query}`);
      refused.destroy();
      assert.deepEqual(
        [refused.answer.status, refused.answer.body],
        [404, 'WebSockets transport not supported by this end point type'],
      );
    }
  });

  describe('a connection bound to WebSockets', () => {
    const bound = async (use) => {
      const { connectionToken } = await negotiate(testhub);
      await withHub(testhub, { path: `/testhub?id=${connectionToken}` }, (hub) => use(connectionToken, hub));
    };

    test('line 34: POST is 405', () =>
      bound(async (id) => {
        const answer = await post(`/testhub?id=${id}`, { body: '{"type":6}\u001e' });
        assert.deepEqual([answer.status, answer.body], [405, 'POST requests are not allowed for WebSocket connections.']);
      }));

    test('line 35: DELETE is 400', () =>
      bound(async (id, hub) => {
        const answer = await request(testhub, 'DELETE', `/testhub?id=${id}`);
        assert.deepEqual([answer.status, answer.body], [400, 'Cannot terminate this connection using the DELETE endpoint.']);
        hub.invoke('0', 'Echo', 'alive');
        assert.equal((await hub.completion()).result, 'alive');
      }));

    test('line 36: a second upgrade is 409, empty, and the first lives', () =>
      bound(async (id, hub) => {
        const refused = await HubSocket.upgrade(testhub, `/testhub?id=${id}`);
        refused.destroy();
        assert.deepEqual([refused.answer.status, refused.answer.body], [409, '']);
        hub.invoke('0', 'Echo', 'alive');
        assert.equal((await hub.completion()).result, 'alive');
      }));

    test('line 39: once it is gone its token is unknown', async () => {
      const { connectionToken } = await negotiate(testhub);
      await withHub(testhub, { path: `/testhub?id=${connectionToken}` }, async (hub) => {
        hub.hub({ type: 7 });
        await hub.hubClose();
        await hub.closesNormally();
      });
      for (const [, method, headers] of kinds) {
        const answer = await request(testhub, method, `/testhub?id=${connectionToken}`, { headers });
        assert.equal(answer.status, 404);
      }
      const refused = await HubSocket.upgrade(testhub, `/testhub?id=${connectionToken}`);
      refused.destroy();
      assert.equal(refused.answer.status, 404);
    });
  });

  test('line 35: DELETE of a connection that was only negotiated is 400', async () => {
    const { connectionToken } = await negotiate(testhub);
    const answer = await request(testhub, 'DELETE', `/testhub?id=${connectionToken}`);
    assert.deepEqual([answer.status, answer.body], [400, 'Cannot terminate this connection using the DELETE endpoint.']);
  });
});

describe('plain HTTP', () => {
  test('/health is 200', async () => assert.equal((await request(testhub, 'GET', '/health')).status, 200));

  test('/stats counts connections that were only negotiated', async () => {
    const before = await testhub.connections();
    await negotiate(testhub);
    assert.equal(await testhub.connections(), before + 1);
  });

  test('/stats counts a connection of each transport before its handshake as it does after it', async () => {
    const own = await Testhub.spawn();
    try {
      const polling = await Polling.negotiated(own);
      const events = await Events.negotiated(own);
      const { connectionToken } = await negotiate(own);
      assert.equal(await own.connections(), 3, 'negotiated');
      await polling.poll();
      await events.get();
      const websocket = await HubSocket.open(own, `/testhub?id=${connectionToken}`);
      assert.equal(await own.connections(), 3, 'bound to a transport');
      await polling.posted(polling.handshake());
      await events.posted(events.handshake());
      await websocket.shakeHands();
      assert.equal((await polling.poll()).body, '{}\u001e');
      assert.equal((await events.event()).toString(), '{}\u001e');
      assert.equal(await own.connections(), 3, 'shaken hands');
      events.destroy();
      websocket.destroy();
    } finally {
      await own.stop('SIGKILL');
    }
  });

  for (const path of ['/', '/nothing', '/testhub/nothing', '/testhubx', '/testhub%00']) {
    test(`unknown path ${path} is 404`, async () => {
      assert.equal((await request(testhub, 'GET', path)).status, 404);
      assert.equal((await post(path)).status, 404);
    });
  }

  const BAD_HEADS = {
    'no request line': '\u0000\u0001\u0002\r\n\r\n',
    'no version': 'GET /health\r\n\r\n',
    'bare LF': 'GET /health HTTP/1.1\nHost: a\n\n',
    'a folded header': 'GET /health HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n',
    'a NUL in a header': 'GET /health HTTP/1.1\r\nHost: a\r\nX: a\u0000b\r\n\r\n',
    'a space before the colon': 'GET /health HTTP/1.1\r\nHost : a\r\n\r\n',
    'two lengths': 'POST /testhub/negotiate HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab',
    'length and chunks': 'POST /testhub/negotiate HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    'a negative length': 'POST /testhub/negotiate HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n',
    'a chunk size that is none': 'POST /testhub/negotiate HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n',
  };
  for (const [what, head] of Object.entries(BAD_HEADS)) {
    test(`${what} is 400 and the end of the connection`, async () => {
      const socket = await Socket.open(testhub.url);
      socket.write(Buffer.from(head, 'latin1'));
      assert.equal((await socket.answer()).status, 400);
      await socket.waitForEnd();
      socket.destroy();
    });
  }

  test('a head of 20 KB is 431 and the end of the connection', async () => {
    const socket = await Socket.open(testhub.url);
    socket.write(`GET /health HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`);
    assert.equal((await socket.answer()).status, 431);
    await socket.waitForEnd();
    socket.destroy();
  });

  test('a request cut into single bytes is answered', async () => {
    const socket = await Socket.open(testhub.url);
    for (const byte of Buffer.from('POST /testhub/negotiate?negotiateVersion=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc')) {
      socket.write(Buffer.from([byte]));
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.equal(JSON.parse((await socket.answer()).body).negotiateVersion, 1);
    socket.destroy();
  });

  test('three requests in one write are answered in order', async () => {
    const socket = await Socket.open(testhub.url);
    socket.write('GET /health HTTP/1.1\r\nHost: a\r\n\r\nGET /nothing HTTP/1.1\r\nHost: a\r\n\r\nGET /stats HTTP/1.1\r\nHost: a\r\n\r\n');
    assert.equal((await socket.answer()).status, 200);
    assert.equal((await socket.answer()).status, 404);
    assert.ok('connections' in JSON.parse((await socket.answer()).body));
    socket.destroy();
  });

  test('Connection: close is kept', async () => {
    const socket = await Socket.open(testhub.url);
    socket.write('GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
    assert.equal((await socket.answer()).status, 200);
    await socket.waitForEnd();
  });
});
