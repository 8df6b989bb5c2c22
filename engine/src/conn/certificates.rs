//! What TLS listeners prove their names with: certificates and their keys, which may be replaced while clients come.

use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Tickets that a client gets with a TLS 1.3 handshake. Clients come back one at a time; the default of two would only
/// lengthen every handshake.
const TICKETS: usize = 1;

/// The certificates of an engine's TLS listeners. A clone is another handle to the same ones.
///
/// A handshake uses what is there when its first message comes; a connection keeps what it began with.
#[derive(Clone)]
pub struct Certificates(Arc<Source>);

struct Source {
    provider: Arc<CryptoProvider>,
    pairs: RwLock<Arc<[Pair]>>,
}

/// One chain with its key.
struct Pair {
    key: Arc<CertifiedKey>,
    not_after: Option<SystemTime>,
}

/// Why a certificate cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificateError {
    /// The chain is no PEM, or holds no `CERTIFICATE`.
    NoCertificate(String),
    /// The key is no PEM, or holds no private key.
    NoKey(String),
    /// The private key is not that of the first certificate of the chain.
    KeyMismatch,
    /// A certificate that cannot be read, or a kind of key that is not supported (RSA, ECDSA P-256, P-384 and Ed25519
    /// are).
    Unusable(String),
    /// No pair was given.
    Nothing,
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCertificate(why) => write!(f, "the chain holds no certificate in PEM: {why}"),
            Self::NoKey(why) => write!(f, "the key file holds no private key in PEM: {why}"),
            Self::KeyMismatch => f.write_str("the private key does not belong to the first certificate of the chain"),
            Self::Unusable(why) => write!(f, "the certificate or its key cannot be used: {why}"),
            Self::Nothing => f.write_str("no certificate was given"),
        }
    }
}

impl std::error::Error for CertificateError {}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("pairs", &self.0.pairs().len()).finish()
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

impl Certificates {
    /// One chain in PEM, the server's own certificate first, and its private key in PEM (PKCS#8, PKCS#1 or SEC1).
    ///
    /// # Errors
    /// If either cannot be read or they do not belong together.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        Self::from_pem_pairs(&[(chain, key)])
    }

    /// Several: a client gets the first one that is good for the name that it asks for, or the first of all.
    ///
    /// # Errors
    /// As [`Self::from_pem`], for the first pair that is not good.
    pub fn from_pem_pairs(pairs: &[(&[u8], &[u8])]) -> Result<Self, CertificateError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let pairs = RwLock::new(read_pairs(pairs, &provider)?);
        Ok(Self(Arc::new(Source { provider, pairs })))
    }

    /// New handshakes use this pair from now on. If it is not good nothing changes.
    ///
    /// # Errors
    /// As [`Self::from_pem`].
    pub fn replace_pem(&self, chain: &[u8], key: &[u8]) -> Result<(), CertificateError> {
        self.replace_pem_pairs(&[(chain, key)])
    }

    /// The same with several.
    ///
    /// # Errors
    /// As [`Self::from_pem_pairs`].
    pub fn replace_pem_pairs(&self, pairs: &[(&[u8], &[u8])]) -> Result<(), CertificateError> {
        let pairs = read_pairs(pairs, &self.0.provider)?;
        *self.0.pairs.write().unwrap_or_else(PoisonError::into_inner) = pairs;
        Ok(())
    }

    /// When the first of the certificates in use expires, of those that say so in a way that is understood. Only the
    /// servers' own are looked at, not those of their issuers.
    pub fn not_after(&self) -> Option<SystemTime> {
        self.0.pairs().iter().filter_map(|pair| pair.not_after).min()
    }

    /// What the shards make their side of connections from: TLS 1.2 and 1.3, HTTP/1.1, no client certificates, no early
    /// data, and tickets instead of a memory of sessions.
    pub(crate) fn server_config(&self) -> Result<Arc<ServerConfig>, CertificateError> {
        let unusable = |error: rustls::Error| CertificateError::Unusable(error.to_string());
        let builder = ServerConfig::builder_with_provider(self.0.provider.clone());
        let builder = builder.with_safe_default_protocol_versions().map_err(unusable)?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(self.0.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(unusable)?;
        config.send_tls13_tickets = TICKETS;
        Ok(Arc::new(config))
    }
}

