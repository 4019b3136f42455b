//! Text that would take over the screen, if it could.

use crate::support::{Space, by_sre, cluster, create, job, request};
use crate::terminal::End;
use crate::tui::tui;
use anyhow::{Result, ensure};
use serde_json::{Value, json};

/// Clears the screen, moves to its top, hides what follows, leaves the screen, sets the title, asks the terminal for an answer
/// that would be typed, turns the direction, and forges a row and a question.
const POISON: &str = "ok\u{1b}[2J\u{1b}[H\u{1b}[8m\u{1b}[?1049l\u{1b}]0;owned\u{7}\u{1b}[6n\u{1b}P+q\u{1b}\\\u{9b}31m\u{202e}gpj\u{2066}\r\nDigest      sha256:forged\nApprove? [y/N] y\u{0}\u{8}\u{200b}";

/// A request with poison wherever the API takes it.
fn poisoned(name: &str) -> Value {
    let mut body = request(name, Some("run"));
    let ten_kb = "\u{1b}[2J 界".repeat(580);
    body["spec"]["reason"] = json!(POISON);
    body["spec"]["policySnapshot"] = json!(format!("{}Digest      sha256:forged\u{1b}[2J", "x".repeat(68)));
    body["spec"]["evidence"] = json!([
        {"title": POISON, "text": POISON, "url": "https://example.com/\u{1b}[2J"},
        // Letters of two columns, marks that take none, and flags fill the rest of a line, so that what follows would begin at
        // the left edge.
        {"title": "w", "text": format!("x{}Digest sha256:forged", "界".repeat(32))},
        {"title": "m", "text": format!("e{}Digest sha256:forged", "\u{301}".repeat(60))},
        {"title": "f", "text": format!("{}Digest sha256:forged", "\u{1f1e9}\u{1f1ea}".repeat(17))},
        {"title": "long", "text": ten_kb}, {"title": "longer", "text": ten_kb}]);
    body
}

/// Nothing but our own codes reached the terminal, and nothing on the screen stands where only we write.
fn harmless(end: &End, screens: &[String]) -> Result<()> {
    let text = String::from_utf8_lossy(&end.bytes).into_owned();
    let mut left = String::new();
    for (i, part) in text.split('\u{1b}').enumerate() {
        let code = part.strip_prefix('[').filter(|_| i > 0);
        let code = code.and_then(|rest| rest.split_once(|c: char| c.is_ascii_alphabetic()));
        let known = |code: &str| code.chars().all(|c| c.is_ascii_digit() || c == ';' || c == '?');
        match code {
            Some((code, rest)) if known(code) => left.push_str(rest),
            _ if i == 0 => left.push_str(part),
            _ => anyhow::bail!("no code of ours: {part:?}"),
        }
    }
    // The screen is taken once and given back once.
    ensure!(text.matches("\u{1b}[?1049h").count() == 1 && text.matches("\u{1b}[?1049l").count() == 1, "{text:?}");
    ensure!(!text.contains("\u{1b}[6n") && !text.contains("\u{1b}[8m"), "{text:?}");
    let bad = |c: char| (c.is_control() && c != '\r' && c != '\n') || matches!(c, '\u{202e}' | '\u{2066}' | '\u{200b}');
    ensure!(!left.contains(bad), "{left:?}");
    for screen in screens {
        let forged =
            |row: &str| row.starts_with("Digest") && row.contains("forged") || row.starts_with("Approve? [y/N]");
        ensure!(!screen.lines().any(forged), "{screen}");
    }
    Ok(())
}

#[tokio::test]
async fn nothing_that_a_requester_or_reviewer_writes_takes_effect_on_the_screen_of_the_inbox() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "tui-hostile").await?;
    let mut rules = by_sre();
    rules[0]["approvals"]["requirements"][0]["count"] = json!(2);
    rules[0]["reason"] = json!(POISON.replace('\u{0}', ""));
    space.policy(rules.clone()).await?;
    let mut job = job("run");
    job["spec"]["template"]["spec"]["containers"][0]["command"] = json!(["sh", "-c", POISON.replace('\u{0}', "")]);
    space.create(&job).await?;
    let name = format!("a{}", "b".repeat(62));
    create(&space.api("approvalrequests"), &poisoned(&name)).await?;
    let digest = space.digest(&name).await?;
    let (alice, bob) = (cluster.user("alice", &["sre"])?, cluster.user("bob", &["sre"])?);
    let comment = POISON.replace('\u{0}', "");
    let review = json!({"spec": {"review": {"decision": "Approve", "digest": digest, "comment": comment}}});
    space.patch(&bob, &name, review).ok().await?;

    for (lines, columns) in [(24, 80), (60, 200), (10, 40), (24, 37)] {
        let terminal = tui(&alice, &space, &["--all-pending"]).lines(lines).columns(columns).run()?;
        terminal.shows("Asked by").await?;
        let mut screens = vec![];
        // Down the whole card, page by page, and across the width of the window.
        for _ in 0..60 {
            screens.push(terminal.screen());
            terminal.types("\u{1b}[6~")?;
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        terminal.types("\u{1b}[F")?;
        terminal.shows("Before").await?;
        terminal.resize(24, 81)?;
        terminal.shows("a approve  d deny").await?;
        terminal.types("\u{1b}[H")?;
        screens.push(terminal.shows("Request     tui-hostile/").await?);
        terminal.types("a")?;
        screens.push(terminal.shows(&format!("{}? [y/N]", &digest[..23])).await?);
        terminal.types("y")?;
        terminal.shows("Enter: send").await?;
        terminal.types(&format!("\u{1b}[200~{comment}\u{1b}[201~"))?;
        screens.push(terminal.shows("> …").await?);
        terminal.types("\u{1b}")?;
        terminal.shows("Not approved.").await?;
        terminal.types("q")?;
        let end = terminal.ends_with(0, "").await?;
        ensure!(end.restored, "{}", end.screen);
        harmless(&end, &screens)?;
        let flat = screens.concat().replace(['\n', ' '], "");
        ensure!(flat.contains("ok\\u{1b}[2J\\u{1b}[H") && flat.contains("Before"), "{}", screens.concat());
    }
    // What has changed meanwhile is poison as well.
    let terminal = tui(&alice, &space, &[]).lines(100).run()?;
    terminal.shows("Before").await?;
    let mut edited = rules.clone();
    edited[0]["reason"] = json!(format!("{}Approve? [y/N] y", POISON.replace('\u{0}', "")));
    space.policy(edited).await?;
    let screen = terminal.shows("Changed     sha256:").await?;
    terminal.types("q")?;
    harmless(&terminal.ends_with(0, "").await?, &[screen])?;
    Ok(())
}
