//! One key, and the one algorithm it is for.

use super::fault::KeyFault;
use ring::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey};
use ring::{agreement, hmac, rand};
use std::fmt;

/// An algorithm of RFC 7518 3.1 that tokens may be signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Hs256, Self::Hs384, Self::Hs512, Self::Rs256, Self::Es256];

    /// Its name in a token's header.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
        }
    }

    /// The algorithm of that name, which is written in one way only.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Bytes a secret must have: those of the hash (RFC 7518 3.2). 0 for key pairs.
    pub fn secret_bytes_min(self) -> usize {
        match self {
            Self::Hs256 => 32,
            Self::Hs384 => 48,
            Self::Hs512 => 64,
            Self::Rs256 | Self::Es256 => 0,
        }
    }

    /// Whether whoever verifies can sign as well.
    pub(super) fn is_secret(self) -> bool {
        matches!(self, Self::Hs256 | Self::Hs384 | Self::Hs512)
    }
}

/// What a key is made of.
enum Material {
    Secret(hmac::Key),
    /// Big-endian, without leading zeros.
    Rsa {
        modulus: Box<[u8]>,
        exponent: Box<[u8]>,
    },
    /// An uncompressed point: 4, x, y.
    P256([u8; 65]),
}

/// One key that tokens may be signed with, for one algorithm.
pub struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    material: Material,
}

/// Without the key.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// Bits of an RSA modulus. Below, factoring is in reach (RFC 7518 3.3); above, verifying takes too long for a shard.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=8_192;
/// Bytes of an RSA exponent: `ring` takes up to 33 bits.
const RSA_EXPONENT_BYTES_MAX: usize = 5;
/// Bytes of a coordinate of P-256.
const COORDINATE_BYTES: usize = 32;

impl Key {
    /// A secret that both sides know: `algorithm` is one of the three with HMAC.
    ///
    /// # Errors
    /// Another algorithm, or fewer bytes than its hash has.
    pub fn secret(algorithm: Algorithm, secret: &[u8]) -> Result<Self, KeyFault> {
        let hash = match algorithm {
            Algorithm::Hs256 => hmac::HMAC_SHA256,
            Algorithm::Hs384 => hmac::HMAC_SHA384,
            Algorithm::Hs512 => hmac::HMAC_SHA512,
            Algorithm::Rs256 | Algorithm::Es256 => return Err(KeyFault::WrongAlgorithm(algorithm)),
        };
        if secret.len() < algorithm.secret_bytes_min() {
            return Err(KeyFault::ShortSecret { algorithm, len: secret.len() });
        }
        Ok(Self { id: None, algorithm, material: Material::Secret(hmac::Key::new(hash, secret)) })
    }

    /// The public half of an RSA key pair, for RS256. Both numbers are big-endian.
    ///
    /// # Errors
    /// A size or an exponent that is not safe, see [`KeyFault::Rsa`].
    pub fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, KeyFault> {
        // RFC 7518 6.3.1.1 wants the fewest octets; some writers put a zero in front all the same.
        let (modulus, exponent) = (without_zeros(modulus), without_zeros(exponent));
        let bits = 8 * modulus.len() - modulus.first().map_or(0, |first| first.leading_zeros() as usize);
        let odd = |number: &[u8]| number.last().is_some_and(|last| last & 1 == 1);
        let sound = odd(exponent) && exponent != [1] && exponent.len() <= RSA_EXPONENT_BYTES_MAX;
        if !RSA_BITS.contains(&bits) || !odd(modulus) || !sound {
            return Err(KeyFault::Rsa);
        }
        let material = Material::Rsa { modulus: modulus.into(), exponent: exponent.into() };
        Ok(Self { id: None, algorithm: Algorithm::Rs256, material })
    }

    /// The public half of a key pair on P-256, for ES256. Coordinates are big-endian and have 32 bytes.
    ///
    /// # Errors
    /// [`KeyFault::Point`].
    pub fn p256(x: &[u8], y: &[u8]) -> Result<Self, KeyFault> {
        if x.len() != COORDINATE_BYTES || y.len() != COORDINATE_BYTES {
            return Err(KeyFault::Point);
        }
        let mut point = [4; 1 + 2 * COORDINATE_BYTES];
        point[1..=COORDINATE_BYTES].copy_from_slice(x);
        point[1 + COORDINATE_BYTES..].copy_from_slice(y);
        // `ring` looks at a point only when it is used. An agreement uses it, and its outcome is thrown away.
        let random = rand::SystemRandom::new();
        let ours = agreement::EphemeralPrivateKey::generate(&agreement::ECDH_P256, &random);
        let theirs = agreement::UnparsedPublicKey::new(&agreement::ECDH_P256, point);
        let agreed = ours.and_then(|ours| agreement::agree_ephemeral(ours, &theirs, |_| ()));
        agreed.map_err(|_| KeyFault::Point)?;
        Ok(Self { id: None, algorithm: Algorithm::Es256, material: Material::P256(point) })
    }

    /// The same with an id (`kid`): a token with another id is not for it.
    #[must_use]
    pub fn named(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Its id, if it has one.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// What it is for.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether `signature` over `signed` was made with it. Takes no time that depends on a secret.
    pub(super) fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Secret(key) => hmac::verify(key, signed, signature).is_ok(),
            Material::Rsa { modulus, exponent } => {
                let key = RsaPublicKeyComponents { n: modulus, e: exponent };
                key.verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature).is_ok()
            }
            Material::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed, signature).is_ok()
            }
        }
    }
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|&&byte| byte == 0).count();
    &number[zeros..]
}
