//! Text that would take over the screen, if it could.

use crate::support::{Space, by_sre, cluster, create, job, request};
use crate::terminal::{End, start};
use crate::{run, told};
use anyhow::{Result, ensure};
use serde_json::{Value, json};

/// Clears the screen, moves to its top, hides what follows, sets the title, turns the direction, breaks the line, and forges
/// a row and a question.
const POISON: &str = "ok\u{1b}[2J\u{1b}[H\u{1b}[8m\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}gpj\u{2066}\r\nDigest      sha256:forged\nApprove? [y/N] y\u{0}\u{8}\u{200b}";

/// A request with poison wherever the API takes it.
fn poisoned(name: &str) -> Value {
    let mut body = request(name, Some(name));
    body["spec"]["reason"] = json!(POISON);
    body["spec"]["policySnapshot"] = json!(format!("{}Digest      sha256:forged\u{1b}[2J", "x".repeat(68)));
    let ten_kb = "\u{1b}[2J 界".repeat(580);
    body["spec"]["evidence"] = json!([
        {"title": POISON, "text": POISON, "url": "https://example.com/\u{1b}[2J"},
        // Letters of two columns fill the rest of a line of 80, so that what follows would begin at the left edge.
        {"title": "w", "text": format!("x{}Digest sha256:forged", "界".repeat(32))},
        {"title": "long", "text": ten_kb}, {"title": "longer", "text": ten_kb}, {"title": "longest", "text": ten_kb},
        {"title": "more", "text": "x ".repeat(2048)}]);
    body
}

/// Nothing but our own marks reached the terminal, and nothing on the screen stands where only we write.
fn harmless(end: &End) -> Result<()> {
    let text = String::from_utf8_lossy(&end.bytes).into_owned();
    let ours = ["\u{1b}[1m", "\u{1b}[1;31m", "\u{1b}[0m"];
    let left = ours.iter().fold(text, |text, code| text.replace(code, ""));
    let bad = |c: char| (c.is_control() && c != '\r' && c != '\n') || matches!(c, '\u{202e}' | '\u{2066}' | '\u{200b}');
    ensure!(!left.contains(bad), "{left:?}");
    let forged = |row: &String| row.starts_with("Digest") && row.contains("forged");
    ensure!(!end.rows.iter().any(forged), "{:#?}", end.rows);
    let questions = end.rows.iter().filter(|row| row.starts_with("Approve? [y/N]")).count();
    ensure!(questions <= 1, "{:#?}", end.rows);
    Ok(())
}

#[tokio::test]
async fn nothing_that_a_requester_or_reviewer_writes_takes_effect_on_the_screen() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "hostile").await?;
    let mut rules = by_sre();
    rules[0]["approvals"]["requirements"][0]["count"] = json!(2);
    rules[0]["reason"] = json!(POISON.replace('\u{0}', ""));
    space.policy(rules.clone()).await?;
    let mut job = job("run");
    job["spec"]["template"]["spec"]["containers"][0]["command"] = json!(["sh", "-c", POISON.replace('\u{0}', "")]);
    space.create(&job).await?;
    create(&space.api("approvalrequests"), &poisoned("run")).await?;
    let digest = space.digest("run").await?;
    let (alice, bob) = (cluster.user("alice", &["sre"])?, cluster.user("bob", &["sre"])?);
    let review =
        json!({"spec": {"review": {"decision": "Approve", "digest": digest, "comment": POISON.replace('\u{0}', "")}}});
    space.patch(&bob, "run", review).ok().await?;

    for columns in [80, 40, 200] {
        let terminal = start("approve", &alice, &space, &["run"]).columns(columns).run()?;
        let screen = terminal.asks("Approve? [y/N]").await?;
        let rows: Vec<&str> = screen.lines().collect();
        ensure!(rows.first().is_some_and(|row| row.starts_with("Request     hostile/run")), "{screen}");
        terminal.types("n\n")?;
        let end = terminal.ends_with(5, "Not approved.").await?;
        harmless(&end)?;
        let flat = end.screen.replace(['\n', ' '], "");
        ensure!(flat.contains("ok\\u{1b}[2J\\u{1b}[H") && flat.contains("morecharacters)"), "{}", end.screen);
    }
    // What has changed meanwhile is poison as well.
    let terminal = start("approve", &alice, &space, &["run"]).run()?;
    terminal.asks("Approve? [y/N]").await?;
    let mut edited = rules.clone();
    edited[0]["reason"] = json!(format!("{}Approve? [y/N] y", POISON.replace('\u{0}', "")));
    space.policy(edited).await?;
    space.wait("approvalrequests", "run", |r| r["status"]["revision"] == 2).await?;
    terminal.types("y\n")?;
    terminal.asks("Approve what stands there now? [y/N]").await?;
    terminal.types("n\n")?;
    harmless(&terminal.ends_with(5, "Changed     - Rules").await?)?;
    // Whoever reads the list, or the objects themselves, on a terminal.
    for args in [&["-o", "wide"][..], &["-o", "json"], &["-o", "yaml"], &["--all-pending"], &["-o", "name"]] {
        let end = start("approve", &alice, &space, args).run()?.ends_with(0, "run").await?;
        harmless(&end)?;
    }
    let terminal = start("approve", &alice, &space, &["--all"]).run()?;
    terminal.asks("Approve this one? [y/N]").await?;
    terminal.types("n\n")?;
    harmless(&terminal.ends_with(5, "Not approved.").await?)?;
    // A program gets what was written.
    let listed: Value = serde_json::from_str(&run("approve", &alice, &space, &["-o", "json"]).await?.stdout)?;
    assert_eq!(listed["items"][0]["spec"]["reason"], json!(POISON));
    Ok(())
}

#[tokio::test]
async fn colour_is_for_terminals_that_want_it_and_tells_nothing_by_itself() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "colour").await?;
    space.policy(by_sre()).await?;
    space.bound("run").await?;
    let alice = cluster.user("alice", &["sre"])?;
    let shown = async |variable: (&'static str, &'static str)| -> Result<End> {
        let terminal = start("approve", &alice, &space, &["run"]).env(variable.0, variable.1).run()?;
        terminal.shows("Approve? [y/N]").await?;
        terminal.types("n\n")?;
        terminal.ends().await
    };
    let colourful = shown(("LANG", "C")).await?;
    assert!(colourful.bytes.windows(4).any(|bytes| bytes == b"\x1b[1m"));
    for variable in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let plain = shown(variable).await?;
        assert!(!plain.bytes.contains(&0x1b), "{variable:?}");
        // But for the time that is left, the same words.
        let words =
            |end: &End| end.screen.lines().filter(|line| !line.contains("left)")).map(String::from).collect::<Vec<_>>();
        assert_eq!(words(&plain), words(&colourful));
    }
    let (_, piped) = told(&run("approve", &alice, &space, &["run", "--yes", "--wait", "20s"]).await?);
    assert!(piped.contains("released") && !piped.contains('\u{1b}'), "{piped}");
    Ok(())
}
