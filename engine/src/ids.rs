//! Connection ids and connection tokens: minted without storing anything, recognised without a look-up.
//!
//! ```text
//! id, before encryption with AES-128 (integers little-endian; text: 22 characters of base64url)
//!   0        2            6      7              12         16
//!   | node   | epoch      | shard| counter      | check     |
//!   | u16    | u32        | u8   | u40          | u32       |
//!                                  `-- 20 bits: second of minting, counted from epoch, wraps after 12 days
//!                                      20 bits: sequence
//! token (text: 56 characters of base64url)
//!   0   1      2                  18               26                42
//!   | 1 | key  | encrypted id     | minute | noise | HMAC-SHA-256, first 16 bytes, of "mbp1 token" and all before |
//! ```
//!
//! An id is public among the members of a hub only as far as the application makes it so; whoever holds the token
//! owns the connection. With negotiate version 0 the id itself is the bearer, which it can be because nobody can
//! guess an encrypted block.

use aes::Aes128;
use aes::cipher::generic_array::GenericArray;
use aes::cipher::{BlockDecrypt, BlockEncrypt, KeyInit};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// Characters of an id's text.
pub const ID_CHARS: usize = 22;

/// Characters of a token's text.
pub const TOKEN_CHARS: usize = 56;

const ID_BYTES: usize = 16;
const SALT_BYTES: usize = 8;
const SIGNED_BYTES: usize = 2 + ID_BYTES + SALT_BYTES;
const TAG_BYTES: usize = 16;
const TOKEN_BYTES: usize = SIGNED_BYTES + TAG_BYTES;

const TOKEN_VERSION: u8 = 1;
const TOKEN_CONTEXT: &[u8] = b"mbp1 token";
const CHECK_CONTEXT: &[u8] = b"fanfare id check";

/// Bits of the sequence in a counter; the seconds lie above.
const SEQUENCE_BITS: u32 = 20;
const SEQUENCE_MASK: u64 = (1 << SEQUENCE_BITS) - 1;
const SECONDS_MASK: u64 = (1 << (40 - SEQUENCE_BITS)) - 1;

/// Clocks of two nodes may differ by this much before a token counts as not from now.
const SKEW_MINUTES: u32 = 2;

/// Names a connection: 16 bytes that say nothing to whoever lacks the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub [u8; ID_BYTES]);

impl ConnectionId {
    /// The text that clients see.
    pub fn text(&self) -> Text<ID_CHARS> {
        Text::encode(&self.0)
    }

    /// Reads the text. `None` if it is not 22 characters of base64url: an id of somebody else's making.
    pub fn parse(text: &str) -> Option<Self> {
        decode(text).map(Self)
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

/// ASCII text of fixed length, by value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text<const N: usize>([u8; N]);

impl<const N: usize> Text<N> {
    fn encode(bytes: &[u8]) -> Self {
        let mut text = [0; N];
        let written = URL_SAFE_NO_PAD.encode_slice(bytes, &mut text).expect("N is the encoded length");
        debug_assert_eq!(written, N);
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("base64 is ASCII")
    }
}

fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
        Ok(n) if n == N => Some(bytes),
        _ => None,
    }
}

/// Why an id or a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdError {
    /// Not in our form, or made with a key that we do not have.
    Foreign,
    /// Ours, but not used within its time.
    Expired,
    /// In our form and with our key's number, but not made with our key.
    Forged,
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Foreign => "not an id of this server",
            Self::Expired => "the id was not used in time",
            Self::Forged => "the id does not match its signature",
        })
    }
}

impl Error for IdError {}

/// What an id says to whoever has the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdParts {
    /// The node that minted it.
    pub node: u16,
    /// That node's start, in Unix seconds.
    pub epoch: u32,
    /// The shard that minted it.
    pub shard: u8,
    /// 20 bits of seconds since `epoch` (wrapping) above 20 bits of sequence; 40 bits in all.
    pub counter: u64,
}

impl IdParts {
    /// Seconds since minting. Wraps after 12 days (2^20 s).
    fn age_s(&self, now_s: u64) -> u64 {
        let minted = u64::from(self.epoch).wrapping_add(self.counter >> SEQUENCE_BITS);
        now_s.wrapping_sub(minted) & SECONDS_MASK
    }
}

/// One generation of keys.
#[derive(Clone)]
struct Key {
    number: u8,
    cipher: Aes128,
    check: [u8; 4],
    signer: Hmac<Sha256>,
}

impl Key {
    fn new(number: u8, id_key: [u8; 16], token_key: [u8; 32]) -> Self {
        let mut derive = signer(&id_key);
        derive.update(CHECK_CONTEXT);
        let derived = derive.finalize().into_bytes();
        let check = [derived[0], derived[1], derived[2], derived[3]];
        Self { number, cipher: Aes128::new(&id_key.into()), check, signer: signer(&token_key) }
    }

