//! Who is compared, and how each is started.

use std::fmt;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use fanfare_protocol::negotiate::Transport;
use fanfare_protocol::ws::encode;

use super::process::Program;

/// Where Debian and its kin put the module of `libnginx-mod-nchan`.
const NCHAN_MODULE: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";
/// The peer that is built here, below `bench/compare`.
const TUNGSTENITE: &str = "tungstenite/target/release/fanfare-peer-tungstenite";
/// What tungstenite's documentation names for many connections. Its own 128 KiB are zeroed again for every read.
const TUNGSTENITE_READ_BUFFER_BYTES: u32 = 4096;
/// Files with the certificate of a server that speaks TLS, and its key, among the temporary ones.
pub const CHAIN_FILE: &str = "chain.pem";
/// See [`CHAIN_FILE`].
pub const KEY_FILE: &str = "key.pem";
/// The hub that Fanfare serves.
const HUB: &str = "bench";

/// A server under measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contender {
    /// A bare `send(2)` loop.
    FloorSend,
    /// Bare io_uring sends on registered files.
    FloorRing,
    /// Bare accepted sockets that nobody watches.
    FloorIdle,
    /// uWebSockets through its Node binding.
    Uws,
    /// npm `ws`.
    Ws,
    /// Debian's nginx with Nchan.
    Nchan,
    /// tokio and tungstenite, with the small read buffer that the library's documentation advises for many connections.
    Tungstenite,
    /// The same with the library's own read buffer.
    TungsteniteDefault,
    /// `fanfare serve` with this many shards, all on the server's one core.
    Fanfare {
        /// Threads, each with its own ring.
        shards: u8,
    },
    /// `fanfare serve` with one shard; its receivers take server-sent events, its publisher keeps its WebSocket.
    FanfareEvents,
    /// The same with receivers that poll.
    FanfarePolls,
    /// `fanfare serve` with one shard, and everybody over TLS: a relay on the load generator's core speaks it.
    FanfareTls,
    /// The same behind the same relay, without TLS.
    FanfareRelayed,
}

/// What a client must say to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// WebSocket messages without any meaning.
    Raw,
    /// SignalR's JSON hub protocol.
    SignalRJson,
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Contender::FloorSend => f.pad("floor-send"),
            Contender::FloorRing => f.pad("floor-ring"),
            Contender::FloorIdle => f.pad("floor-idle"),
            Contender::Uws => f.pad("uws"),
            Contender::Ws => f.pad("ws"),
            Contender::Nchan => f.pad("nchan"),
            Contender::Tungstenite => f.pad("tungstenite"),
            Contender::TungsteniteDefault => f.pad("tungstenite-default"),
            Contender::Fanfare { shards: 1 } => f.pad("fanfare"),
            Contender::Fanfare { shards } => f.pad(&format!("fanfare-{shards}")),
            Contender::FanfareEvents => f.pad("fanfare-sse"),
            Contender::FanfarePolls => f.pad("fanfare-poll"),
            Contender::FanfareTls => f.pad("fanfare-tls"),
            Contender::FanfareRelayed => f.pad("fanfare-relayed"),
        }
    }
}

impl FromStr for Contender {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "floor-send" => Contender::FloorSend,
            "floor-ring" => Contender::FloorRing,
            "floor-idle" => Contender::FloorIdle,
            "uws" => Contender::Uws,
            "ws" => Contender::Ws,
            "nchan" => Contender::Nchan,
            "tungstenite" => Contender::Tungstenite,
            "tungstenite-default" => Contender::TungsteniteDefault,
            "fanfare" => Contender::Fanfare { shards: 1 },
            "fanfare-sse" => Contender::FanfareEvents,
            "fanfare-poll" => Contender::FanfarePolls,
            "fanfare-tls" => Contender::FanfareTls,
            "fanfare-relayed" => Contender::FanfareRelayed,
            _ => match text.strip_prefix("fanfare-").and_then(|shards| shards.parse().ok()) {
                Some(shards @ 2..) => Contender::Fanfare { shards },
                _ => {
                    let known = "floor-send, floor-ring, floor-idle, uws, ws, nchan, tungstenite, \
                                 tungstenite-default, fanfare, fanfare-sse, fanfare-poll, fanfare-tls, \
                                 fanfare-relayed, fanfare-2, fanfare-4, ...";
                    return Err(format!("no server is called '{text}'; there are {known}"));
                }
            },
        })
    }
}

