//! A Job in a gated namespace is held, whoever creates it and by whatever path, and stays held.

use crate::place::{Place, cron_job, job, note};
use crate::{Gate, eventually, refused};
use anyhow::{Context, Result, ensure};
use countersign_testbed::Identity;
use serde_json::{Value, json};

const ALONE: &str = "the Countersign operator alone starts a Job of the gated namespace";

/// Held, and in the name of its creator, whatever else was written.
fn is_held(job: &Value, creator: &str, groups: &str) -> Result<()> {
    ensure!(job["spec"]["suspend"] == true, "runs: {job:#}");
    ensure!(note(job, "created-by") == Some(creator), "{job:#}");
    ensure!(note(job, "created-by-groups") == Some(groups), "{job:#}");
    let uid = note(job, "created-by-uid").context("a uid, or an empty one")?;
    ensure!(uid.is_empty() != creator.starts_with("system:serviceaccount:"), "{job:#}");
    Ok(())
}

/// A Job that claims to be somebody else's, and to be running.
fn forged(name: &str) -> Value {
    let mut body = job(name);
    body["spec"]["suspend"] = json!(false);
    body["metadata"]["annotations"] = json!({"countersign.dev/created-by": "alice",
        "countersign.dev/created-by-uid": "alice", "countersign.dev/created-by-groups": "system:masters"});
    body
}

/// Creates Jobs by every path there is, and returns their names.
async fn by_every_path(place: &Place, who: &Identity) -> Result<Vec<String>> {
    let mut names: Vec<String> = ["create", "apply", "ssa", "raw", "image", "from", "suspended", "null"]
        .iter()
        .map(ToString::to_string)
        .collect();
    place.create(who, &forged("create")).ok().await?;
    place.kubectl(who, &["apply", "-f", "-"]).stdin(forged("apply").to_string()).ok().await?;
    place.kubectl(who, &["apply", "--server-side", "-f", "-"]).stdin(forged("ssa").to_string()).ok().await?;
    let path = format!("/apis/batch/v1/namespaces/{}/jobs", place.namespace);
    who.kubectl(["create", "--raw", &path, "-f", "-"]).stdin(forged("raw").to_string()).ok().await?;
    place.kubectl(who, &["create", "job", "image", "--image=localhost/remediate:1"]).ok().await?;
    place.create(who, &cron_job("source")).ok().await?;
    place.kubectl(who, &["create", "job", "from", "--from=cronjob/source"]).ok().await?;
    for (name, suspend) in [("suspended", json!(true)), ("null", Value::Null)] {
        let mut body = forged(name);
        body["spec"]["suspend"] = suspend;
        place.create(who, &body).ok().await?;
    }
    let mut generated = forged("");
    generated["metadata"]["name"] = Value::Null;
    generated["metadata"]["generateName"] = json!("generated-");
    let created: Value = place.create(who, &generated).json().await?;
    names.push(created["metadata"]["name"].as_str().context("a name")?.into());
    Ok(names)
}

pub async fn every_path_makes_the_same_held_job(gate: &Gate) -> Result<()> {
    let place = gate.gated("jobs-paths").await?;
    let mallory = gate.mallory()?;
    for name in by_every_path(&place, &mallory).await? {
        is_held(&place.get(&format!("job/{name}")).await?, "mallory", "developers\nsystem:authenticated")?;
    }
    let account = gate.gated("jobs-account").await?;
    account.kubectl(&gate.admin(), &["create", "serviceaccount", "agent"]).ok().await?;
    let agent = gate.cluster.service_account("jobs-account", "agent").await?;
    let groups = "system:serviceaccounts\nsystem:serviceaccounts:jobs-account\nsystem:authenticated";
    for name in by_every_path(&account, &agent).await? {
        is_held(&account.get(&format!("job/{name}")).await?, "system:serviceaccount:jobs-account:agent", groups)?;
    }
    // Whoever holds every right is held as well, and so is the operator.
    place.held(&gate.admin(), "admin").await?;
    is_held(&place.get("job/admin").await?, "admin", "system:masters\nsystem:authenticated")?;
    place.nothing_ran().await?;
    account.nothing_ran().await
}

pub async fn a_dry_run_shows_the_same_and_leaves_nothing(gate: &Gate) -> Result<()> {
    let place = gate.gated("jobs-dry").await?;
    let mallory = gate.mallory()?;
    let shown = place.kubectl(&mallory, &["create", "--dry-run=server", "-f", "-"]);
    is_held(&shown.stdin(forged("dry").to_string()).json().await?, "mallory", "developers\nsystem:authenticated")?;
    place.held(&mallory, "a").await?;
    let start = json!({"spec": {"suspend": false}}).to_string();
    let patch = ["patch", "job/a", "--dry-run=server", "--type=merge", "--patch", &start];
    refused(place.kubectl(&mallory, &patch), ALONE).await?;
    ensure!(place.kubectl(&mallory, &["get", "jobs", "-o", "name"]).ok().await?.trim() == "job.batch/a");
    Ok(())
}

