//! `--all`: what was listed is decided, each by the digest that was listed.

use crate::support::{Space, by_sre, cluster};
use crate::terminal::start;
use crate::{ended, reviews, run};
use anyhow::{Result, ensure};
use serde_json::json;

#[tokio::test]
async fn all_decides_what_was_listed_and_nothing_else() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "batch").await?;
    space.policy(by_sre()).await?;
    for name in ["one", "two", "moved"] {
        space.bound(name).await?;
    }
    let alice = cluster.user("alice", &["sre"])?;
    let terminal = start("approve", &alice, &space, &["--all", "--wait", "20s"]).run()?;
    let screen = terminal.shows("Approve these 3? [y/N]").await?;
    ensure!(screen.contains("one") && screen.contains("moved") && screen.contains("DIGEST"), "{screen}");
    // One comes too late for the list, and one becomes another.
    space.bound("late").await?;
    let patch = json!({"spec": {"backoffLimit": 50}}).to_string();
    space.admin.kubectl(["patch", "job", "moved", "-n", "batch", "--type=merge", "--patch", &patch]).ok().await?;
    space.wait("approvalrequests", "moved", |r| r["status"]["revision"] == 2).await?;
    terminal.types("y\n")?;
    let end = terminal.ends_with(4, "batch/moved: not approved: it has changed since it was listed").await?;
    for name in ["one", "two"] {
        ensure!(end.screen.contains(&format!("batch/{name}: approved")), "{}", end.screen);
        space.state(name, "Released").await?;
    }
    assert_eq!((reviews(&space, "late").await?, reviews(&space, "moved").await?), (0, 0));

    let rest = run("deny", &alice, &space, &["--all", "--yes", "--wait", "20s"]).await?;
    ended(&rest, 0, "batch/late: denied")?;
    ended(&rest, 0, "batch/moved: denied")?;
    let nothing = run("approve", &alice, &space, &["--all", "--yes"]).await?;
    ended(&nothing, 0, "Nothing waits for you in namespace batch. -A looks in every namespace")?;
    let unattended = run("approve", &alice, &space, &["--all"]).await?;
    ended(&unattended, 5, "nobody is there to ask")?;
    Ok(())
}

#[tokio::test]
async fn a_selector_narrows_what_all_means() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "batch-selector").await?;
    let mut rules = by_sre();
    rules[0]["approvals"]["requireComment"] = json!(true);
    space.policy(rules).await?;
    for (name, team) in [("blue", "blue"), ("red", "red")] {
        space.job(name).await?;
        let mut body = crate::support::request(name, Some(name));
        body["metadata"]["labels"] = json!({"team": team});
        space.create(&body).await?;
        space.digest(name).await?;
    }
    let alice = cluster.user("alice", &["sre"])?;
    let silent = run("approve", &alice, &space, &["--all", "-l", "team=blue", "--yes"]).await?;
    ended(&silent, 3, "batch-selector/blue: not approved: this approval takes a comment")?;
    let words = ["--all", "-l", "team=blue", "--yes", "--comment", "seen", "--wait", "20s"];
    ended(&run("approve", &alice, &space, &words).await?, 0, "batch-selector/blue: approved")?;
    assert_eq!(reviews(&space, "red").await?, 0);
    Ok(())
}
