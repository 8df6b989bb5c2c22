//! Why a token or a key is refused: one name for each broken rule.

use std::fmt;

/// Why a token is refused. Never sent to a client, and never holds a piece of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenFault {
    /// There is none, and one is needed.
    Missing,
    /// Longer than [`TOKEN_BYTES_MAX`](super::TOKEN_BYTES_MAX).
    TooLong,
    /// Not three parts of unpadded base64url with JSON objects in the first two, or a name stands twice in one.
    Malformed,
    /// The header asks for an extension (`crit`); we have none.
    Critical,
    /// No key is for the algorithm and the key id that the header names.
    NoKey,
    /// The signature is not that of a key.
    Signature,
    /// `exp` is missing, or a claim that is looked at is of the wrong type.
    Claim,
    /// `exp` has passed.
    Expired,
    /// `nbf` has not come.
    NotYetValid,
    /// `aud` names none of the accepted audiences.
    Audience,
    /// `iss` is none of the accepted issuers.
    Issuer,
}

impl TokenFault {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 11] = [
        Self::Missing,
        Self::TooLong,
        Self::Malformed,
        Self::Critical,
        Self::NoKey,
        Self::Signature,
        Self::Claim,
        Self::Expired,
        Self::NotYetValid,
        Self::Audience,
        Self::Issuer,
    ];

    /// A short name: label of metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::Critical => "critical",
            Self::NoKey => "key",
            Self::Signature => "signature",
            Self::Claim => "claim",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Audience => "audience",
            Self::Issuer => "issuer",
        }
    }
}

impl fmt::Display for TokenFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "there is no token, and one is needed",
            Self::TooLong => "the token is too long",
            Self::Malformed => "the token is no JWT in compact form",
            Self::Critical => "the token asks for an extension that is not known",
            Self::NoKey => "no key is for the token's algorithm and key id",
            Self::Signature => "the token's signature does not match",
            Self::Claim => "a claim of the token is missing or of the wrong type",
            Self::Expired => "the token has expired",
            Self::NotYetValid => "the token is not valid yet",
            Self::Audience => "the token is for another audience",
            Self::Issuer => "the token is from another issuer",
        })
    }
}

impl std::error::Error for TokenFault {}

/// Why a key, or a set of keys, cannot be used. Never holds a piece of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyFault {
    /// More bytes than [`JWKS_BYTES_MAX`](super::JWKS_BYTES_MAX).
    TooLong,
    /// Not a JSON object with an array `keys` of objects, or a name stands twice in one.
    NotASet,
    /// The key at this position lacks a member, or its member is not of the right form.
    Member {
        /// Position in the set, from 0.
        at: usize,
        /// The member.
        name: &'static str,
    },
    /// A secret shorter than the algorithm's hash (RFC 7518 3.2).
    ShortSecret {
        /// The algorithm.
        algorithm: super::Algorithm,
        /// Bytes there are.
        len: usize,
    },
    /// A secret for an algorithm of key pairs, or the reverse.
    WrongAlgorithm(super::Algorithm),
    /// An RSA modulus of fewer than 2,048 or more than 8,192 bits, or an exponent that is even or out of range.
    Rsa,
    /// Coordinates that are no point of P-256.
    Point,
    /// No key of the set can verify a token.
    Empty,
    /// More than [`KEYS_MAX`](super::KEYS_MAX) keys.
    TooMany(usize),
    /// More than [`KEYS_WITHOUT_ID_MAX`](super::KEYS_WITHOUT_ID_MAX) keys of one algorithm without an id.
    TooManyWithoutId(super::Algorithm),
    /// Two keys of one algorithm with the same id.
    Twice(String),
}

impl fmt::Display for KeyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "more than {} bytes", super::JWKS_BYTES_MAX),
            Self::NotASet => f.write_str("no JWK set: a JSON object with an array `keys` of objects is expected"),
            Self::Member { at, name } => write!(f, "`keys[{at}].{name}` is missing or malformed"),
            Self::ShortSecret { algorithm, len } => {
                let min = algorithm.secret_bytes_min();
                write!(f, "a secret of {len} bytes; {} needs at least {min}", algorithm.name())
            }
            Self::WrongAlgorithm(algorithm) => write!(f, "{} does not go with this kind of key", algorithm.name()),
            Self::Rsa => f.write_str("an RSA key must have 2,048 to 8,192 bits and an odd exponent of at least 3"),
            Self::Point => f.write_str("x and y are no point of the curve P-256"),
            Self::Empty => f.write_str("no key that can verify HS256, HS384, HS512, RS256 or ES256"),
            Self::TooMany(count) => write!(f, "{count} keys; at most {} are taken", super::KEYS_MAX),
            Self::TooManyWithoutId(algorithm) => {
                let max = super::KEYS_WITHOUT_ID_MAX;
                write!(f, "more than {max} keys for {} without a key id (`kid`)", algorithm.name())
            }
            Self::Twice(id) => write!(f, "two keys of one algorithm have the id `{}`", id.escape_debug()),
        }
    }
}

impl std::error::Error for KeyFault {}