pub async fn nobody_starts_a_held_job(gate: &Gate) -> Result<()> {
    let place = gate.gated("jobs-start").await?;
    let mallory = gate.mallory()?;
    place.held(&mallory, "a").await?;
    let start = json!({"spec": {"suspend": false}});
    let admin = gate.admin();
    for who in [&mallory, &admin] {
        for kind in ["merge", "strategic"] {
            let kind = format!("--type={kind}");
            let args = ["patch", "job/a", &kind, "--patch", &start.to_string()];
            refused(place.kubectl(who, &args), ALONE).await?;
        }
        // Taken away, it would be false by default.
        refused(place.merge(who, "job/a", json!({"spec": {"suspend": null}})), ALONE).await?;
        for operation in ["replace", "remove"] {
            let patch = json!([{"op": operation, "path": "/spec/suspend", "value": false}]);
            refused(place.json_patch(who, "job/a", patch), ALONE).await?;
        }
        let mut body = job("a");
        body["spec"]["suspend"] = json!(false);
        let apply = place.kubectl(who, &["apply", "--server-side", "--force-conflicts", "-f", "-"]);
        refused(apply.stdin(body.to_string()), ALONE).await?;
        let mut stored = place.writable("job/a").await?;
        stored["spec"]["suspend"] = json!(false);
        refused(place.kubectl(who, &["replace", "-f", "-"]).stdin(stored.to_string()), ALONE).await?;
        let path = "/apis/batch/v1/namespaces/jobs-start/jobs/a";
        refused(who.kubectl(["replace", "--raw", path, "-f", "-"]).stdin(stored.to_string()), ALONE).await?;
    }
    let message = place.merge(&mallory, "job/a", start.clone()).refused().await?;
    ensure!(message.contains("kubectl get apr"), "{message}");
    ensure!(message.contains("countersign.dev/override-reason"), "{message}");
    // Through status it is not refused but without effect: the API server takes no spec there.
    place.merge_sub(&mallory, "job/a", "status", start).run().await?;
    place.nothing_ran().await
}

pub async fn a_job_replaced_by_force_is_held_anew(gate: &Gate) -> Result<()> {
    let place = gate.gated("jobs-force").await?;
    let mallory = gate.mallory()?;
    place.held(&gate.alice()?, "a").await?;
    place.release(&gate.operator().await?, "a", json!({})).await?;
    let before = place.get("job/a").await?;
    place.kubectl(&mallory, &["replace", "--force", "-f", "-"]).stdin(forged("a").to_string()).ok().await?;
    let after = place.get("job/a").await?;
    ensure!(before["metadata"]["uid"] != after["metadata"]["uid"]);
    is_held(&after, "mallory", "developers\nsystem:authenticated")?;
    ensure!(note(&after, "released").is_none(), "{after:#}");
    Ok(())
}

pub async fn other_namespaces_are_left_alone(gate: &Gate) -> Result<()> {
    let mallory = gate.mallory()?;
    for (name, labels) in [("jobs-free", json!({})), ("jobs-warn", json!({"countersign.dev/gate": "warn"}))] {
        let place = gate.labelled(name, labels).await?;
        place.create(&mallory, &job("a")).ok().await?;
        let stored = place.get("job/a").await?;
        ensure!(stored["spec"]["suspend"] == false && stored["metadata"].get("annotations").is_none(), "{stored:#}");
    }
    Ok(())
}

pub async fn what_the_cluster_itself_does_with_jobs_goes_on(gate: &Gate) -> Result<()> {
    let place = gate.gated("jobs-cluster").await?;
    let (mallory, operator) = (gate.mallory()?, gate.operator().await?);
    place.held(&mallory, "held").await?;
    let suspended = |job: &Value| job["status"]["conditions"][0]["type"] == "Suspended";
    eventually("the Job controller writes status", async || Ok(suspended(&place.get("job/held").await?).then_some(())))
        .await?;
    // It runs, finishes, and goes when its time is over.
    let mut short = job("short");
    short["spec"]["ttlSecondsAfterFinished"] = json!(1);
    place.create(&mallory, &short).ok().await?;
    place.release(&operator, "short", json!({})).await?;
    eventually("a released Job finishes and goes", async || {
        Ok((!place.kubectl(&mallory, &["get", "job", "short"]).run().await?.status.success()).then_some(()))
    })
    .await?;
    // Garbage collection, with and without what depends on it.
    for (name, cascade) in [("front", "foreground"), ("orphan", "orphan"), ("back", "background")] {
        place.held(&mallory, name).await?;
        let cascade = format!("--cascade={cascade}");
        place.kubectl(&mallory, &["delete", "job", name, &cascade, "--timeout=30s"]).ok().await?;
    }
    // Names of its own, whoever puts them there, and what may change on a held Job.
    let patch = json!({"metadata": {"labels": {"team": "a"}}, "spec": {"activeDeadlineSeconds": 60, "parallelism": 2}});
    place.merge(&mallory, "job/held", patch).ok().await?;
    place.kubectl(&mallory, &["delete", "job", "held"]).ok().await?;
    Ok(())
}
