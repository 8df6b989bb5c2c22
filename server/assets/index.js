// The status page: what /status says, once a second.

import { hubUrl, status } from "/assets/hub.js";

const INTERVAL_MS = 1000;
const by = (id) => document.getElementById(id);
const grouped = (count) => String(count).replace(/\B(?=(\d{3})+$)/g, "\u202f");

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let power = 0;
  while (count >= 1024 && power < units.length - 1) {
    count /= 1024;
    power += 1;
  }
  return `${power === 0 ? Math.round(count) : count.toPrecision(3)} ${units[power]}`;
}

function duration(seconds) {
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const found = parts.findIndex(([size]) => seconds >= size);
  const [size, unit] = parts[found === -1 ? 3 : found];
  return `${Math.floor(seconds / size)} ${unit}`;
}

let before;

function show(server, at) {
  by("state").dataset.state = server.state;
  by("state").textContent = server.state;
  by("lead").textContent =
    `fanfare ${server.version} · up ${duration(server.uptime_s)} · room for ${grouped(server.connections_max)} ` +
    `connections, ${server.bottleneck}`;
  by("chat").hidden = by("meter").hidden = !server.demo;
  const { counters } = server;
  by("connections").textContent = grouped(server.connections);
  by("slow").textContent = grouped(counters.slow_connections);
  by("owed").textContent = bytes(counters.outbox_bytes);
  by("dropped").textContent = grouped(counters.dropped);
  if (before) {
    const perSecond = (name) => ((counters[name] - before.counters[name]) * 1000) / (at - before.at);
    by("sent").textContent = grouped(Math.round(perSecond("messages_sent")));
    by("received").textContent = grouped(Math.round(perSecond("messages_received")));
    by("bytes").textContent = bytes(perSecond("bytes_sent"));
  }
  before = { at, counters };
  by("hubs").replaceChildren(...server.hubs.map((hub) => hubRow(server, hub)));
  by("plan").replaceChildren(...server.plan.map((line) => Object.assign(document.createElement("li"), { textContent: line })));
}

function hubRow(server, hub) {
  const row = document.createElement("tr");
  const cells = [hub.name, hubUrl(server, hub).replace(/^ws/, "http"), grouped(hub.connections)];
  cells.forEach((text, index) => {
    const cell = row.insertCell();
    cell.textContent = text;
    cell.className = ["", "mono", "number"][index];
  });
  return row;
}

async function turn() {
  try {
    const at = performance.now();
    show(await status(), at);
  } catch {
    by("state").dataset.state = "closed";
    by("state").textContent = "no answer";
  }
  setTimeout(turn, INTERVAL_MS);
}

turn();
