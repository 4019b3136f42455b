//! `countersign check`: whether an installation does what it should, asked from outside.

use crate::api::names;
use crate::cli::client::{Cluster, Connection, Found, Served, explained};
use crate::cli::escape::visible;
use crate::cli::explain::REQUESTS;
use crate::cli::manifests::dns_label;
use crate::controller::LEADER_LEASE;
use crate::integrity::{FINDINGS, INTACT, LEASE as GATE_LEASE};
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::{Api, PostParams};
use kube::core::DynamicObject;
use serde_json::{Value, json};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant};

const LEASES: Served = Served::new("coordination.k8s.io", "v1", "Lease", "leases");

/// Between two looks, with `--wait`.
const AGAIN: Duration = Duration::from_secs(1);

const EXAMPLES: &str = "Examples:
  countersign check
  countersign check --operator-namespace gate -n payments

Asks with your own rights, and writes nothing: it creates a request in the namespace as a dry run, to see whether admission stamps \
it, and reads the two Leases in the operator's namespace that say whether the gate is intact and who leads.
Exit code: 0 all is well; 1 something is not, or could not be seen.";

/// Flags of `countersign check`.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Namespace to ask in, as a dry run [default: the kubeconfig context's]
    #[arg(short, long, value_parser = dns_label)]
    pub namespace: Option<String>,
    /// Namespace the operator lives in
    #[arg(long, env = "COUNTERSIGN_NAMESPACE", default_value = names::DEFAULT_NAMESPACE, value_parser = dns_label, value_name = "NAMESPACE")]
    pub operator_namespace: String,
    /// Seconds for which to look again while something is not well, such as right after an installation
    #[arg(long, default_value = "0", value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(..=3600))]
    pub wait: u16,
    /// Which cluster, and as whom.
    #[command(flatten)]
    pub connection: Connection,
}