impl Source {
    fn pairs(&self) -> Arc<[Pair]> {
        self.pairs.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Source {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let pairs = self.pairs();
        let name = hello.server_name().filter(|_| pairs.len() > 1).and_then(|name| ServerName::try_from(name).ok());
        let fitting = name.and_then(|name| pairs.iter().find(|pair| pair.is_for(&name)));
        fitting.or(pairs.first()).map(|pair| pair.key.clone())
    }
}

impl Pair {
    fn is_for(&self, name: &ServerName<'_>) -> bool {
        let parsed = self.key.end_entity_cert().and_then(ParsedCertificate::try_from);
        parsed.is_ok_and(|certificate| verify_server_name(&certificate, name).is_ok())
    }
}

fn read_pairs(pairs: &[(&[u8], &[u8])], provider: &CryptoProvider) -> Result<Arc<[Pair]>, CertificateError> {
    if pairs.is_empty() {
        return Err(CertificateError::Nothing);
    }
    pairs.iter().map(|(chain, key)| read_pair(chain, key, provider)).collect()
}

fn read_pair(chain: &[u8], key: &[u8], provider: &CryptoProvider) -> Result<Pair, CertificateError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
    let chain = chain.map_err(|error| CertificateError::NoCertificate(error.to_string()))?;
    let Some(own) = chain.first() else {
        return Err(CertificateError::NoCertificate("no section of that name".into()));
    };
    let not_after = not_after(own);
    ParsedCertificate::try_from(own).map_err(|error| CertificateError::Unusable(error.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| CertificateError::NoKey(error.to_string()))?;
    let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => CertificateError::KeyMismatch,
        other => CertificateError::Unusable(other.to_string()),
    })?;
    Ok(Pair { key: Arc::new(key), not_after })
}

// -- the end of a certificate -------------------------------------------------------------------------------------

/// Tags of X.509's DER that matter here.
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// One element: its tag, what is in it, what is behind it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (len, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (len.iter().fold(0, |len, &byte| len << 8 | usize::from(byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((tag, content, rest))
}

/// RFC 5280 4.1: `Certificate { TBSCertificate { [0] version?, serialNumber, signature, issuer, validity { notBefore,
/// notAfter }, ..`.
fn not_after(certificate: &[u8]) -> Option<SystemTime> {
    let (SEQUENCE, certificate, _) = element(certificate)? else { return None };
    let (SEQUENCE, mut rest, _) = element(certificate)? else { return None };
    if let Some((VERSION, _, behind)) = element(rest) {
        rest = behind;
    }
    for _ in 0..3 {
        rest = element(rest)?.2;
    }
    let (SEQUENCE, validity, _) = element(rest)? else { return None };
    let (_, _, rest) = element(validity)?;
    let (tag, text, _) = element(rest)?;
    time(tag, std::str::from_utf8(text).ok()?)
}

/// `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ` (RFC 5280 4.1.2.5).
fn time(tag: u8, text: &str) -> Option<SystemTime> {
    let digits = text.strip_suffix('Z').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => {
            let year: i64 = digits[..2].parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, &digits[2..])
        }
        (GENERALIZED_TIME, 14) => (digits[..4].parse().ok()?, &digits[4..]),
        _ => return None,
    };
    let mut parts = (0..5).map_while(|at| rest[2 * at..2 * at + 2].parse::<i64>().ok());
    let (month, day) = (parts.next()?, parts.next()?);
    let (hour, minute, second) = (parts.next()?, parts.next()?, parts.next()?);
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).ok()?))
}

/// Days of the Gregorian calendar; years are counted from March, so that the leap day is a year's last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(tag: u8, text: &str) -> Option<u64> {
        time(tag, text).map(|time| time.duration_since(UNIX_EPOCH).unwrap().as_secs())
    }

    #[test]
    fn times_are_read_as_certificates_write_them() {
        assert_eq!(seconds(UTC_TIME, "700101000000Z"), Some(0));
        assert_eq!(seconds(UTC_TIME, "491231235959Z"), Some(2_524_607_999));
        assert_eq!(seconds(GENERALIZED_TIME, "20240229120000Z"), Some(1_709_208_000));
        assert_eq!(seconds(GENERALIZED_TIME, "20000301000000Z"), Some(951_868_800));
        assert_eq!(seconds(GENERALIZED_TIME, "99991231235959Z"), Some(253_402_300_799));
        for (tag, text) in
            [(UTC_TIME, "20240229120000Z"), (GENERALIZED_TIME, "20240229120000"), (UTC_TIME, "é"), (1, "")]
        {
            assert_eq!(seconds(tag, text), None, "{text}");
        }
    }

    #[test]
    fn bytes_that_are_no_certificate_have_no_end() {
        for bytes in [&b""[..], b"\x30", b"\x30\x85\x01", b"\x30\x82\xff\xff\x30", &[0x30; 64]] {
            assert_eq!(not_after(bytes), None);
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = |chain: &str, key: &str| Certificates::from_pem(chain.as_bytes(), key.as_bytes()).unwrap_err();
        assert!(matches!(error("", ""), CertificateError::NoCertificate(_)));
        let rubbish = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(error(rubbish, ""), CertificateError::Unusable(_)));
        assert_eq!(Certificates::from_pem_pairs(&[]).unwrap_err(), CertificateError::Nothing);
    }
}
