"use strict";
// Peer "ws": the most used WebSocket server of npm. Raw dialect: every message received is sent to every connection,
// the sender's included. Usage: node ws.js PORT
const { WebSocketServer } = require("ws");

const MESSAGE_BYTES_MAX = 16 * 1024 * 1024;
const port = Number(process.argv[2]);
if (!Number.isInteger(port) || port < 1 || port > 65535) {
  console.error("usage: node ws.js PORT");
  process.exit(2);
}

const server = new WebSocketServer({
  host: "127.0.0.1",
  port,
  backlog: 4096,
  perMessageDeflate: false, // nobody else in the comparison compresses
  maxPayload: MESSAGE_BYTES_MAX,
});
server.on("connection", (socket) => {
  socket.on("error", () => socket.terminate()); // a vanished client ends its own connection, not the server
  socket.on("message", (data, isBinary) => {
    for (const client of server.clients) client.send(data, { binary: isBinary });
  });
});
server.on("error", (error) => {
  console.error(`ws: ${error.message}`);
  process.exit(1);
});
server.on("listening", () => console.log("listening"));
