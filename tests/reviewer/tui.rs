//! `kubectl approve --tui`: the inbox on a screen.

use crate::support::{Space, by_sre, cluster};
use crate::terminal::{Start, Terminal, start};
use crate::{command, ended, reviews, run};
use anyhow::{Context, Result, ensure};
use countersign_testbed::Identity;
use rustix::process::Signal;
use serde_json::json;

/// The screen, as somebody, on a terminal that holds all of a card.
pub fn tui<'a>(who: &Identity, space: &Space, args: &[&str]) -> Start<'a> {
    start("approve", who, space, &[&["--tui"], args].concat()).lines(40)
}

/// Types each key once the screen shows what it is about.
pub async fn decide(terminal: &Terminal, key: &str, comment: &str) -> Result<()> {
    terminal.types(key)?;
    terminal.shows("? [y/N]").await?;
    terminal.types("y")?;
    terminal.shows("Enter: send").await?;
    terminal.types(comment)?;
    terminal.shows(&format!("> {comment}")).await?;
    terminal.types("\r")
}

#[tokio::test]
async fn list_and_card_are_shown_and_three_keys_release() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "tui").await?;
    space.policy(by_sre()).await?;
    let digest = space.bound("first").await?;
    space.bound("second").await?;
    let alice = cluster.user("alice", &["sre"])?;
    let terminal = tui(&alice, &space, &["--wait", "20s"]).run()?;
    let screen = terminal.shows("Before").await?;
    for expected in [
        "Namespace tui: 2 wait for you",
        "  NAME     TIME          APPROVALS   RISK         RULE         ASKED-BY",
        "> first    59 min left   0/1",
        "  second   59 min left   0/1",
        "Request     tui/first  Pending",
        "Asked by    system:serviceaccount:tui:triage (authenticated)",
        "Bounds      at most: runs 900 s (15 min)",
        "Job         first, as serviceaccount default",
        "main: localhost/remediate:1 runs remediate",
        "a approve  d deny  j/k next",
    ] {
        ensure!(screen.contains(expected), "expected {expected:?} in\n{screen}");
    }
    terminal.types("a")?;
    terminal.shows(&format!("Approve tui/first {}? [y/N]", &digest[..23])).await?;
    terminal.types("n")?;
    terminal.shows("Not approved.").await?;
    assert_eq!(reviews(&space, "first").await?, 0);
    decide(&terminal, "a", "seen").await?;
    let released = format!("tui/first: approved {}: released", &digest[..23]);
    terminal.shows(&released).await?;
    assert!(space.started("first").await? && !space.started("second").await?);
    let stored = space.get("approvalrequests", "first").await?;
    assert_eq!(stored["spec"]["reviews"][0]["digest"], json!(digest), "all of it is sent");
    assert_eq!(stored["spec"]["reviews"][0]["comment"], "seen");
    let screen = terminal.shows("-- it is Released").await?;
    ensure!(screen.contains("Namespace tui: 1 waits for you") && screen.contains("tui/first  Released"), "{screen}");
    terminal.types("q")?;
    let end = terminal.ends_with(0, &released).await?;
    ensure!(end.restored, "the terminal is as it was, with what came of it: {}", end.screen);
    Ok(())
}

