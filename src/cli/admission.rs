//! Flags of the operator that say where admission is served and under which certificate, and the server under them.

use crate::admission::certificate::keeper::Address;
use crate::admission::certificate::{Good, Keeper, Kept, Served, Settings, name_of};
use crate::admission::registration::{self, At, Endpoint, Hold};
use crate::admission::{server, tls};
use crate::api::names;
use crate::controller::Leadership;
use crate::integrity::{Announces, Integrity, Kind};
use crate::telemetry::{Check, Metrics};
use anyhow::{Context, bail};
use axum_server::Handle;
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use rustls::pki_types::ServerName;
use serde_json::Value;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tracing::info;

/// How long a certificate lasts that is never replaced: that of a process.
const FOR_A_PROCESS: SignedDuration = SignedDuration::from_hours(24 * 3650);
/// Longest wait at the end for requests that are being answered.
const IN_FLIGHT: Duration = Duration::from_secs(10);
/// The objects that are registered.
const REGISTERED: [(Kind, &str); 2] = [
    (Kind::MutatingWebhookConfiguration, registration::NAME),
    (Kind::ValidatingWebhookConfiguration, registration::NAME),
];

/// Without `--admission-url` and `--admission-service`, no admission is served.
#[derive(clap::Args, Clone, Debug)]
pub struct AdmissionArgs {
    /// Address on which admission is served over HTTPS. Port 0 takes a free one. In a Pod: 0.0.0.0:9443.
    #[arg(long, env = "COUNTERSIGN_ADMISSION_BIND", default_value = "127.0.0.1:9443", value_name = "ADDRESS")]
    admission_bind: SocketAddr,

    /// URL under which the API server reaches admission, such as https://127.0.0.1:9443, for an operator beside a cluster.
    /// With it, the operator serves admission and registers its webhook configurations with this URL.
    #[arg(long, env = "COUNTERSIGN_ADMISSION_URL", value_name = "URL", conflicts_with = "admission_service")]
    admission_url: Option<String>,

    /// Service in the operator's namespace, of port 443, through which the API server reaches admission, for operators in a
    /// cluster. Give it to each of them.
    #[arg(long, env = "COUNTERSIGN_ADMISSION_SERVICE", value_name = "NAME")]
    admission_service: Option<String>,

    /// Where the certificate for admission comes from. Default: `secret` with --admission-service, else `memory`.
    #[arg(long, env = "COUNTERSIGN_ADMISSION_CERTIFICATE", value_name = "WHENCE")]
    admission_certificate: Option<Whence>,

    /// Secret in the operator's namespace that holds the certificate, with `--admission-certificate provided`.
    #[arg(long, env = "COUNTERSIGN_ADMISSION_CERTIFICATE_SECRET", value_name = "NAME",
        default_value = names::CERTIFICATE_SECRET)]
    admission_certificate_secret: String,

    /// Days that a certificate lasts, with `--admission-certificate secret`. It is replaced after two thirds of that.
    #[arg(long, env = "COUNTERSIGN_ADMISSION_CERTIFICATE_DAYS", default_value = "90", value_name = "DAYS",
        value_parser = clap::value_parser!(u16).range(1..=365))]
    admission_certificate_days: u16,

    /// Seconds for which an operator that is asked to end (SIGTERM) goes on serving admission, while it is not ready and
    /// does not lead any more: as long as it takes until nobody sends it requests. Then it finishes those that it has.
    #[arg(long, env = "COUNTERSIGN_DRAIN_SECONDS", default_value = "0", value_name = "SECONDS",
        value_parser = clap::value_parser!(u16).range(..=3600))]
    drain_seconds: u16,
}

/// Values of `--admission-certificate`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Whence {
    /// Made at the start, and gone with the process. For one operator.
    Memory,
    /// Made and replaced by the operator that leads, shared in a Secret.
    Secret,
    /// Kept in a Secret by somebody else, such as cert-manager, under tls.crt, tls.key and ca.crt.
    Provided,
}

/// Admission that is to be served.
pub struct Admission {
    listener: TcpListener,
    address: Address,
    host: String,
    name: ServerName<'static>,
    served: Arc<Served>,
    namespace: String,
    operator: String,
    hold: Hold,
    drain: Duration,
    lifetime: SignedDuration,
    source: Source,
}

/// Where its certificate is.
enum Source {
    /// Here, trusted by this authority.
    Memory(String),
    /// In that Secret.
    Secret(String, Kept),
}

/// A server that can be ended.
pub struct Serving {
    handle: Handle<SocketAddr>,
    ended: oneshot::Receiver<()>,
    drain: Duration,
}

