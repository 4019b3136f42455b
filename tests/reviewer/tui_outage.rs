//! The screen while the API server, or the operator, is away.

use crate::reviews;
use crate::support::{Space, by_sre, countersign, installed};
use crate::tui::{decide, tui};
use anyhow::{Result, ensure};

#[tokio::test]
async fn an_outage_is_said_and_survived() -> Result<()> {
    let cluster = installed().await?;
    let operator = countersign().start(&cluster).await?;
    let space = Space::new(&cluster, "tui-away").await?;
    space.policy(by_sre()).await?;
    space.bound("run").await?;
    let alice = cluster.user("alice", &["sre"])?;
    let terminal = tui(&alice, &space, &["--wait", "20s"]).run()?;
    terminal.shows("Before").await?;
    cluster
        .restart_apiserver(async {
            terminal.shows("Not up to date: ").await?;
            // What is on the screen can still be read, and what is decided is said not to be stored.
            decide(&terminal, "a", "").await?;
            let screen = terminal.shows("tui-away/run: not approved: the API server at").await?;
            ensure!(screen.contains("Request     tui-away/run"), "{screen}");
            Ok(())
        })
        .await?;
    terminal.shows_no_more("Not up to date").await?;
    space.bound("second").await?;
    terminal.shows("2 wait for you").await?;
    // The operator is needed for a decision, and only for that.
    operator.kill();
    decide(&terminal, "a", "").await?;
    terminal.shows("not approved: the operator does not answer, so nothing was stored").await?;
    assert_eq!(reviews(&space, "run").await?, 0);
    let operator = countersign().start(&cluster).await?;
    decide(&terminal, "a", "").await?;
    terminal.shows("tui-away/run: approved").await?;
    terminal.shows(": released").await?;
    // Whoever leaves while a review is on its way is told that nobody knows what became of it.
    terminal.types("j")?;
    terminal.shows("Request     tui-away/second").await?;
    terminal.shows("Before").await?;
    operator.pause()?;
    decide(&terminal, "a", "").await?;
    terminal.shows("Sending…").await?;
    terminal.types("q")?;
    let end =
        terminal.ends_with(130, "interrupted while the review was sent; whether it was stored is not known").await?;
    ensure!(end.restored && end.screen.contains("tui-away/run: approved"), "{}", end.screen);
    operator.resume()?;
    operator.kill();
    Ok(())
}