    fn seal(&self, parts: &IdParts) -> ConnectionId {
        let mut block = [0; ID_BYTES];
        block[..2].copy_from_slice(&parts.node.to_le_bytes());
        block[2..6].copy_from_slice(&parts.epoch.to_le_bytes());
        block[6] = parts.shard;
        block[7..12].copy_from_slice(&parts.counter.to_le_bytes()[..5]);
        block[12..].copy_from_slice(&self.check);
        let mut block = GenericArray::from(block);
        self.cipher.encrypt_block(&mut block);
        ConnectionId(block.into())
    }

    fn open(&self, id: &ConnectionId) -> Option<IdParts> {
        let mut block = GenericArray::from(id.0);
        self.cipher.decrypt_block(&mut block);
        // All four bytes are looked at, whatever the first says.
        let difference = block[12..].iter().zip(&self.check).fold(0, |sum, (a, b)| sum | (a ^ b));
        if difference != 0 {
            return None;
        }
        let mut counter = [0; 8];
        counter[..5].copy_from_slice(&block[7..12]);
        Some(IdParts {
            node: u16::from_le_bytes([block[0], block[1]]),
            epoch: u32::from_le_bytes([block[2], block[3], block[4], block[5]]),
            shard: block[6],
            counter: u64::from_le_bytes(counter),
        })
    }

    fn sign(&self, id: &ConnectionId, salt: [u8; SALT_BYTES]) -> Text<TOKEN_CHARS> {
        let mut token = [0; TOKEN_BYTES];
        token[0] = TOKEN_VERSION;
        token[1] = self.number;
        token[2..18].copy_from_slice(&id.0);
        token[18..26].copy_from_slice(&salt);
        let tag = self.mac(&token[..SIGNED_BYTES]).finalize().into_bytes();
        token[SIGNED_BYTES..].copy_from_slice(&tag[..TAG_BYTES]);
        Text::encode(&token)
    }

    fn mac(&self, signed: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.signer.clone();
        mac.update(TOKEN_CONTEXT);
        mac.update(signed);
        mac
    }
}

fn signer(key: &[u8]) -> Hmac<Sha256> {
    <Hmac<Sha256> as Mac>::new_from_slice(key).expect("HMAC takes keys of any length")
}

/// The keys of a node, shared by its shards, and who the node is.
#[derive(Clone)]
pub struct IdKeys {
    node: u16,
    epoch: u32,
    current: Key,
    previous: Option<Key>,
}

impl fmt::Debug for IdKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys never appear in a log.
        f.debug_struct("IdKeys").field("node", &self.node).field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl IdKeys {
    /// Throw-away keys for a node that shares no ids with others. `now_s` is Unix time.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn random(node: u16, now_s: u64) -> Result<Self, getrandom::Error> {
        let (mut id_key, mut token_key) = ([0; 16], [0; 32]);
        getrandom::fill(&mut id_key)?;
        getrandom::fill(&mut token_key)?;
        Ok(Self::new(node, now_s, 0, id_key, token_key))
    }

    /// Given keys, known to all nodes as `number`. `now_s` is Unix time, the start of this node's epoch.
    pub fn new(node: u16, now_s: u64, number: u8, id_key: [u8; 16], token_key: [u8; 32]) -> Self {
        Self { node, epoch: now_s as u32, current: Key::new(number, id_key, token_key), previous: None }
    }

    /// Also accepts what was made with an older pair of keys; nothing new is made with it.
    #[must_use]
    pub fn with_previous(mut self, number: u8, id_key: [u8; 16], token_key: [u8; 32]) -> Self {
        self.previous = Some(Key::new(number, id_key, token_key));
        self
    }

    fn keys(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.current).chain(&self.previous)
    }

    /// What an id says. `None` if none of our keys made it.
    pub fn open(&self, id: &ConnectionId) -> Option<IdParts> {
        self.keys().find_map(|key| key.open(id))
    }

    /// Accepts an id as its own bearer (negotiate version 0): ours, and minted at most `ttl_s` seconds ago.
    ///
    /// # Errors
    /// [`IdError::Foreign`] or [`IdError::Expired`]. A changed id decrypts to noise, so it is foreign.
    pub fn verify_id(&self, text: &str, now_s: u64, ttl_s: u32) -> Result<ConnectionId, IdError> {
        let id = ConnectionId::parse(text).ok_or(IdError::Foreign)?;
        let parts = self.open(&id).ok_or(IdError::Foreign)?;
        if parts.age_s(now_s) > u64::from(ttl_s) { Err(IdError::Expired) } else { Ok(id) }
    }

    /// Accepts a token that was signed at most `ttl_s` seconds ago (counted in whole minutes, in the holder's
    /// favour). Compares in constant time.
    ///
    /// # Errors
    /// See [`IdError`]. The signature is checked before the time, so a forger learns nothing about clocks.
    pub fn verify_token(&self, text: &str, now_s: u64, ttl_s: u32) -> Result<ConnectionId, IdError> {
        let token: [u8; TOKEN_BYTES] = decode(text).ok_or(IdError::Foreign)?;
        if token[0] != TOKEN_VERSION {
            return Err(IdError::Foreign);
        }
        let key = self.keys().find(|key| key.number == token[1]).ok_or(IdError::Foreign)?;
        let (signed, tag) = token.split_at(SIGNED_BYTES);
        key.mac(signed).verify_truncated_left(tag).map_err(|_| IdError::Forged)?;
        let mut block = [0; ID_BYTES];
        block.copy_from_slice(&token[2..18]);
        let id = ConnectionId(block);
        self.open(&id).ok_or(IdError::Forged)?;
        let signed_minute = u32::from_le_bytes([token[18], token[19], token[20], token[21]]);
        let age_minutes = ((now_s / 60) as u32).wrapping_sub(signed_minute);
        let from_the_future = age_minutes.wrapping_neg() <= SKEW_MINUTES;
        if from_the_future || age_minutes <= ttl_s.div_ceil(60) { Ok(id) } else { Err(IdError::Expired) }
    }
}

