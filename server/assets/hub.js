// A small SignalR client: WebSocket, JSON protocol, nothing else. Written for these pages; applications use the
// official client, which speaks to the same URL.

const RECORD_SEPARATOR = "\u001e";
const PING_INTERVAL_MS = 15000;
const SERVER_TIMEOUT_MS = 30000;
const RECONNECT_DELAYS_MS = [0, 2000, 10000, 30000];

const Kind = { invocation: 1, streamItem: 2, completion: 3, ping: 6, close: 7 };

/** One connection to one hub. Set `onstate` and `onframe` before `start()` to watch it. */
export class Hub {
  constructor(url) {
    this.url = url;
    this.state = "closed";
    this.onstate = () => {}; // (state, reason)
    this.onframe = () => {}; // (direction, text)
    this.handlers = new Map();
    this.pending = new Map();
    this.nextId = 0;
    this.attempt = 0;
    this.wanted = false;
  }

  /** Calls `handler(...args)` for each message to `target`; names compare without case, as on the server. */
  on(target, handler) {
    this.handlers.set(target.toLowerCase(), handler);
  }

  /** Connects, and stays connected until `stop()`, with the reconnect delays of the official client. */
  start() {
    this.wanted = true;
    this.attempt = 0;
    this.#connect();
  }

  stop() {
    this.wanted = false;
    clearTimeout(this.retry);
    if (this.state === "open") {
      this.#write({ type: Kind.close });
    }
    this.socket?.close();
  }

  /** Calls a hub method; the promise settles with its answer. */
  invoke(method, ...args) {
    if (this.state !== "open") {
      return Promise.reject(new Error("not connected"));
    }
    const invocationId = String(this.nextId++);
    return new Promise((resolve, reject) => {
      this.pending.set(invocationId, { resolve, reject });
      this.#write({ type: Kind.invocation, invocationId, target: method, arguments: args });
    });
  }

  /** Calls a hub method and wants no answer. */
  send(method, ...args) {
    if (this.state === "open") {
      this.#write({ type: Kind.invocation, target: method, arguments: args });
    }
  }

  #connect() {
    this.#become("connecting");
    const socket = new WebSocket(this.url);
    this.socket = socket;
    this.shaken = false;
    this.closeReason = "";
    socket.onopen = () => this.#write({ protocol: "json", version: 1 });
    socket.onmessage = (event) => this.#receive(event.data);
    socket.onclose = (event) => {
      if (this.socket === socket) {
        this.#lost(event);
      }
    };
  }

  #receive(text) {
    this.onframe("in", text);
    this.#heard();
    // Every WebSocket message holds whole hub messages, each ended by the separator.
    for (const record of text.split(RECORD_SEPARATOR)) {
      if (record !== "") {
        this.#handle(JSON.parse(record));
      }
    }
  }

  #handle(message) {
    if (!this.shaken) {
      this.shaken = true;
      if (message.error) {
        this.closeReason = message.error;
        this.wanted = false;
        this.socket.close();
        return;
      }
      this.attempt = 0;
      this.ping = setInterval(() => this.#write({ type: Kind.ping }), PING_INTERVAL_MS);
      this.#become("open");
      return;
    }
    switch (message.type) {
      case Kind.invocation:
        this.handlers.get(message.target.toLowerCase())?.(...message.arguments);
        break;
      case Kind.completion: {
        const waiting = this.pending.get(message.invocationId);
        this.pending.delete(message.invocationId);
        if (waiting && "error" in message) {
          waiting.reject(new Error(message.error));
        } else {
          waiting?.resolve(message.result);
        }
        break;
      }
      case Kind.close:
        this.closeReason = message.error ?? "the server said goodbye";
        this.wanted = this.wanted && message.allowReconnect === true;
        this.socket.close();
        break;
    }
  }

  #write(message) {
    const text = JSON.stringify(message) + RECORD_SEPARATOR;
    this.socket.send(text);
    this.onframe("out", text);
  }

  #heard() {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => {
      this.closeReason = "the server was silent for 30 s";
      this.socket.close();
    }, SERVER_TIMEOUT_MS);
  }

  #lost(event) {
    clearInterval(this.ping);
    clearTimeout(this.silence);
    for (const { reject } of this.pending.values()) {
      reject(new Error("connection lost"));
    }
    this.pending.clear();
    const reason = this.closeReason || (event.wasClean ? "" : "connection lost");
    if (this.wanted && this.attempt < RECONNECT_DELAYS_MS.length) {
      this.#become("connecting", reason);
      this.retry = setTimeout(() => this.#connect(), RECONNECT_DELAYS_MS[this.attempt++]);
    } else {
      this.#become("closed", reason);
    }
  }

  #become(state, reason = "") {
    this.state = state;
    this.onstate(state, reason);
  }
}

/** What the server says about itself. */
export async function status() {
  const answer = await fetch("/status", { cache: "no-store" });
  if (!answer.ok) {
    throw new Error(`/status answered ${answer.status}`);
  }
  return answer.json();
}

/** WebSocket URL of a hub of this server, as reached from this page. */
export function hubUrl(server, hub, query = {}) {
  // A literal IPv6 address cannot be named in a content security policy, so such pages go by name.
  const host = location.hostname.startsWith("[") ? "localhost" : location.hostname;
  const parameters = new URLSearchParams(query).toString();
  return `ws://${host}:${server.public_port}${hub.path}${parameters && `?${parameters}`}`;
}
