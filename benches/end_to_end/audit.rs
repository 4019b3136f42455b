//! What the API server's audit log says of a load: the clock of every figure.

use crate::lab::OPERATOR;
use anyhow::{Context, Result};
use countersign_testbed::{AuditLog, ControlPlane, Mark};
use jiff::{Timestamp, Unit};
use serde_json::Value;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::time::{Duration, Instant};

/// How long a load may take to its last write.
const PATIENCE: Duration = Duration::from_secs(400);
const POLL: Duration = Duration::from_millis(200);

/// What came of the approvals of one namespace.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Milliseconds from the answered review to the answered release, of each request.
    pub released_ms: Vec<f64>,
    /// Milliseconds from the arrival of each review to its answer.
    pub answered_ms: Vec<f64>,
    /// Milliseconds from the arrival of the first review to the last write.
    pub whole_ms: f64,
    /// Requests of the operator: writes of Jobs and of status that took effect.
    pub writes: usize,
    /// Its writes that were refused, for whatever reason.
    pub failed: usize,
    /// Its reads.
    pub reads: usize,
    /// Its writes of the audit trail.
    pub records: usize,
    /// Its Events.
    pub events: usize,
}

/// The end of the log as a number of bytes.
pub fn length(log: &AuditLog) -> Result<u64> {
    Ok(std::fs::metadata(log.path())?.len())
}

/// Whether a record of the audit trail was written since the log had that length.
pub fn has_records(log: &AuditLog, from: u64) -> Result<bool> {
    let (mut file, mut text) = (File::open(log.path())?, String::new());
    file.seek(SeekFrom::Start(from))?;
    file.read_to_string(&mut text)?;
    Ok(text
        .lines()
        .any(|line| line.contains("\"verb\":\"create\"") && line.contains("\"resource\":\"approvalrecords\"")))
}

/// Waits until the operator has written the status of `count` requests in that namespace since the log had that length.
pub async fn wait_for(log: &AuditLog, from: u64, namespace: &str, count: usize) -> Result<()> {
    let (began, mut file) = (Instant::now(), File::open(log.path())?);
    file.seek(SeekFrom::Start(from))?;
    let (mut found, mut rest) = (0, String::new());
    let place = format!("\"namespace\":\"{namespace}\"");
    while began.elapsed() < PATIENCE {
        file.read_to_string(&mut rest)?;
        let whole = rest.rfind('\n').map_or(0, |last| last + 1);
        // Looked at as text: to parse it all while it is written would take a processor from what is measured.
        let status = |line: &&str| {
            line.contains("\"subresource\":\"status\"")
                && line.contains(&place)
                && line.contains(OPERATOR)
                && line.contains("\"code\":200")
        };
        found += rest[..whole].lines().filter(status).count();
        if found >= count {
            return Ok(());
        }
        rest.drain(..whole);
        tokio::time::sleep(POLL).await;
    }
    anyhow::bail!("{found} of {count} requests in {namespace} were written within {PATIENCE:?}")
}

/// Reads what happened to the requests of `namespace` since `mark`. Each Job is named like its request.
pub async fn read(cluster: &ControlPlane, mark: Mark, namespace: &str) -> Result<Outcome> {
    let log = cluster.audit_log();
    log.settle().await?;
    let mut outcome = Outcome::default();
    let (mut reviewed, mut released): (HashMap<String, Timestamp>, HashMap<String, Timestamp>) = Default::default();
    let (mut first, mut last) = (Timestamp::MAX, Timestamp::MIN);
    for event in log.events_since(mark)? {
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (resource, sub) = (text("/objectRef/resource"), text("/objectRef/subresource"));
        let (verb, user) = (text("/verb"), text("/user/username"));
        let code = event.pointer("/responseStatus/code").and_then(Value::as_u64).unwrap_or_default();
        let own = text("/objectRef/namespace") == namespace;
        let name = text("/objectRef/name").to_owned();
        if user != OPERATOR {
            if own && (resource, sub, verb) == ("approvalrequests", "", "patch") && code == 200 {
                let (arrived, answered) = (time(&event, "requestReceivedTimestamp")?, time(&event, "stageTimestamp")?);
                first = first.min(arrived);
                outcome.answered_ms.push((answered - arrived).total(Unit::Millisecond)?);
                reviewed.insert(name, answered);
            }
            continue;
        }
        match (verb, resource, sub) {
            ("watch", ..) | (_, "leases", _) => {}
            ("get" | "list", ..) => outcome.reads += 1,
            (_, "events", _) => outcome.events += 1,
            (_, "approvalrecords" | "configmaps", _) => outcome.records += 1,
            _ if code >= 400 => outcome.failed += 1,
            ("patch", "jobs" | "approvalrequests", _) if own => {
                outcome.writes += 1;
                last = last.max(time(&event, "stageTimestamp")?);
                if resource == "jobs" {
                    released.insert(name, time(&event, "stageTimestamp")?);
                }
            }
            // What the operator does for others while it runs.
            _ => {}
        }
    }
    outcome.whole_ms = (last - first).total(Unit::Millisecond)?;
    let both = reviewed.iter().filter_map(|(name, from)| Some((*from, *released.get(name)?)));
    outcome.released_ms = both.map(|(from, to)| (to - from).total(Unit::Millisecond)).collect::<Result<_, _>>()?;
    Ok(outcome)
}

/// A time of an event.
pub fn time(event: &Value, field: &str) -> Result<Timestamp> {
    event[field].as_str().with_context(|| format!("{field} of an event"))?.parse().context("a time")
}