impl AdmissionArgs {
    /// Takes the address and looks whether the flags go together; none where no admission is asked for.
    pub fn open(&self, namespace: &str, hold: Hold) -> anyhow::Result<Option<Admission>> {
        let Some(whence) = self.whence()? else { return Ok(None) };
        let listener = TcpListener::bind(self.admission_bind)
            .with_context(|| format!("admission cannot listen on {}", self.admission_bind))?;
        let (address, host) = match (&self.admission_url, &self.admission_service) {
            (Some(url), _) => {
                let (url, host) = endpoint(url, listener.local_addr()?.port())?;
                (Address::Url(url), host)
            }
            (None, name) => {
                let name = name.clone().unwrap_or_default();
                let host = format!("{name}.{namespace}.svc");
                (Address::Service(name), host)
            }
        };
        let name = name_of(&host).with_context(|| format!("no certificate can be for {host:?}"))?;
        let served = Arc::new(Served::default());
        let source = match whence {
            Whence::Memory => Source::Memory(in_memory(&served, &host, &name)?),
            Whence::Secret => Source::Secret(names::CERTIFICATE_SECRET.into(), Kept::Here),
            Whence::Provided => Source::Secret(self.admission_certificate_secret.clone(), Kept::Elsewhere),
        };
        Ok(Some(Admission {
            listener,
            address,
            host,
            name,
            served,
            namespace: namespace.into(),
            operator: names::operator_username(namespace),
            hold,
            drain: Duration::from_secs(self.drain_seconds.into()),
            lifetime: SignedDuration::from_hours(24 * i64::from(self.admission_certificate_days)),
            source,
        }))
    }

    fn whence(&self) -> anyhow::Result<Option<Whence>> {
        let default = match (&self.admission_url, &self.admission_service) {
            (None, None) => return Ok(None),
            (Some(_), _) => Whence::Memory,
            (None, Some(_)) => Whence::Secret,
        };
        let whence = self.admission_certificate.unwrap_or(default);
        if whence != Whence::Provided && self.admission_certificate_secret != names::CERTIFICATE_SECRET {
            bail!("--admission-certificate-secret is for --admission-certificate provided");
        }
        Ok(Some(whence))
    }
}

/// Makes a certificate that lasts as long as the process, and serves it. Returns its authority.
fn in_memory(served: &Served, host: &str, name: &ServerName<'_>) -> anyhow::Result<String> {
    let now = Timestamp::now();
    let made = tls::self_signed(host, now, FOR_A_PROCESS).context("no certificate could be made")?;
    let pair = Good::check(&made, name, now).context("the certificate that was made is of no use")?;
    let authority = pair.serving.authority.clone();
    served.serve(pair);
    Ok(authority)
}

impl Admission {
    /// The webhook configurations that are to be stored, where that is known now.
    pub fn expected(&self) -> Vec<Value> {
        match &self.source {
            Source::Memory(authority) => registration::configurations(&self.endpoint(authority)).into(),
            Source::Secret(..) => vec![],
        }
    }

    /// Those of which it is told later how they are to be stored.
    pub fn awaited(&self) -> &'static [(Kind, &'static str)] {
        match self.source {
            Source::Memory(_) => &[],
            Source::Secret(..) => &REGISTERED,
        }
    }

    /// Whether this operator tells of the gate.
    pub fn announces(&self, leadership: &Leadership) -> Announces {
        match self.source {
            Source::Memory(_) => Announces::Always,
            Source::Secret(..) => Announces::Leading(leadership.clone()),
        }
    }

    fn endpoint<'a>(&'a self, authority: &'a str) -> Endpoint<'a> {
        let at = match &self.address {
            Address::Url(url) => At::Url(url),
            Address::Service(name) => At::Service { namespace: &self.namespace, name },
        };
        Endpoint { at, authority, operator: &self.operator, hold: self.hold }
    }

    /// Keeps the certificate, where it is shared; and what it takes to be ready.
    pub fn keep(
        &self,
        tasks: &mut JoinSet<String>,
        (client, leadership): (&Client, &Leadership),
        integrity: &Arc<Integrity>,
        metrics: &Metrics,
    ) -> Vec<(&'static str, Check)> {
        let Source::Secret(secret, kept) = &self.source else {
            let served = self.served.clone();
            let until = served.now(Timestamp::now()).map_or(0, |pair| pair.until.as_second());
            metrics.admission_certificate.set(until);
            return vec![("certificate", Box::new(move || in_words(&served)))];
        };
        let integrity = integrity.clone();
        let keeper = Arc::new(Keeper::new(Settings {
            client: client.clone(),
            namespace: self.namespace.clone(),
            secret: secret.clone(),
            kept: *kept,
            host: self.host.clone(),
            name: self.name.clone(),
            lifetime: self.lifetime,
            address: self.address.clone(),
            operator: self.operator.clone(),
            hold: self.hold,
            leadership: leadership.clone(),
            served: self.served.clone(),
            expiry: metrics.admission_certificate.clone(),
            expects: Box::new(move |expected| integrity.expect(expected)),
        }));
        let (certificate, registration) = (keeper.clone(), keeper.clone());
        tasks.spawn(keeper.run());
        vec![
            ("certificate", Box::new(move || certificate.certificate())),
            ("registration", Box::new(move || registration.registration())),
        ]
    }

    /// Serves admission, and registers it where nobody else will.
    pub async fn serve(
        self,
        tasks: &mut JoinSet<String>,
        client: &Client,
        server: server::Server,
    ) -> anyhow::Result<Serving> {
        let tls = tls::server_config(self.served.clone())?;
        let (handle, (tell, ended)) = (Handle::new(), oneshot::channel());
        let address = self.listener.local_addr()?;
        let serving = server::serve(self.listener.try_clone()?, tls, server, handle.clone());
        tasks.spawn(async move {
            let result = serving.await;
            // At the end somebody waits for it.
            let _ = tell.send(());
            match result {
                Ok(()) => "admission ended".to_string(),
                Err(error) => format!("admission failed: {error}"),
            }
        });
        info!(%address, host = self.host, "admission is served");
        if let Source::Memory(authority) = &self.source {
            let endpoint = self.endpoint(authority);
            tokio::time::timeout(Duration::from_secs(30), registration::register(client, &endpoint))
                .await
                .context("the API server did not answer in time")?
                .context("the webhook configurations could not be written; are the manifests applied?")?;
            info!(at = ?endpoint.at, hold = ?self.hold, "admission is registered");
        }
        Ok(Serving { handle, ended, drain: self.drain })
    }
}

