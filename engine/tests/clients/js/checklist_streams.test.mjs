// The client specification's checklist, lines 114 and 119-126, with both hub protocols over raw sockets.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { withHub } from './support/frames.mjs';
import { testhubForThisFile } from './support/testhub.mjs';
import { token } from './support/tokens.mjs';

const testhub = await testhubForThisFile();

for (const protocol of ['json', 'messagepack']) {
  const json = protocol === 'json';
  const using = (use, options = {}) => withHub(testhub, { protocol, ...options }, use);
  const invocation = (id, target, args, streams = []) =>
    json ? { type: 1, invocationId: id, target, arguments: args, streamIds: streams } : [1, {}, id ?? null, target, args, streams];
  const streamed = (id, target, ...args) =>
    json ? { type: 4, invocationId: id, target, arguments: args } : [4, {}, id, target, args, []];
  const item = (id, value) => (json ? { type: 2, invocationId: id, item: value } : [2, {}, id, value]);
  const end = (id) => (json ? { type: 3, invocationId: id } : [3, {}, id, 2]);
  const failed = (id, error) => (json ? { type: 3, invocationId: id, error } : [3, {}, id, 1, error]);
  const result = (id, value) => (json ? { type: 3, invocationId: id, result: value } : [3, {}, id, 3, value]);
  const cancel = (id) => (json ? { type: 5, invocationId: id } : [5, {}, id]);
  const called = (target, ...args) => (json ? { type: 1, target, arguments: args } : [1, {}, null, target, args, []]);
  const hears = async (hub, ...messages) => {
    for (const message of messages) assert.deepEqual((await hub.next()).value, message);
  };

  describe(`streams: ${protocol}`, () => {
    test('line 114: streams do not block invocations, and a cancel passes a running one', () =>
      using(async (hub) => {
        hub.hub(streamed('0', 'InfiniteStream'), invocation('1', 'Delay', [300]), streamed('2', 'Stream'));
        await hears(hub, item('2', 'a'), item('2', 'b'), item('2', 'c'), end('2'));
        hub.hub(cancel('0'));
        await hears(hub, called('StreamCanceled'), end('0'), result('1', 300));
      }));

    test('line 119: items, then one completion without a result', () =>
      using(async (hub) => {
        hub.hub(streamed('a', 'Counter', 2, 0), streamed('b', 'EmptyStream'));
        const first = [item('a', 0), item('a', 1), end('a'), end('b')].map((message) => JSON.stringify(message));
        const got = [];
        while (got.length < 4) got.push(JSON.stringify((await hub.next()).value));
        assert.deepEqual(got.toSorted(), first.toSorted());
        hub.hub(streamed('c', 'FailingStream', 1, 'boom'));
        await hears(hub, item('c', 0));
        assert.match((await hub.completion()).error, /^An error occurred on the server while streaming results\. [A-Za-z]+: boom$/);
      }));

    test('line 119: without details the error is bare', () =>
      using(
        async (hub) => {
          hub.hub(streamed('c', 'FailingStream', 0, 'boom'));
          await hears(hub, failed('c', 'An error occurred on the server while streaming results.'));
        },
        { path: '/authorizedhub', headers: { Authorization: `Bearer ${token()}` } },
      ));

    test('line 120: cancel, completion, nothing afterwards; an unknown id is ignored', () =>
      using(async (hub) => {
        hub.hub(cancel('unknown'), streamed('0', 'Counter', 1000, 20));
        await hears(hub, item('0', 0));
        hub.hub(cancel('0'));
        let last;
        do last = (await hub.next()).value;
        while ((json ? last.type : last[0]) === 2);
        assert.deepEqual(last, end('0'));
        hub.hub(invocation('1', 'Delay', [100]));
        await hears(hub, result('1', 100));
      }));

    test('line 121: an id in use', () =>
      using(async (hub) => {
        hub.hub(streamed('0', 'InfiniteStream'), streamed('0', 'Stream'));
        await hears(hub, failed('0', "Invocation ID '0' is already in use."));
      }));

    test('line 122: items in the frame of their invocation, and the error of a stream', () =>
      using(async (hub) => {
        hub.hub(invocation('0', 'StreamingConcat', [], ['s']), item('s', 'a'), item('s', 'b'), end('s'));
        await hears(hub, result('0', 'ab'));
        hub.hub(invocation('1', 'StreamingConcat', [], ['s']), item('s', 'a'), failed('s', 'went wrong'));
        await hears(hub, failed('1', "An unexpected error occurred invoking 'StreamingConcat' on the server. HubException: went wrong"));
        hub.hub(invocation(undefined, 'UploadStream', [], ['s']), item('s', 'x'), end('s'));
        await hears(hub, called('Uploaded', 'x'));
      }));

    test('line 123: items for nobody, and the wrong number of streams', () =>
      using(async (hub) => {
        hub.hub(item('nobody', 1), end('nobody'), invocation('0', 'SumStream', [], []), invocation('1', 'Echo', ['x'], ['s']));
        const text = (target, sent, wanted) =>
          `An unexpected error occurred invoking '${target}' on the server. HubException: Client sent ${sent} stream(s), Hub method expects ${wanted}.`;
        await hears(hub, failed('0', text('SumStream', 0, 1)), failed('1', text('Echo', 1, 0)));
      }));

    test('line 124: a hundred items ahead of their reader are not lost', () =>
      using(async (hub) => {
        hub.hub(invocation('0', 'SumStream', [], ['s']), ...Array.from({ length: 100 }, (_, n) => item('s', n)), end('s'));
        await hears(hub, result('0', 4950));
      }));

    test('line 125: a question has an id of its own kind and is answered once', () =>
      using(async (hub) => {
        hub.invoke('0', 'GetCallerConnectionId');
        const { result: id } = await hub.completion();
        hub.invoke('1', 'AskClient', id, 5);
        const question = (await hub.next()).value;
        const asked = json ? question.invocationId : question[2];
        assert.match(asked, /^s[1-9][0-9]*$/);
        assert.deepEqual(json ? [question.target, question.arguments] : question.slice(3, 5), ['Answer', [5]]);
        hub.hub(result(asked, 6), result(asked, 7));
        await hears(hub, result('1', 6));
        hub.invoke('2', 'Echo', 'alive');
        await hears(hub, result('2', 'alive'));
      }));

    test('line 126: a completion for another\'s question closes its sender', () =>
      using((asked) =>
        using(async (other) => {
          asked.invoke('0', 'GetCallerConnectionId');
          const { result: id } = await asked.completion();
          asked.invoke('1', 'AskClient', id, 5);
          const question = (await asked.next()).value;
          const number = json ? question.invocationId : question[2];
          other.hub(result(number, 666));
          const closed = await other.hubClose();
          assert.match(closed.error, /^Connection closed with an error\./);
          assert.equal(closed.allowReconnect, true);
          await other.closesNormally();
          asked.hub(result(number, 6));
          await hears(asked, result('1', 6));
        }),
      ));
  });
}
