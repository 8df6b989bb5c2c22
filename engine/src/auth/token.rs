//! The text of a token, taken apart: JWS compact serialization (RFC 7515 7.1) and its header.

use super::TOKEN_BYTES_MAX;
use super::fault::TokenFault;
use super::key::Algorithm;
use super::object::Object;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// ```text
/// base64url(header) "." base64url(claims) "." base64url(signature)
/// |------------- signed -----------------|
/// ```
pub(super) struct Compact<'a> {
    /// What the signature is over.
    pub(super) signed: &'a str,
    /// The header, decoded.
    header: Vec<u8>,
    /// The claims, as they came.
    claims: &'a str,
    /// The signature.
    pub(super) signature: Vec<u8>,
}

/// What a header says about the signature.
pub(super) struct Header<'a> {
    pub(super) algorithm: std::borrow::Cow<'a, str>,
    pub(super) key_id: Option<std::borrow::Cow<'a, str>>,
}

impl Header<'_> {
    /// Whether it names an algorithm with a secret.
    pub(super) fn is_secret(&self) -> bool {
        Algorithm::from_name(&self.algorithm).is_some_and(Algorithm::is_secret)
    }
}

impl<'a> Compact<'a> {
    /// Cuts a token into its parts. Each byte of it counts: padding, white space, foreign letters and stray bits at
    /// the end of a part are refused.
    pub(super) fn parse(text: &'a str) -> Result<Self, TokenFault> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(TokenFault::TooLong);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(TokenFault::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenFault::Malformed)?;
        Ok(Self { signed, header: decode(header)?, claims, signature: decode(signature)? })
    }

    /// Reads the header. Other members than these say nothing to us, whatever they are.
    pub(super) fn header(&self) -> Result<Header<'_>, TokenFault> {
        let object = Object::parse(&self.header).ok_or(TokenFault::Malformed)?;
        // RFC 7515 4.1.11: who does not know what is critical must refuse. We know no extension.
        if object.get("crit").is_some() {
            return Err(TokenFault::Critical);
        }
        let text = |name| object.text(name).map_err(|()| TokenFault::Malformed);
        let algorithm = text("alg")?.ok_or(TokenFault::Malformed)?;
        Ok(Header { algorithm, key_id: text("kid")? })
    }

    /// The claims, decoded. Only for whoever has verified the signature.
    pub(super) fn claims(&self) -> Result<Vec<u8>, TokenFault> {
        decode(self.claims)
    }
}

fn decode(part: &str) -> Result<Vec<u8>, TokenFault> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenFault::Malformed)
}

/// Body of the fuzz target: any text is read or refused, and what is read is the text again.
#[doc(hidden)]
pub fn fuzz_token(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(compact) = Compact::parse(text) else { return };
    let signature = URL_SAFE_NO_PAD.encode(&compact.signature);
    assert_eq!(format!("{}.{signature}", compact.signed), text);
    let _ = compact.header();
    if let Ok(claims) = compact.claims() {
        let _ = super::claims::Claims::read(&super::TokenRules::default(), &claims);
    }
    let _ = super::Jwks::parse(data);
}
