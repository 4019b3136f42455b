//! `countersign audit show`.

use crate::api::{ApprovalRecordSpec, RecordEntry, TargetKind, Transition, names};
use crate::cli::audit::{input, story};
use crate::cli::client::Connection;
use crate::cli::escape::visible_identifier;
use anyhow::bail;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

/// Tell what happened to one request, or to one Job or Pod, in order.
///
/// A Job or Pod that policy allowed, or that somebody started by an override, may have no request: ask for it by its own
/// name. Reads the trail of the cluster, or an export. It tells what the trail says and proves nothing: that is `verify`'s.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The request's name or uid, or `job/NAME` or `pod/NAME`, by name or uid
    #[arg(value_name = "REQUEST")]
    about: String,
    /// Its namespace [default: that of the kubeconfig's context; with --from, any]
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

/// Reads the trail and prints what concerns it.
pub async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (records, namespace) = match &args.from {
        Some(path) => (input::records(&input::text(path)?), args.namespace.clone()),
        None => {
            let cluster = args.connection.cluster().await?;
            let namespace = args.namespace.clone().unwrap_or_else(|| cluster.namespace.clone());
            (input::stored(&cluster, &args.operator_namespace).await?, Some(namespace))
        }
    };
    let found = entries_of(&records, &About::of(&args.about)?, namespace.as_deref());
    if found.is_empty() {
        let place = namespace.map(|n| format!(" in namespace {n}")).unwrap_or_default();
        let kind = if args.about.contains('/') { "" } else { "a request " };
        let (about, before) = (visible_identifier(&args.about), before(&records));
        eprintln!("the trail does not tell of {kind}{about}{place}{before}");
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

/// What is asked about, by name or uid.
#[derive(Debug, Eq, PartialEq)]
enum About<'a> {
    Request(&'a str),
    Target(TargetKind, &'a str),
}

impl<'a> About<'a> {
    /// No name of a request has a slash in it.
    fn of(text: &'a str) -> anyhow::Result<Self> {
        let Some((kind, name)) = text.split_once('/') else { return Ok(Self::Request(text)) };
        match kind.to_ascii_lowercase().as_str() {
            "job" | "jobs" | "job.batch" | "jobs.batch" => Ok(Self::Target(TargetKind::Job, name)),
            "pod" | "pods" | "po" => Ok(Self::Target(TargetKind::Pod, name)),
            _ => bail!("{text:?}: the trail tells of requests, by name, of job/NAME and of pod/NAME"),
        }
    }

    fn is(&self, entry: &RecordEntry, namespace: Option<&str>) -> bool {
        let here = |there: &str| namespace.is_none_or(|namespace| namespace == there);
        match (self, &entry.request, &entry.target) {
            (Self::Request(id), Some(r), _) => r.uid == *id || (r.name == *id && here(&r.namespace)),
            (Self::Target(kind, id), _, Some(t)) => {
                t.kind == *kind && (t.uid.as_deref() == Some(id) || (t.name == *id && here(&t.namespace)))
            }
            _ => false,
        }
    }
}

/// The entries about it, each with its number. Those about a request include how its target was started by an override,
/// where that was recorded without naming the request.
fn entries_of(records: &[Value], about: &About<'_>, namespace: Option<&str>) -> Vec<(i64, RecordEntry)> {
    let read = |spec: &Value| serde_json::from_value::<ApprovalRecordSpec>(spec.clone()).ok();
    let numbered = records.iter().filter_map(read).flat_map(|record| (record.sequence..).zip(record.entries));
    let all: Vec<_> = numbered.collect();
    let uid = |entry: &RecordEntry| entry.target.as_ref()?.uid.clone();
    let of_it = all.iter().filter(|(_, entry)| about.is(entry, namespace));
    let targets: BTreeSet<String> = of_it.filter_map(|(_, entry)| uid(entry)).collect();
    let started = |entry: &RecordEntry| {
        let alone = entry.transition == Transition::Overridden && entry.request.is_none();
        alone && uid(entry).is_some_and(|uid| targets.contains(&uid))
    };
    all.into_iter().filter(|(_, entry)| about.is(entry, namespace) || started(entry)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record(entries: &Value) -> Value {
        json!({"sequence": 7, "last": 9, "previous": "genesis", "keyID": "0123456789abcdef", "signature": "s", "entries": entries})
    }

    #[test]
    fn a_request_and_a_job_are_found_by_name_or_uid_with_the_start_that_names_no_request() {
        let entry = |transition: &str, request: Value, target: Value| {
            let mut entry = json!({"key": "u/0/x", "transition": transition, "time": "2026-11-20T17:00:00.000000Z", "target": target});
            if !request.is_null() {
                entry["request"] = request;
            }
            entry
        };
        let request =
            json!({"namespace": "a", "name": "run", "uid": "r", "runID": "r", "stepID": "s", "requestedBy": "w"});
        let job = |uid: &str| json!({"kind": "Job", "namespace": "a", "name": "work", "uid": uid});
        let records = [record(&json!([
            entry("Overridden", Value::Null, job("j")),
            entry("Requested", request, job("j")),
            entry("Released", Value::Null, job("k")),
        ]))];
        let found = |about: &str, namespace| -> Vec<i64> {
            entries_of(&records, &About::of(about).unwrap(), namespace).into_iter().map(|(number, _)| number).collect()
        };
        assert_eq!(found("run", Some("a")), [7, 8]);
        assert_eq!(found("r", None), [7, 8]);
        assert_eq!(found("job/work", Some("a")), [7, 8, 9]);
        assert_eq!(found("Jobs/k", None), [9]);
        for nothing in ["job/run", "pod/work", "work", "job/work"] {
            assert_eq!(found(nothing, Some("b")), [] as [i64; 0], "{nothing}");
        }
        assert!(About::of("cronjob/x").unwrap_err().to_string().contains("job/NAME"));
    }
}
