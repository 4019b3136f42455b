//! `kubectl approve --tui`: the inbox on a screen, kept up to date, with a card to decide on.
//!
//! What follows from what happens ([`update`]), what a key does ([`press`]) and what stands on the screen ([`draw`]) is
//! pure. A decision is about the digest of the card that was drawn last, and of nothing else. Reading, watching and sending
//! ([`desk`]), and the terminal ([`screen`], [`typing`]) are thin around it.

mod canvas;
mod desk;
mod draw;
#[cfg(test)]
mod fixture;
mod input;
mod keys;
mod press;
mod screen;
mod state;
mod typing;
mod update;
mod words;

#[cfg(test)]
mod draw_tests;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod update_tests;

use crate::cli::escape::visible;
use crate::cli::review::cluster::Cluster;
use crate::cli::review::inbox::{columns, nothing, read};
use crate::cli::review::terminal::{attended, look};
use crate::cli::review::tui::desk::Desk;
use crate::cli::review::tui::input::Leave;
use crate::cli::review::tui::state::{Settings, State};
use crate::cli::review::{Exit, Session, interrupted, tell};

/// Lists once, as without a screen, and then takes the screen.
pub async fn run(session: &Session) -> Exit {
    if let Err(why) = fitting() {
        eprintln!("kubectl {}: {why}", session.verb.command());
        return Exit::Undecided;
    }
    let listed = tokio::select! {
        listed = read(session, true) => listed,
        // Later on, it is the screen that gives way first.
        Ok(()) = tokio::signal::ctrl_c() => Err(interrupted(session)),
    };
    let listed = match listed {
        Ok(listed) => listed,
        Err(exit) => return exit,
    };
    let mut config = session.config.clone();
    // Nothing may happen for hours.
    config.read_timeout = None;
    let feed = match Cluster::new(config) {
        Ok(feed) => feed,
        Err(error) => return failed(session, &format!("{error:#}")),
    };
    let mut desk = Desk::new(session, State { settings: settings(session), ..State::default() }, listed);
    let left = desk.work(&feed).await;
    desk.outcomes().for_each(|outcome| tell(&format!("{}\n", outcome.text)));
    match left {
        Ok(Leave::Done) => Exit::Done,
        Ok(Leave::Interrupted) => interrupted(session),
        Err(error) => failed(session, &format!("the terminal cannot be used: {error}")),
    }
}

fn failed(session: &Session, text: &str) -> Exit {
    eprintln!("kubectl {}: {}", session.verb.command(), visible(text));
    Exit::Failed
}

/// Whether this is a terminal on which something can be drawn.
fn fitting() -> Result<(), &'static str> {
    if !attended() {
        return Err("--tui needs a terminal to draw on and to read keys from; without --tui it prints the list");
    }
    match std::env::var("TERM").as_deref() {
        Ok("dumb") | Err(_) => {
            Err("--tui draws a screen, and TERM says that this terminal has none; without --tui it prints the list")
        }
        Ok(_) => Ok(()),
    }
}

fn settings(session: &Session) -> Settings {
    Settings {
        all: session.args.all_pending,
        columns: columns(session),
        place: session.place().map_or("All namespaces".into(), |namespace| format!("Namespace {}", visible(namespace))),
        nothing: nothing(session),
        colour: look().colour,
    }
}
