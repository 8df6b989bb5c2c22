//! Connection ids and tokens: self-describing, unguessable, and stateless until somebody connects.
//!
//! An id is one AES-128 block, so negotiate stores nothing and any node of a cluster can read where an id was made:
//!
//! ```text
//! u16 node | u32 epoch | u8 shard | u40 counter | u32 check        little endian, encrypted under the id key
//! counter = bearer 1 bit | seconds 19 bits | sequence 20 bits      text form: base64url, 22 characters
//! ```
//!
//! A token proves that we gave out an id, when, and to whom:
//!
//! ```text
//! u8 version = 1 | u8 key | 16 id | u32 seconds | 4 user tag | 16 HMAC-SHA-256 over "mbp1 token" and all before
//! seconds = resumable 1 bit | seconds since the engine started 31 bits
//! ```
//!
//! With negotiate version 0 there is no token and the id itself opens the door; such ids have the bearer bit, so
//! that the public id of a version 1 connection never does.

use aes::Aes128;
use aes::cipher::{BlockDecrypt, BlockEncrypt, KeyInit};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::fmt;
use std::sync::Arc;

/// An id as it is on the wire, before base64url.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId(pub [u8; 16]);

/// Characters of an id.
pub const ID_TEXT_BYTES: usize = 22;
/// Characters of a token.
pub const TOKEN_TEXT_BYTES: usize = 56;
const TOKEN_BYTES: usize = 42;
const TOKEN_VERSION: u8 = 1;
const TOKEN_CONTEXT: &[u8] = b"mbp1 token";
const MAC_BYTES: usize = 16;
const SECONDS_BITS: u32 = 19;
const SEQUENCE_BITS: u32 = 20;
/// The bit of a token's seconds that says that its connection may be resumed.
const RESUMABLE: u32 = 1 << 31;
/// How far a token's time may lie ahead: shards read the clock at their own moments.
const AHEAD_S: u32 = 2;

impl ConnectionId {
    /// Reads the text form; says nothing about who made it.
    pub fn from_text(text: &str) -> Option<Self> {
        let mut id = [0; 16];
        (text.len() == ID_TEXT_BYTES && URL_SAFE_NO_PAD.decode_slice(text, &mut id).ok()? == 16).then_some(Self(id))
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; ID_TEXT_BYTES];
        let _ = URL_SAFE_NO_PAD.encode_slice(self.0, &mut text);
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

/// Why an id or token does not open the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdError {
    /// Not made by this server, or not whole, or a public id where a token is needed.
    Forged,
    /// Made too long ago.
    Expired,
    /// Made for somebody else.
    WrongUser,
}

/// The keys of ids and tokens, and which server run made them.
pub struct IdKeys {
    cipher: Aes128,
    token_key: [u8; 32],
    check: [u8; 4],
    node: u16,
    epoch: u32,
}

