// The client specification's checklist, lines 111-118 and 128-135, with both hub protocols over raw sockets.
// Where the others are: docs/conformance.md.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { pause } from './support/client.mjs';
import { HubSocket, withHub } from './support/frames.mjs';
import { Testhub, testhubForThisFile } from './support/testhub.mjs';
import { token } from './support/tokens.mjs';

const testhub = await testhubForThisFile();
const PROTOCOLS = ['json', 'messagepack'];
const authorized = { path: '/authorizedhub', headers: { Authorization: `Bearer ${token()}` } };
const PATTERN = '0123456789abcdef';

/** A record of Echo with id "0" that is exactly `length` bytes with its framing. */
function echoOf(protocol, length) {
  const bare = { type: 1, invocationId: '0', target: 'Echo', arguments: [''] };
  // MessagePack: prefix 3, array 1, type 1, headers 1, id 2, target 5, arguments 1, str16 header 3.
  const around = protocol === 'json' ? JSON.stringify(bare).length + 1 : 17;
  const string = PATTERN.repeat(length / 16 + 1).slice(0, length - around);
  return string;
}

for (const protocol of PROTOCOLS) {
  const using = (use, options = {}) => withHub(testhub, { protocol, ...options }, use);

  describe(`limits: ${protocol}`, () => {
    test('line 111: 32,768 bytes are accepted', () =>
      using(async (hub) => {
        const string = echoOf(protocol, 32_768);
        hub.invoke('0', 'Echo', string);
        assert.equal((await hub.completion()).result, string);
      }));

    for (const [how, options, text] of [
      [
        'with detailed errors',
        {},
        'Connection closed with an error. InvalidDataException: The maximum message size of 32768B was exceeded. The message size can be configured in AddHubOptions.',
      ],
      ['without detailed errors', authorized, 'Connection closed with an error.'],
    ]) {
      test(`line 111: 32,769 bytes are a Close with its text, ${how}`, () =>
        using(async (hub) => {
          hub.invoke('0', 'Echo', echoOf(protocol, 32_769));
          assert.deepEqual(await hub.hubClose(), { error: text, allowReconnect: true });
          await hub.close();
        }, options));
    }

    test('line 111: a message that never ends is refused once it is too long', () =>
      using(async (hub) => {
        if (protocol === 'json') for (let i = 0; i < 40; i++) hub.send(1, 'x'.repeat(1_000));
        else hub.send(2, Buffer.concat([Buffer.from([0xff, 0xff, 0xff, 0xff, 0x07]), Buffer.alloc(40_000)]));
        assert.match((await hub.hubClose()).error, /maximum message size of 32768B was exceeded/);
      }));

    test('line 111: many messages that are together longer than the limit are all answered', () =>
      using(async (hub) => {
        const items = Array.from({ length: 40 }, (_, i) =>
          protocol === 'json'
            ? { type: 1, invocationId: String(i), target: 'Echo', arguments: ['x'.repeat(2_000)] }
            : [1, {}, String(i), 'Echo', ['x'.repeat(2_000)]],
        );
        hub.hub(...items);
        for (let i = 0; i < 40; i++) assert.equal((await hub.completion()).id, String(i));
      }));

    test('line 112: /testhub-large takes 5 MB', () =>
      using(async (hub) => {
        hub.invoke('0', 'Echo', 'y'.repeat(5_000_000));
        assert.equal((await hub.completion(30_000)).result.length, 5_000_000);
      }, { path: '/testhub-large' }));
  });

  describe(`one invocation at a time: ${protocol}`, () => {
    test('line 113: two slow calls run one after the other and complete in order', () =>
      using(async (hub) => {
        const start_ms = Date.now();
        hub.invoke('slow', 'Delay', 400);
        hub.invoke('fast', 'Delay', 100);
        assert.equal((await hub.completion()).id, 'slow');
        const slow_ms = Date.now() - start_ms;
        assert.equal((await hub.completion()).id, 'fast');
        const both_ms = Date.now() - start_ms;
        assert.ok(slow_ms >= 395 && both_ms >= 495, `${slow_ms} ms, ${both_ms} ms`);
      }));

    test('line 113: two connections do not wait for each other', () =>
      using((one) =>
        using(async (other) => {
          one.invoke('slow', 'Delay', 2_000);
          other.invoke('fast', 'Echo', 'x');
          assert.equal((await other.completion(1_000)).result, 'x');
        }),
      ));

    test('line 113: 2,000 calls behind a slow one wait and are answered in order', () =>
      using(async (hub) => {
        hub.invoke('slow', 'Delay', 500);
        for (let i = 0; i < 2_000; i++) hub.invoke(String(i), 'Echo', `call ${i}`);
        assert.equal((await hub.completion()).id, 'slow');
        for (let i = 0; i < 2_000; i++) assert.deepEqual(await hub.completion(), { id: String(i), result: `call ${i}`, error: undefined });
      }));

    test('line 113: calls without an id take their turn too', () =>
      using(async (hub) => {
        hub.invoke(protocol === 'json' ? undefined : null, 'Delay', 300);
        const start_ms = Date.now();
        hub.invoke('0', 'Echo', 'x');
        await hub.completion();
        assert.ok(Date.now() - start_ms >= 250);
      }));
  });

  describe(`errors: ${protocol}`, () => {
    const expect = (options, rows) =>
      using(async (hub) => {
        for (const [target, args, error] of rows) {
          hub.invoke('0', target, ...args);
          const got = await hub.completion();
          if (error instanceof RegExp) assert.match(got.error, error);
          else assert.equal(got.error, error);
        }
      }, options);
    const failed = (target) => `Failed to invoke '${target}' due to an error on the server.`;

    test('line 115: an unknown method, with its name as written', () =>
      expect({}, [
        ['NoSuch', [], `${failed('NoSuch')} HubException: Method does not exist.`],
        ['nosuch é', [1], `${failed('nosuch é')} HubException: Method does not exist.`],
      ]));

    test('line 116: wrong argument counts with detailed errors', () =>
      expect({}, [
        ['Add', [1], `${failed('Add')} InvalidDataException: Invocation provides 1 argument(s) but target expects 2.`],
        ['GetUserName', [1], `${failed('GetUserName')} InvalidDataException: Invocation provides 1 argument(s) but target expects 0.`],
      ]));

    test('line 116: wrong argument types with detailed errors', () =>
      expect({}, [
        [
          'Add',
          ['a', 2],
          `${failed('Add')} InvalidDataException: Error binding arguments. Make sure that the types of the provided values match the types of the hub method being invoked.`,
        ],
      ]));

    test('lines 116 and 117: without detailed errors', () =>
      expect(authorized, [
        ['Add', [1], failed('Add')],
        ['Add', ['a', 2], failed('Add')],
        ['ThrowException', ['secret'], "An unexpected error occurred invoking 'ThrowException' on the server."],
        ['ThrowHubException', ['shown'], "An unexpected error occurred invoking 'ThrowHubException' on the server. HubException: shown"],
        ['NoSuch', [], `${failed('NoSuch')} HubException: Method does not exist.`],
      ]));

    test('line 117: thrown errors with detailed errors', () =>
      expect({}, [
        ['ThrowException', ['boom'], /^An unexpected error occurred invoking 'ThrowException' on the server\. [A-Za-z.]+: boom$/],
        ['ThrowHubException', ['nope'], "An unexpected error occurred invoking 'ThrowHubException' on the server. HubException: nope"],
      ]));

    test('line 118: the wrong kind of call', () =>
      using(async (hub) => {
        hub.invoke('0', 'Counter', 1, 1);
        assert.equal((await hub.completion()).error, "The client attempted to invoke the streaming 'Counter' method with a non-streaming invocation.");
        if (protocol === 'json') hub.hub({ type: 4, invocationId: '1', target: 'Echo', arguments: ['x'] });
        else hub.hub([4, {}, '1', 'Echo', ['x'], []]);
        assert.deepEqual(await hub.completion(), {
          id: '1',
          result: undefined,
          error: "The client attempted to invoke the non-streaming 'Echo' method with a streaming invocation.",
        });
      }));
  });

  describe(`ends: ${protocol}`, () => {
    const closeMessage = protocol === 'json' ? { type: 7 } : [7, null];

    test('line 128: a client Close is answered with a Close, then the end', () =>
      using(async (hub) => {
        hub.hub(closeMessage);
        assert.deepEqual(await hub.hubClose(), { error: undefined, allowReconnect: false });
        await hub.closesNormally();
      }));

    test('line 128: what follows a client Close is not done', () =>
      using((watcher) =>
        using(async (hub) => {
          const call = protocol === 'json' ? { type: 1, target: 'SendToOthers', arguments: ['late'] } : [1, {}, null, 'SendToOthers', ['late']];
          hub.hub(closeMessage, call);
          await hub.hubClose();
          await hub.closesNormally();
          await pause(100);
          watcher.invoke('0', 'Echo', 'nothing before this');
          assert.equal((await watcher.completion()).result, 'nothing before this');
        }),
      ));

    test('Abort is a Close without an error, then 1000', () =>
      using(async (hub) => {
        hub.invoke(protocol === 'json' ? undefined : null, 'Abort');
        assert.deepEqual(await hub.hubClose(), { error: undefined, allowReconnect: false });
        await hub.closesNormally();
      }));

    test('line 129: a shutdown is a Close with allowReconnect to everyone, within 5 s', async () => {
      const own = await Testhub.spawn();
      const hubs = await Promise.all(Array.from({ length: 50 }, () => HubSocket.connect(own, { protocol })));
      const stopped = own.stop();
      for (const hub of hubs) assert.deepEqual(await hub.hubClose(5_000), { error: undefined, allowReconnect: true });
      for (const hub of hubs) hub.destroy();
      assert.deepEqual(await stopped, { code: 0, signal: null });
    });
  });

  describe(`membership: ${protocol}`, () => {
    test('line 133: a lost connection is in no group', () =>
      using(async (sender) => {
        const lost = await HubSocket.connect(testhub, { protocol });
        lost.invoke('0', 'JoinGroup', 'lost');
        await lost.completion();
        lost.invoke('1', 'JoinGroup', 'lost');
        await lost.completion();
        lost.socket.resetNow();
        await pause(200);
        sender.invoke('0', 'SendToGroup', 'lost', 'anyone?');
        assert.equal((await sender.completion()).error, undefined);
        sender.invoke('1', 'JoinGroup', 'lost');
        await sender.completion();
        sender.invoke('2', 'SendToGroup', 'lost', 'me');
        const { value } = await sender.next();
        assert.equal((protocol === 'json' ? value.arguments : value[4])[1], 'me');
        assert.equal((await sender.completion()).id, '2');
      }));

    test('line 134: sends to a dead connection are silent', () =>
      using(async (sender) => {
        const dead = await HubSocket.connect(testhub, { protocol });
        dead.invoke('0', 'GetCallerConnectionId');
        const { result: id } = await dead.completion();
        dead.socket.resetNow();
        for (let i = 0; i < 20; i++) {
          sender.invoke(String(i), 'SendToConnection', id, 'x');
          const { id: answered, error } = await sender.completion();
          assert.deepEqual([answered, error], [String(i), undefined]);
        }
      }));

    test('line 135: 5,000 sends of one sender arrive in order', () =>
      using((receiver) =>
        using(async (sender) => {
          receiver.invoke('0', 'JoinGroup', `order ${protocol}`);
          await receiver.completion();
          const none = protocol === 'json' ? undefined : null;
          for (let i = 0; i < 5_000; i++) sender.invoke(none, 'SendToGroup', `order ${protocol}`, String(i));
          for (let i = 0; i < 5_000; i++) {
            const { value } = await receiver.next({ limit_ms: 20_000 });
            assert.equal((protocol === 'json' ? value.arguments : value[4])[1], String(i));
          }
        }),
      ));
  });
}
