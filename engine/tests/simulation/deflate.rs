//! What a client with permessage-deflate has besides what every client has.

use fanfare_engine::io::sim::Rng;
use fanfare_protocol::ws::decoder::Role;
use fanfare_protocol::ws::deflate::decoder::DeflateDecoder;
use fanfare_protocol::ws::deflate::deflater::Deflater;
use fanfare_protocol::ws::deflate::inflater::Inflater;

/// RSV1 of the first frame of a compressed message.
pub(crate) const DEFLATE_BIT: u8 = 0x40;
/// Longer than anything that is said here.
const INFLATED_BYTES_MAX: usize = 64 << 20;

/// Both directions of a client that asked for compression.
pub(crate) struct Deflate {
    /// The server has agreed. Before that nothing may be compressed.
    pub(crate) agreed: bool,
    pub(crate) decoder: DeflateDecoder,
    pub(crate) inflater: Inflater,
    deflater: Deflater,
}

impl Deflate {
    pub(crate) fn new() -> Self {
        Self {
            agreed: false,
            decoder: DeflateDecoder::new(Role::Client),
            inflater: Inflater::new(INFLATED_BYTES_MAX),
            deflater: Deflater::new(),
        }
    }

    /// A payload that says `plain`, if it is agreed, worth it, and as the client feels like it.
    pub(crate) fn compress(&mut self, plain: &[u8], rng: &mut Rng) -> Option<Vec<u8>> {
        if !self.agreed || rng.chance(200) {
            return None;
        }
        self.deflater.deflate(plain).map(<[u8]>::to_vec)
    }
}
