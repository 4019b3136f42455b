//! What was released long ago, and is asked for again.

use crate::support::many::list;
use crate::support::{self, Space, by_sre};
use crate::{NO_LIMIT, all_released, approve_all, as_alice, cluster, is, sent, settled};
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};

/// More than an operator keeps whole.
const MANY: usize = 150;

/// The Job controller is done with starting them.
async fn started(space: &Space) -> Result<()> {
    let began = Instant::now();
    while !list(&space.api("jobs")).await?.iter().all(|job| job["status"]["startTime"].is_string()) {
        ensure!(began.elapsed().as_secs() < 120, "not all were started");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    Ok(())
}

/// Jobs that were released take next to no memory, since nothing is decided about them any more. Whoever asks for one all the same
/// has an answer, for one read, however often the request is looked at.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_was_released_long_ago_is_read_once_for_whoever_asks_for_it_again() -> Result<()> {
    let (cluster, _turn) = cluster().await?;
    let operator = support::countersign().start(cluster).await?;
    let space = Space::new(cluster, "again").await?;
    space.policy(by_sre()).await?;
    let digests = space.bound_many(MANY).await?;
    settled(cluster, &space).await?;
    cluster.restart_controller_manager(NO_LIMIT)?;
    let alice = as_alice(cluster, &space).await?;
    approve_all(&alice, digests, 16).await?;
    all_released(&space, MANY).await?;
    started(&space).await?;
    drop(operator);
    let _operator = support::countersign().start(cluster).await?;

    let mark = cluster.audit_log().settle().await?;
    space.request("again", Some("run-0000")).await?;
    let answer = space.wait("approvalrequests", "again", |r| r.pointer("/status/message").is_some()).await?;
    let said = answer["status"]["message"].as_str().unwrap_or_default();
    ensure!(said == "request run-0000 already speaks for Job run-0000", "{said}");
    // It is looked at again, and nothing has changed.
    space.named_policy("again-other", serde_json::json!([{"name": "other", "decision": "Allow"}])).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let reads: Vec<_> = sent(cluster, mark).await?.into_iter().filter(|e| is(e, "list", "jobs", None)).collect();
    ensure!(reads.len() == 1, "{reads:#?}");
    let uri = reads[0]["requestURI"].as_str().unwrap_or_default();
    ensure!(uri.contains("/namespaces/again/jobs?") && uri.contains("metadata.name%3Drun-0000"), "{uri}");
    Ok(())
}
