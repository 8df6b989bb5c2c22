// Who gets what: all, others, groups, users, single connections; and in which order.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { build, Inbox, NEGOTIATED, VARIANTS, pause, within, withConnections } from './support/client.mjs';
import { testhubForThisFile } from './support/testhub.mjs';
import { token } from './support/tokens.mjs';

const testhub = await testhubForThisFile();

/** Long enough for a message that should not come to come all the same. */
const SILENCE_MS = 250;

const inboxes = (hubs) => hubs.map((hub) => new Inbox(hub, 'Broadcast'));
const counts = (boxes) => boxes.map((box) => box.calls.length);

/** After `act`, exactly the hubs numbered in `expected` have got `message` once, from `from`. */
async function reaches(hubs, boxes, expected, from, message, act) {
  const before = counts(boxes);
  await act();
  await Promise.all(expected.map((i) => boxes[i].take(before[i] + 1)));
  await pause(SILENCE_MS);
  boxes.forEach((box, i) => {
    const wanted = expected.includes(i) ? [[from, message]] : [];
    assert.deepEqual(box.calls.slice(before[i]), wanted, `connection ${i} on '${message}'`);
  });
}

for (const variant of VARIANTS) {
  describe(`addressing: ${variant.name}`, () => {
    const four = (use, options = []) =>
      withConnections([0, 1, 2, 3].map((i) => build(testhub, variant, options[i])), async (...hubs) => {
        const boxes = inboxes(hubs);
        const ids = await Promise.all(hubs.map((hub) => hub.invoke('GetCallerConnectionId')));
        const check = (expected, message, act) => reaches(hubs, boxes, expected, ids[0], message, act);
        await use(hubs, ids, check);
      });

    test('line 130: BroadcastAll reaches every connection, the caller too', () =>
      four(([hub], _, check) => check([0, 1, 2, 3], 'to all', () => hub.invoke('BroadcastAll', 'to all'))));

    test('line 130: SendToOthers spares the caller', () =>
      four(([hub], _, check) => check([1, 2, 3], 'to others', () => hub.invoke('SendToOthers', 'to others'))));

    test('line 130: groups: join, send, except, leave', () =>
      four(async (hubs, ids, check) => {
        const group = `g-${variant.name}`;
        await Promise.all([1, 2, 3].map((i) => hubs[i].invoke('JoinGroup', group)));
        const send = (message) => () => hubs[0].invoke('SendToGroup', group, message);
        await check([1, 2, 3], 'members', send('members'));
        await check([2], 'except', () => hubs[0].invoke('SendToGroupExcept', group, [ids[1], ids[3], 'unknown'], 'except'));
        await check([1, 2, 3], 'spare nobody', () => hubs[0].invoke('SendToGroupExcept', group, [], 'spare nobody'));
        await hubs[1].invoke('LeaveGroup', group);
        await check([2, 3], 'one left', send('one left'));
        await hubs[0].invoke('JoinGroup', group);
        await check([0, 2, 3], 'the caller is a member', send('the caller is a member'));
      }));

    test('line 133: joining twice is joining once, leaving a group one is not in does nothing', () =>
      four(async (hubs, _, check) => {
        const group = `twice-${variant.name}`;
        await hubs[1].invoke('JoinGroup', group);
        await hubs[1].invoke('JoinGroup', group);
        await hubs[2].invoke('LeaveGroup', group);
        await check([1], 'once', () => hubs[0].invoke('SendToGroup', group, 'once'));
        await hubs[1].invoke('LeaveGroup', group);
        await check([], 'nobody', () => hubs[0].invoke('SendToGroup', group, 'nobody'));
      }));

    test('line 132: group names are case-sensitive, and any text will do', () =>
      four(async (hubs, _, check) => {
        await hubs[1].invoke('JoinGroup', 'Case');
        await hubs[2].invoke('JoinGroup', 'case');
        await hubs[3].invoke('JoinGroup', '组 \u001e "\\');
        await check([1], 'upper', () => hubs[0].invoke('SendToGroup', 'Case', 'upper'));
        await check([2], 'lower', () => hubs[0].invoke('SendToGroup', 'case', 'lower'));
        await check([3], 'odd', () => hubs[0].invoke('SendToGroup', '组 \u001e "\\', 'odd'));
        await check([], 'empty group', () => hubs[0].invoke('SendToGroup', 'nobody here', 'empty group'));
      }));

    test('lines 130 and 132: SendToUser reaches every connection of that user and no other', () =>
      four(
        async (hubs, _, check) => {
          assert.deepEqual(await Promise.all(hubs.map((hub) => hub.invoke('GetUserName'))), [null, 'bob', 'bob', 'Bob']);
          await check([1, 2], 'bob', () => hubs[0].invoke('SendToUser', 'bob', 'bob'));
          await check([3], 'Bob', () => hubs[0].invoke('SendToUser', 'Bob', 'Bob'));
          await check([], 'nobody', () => hubs[0].invoke('SendToUser', 'nobody', 'nobody'));
        },
        [undefined, ...['bob', 'bob', 'Bob'].map((sub) => ({ token: token({ sub }) }))],
      ));

    test('lines 130 and 134: SendToConnection reaches one connection; an unknown id is no error', () =>
      four(async (hubs, ids, check) => {
        await check([2], 'one', () => hubs[0].invoke('SendToConnection', ids[2], 'one'));
        await check([0], 'oneself', () => hubs[0].invoke('SendToConnection', ids[0], 'oneself'));
        await check([], 'unknown', () => hubs[0].invoke('SendToConnection', 'unknown', 'unknown'));
        await hubs[3].stop();
        await check([], 'gone', () => hubs[0].invoke('SendToConnection', ids[3], 'gone'));
      }));

    test('line 133: a reconnected client is in no group', () =>
      four(async (hubs, _, check) => {
        const group = `gone-${variant.name}`;
        await hubs[1].invoke('JoinGroup', group);
        await hubs[1].stop();
        await hubs[1].start();
        await check([], 'forgotten', () => hubs[0].invoke('SendToGroup', group, 'forgotten'));
      }));
  });
}

