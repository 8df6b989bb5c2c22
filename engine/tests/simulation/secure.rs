//! The world with TLS in front of some of its peers: what they write is encrypted on its way, what they read decrypted.
//!
//! Randomness of the cryptography cannot be seeded. It changes bytes, not their number: the certificate has a key whose
//! signatures have one length, and nobody comes back with a ticket. The simulated kernel decides by numbers of bytes
//! only, so that a seed is still a run.

use crate::tls_support::{Identity, client_of};
use fanfare_engine::io::sim::{PeerId, World};
use rustls::{ClientConfig, ClientConnection};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

/// Where clients connect, without TLS and with it.
pub(crate) const PLAIN: &str = "127.0.0.1:9000";
pub(crate) const SECURE: &str = "127.0.0.1:9001";

/// The server's name and key: one for all runs, because making one takes longer than a run.
pub(crate) fn identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| Identity::new(&["localhost"]))
}

/// See the module. Peers without TLS, and everything else, are the world's own business.
pub(crate) struct Network {
    world: World,
    /// In thousandths: how many peers speak TLS.
    share: u32,
    config: Option<Arc<ClientConfig>>,
    peers: HashMap<PeerId, ClientConnection>,
}

impl Deref for Network {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

impl Network {
    pub(crate) fn new(world: World, share: u32) -> Self {
        let config = (share > 0).then(|| Arc::new(identity().client_config(rustls::ALL_VERSIONS)));
        Self { world, share, config, peers: HashMap::new() }
    }

    pub(crate) fn connect(&mut self) -> PeerId {
        let Some(config) = &self.config else { return self.world.connect() };
        if self.world.random(1000) >= u64::from(self.share) {
            return self.world.connect_to(address(PLAIN));
        }
        let peer = self.world.connect_to(address(SECURE));
        let mut connection = client_of(config.clone(), "localhost");
        connection.set_buffer_limit(None);
        self.peers.insert(peer, connection);
        self.pump(peer);
        peer
    }

    pub(crate) fn is_secure(&self, peer: PeerId) -> bool {
        self.peers.contains_key(&peer)
    }

    /// What TLS has to say goes to the world.
    fn pump(&mut self, peer: PeerId) {
        let Some(connection) = self.peers.get_mut(&peer) else { return };
        let mut records = Vec::new();
        while connection.wants_write() {
            connection.write_tls(&mut records).expect("a Vec takes everything");
        }
        self.world.peer_write(peer, &records);
    }

    pub(crate) fn peer_write(&mut self, peer: PeerId, bytes: &[u8]) {
        match self.peers.get_mut(&peer) {
            Some(connection) => {
                connection.writer().write_all(bytes).expect("no limit");
                self.pump(peer);
            }
            None => self.world.peer_write(peer, bytes),
        }
    }

    /// Up to `max` bytes of records, or of what they would be without TLS. Every record of the server must be in order.
    pub(crate) fn peer_read(&mut self, peer: PeerId, max: usize) -> Vec<u8> {
        let bytes = self.world.peer_read(peer, max);
        let Some(connection) = self.peers.get_mut(&peer) else { return bytes };
        let (mut records, mut plain) = (&bytes[..], Vec::new());
        while !records.is_empty() {
            if connection.read_tls(&mut records).expect("there is room") == 0 {
                break;
            }
            let state = connection.process_new_packets().unwrap_or_else(|error| panic!("{peer:?}: {error}"));
            let mut said = vec![0; state.plaintext_bytes_to_read()];
            connection.reader().read_exact(&mut said).expect("so many there are");
            plain.append(&mut said);
        }
        self.pump(peer);
        plain
    }

    /// Says goodbye first, if the peer speaks TLS by now.
    pub(crate) fn peer_shutdown(&mut self, peer: PeerId) {
        if let Some(connection) = self.peers.get_mut(&peer).filter(|connection| !connection.is_handshaking()) {
            connection.send_close_notify();
            self.pump(peer);
        }
        self.world.peer_shutdown(peer);
    }
}
