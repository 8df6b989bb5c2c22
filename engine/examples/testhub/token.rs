//! Bearer tokens of `/authorizedhub`: JWTs, HS256 only, one fixed test key.

use std::time::Duration;

use fanfare_engine::auth::{Algorithm, Audience, Key, KeyFault, KeySet, TokenRules, Tokens};
use fanfare_engine::{Authenticator, ConnectRequest, Identity, Refusal};

/// Signing key of every token of the tests; no secret.
const KEY: &[u8] = b"testhub-signing-key-for-tests-only-0123456789";
const ISSUER: &str = "testhub";
const AUDIENCE: &str = "testhub-clients";
/// How far the issuer's clock may be off.
const CLOCK_SKEW: Duration = Duration::from_secs(5);

/// What tokens of the tests must be like.
pub(crate) fn tokens() -> Result<Tokens, KeyFault> {
    let keys = KeySet::new(vec![Key::secret(Algorithm::Hs256, KEY)?])?;
    let rules = TokenRules {
        audience: Audience::OneOf(vec![AUDIENCE.to_owned()]),
        issuers: vec![ISSUER.to_owned()],
        clock_skew: CLOCK_SKEW,
        ..TokenRules::default()
    };
    Ok(Tokens::new(keys, rules))
}

/// The open endpoints: a valid token sets the user; without one, and with a bad one, a client is nobody in particular,
/// as in ASP.NET Core where nothing asks for authorization.
pub(crate) struct Lenient(pub(crate) Tokens);

impl Authenticator for Lenient {
    fn authenticate(&self, request: &ConnectRequest<'_>) -> Result<Identity, Refusal> {
        Ok(request.bearer().and_then(|token| self.0.verify(&token).ok()).unwrap_or_default())
    }
}
