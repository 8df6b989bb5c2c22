// The fan-out meter's face: settings in, percentiles and a chart out. The load itself runs in a worker.

import { hubUrl, status } from "/assets/hub.js";

const FIGURES_WINDOW_MS = 10000;
const CHART_WINDOW_MS = 30000;
// Chromium stops at 255 WebSockets for all its tabs, Firefox at 200 for a site; a second tab wants some too.
const SUBSCRIBERS_MAX = 180;
const POINTS_MAX = 6000;

const by = (id) => document.getElementById(id);
const grouped = (count) => String(count).replace(/\B(?=(\d{3})+$)/g, "\u202f");

/** A slider's 0..100 as a round number between `low` and `high`, evenly on a logarithmic scale. */
function logarithmic(position, low, high) {
  const exact = low * (high / low) ** (position / 100);
  const step = 10 ** Math.max(0, Math.floor(Math.log10(exact)) - 1);
  return Math.min(high, Math.max(low, Math.round(exact / step) * step));
}

const settings = {
  subscribers: { read: () => logarithmic(by("subscribers").value, 10, SUBSCRIBERS_MAX), show: grouped },
  rate: { read: () => logarithmic(by("rate").value, 1, 100), show: grouped },
  size: { read: () => 16 << by("size").value, show: (bytes) => (bytes < 1024 ? `${bytes} B` : `${bytes / 1024} KiB`) },
};

/** `sorted` ascending; the smallest value that at least `part` of all are not above. */
const percentile = (sorted, part) => sorted[Math.max(0, Math.ceil(sorted.length * part) - 1)];

class Meter {
  constructor(url) {
    this.url = url;
    this.points = []; // [finished at, last, first, own delay], all ms
    this.now = 0;
    this.worker = new Worker("/assets/meter-worker.js", { type: "module" });
    this.worker.onmessage = ({ data }) => (data.ended ? this.ended(data.ended) : this.report(data));
    this.worker.onerror = (event) => this.ended(event.message || "the meter's worker failed");
  }

  start() {
    this.points = [];
    this.previous = undefined;
    this.running = true;
    this.worker.postMessage({ start: { url: this.url, ...load() } });
    this.show("connecting", "connecting");
    by("run").textContent = "Stop";
    by("verdict").dataset.verdict = "";
    by("verdict").textContent = "Connecting the subscribers.";
  }

  stop() {
    this.running = false;
    this.worker.postMessage({ stop: true });
    this.show("closed", "stopped");
    by("run").textContent = "Start";
  }

  ended(reason) {
    this.stop();
    by("verdict").dataset.verdict = "bad";
    by("verdict").textContent = `Ended: ${reason}.`;
  }

  show(state, text) {
    by("state").dataset.state = state;
    by("state").textContent = text;
  }

  report({ now, open, wanted, counts, finished }) {
    if (!this.running) {
      return;
    }
    this.now = now;
    this.points.push(...finished);
    this.points = this.points.filter(([at]) => at > now - CHART_WINDOW_MS).slice(-POINTS_MAX);
    this.show(open === wanted ? "open" : "connecting", open === wanted ? "running" : "connecting");
    by("connected").textContent = `${grouped(open)} of ${grouped(wanted)}`;
    for (const name of ["sent", "delivered", "missing", "duplicate"]) {
      by(name).textContent = grouped(counts[name]);
    }
    if (this.previous) {
      const perSecond = ((counts.delivered - this.previous.delivered) * 1000) / (now - this.previous.now);
      this.smooth = this.smooth === undefined ? perSecond : this.smooth * 0.7 + perSecond * 0.3;
      by("delivery-rate").textContent = grouped(Math.round(this.smooth));
    }
    this.previous = { now, delivered: counts.delivered };
    this.figures(counts);
    draw(by("chart"), this.points, now);
  }

  figures(counts) {
    const recent = this.points.filter(([at]) => at > this.now - FIGURES_WINDOW_MS);
    if (recent.length === 0) {
      return;
    }
    const column = (index) => recent.map((point) => point[index]).sort((a, b) => a - b);
    const [last, first, own] = [column(1), column(2), column(3)];
    const figures = { p50: percentile(last, 0.5), p99: percentile(last, 0.99), max: last.at(-1), first: percentile(first, 0.5) };
    for (const [id, value] of Object.entries(figures)) {
      by(id).textContent = milliseconds(value);
    }
    this.verdict(counts, figures, percentile(own, 0.99));
  }

