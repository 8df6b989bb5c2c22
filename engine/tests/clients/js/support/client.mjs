// The stock client, set up for one of the ways the suites run in: transport, hub protocol, with or without negotiation.

import signalr from '@microsoft/signalr';
import { MessagePackHubProtocol } from '@microsoft/signalr-protocol-msgpack';

const { HttpTransportType, HubConnectionBuilder, JsonHubProtocol, LogLevel } = signalr;
export { signalr };

const variant = (protocol, transport, skipNegotiation = false) => ({
  protocol,
  transport,
  skipNegotiation,
  name: `${protocol}, ${transport}${skipNegotiation ? ', skipNegotiation' : ''}`,
});

/** Every way there is. */
export const VARIANTS = [
  variant('json', 'WebSockets'),
  variant('json', 'WebSockets', true),
  variant('messagepack', 'WebSockets'),
  variant('messagepack', 'WebSockets', true),
  variant('json', 'ServerSentEvents'),
  variant('json', 'LongPolling'),
  variant('messagepack', 'LongPolling'),
];

/** Every transport with every protocol it carries. */
export const NEGOTIATED = VARIANTS.filter((variant) => !variant.skipNegotiation);

/** An unstarted connection. `options`: transport (undefined: the client's choice), path, query, token (or what makes one), headers, reconnect (delays in ms), stateful, client_timeout_ms, ping_ms. */
export function build(testhub, variant, options = {}) {
  const path = `${testhub.url}${options.path ?? '/testhub'}${options.query ? `?${options.query}` : ''}`;
  const http = {
    transport: 'transport' in options ? options.transport : HttpTransportType[variant.transport],
    skipNegotiation: variant.skipNegotiation,
    headers: options.headers,
  };
  if (options.token) http.accessTokenFactory = typeof options.token === 'function' ? options.token : () => options.token;
  const builder = new HubConnectionBuilder()
    .configureLogging(LogLevel.None)
    .withUrl(path, http)
    .withHubProtocol(variant.protocol === 'json' ? new JsonHubProtocol() : new MessagePackHubProtocol());
  if (options.reconnect) builder.withAutomaticReconnect(options.reconnect);
  if (options.stateful) builder.withStatefulReconnect();
  const connection = builder.build();
  if (options.client_timeout_ms) connection.serverTimeoutInMilliseconds = options.client_timeout_ms;
  if (options.ping_ms) connection.keepAliveIntervalInMilliseconds = options.ping_ms;
  return connection;
}

/** Runs `use` with started connections and stops them whatever happens. */
export async function withConnections(connections, use) {
  try {
    await Promise.all(connections.map((connection) => connection.start()));
    return await use(...connections);
  } finally {
    await Promise.all(connections.map((connection) => connection.stop()));
  }
}

export async function withConnection(testhub, variant, options, use) {
  return withConnections([build(testhub, variant, options)], use);
}

/** Rejects after `limit_ms` with what was awaited. */
export function within(limit_ms, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing within ${limit_ms} ms`)), limit_ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Collects every call of a client method; `take(n)` waits until n have come. */
export class Inbox {
  constructor(connection, method) {
    this.calls = [];
    this.waiters = [];
    connection.on(method, (...args) => {
      this.calls.push(args);
      this.waiters = this.waiters.filter((waiter) => !waiter());
    });
  }

  take(count, limit_ms = 5_000) {
    const enough = new Promise((resolve) => {
      const check = () => this.calls.length >= count && (resolve(this.calls.slice(0, count)), true);
      if (!check()) this.waiters.push(check);
    });
    return within(limit_ms, `${count} calls (got ${this.calls.length} when asked)`, enough);
  }
}

/** The error text of a rejected promise; a promise that resolves is a failure. */
export async function failure(promise) {
  let value;
  try {
    value = await promise;
  } catch (error) {
    return error.message;
  }
  throw new Error(`expected a failure, got ${JSON.stringify(value)}`);
}