/// Where things are on this machine.
#[derive(Clone, Debug)]
pub struct Places {
    /// Holds `fanfare`, `fanfare-loadgen` and `floor`.
    pub binaries: PathBuf,
    /// `bench/compare`, with the peers and their `node_modules`.
    pub peers: PathBuf,
    /// For files that may go afterwards.
    pub scratch: PathBuf,
    /// The core that servers may use.
    pub server_core: u32,
}

impl Contender {
    /// What its clients must speak.
    pub fn dialect(self) -> Dialect {
        if self.shards().is_some() { Dialect::SignalRJson } else { Dialect::Raw }
    }

    /// What its receivers receive over.
    pub fn transport(self) -> Transport {
        match self {
            Contender::FanfareEvents => Transport::ServerSentEvents,
            Contender::FanfarePolls => Transport::LongPolling,
            _ => Transport::WebSockets,
        }
    }

    /// Threads of Fanfare, each with its own ring; `None` for the others.
    pub fn shards(self) -> Option<u8> {
        match self {
            Contender::Fanfare { shards } => Some(shards),
            Contender::FanfareEvents | Contender::FanfarePolls => Some(1),
            Contender::FanfareTls | Contender::FanfareRelayed => Some(1),
            _ => None,
        }
    }

    /// Whether a relay stands before it.
    pub fn is_relayed(self) -> bool {
        matches!(self, Contender::FanfareTls | Contender::FanfareRelayed)
    }

    /// Path of the WebSocket endpoint.
    pub fn path(self) -> &'static str {
        if self.shards().is_some() { "/bench" } else { "/" }
    }

    /// `Err` says why it cannot take part, and what to do about it.
    pub fn check(self, places: &Places) -> Result<(), String> {
        let needed = match self {
            Contender::FloorSend | Contender::FloorRing | Contender::FloorIdle => places.binaries.join("floor"),
            Contender::Fanfare { .. }
            | Contender::FanfareEvents
            | Contender::FanfarePolls
            | Contender::FanfareTls
            | Contender::FanfareRelayed => places.binaries.join("fanfare"),
            Contender::Uws => places.peers.join("node_modules/@trufflesuite/uws-js-unofficial/package.json"),
            Contender::Ws => places.peers.join("node_modules/ws/package.json"),
            Contender::Nchan => PathBuf::from(NCHAN_MODULE),
            Contender::Tungstenite | Contender::TungsteniteDefault => places.peers.join(TUNGSTENITE),
        };
        if needed.exists() {
            return Ok(());
        }
        let remedy = match self {
            Contender::Uws | Contender::Ws => "install Node.js and run `npm ci` in bench/compare",
            Contender::Nchan => "apt-get install nginx libnginx-mod-nchan",
            Contender::Tungstenite | Contender::TungsteniteDefault => {
                "cargo build --release --locked in bench/compare/tungstenite"
            }
            _ => "cargo build --release --workspace --bins",
        };
        // Pages name it: from the top of the tree, wherever that is.
        let top = places.peers.ancestors().nth(2).unwrap_or(&places.peers);
        let shown = needed.strip_prefix(top).unwrap_or(&needed);
        Err(format!("{self}: {} is missing ({remedy})", shown.display()))
    }

    /// How it is started so that it listens on `addr`, and, if it is Fanfare, tells its metrics on `admin`.
    pub fn program(self, addr: SocketAddr, admin: SocketAddr, places: &Places) -> io::Result<Program> {
        let listen = addr.to_string();
        let port = addr.port().to_string();
        let (executable, arguments) = match self {
            Contender::FloorSend => (places.binaries.join("floor"), floor_arguments(&listen, "send")),
            Contender::FloorRing => (places.binaries.join("floor"), floor_arguments(&listen, "ring")),
            Contender::FloorIdle => (places.binaries.join("floor"), floor_arguments(&listen, "idle")),
            Contender::Uws => (PathBuf::from("node"), vec!["uws.js".to_owned(), port]),
            Contender::Ws => (PathBuf::from("node"), vec!["ws.js".to_owned(), port]),
            Contender::Nchan => (PathBuf::from("nginx"), nchan_arguments(addr, places)?),
            Contender::Tungstenite => {
                (places.peers.join(TUNGSTENITE), vec![listen, TUNGSTENITE_READ_BUFFER_BYTES.to_string()])
            }
            Contender::TungsteniteDefault => (places.peers.join(TUNGSTENITE), vec![listen]),
            Contender::Fanfare { .. }
            | Contender::FanfareEvents
            | Contender::FanfarePolls
            | Contender::FanfareTls
            | Contender::FanfareRelayed => {
                let core = places.server_core.to_string();
                let (shards, admin) = (self.shards().unwrap_or(1).to_string(), admin.to_string());
                let listening = if self == Contender::FanfareTls { "--tls-listen" } else { "--listen" };
                let mut arguments = vec!["serve", listening, &listen, "--admin", &admin, "--hub", HUB];
                let files = [text(&places.scratch.join(CHAIN_FILE))?, text(&places.scratch.join(KEY_FILE))?];
                if self == Contender::FanfareTls {
                    arguments.extend(["--tls-cert-file", &files[0], "--tls-key-file", &files[1]]);
                }
                arguments.extend(["--shards", &shards, "--cores", &core]);
                // The largest case publishes more than the 32 KiB that a hub accepts by default.
                arguments.extend(["--client-publish", "on", "--message-size-max", "0"]);
                (places.binaries.join("fanfare"), arguments.into_iter().map(str::to_owned).collect())
            }
        };
        Ok(Program { executable, arguments, directory: places.peers.clone() })
    }
}