/// One thing that was looked at: what it is, and how it is, or what is wrong with it.
type Look = (&'static str, Result<String, String>);

/// Looks, and prints a line for each thing.
pub async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let cluster = args.connection.cluster().await?;
    let until = Instant::now() + Duration::from_secs(args.wait.into());
    loop {
        let looks = look(args, &cluster).await?;
        let well = looks.iter().all(|(_, found)| found.is_ok());
        if well || until <= Instant::now() {
            crate::cli::print(&looks.iter().map(line).collect::<String>())?;
            return Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn look(args: &Args, cluster: &Cluster) -> anyhow::Result<[Look; 3]> {
    let namespace = args.namespace.as_ref().unwrap_or(&cluster.namespace);
    let lease = async |name| cluster.get(LEASES, Some(&args.operator_namespace), name).await;
    Ok([
        ("admission", admission(cluster, namespace).await?),
        ("gate", gate(lease(GATE_LEASE).await?)),
        ("leader", leader(lease(LEADER_LEASE).await?, Timestamp::now())),
    ])
}

fn line((what, found): &Look) -> String {
    let (mark, text) = match found {
        Ok(text) => ("ok", text),
        Err(text) => ("NOT OK", text),
    };
    format!("{what:<10} {mark:<7} {}\n", visible(text))
}

/// Whether admission answers, and writes down who asks.
async fn admission(cluster: &Cluster, namespace: &str) -> anyhow::Result<Result<String, String>> {
    let me: Api<SelfSubjectReview> = Api::all(cluster.client());
    let me = me.create(&PostParams::default(), &SelfSubjectReview::default()).await;
    let me = me.map_err(|error| explained(error, cluster.server()).context("asking who I am"))?;
    let me = me.status.and_then(|status| status.user_info).and_then(|user| user.username).unwrap_or_default();
    let api = REQUESTS.api(cluster.client(), Some(namespace));
    let ask: DynamicObject = serde_json::from_value(json!({
        "apiVersion": names::API_VERSION,
        "kind": "ApprovalRequest",
        "metadata": {"generateName": "check-"},
        "spec": {"runID": "check", "stepID": "check", "requestedBy": "countersign.check", "reason": "to see whether admission answers"},
    }))?;
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    Ok(match api.create(&dry_run, &ask).await {
        Ok(stored) => stamped(&stored.data, &me),
        Err(kube::Error::Api(status)) if status.message.contains("cannot create resource") => Err(format!(
            "not seen: you may not create approvalrequests in {namespace} (ClusterRole countersign-requester)"
        )),
        Err(error) => Err(format!("{:#}", explained(error, cluster.server()))),
    })
}

fn stamped(stored: &Value, me: &str) -> Result<String, String> {
    match stored.pointer("/spec/requester/username").and_then(Value::as_str) {
        Some(stamped) if stamped == me => Ok(format!("answers, and knows you as {me}")),
        Some(other) => Err(format!("a request of yours ({me}) would be stamped as one of {other}")),
        None => Err("nobody stamps requests: the webhook configuration `countersign` is missing or was changed; does an operator run?".into()),
    }
}

/// What the operator says of what holds the gate.
fn gate(lease: Found<DynamicObject>) -> Result<String, String> {
    let lease = there(lease, "no operator ever looked at the gate")?;
    let said =
        |name: &str| lease.metadata.annotations.as_ref().and_then(|all| all.get(name)).map_or("", String::as_str);
    match said(INTACT) {
        "True" => Ok("what holds it in the API server is intact".into()),
        "False" => Err(format!("broken: {}; runbook: The gate says it is broken", said(FINDINGS))),
        _ => Err(format!("the operator cannot see all that holds it: {}", said(FINDINGS))),
    }
}

/// Who leads, and whether it is still there.
fn leader(lease: Found<DynamicObject>, now: Timestamp) -> Result<String, String> {
    let lease = there(lease, "no operator with --leader-elect ever ran here")?;
    let text = |field: &str| lease.data.pointer(&format!("/spec/{field}")).and_then(Value::as_str).unwrap_or_default();
    let holder = text("holderIdentity");
    if holder.is_empty() {
        return Err("nobody leads: reviews are taken, and nothing is released; does an operator run?".into());
    }
    let lasts = lease.data.pointer("/spec/leaseDurationSeconds").and_then(Value::as_i64).unwrap_or_default();
    let Ok(renewed) = Timestamp::from_str(text("renewTime")) else {
        return Err(format!("{holder} leads, and never said when it was last there"));
    };
    // Told by the clocks of two machines: twice the time before it is called gone.
    let ago = now.duration_since(renewed).as_secs();
    if ago > 2 * lasts {
        return Err(format!(
            "{holder} was last there {ago} s ago, of {lasts} s that it may be silent; does an operator run?"
        ));
    }
    Ok(format!("{holder}, last there {} s ago", ago.max(0)))
}

fn there(lease: Found<DynamicObject>, absent: &str) -> Result<DynamicObject, String> {
    match lease {
        Found::There(lease) => Ok(lease),
        Found::Absent => Err(absent.into()),
        Found::Refused(why) => Err(format!("not seen: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(annotations: Value, spec: Value) -> Found<DynamicObject> {
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "a", "annotations": annotations}, "spec": spec,
        });
        Found::There(serde_json::from_value(lease).unwrap())
    }

    #[test]
    fn only_what_was_seen_to_be_well_is_well() {
        assert!(stamped(&json!({"spec": {"requester": {"username": "alice"}}}), "alice").is_ok());
        assert!(stamped(&json!({"spec": {"requester": {"username": "mallory"}}}), "alice").is_err());
        assert!(stamped(&json!({"spec": {}}), "alice").is_err());

        assert!(gate(lease(json!({INTACT: "True", FINDINGS: ""}), json!({}))).is_ok());
        for broken in [json!({INTACT: "False", FINDINGS: "one is missing"}), json!({INTACT: "Unknown"}), json!({})] {
            assert!(gate(lease(broken, json!({}))).is_err());
        }
        assert!(gate(Found::Absent).is_err() && gate(Found::Refused("you may not".into())).is_err());
    }

    #[test]
    fn a_leader_is_one_that_was_there_lately() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let led = |holder: &str, renewed: &str| {
            let spec = json!({"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": renewed});
            leader(lease(json!({}), spec), now)
        };
        assert_eq!(led("a", "2026-01-01T00:00:58.000000Z").unwrap(), "a, last there 2 s ago");
        // Another clock may be ahead.
        assert!(led("a", "2026-01-01T00:01:09Z").is_ok());
        assert!(led("a", "2026-01-01T00:00:20Z").unwrap_err().contains("40 s ago"));
        assert!(led("", "2026-01-01T00:00:58Z").is_err() && led("a", "soon").is_err());
        assert!(leader(Found::Absent, now).is_err());
    }
}
