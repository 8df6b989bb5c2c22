//! The other end of TLS: certificates made on the spot, and rustls as the client.

#![allow(dead_code, reason = "every test program uses its own part of it")]

use fanfare_engine::Certificates;
use rcgen::{CertificateParams, CertifiedKey, KeyPair, PKCS_ED25519, SerialNumber};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};
use std::sync::Arc;

/// A certificate of its own making, and what trusts it.
pub(crate) struct Identity {
    pub(crate) chain: String,
    pub(crate) key: String,
    der: CertificateDer<'static>,
}

impl Identity {
    /// Of these names. With Ed25519 and a fixed serial number every handshake has the same length, which is what makes
    /// simulated runs repeatable.
    pub(crate) fn new(names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.serial_number = Some(SerialNumber::from(vec![1, 2, 3, 4]));
        let signing_key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let cert = params.self_signed(&signing_key).unwrap();
        let made = CertifiedKey { cert, signing_key };
        Self { chain: made.cert.pem(), key: made.signing_key.serialize_pem(), der: made.cert.der().clone() }
    }

    pub(crate) fn certificates(&self) -> Certificates {
        Certificates::from_pem(self.chain.as_bytes(), self.key.as_bytes()).unwrap()
    }

    /// A client's settings that trust this identity and nobody else.
    pub(crate) fn client_config(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config
    }

    pub(crate) fn client(&self) -> ClientConnection {
        client_of(Arc::new(self.client_config(rustls::ALL_VERSIONS)), "localhost")
    }
}

pub(crate) fn client_of(config: Arc<ClientConfig>, name: &str) -> ClientConnection {
    ClientConnection::new(config, ServerName::try_from(name.to_owned()).unwrap()).unwrap()
}
