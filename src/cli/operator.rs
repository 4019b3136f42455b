//! `countersign operator`: runs the operator.

use crate::admission::deciders::{AccessReviews, Deciders};
use crate::admission::registration::{self, Hold};
use crate::admission::server;
use crate::api::names;
use crate::audit::Refusals;
use crate::cli::admission::{Admission, AdmissionArgs, Serving};
use crate::cli::leader::{self, Candidacy, LeaderArgs};
use crate::cli::observed::{self, Observed};
use crate::cli::retention::RetentionArgs;
use crate::cli::{kubeconfig, logging, manifests};
use crate::controller::{self, Index, ReadSecrets, Watches};
use crate::integrity::{self, Announces, Integrity};
use crate::lifecycle::Cluster;
use crate::telemetry::{self, Check, Metrics, Readiness, Telemetry};
use anyhow::{Context, bail};
use kube::Client;
use kube::client::ClientBuilder;
use kube::config::KubeConfigOptions;
use serde_json::Value;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tower::util::MapResponseLayer;
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

    #[command(flatten)]
    admission: AdmissionArgs,

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

    /// Send a trace of each request that ends to the OpenTelemetry collector at this address, such as http://collector:4318, as
    /// OTLP over HTTP (/v1/traces); off by default. Its trace id is the request's uid.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    otlp_endpoint: Option<String>,

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
    let admission = args.admission.open(&args.namespace, hold)?;
    let (leadership, candidacy) = args.leader.stand(&mut tasks, &client, &args.namespace, random()?);
    let instance = format!("{}/{}", leader::host(), std::process::id());
    let metrics = Metrics::new();
    let watches = Arc::new(Watches::new(args.read_secrets));
    let mut expected = manifests::admission_objects(&args.namespace, hold)?;
    expected.extend(admission.iter().flat_map(Admission::expected));
    let awaited = admission.as_ref().map_or(&[][..], Admission::awaited);
    let integrity = Arc::new(Integrity::new(expected, awaited, metrics.clone())?);
    let announces = admission.as_ref().map_or(Announces::Never, |admission| admission.announces(&leadership));

    let mut checks = vec![listed(ready.clone(), index.clone(), watches.clone())];
    if let Some(admission) = &admission {
        checks.extend(admission.keep(&mut tasks, (&client, &leadership), &integrity, &metrics));
    }
    let readiness = Readiness::new(checks);
    let serving = match admission {
        Some(admission) => {
            let server = server::Server {
                key: key.clone(),
                view: index.clone(),
                deciders: Arc::new(Deciders::new(Arc::new(AccessReviews(client.clone())))),
                readiness: readiness.clone(),
                refusals: refusals.clone(),
                metrics: metrics.work.clone(),
            };
            Some(admission.serve(&mut tasks, &client, server).await?)
        }
        None => None,
    };
    tasks.spawn(integrity.clone().run(integrity::Settings {
        client: client.clone(),
        namespace: args.namespace.clone(),
        instance: instance.clone(),
        announces,
    }));
    if let Some(address) = args.metrics_bind {
        let (integrity, metrics, readiness) = (integrity.clone(), metrics.clone(), readiness.clone());
        let details = Arc::new(move || integrity.details());
        let (index, watches, told) = (index.clone(), watches.clone(), metrics.clone());
        let refresh = Arc::new(Mutex::new(move || observed::refresh(&told, &index, &watches)));
        serve_telemetry(&mut tasks, address, Telemetry { metrics, readiness, details, refresh })?;
    }
    let tracer = args.otlp_endpoint.as_deref().map(|endpoint| trace_to(&mut tasks, endpoint, &instance, &metrics));
    let tracer = tracer.transpose()?;
    let (leads, gauge) = (leadership.clone(), metrics.leader.clone());
    tasks.spawn(async move { leader::show(&leads, &gauge).await });
    let settings = controller::Settings {
        client,
        namespace: args.namespace,
        instance,
        index,
        key,
        secrets: args.read_secrets,
        watches,
        checkpoints: sink(args.checkpoints),
        reanchor: args.reanchor_audit,
        retention: args.retention.of_records(),
        leadership,
        refusals,
        hooks: Arc::new(Observed { integrity, metrics, tracer }),
    };
    tasks.spawn(controller::run(settings, move || {
        ready.store(true, Ordering::Release);
        info!("ready: every watch has listed everything");
    }));
    let mut signals = Signals::new()?;
    tokio::select! {
        () = signals.next() => {}
        // A process that goes on without one of its tasks would look alive and do nothing.
        ended = tasks.join_next() => match ended {
            Some(Ok(what)) => bail!("{what}"),
            Some(Err(error)) => bail!("a task failed: {error}"),
            None => bail!("no task is left"),
        },
    }
    readiness.end();
    tokio::select! {
        () = end(candidacy, serving) => {}
        () = signals.next() => info!("asked twice, ending at once"),
    }
    Ok(())
}

