// The meter's load, off the page's own thread: one publisher, many subscribers, one clock.
//
// Open loop: message k is due at start + k / rate whether or not earlier ones have arrived, and every time below is
// measured from when it was due. So a stall anywhere, in this worker too, shows in the numbers instead of hiding.

import { Hub } from "/assets/hub.js";

const REPORT_INTERVAL_MS = 250;
// A message that has not reached everybody after this long is given up and what it lacks is counted as missing.
const GIVE_UP_MS = 5000;
// Sockets opened at once, so that a start is a ramp and not a storm.
const CONNECTING_MAX = 25;

let run = null;

class Run {
  constructor({ url, subscribers, rate, size }) {
    this.url = url;
    this.wanted = subscribers;
    this.id = crypto.randomUUID().slice(0, 8);
    this.setLoad({ rate, size });
    this.hubs = [];
    this.open = 0;
    this.messages = new Map(); // sequence -> { due, sent, first, left: Set of subscriber numbers }
    this.finished = [];
    this.counts = { sent: 0, delivered: 0, missing: 0, duplicate: 0, lost: 0 };
    this.publisher = new Hub(url);
    this.publisher.onstate = (state, reason) => this.#publisherIs(state, reason);
    this.publisher.start();
    this.reporter = setInterval(() => this.#report(), REPORT_INTERVAL_MS);
  }

  setLoad({ rate, size }) {
    this.rate = rate;
    this.padding = "x".repeat(size);
    // A new rate starts a new schedule; sequence numbers go on.
    this.scheduleStart = undefined;
  }

  stop() {
    clearInterval(this.reporter);
    clearTimeout(this.timer);
    for (const hub of [this.publisher, ...this.hubs]) {
      hub.onstate = () => {};
      hub.stop();
    }
  }

  #publisherIs(state, reason) {
    if (state === "open") {
      this.#connectMore();
    } else if (state === "closed") {
      this.stop();
      postMessage({ ended: reason || "the publisher's connection was closed" });
    }
  }

  #connectMore() {
    while (this.hubs.length < this.wanted && this.hubs.length - this.open < CONNECTING_MAX) {
      const number = this.hubs.length;
      const hub = new Hub(this.url);
      let was = "closed";
      hub.on("meter", (id, sequence) => id === this.id && this.#arrived(number, sequence));
      hub.onstate = (state, reason) => {
        if (state === "open") {
          this.open += 1;
          this.#connectMore();
        } else if (was === "open") {
          this.open -= 1;
          this.counts.lost += 1;
        }
        if (state === "closed" && was !== "open") {
          this.stop();
          postMessage({ ended: `subscriber ${number + 1} could not connect: ${reason || "refused"}` });
        }
        was = state;
      };
      this.hubs.push(hub);
      hub.start();
    }
    if (this.open === this.wanted && this.timer === undefined) {
      this.#publishDue();
    }
  }

  #publishDue() {
    const now = performance.now();
    if (this.scheduleStart === undefined) {
      this.scheduleStart = now;
      this.scheduled = 0;
    }
    const interval = 1000 / this.rate;
    let due = this.scheduleStart + this.scheduled * interval;
    while (due <= now) {
      this.#publish(due);
      this.scheduled += 1;
      due += interval;
    }
    this.#giveUp(now);
    this.timer = setTimeout(() => this.#publishDue(), Math.max(0, due - performance.now()));
  }

  #publish(due) {
    const sequence = this.counts.sent;
    const left = new Set();
    this.hubs.forEach((hub, number) => hub.state === "open" && left.add(number));
    this.messages.set(sequence, { due, sent: performance.now(), first: 0, left });
    this.counts.sent += 1;
    this.publisher.send("Broadcast", "meter", this.id, sequence, this.padding);
  }

  #arrived(number, sequence) {
    const now = performance.now();
    const message = this.messages.get(sequence);
    if (message === undefined || !message.left.delete(number)) {
      this.counts.duplicate += 1;
      return;
    }
    this.counts.delivered += 1;
    message.first ||= now;
    if (message.left.size === 0) {
      this.messages.delete(sequence);
      this.finished.push([now, now - message.due, message.first - message.due, message.sent - message.due]);
    }
  }

  #giveUp(now) {
    for (const [sequence, message] of this.messages) {
      if (now - message.sent < GIVE_UP_MS) {
        break;
      }
      this.counts.missing += message.left.size;
      this.messages.delete(sequence);
    }
  }

  #report() {
    postMessage({ now: performance.now(), open: this.open, wanted: this.wanted, counts: this.counts, finished: this.finished });
    this.finished = [];
  }
}

onmessage = ({ data }) => {
  if (data.start) {
    run?.stop();
    run = new Run(data.start);
  } else if (data.load) {
    run?.setLoad(data.load);
  } else if (data.stop) {
    run?.stop();
    run = null;
  }
};