/// Makes ids and tokens. One per shard; needs no lock and stores nothing.
#[derive(Debug)]
pub struct IdMint {
    keys: Arc<IdKeys>,
    shard: u8,
    sequence: u64,
    noise: u32,
}

impl IdMint {
    /// The mint of `shard`.
    pub fn new(keys: Arc<IdKeys>, shard: u8) -> Self {
        Self { keys, shard, sequence: 0, noise: 0 }
    }

    /// The keys, for checking.
    pub fn keys(&self) -> &Arc<IdKeys> {
        &self.keys
    }

    /// A new id, different from every other of this shard (up to 2^20 a second, for 12 days). `now_s` is Unix time;
    /// take it from a clock that does not jump: the start's Unix time plus monotonic seconds.
    pub fn mint(&mut self, now_s: u64) -> ConnectionId {
        let seconds = now_s.wrapping_sub(u64::from(self.keys.epoch)) & SECONDS_MASK;
        let counter = seconds << SEQUENCE_BITS | self.sequence;
        self.sequence = (self.sequence + 1) & SEQUENCE_MASK;
        let parts = IdParts { node: self.keys.node, epoch: self.keys.epoch, shard: self.shard, counter };
        self.keys.current.seal(&parts)
    }

    /// A token for `id`: whoever shows it in time is the one who negotiated.
    pub fn token(&mut self, id: &ConnectionId, now_s: u64) -> Text<TOKEN_CHARS> {
        // Two tokens of one id in one minute differ; nothing depends on the noise being random.
        self.noise = self.noise.wrapping_add(0x9E37_79B9);
        let mut salt = [0; SALT_BYTES];
        salt[..4].copy_from_slice(&((now_s / 60) as u32).to_le_bytes());
        salt[4..].copy_from_slice(&self.noise.to_le_bytes());
        self.keys.current.sign(id, salt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const NOW: u64 = 0x68F0_A1B2 + 5000;

    fn ascending<const N: usize>(first: u8) -> [u8; N] {
        std::array::from_fn(|i| first + i as u8)
    }

    fn keys() -> IdKeys {
        IdKeys::new(7, 0x68F0_A1B2, 0, ascending(0x00), ascending(0x10))
    }

    fn mint() -> IdMint {
        IdMint::new(Arc::new(keys()), 3)
    }

    /// The published vector, whose check value is a literal rather than derived.
    #[test]
    fn the_published_vector() {
        let mut key = keys().current;
        key.check = [0x5a, 0xc3, 0x96, 0x0f];
        let parts = IdParts { node: 7, epoch: 0x68F0_A1B2, shard: 3, counter: 123_456 };
        let id = key.seal(&parts);
        assert_eq!(id.text().as_str(), "l9HeXdoFvN_IF1N-Ai5Okw");
        assert_eq!(key.open(&id), Some(parts));
        let token = key.sign(&id, [0x11; 8]);
        assert_eq!(token.as_str(), "AQCX0d5d2gW838gXU34CLk6TERERERERERGLTeDe7GrPtsOBniDGt7ve");
    }

    #[test]
    fn ids_say_who_and_when_to_the_key_holder_only() {
        let mut mint = mint();
        let id = mint.mint(NOW);
        let parts = mint.keys().open(&id).unwrap();
        assert_eq!((parts.node, parts.epoch, parts.shard), (7, 0x68F0_A1B2, 3));
        assert_eq!((parts.counter >> 20, parts.counter & SEQUENCE_MASK), (5000, 0));
        assert_eq!(IdKeys::random(7, NOW).unwrap().open(&id), None);
        assert_eq!(ConnectionId::parse(&id.to_string()), Some(id));
    }

    #[test]
    fn ids_of_one_shard_differ() {
        let mut mint = mint();
        let ids: HashSet<_> = (0..5000).map(|i| mint.mint(NOW + i / 1000)).collect();
        assert_eq!(ids.len(), 5000);
    }

    #[test]
    fn an_id_is_its_own_bearer_for_its_time() {
        let mut mint = mint();
        let text = mint.mint(NOW).to_string();
        let verify = |now_s| mint.keys().verify_id(&text, now_s, 15).map(|id| id.to_string());
        assert_eq!(verify(NOW), Ok(text.clone()));
        assert_eq!(verify(NOW + 15), Ok(text.clone()));
        assert_eq!(verify(NOW + 16), Err(IdError::Expired));
        assert_eq!(verify(NOW - 1), Err(IdError::Expired));
    }

    #[test]
    fn time_works_across_the_wrap_of_the_seconds() {
        let mut mint = mint();
        let late = 0x68F0_A1B2 + SECONDS_MASK;
        let text = mint.mint(late).to_string();
        assert!(mint.keys().verify_id(&text, late + 10, 15).is_ok());
        assert_eq!(mint.keys().verify_id(&text, late + 16, 15), Err(IdError::Expired));
    }

    #[test]
    fn tokens_hold_for_their_time() {
        let mut mint = mint();
        let id = mint.mint(NOW);
        let text = mint.token(&id, NOW);
        let verify = |now_s| mint.keys().verify_token(text.as_str(), now_s, 60);
        assert_eq!(verify(NOW), Ok(id));
        assert_eq!(verify(NOW + 60), Ok(id));
        assert_eq!(verify(NOW + 180), Err(IdError::Expired));
        assert_eq!(verify(NOW - 60), Ok(id), "the other node's clock is a minute behind");
        assert_eq!(verify(NOW - 600), Err(IdError::Expired));
        assert_ne!(mint.token(&id, NOW), text);
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let mut mint = mint();
        let id = mint.mint(NOW);
        let token: [u8; TOKEN_BYTES] = decode(mint.token(&id, NOW).as_str()).unwrap();
        for bit in 0..TOKEN_BYTES * 8 {
            let mut changed = token;
            changed[bit / 8] ^= 1 << (bit % 8);
            let text = Text::<TOKEN_CHARS>::encode(&changed);
            let expected = if bit < 16 { IdError::Foreign } else { IdError::Forged };
            assert_eq!(mint.keys().verify_token(text.as_str(), NOW, 60), Err(expected), "bit {bit}");
        }
        for bit in 0..128 {
            let mut changed = id;
            changed.0[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(mint.keys().verify_id(&changed.to_string(), NOW, 60), Err(IdError::Foreign), "bit {bit}");
        }
    }

    #[test]
    fn other_texts_are_foreign() {
        let keys = keys();
        let id = "l9HeXdoFvN_IF1N-Ai5Okw";
        for text in
            ["", "l9HeXdoFvN_IF1N-Ai5Ok", "l9HeXdoFvN_IF1N-Ai5Okww", "l9HeXdoFvN/IF1N-Ai5Okw", "l9HeXdoFvN_IF1N-Ai5Okx"]
        {
            assert_eq!(ConnectionId::parse(text), None, "{text}");
            assert_eq!(keys.verify_id(text, NOW, 15), Err(IdError::Foreign));
            assert_eq!(keys.verify_token(text, NOW, 15), Err(IdError::Foreign));
        }
        assert!(ConnectionId::parse(id).is_some());
    }

    #[test]
    fn the_previous_keys_are_accepted_and_not_used() {
        let mut old = IdMint::new(Arc::new(IdKeys::new(7, NOW, 4, ascending(0x40), ascending(0x60))), 0);
        let id = old.mint(NOW);
        let token = old.token(&id, NOW);
        let both = keys().with_previous(4, ascending(0x40), ascending(0x60));
        assert_eq!(both.verify_token(token.as_str(), NOW, 60), Ok(id));
        assert_eq!(both.verify_id(&id.to_string(), NOW, 60), Ok(id));
        assert_eq!(keys().verify_token(token.as_str(), NOW, 60), Err(IdError::Foreign));
        let new = IdMint::new(Arc::new(both), 0).mint(NOW);
        assert!(keys().open(&new).is_some());
    }
}
