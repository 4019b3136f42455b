//! Certificates for admission, and TLS under them.

use crate::admission::certificate::Served;
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::ServerConfig;
use rustls::crypto::ring;
use std::fmt::{Debug, Formatter};
use std::sync::Arc;
use std::time::Duration;

/// How long before it is made a certificate is good already: clocks differ.
const SKEW: SignedDuration = SignedDuration::from_hours(1);

/// A serving certificate and the authority that the API server is to trust for it. PEM.
#[derive(Clone, Eq, PartialEq)]
pub struct Serving {
    /// The authority's certificate.
    pub authority: String,
    /// The serving certificate, and what leads from it to the authority.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl Debug for Serving {
    /// Without the key.
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Serving").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// Makes an authority and a certificate for `host`, a DNS name or an IP address, good from `now` on for that long. The
/// authority's key is forgotten: it signs this one certificate and never another.
pub fn self_signed(host: &str, now: Timestamp, lifetime: SignedDuration) -> Result<Serving, rcgen::Error> {
    // In whole seconds, as certificates tell time.
    let time =
        |at: Timestamp| date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(at.as_second()).unwrap_or(0));
    let from = time(now.checked_sub(SKEW).unwrap_or(now));
    let until = time(now.checked_add(lifetime).unwrap_or(Timestamp::MAX));
    let mut authority = CertificateParams::new(Vec::<String>::new())?;
    (authority.not_before, authority.not_after) = (from, until);
    authority.distinguished_name.push(DnType::CommonName, "countersign admission authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority_key = KeyPair::generate()?;
    let authority_certificate = authority.self_signed(&authority_key)?;

    let mut leaf = CertificateParams::new(vec![host.to_string()])?;
    (leaf.not_before, leaf.not_after) = (from, until);
    leaf.distinguished_name.push(DnType::CommonName, "countersign admission");
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let certificate = leaf.signed_by(&key, &Issuer::new(authority, authority_key))?;
    Ok(Serving { authority: authority_certificate.pem(), certificate: certificate.pem(), key: key.serialize_pem() })
}

/// TLS under whatever certificate is served at the time of each handshake. None is resumed: each shows a certificate that is
/// good then, and where there is none, it fails.
pub fn server_config(served: Arc<Served>) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(served);
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
