//! The terminal: what it can show, and questions to the person before it.

use crate::cli::card::Look;
use rustix::termios::{QueueSelector, tcflush, tcgetwinsize};
use std::io::{BufRead, IsTerminal, Write, stderr, stdin, stdout};

/// Whether somebody is there who sees what is shown and can answer.
pub fn attended() -> bool {
    stdin().is_terminal() && stdout().is_terminal()
}

/// How to show a card: by colour where that is wanted, and no wider than the terminal.
pub fn look() -> Look {
    let terminal = stdout().is_terminal();
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    let columns = tcgetwinsize(stdout()).map(|size| usize::from(size.ws_col)).ok().filter(|columns| *columns > 0);
    let usual = Look::default();
    Look { colour: terminal && !dumb && !set("NO_COLOR"), columns: columns.unwrap_or(usual.columns) }
}

/// Asks, and returns the line that is answered; none at the end of the input. What was typed before the question was shown is
/// no answer to it.
pub async fn ask(question: String) -> Option<String> {
    let answer = tokio::task::spawn_blocking(move || {
        // Where it cannot be thrown away, the question still stands.
        let _ = tcflush(stdin(), QueueSelector::IFlush);
        let _ = write!(stderr(), "{question}").and_then(|()| stderr().flush());
        let mut line = String::new();
        let read = stdin().lock().read_line(&mut line);
        read.ok().filter(|bytes| *bytes > 0).map(|_| line)
    });
    answer.await.ok().flatten()
}

/// Asks for a yes. Everything else is a no; none at the end of the input.
pub async fn confirmed(question: String) -> Option<bool> {
    let answer = ask(question).await?;
    Some(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
