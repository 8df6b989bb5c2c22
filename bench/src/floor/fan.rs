//! One buffer to every open connection, two ways.

use std::io;
use std::os::fd::AsFd;

use super::peer::{Peer, Sent};
use super::ring::Ring;

/// How the floor sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `send(2)` for each connection, on ordinary descriptors.
    Send,
    /// io_uring sends on registered files, up to this many in one enter.
    Ring {
        /// Sends handed over in one enter: 1 to 4096.
        enter_sends_max: u32,
    },
    /// Upgrade, then hold unwatched. Messages are never read.
    Idle,
}

/// The sender of one [`Mode`].
pub(super) enum Fan {
    Send,
    Ring(Box<Ring>),
}

impl Fan {
    /// Must be called on the thread that will send.
    pub(super) fn new(mode: Mode, connections_max: u32) -> io::Result<Fan> {
        match mode {
            Mode::Send | Mode::Idle => Ok(Fan::Send),
            Mode::Ring { enter_sends_max } => Ok(Fan::Ring(Box::new(Ring::new(connections_max, enter_sends_max)?))),
        }
    }

    /// A connection is now in `slot`.
    pub(super) fn add(&mut self, slot: u32, socket: impl AsFd) -> io::Result<()> {
        match self {
            Fan::Send => Ok(()),
            Fan::Ring(ring) => ring.add(slot, socket),
        }
    }

    /// The connection in `slot` is about to be closed.
    pub(super) fn remove(&mut self, slot: u32) -> io::Result<()> {
        match self {
            Fan::Send => Ok(()),
            Fan::Ring(ring) => ring.remove(slot),
        }
    }

    /// Sends `bytes` to every open peer. `outcome` is called for those of which the kernel did not take all at once.
    pub(super) fn deliver(&mut self, peers: &mut [Option<Peer>], bytes: &[u8], outcome: &mut Vec<(u32, Sent)>) {
        match self {
            Fan::Send => {
                for (slot, peer) in open_peers(peers) {
                    note(outcome, slot, peer.deliver(bytes));
                }
            }
            Fan::Ring(ring) => {
                for (slot, peer) in open_peers(peers) {
                    if peer.is_behind() {
                        note(outcome, slot, peer.owe(bytes));
                    } else {
                        ring.stage(slot);
                    }
                }
                ring.send_staged(bytes, |slot, sent| {
                    let peer = peers[slot as usize].as_mut().expect("a staged slot is occupied until the fan is done");
                    note(outcome, slot, peer.note_sent(bytes, sent));
                });
            }
        }
    }
}

fn open_peers(peers: &mut [Option<Peer>]) -> impl Iterator<Item = (u32, &mut Peer)> {
    let occupied = peers.iter_mut().enumerate().filter_map(|(slot, peer)| Some((slot as u32, peer.as_mut()?)));
    occupied.filter(|(_, peer)| peer.is_open())
}

fn note(outcome: &mut Vec<(u32, Sent)>, slot: u32, sent: Sent) {
    if sent != Sent::Whole {
        outcome.push((slot, sent));
    }
}