/// An address of this machine that nothing listens on. It was free a moment ago, which is as much as one can know.
pub fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn floor_arguments(listen: &str, mode: &str) -> Vec<String> {
    // The wire then carries what Fanfare puts on it.
    let fragment = encode::FRAGMENT_BYTES.to_string();
    ["--listen", listen, "--mode", mode, "--fragment", &fragment].map(str::to_owned).to_vec()
}

fn nchan_arguments(addr: SocketAddr, places: &Places) -> io::Result<Vec<String>> {
    let directory = places.scratch.join("nchan");
    fs::create_dir_all(&directory)?;
    let configuration = fs::read_to_string(places.peers.join("nchan.conf.in"))?
        .replace("@PORT@", &addr.port().to_string())
        .replace("@DIRECTORY@", &text(&directory)?)
        .replace("@MODULE@", NCHAN_MODULE);
    let file = directory.join("nginx.conf");
    fs::write(&file, configuration)?;
    Ok(vec!["-p".to_owned(), text(&directory)?, "-c".to_owned(), text(&file)?])
}

fn text(path: &Path) -> io::Result<String> {
    let text = path.to_str().ok_or_else(|| io::Error::other(format!("{} is not UTF-8", path.display())))?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Contender, Places};

    #[test]
    fn what_is_missing_is_named_from_the_top_of_the_tree() {
        let places = Places {
            binaries: "/somewhere/target/release".into(),
            peers: "/somewhere/bench/compare".into(),
            scratch: "/somewhere/else".into(),
            server_core: 0,
        };
        let why = Contender::Ws.check(&places).expect_err("it is nowhere");
        assert!(why.starts_with("ws: bench/compare/node_modules/ws/package.json is missing"), "{why}");
        let why = Contender::Fanfare { shards: 1 }.check(&places).expect_err("it is nowhere");
        assert!(why.starts_with("fanfare: target/release/fanfare is missing"), "{why}");
    }

    #[test]
    fn names_are_read_back() {
        for contender in [
            Contender::FloorSend,
            Contender::FloorRing,
            Contender::FloorIdle,
            Contender::Uws,
            Contender::Ws,
            Contender::Nchan,
            Contender::Tungstenite,
            Contender::TungsteniteDefault,
            Contender::Fanfare { shards: 1 },
            Contender::Fanfare { shards: 2 },
            Contender::FanfareEvents,
            Contender::FanfarePolls,
            Contender::FanfareTls,
            Contender::FanfareRelayed,
        ] {
            assert_eq!(contender.to_string().parse(), Ok(contender));
        }
        for wrong in ["", "floor", "fanfare-", "fanfare-1", "fanfare-x"] {
            assert!(wrong.parse::<Contender>().is_err(), "{wrong}");
        }
    }
}