/// Another leads at once, and admission ends without a request that goes unanswered.
async fn end(candidacy: Candidacy, serving: Option<Serving>) {
    candidacy.give_up().await;
    if let Some(serving) = serving {
        serving.drain().await;
    }
}

/// What asks a process to end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => info!("SIGTERM, ending"),
            _ = self.interrupt.recv() => info!("SIGINT, ending"),
        }
    }
}

fn listed(ready: Arc<AtomicBool>, index: Arc<Index>, watches: Arc<Watches>) -> (&'static str, Check) {
    let check = move || match (ready.load(Ordering::Acquire), watches.unlisted()) {
        (true, _) => (true, "every watch has listed everything".into()),
        _ if !index.is_trail_read() => (false, "the audit trail is being read, and nothing is listed before".into()),
        (false, unlisted) if unlisted.is_empty() => {
            (false, "every watch has listed everything, work is about to begin".into())
        }
        (false, unlisted) => (false, format!("not listed yet: {}", unlisted.join(", "))),
    };
    ("watches", Box::new(check))
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

fn trace_to(
    tasks: &mut JoinSet<String>,
    endpoint: &str,
    instance: &str,
    metrics: &Metrics,
) -> anyhow::Result<telemetry::Tracer> {
    let post = observed::post_to(endpoint)?;
    let (tracer, sending) = telemetry::tracer(post, instance.to_owned(), metrics.work.traces_dropped.clone());
    info!(endpoint, "traces are sent");
    tasks.spawn(async move {
        sending.await;
        "sending traces ended".to_string()
    });
    Ok(tracer)
}

fn serve_telemetry(tasks: &mut JoinSet<String>, address: SocketAddr, telemetry: Telemetry) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).with_context(|| format!("metrics cannot be served on {address}"))?;
    info!(address = %listener.local_addr()?, "metrics are served");
    tasks.spawn(async move {
        match telemetry::serve(listener, telemetry).await {
            Ok(()) => "telemetry ended".to_string(),
            Err(error) => format!("telemetry failed: {error}"),
        }
    });
    Ok(())
}

/// A client that neither retries on its own, which would hide failures and repeat writes, nor limits reads, since watches
/// are silent for a minute at a time; every single call has a limit of its own.
async fn client(named: Option<&std::path::Path>) -> anyhow::Result<Client> {
    let mut config = kubeconfig::config(named, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    config.read_timeout = None;
    config.connect_timeout = Some(Duration::from_secs(5));
    Ok(ClientBuilder::try_from(config)?.with_layer(&MapResponseLayer::new(controller::keep_retry_after)).build())
}

#[cfg(test)]
mod tests {
    use super::{Cluster, Index, ReadSecrets, Watches, at_least, listed};
    use crate::binding::Keyring;
    use serde_json::json;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn a_start_names_what_it_waits_for() {
        let ready = Arc::new(AtomicBool::new(false));
        let key = Arc::new(Keyring::from_seed(&[7; 32]).unwrap());
        let index = Arc::new(Index::new(key, "home".into(), false, Cluster::default()));
        let (_, check) = listed(ready.clone(), index.clone(), Arc::new(Watches::new(ReadSecrets::None)));
        assert_eq!(check(), (false, "the audit trail is being read, and nothing is listed before".into()));
        index.set_trail_read();
        let (there, said) = check();
        assert!(!there && said.starts_with("not listed yet: ") && said.contains("NetworkPolicy"), "{said}");
        ready.store(true, std::sync::atomic::Ordering::Release);
        assert_eq!(check(), (true, "every watch has listed everything".into()));
    }

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
}
