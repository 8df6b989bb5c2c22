// A connection with stateful reconnect by hand: negotiated for it, handshake in version 2, taken up again by its token.

import { HubSocket } from './frames.mjs';
import { negotiate } from './socket.mjs';

export const INVOCATION = 1;
export const ITEM = 2;
export const COMPLETION = 3;
export const PING = 6;
export const HUB_CLOSE = 7;
export const ACK = 8;
export const SEQUENCE = 9;

/** One hub message of either protocol by its names. */
function named(protocol, value) {
  if (protocol === 'json') return value;
  const [type] = value;
  if (type === INVOCATION) return { type, invocationId: value[2] ?? undefined, target: value[3], arguments: value[4] };
  if (type === ITEM) return { type, invocationId: value[2], item: value[3] };
  if (type === COMPLETION) {
    return { type, invocationId: value[2], ...(value[3] === 1 ? { error: value[4] } : value[3] === 3 ? { result: value[4] } : {}) };
  }
  if (type === HUB_CLOSE) return { type, error: value[1] ?? undefined, allowReconnect: value[2] ?? false };
  if (type === ACK || type === SEQUENCE) return { type, sequenceId: value[1] };
  return { type };
}

const isTrackable = ({ type }) => type >= 1 && type <= 5;

export class Resumable {
  constructor(testhub, protocol, session, path) {
    this.testhub = testhub;
    this.protocol = protocol;
    this.session = session;
    this.path = `${path}?id=${session.connectionToken}`;
    this.calls = 0;
    this.received = 0;
  }

  static async open(testhub, protocol, { path = '/testhub', version = 2 } = {}) {
    const session = await negotiate(testhub, path, 'negotiateVersion=1&useStatefulReconnect=true');
    if (session.useStatefulReconnect !== true) throw new Error(`not allowed: ${JSON.stringify(session)}`);
    const opened = new Resumable(testhub, protocol, session, path);
    opened.hub = await HubSocket.open(testhub, opened.path);
    await opened.hub.shakeHands(protocol, version);
    return opened;
  }

  /** Takes the connection up on a new socket; the old one is left as it is. */
  async resume() {
    this.hub = await HubSocket.open(this.testhub, this.path);
    this.hub.protocol = this.protocol;
  }

  /** The status of an upgrade with the token. */
  async status() {
    const tried = await HubSocket.upgrade(this.testhub, this.path);
    tried.destroy();
    return tried.answer.status;
  }

  /** The TCP connection ends, with a reset and no Close frame. */
  lose() {
    this.hub.socket.resetNow();
  }

  /** The next message that is no ping. */
  async next(limit_ms) {
    const { value } = await this.hub.next({ limit_ms });
    const message = named(this.protocol, value);
    if (isTrackable(message)) this.received++;
    return message;
  }

  /** The next message that is neither ping nor Ack. */
  async nextTracked(limit_ms) {
    for (;;) {
      const message = await this.next(limit_ms);
      if (message.type !== ACK) return message;
    }
  }

  /** Sends an invocation; answers its id. */
  call(target, ...args) {
    const id = String(this.calls++);
    this.hub.invoke(id, target, ...args);
    return id;
  }

  ack(sequenceId) {
    this.hub.hub(this.protocol === 'json' ? { type: ACK, sequenceId } : [ACK, sequenceId]);
  }

  sequence(sequenceId) {
    this.hub.hub(this.protocol === 'json' ? { type: SEQUENCE, sequenceId } : [SEQUENCE, sequenceId]);
  }

  close() {
    this.hub.hub(this.protocol === 'json' ? { type: HUB_CLOSE } : [HUB_CLOSE]);
  }

  destroy() {
    this.hub.destroy();
  }
}

export async function withResumable(testhub, protocol, options, use) {
  const opened = await Resumable.open(testhub, protocol, options);
  try {
    return await use(opened);
  } finally {
    opened.destroy();
  }
}
