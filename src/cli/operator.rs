//! `countersign operator`: runs the operator.

use crate::admission::deciders::{AccessReviews, Deciders};
use crate::admission::registration::{self, Hold};
use crate::admission::{server, tls};
use crate::api::{TargetKind, names};
use crate::audit::Refusals;
use crate::cli::leader::{self, LeaderArgs};
use crate::cli::retention::RetentionArgs;
use crate::cli::{logging, manifests};
use crate::controller::{self, Index, ReadSecrets};
use crate::integrity::{self, Integrity};
use crate::lifecycle::{Cluster, Foreseen};
use crate::telemetry::{Metrics, Telemetry, Warned};
use anyhow::{Context, bail};
use axum_server::tls_rustls::RustlsConfig;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::Value;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tracing::info;

/// Run the operator: evaluates requests, answers admission, releases what was approved.
///
/// In a cluster it takes its service account. Beside a cluster it takes a kubeconfig, which must carry the identity of the
/// service account `countersign` in the operator's namespace (a token, or `as:`), because RBAC and the admission policies
/// name that one.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Kubeconfig to use; default: KUBECONFIG, then ~/.kube/config, then the service account of the Pod.
    #[arg(long, env = "COUNTERSIGN_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// Namespace the operator lives in: it keeps its signing key and the policy snapshots there.
    #[arg(long, env = "COUNTERSIGN_NAMESPACE", default_value = names::DEFAULT_NAMESPACE, value_name = "NAMESPACE")]
    namespace: String,

    /// Address on which admission is served over HTTPS (only with --admission-url). Port 0 takes a free one.
    #[arg(long, env = "COUNTERSIGN_ADMISSION_BIND", default_value = "127.0.0.1:9443", value_name = "ADDRESS")]
    admission_bind: SocketAddr,

    /// URL under which the API server reaches admission, such as https://127.0.0.1:9443. With it, the operator serves
    /// admission under a certificate of its own and registers its webhook configurations with this URL. A second operator
    /// beside the first leaves it out.
    #[arg(long, env = "COUNTERSIGN_ADMISSION_URL", value_name = "URL")]
    admission_url: Option<String>,

    /// Address on which /metrics, /healthz and /readyz are served over plain HTTP; off by default. Port 0 takes a free one.
    #[arg(long, env = "COUNTERSIGN_METRICS_BIND", value_name = "ADDRESS")]
    metrics_bind: Option<SocketAddr>,

    /// What holds Jobs and Pods in gated namespaces: MutatingAdmissionPolicies inside the API server, which must be
    /// installed, or this operator's webhooks. `auto` takes the policies where the API server serves them at v1
    /// (Kubernetes 1.36). Install with `countersign manifests --hold` of the same.
    #[arg(long, env = "COUNTERSIGN_HOLD", default_value = "auto", value_name = "WHAT")]
    hold: HoldBy,

    /// How much to read of Secrets that Jobs use. More than `none` takes the ClusterRole countersign-read-secrets.
    #[arg(long, env = "COUNTERSIGN_READ_SECRETS", value_enum, default_value = "none", value_name = "HOW")]
    read_secrets: ReadSecrets,

    /// Where checkpoints of the audit trail go beside their ConfigMap: a file that they are appended to, or `-` for standard
    /// output. Keep them where the cluster's administrators cannot change them.
    #[arg(long, env = "COUNTERSIGN_CHECKPOINTS", value_name = "FILE")]
    checkpoints: Option<PathBuf>,

    /// Go on with an audit trail that another key signed, and say so in it. For once, after the signing key was lost.
    #[arg(long)]
    reanchor_audit: bool,

    #[command(flatten)]
    leader: LeaderArgs,

    #[command(flatten)]
    retention: RetentionArgs,

    /// Seconds between two times that refused attempts are recorded in the audit trail, counted by caller, resource,
    /// namespace and reason.
    #[arg(long, env = "COUNTERSIGN_REFUSALS_EVERY", default_value = "30", value_name = "SECONDS",
        value_parser = clap::value_parser!(u16).range(1..))]
    refusals_every: u16,

    /// Write logs as JSON, one object a line.
    #[arg(long, env = "COUNTERSIGN_LOG_JSON")]
    log_json: bool,
}

/// Values of `--hold`.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum HoldBy {
    /// What the API server serves decides.
    Auto,
    /// MutatingAdmissionPolicies.
    Policy,
    /// Webhooks.
    Webhook,
}

impl HoldBy {
    async fn choose(self, client: &Client) -> kube::Result<Hold> {
        Ok(match self {
            Self::Auto if registration::serves_mutating_policies(client).await? => Hold::Policy,
            Self::Policy => Hold::Policy,
            Self::Auto | Self::Webhook => Hold::Webhook,
        })
    }
}