#[tokio::test]
async fn a_denial_says_why_and_ends_it() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "tui-deny").await?;
    let mut rules = by_sre();
    rules[0]["approvals"]["requireComment"] = json!(true);
    space.policy(rules).await?;
    space.bound("one").await?;
    space.bound("two").await?;
    let alice = cluster.user("alice", &["sre"])?;
    let terminal = tui(&alice, &space, &["--wait", "20s"]).run()?;
    terminal.shows("Before").await?;
    // The second of the list.
    terminal.types("j")?;
    terminal.shows("Request     tui-deny/two").await?;
    terminal.shows("Before").await?;
    decide(&terminal, "d", "not on a Friday").await?;
    terminal.shows("tui-deny/two: denied sha256:").await?;
    let stored = space.state("two", "Denied").await?;
    assert_eq!(stored["spec"]["reviews"][0]["comment"], "not on a Friday");
    assert!(!space.started("two").await?);
    // The rule wants a comment with an approval, and nothing goes out without.
    terminal.types("k")?;
    terminal.shows("Request     tui-deny/one").await?;
    terminal.shows("Before").await?;
    terminal.types("a")?;
    terminal.shows("? [y/N]").await?;
    terminal.types("y")?;
    terminal.shows("What did you check?").await?;
    terminal.types("  \r")?;
    terminal.shows("this approval takes a comment: say what you checked").await?;
    terminal.types("\u{1b}")?;
    terminal.shows("Not approved.").await?;
    assert_eq!(reviews(&space, "one").await?, 0);
    terminal.types("\u{3}")?;
    let end = terminal.ends_with(130, "interrupted; nothing more was decided").await?;
    ensure!(end.restored && end.screen.contains("tui-deny/two: denied"), "{}", end.screen);
    Ok(())
}

#[tokio::test]
async fn what_changes_under_an_open_question_closes_it_and_is_asked_anew() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "tui-changed").await?;
    space.policy(by_sre()).await?;
    let first = space.bound("run").await?;
    let alice = cluster.user("alice", &["sre"])?;
    let terminal = tui(&alice, &space, &["--wait", "20s"]).run()?;
    terminal.shows("Before").await?;
    terminal.types("a")?;
    terminal.shows("? [y/N]").await?;
    let mut edited = by_sre();
    edited[0]["constraints"]["maxRuntimeSeconds"] = json!(300);
    space.policy(edited).await?;
    terminal.shows_no_more("? [y/N]").await?;
    let screen = terminal.shows("+ Bounds: at most: runs 300 s (5 min)").await?;
    for expected in [
        "What you were shown has changed, so nothing was stored.",
        &format!("Changed     {} is now sha256:", &first[..23]),
        "- Bounds: at most: runs 900 s (15 min)",
    ] {
        ensure!(screen.contains(expected), "expected {expected:?} in\n{screen}");
    }
    // The answer to the question that was closed is none to any other.
    terminal.types("y\r")?;
    terminal.types("?")?;
    terminal.shows("any key closes it").await?;
    terminal.types("x")?;
    terminal.shows_no_more("any key closes it").await?;
    assert_eq!(reviews(&space, "run").await?, 0);
    decide(&terminal, "a", "").await?;
    terminal.shows(": released").await?;
    let stored = space.get("approvalrequests", "run").await?;
    assert_ne!(stored["spec"]["reviews"][0]["digest"], json!(first));
    assert_eq!(stored["spec"]["reviews"].as_array().map(Vec::len), Some(1));
    terminal.types("q")?;
    terminal.ends_with(0, ": released").await?;
    Ok(())
}

#[tokio::test]
async fn what_was_typed_or_pasted_before_it_was_asked_decides_nothing() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "tui-typed").await?;
    space.policy(by_sre()).await?;
    space.bound("run").await?;
    let alice = cluster.user("alice", &["sre"])?;
    let terminal = tui(&alice, &space, &[]).typed_ahead("ay\ray\r").run()?;
    terminal.shows("Before").await?;
    for typed in ["ay\ray\r", "\u{1b}[200~ay\r\u{1b}[201~", "\u{1b}a\u{1b}y\r", "ayyyyyyyy\r\r"] {
        terminal.types(typed)?;
        // Whatever it opened is closed, and another question is about nothing that was typed before.
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        terminal.types("\u{1b}")?;
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    assert_eq!(reviews(&space, "run").await?, 0);
    terminal.types("q")?;
    let end = terminal.ends().await?;
    ensure!(end.code == Some(0) && end.restored, "{:?} {}", end.code, end.screen);
    Ok(())
}

