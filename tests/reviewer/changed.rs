//! What is shown changes before it is answered.

use crate::support::{Space, by_sre, cluster};
use crate::terminal::start;
use crate::{ended, reviews, run};
use anyhow::{Result, ensure};
use serde_json::{Value, json};

async fn rebound(space: &Space, revision: i64) -> Result<Value> {
    space.wait("approvalrequests", "run", |r| r["status"]["revision"] == revision).await
}

#[tokio::test]
async fn a_policy_or_a_job_that_changes_under_the_reader_is_shown_and_asked_about_anew() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "changed").await?;
    space.policy(by_sre()).await?;
    let first = space.bound("run").await?;
    let alice = cluster.user("alice", &["sre"])?;
    let terminal = start("approve", &alice, &space, &["run", "--wait", "20s"]).run()?;
    terminal.shows("Approve? [y/N]").await?;

    let mut edited = by_sre();
    edited[0]["constraints"]["maxRuntimeSeconds"] = json!(300);
    space.policy(edited).await?;
    rebound(&space, 2).await?;
    terminal.types("y\n")?;
    let screen = terminal.shows("Approve what stands there now? [y/N]").await?;
    for expected in [
        "What you were shown has changed, so nothing was stored.",
        &format!("{} is now sha256:", &first[..23]),
        "- Bounds: at most: runs 900 s (15 min)",
        "+ Bounds: at most: runs 300 s (5 min)",
    ] {
        ensure!(screen.contains(expected), "expected {expected:?} in\n{screen}");
    }
    assert_eq!(reviews(&space, "run").await?, 0);

    let patch = json!({"spec": {"backoffLimit": 50}}).to_string();
    space.admin.kubectl(["patch", "job", "run", "-n", "changed", "--type=merge", "--patch", &patch]).ok().await?;
    let last = rebound(&space, 3).await?;
    terminal.types("y\n")?;
    let screen = terminal.shows_times("Approve what stands there now? [y/N]", 2).await?;
    for expected in ["+ Job: deadline 300 s (5 min), retries 50", "- Job: deadline 300 s (5 min), retries 6"] {
        ensure!(screen.contains(expected), "expected {expected:?} in\n{screen}");
    }
    assert_eq!(reviews(&space, "run").await?, 0);
    terminal.types("y\n")?;
    terminal.ends_with(0, "released").await?;
    let stored = space.get("approvalrequests", "run").await?;
    assert_eq!(stored["spec"]["reviews"][0]["digest"], last["status"]["digest"]);
    Ok(())
}

#[tokio::test]
async fn who_says_no_to_what_changed_has_decided_nothing() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "changed-no").await?;
    space.policy(by_sre()).await?;
    let digest = space.bound("run").await?;
    let alice = cluster.user("alice", &["sre"])?;
    let plain = start("approve", &alice, &space, &["run"]).run()?;
    let pinned = start("approve", &alice, &space, &["run", "--digest", &digest]).run()?;
    plain.shows("Approve? [y/N]").await?;
    pinned.shows("Approve? [y/N]").await?;
    let patch = json!({"spec": {"ttlSecondsAfterFinished": 5}}).to_string();
    space.admin.kubectl(["patch", "job", "run", "-n", "changed-no", "--type=merge", "--patch", &patch]).ok().await?;
    rebound(&space, 2).await?;
    plain.types("y\n")?;
    plain.shows("what would run changed in a part that the card does not show").await?;
    // The second answer came too early to be one.
    plain.shows("Approve what stands there now? [y/N]").await?;
    plain.types("n\n")?;
    plain.ends_with(5, "Not approved.").await?;
    // Whoever pinned a digest is not asked about another.
    pinned.types("y\n")?;
    pinned.ends_with(4, "What you were shown has changed, so nothing was stored.").await?;
    let scripted = run("approve", &alice, &space, &["run", "--yes", "--digest", &digest]).await?;
    ended(&scripted, 4, "read it again")?;
    assert_eq!(reviews(&space, "run").await?, 0);
    assert!(!space.started("run").await?);
    Ok(())
}
