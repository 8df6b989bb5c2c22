//! Bearer tokens of `/authorizedhub`: JWTs, HS256 only, one fixed test key.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fanfare_engine::{Authenticator, ConnectRequest, Identity, Refusal};
use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::Sha256;

/// Signing key of every token of the tests; no secret.
const KEY: &[u8] = b"testhub-signing-key-for-tests-only-0123456789";
const ISSUER: &str = "testhub";
const AUDIENCE: &str = "testhub-clients";
/// How far the issuer's clock may be off.
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(5);
/// Longer tokens are refused before anything is computed.
const TOKEN_BYTES_MAX: usize = 4096;

/// Why a token is no good. The client never learns which: it gets a bare 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenError {
    Malformed,
    Algorithm,
    Signature,
    Issuer,
    Audience,
    Expired,
    NotYetValid,
}

/// Checks `token` against the key and the clock; answers the user id (`sub`), if it has one.
pub(crate) fn verify(token: &str, now: SystemTime) -> Result<Option<String>, TokenError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TokenError::Malformed);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
    let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
    if json_part(header)?.get("alg").and_then(Value::as_str) != Some("HS256") {
        return Err(TokenError::Algorithm);
    }
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenError::Malformed)?;
    let mut mac = Hmac::<Sha256>::new_from_slice(KEY).map_err(|_| TokenError::Signature)?;
    mac.update(signed.as_bytes());
    mac.verify_slice(&signature).map_err(|_| TokenError::Signature)?;
    check_claims(&json_part(claims)?, now)
}

fn json_part(part: &str) -> Result<Value, TokenError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| TokenError::Malformed)
}

fn check_claims(claims: &Value, now: SystemTime) -> Result<Option<String>, TokenError> {
    if claims.get("iss").and_then(Value::as_str) != Some(ISSUER) {
        return Err(TokenError::Issuer);
    }
    let for_us = match claims.get("aud") {
        Some(Value::String(one)) => one == AUDIENCE,
        Some(Value::Array(many)) => many.iter().any(|one| one.as_str() == Some(AUDIENCE)),
        _ => false,
    };
    if !for_us {
        return Err(TokenError::Audience);
    }
    let now_s = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let skew_s = CLOCK_SKEW_MAX.as_secs_f64();
    let expires_s = claims.get("exp").and_then(Value::as_f64).ok_or(TokenError::Malformed)?;
    if now_s > expires_s + skew_s {
        return Err(TokenError::Expired);
    }
    let from_s = claims.get("nbf").map(|from| from.as_f64().ok_or(TokenError::Malformed)).transpose()?;
    if from_s.is_some_and(|from_s| from_s > now_s + skew_s) {
        return Err(TokenError::NotYetValid);
    }
    Ok(claims.get("sub").and_then(Value::as_str).map(str::to_owned))
}

/// `/authorizedhub`: no valid token, no connection.
pub(crate) struct Required;

impl Authenticator for Required {
    fn authenticate(&self, request: &ConnectRequest<'_>) -> Result<Identity, Refusal> {
        let token = request.bearer().ok_or(Refusal::Unauthorized)?;
        let user = verify(&token, SystemTime::now()).map_err(|_| Refusal::Unauthorized)?;
        Ok(Identity { user })
    }
}

/// The other endpoints: a valid token sets the user, anything else is anonymous.
pub(crate) struct Optional;

impl Authenticator for Optional {
    fn authenticate(&self, request: &ConnectRequest<'_>) -> Result<Identity, Refusal> {
        let user = request.bearer().and_then(|token| verify(&token, SystemTime::now()).ok().flatten());
        Ok(Identity { user })
    }
}
