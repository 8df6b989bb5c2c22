"use strict";
// Peer "uws": uWebSockets through its Node binding. Raw dialect: every message received is published to the one topic
// every connection subscribes to, the sender's included. Usage: node uws.js PORT
const uWS = require("@trufflesuite/uws-js-unofficial");

const MESSAGE_BYTES_MAX = 16 * 1024 * 1024;
const BACKLOG_BYTES_MAX = 64 * 1024 * 1024;
const TOPIC = "all";
const port = Number(process.argv[2]);
if (!Number.isInteger(port) || port < 1 || port > 65535) {
  console.error("usage: node uws.js PORT");
  process.exit(2);
}
// The package quietly falls back to a server written in JavaScript when its binary does not fit this Node.js. That
// would be another peer under this one's name.
if (!Function.prototype.toString.call(uWS.App).includes("[native code]")) {
  console.error(`uws: no native binary for Node.js ${process.version} (modules ${process.versions.modules})`);
  process.exit(1);
}

const app = uWS.App();
app.ws("/*", {
  compression: uWS.DISABLED, // nobody else in the comparison compresses
  maxPayloadLength: MESSAGE_BYTES_MAX,
  maxBackpressure: BACKLOG_BYTES_MAX,
  idleTimeout: 0, // no timers: idle memory and CPU are measured
  sendPingsAutomatically: false,
  open: (socket) => {
    socket.subscribe(TOPIC);
  },
  message: (_socket, message, isBinary) => {
    app.publish(TOPIC, message, isBinary);
  },
});
app.listen("127.0.0.1", port, (listening) => {
  if (!listening) {
    console.error(`uws: cannot listen on 127.0.0.1:${port}`);
    process.exit(1);
  }
  console.log("listening");
});
