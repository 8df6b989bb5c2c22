//! What the text of a token came to, for a while: a client shows the same token at negotiate and at the upgrade, and a
//! polling one with every request.

use super::claims::Claims;
use super::fault::TokenFault;
use ring::hmac;
use std::collections::HashMap;
use std::fmt;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Tokens in each of two generations. Together they take at most 2 x 4,096 x (32 + a user id + 80) bytes.
const GENERATION_TOKENS_MAX: usize = 4_096;

/// The name of a token's text: only who knows the key can make two texts of one name, or guess whether a text is known.
type Name = [u8; 32];

/// Claims of tokens whose signature held, by a keyed hash of their text. Never a refusal: those cost whoever makes them
/// up the same as us. Dates are not kept as a verdict, they are judged each time.
pub(super) struct Recent {
    key: hmac::Key,
    generations: Mutex<Generations>,
}

#[derive(Default)]
struct Generations {
    young: HashMap<Name, Claims>,
    old: HashMap<Name, Claims>,
}

/// Without the key and the users.
impl fmt::Debug for Recent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recent").finish_non_exhaustive()
    }
}

impl Recent {
    /// An empty memory with a key of its own. `None`: the system gives no randomness.
    pub(super) fn new() -> Option<Self> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &ring::rand::SystemRandom::new()).ok()?;
        Some(Self { key, generations: Mutex::default() })
    }

    /// The name of `text`.
    pub(super) fn name(&self, text: &str) -> Result<Name, TokenFault> {
        let tag = hmac::sign(&self.key, text.as_bytes());
        tag.as_ref().try_into().map_err(|_| TokenFault::Malformed)
    }

    /// What it came to.
    pub(super) fn get(&self, name: &Name) -> Option<Claims> {
        let mut generations = self.lock();
        if let Some(claims) = generations.young.get(name) {
            return Some(claims.clone());
        }
        let claims = generations.old.remove(name)?;
        generations.insert(*name, claims.clone());
        Some(claims)
    }

    /// Remembers it until some thousands of others have come.
    pub(super) fn insert(&self, name: Name, claims: Claims) {
        self.lock().insert(name, claims);
    }

    /// Held for a look into a table: a shard never waits for long.
    fn lock(&self) -> MutexGuard<'_, Generations> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations {
    fn insert(&mut self, name: Name, claims: Claims) {
        if self.young.len() >= GENERATION_TOKENS_MAX {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(name, claims);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::TokenRules;

    #[test]
    fn the_memory_is_bounded_and_the_lately_seen_stay() {
        let recent = Recent::new().expect("randomness");
        let rules = TokenRules { audience: crate::auth::Audience::Any, ..TokenRules::default() };
        let claims = Claims::read(&rules, br#"{"exp":9,"sub":"ann"}"#).expect("claims");
        let first = recent.name("first").expect("a name");
        recent.insert(first, claims.clone());
        for n in 0..10 * GENERATION_TOKENS_MAX {
            recent.insert(recent.name(&n.to_string()).expect("a name"), claims.clone());
            if n % 1_000 == 0 {
                assert_eq!(recent.get(&first), Some(claims.clone()), "seen {n} tokens ago at most");
            }
            let generations = recent.lock();
            assert!(generations.young.len() + generations.old.len() <= 2 * GENERATION_TOKENS_MAX);
        }
        assert_eq!(recent.get(&recent.name("0").expect("a name")), None);
    }
}
