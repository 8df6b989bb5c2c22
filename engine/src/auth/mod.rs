//! Bearer tokens: who a client is, by a JSON Web Token (RFC 7519) that somebody we trust has signed.
//!
//! ```text
//! text --token--> parts and header --keys--> keys it may be signed with --key--> signed --claims--> whom it names
//! ```
//!
//! Every step may refuse, and names the rule ([`TokenFault`]); the client only ever sees a bare 401. The crypto is
//! `ring`'s. What is ours is the reading: strict, bounded, and in an order in which nothing of a token but its header
//! is looked at before its signature holds.
//!
//! - A key is for one algorithm, and a token that names another is not for that key. So there is no `none`, and a
//!   public key never serves as a secret (RFC 8725 3.1).
//! - Names in a token never lead anywhere: `jku`, `x5u` and `jwk` are not followed.
//! - Verifying runs on shard threads: it takes microseconds, and what a token's text came to is remembered for the
//!   algorithms where that pays (`recent.rs`).

mod claims;
mod fault;
mod jwks;
mod key;
mod keys;
mod object;
mod recent;
mod rules;
mod token;
mod tokens;

#[cfg(test)]
mod tests;

pub use fault::{KeyFault, TokenFault};
pub use jwks::Jwks;
pub use key::{Algorithm, Key};
pub use keys::KeySet;
pub use rules::{Audience, ClaimPath, TokenRules};
pub use token::fuzz_token;
pub use tokens::{Guard, TokenCounts, Tokens};

/// Bytes of a token; a longer one is refused unread. The default `Limits::head_bytes_max` lets no longer one in.
pub const TOKEN_BYTES_MAX: usize = 8 << 10;
/// Bytes of a user id, as with the default `Limits::name_bytes_max`.
pub const USER_BYTES_MAX: usize = 1_024;
/// Bytes of a JWK set.
pub const JWKS_BYTES_MAX: usize = 1 << 20;
/// Keys of one set.
pub const KEYS_MAX: usize = 64;
/// Keys of one algorithm without an id. Each of them is tried for a token that no other key claims.
pub const KEYS_WITHOUT_ID_MAX: usize = 4;
/// How far the clocks of whoever signs tokens may be off, unless it is said.
pub const CLOCK_SKEW: std::time::Duration = std::time::Duration::from_secs(30);
