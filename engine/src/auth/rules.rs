//! What is asked of a token beside its signature.

use super::CLOCK_SKEW;
use std::time::Duration;

/// Which `aud` is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience {
    /// One of these must be named, alone or among others. With none of them no token is good.
    OneOf(Vec<String>),
    /// Whatever stands there, and nothing is fine too. Only where the keys sign for nobody else.
    Any,
}

/// Where in the claims a user id is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimPath(pub(super) Vec<String>);

impl ClaimPath {
    /// Reads a path. A text that begins with `/` is a JSON pointer (RFC 6901) to a claim inside of others, as
    /// `/realm/user`; any other text is the name of a claim as it is, dots and slashes included: names that are URIs
    /// need no quoting.
    pub fn new(text: &str) -> Self {
        match text.strip_prefix('/') {
            Some(pointer) => Self(pointer.split('/').map(|step| step.replace("~1", "/").replace("~0", "~")).collect()),
            None => Self(vec![text.to_owned()]),
        }
    }
}

/// What is asked of a token beside its signature. `exp` is always asked for, and `nbf` always looked at.
#[derive(Clone, Debug)]
pub struct TokenRules {
    /// Whom it must be for.
    pub audience: Audience,
    /// Whom it must be from; empty: anybody whose key we have.
    pub issuers: Vec<String>,
    /// Where the user id is: the first of these that there is. It must be a text then, of 1 to
    /// [`USER_BYTES_MAX`](super::USER_BYTES_MAX) bytes. A token with none of them names nobody in particular.
    pub user_from: Vec<ClaimPath>,
    /// How far the issuer's clock may be off, either way.
    pub clock_skew: Duration,
}

/// Nobody's audience: that is for whoever makes the rules to say.
impl Default for TokenRules {
    fn default() -> Self {
        Self {
            audience: Audience::OneOf(Vec::new()),
            issuers: Vec::new(),
            user_from: vec![ClaimPath::new("sub")],
            clock_skew: CLOCK_SKEW,
        }
    }
}
