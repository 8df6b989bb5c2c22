//! What a verified token says, and whether that is good enough.

use super::USER_BYTES_MAX;
use super::fault::TokenFault;
use super::object::Object;
use super::rules::{Audience, ClaimPath, TokenRules};
use crate::conn::endpoint::Identity;
use fanfare_protocol::hub::Raw;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What remains of a token that the rules were content with: all that is looked at again when it is seen again.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Claims {
    user: Option<String>,
    /// Seconds since the epoch, perhaps with a fraction (RFC 7519 2, NumericDate).
    expires_s: f64,
    valid_from_s: Option<f64>,
}

impl Claims {
    /// Reads the claims that count, and judges those that no clock changes.
    pub(super) fn read(rules: &TokenRules, text: &[u8]) -> Result<Self, TokenFault> {
        let claims = Object::parse(text).ok_or(TokenFault::Malformed)?;
        let date = |name| claims.get(name).map(|date| date.as_f64().map_err(|_| TokenFault::Claim)).transpose();
        judge_issuer(rules, &claims)?;
        judge_audience(rules, &claims)?;
        Ok(Self {
            expires_s: date("exp")?.ok_or(TokenFault::Claim)?,
            valid_from_s: date("nbf")?,
            user: find_user(&rules.user_from, &claims)?,
        })
    }

    /// Whom they name, if they hold at `now`.
    pub(super) fn judge_time(&self, now: SystemTime, skew: Duration) -> Result<Identity, TokenFault> {
        let now_s = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let skew_s = skew.as_secs_f64();
        // RFC 7519 4.1.4: before the date, not on it. 4.1.5: on the date or after it.
        if now_s >= self.expires_s + skew_s {
            return Err(TokenFault::Expired);
        }
        if self.valid_from_s.is_some_and(|from_s| now_s + skew_s < from_s) {
            return Err(TokenFault::NotYetValid);
        }
        // A date that the clock cannot hold is no end.
        let end = Duration::try_from_secs_f64(self.expires_s + skew_s).ok();
        let expires_at = end.and_then(|end| UNIX_EPOCH.checked_add(end));
        Ok(Identity { user: self.user.clone(), expires_at })
    }
}

fn judge_issuer(rules: &TokenRules, claims: &Object<'_>) -> Result<(), TokenFault> {
    if rules.issuers.is_empty() {
        return Ok(());
    }
    let issuer = claims.text("iss").map_err(|()| TokenFault::Claim)?.ok_or(TokenFault::Issuer)?;
    if rules.issuers.iter().any(|ours| *ours == issuer) { Ok(()) } else { Err(TokenFault::Issuer) }
}

/// RFC 7519 4.1.3: one text, or an array of them.
fn judge_audience(rules: &TokenRules, claims: &Object<'_>) -> Result<(), TokenFault> {
    let Audience::OneOf(ours) = &rules.audience else { return Ok(()) };
    let named = claims.get("aud").ok_or(TokenFault::Audience)?;
    let is_ours = |one: Raw<'_>| {
        let one = one.as_str().map_err(|_| TokenFault::Claim)?;
        Ok(ours.iter().any(|ours| *ours == one))
    };
    let mut found = false;
    match named.array() {
        Ok(all) => {
            for one in all {
                found |= is_ours(one)?;
            }
        }
        Err(_) => found = is_ours(named)?,
    }
    if found { Ok(()) } else { Err(TokenFault::Audience) }
}

fn find_user(paths: &[ClaimPath], claims: &Object<'_>) -> Result<Option<String>, TokenFault> {
    for ClaimPath(steps) in paths {
        let Some((first, inner)) = steps.split_first() else { continue };
        let mut found = claims.get(first);
        for step in inner {
            found = found.and_then(Object::of).and_then(|object| object.get(step));
        }
        if let Some(user) = found {
            let user = user.as_str().map_err(|_| TokenFault::Claim)?;
            let sound = (1..=USER_BYTES_MAX).contains(&user.len());
            return if sound { Ok(Some(user.into_owned())) } else { Err(TokenFault::Claim) };
        }
    }
    Ok(None)
}
