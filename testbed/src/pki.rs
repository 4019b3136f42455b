//! The cluster's certificate authority and what it issues.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use serde_json::{Value, json};

use crate::certificate;

const CA_NAME: &str = "countersign-testbed-ca";

/// The names under which clients reach the API server.
const SERVER_NAMES: [&str; 6] =
    ["127.0.0.1", "10.96.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];

/// A certificate authority whose files lie in one directory.
pub(crate) struct Pki {
    dir: PathBuf,
    ca: CertifiedIssuer<'static, KeyPair>,
}

/// How a kubeconfig proves who its user is.
pub(crate) enum Credential {
    Certificate { certificate: String, key: String },
    Token(String),
}

impl Pki {
    /// Creates the authority, the API server's certificate and the service account signing key in `dir`.
    pub(crate) fn create(dir: PathBuf) -> Result<Self> {
        // Keys are for the owner alone, also in a directory that the caller chose.
        fs::DirBuilder::new().mode(0o700).create(&dir).with_context(|| format!("creating {}", dir.display()))?;
        let ca = authority()?;
        let pki = Self { dir, ca };
        pki.write("ca.crt", &pki.ca.pem())?;
        pki.write("ca.key", &pki.ca.key().serialize_pem())?;
        pki.write_serving_certificate("server", "kube-apiserver", &SERVER_NAMES)?;
        pki.write_service_account_keys()?;
        Ok(pki)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A new key and certificate for the user `name` in `groups`.
    pub(crate) fn issue(&self, name: &str, groups: &[&str]) -> Result<Credential> {
        let key = KeyPair::generate()?;
        let certificate = certificate::client(name, groups, &key, CA_NAME, self.ca.key())?;
        Ok(Credential::Certificate { certificate, key: key.serialize_pem() })
    }

    /// Writes a self-contained kubeconfig to `path`.
    pub(crate) fn write_kubeconfig(
        &self,
        path: &Path,
        server: &str,
        user: &str,
        credential: &Credential,
    ) -> Result<()> {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{
                "name": "testbed",
                "cluster": {"server": server, "certificate-authority-data": STANDARD.encode(self.ca.pem())},
            }],
            "users": [{"name": user, "user": credential.to_json()}],
            "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": user}}],
            "current-context": "testbed",
        });
        // JSON is YAML too, and needs no quoting rules of our own.
        replace(path, &format!("{config:#}\n"))
    }

    /// The files `FILE.crt` and `FILE.key`, to serve under these names and addresses.
    pub(crate) fn write_serving_certificate(&self, file: &str, name: &str, reached_as: &[&str]) -> Result<()> {
        let mut params = CertificateParams::new(reached_as.iter().copied().map(String::from).collect::<Vec<_>>())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        self.write(&format!("{file}.crt"), &params.signed_by(&key, &self.ca)?.pem())?;
        self.write(&format!("{file}.key"), &key.serialize_pem())
    }

    /// The files `FILE.crt` and `FILE.key`, to be the user `name` in `groups`.
    pub(crate) fn write_client_certificate(&self, file: &str, name: &str, groups: &[&str]) -> Result<()> {
        let key = KeyPair::generate()?;
        let certificate = certificate::client(name, groups, &key, CA_NAME, self.ca.key())?;
        self.write(&format!("{file}.crt"), &certificate)?;
        self.write(&format!("{file}.key"), &key.serialize_pem())
    }

    /// The public half has a file of its own: the API server reads no verification key out of a PKCS#8 private key.
    fn write_service_account_keys(&self) -> Result<()> {
        let key = KeyPair::generate()?;
        self.write("service-account.key", &key.serialize_pem())?;
        self.write("service-account.pub", &key.public_key_pem())
    }

    fn write(&self, name: &str, content: &str) -> Result<()> {
        let path = self.file(name);
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))
    }
}

impl Credential {
    fn to_json(&self) -> Value {
        match self {
            Self::Certificate { certificate, key } => json!({
                "client-certificate-data": STANDARD.encode(certificate),
                "client-key-data": STANDARD.encode(key),
            }),
            Self::Token(token) => json!({ "token": token }),
        }
    }
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, CA_NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

/// Writes beside `path` and renames, so that a concurrent reader sees the old or the new content, never a part.
fn replace(path: &Path, content: &str) -> Result<()> {
    let dir = path.parent().context("a kubeconfig has a directory")?;
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    std::io::Write::write_all(&mut file, content.as_bytes())?;
    file.persist(path).with_context(|| format!("writing {}", path.display()))?;
    Ok(())
}
