//! The certificate for running beside a cluster: made at start, known to the API server through the webhook configuration
//! alone, gone with the process.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

/// A serving certificate and the authority that the API server is to trust for it. PEM.
pub struct Serving {
    /// The authority's certificate.
    pub authority: String,
    /// The serving certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

/// Makes an authority and a certificate for `host`, a DNS name or an IP address. The authority's key is forgotten.
pub fn self_signed(host: &str) -> Result<Serving, rcgen::Error> {
    let mut authority = CertificateParams::new(Vec::<String>::new())?;
    authority.distinguished_name.push(DnType::CommonName, "countersign admission authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority_key = KeyPair::generate()?;
    let authority_certificate = authority.self_signed(&authority_key)?;

    let mut leaf = CertificateParams::new(vec![host.to_string()])?;
    leaf.distinguished_name.push(DnType::CommonName, "countersign admission");
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let certificate = leaf.signed_by(&key, &Issuer::new(authority, authority_key))?;
    Ok(Serving { authority: authority_certificate.pem(), certificate: certificate.pem(), key: key.serialize_pem() })
}
