// /authorizedhub and its tokens; detailed errors off.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { build, failure, VARIANTS, withConnection } from './support/client.mjs';
import { HubSocket } from './support/frames.mjs';
import { negotiate, request } from './support/socket.mjs';
import { testhubForThisFile } from './support/testhub.mjs';
import { token } from './support/tokens.mjs';

const testhub = await testhubForThisFile();
const now_s = () => Math.floor(Date.now() / 1000);
const bearer = (value) => [['Authorization', `Bearer ${value}`]];

for (const variant of VARIANTS) {
  const path = '/authorizedhub';
  describe(`authorized: ${variant.name}`, () => {
    test('a valid token connects and names the user', () =>
      withConnection(testhub, variant, { path, token: token({ sub: 'dave é' }) }, async (hub) => {
        assert.equal(await hub.invoke('GetUserName'), 'dave é');
        assert.equal(await hub.invoke('Echo', 'in'), 'in');
      }));

    test('no token, no connection', async () => {
      const text = await failure(build(testhub, variant, { path }).start());
      if (!variant.skipNegotiation) assert.match(text, /Unauthorized: Status code '401'/);
    });

    test('detailed errors are off', () =>
      withConnection(testhub, variant, { path, token: token() }, async (hub) => {
        assert.equal(
          await failure(hub.invoke('ThrowException', 'secret')),
          "An unexpected error occurred invoking 'ThrowException' on the server.",
        );
        assert.equal(
          await failure(hub.invoke('ThrowHubException', 'public')),
          "An unexpected error occurred invoking 'ThrowHubException' on the server. HubException: public",
        );
        assert.equal(await failure(hub.invoke('Add', 1)), "Failed to invoke 'Add' due to an error on the server.");
        assert.equal(await failure(hub.invoke('Add', 'a', 'b')), "Failed to invoke 'Add' due to an error on the server.");
        assert.equal(
          await failure(hub.invoke('NoSuchMethod')),
          "Failed to invoke 'NoSuchMethod' due to an error on the server. HubException: Method does not exist.",
        );
      }));

    test('/testhub takes the user from a valid token and ignores a bad one', async () => {
      await withConnection(testhub, variant, { token: token({ sub: 'erin' }) }, async (hub) =>
        assert.equal(await hub.invoke('GetUserName'), 'erin'),
      );
      await withConnection(testhub, variant, { token: 'rubbish' }, async (hub) =>
        assert.equal(await hub.invoke('GetUserName'), null),
      );
    });
  });
}

const BAD = {
  'no token at all': null,
  'an empty token': '',
  'no JWT': 'rubbish',
  'two parts': token().split('.').slice(0, 2).join('.'),
  'another key': token({}, { key: 'some other key of some length or other' }),
  'HS384': token({}, { alg: 'HS384' }),
  'alg none': token({}, { alg: 'none' }),
  'another issuer': token({ iss: 'someone' }),
  'no issuer': token({ iss: undefined }),
  'another audience': token({ aud: 'others' }),
  'no audience': token({ aud: undefined }),
  'no expiry': token({ exp: undefined }),
  'expired': token({ exp: now_s() - 30 }),
  'expiry that is text': token({ exp: 'tomorrow' }),
  'not valid yet': token({ nbf: now_s() + 600 }),
  'a changed claim': (() => {
    const [head, , signature] = token().split('.');
    return [head, token({ sub: 'mallory' }).split('.')[1], signature].join('.');
  })(),
};

describe('tokens', () => {
  for (const [what, bad] of Object.entries(BAD)) {
    test(`lines 19 and 148: 401, empty, on negotiate and on the upgrade: ${what}`, async () => {
      const headers = bad === null ? [] : bearer(bad);
      const answer = await request(testhub, 'POST', '/authorizedhub/negotiate?negotiateVersion=1', { headers });
      assert.deepEqual([answer.status, answer.reason, answer.body], [401, 'Unauthorized', '']);
      const refused = await HubSocket.upgrade(testhub, '/authorizedhub', { headers: Object.fromEntries(headers) });
      refused.destroy();
      assert.deepEqual([refused.answer.status, refused.answer.body], [401, '']);
    });
  }

  test('within the clock skew of 5 s a token still holds', async () => {
    const headers = Object.fromEntries(bearer(token({ exp: now_s() - 2 })));
    const opened = await HubSocket.open(testhub, '/authorizedhub', { headers });
    opened.destroy();
  });

  test('an audience list with ours in it is good', async () => {
    const headers = Object.fromEntries(bearer(token({ aud: ['others', 'testhub-clients'] })));
    const opened = await HubSocket.open(testhub, '/authorizedhub', { headers });
    opened.destroy();
  });

  test('line 148: the query access_token is taken on the upgrade, and the header wins over it', async () => {
    const opened = await HubSocket.open(testhub, `/authorizedhub?access_token=${token({ sub: 'query' })}`);
    await opened.shakeHands();
    opened.invoke('0', 'GetUserName');
    assert.equal((await opened.completion()).result, 'query');
    opened.destroy();
    const headers = Object.fromEntries(bearer(token({ sub: 'header' })));
    const both = await HubSocket.open(testhub, `/authorizedhub?access_token=${token({ sub: 'query' })}`, { headers });
    await both.shakeHands();
    both.invoke('0', 'GetUserName');
    assert.equal((await both.completion()).result, 'header');
    both.destroy();
  });

  test('another user\'s connection token is refused', async () => {
    const { connectionToken } = await negotiate(testhub, '/authorizedhub', 'negotiateVersion=1', bearer(token({ sub: 'owner' })));
    const path = `/authorizedhub?id=${connectionToken}`;
    const stolen = await HubSocket.upgrade(testhub, path, { headers: Object.fromEntries(bearer(token({ sub: 'thief' }))) });
    stolen.destroy();
    assert.ok([401, 403, 404].includes(stolen.answer.status), `answered ${stolen.answer.status}`);
    const owner = await HubSocket.open(testhub, path, { headers: Object.fromEntries(bearer(token({ sub: 'owner' }))) });
    await owner.shakeHands();
    owner.invoke('0', 'GetUserName');
    assert.equal((await owner.completion()).result, 'owner');
    owner.destroy();
  });
});
