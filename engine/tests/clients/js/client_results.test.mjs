// Client results with the stock client: asked by another client, by itself, and over plain HTTP.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { build, failure, NEGOTIATED, within, withConnection, withConnections } from './support/client.mjs';
import { testhubForThisFile } from './support/testhub.mjs';

const testhub = await testhubForThisFile();

/** `GET /clientresult/{id}`, its text. */
async function httpResult(id) {
  const response = await fetch(`${testhub.url}/clientresult/${id}`);
  assert.equal(response.status, 200);
  return response.text();
}

for (const variant of NEGOTIATED) {
  const two = (use) => withConnections([build(testhub, variant), build(testhub, variant)], use);
  const ask = (hub, id, value) => within(8_000, 'the client result', hub.invoke('AskClient', id, value));

  describe(`client results: ${variant.name}`, () => {
    test('line 125: a handler\'s value comes back', () =>
      two(async (asker, other) => {
        other.on('Answer', (value) => value * 2);
        const id = other.connectionId;
        assert.equal(await ask(asker, id, 21), 42);
        const many = await Promise.all(Array.from({ length: 50 }, (_, n) => ask(asker, id, n)));
        assert.deepEqual(many, Array.from({ length: 50 }, (_, n) => 2 * n));
      }));

    test('line 125: late and in any order', () =>
      withConnections([build(testhub, variant), build(testhub, variant), build(testhub, variant)], async (one, two, other) => {
        other.on('Answer', async (value) => {
          await new Promise((resolve) => setTimeout(resolve, value));
          return value;
        });
        const slow = ask(one, other.connectionId, 400);
        assert.equal(await ask(two, other.connectionId, 10), 10);
        assert.equal(await slow, 400);
      }));

    test('line 125: errors, no handler, no value, the wrong type', () =>
      two(async (asker, other) => {
        const id = other.connectionId;
        const text = (what) => `An unexpected error occurred invoking 'AskClient' on the server. HubException: ${what}`;
        const asking = async () => (await failure(ask(asker, id, 1))).replace(/^.*?(?=An unexpected)/, '');
        assert.equal(await asking(), text("Client didn't provide a result."));
        other.on('Answer', () => undefined);
        assert.equal(await asking(), text("Client didn't provide a result."));
        other.off('Answer');
        other.on('Answer', () => {
          throw new Error('boom');
        });
        assert.equal(await asking(), text('Error: boom'));
        other.off('Answer');
        other.on('Answer', () => 'no number');
        assert.match(await asking(), /HubException: Error trying to deserialize result to int\. /);
      }));

    test('line 125: a client that goes, one that is not there', () =>
      two(async (asker, other) => {
        const id = other.connectionId;
        other.on('Answer', () => new Promise(() => {}));
        const asked = failure(ask(asker, id, 1));
        await new Promise((resolve) => setTimeout(resolve, 100));
        await other.stop();
        assert.match(await asked, new RegExp(`HubException: Connection '${id}' disconnected\\.$`));
        assert.match(await failure(ask(asker, id, 1)), new RegExp(`HubException: Connection '${id}' does not exist\\.$`));
      }));

    test('line 125: asking oneself ends, with an answer and without', () =>
      withConnection(testhub, variant, {}, async (hub) => {
        const id = hub.connectionId;
        hub.on('Answer', (value) => value + 1);
        assert.equal(await ask(hub, id, 1), 2);
        hub.off('Answer');
        hub.on('Answer', () => new Promise(() => {}));
        assert.match(await within(5_000, 'the end', failure(hub.invoke('AskClient', id, 1))), /HubException: The client gave no result in time/);
        assert.equal(await hub.invoke('Echo', 'alive'), 'alive');
      }));

    test('line 125: over plain HTTP', () =>
      withConnection(testhub, variant, {}, async (hub) => {
        hub.on('Result', () => 42);
        assert.equal(await httpResult(hub.connectionId), '42');
        hub.off('Result');
        assert.equal(await httpResult(hub.connectionId), "Client didn't provide a result.");
        assert.equal(await httpResult('nobody'), "Connection 'nobody' does not exist.");
      }));
  });
}