/// Runs until SIGTERM or SIGINT; an error otherwise.
pub async fn run(args: Args) -> anyhow::Result<()> {
    logging::start(args.log_json);
    let client = client(args.kubeconfig.as_deref()).await?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|e| anyhow::anyhow!("no randomness for a signing key: {e}"))?;
    let key = Arc::new(controller::load_or_create(&client, &args.namespace, seed).await?);
    info!(key = key.id(), namespace = args.namespace, "signing key is there");

    let index = Arc::new(Index::new(
        key.clone(),
        args.namespace.clone(),
        args.read_secrets != ReadSecrets::None,
        capabilities(&client).await.context("the API server does not tell its version")?,
    ));
    let ready = Arc::new(AtomicBool::new(false));
    let refusals = Arc::new(Mutex::new(refusals(args.refusals_every)?));
    let mut tasks = JoinSet::new();
    let hold = args.hold.choose(&client).await.context("the API server does not tell what it serves")?;
    let mut expected = manifests::admission_objects(&args.namespace, hold)?;
    if let Some(url) = &args.admission_url {
        let deciders = Arc::new(Deciders::new(Arc::new(AccessReviews(client.clone()))));
        let server = server::Server {
            key: key.clone(),
            view: index.clone(),
            deciders,
            ready: ready.clone(),
            refusals: refusals.clone(),
        };
        expected.extend(serve_admission(&mut tasks, &args, (url, hold), &client, server).await?);
    }
    let instance = format!("{}/{}", args.namespace, std::process::id());
    let metrics = Metrics::new();
    let integrity = Arc::new(Integrity::new(expected, metrics.clone())?);
    tasks.spawn(integrity.clone().run(integrity::Settings {
        client: client.clone(),
        namespace: args.namespace.clone(),
        instance: instance.clone(),
        announces: args.admission_url.is_some(),
    }));
    if let Some(address) = args.metrics_bind {
        let (integrity, metrics) = (integrity.clone(), metrics.clone());
        let details = Arc::new(move || integrity.details());
        serve_telemetry(&mut tasks, address, Telemetry { metrics, ready: ready.clone(), details })?;
    }
    let (leadership, candidacy) = args.leader.stand(&mut tasks, &client, &args.namespace, random()?);
    let (leads, gauge) = (leadership.clone(), metrics.leader.clone());
    tasks.spawn(async move { leader::show(&leads, &gauge).await });
    let settings = controller::Settings {
        client,
        namespace: args.namespace,
        instance,
        index,
        key,
        secrets: args.read_secrets,
        checkpoints: sink(args.checkpoints),
        reanchor: args.reanchor_audit,
        retention: args.retention.of_records(),
        leadership,
        refusals,
        hooks: Arc::new(Alarm { integrity, metrics }),
    };
    tasks.spawn(controller::run(settings, move || {
        ready.store(true, Ordering::Release);
        info!("ready: every watch has listed everything");
    }));
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => info!("SIGTERM, ending"),
        _ = interrupt.recv() => info!("SIGINT, ending"),
        // A process that goes on without one of its tasks would look alive and do nothing.
        ended = tasks.join_next() => match ended {
            Some(Ok(what)) => bail!("{what}"),
            Some(Err(error)) => bail!("a task failed: {error}"),
            None => bail!("no task is left"),
        },
    }
    candidacy.give_up().await;
    Ok(())
}

fn random() -> anyhow::Result<u64> {
    getrandom::u64().map_err(|e| anyhow::anyhow!("no randomness: {e}"))
}

/// Counts refusals for this start of the operator, which differs from every other.
fn refusals(every: u16) -> anyhow::Result<Refusals> {
    Ok(Refusals::new(&format!("{:016x}", random()?), jiff::SignedDuration::from_secs(every.into())))
}

fn sink(checkpoints: Option<PathBuf>) -> controller::Sink {
    match checkpoints {
        None => controller::Sink::None,
        Some(path) if path == std::path::Path::new("-") => controller::Sink::Stdout,
        Some(path) => controller::Sink::File(path),
    }
}

/// What the cluster can do, as far as its version tells.
async fn capabilities(client: &Client) -> anyhow::Result<Cluster> {
    let request = axum::http::Request::get("/version").body(vec![])?;
    let version: Value = tokio::time::timeout(Duration::from_secs(30), client.request(request)).await??;
    let cluster = Cluster { mutable_resources: at_least(&version, 36) };
    info!(version = %version["gitVersion"], ?cluster, "the API server is there");
    Ok(cluster)
}