  verdict(counts, figures, ownDelay) {
    const verdict = by("verdict");
    const late = ownDelay > figures.p99 / 10;
    const lost = counts.missing + counts.lost;
    verdict.dataset.verdict = lost > 0 ? "bad" : late ? "late" : "fair";
    const own = `this page sent up to ${milliseconds(ownDelay)} ms late (p99)`;
    if (lost > 0) {
      verdict.textContent = `${grouped(counts.missing)} deliveries missing, ${grouped(counts.lost)} connections lost; ${own}.`;
    } else if (late) {
      verdict.textContent = `Read the figures as upper bounds: ${own}, so part of what you see is the browser, not the server.`;
    } else {
      verdict.textContent = `Nothing missing; ${own}. Figures cover the last 10 seconds and include the browser's own reading.`;
    }
  }
}

function milliseconds(value) {
  return value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : value.toFixed(0);
}

function load() {
  return Object.fromEntries(Object.entries(settings).map(([name, setting]) => [name, setting.read()]));
}

/** The next of 1, 2, 5, 10, … that is not below `value`. */
function roundUp(value) {
  const decade = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * decade).find((step) => step >= value);
}

/** One dot for each message: when it was complete, and how long that took. */
function draw(canvas, points, now) {
  const scale = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const style = getComputedStyle(document.documentElement);
  const colour = (role) => style.getPropertyValue(role).trim();
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  const [left, bottom, top] = [52, 24, 8];
  const highest = roundUp(Math.max(1, ...points.map((point) => point[1])));
  const x = (at) => left + ((at - now + CHART_WINDOW_MS) / CHART_WINDOW_MS) * (width - left);
  const y = (value) => height - bottom - (value / highest) * (height - bottom - top);

  pen.font = '12px system-ui, "DejaVu Sans", sans-serif';
  pen.fillStyle = colour("--quiet");
  pen.strokeStyle = colour("--line");
  pen.lineWidth = 1;
  pen.textBaseline = "middle";
  for (let line = 0; line <= 4; line += 1) {
    const value = (highest * line) / 4;
    const at = Math.round(y(value)) + 0.5;
    pen.beginPath();
    pen.moveTo(left, at);
    pen.lineTo(width, at);
    pen.stroke();
    pen.textAlign = "right";
    pen.fillText(line === 4 ? `${highest} ms` : String(value), left - 8, Math.max(at, 7));
  }
  pen.textBaseline = "alphabetic";
  for (const seconds of [30, 20, 10, 0]) {
    pen.textAlign = seconds === 0 ? "right" : seconds === 30 ? "left" : "center";
    pen.fillText(seconds === 0 ? "now" : `${seconds} s ago`, x(now - seconds * 1000), height - 6);
  }
  plot(pen, points, x, y, 2, colour("--quiet"), 0.35, 1.2);
  plot(pen, points, x, y, 1, colour("--accent"), 0.85, 1.8);
}

function plot(pen, points, x, y, column, colour, opacity, radius) {
  pen.fillStyle = colour;
  pen.globalAlpha = opacity;
  for (const point of points) {
    pen.beginPath();
    pen.arc(x(point[0]), y(point[column]), radius, 0, 2 * Math.PI);
    pen.fill();
  }
  pen.globalAlpha = 1;
}

const server = await status();
const meter = new Meter(hubUrl(server, server.hubs[0]));
for (const [name, setting] of Object.entries(settings)) {
  const show = () => (by(`${name}-out`).textContent = setting.show(setting.read()));
  by(name).oninput = show;
  by(name).onchange = () => {
    if (meter.running) {
      name === "subscribers" ? meter.start() : meter.worker.postMessage({ load: load() });
    }
  };
  show();
}
by("where").textContent =
  `The subscribers are WebSockets of this page; browsers allow about 200. For more, and for figures without a browser ` +
  `in them, use the load generator: fanfare-loadgen broadcast.`;
by("run").onclick = () => (meter.running ? meter.stop() : meter.start());
draw(by("chart"), [], 0);
