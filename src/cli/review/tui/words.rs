//! What the screen says of itself.

use crate::cli::review::tui::state::{Stage, State};

/// The keys that do something now, in one line.
pub fn keys(state: &State) -> &'static str {
    match state.prompt.as_ref().map(|prompt| &prompt.stage) {
        Some(Stage::Confirm) => "y: yes, with a comment next; every other key: no",
        Some(Stage::Comment(_)) => "Enter: send; Esc: do not; Ctrl-U: clear",
        None => "a approve  d deny  j/k next  PgUp/PgDn card  r refresh  ? help  q quit",
    }
}

/// The keys, explained.
pub const HELP: [(&str, &str); 8] = [
    ("j, down", "the next request; k or up: the one before"),
    ("PgUp, PgDn", "move the card; Home and End: to its first and last line"),
    ("a", "approve what is on the card: it asks, y goes on, then a line for a comment, and Enter sends"),
    ("d", "deny it, or take an approval back, in the same way"),
    (
        "",
        "Every other key sends nothing. What is sent names the digest that was on the screen; if what it is about changes before, the question is closed and the card says what is different.",
    ),
    ("r", "read everything anew; it is kept up to date by itself"),
    ("q", "quit; Ctrl-C: at once"),
    ("?", "this page; any key closes it"),
];

/// The first line: where, and how much waits. With how much of the list is on the screen, where that is not all.
pub fn title(state: &State, from: usize, lines: usize) -> String {
    let whose = if state.settings.all { "" } else { " for you" };
    let waits = match state.listed.len() {
        0 => "nothing waits".into(),
        1 => format!("1 waits{whose}"),
        n => format!("{n} wait{whose}"),
    };
    let some = match state.listed.len() {
        n if n > lines && lines > 0 => format!(" ({}-{} here)", from + 1, (from + lines).min(n)),
        _ => String::new(),
    };
    let unreadable = match state.unreadable {
        0 => String::new(),
        n => format!("; {n} cannot be read by this version"),
    };
    format!("{}: {waits}{some}{unreadable}", state.settings.place)
}
