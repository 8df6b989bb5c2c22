//! A certificate for `localhost`, and the authority that signs it: made at every start, good for this process only.

use fanfare_engine::Certificates;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// Certificates of the TLS listener; what clients have to trust is written to `ca_file`.
pub(crate) fn certificates(ca_file: &str) -> Result<Certificates, String> {
    let (ca, chain, key) = make().map_err(|error| error.to_string())?;
    std::fs::write(ca_file, ca).map_err(|error| format!("{ca_file}: {error}"))?;
    Certificates::from_pem(chain.as_bytes(), key.as_bytes()).map_err(|error| error.to_string())
}

fn make() -> Result<(String, String, String), rcgen::Error> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    authority.distinguished_name.push(rcgen::DnType::CommonName, "testhub authority");
    let authority_key = KeyPair::generate()?;
    let authority_certificate = authority.self_signed(&authority_key)?;
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate()?;
    let own = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?.signed_by(&key, &issuer)?;
    Ok((authority_certificate.pem(), own.pem(), key.serialize_pem()))
}