#[tokio::test]
async fn what_comes_to_wait_appears_by_itself_and_what_others_decide_goes() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "tui-live").await?;
    space.policy(by_sre()).await?;
    let (alice, bob) = (cluster.user("alice", &["sre"])?, cluster.user("bob", &["sre"])?);
    let terminal = tui(&alice, &space, &[]).run()?;
    terminal.shows("Nothing waits for you in namespace tui-live.").await?;
    let digest = space.bound("run").await?;
    let screen = terminal.shows("Before").await?;
    ensure!(screen.contains("1 waits for you") && screen.contains("> run    59 min left"), "{screen}");
    terminal.types("a")?;
    terminal.shows("? [y/N]").await?;
    space.review(&bob, "run", "Approve", &digest).ok().await?;
    terminal.shows("-- it is Released").await?;
    let screen = terminal.shows("not approved: it ").await?;
    ensure!(!screen.contains("[y/N]") && screen.contains("nothing waits"), "{screen}");
    // Nobody is asked about it any more.
    terminal.types("a")?;
    terminal.shows_no_more("[y/N]").await?;
    terminal.types("q")?;
    terminal.ends_with(0, "").await?;
    Ok(())
}

#[tokio::test]
async fn a_window_of_another_size_holds_what_fits_and_says_what_does_not() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "tui-size").await?;
    space.policy(by_sre()).await?;
    let digest = space.bound("run").await?;
    space.bound("z").await?;
    let alice = cluster.user("alice", &["sre"])?;
    let terminal = tui(&alice, &space, &["--wait", "20s"]).run()?;
    terminal.shows("Before").await?;
    terminal.resize(24, 80)?;
    terminal.shows("-- lines 1-18 of ").await?;
    terminal.resize(10, 40)?;
    let screen = terminal.shows("-- lines 1-5 of ").await?;
    ensure!(screen.lines().count() <= 10 && screen.contains("Request     tui-size/run"), "{screen}");
    for _ in 0..20 {
        terminal.types("\u{1b}[6~")?;
    }
    terminal.shows(&format!("Digest      {}", &digest[..23])).await?;
    terminal.types("\u{1b}[H")?;
    terminal.shows("Request     tui-size/run").await?;
    for (lines, columns) in [(1, 1), (2, 3), (8, 20), (3, 200)] {
        terminal.resize(lines, columns)?;
        terminal.types("ay\r")?;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    terminal.resize(40, 80)?;
    let screen = terminal.shows("a approve  d deny").await?;
    ensure!(screen.contains("Namespace tui-size: 2 wait for you") && screen.contains("Before"), "{screen}");
    assert_eq!(reviews(&space, "run").await?, 0);
    terminal.resize(10, 40)?;
    terminal.shows("-- lines 1-").await?;
    decide(&terminal, "a", "small").await?;
    terminal.resize(40, 80)?;
    terminal.shows(": released").await?;
    terminal.types("q")?;
    let end = terminal.ends_with(0, ": released").await?;
    ensure!(end.restored, "{}", end.screen);
    Ok(())
}

#[tokio::test]
async fn without_colour_there_is_none_and_the_words_are_the_same() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "tui-colour").await?;
    space.policy(by_sre()).await?;
    space.bound("run").await?;
    let alice = cluster.user("alice", &["sre"])?;
    let mut shown = vec![];
    for variable in [("LANG", "C"), ("NO_COLOR", "1")] {
        let terminal = tui(&alice, &space, &[]).env(variable.0, variable.1).run()?;
        let screen = terminal.shows("Before").await?;
        terminal.types("q")?;
        let end = terminal.ends_with(0, "").await?;
        shown.push((screen.lines().filter(|line| !line.contains("left")).map(String::from).collect::<Vec<_>>(), end));
    }
    assert_eq!(shown[0].0, shown[1].0);
    let marks = |bytes: &[u8]| -> Vec<String> {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let codes = text.split("\u{1b}[").skip(1).filter_map(|rest| rest.split_once('m'));
        codes
            .map(|(code, _)| code.to_string())
            .filter(|code| code.chars().all(|c| c.is_ascii_digit() || c == ';'))
            .collect()
    };
    assert!(marks(&shown[0].1.bytes).contains(&"1".into()), "labels are bold");
    let plain = marks(&shown[1].1.bytes);
    assert!(plain.iter().all(|code| code.is_empty() || code == "0"), "{plain:?}");
    Ok(())
}