/// Whether an API server's `/version` is at least 1 and that minor, which may end in letters or a plus. One that emulates
/// an older version is what it emulates. What cannot be read is older.
fn at_least(version: &Value, wanted: u32) -> bool {
    let number = |field: &str| {
        let text = version.get(field)?.as_str()?;
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        text[..digits].parse::<u32>().ok()
    };
    let is = |major: &str, minor: &str| number(major) == Some(1) && number(minor).is_some_and(|minor| minor >= wanted);
    let emulates = version.get("emulationMajor").is_some() || version.get("emulationMinor").is_some();
    is("major", "minor") && (!emulates || is("emulationMajor", "emulationMinor"))
}

/// Takes what the controller sees to where people look.
struct Alarm {
    integrity: Arc<Integrity>,
    metrics: Metrics,
}

impl controller::Hooks for Alarm {
    fn started_past_the_gate(&self, kind: TargetKind, namespace: &str, name: &str) {
        self.integrity.report_foreign_start(kind.as_str(), namespace, name);
    }

    fn trail(&self, intact: bool, waiting: usize, kept: i64) {
        self.metrics.audit_trail_intact.set(i64::from(intact));
        self.metrics.audit_entries_kept.set(kept);
        self.metrics.audit_entries_waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    fn warned(&self, foreseen: Foreseen) {
        self.metrics.warned(match foreseen {
            Foreseen::Allow => Warned::Allow,
            Foreseen::Deny => Warned::Deny,
            Foreseen::Hold => Warned::RequireApproval,
            Foreseen::NoPolicy => Warned::NoMatchingPolicy,
        });
    }
}

fn serve_telemetry(tasks: &mut JoinSet<String>, address: SocketAddr, telemetry: Telemetry) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).with_context(|| format!("metrics cannot be served on {address}"))?;
    info!(address = %listener.local_addr()?, "metrics are served");
    tasks.spawn(async move {
        match crate::telemetry::serve(listener, telemetry).await {
            Ok(()) => "telemetry ended".to_string(),
            Err(error) => format!("telemetry failed: {error}"),
        }
    });
    Ok(())
}

/// A client that neither retries on its own, which would hide failures and repeat writes, nor limits reads, since watches
/// are silent for a minute at a time; every single call has a limit of its own.
async fn client(kubeconfig: Option<&std::path::Path>) -> anyhow::Result<Client> {
    let mut config = match kubeconfig {
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(path).with_context(|| format!("kubeconfig {}", path.display()))?;
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?
        }
        None => Config::infer().await.context("neither a kubeconfig nor a Pod's service account is there")?,
    };
    config.default_retry = false;
    config.read_timeout = None;
    config.connect_timeout = Some(Duration::from_secs(5));
    Ok(Client::try_from(config)?)
}

async fn serve_admission(
    tasks: &mut JoinSet<String>,
    args: &Args,
    (url, hold): (&str, Hold),
    client: &Client,
    server: server::Server,
) -> anyhow::Result<Vec<Value>> {
    let listener = TcpListener::bind(args.admission_bind)
        .with_context(|| format!("admission cannot listen on {}", args.admission_bind))?;
    let (url, host) = endpoint(url, listener.local_addr()?.port())?;
    let serving = tls::self_signed(&host).context("no certificate could be made")?;
    let tls = RustlsConfig::from_pem(serving.certificate.into_bytes(), serving.key.into_bytes()).await?;
    tasks.spawn(async move {
        match server::serve(listener, tls, server).await {
            Ok(()) => "admission ended".to_string(),
            Err(error) => format!("admission failed: {error}"),
        }
    });
    let operator = names::operator_username(&args.namespace);
    let endpoint = registration::Endpoint { url: &url, authority: &serving.authority, operator: &operator, hold };
    tokio::time::timeout(Duration::from_secs(30), registration::register(client, &endpoint))
        .await
        .context("the API server did not answer in time")?
        .context("the webhook configurations could not be written; are the manifests applied?")?;
    info!(url, ?hold, "admission is registered");
    Ok(registration::configurations(&endpoint).into())
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
    use super::{at_least, endpoint};
    use serde_json::json;

    #[test]
    fn a_version_is_read_or_counts_as_older() {
        for (version, newer) in [
            (json!({"major": "1", "minor": "36"}), true),
            (json!({"major": "1", "minor": "36+"}), true),
            (json!({"major": "1", "minor": "37-gke.100", "gitVersion": "v1.37.1"}), true),
            (json!({"major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36"}), true),
            (json!({"major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "35"}), false),
            (json!({"major": "1", "minor": "36", "emulationMinor": "36"}), false),
            (json!({"major": "1", "minor": "35+"}), false),
            (json!({"major": "1", "minor": ""}), false),
            (json!({"major": "2", "minor": "40"}), false),
            (json!({"major": "1", "minor": "99999999999"}), false),
            (json!({"major": "1", "minor": 36}), false),
            (json!({"minor": "36"}), false),
            (json!("1.36"), false),
            (json!(null), false),
        ] {
            assert_eq!(at_least(&version, 36), newer, "{version}");
        }
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
}
