//! A JWK set (RFC 7517 5): what an identity provider publishes to let others verify its tokens.

use super::fault::KeyFault;
use super::key::{Algorithm, Key};
use super::object::Object;
use super::{JWKS_BYTES_MAX, KEYS_MAX};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The keys of a set that can verify tokens.
#[derive(Debug)]
pub struct Jwks {
    /// Those that can.
    pub keys: Vec<Key>,
    /// How many are for something else: encryption, another algorithm, another curve. Sets have such, and RFC 7517 5
    /// wants them passed over.
    pub passed_over: usize,
}

impl Jwks {
    /// Reads a set. Secrets (`oct`) are taken if they say their algorithm: whoever writes them into the text means it.
    ///
    /// # Errors
    /// [`KeyFault`]: a key of a kind that we know must be whole, or a typing error would lock clients out in silence.
    pub fn parse(text: &[u8]) -> Result<Self, KeyFault> {
        if text.len() > JWKS_BYTES_MAX {
            return Err(KeyFault::TooLong);
        }
        let set = Object::parse(text).ok_or(KeyFault::NotASet)?;
        let list = set.get("keys").and_then(|keys| keys.array().ok()).ok_or(KeyFault::NotASet)?;
        let (mut keys, mut passed_over) = (Vec::new(), 0);
        for (at, value) in list.enumerate() {
            let jwk = Jwk { at, members: Object::of(value).ok_or(KeyFault::NotASet)? };
            match jwk.key()? {
                Some(key) => keys.push(key),
                None => passed_over += 1,
            }
            if keys.len() > KEYS_MAX {
                return Err(KeyFault::TooMany(keys.len() + passed_over));
            }
        }
        Ok(Self { keys, passed_over })
    }
}

/// One key of a set, unread.
struct Jwk<'a> {
    at: usize,
    members: Object<'a>,
}

impl Jwk<'_> {
    /// The key, or `None` if it is not one to verify our kinds of tokens with.
    fn key(&self) -> Result<Option<Key>, KeyFault> {
        let kind = self.text("kty")?.ok_or(self.fault("kty"))?;
        let algorithm = self.text("alg")?;
        if !self.is_for_signatures()? {
            return Ok(None);
        }
        let expected = match kind.as_str() {
            "RSA" => Algorithm::Rs256,
            "EC" if self.text("crv")?.as_deref() == Some("P-256") => Algorithm::Es256,
            "oct" => match algorithm.as_deref().map(Algorithm::from_name) {
                None => return Err(self.fault("alg")),
                Some(Some(algorithm)) if algorithm.is_secret() => algorithm,
                Some(_) => return Ok(None),
            },
            _ => return Ok(None),
        };
        if algorithm.is_some_and(|algorithm| algorithm != expected.name()) {
            return Ok(None);
        }
        let key = match expected {
            Algorithm::Rs256 => Key::rsa(&self.bytes("n")?, &self.bytes("e")?),
            Algorithm::Es256 => Key::p256(&self.bytes("x")?, &self.bytes("y")?),
            secret => Key::secret(secret, &self.bytes("k")?),
        }?;
        Ok(Some(match self.text("kid")? {
            Some(id) => key.named(id),
            None => key,
        }))
    }

    /// RFC 7517 4.2, 4.3: what is said about its use must include verifying.
    fn is_for_signatures(&self) -> Result<bool, KeyFault> {
        let by_use = self.text("use")?.is_none_or(|of| of == "sig");
        let by_operations = match self.members.get("key_ops") {
            None => true,
            Some(operations) => {
                let mut operations = operations.array().map_err(|_| self.fault("key_ops"))?;
                operations.any(|operation| operation.as_str().is_ok_and(|operation| operation == "verify"))
            }
        };
        Ok(by_use && by_operations)
    }

    fn text(&self, name: &'static str) -> Result<Option<String>, KeyFault> {
        let text = self.members.text(name).map_err(|()| self.fault(name))?;
        Ok(text.map(|text| text.into_owned()))
    }

    fn bytes(&self, name: &'static str) -> Result<Vec<u8>, KeyFault> {
        let text = self.text(name)?.ok_or(self.fault(name))?;
        URL_SAFE_NO_PAD.decode(text).map_err(|_| self.fault(name))
    }

    fn fault(&self, name: &'static str) -> KeyFault {
        KeyFault::Member { at: self.at, name }
    }
}