#[tokio::test]
async fn it_takes_a_terminal_that_has_a_screen() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "tui-terminal").await?;
    let alice = cluster.user("alice", &["sre"])?;
    ended(&run("approve", &alice, &space, &["--tui"]).await?, 5, "kubectl approve: --tui needs a terminal")?;
    let dumb =
        tui(&alice, &space, &[]).env("TERM", "dumb").run()?.ends_with(5, "without --tui it prints the list").await?;
    ensure!(!dumb.bytes.contains(&0x1b), "{}", dumb.screen);
    for args in
        [&["--tui", "run"][..], &["--tui", "--all"], &["--tui", "--yes"], &["--tui", "-o", "json"], &["--tui", "-w"]]
    {
        ended(&run("approve", &alice, &space, args).await?, 2, "")?;
    }
    ended(&run("deny", &alice, &space, &["--tui"]).await?, 2, "on its screen, d denies")?;
    // Who may not list is told so, on the usual screen.
    let bob = cluster.user("bob", &[])?;
    let refused = tui(&bob, &space, &[]).run()?.ends_with(3, "ask the platform team for a binding").await?;
    ensure!(!refused.bytes.contains(&0x1b), "{}", refused.screen);
    let kubeconfig = alice.kubeconfig.to_str().context("path")?;
    let away = ["--tui", "--kubeconfig", kubeconfig, "--server", "https://127.0.0.1:1"];
    ended(&command("approve").run(&away, "").await?, 5, "needs a terminal")?;
    Ok(())
}

#[tokio::test]
async fn a_signal_ends_it_and_gives_the_terminal_back() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "tui-signal").await?;
    space.policy(by_sre()).await?;
    space.bound("run").await?;
    let alice = cluster.user("alice", &["sre"])?;
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let terminal = tui(&alice, &space, &[]).run()?;
        terminal.shows("Before").await?;
        terminal.types("ay")?;
        terminal.signal(signal)?;
        let end = terminal.ends_with(130, "interrupted; nothing more was decided").await?;
        ensure!(end.restored, "{signal:?}: {}", end.screen);
    }
    assert_eq!(reviews(&space, "run").await?, 0);
    Ok(())
}

#[tokio::test]
async fn what_is_not_mine_is_listed_where_that_is_asked_for() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "tui-pending").await?;
    let mut rules = by_sre();
    rules[0]["approvals"]["requirements"][0]["count"] = json!(2);
    space.policy(rules).await?;
    space.bound("run").await?;
    let alice = cluster.user("alice", &["sre"])?;
    let terminal = tui(&alice, &space, &["--all-pending", "--wait", "20s"]).run()?;
    terminal.shows("Before").await?;
    decide(&terminal, "a", "").await?;
    terminal.shows("1 of 2 approvals; still needs").await?;
    terminal.shows("-- not yours to approve: you approved it").await?;
    terminal.types("a")?;
    terminal.shows("not approved: you approved it").await?;
    // It is taken back in the same place.
    decide(&terminal, "d", "on second thought").await?;
    terminal.shows(": denied").await?;
    space.state("run", "Denied").await?;
    terminal.types("q")?;
    let end = terminal.ends_with(0, ": denied").await?;
    ensure!(end.screen.contains("1 of 2 approvals"), "all that came of it is told: {}", end.screen);
    Ok(())
}
