//! The card, the question, and what comes of the answer.

use crate::support::{Space, by_sre, cluster, request};
use crate::terminal::start;
use crate::{ended, reviews, run};
use anyhow::{Result, ensure};
use serde_json::json;

const QUESTION: &str = "Approve? [y/N]";

#[tokio::test]
async fn the_card_is_shown_and_a_yes_releases() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "decide").await?;
    space.policy(by_sre()).await?;
    let digest = space.bound("first").await?;
    let alice = cluster.user("alice", &["sre"])?;
    let terminal = start("approve", &alice, &space, &["first", "--wait", "20s"]).run()?;
    let screen = terminal.shows(QUESTION).await?;
    for expected in [
        "Request     decide/first  Pending",
        "Asked by    system:serviceaccount:decide:triage (authenticated)",
        "Claims      to be workflow.incident-triage (not verified)",
        "Reason      prod write detected",
        "Rules       decide/prod-write: RequireApproval, prod write detected",
        "Scope       prod (Declared)",
        "Bounds      at most: runs 900 s (15 min)",
        "Job         first, as serviceaccount default",
        "main: localhost/remediate:1 runs remediate",
        "Approvals   0 of 1 from sre (Group sre)",
        "left)",
        &format!("Digest      {}", &digest[..23]),
        "Before      no release of this workflow and step for this requester",
    ] {
        ensure!(screen.contains(expected), "expected {expected:?} in\n{screen}");
    }
    ensure!(reviews(&space, "first").await? == 0, "nothing is given before the answer");
    terminal.types("y\n")?;
    terminal.ends_with(0, &format!("decide/first: approved {}: released", &digest[..23])).await?;
    assert!(space.started("first").await?);
    let stored = space.get("approvalrequests", "first").await?;
    assert_eq!(stored["spec"]["reviews"][0]["digest"], json!(digest), "all of it is sent");

    space.job("second").await?;
    let mut body = request("second", Some("second"));
    body["spec"]["reason"] = json!("again");
    space.create(&body).await?;
    space.digest("second").await?;
    let terminal = start("deny", &alice, &space, &["second", "-m", "not twice", "--wait", "20s"]).run()?;
    let screen = terminal.shows("Deny? [y/N]").await?;
    for expected in ["Before      first was released at", "- Reason: prod write detected", "+ Reason: again"] {
        ensure!(screen.contains(expected), "expected {expected:?} in\n{screen}");
    }
    terminal.types("Yes\n")?;
    terminal.ends_with(0, ": denied").await?;
    let stored = space.state("second", "Denied").await?;
    assert_eq!(stored["spec"]["reviews"][0]["comment"], "not twice");
    assert!(!space.started("second").await?);
    Ok(())
}

#[tokio::test]
async fn everything_but_a_yes_decides_nothing() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "decide-no").await?;
    space.policy(by_sre()).await?;
    space.bound("run").await?;
    let alice = cluster.user("alice", &["sre"])?;
    for (typed, code, told) in [
        ("n\n", 5, "Not approved."),
        ("\n", 5, "Not approved."),
        ("yep\n", 5, "Not approved."),
        ("\u{4}", 5, "Not approved."),
        ("\u{3}", 130, "interrupted; nothing more was decided"),
    ] {
        let terminal = start("approve", &alice, &space, &["run"]).run()?;
        terminal.shows(QUESTION).await?;
        terminal.types(typed)?;
        terminal.ends_with(code, told).await?;
    }
    // What was typed before the question was there is no answer to it.
    let terminal = start("approve", &alice, &space, &["run"]).typed_ahead("y\ny\ny\n").run()?;
    terminal.shows(QUESTION).await?;
    terminal.types("n\n")?;
    terminal.ends_with(5, "Not approved.").await?;
    assert_eq!(reviews(&space, "run").await?, 0);

    let unattended = run("approve", &alice, &space, &["run"]).await?;
    ended(&unattended, 5, "nobody is there to ask, so nothing was decided; a script says --yes")?;
    assert_eq!(reviews(&space, "run").await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_script_pins_what_was_read_elsewhere() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "decide-pinned").await?;
    space.policy(by_sre()).await?;
    let (digest, other) = (space.bound("run").await?, space.bound("other").await?);
    let alice = cluster.user("alice", &["sre"])?;
    let wrong = run("approve", &alice, &space, &["run", "--yes", "--digest", &other]).await?;
    ended(&wrong, 4, "and what stands here now is")?;
    assert_eq!(reviews(&space, "run").await?, 0);
    let short = run("approve", &alice, &space, &["run", "--yes", "--digest", &digest[7..18]]).await?;
    ended(&short, 2, "at least the first 12 digits")?;
    let pinned = ["run", "--yes", "--digest", &digest[7..19], "--wait", "20s"];
    ended(&run("approve", &alice, &space, &pinned).await?, 0, "released")?;
    // Another word, and no wait for what comes of it.
    let name = "approvalrequest.countersign.dev/other";
    let denied = run("deny", &alice, &space, &[name, "--yes", "--digest", &other, "--wait", "0"]).await?;
    ended(&denied, 0, "stored; what comes of it was not waited for")?;
    space.state("other", "Denied").await?;
    Ok(())
}

