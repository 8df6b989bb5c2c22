//! Load generator for SignalR and WebSocket servers.
