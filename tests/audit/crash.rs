//! What a crash between effect and record leaves out is written on return, once; so it is with two operators.

use crate::effects::all_recorded;
use crate::support::{Space, by_sre, countersign, create, request};
use crate::{lab, transitions};
use anyhow::{Result, ensure};
use countersign::audit::MOST_WAITING;
use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::json;
use std::time::{Duration, Instant};

/// How long the trail stands still before releases do, and a little more.
const STANDSTILL: Duration = Duration::from_secs(31);

#[tokio::test]
async fn a_kill_between_effect_and_record_leaves_one_whole_trail() -> Result<()> {
    let mut lab = lab().await?;
    let space = Space::new(lab.cluster, "audit-crash").await?;
    space.policy(by_sre()).await?;
    let alice = lab.user("alice", "sre")?;
    for run in 0..6u64 {
        let name = format!("run-{run}");
        let digest = space.bound(&name).await?;
        space.review(&alice, &name, "Approve", &digest).ok().await?;
        space.wait("jobs", &name, |j| j["spec"]["suspend"] == serde_json::json!(false)).await?;
        // Around the time at which the record is written.
        tokio::time::sleep(Duration::from_millis(run * 60)).await;
        lab.kill();
        // Deleted at that very moment, it stays until its records are written.
        space.admin.kubectl(["delete", "apr", &name, "-n", "audit-crash", "--wait=false"]).run().await?;
        lab.start(&[]).await?;
    }
    let export = lab.export("crash", &[("audit-crash", "run-5", "Released")]).await?;
    let (whole, said) = export.verify(&export.trail).await?;
    assert!(whole, "{said}");
    let entries = export.entries()?;
    for run in 0..6 {
        let name = format!("run-{run}");
        assert_eq!(
            transitions(&entries, "audit-crash", &name),
            ["Requested", "Evaluated", "Reviewed", "Approved", "Released"],
            "{name}"
        );
    }
    all_recorded(&lab).await?;
    Ok(())
}

/// A full disk, a quota: what cannot be recorded yet waits, up to a bound; beyond it nothing is released, and nothing is lost.
#[tokio::test]
async fn where_records_cannot_be_written_releases_stop_and_nothing_is_lost() -> Result<()> {
    let lab = lab().await?;
    let space = Space::new(lab.cluster, "audit-quota").await?;
    space.policy(by_sre()).await?;
    let alice = lab.user("alice", "sre")?;
    let (early, late) = (space.bound("early").await?, space.bound("late").await?);
    lab.export("quota-before", &[("audit-quota", "early", "Evaluated"), ("audit-quota", "late", "Evaluated")]).await?;
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full", "namespace": "countersign-system"},
        "spec": {"hard": {"count/approvalrecords.countersign.dev": "0"}}});
    space.admin.kubectl(["create", "--filename", "-"]).stdin(quota.to_string()).ok().await?;
    until_full(&space).await?;
    let full = Instant::now();
    // Up to the bound, releases go on.
    space.review(&alice, "early", "Approve", &early).ok().await?;
    space.state("early", "Released").await?;
    space.admin.kubectl(["delete", "apr", "early", "-n", "audit-quota", "--wait=false"]).ok().await?;
    // Each leaves two entries: that it was asked, and that it was evaluated.
    let requests = space.api("approvalrequests");
    stream::iter(0..MOST_WAITING / 2 + 10)
        .map(|n| {
            let (requests, name) = (requests.clone(), format!("more-{n:04}"));
            async move { create(&requests, &request(&name, None)).await.map(drop) }
        })
        .buffer_unordered(16)
        .try_collect::<()>()
        .await?;
    space.digest(&format!("more-{:04}", MOST_WAITING / 2 + 9)).await?;
    // A trail that only takes its time keeps nothing back.
    tokio::time::sleep(STANDSTILL.saturating_sub(full.elapsed())).await;
    space.review(&alice, "late", "Approve", &late).ok().await?;
    let waiting = space.state("late", "Approved").await?;
    let message = waiting["status"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("entries of the audit trail could not be written yet"), "{message}");
    assert!(!space.started("late").await?);
    assert!(space.get("approvalrequests", "early").await.is_ok(), "kept until it is recorded");
    space.admin.kubectl(["delete", "resourcequota", "full", "-n", "countersign-system"]).ok().await?;
    space.state("late", "Released").await?;
    let export =
        lab.export("quota", &[("audit-quota", "early", "Released"), ("audit-quota", "late", "Released")]).await?;
    let (whole, said) = export.verify(&export.trail).await?;
    assert!(whole, "{said}");
    let entries = export.entries()?;
    for n in [0, MOST_WAITING / 2 + 9] {
        assert_eq!(transitions(&entries, "audit-quota", &format!("more-{n:04}")), ["Requested", "Evaluated"]);
    }
    // Together, they took few writes: far below one for five entries.
    let (records, told) = (export.records()?.len(), entries.len());
    assert!(records * 5 <= told, "{told} entries in {records} records");
    space.admin.kubectl(["delete", "apr", "--all", "-n", "audit-quota", "--wait=false"]).ok().await?;
    Ok(())
}

/// A quota takes effect some time after it is created. While nobody has counted yet, the API server refuses as well.
async fn until_full(space: &Space) -> Result<()> {
    let began = Instant::now();
    loop {
        let get = ["get", "resourcequota", "full", "-n", "countersign-system"];
        let quota = space.admin.kubectl(get).json().await?;
        if quota["status"]["hard"]["count/approvalrecords.countersign.dev"].is_string() {
            return Ok(());
        }
        ensure!(began.elapsed() < Duration::from_secs(30), "the quota is not in force: {quota}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Two operators write one chain: at the name of the next record, one of them is second and reads on.
#[tokio::test]
async fn two_operators_write_one_chain() -> Result<()> {
    let lab = lab().await?;
    let second = countersign().start_with(lab.cluster, &[]).await?;
    let space = Space::new(lab.cluster, "audit-two").await?;
    space.policy(by_sre()).await?;
    let alice = lab.user("alice", "sre")?;
    let names: Vec<_> = (0..12).map(|n| format!("run-{n:02}")).collect();
    for name in &names {
        let digest = space.bound(name).await?;
        space.review(&alice, name, "Approve", &digest).ok().await?;
    }
    for name in &names {
        space.state(name, "Released").await?;
    }
    let told: Vec<_> = names.iter().map(|name| ("audit-two", name.as_str(), "Released")).collect();
    let export = lab.export("two", &told).await?;
    drop(second);
    let (whole, said) = export.verify(&export.trail).await?;
    assert!(whole, "no gap, no twin, no fork: {said}");
    let entries = export.entries()?;
    for name in &names {
        assert_eq!(
            transitions(&entries, "audit-two", name),
            ["Requested", "Evaluated", "Reviewed", "Approved", "Released"],
            "{name}"
        );
    }
    all_recorded(&lab).await?;
    Ok(())
}