#[tokio::test]
async fn it_says_what_is_still_missing_and_asks_for_a_comment_that_is() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "decide-two").await?;
    let mut rules = by_sre();
    rules[0]["approvals"]["requirements"][0]["count"] = json!(2);
    rules[0]["approvals"]["requireComment"] = json!(true);
    space.policy(rules).await?;
    let (digest, _) = (space.bound("run").await?, space.bound("other").await?);
    let (alice, bob) = (cluster.user("alice", &["sre"])?, cluster.user("bob", &["sre"])?);
    let unsaid = run("approve", &alice, &space, &["run", "--yes"]).await?;
    ended(&unsaid, 3, "not approved: this approval takes a comment: say with --comment what you checked")?;

    let terminal = start("approve", &alice, &space, &["run", "--wait", "20s"]).run()?;
    terminal.shows("What did you check?").await?;
    terminal.types("the diff\n")?;
    terminal.shows(QUESTION).await?;
    terminal.types("y\n")?;
    terminal.ends_with(0, "1 of 2 approvals; still needs 1 more approval from sre").await?;
    let stored = space.get("approvalrequests", "run").await?;
    assert_eq!(stored["spec"]["reviews"][0]["comment"], "the diff");

    let hasty = run("approve", &bob, &space, &["run", "--yes", "-m", "seen", "--wait", "0"]).await?;
    ended(&hasty, 0, "stored; what comes of it was not waited for")?;
    space.state("run", "Released").await?;
    // Several names, each by its own digest, and the code of the first that did not go well.
    let both = run("approve", &bob, &space, &["run", "other", "--yes", "-m", "seen", "--wait", "20s"]).await?;
    ended(&both, 3, "decide-two/run: not approved: it is Released already")?;
    ended(&both, 3, "decide-two/other: approved")?;
    assert_eq!(space.get("approvalrequests", "run").await?["status"]["digest"], json!(digest));
    Ok(())
}

#[tokio::test]
async fn a_closed_window_is_said_with_its_end() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "decide-frozen").await?;
    let mut rules = by_sre();
    rules[0]["freezeWindows"] = json!([{"name": "always", "start": "0 0 * * *", "durationSeconds": 86399, "timeZone": "Etc/UTC",
        "mayPass": [{"kind": "User", "name": "bob"}]}]);
    space.policy(rules).await?;
    space.bound("run").await?;
    let (alice, bob) = (cluster.user("alice", &["sre"])?, cluster.user("bob", &["sre"])?);
    let waits = run("approve", &alice, &space, &["run", "--yes", "--wait", "20s"]).await?;
    ended(&waits, 0, "window closed until ")?;
    ended(&waits, 0, "freeze window always of rule decide-frozen/prod-write holds (user bob may pass it)")?;
    ensure!(!waits.stdout.lines().last().unwrap_or_default().contains("kubectl"), "{}", waits.stdout);
    let listed = run("approve", &bob, &space, &[]).await?;
    ensure!(listed.stdout.contains("run"), "whoever may pass it sees it: {}{}", listed.stdout, listed.stderr);
    ended(&run("approve", &bob, &space, &["run", "--yes", "--wait", "20s"]).await?, 0, "released")?;
    Ok(())
}