describe('across formats and endpoints', () => {
  test('all endpoints and both protocols share connections, groups and users', () =>
    withConnections(
      [
        build(testhub, VARIANTS[0]),
        build(testhub, VARIANTS[2], { path: '/testhub-large' }),
        build(testhub, VARIANTS[1], { path: '/testhub-fast', ping_ms: 1_000 }),
        build(testhub, VARIANTS[2], { path: '/authorizedhub', token: token({ sub: 'carol' }) }),
        build(testhub, VARIANTS[4], { path: '/testhub-nowebsockets' }),
        build(testhub, VARIANTS[5]),
        build(testhub, VARIANTS[6], { path: '/testhub-large' }),
      ],
      async (...hubs) => {
        const boxes = inboxes(hubs);
        const id = await hubs[0].invoke('GetCallerConnectionId');
        const odd = 'é汉\u001e"\\\u{1F600}';
        await reaches(hubs, boxes, [0, 1, 2, 3, 4, 5, 6], id, odd, () => hubs[0].invoke('BroadcastAll', odd));
        await Promise.all([1, 2, 4, 5, 6].map((i) => hubs[i].invoke('JoinGroup', 'mixed')));
        await reaches(hubs, boxes, [1, 2, 4, 5, 6], id, 'mixed', () => hubs[0].invoke('SendToGroup', 'mixed', 'mixed'));
        await reaches(hubs, boxes, [3], id, 'carol', () => hubs[0].invoke('SendToUser', 'carol', 'carol'));
      },
    ));
});

for (const variant of NEGOTIATED) {
  describe(`order: ${variant.name}`, () => {
    test('1,000 calls at once are answered each with its own', () =>
      withConnections([build(testhub, variant)], async (hub) => {
        const order = [];
        const calls = Array.from({ length: 1_000 }, (_, i) =>
          hub.invoke('Add', i, 1).then((sum) => {
            order.push(i);
            return sum;
          }),
        );
        const sums = await within(20_000, 'all answers', Promise.all(calls));
        assert.deepEqual(sums, Array.from({ length: 1_000 }, (_, i) => i + 1));
        assert.deepEqual(order, Array.from({ length: 1_000 }, (_, i) => i), 'answers come in the order of the calls');
      }));

    // Where every send is a request of its own, fewer of them.
    const count = variant.transport === 'WebSockets' ? 1_000 : 200;
    test(`line 135: ${count.toLocaleString('en')} messages from each of four senders arrive whole and in each sender's order`, () =>
      withConnections(Array.from({ length: 6 }, () => build(testhub, variant)), async (...hubs) => {
        const group = `order-${variant.name}`;
        const receivers = hubs.slice(4);
        await Promise.all(receivers.map((hub) => hub.invoke('JoinGroup', group)));
        const boxes = inboxes(receivers);
        const senders = await Promise.all(hubs.slice(0, 4).map((hub) => hub.invoke('GetCallerConnectionId')));
        await Promise.all(
          hubs.slice(0, 4).map(async (hub) => {
            for (let i = 0; i < count; i++) await hub.send('SendToGroup', group, String(i));
          }),
        );
        for (const box of boxes) {
          const calls = await box.take(4 * count, 30_000);
          for (const sender of senders) {
            const got = calls.filter(([from]) => from === sender).map(([, message]) => Number(message));
            assert.deepEqual(got, Array.from({ length: count }, (_, i) => i));
          }
        }
      }));

    test('sends of a method reach the caller before its completion', () =>
      withConnections([build(testhub, variant)], async (hub) => {
        let sends = 0;
        hub.on('Message', () => sends++);
        for (let i = 1; i <= 100; i++) {
          await hub.invoke('InvokeWithString', 'x');
          assert.equal(sends, i);
        }
      }));
  });
}

describe('many connections', () => {
  test('a broadcast reaches 200 connections, both protocols, once each, in order', () =>
    withConnections(Array.from({ length: 200 }, (_, i) => build(testhub, VARIANTS[i % VARIANTS.length])), async (...hubs) => {
      const boxes = inboxes(hubs);
      const messages = Array.from({ length: 20 }, (_, i) => `message ${i} é`);
      for (const message of messages) await hubs[0].invoke('BroadcastAll', message);
      const all = await Promise.all(boxes.map((box) => box.take(messages.length, 15_000)));
      for (const calls of all) assert.deepEqual(calls.map(([, message]) => message), messages);
      await pause(SILENCE_MS);
      assert.ok(boxes.every((box) => box.calls.length === messages.length), 'none twice');
    }));
});
