//! What goes with a socket that moves to another shard: what has been read from it already, and where it comes from.
//!
//! A connection lives on one shard, and a request for it may land on any. The request's socket then moves to the shard
//! of the connection, together with the request: everything about one connection happens in one place, and a client that
//! keeps its sockets has them where its connection is from then on.

use crate::conn::tls::TlsStream;
use crate::hub::asker::Asker;
use crate::hub::directory::ConnRef;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What goes with one socket.
#[derive(Debug, Default)]
pub(crate) struct Parcel {
    /// A POST that was taken whole before it was known where its connection is.
    pub post: Option<LostPost>,
    /// Bytes that nobody has acted on.
    pub input: Vec<u8>,
    /// Where it comes from, if anybody wants to know.
    pub peer: Option<IpAddr>,
    /// Its TLS, if it speaks that.
    pub tls: Option<Box<TlsStream>>,
}

/// A whole POST on the wrong shard.
#[derive(Debug)]
pub(crate) struct LostPost {
    /// Whom it is for.
    pub to: ConnRef,
    /// What it says.
    pub body: Vec<u8>,
    /// Who waits for its answer.
    pub asker: Asker,
}

/// The parcels on their way to one shard. Each belongs to a socket that is on its way, too: there are no more than that.
#[derive(Debug, Default)]
pub struct Parcels(Mutex<Shelf>);

#[derive(Debug, Default)]
struct Shelf {
    parcels: HashMap<u32, Parcel>,
    last: u32,
}

impl Parcels {
    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts `parcel` there; the number tells whose it is.
    pub(crate) fn put(&self, parcel: Parcel) -> u32 {
        let mut shelf = self.shelf();
        shelf.last = shelf.last.wrapping_add(1);
        let number = shelf.last;
        shelf.parcels.insert(number, parcel);
        number
    }

    /// Takes it away.
    pub(crate) fn take(&self, number: u32) -> Option<Parcel> {
        self.shelf().parcels.remove(&number)
    }

    /// Parcels that nobody has taken.
    pub fn len(&self) -> usize {
        self.shelf().parcels.len()
    }

    /// Whether all have been taken.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