impl fmt::Debug for IdKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdKeys").field("node", &self.node).field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl IdKeys {
    /// Fresh random keys.
    ///
    /// # Errors
    /// If the system has no randomness to give.
    pub fn random(epoch: u32) -> Result<Self, getrandom::Error> {
        let (mut id_key, mut token_key) = ([0; 16], [0; 32]);
        getrandom::fill(&mut id_key)?;
        getrandom::fill(&mut token_key)?;
        Ok(Self::new(id_key, token_key, 0, epoch))
    }

    /// Given keys, as all nodes of a cluster share them.
    pub fn new(id_key: [u8; 16], token_key: [u8; 32], node: u16, epoch: u32) -> Self {
        let check = hmac(&id_key, &[b"mbp1 check"]);
        let check = [check[0], check[1], check[2], check[3]];
        Self { cipher: Aes128::new(&id_key.into()), token_key, check, node, epoch }
    }

    fn id(&self, shard: u8, counter: u64) -> ConnectionId {
        let mut block = [0; 16];
        block[..2].copy_from_slice(&self.node.to_le_bytes());
        block[2..6].copy_from_slice(&self.epoch.to_le_bytes());
        block[6] = shard;
        block[7..12].copy_from_slice(&counter.to_le_bytes()[..5]);
        block[12..].copy_from_slice(&self.check);
        let mut block = block.into();
        self.cipher.encrypt_block(&mut block);
        ConnectionId(block.into())
    }

    /// The counter of an id of ours, of this run.
    fn counter(&self, id: &ConnectionId) -> Option<u64> {
        let mut block = id.0.into();
        self.cipher.decrypt_block(&mut block);
        let block: [u8; 16] = block.into();
        let ours = block[12..] == self.check
            && block[..2] == self.node.to_le_bytes()
            && block[2..6] == self.epoch.to_le_bytes();
        let mut counter = [0; 8];
        counter[..5].copy_from_slice(&block[7..12]);
        ours.then(|| u64::from_le_bytes(counter))
    }

    fn token(&self, id: &ConnectionId, salt: [u8; 8]) -> String {
        let mut bytes = [0; TOKEN_BYTES];
        bytes[0] = TOKEN_VERSION;
        bytes[2..18].copy_from_slice(&id.0);
        bytes[18..26].copy_from_slice(&salt);
        let mac = hmac(&self.token_key, &[TOKEN_CONTEXT, &bytes[..26]]);
        bytes[26..].copy_from_slice(&mac[..MAC_BYTES]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// A few bytes that tell one user from another, and nothing else. All zero: nobody in particular.
    fn user_tag(&self, user: Option<&str>) -> [u8; 4] {
        user.map_or([0; 4], |user| {
            let tag = hmac(&self.token_key, &[b"mbp1 user", user.as_bytes()]);
            [tag[0] | 1, tag[1], tag[2], tag[3]]
        })
    }
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key).expect("HMAC takes keys of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// Makes one shard's ids, and judges anybody's.
#[derive(Debug)]
pub struct IdMint {
    keys: Arc<IdKeys>,
    shard: u8,
    sequence: u64,
}

impl IdMint {
    /// A mint for `shard`. One per shard and run, or ids repeat.
    pub fn new(keys: Arc<IdKeys>, shard: u8) -> Self {
        Self { keys, shard, sequence: 0 }
    }

    fn next(&mut self, now_s: u32, bearer: bool) -> ConnectionId {
        self.sequence = (self.sequence + 1) % (1 << SEQUENCE_BITS);
        let seconds = u64::from(now_s) % (1 << SECONDS_BITS);
        let bearer = u64::from(bearer) << (SECONDS_BITS + SEQUENCE_BITS);
        self.keys.id(self.shard, bearer | seconds << SEQUENCE_BITS | self.sequence)
    }

    /// A public id that opens nothing by itself.
    pub fn mint(&mut self, now_s: u32) -> ConnectionId {
        self.next(now_s, false)
    }

    /// An id that opens the door by itself (negotiate version 0).
    pub fn mint_bearer(&mut self, now_s: u32) -> ConnectionId {
        self.next(now_s, true)
    }

    /// The token that goes with `id`, for `user`; whether its connection may be resumed.
    pub fn token(&self, id: &ConnectionId, now_s: u32, user: Option<&str>, resumable: bool) -> String {
        let mut salt = [0; 8];
        let stamp = now_s & !RESUMABLE | if resumable { RESUMABLE } else { 0 };
        salt[..4].copy_from_slice(&stamp.to_le_bytes());
        salt[4..].copy_from_slice(&self.keys.user_tag(user));
        self.keys.token(id, salt)
    }

    /// Judges what a client gave as `id`: a token, or an id from negotiate version 0, at most `ttl_s` old.
    ///
    /// # Errors
    /// Why it does not open the door.
    pub fn verify(&self, text: &str, now_s: u32, ttl_s: u32, user: Option<&str>) -> Result<ConnectionId, IdError> {
        match text.len() {
            TOKEN_TEXT_BYTES => self.verify_token(text, now_s, ttl_s, user),
            ID_TEXT_BYTES => self.verify_bearer(text, now_s, ttl_s),
            _ => Err(IdError::Forged),
        }
    }

    /// Whether the connection of a token, which has been verified, may be resumed.
    pub fn is_resumable(&self, text: &str) -> bool {
        let mut bytes = [0; TOKEN_BYTES];
        let whole = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) == Ok(TOKEN_BYTES);
        whole && bytes[21] & 0x80 != 0
    }

    /// The second in which an id of ours was made, on the clock of `now_s`, which is not earlier.
    pub fn minted_s(&self, id: &ConnectionId, now_s: u32) -> Option<u32> {
        let stamp = (self.keys.counter(id)? >> SEQUENCE_BITS) as u32;
        Some(now_s.saturating_sub(now_s.wrapping_sub(stamp) % (1 << SECONDS_BITS)))
    }

    fn verify_token(&self, text: &str, now_s: u32, ttl_s: u32, user: Option<&str>) -> Result<ConnectionId, IdError> {
        let mut bytes = [0; TOKEN_BYTES];
        let whole = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) == Ok(TOKEN_BYTES);
        if !whole || bytes[0] != TOKEN_VERSION {
            return Err(IdError::Forged);
        }
        let mac = <Hmac<Sha256> as Mac>::new_from_slice(&self.keys.token_key).expect("any length");
        // Compared in constant time.
        let genuine = mac.chain_update(TOKEN_CONTEXT).chain_update(&bytes[..26]).verify_truncated_left(&bytes[26..]);
        genuine.map_err(|_| IdError::Forged)?;
        let stamp = u32::from_le_bytes([bytes[18], bytes[19], bytes[20], bytes[21]]) & !RESUMABLE;
        if now_s.wrapping_add(AHEAD_S).wrapping_sub(stamp) > ttl_s.saturating_add(AHEAD_S) {
            return Err(IdError::Expired);
        }
        if bytes[22..26] != self.keys.user_tag(user) {
            return Err(IdError::WrongUser);
        }
        let mut id = [0; 16];
        id.copy_from_slice(&bytes[2..18]);
        Ok(ConnectionId(id))
    }

    fn verify_bearer(&self, text: &str, now_s: u32, ttl_s: u32) -> Result<ConnectionId, IdError> {
        let id = ConnectionId::from_text(text).ok_or(IdError::Forged)?;
        let counter = self.keys.counter(&id).ok_or(IdError::Forged)?;
        if counter >> (SECONDS_BITS + SEQUENCE_BITS) == 0 {
            return Err(IdError::Forged);
        }
        let stamp = (counter >> SEQUENCE_BITS) as u32;
        let age = now_s.wrapping_add(AHEAD_S).wrapping_sub(stamp) % (1 << SECONDS_BITS);
        if age > ttl_s.saturating_add(AHEAD_S) { Err(IdError::Expired) } else { Ok(id) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> IdKeys {
        let mut keys =
            IdKeys::new(std::array::from_fn(|i| i as u8), std::array::from_fn(|i| 0x10 + i as u8), 7, 0x68F0_A1B2);
        keys.check = [0x5a, 0xc3, 0x96, 0x0f];
        keys
    }

    /// The published vector of the cluster design.
    #[test]
    fn published_vector() {
        let keys = keys();
        let id = keys.id(3, 123_456);
        assert_eq!(id.to_string(), "l9HeXdoFvN_IF1N-Ai5Okw");
        assert_eq!(keys.token(&id, [0x11; 8]), "AQCX0d5d2gW838gXU34CLk6TERERERERERGLTeDe7GrPtsOBniDGt7ve");
        assert_eq!(keys.counter(&id), Some(123_456));
        assert_eq!(ConnectionId::from_text(&id.to_string()), Some(id));
    }

    #[test]
    fn a_token_opens_the_door_for_its_user_in_its_time() {
        let mut mint = IdMint::new(Arc::new(keys()), 1);
        let id = mint.mint(1000);
        let token = mint.token(&id, 1000, Some("ann"), false);
        let resumable = mint.token(&id, 1000, Some("ann"), true);
        assert!(mint.is_resumable(&resumable) && !mint.is_resumable(&token) && !mint.is_resumable("x"));
        assert_eq!(mint.verify(&resumable, 1015, 15, Some("ann")), Ok(id));
        assert_eq!(mint.verify(&resumable, 1016, 15, Some("ann")), Err(IdError::Expired));
        assert_eq!(mint.verify(&token, 1015, 15, Some("ann")), Ok(id));
        assert_eq!(mint.verify(&token, 999, 15, Some("ann")), Ok(id));
        assert_eq!(mint.verify(&token, 1016, 15, Some("ann")), Err(IdError::Expired));
        assert_eq!(mint.verify(&token, 1001, 15, Some("bob")), Err(IdError::WrongUser));
        assert_eq!(mint.verify(&token, 1001, 15, None), Err(IdError::WrongUser));
        assert_eq!(mint.verify(&id.to_string(), 1000, 15, None), Err(IdError::Forged), "the public id is no key");
        for at in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            assert_eq!(mint.verify(&forged, 1000, 15, Some("ann")), Err(IdError::Forged), "character {at}");
        }
    }

    #[test]
    fn a_bearer_id_is_a_key_for_a_while() {
        let mut mint = IdMint::new(Arc::new(keys()), 1);
        let id = mint.mint_bearer(500);
        assert_eq!(mint.verify(&id.to_string(), 510, 15, None), Ok(id));
        assert_eq!(mint.verify(&id.to_string(), 516, 15, None), Err(IdError::Expired));
        let other = IdMint::new(Arc::new(IdKeys::new([9; 16], [9; 32], 0, 1)), 1);
        assert_eq!(other.verify(&id.to_string(), 510, 15, None), Err(IdError::Forged));
        for junk in ["", "short", "!!!!!!!!!!!!!!!!!!!!!!", &"A".repeat(56)] {
            assert_eq!(mint.verify(junk, 510, 15, None), Err(IdError::Forged), "{junk}");
        }
    }
}
