//! CronJobs in a gated namespace: their author counts as who made the Jobs, and a Job that was not approved goes.

use crate::support::{Space, by_sre, cluster};
use anyhow::{Context, Result};
use countersign_testbed::Identity;
use serde_json::{Value, json};

fn cron_job(name: &str, schedule: &str) -> Value {
    json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name}, "spec": {
        "schedule": schedule, "concurrencyPolicy": "Forbid", "jobTemplate": {"spec": {"template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "main", "image": "localhost/nightly:1"}]}}}}}})
}

fn rules() -> Value {
    let mut rules = by_sre();
    rules[0].as_object_mut().map(|rule| rule.remove("when"));
    rules
}

/// Lets a person write CronJobs and Jobs there.
async fn admit(space: &Space, who: &Identity) -> Result<()> {
    let name = format!("admit-{}", who.name);
    let user = format!("--user={}", who.name);
    let bind = ["create", "rolebinding", &name, "--role=gated", &user, "-n", &space.namespace];
    space.admin.kubectl(bind).ok().await.map(drop)
}

/// Mallory is an approver and wrote the CronJob; she does not decide on its Jobs. Once bob denies, the Job goes, and the
/// schedule goes on though it forbids two Jobs at a time.
#[tokio::test]
async fn the_author_of_a_cron_job_does_not_approve_its_jobs_and_a_denied_one_goes() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::gated(cluster, "cron-author").await?;
    space.policy(rules()).await?;
    let (mallory, bob) = (cluster.user("mallory", &["sre"])?, cluster.user("bob", &["sre"])?);
    admit(&space, &mallory).await?;
    let create = mallory.kubectl(["create", "-n", "cron-author", "-f", "-"]);
    create.stdin(cron_job("nightly", "* * * * *").to_string()).ok().await?;
    let first = space.scheduled("nightly", None).await?;
    let asked = space.request_for(&first).await?;
    assert_eq!(asked["spec"]["requester"]["username"], "system:serviceaccount:kube-system:cronjob-controller");
    assert_eq!(asked["spec"]["requestedBy"], "cronjob/nightly");
    let name = asked["metadata"]["name"].as_str().context("name")?;
    let digest = space.digest(name).await?;
    let message = space.review(&mallory, name, "Approve", &digest).refused().await?;
    assert!(message.contains("mallory has a part in what would run"), "{message}");
    space.review(&bob, name, "Deny", &digest).ok().await?;
    space.state(name, "Denied").await?;
    // Its request outlives it and tells.
    let second = space.scheduled("nightly", Some(&first)).await?;
    assert!(space.api("jobs").get_opt(&first).await?.is_none());
    assert_eq!(space.get("approvalrequests", name).await?["status"]["state"], "Denied");
    let approved = space.approve(&bob, &second).await?;
    assert_eq!(approved["status"]["approvals"][0]["approvedBy"], json!(["bob"]));
    Ok(())
}

/// A Job made by hand from somebody's CronJob excludes both.
#[tokio::test]
async fn a_job_made_by_hand_from_a_cron_job_excludes_its_maker_and_the_author() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::gated(cluster, "cron-hand").await?;
    space.policy(rules()).await?;
    let (mallory, bob) = (cluster.user("mallory", &["sre"])?, cluster.user("bob", &["sre"])?);
    let alice = cluster.user("alice", &["sre"])?;
    admit(&space, &mallory).await?;
    admit(&space, &bob).await?;
    let create = mallory.kubectl(["create", "-n", "cron-hand", "-f", "-"]);
    create.stdin(cron_job("nightly", "0 0 1 1 *").to_string()).ok().await?;
    bob.kubectl(["create", "job", "now", "--from=cronjob/nightly", "-n", "cron-hand"]).ok().await?;
    let asked = space.request_for("now").await?;
    assert_eq!(asked["spec"]["requester"]["username"], "bob");
    let name = asked["metadata"]["name"].as_str().context("name")?;
    let digest = space.digest(name).await?;
    space.review(&bob, name, "Approve", &digest).refused().await?;
    space.review(&mallory, name, "Approve", &digest).refused().await?;
    assert!(!space.started("now").await?);
    space.approve(&alice, "now").await?;
    Ok(())
}

/// A schedule that nobody answers does not pile up Jobs; one that is forged to be its own takes no place and is not deleted.
#[tokio::test]
async fn five_jobs_of_a_cron_job_wait_at_most_and_a_forged_one_is_none_of_them() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::gated(cluster, "cron-cap").await?;
    space.policy(rules()).await?;
    let created = space.create(&cron_job("nightly", "0 0 1 1 *")).await?;
    let owned = |name: &str| {
        let mut job = crate::support::job(name);
        job["metadata"]["ownerReferences"] = json!([{"apiVersion": "batch/v1", "kind": "CronJob", "name": "nightly",
            "uid": created["metadata"]["uid"], "controller": true}]);
        job.to_string()
    };
    let create = ["create", "-n", "cron-cap", "-f", "-"];
    space.triage.kubectl(create).stdin(owned("forged")).ok().await?;
    let scheduled = [&create[..], &["--as=system:serviceaccount:kube-system:cronjob-controller"]].concat();
    for n in 1..=6 {
        space.admin.kubectl(scheduled.clone()).stdin(owned(&format!("run-{n}"))).ok().await?;
        // Creation times are whole seconds: who came first must be told apart.
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    }
    space.wait_for_event("run-6", "TooManyWaiting").await?;
    for n in 1..=5 {
        space.request_for(&format!("run-{n}")).await?;
    }
    space.request_for("forged").await?;
    let gone = std::time::Instant::now();
    while space.api("jobs").get_opt("run-6").await?.is_some() {
        anyhow::ensure!(gone.elapsed().as_secs() < 20, "the sixth stays");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    Ok(())
}
