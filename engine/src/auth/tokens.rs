//! The keys in force and the rules, shared by all hubs and shards; and the two ways a hub may ask for tokens.

use super::claims::Claims;
use super::fault::TokenFault;
use super::keys::KeySet;
use super::rules::TokenRules;
use super::token::Compact;
use crate::conn::endpoint::{Authenticator, ConnectRequest, Identity, Refusal};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

/// Verifies tokens. Cheap to clone; all clones are the same one, so whoever keeps a clone can replace the keys of a
/// running engine.
#[derive(Clone, Debug)]
pub struct Tokens {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Locked to take or to replace a reference: nobody verifies under the lock.
    keys: RwLock<Arc<KeySet>>,
    rules: TokenRules,
    accepted: AtomicU64,
    refused: [AtomicU64; TokenFault::ALL.len()],
}

/// How many tokens were good, and how many were not, by reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenCounts {
    /// Good ones.
    pub accepted: u64,
    /// Others, by `TokenFault as usize`; see [`Self::refused`].
    pub refused: [u64; TokenFault::ALL.len()],
}

impl TokenCounts {
    /// Those that were refused for that reason.
    pub fn refused(&self, fault: TokenFault) -> u64 {
        self.refused[fault as usize]
    }
}

impl Tokens {
    /// Verifies by these keys and rules.
    pub fn new(keys: KeySet, rules: TokenRules) -> Self {
        let refused = std::array::from_fn(|_| AtomicU64::new(0));
        let inner = Inner { keys: RwLock::new(Arc::new(keys)), rules, accepted: AtomicU64::new(0), refused };
        Self { inner: Arc::new(inner) }
    }

    /// From now on these keys are in force and no others. Connections that are open stay.
    pub fn replace_keys(&self, keys: KeySet) {
        *self.inner.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }

    /// The keys in force.
    pub fn keys(&self) -> Arc<KeySet> {
        self.inner.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The rules.
    pub fn rules(&self) -> &TokenRules {
        &self.inner.rules
    }

    /// Whom the token names, now. Not counted.
    ///
    /// # Errors
    /// The first rule it breaks.
    pub fn verify(&self, token: &str) -> Result<Identity, TokenFault> {
        self.verify_at(token, SystemTime::now())
    }

    /// Whom the token names at `now`. Not counted.
    ///
    /// # Errors
    /// The first rule it breaks.
    pub fn verify_at(&self, token: &str, now: SystemTime) -> Result<Identity, TokenFault> {
        self.claims(token)?.judge_time(now, self.inner.rules.clock_skew)
    }

    fn claims(&self, token: &str) -> Result<Claims, TokenFault> {
        let compact = Compact::parse(token)?;
        let header = compact.header()?;
        let keys = self.keys();
        // An HMAC is as cheap as the name under which its outcome would be remembered.
        let recent = keys.recent.as_ref().filter(|_| !header.is_secret());
        let name = recent.map(|recent| recent.name(token)).transpose()?;
        let known = recent.zip(name).and_then(|(recent, name)| recent.get(&name));
        if let Some(claims) = known {
            return Ok(claims);
        }
        keys.verify(&header, compact.signed.as_bytes(), &compact.signature)?;
        let claims = Claims::read(&self.inner.rules, &compact.claims()?)?;
        if let Some((recent, name)) = recent.zip(name) {
            recent.insert(name, claims.clone());
        }
        Ok(claims)
    }

    /// Nobody comes in without a good token.
    pub fn required(&self) -> Guard {
        Guard { tokens: self.clone(), anonymous: false }
    }

    /// Who brings no token comes in as nobody in particular. A bad token is refused all the same: its bearer means to be
    /// somebody.
    pub fn optional(&self) -> Guard {
        Guard { tokens: self.clone(), anonymous: true }
    }

    /// How many tokens were good and how many were not, over all guards.
    pub fn counts(&self) -> TokenCounts {
        TokenCounts {
            accepted: self.inner.accepted.load(Ordering::Relaxed),
            refused: std::array::from_fn(|index| self.inner.refused[index].load(Ordering::Relaxed)),
        }
    }

    fn count(&self, outcome: Result<(), TokenFault>) {
        let counter = match outcome {
            Ok(()) => &self.inner.accepted,
            Err(fault) => &self.inner.refused[fault as usize],
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// [`Tokens`] at the door of a hub: the [`Authenticator`] of an endpoint.
#[derive(Clone, Debug)]
pub struct Guard {
    tokens: Tokens,
    anonymous: bool,
}

impl Authenticator for Guard {
    fn authenticate(&self, request: &ConnectRequest<'_>) -> Result<Identity, Refusal> {
        let verdict = match request.bearer() {
            Some(token) => self.tokens.verify(&token),
            None if self.anonymous => return Ok(Identity::default()),
            None => Err(TokenFault::Missing),
        };
        self.tokens.count(verdict.as_ref().map(drop).map_err(|fault| *fault));
        verdict.map_err(|_| Refusal::Unauthorized)
    }
}