fn in_words(served: &Served) -> (bool, String) {
    match served.now(Timestamp::now()) {
        Some(pair) => (true, format!("served, until {}", pair.until)),
        None => (false, "it has expired: restart this operator".into()),
    }
}

impl Serving {
    /// Goes on for a while, since whoever sends requests hears late that it should not; then finishes those that came.
    pub async fn drain(self) {
        if !self.drain.is_zero() {
            info!(seconds = self.drain.as_secs(), "admission goes on until nobody sends requests any more");
            tokio::time::sleep(self.drain).await;
        }
        self.handle.graceful_shutdown(Some(IN_FLIGHT));
        let _ = self.ended.await;
        info!("admission ended, every request was answered");
    }
}

/// The URL to register and its host. Port 0 stands for the one that was bound.
fn endpoint(url: &str, port: u16) -> anyhow::Result<(String, String)> {
    let uri: axum::http::Uri = url.parse().with_context(|| format!("--admission-url {url:?} is not a URL"))?;
    let (Some("https"), Some(host)) = (uri.scheme_str(), uri.host()) else {
        bail!("--admission-url {url:?} must begin with https:// and name a host");
    };
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        bail!("--admission-url {url:?} takes no path: the operator adds its own");
    }
    let port = uri.port_u16().filter(|p| *p != 0).unwrap_or(port);
    Ok((format!("https://{host}:{port}{}", registration::PATH), host.trim_matches(['[', ']']).to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        admission: AdmissionArgs,
    }

    fn whence(flags: &[&str]) -> Result<Option<Whence>, String> {
        let line = Line::try_parse_from(["operator"].iter().chain(flags)).map_err(|error| error.to_string())?;
        line.admission.whence().map_err(|error| error.to_string())
    }

    #[test]
    fn the_registered_url_has_our_path_and_the_bound_port() {
        let of = |url| endpoint(url, 4711).unwrap();
        assert_eq!(of("https://127.0.0.1:0"), ("https://127.0.0.1:4711/admit".into(), "127.0.0.1".into()));
        assert_eq!(of("https://host:9443/").0, "https://host:9443/admit");
        assert_eq!(of("https://[::1]:9443").1, "::1");
        for bad in ["http://host", "host", "https://host/path", "https://host?x=1", "not a url"] {
            assert!(endpoint(bad, 1).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_certificate_is_shared_where_several_serve() {
        let (url, service) = ("--admission-url=https://h", "--admission-service=countersign");
        let provided = "--admission-certificate=provided";
        assert_eq!(whence(&[]), Ok(None));
        assert_eq!(whence(&[url]), Ok(Some(Whence::Memory)));
        assert_eq!(whence(&[service]), Ok(Some(Whence::Secret)));
        assert_eq!(whence(&[url, "--admission-certificate=secret"]), Ok(Some(Whence::Secret)));
        let named = "--admission-certificate-secret=other";
        assert_eq!(whence(&[service, provided, named]), Ok(Some(Whence::Provided)));
        for bad in [vec![service, named], vec![url, service], vec![service, "--admission-certificate-days=0"]] {
            assert!(whence(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn behind_a_service_the_certificate_is_for_its_name() {
        let line =
            Line::try_parse_from(["operator", "--admission-bind=127.0.0.1:0", "--admission-service=gate"]).unwrap();
        let admission = line.admission.open("home", Hold::Policy).unwrap().unwrap();
        assert_eq!(admission.host, "gate.home.svc");
        assert!(admission.expected().is_empty() && admission.awaited().len() == 2);
    }
}
