//! `countersign audit show`.

use crate::api::{ApprovalRecordSpec, RecordEntry, names};
use crate::cli::audit::{input, story};
use crate::cli::client::Connection;
use crate::cli::escape::visible_identifier;
use serde_json::Value;
use std::path::PathBuf;
use std::process::ExitCode;

/// Tell what happened to one request, in order.
///
/// Reads the trail of the cluster, or an export. It tells what the trail says and proves nothing: that is `verify`'s.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The request's name, or its uid
    request: String,
    /// The request's namespace [default: that of the kubeconfig's context; with --from, any]
    #[arg(short, long)]
    namespace: Option<String>,
    /// An export to read in place of a cluster; `-` for standard input
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Namespace the operator lives in
    #[arg(long, env = "COUNTERSIGN_NAMESPACE", default_value = names::DEFAULT_NAMESPACE)]
    operator_namespace: String,
    #[command(flatten)]
    connection: Connection,
}

/// Reads the trail and prints what concerns the request.
pub async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (records, namespace) = match &args.from {
        Some(path) => (input::records(&input::text(path)?), args.namespace.clone()),
        None => {
            let cluster = args.connection.cluster().await?;
            let namespace = args.namespace.clone().unwrap_or_else(|| cluster.namespace.clone());
            (input::stored(&cluster, &args.operator_namespace).await?, Some(namespace))
        }
    };
    let found = entries_of(&records, &args.request, namespace.as_deref());
    if found.is_empty() {
        let place = namespace.map(|n| format!(" in namespace {n}")).unwrap_or_default();
        eprintln!(
            "the trail does not tell of a request {}{place}{}",
            visible_identifier(&args.request),
            before(&records)
        );
        return Ok(ExitCode::FAILURE);
    }
    crate::cli::print(&story::tell(&found))?;
    Ok(ExitCode::SUCCESS)
}

/// What to do where the beginning of the trail is not there.
fn before(records: &[Value]) -> String {
    match records.first().and_then(|record| record["sequence"].as_i64()) {
        Some(first) if first > 1 => {
            format!("; what is before entry {first} was pruned: read an export that has it, with --from FILE")
        }
        _ => String::new(),
    }
}

/// The entries about a request, by its name or uid, each with its number.
fn entries_of(records: &[Value], request: &str, namespace: Option<&str>) -> Vec<(i64, RecordEntry)> {
    let read = |spec: &Value| serde_json::from_value::<ApprovalRecordSpec>(spec.clone()).ok();
    let numbered = records.iter().filter_map(read).flat_map(|record| (record.sequence..).zip(record.entries));
    let about = |entry: &RecordEntry| {
        entry.request.as_ref().is_some_and(|r| {
            r.uid == request || (r.name == request && namespace.is_none_or(|namespace| r.namespace == namespace))
        })
    };
    numbered.filter(|(_, entry)| about(entry)).collect()
}
