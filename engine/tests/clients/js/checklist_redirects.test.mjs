// The client specification's checklist, lines 16, 17, 18 and 20: clients that somebody else sends to this server.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, describe, test } from 'node:test';
import { NEGOTIATED, withConnection } from './support/client.mjs';
import { HubSocket } from './support/frames.mjs';
import { negotiate } from './support/socket.mjs';
import { testhubForThisFile } from './support/testhub.mjs';
import { token } from './support/tokens.mjs';

const testhub = await testhubForThisFile(4);

/** A server that answers each request with `answer(request)`: status, headers, body; its URL. */
async function elsewhere(answer) {
  const server = createServer((request, response) => {
    request.resume().on('end', () => {
      const { status = 200, headers = {}, body = '' } = answer(request);
      response.writeHead(status, headers).end(body);
    });
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  after(() => {
    server.close();
    server.closeAllConnections();
  });
  return { url: `http://127.0.0.1:${server.address().port}` };
}

const redirect = (url, accessToken) => ({ body: JSON.stringify({ url, accessToken }) });

for (const variant of NEGOTIATED) {
  describe(`redirects: ${variant.name}`, () => {
    test('line 16: the token of the redirect opens the connection, at negotiate and after it', async () => {
      let asked = 0;
      const front = await elsewhere(() => {
        asked++;
        return redirect(`${testhub.url}/authorizedhub?kept=1`, token({ sub: 'redirected' }));
      });
      await withConnection(front, variant, { path: '/chat', token: token({ sub: 'its own' }) }, async (hub) => {
        assert.equal(await hub.invoke('GetUserName'), 'redirected');
        assert.equal(asked, 1);
      });
    });

    test('line 17: three redirects one after the other', async () => {
      const paths = [];
      const front = await elsewhere(({ url }) => {
        paths.push(url);
        const hop = Number(/^\/hop(\d)\/negotiate\?/.exec(url)[1]);
        return redirect(hop === 3 ? `${testhub.url}/testhub?numRedirects=3` : `${front.url}/hop${hop + 1}?numRedirects=${hop}`);
      });
      await withConnection(front, variant, { path: '/hop1' }, async (hub) => {
        assert.equal(await hub.invoke('GetNumRedirects'), 3);
        assert.equal(paths.length, 3);
      });
    });

    // A WebSocket does not follow redirects of HTTP: that client has to be given the new path.
    if (variant.transport !== 'WebSockets') test('line 20: 307 from an old path to the hub, for negotiate and every later request', async () => {
      let moved = 0;
      const front = await elsewhere(({ url }) => {
        moved++;
        return { status: 307, headers: { Location: `${testhub.url}${url.replace(/^\/old/, '/testhub')}` } };
      });
      await withConnection(front, variant, { path: '/old' }, async (hub) => {
        assert.equal(await hub.invoke('Echo', 'é'), 'é');
        assert.equal(await hub.invoke('GetActiveTransportName'), variant.transport);
      });
      assert.ok(moved >= 4, `${moved} requests came to the old path`);
    });
  });
}

test('line 18: the target of a redirect takes a WebSocket without an id', async () => {
  const { url } = await negotiate(testhub, '/redirecthub', '');
  const opened = await HubSocket.open(testhub, url.slice(testhub.url.length));
  await opened.shakeHands();
  opened.invoke('0', 'GetNumRedirects');
  assert.equal((await opened.completion()).result, 1);
  opened.destroy();
});
