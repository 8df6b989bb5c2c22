// Two clients of the demo hub side by side, and every frame they exchange with the server.

import { Hub, hubUrl, status } from "/assets/hub.js";

const FRAMES_SHOWN_MAX = 300;
const MESSAGES_SHOWN_MAX = 200;
const NAMES = ["Ana", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivo", "June", "Kai", "Lena"];

/** The list of frames, with a pause that keeps counting. */
class Wire {
  constructor() {
    this.list = document.getElementById("frames");
    this.totals = document.getElementById("totals");
    this.count = 0;
    this.bytes = 0;
    this.paused = false;
    document.getElementById("clear").onclick = () => this.list.replaceChildren();
    const pause = document.getElementById("pause");
    pause.onclick = () => {
      this.paused = !this.paused;
      pause.textContent = this.paused ? "Go on" : "Pause";
      pause.setAttribute("aria-pressed", this.paused);
    };
  }

  add(pane, direction, text) {
    const size = new TextEncoder().encode(text).length;
    this.count += 1;
    this.bytes += size;
    this.totals.textContent = `${this.count} frames · ${this.bytes.toLocaleString("en").replaceAll(",", " ")} bytes`;
    const isPing = text.startsWith('{"type":6}');
    if (this.paused || (isPing && !document.getElementById("pings").checked)) {
      return;
    }
    const row = element("li", direction);
    row.classList.toggle("control", isPing || text.startsWith('{"protocol"') || text.startsWith("{}"));
    const tag = element("span", "tag", pane);
    tag.dataset.pane = pane;
    const content = element("span", "text");
    for (const part of text.split(/(\u001e)/)) {
      content.append(part === "\u001e" ? element("span", "separator", "RS") : part);
    }
    const seconds = (performance.now() / 1000).toFixed(3);
    row.append(
      element("span", "time", seconds),
      tag,
      element("span", "arrow", direction === "in" ? "←" : "→"),
      content,
      element("span", "size", `${size} B`),
    );
    append(this.list, row, FRAMES_SHOWN_MAX);
  }
}

/** One client: its name, its messages, what it may send. */
class Pane {
  constructor(section, url, name, wire) {
    this.letter = section.dataset.pane;
    // Tells own messages from those of somebody with the same name.
    this.id = Math.random().toString(36).slice(2, 8);
    section.append(document.getElementById("pane").content.cloneNode(true));
    this.find = (selector) => section.querySelector(selector);
    this.find(".tag").textContent = this.letter;
    this.find(".tag").dataset.pane = this.letter;
    this.find(".who").value = name;
    this.hub = new Hub(url);
    this.hub.onframe = (direction, text) => wire.add(this.letter, direction, text);
    this.hub.onstate = (state, reason) => this.show(state, reason);
    this.hub.on("chat", (message) => this.receive(message));
    this.find(".send").onclick = () => this.send();
    this.find(".text").onkeydown = (event) => event.key === "Enter" && !event.isComposing && this.send();
    this.find(".toggle").onclick = () => (this.hub.wanted ? this.hub.stop() : this.hub.start());
    this.find(".member").onchange = (event) => this.membership(event.target.checked);
    this.hub.start();
  }

  async show(state, reason) {
    const indicator = this.find(".state");
    indicator.dataset.state = state;
    indicator.textContent = state;
    this.find(".toggle").textContent = this.hub.wanted ? "Leave" : "Join";
    this.find(".send").disabled = state !== "open";
    if (reason) {
      this.note(reason);
    }
    if (state !== "open") {
      this.find(".id").textContent = "";
      return;
    }
    try {
      if (this.find(".member").checked) {
        await this.hub.invoke("JoinGroup", "red");
      }
      this.find(".id").textContent = await this.hub.invoke("ConnectionId");
    } catch (error) {
      this.note(error.message);
    }
  }

  async send() {
    const input = this.find(".text");
    const text = input.value.trim();
    if (text === "" || this.hub.state !== "open") {
      return;
    }
    input.value = "";
    const to = this.find(".to").value;
    const message = { id: this.id, from: this.find(".who").value || this.letter, text, to };
    try {
      if (to === "group") {
        await this.hub.invoke("SendToGroup", "red", "chat", message);
      } else {
        await this.hub.invoke(to === "others" ? "SendToOthers" : "Broadcast", "chat", message);
      }
      if (to !== "all" && !(to === "group" && this.find(".member").checked)) {
        this.note(`sent to ${to === "others" ? "others" : "group red"}: ${text}`);
      }
    } catch (error) {
      this.note(error.message);
    }
  }

  receive(message) {
    const { id, from = "?", text = "", to = "all" } = message ?? {};
    const own = id === this.id;
    const label = { others: " to others", group: " to group red" }[to] ?? "";
    const row = element("li", own ? "own" : "other");
    row.append(element("span", "from", `${from}${label}`), String(text));
    append(this.find(".messages"), row, MESSAGES_SHOWN_MAX);
  }

  async membership(member) {
    if (this.hub.state !== "open") {
      return;
    }
    try {
      await this.hub.invoke(member ? "JoinGroup" : "LeaveGroup", "red");
      this.note(member ? "joined group red" : "left group red");
    } catch (error) {
      this.note(error.message);
    }
  }

  note(text) {
    append(this.find(".messages"), element("li", "note", text), MESSAGES_SHOWN_MAX);
  }
}

/** Two names for this tab: kept over a reload, and other ones than the tab opened before has. */
function tabNames() {
  let turn = sessionStorage.getItem("names");
  if (turn === null) {
    turn = Number(localStorage.getItem("names-next") ?? 0);
    localStorage.setItem("names-next", (turn + 2) % NAMES.length);
    sessionStorage.setItem("names", turn);
  }
  return [NAMES[Number(turn)], NAMES[Number(turn) + 1]];
}

function element(name, className, text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

/** Adds at the end, keeps the list bounded, and follows it only when the reader was at the end already. */
function append(list, row, rowsMax) {
  const follows = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  list.append(row);
  while (list.childElementCount > rowsMax) {
    list.firstElementChild.remove();
  }
  if (follows) {
    list.scrollTop = list.scrollHeight;
  }
}

const server = await status();
const hub = server.hubs[0];
const wire = new Wire();
const names = tabNames();
document.getElementById("hub").textContent = hubUrl(server, hub);
document.querySelectorAll(".pane").forEach((section, index) => {
  new Pane(section, hubUrl(server, hub, { user: names[index] }), names[index], wire);
});
