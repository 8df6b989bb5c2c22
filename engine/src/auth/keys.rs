//! All keys that are in force at one time, and which of them a token may be signed with.

use super::fault::{KeyFault, TokenFault};
use super::key::{Algorithm, Key};
use super::recent::Recent;
use super::token::Header;
use super::{KEYS_MAX, KEYS_WITHOUT_ID_MAX};

/// The keys in force. Replaced as a whole, and what was remembered of tokens goes with it.
#[derive(Debug)]
pub struct KeySet {
    keys: Vec<Key>,
    /// `None` without randomness: then nothing is remembered.
    pub(super) recent: Option<Recent>,
}

impl KeySet {
    /// A set of these keys.
    ///
    /// # Errors
    /// No key, too many, or two that a token cannot tell apart.
    pub fn new(keys: Vec<Key>) -> Result<Self, KeyFault> {
        if keys.is_empty() {
            return Err(KeyFault::Empty);
        }
        if keys.len() > KEYS_MAX {
            return Err(KeyFault::TooMany(keys.len()));
        }
        for (at, key) in keys.iter().enumerate() {
            let alike =
                keys[..at].iter().filter(|other| other.algorithm() == key.algorithm() && other.id() == key.id());
            let alike = alike.count();
            match key.id() {
                Some(id) if alike > 0 => return Err(KeyFault::Twice(id.to_owned())),
                None if alike >= KEYS_WITHOUT_ID_MAX => return Err(KeyFault::TooManyWithoutId(key.algorithm())),
                _ => {}
            }
        }
        Ok(Self { keys, recent: Recent::new() })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Never: a set without a key is not made.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether a key of the set has signed. What the header names chooses the keys: those of the algorithm with the
    /// id, and those of the algorithm without one. A token without an id is for a key that has one only if there is no
    /// other (OpenID Connect Core 10.1).
    pub(super) fn verify(&self, header: &Header<'_>, signed: &[u8], signature: &[u8]) -> Result<Algorithm, TokenFault> {
        let algorithm = Algorithm::from_name(&header.algorithm).ok_or(TokenFault::NoKey)?;
        let fits = |key: &&Key| key.algorithm() == algorithm;
        let alone = self.keys.iter().filter(fits).count() == 1;
        let claims = |key: &&Key| match (key.id(), header.key_id.as_deref()) {
            (None, _) => true,
            (Some(_), None) => alone,
            (Some(ours), Some(theirs)) => ours == theirs,
        };
        let mut candidates = self.keys.iter().filter(fits).filter(claims).peekable();
        if candidates.peek().is_none() {
            return Err(TokenFault::NoKey);
        }
        let verified = candidates.any(|key| key.verifies(signed, signature));
        if verified { Ok(algorithm) } else { Err(TokenFault::Signature) }
    }
}
