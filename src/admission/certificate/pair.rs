//! Whether a certificate can be served: whether the API server, which trusts its authority, takes it now.

use crate::admission::tls::Serving;
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, RootCertStore};
use std::fmt::{Debug, Formatter};
use std::sync::Arc;
use std::time::Duration;

/// Beyond this no certificate is good, whatever it says.
const LONGEST: SignedDuration = SignedDuration::from_hours(24 * 3660);

/// Why a certificate cannot be served.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Flaw {
    /// A part is not there.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A part is not what its name says.
    #[error("{0} cannot be read as PEM")]
    Unreadable(&'static str),
    /// The key is of no use, or that of another certificate.
    #[error("tls.key is not the key of tls.crt: {0}")]
    Key(String),
    /// Its time is over.
    #[error("it has expired")]
    Expired,
    /// The API server would not take it.
    #[error("an API server that trusts ca.crt would refuse tls.crt: {0}")]
    Refused(String),
}

/// A certificate that can be served.
#[derive(Clone)]
pub struct Good {
    /// The pair, the authority in a form that depends on nothing but its certificates.
    pub serving: Serving,
    /// Good until then.
    pub until: Timestamp,
    /// As it is served.
    pub key: Arc<CertifiedKey>,
}

impl Debug for Good {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Good").field("serving", &self.serving).field("until", &self.until).finish_non_exhaustive()
    }
}

impl PartialEq for Good {
    fn eq(&self, other: &Self) -> bool {
        (&self.serving, self.until) == (&other.serving, other.until)
    }
}

impl Eq for Good {}

/// The name that certificates must be for: a DNS name or an IP address.
pub fn name_of(host: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(host.to_owned()).ok()
}

impl Good {
    /// Checks a pair for that name and time.
    pub fn check(serving: &Serving, name: &ServerName<'_>, now: Timestamp) -> Result<Self, Flaw> {
        let authorities = certificates("ca.crt", &serving.authority)?;
        let chain = certificates("tls.crt", &serving.certificate)?;
        if serving.key.trim().is_empty() {
            return Err(Flaw::Missing("tls.key"));
        }
        let key = PrivateKeyDer::from_pem_slice(serving.key.as_bytes()).map_err(|_| Flaw::Unreadable("tls.key"))?;
        let provider = Arc::new(ring::default_provider());
        let key = CertifiedKey::from_der(chain, key, &provider).map_err(|error| Flaw::Key(error.to_string()))?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(&authorities)?), provider)
            .build()
            .map_err(|error| Flaw::Refused(error.to_string()))?;
        let (leaf, between) = key.cert.split_first().ok_or(Flaw::Missing("tls.crt"))?;
        let at = |then: Timestamp| verifier.verify_server_cert(leaf, between, name, &[], unix(then)).map(drop);
        at(now).map_err(refused)?;
        let until = last(now, |then| at(then).is_ok());
        let authority = authorities.iter().map(pem).collect();
        Ok(Self { serving: Serving { authority, ..serving.clone() }, until, key: Arc::new(key) })
    }

    /// Whether it can still be served.
    pub fn is_good(&self, now: Timestamp) -> bool {
        now < self.until
    }
}

fn refused(error: rustls::Error) -> Flaw {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            Flaw::Expired
        }
        error => Flaw::Refused(error.to_string()),
    }
}

/// An authority in the form that [`Good`] has it in; none where it is no authority.
pub(super) fn authority(text: &str) -> Option<String> {
    let authorities = certificates("ca.crt", text).ok()?;
    roots(&authorities).ok()?;
    Some(authorities.iter().map(pem).collect())
}

fn roots(authorities: &[CertificateDer<'static>]) -> Result<RootCertStore, Flaw> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone()).map_err(|error| Flaw::Refused(error.to_string()))?;
    }
    Ok(roots)
}

/// The certificates in a text, of which there is one at least.
fn certificates(part: &'static str, text: &str) -> Result<Vec<CertificateDer<'static>>, Flaw> {
    if text.trim().is_empty() {
        return Err(Flaw::Missing(part));
    }
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    read.ok().filter(|read| !read.is_empty()).ok_or(Flaw::Unreadable(part))
}

/// PEM, without whatever stood around it.
fn pem(certificate: &CertificateDer<'_>) -> String {
    let text = STANDARD.encode(certificate);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line)).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// The first second from which on it is good no more. Searched for, since who decides is the verifier, and it takes any
/// time: this is the end of whatever ends first along the chain.
fn last(now: Timestamp, good: impl Fn(Timestamp) -> bool) -> Timestamp {
    let (mut good_at, mut bad_at) = (now.as_second(), now.as_second().saturating_add(LONGEST.as_secs()));
    while bad_at - good_at > 1 {
        let middle = good_at + (bad_at - good_at) / 2;
        match Timestamp::from_second(middle).is_ok_and(&good) {
            true => good_at = middle,
            false => bad_at = middle,
        }
    }
    Timestamp::from_second(bad_at).unwrap_or(Timestamp::MAX)
}

fn unix(at: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(at.as_second()).unwrap_or(0)))
}
