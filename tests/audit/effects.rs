//! Every effect has its record: checked from outside, by what etcd holds and what the API server's audit log tells, whatever
//! the operator thinks of itself.

use crate::{Lab, RECORDS};
use anyhow::{Result, bail};
use countersign_testbed::{AuditFilter, Mark};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const OPERATOR: &str = "system:serviceaccount:countersign-system:countersign";
/// Where requests are stored in etcd.
const REQUESTS: &str = "/registry/countersign.dev/approvalrequests/";

/// Waits until everything that happened so far stands in the trail, once. What counts as happened: Jobs that the operator
/// started, Jobs and Pods that somebody started by an override, reviews that were stored, ends that stand in a status, also
/// in that of a request that was let go.
pub async fn all_recorded(lab: &Lab) -> Result<()> {
    lab.cluster.audit_log().settle().await?;
    let began = Instant::now();
    loop {
        let (happened, told) = (happened(lab).await?, told(lab).await?);
        let missing: Vec<_> = happened.iter().filter(|effect| !told.contains_key(*effect)).collect();
        let twice: Vec<_> = told.iter().filter(|(_, times)| **times > 1).collect();
        if !twice.is_empty() {
            bail!("told twice: {twice:?}");
        }
        if missing.is_empty() && !happened.is_empty() {
            return Ok(());
        }
        if began.elapsed() > Duration::from_secs(20) {
            bail!("{} of {} effects are not recorded: {missing:?}", missing.len(), happened.len());
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// What the trail tells, each with how often: starts of Jobs by the Job's uid, the rest by the key of the entry.
async fn told(lab: &Lab) -> Result<BTreeMap<String, usize>> {
    let mut told = BTreeMap::new();
    for (_, record) in lab.cluster.storage().list(RECORDS).await? {
        for entry in list(&record["spec"]["entries"]) {
            *told.entry(text(&entry["key"])).or_default() += 1;
            let start = entry["transition"] == "Released" || entry["transition"] == "Overridden";
            if start && entry["target"]["uid"].is_string() {
                *told.entry(format!("start of {}", text(&entry["target"]["uid"]))).or_default() += 1;
            }
        }
    }
    Ok(told)
}

async fn happened(lab: &Lab) -> Result<BTreeSet<String>> {
    let mut effects = BTreeSet::new();
    let log = lab.cluster.audit_log();
    let patched = |resource| AuditFilter::new().verb("patch").resource(resource).code(200);
    for event in log.select(Mark::START, &patched("jobs").user(OPERATOR))? {
        let job = &event["responseObject"];
        let released = job["metadata"]["annotations"]["countersign.dev/released"].is_string();
        if released && job["spec"]["suspend"] == false {
            effects.insert(format!("start of {}", text(&job["metadata"]["uid"])));
        }
    }
    for resource in ["jobs", "pods"] {
        let overrides = log.select(Mark::START, &patched(resource))?.into_iter().filter(is_override);
        effects
            .extend(overrides.map(|event| format!("start of {}", text(&event["responseObject"]["metadata"]["uid"]))));
    }
    for event in log.select(Mark::START, &patched("approvalrequests"))? {
        of_request(&event["responseObject"], &mut effects);
    }
    for (_, request) in lab.cluster.storage().list(REQUESTS).await? {
        of_request(&request, &mut effects);
    }
    Ok(effects)
}

/// Whether somebody but the operator started a Job or Pod by this write, and it was stored: it gave a reason to override,
/// and admission wrote the caller's name beside it.
fn is_override(event: &Value) -> bool {
    let user = if event["impersonatedUser"].is_null() { &event["user"] } else { &event["impersonatedUser"] };
    let asked = event["requestObject"].to_string();
    event["responseObject"]["metadata"]["annotations"]["countersign.dev/overridden-by"] == user["username"]
        && asked.contains("countersign.dev/override-reason")
        && user["username"] != OPERATOR
        && event["requestURI"].as_str().is_some_and(|uri| !uri.contains("dryRun="))
}

fn of_request(request: &Value, effects: &mut BTreeSet<String>) {
    let uid = text(&request["metadata"]["uid"]);
    // A dry run stores nothing, and its seal says so.
    let stored = list(&request["spec"]["reviews"]).take_while(|review| review["seal"] != "dry-run");
    effects.extend(stored.enumerate().map(|(place, _)| format!("{uid}/{place}/Reviewed")));
    let state = text(&request["status"]["state"]);
    let holds = |c: &Value| c["type"] == "Overridden" && c["status"] == "True";
    if list(&request["status"]["conditions"]).any(holds) {
        effects.insert(format!("start of {}", text(&request["status"]["target"]["uid"])));
    } else if ["Released", "Denied", "Expired", "Cancelled"].contains(&state.as_str()) {
        let revision = request["status"]["revision"].as_i64().unwrap_or(0);
        effects.insert(format!("{uid}/{revision}/{state}"));
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().into()
}
