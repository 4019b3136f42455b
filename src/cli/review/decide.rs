//! Deciding on requests by name: the card, the question, the review.

use crate::cli::card::{Row, lay_out, rows, short_digest};
use crate::cli::escape::{visible, visible_identifier};
use crate::cli::explain::read_request;
use crate::cli::review::changes::{Seen, changes, last_released, since};
use crate::cli::review::cluster::{Page, RELEASED};
use crate::cli::review::refusal::Refused;
use crate::cli::review::send::{NotSent, Sent, comment_missing, lacks_comment, not_decided, not_up, send};
use crate::cli::review::settle::settle;
use crate::cli::review::terminal::{ask, attended, confirmed, look};
use crate::cli::review::{Exit, Phase, Session, tell};
use crate::lifecycle::RequestFacts;
use jiff::Timestamp;
use serde_json::Value;

/// `kubectl approve NAME...`
pub async fn run(session: &Session) -> Exit {
    if let Err(exit) = can_ask(session) {
        return exit;
    }
    let (mut exit, mut sent) = (Exit::Done, vec![]);
    for name in &session.args.names {
        match one(session, name).await {
            Ok(stored) if session.args.yes => sent.push(stored),
            Ok(stored) => {
                exit = exit.then(settle(session, vec![stored]).await);
                session.phase.set(Phase::Reading);
            }
            Err(Stop::Here(failure)) => exit = exit.then(failure),
            Err(Stop::Everything(failure)) => return exit.then(failure),
        }
    }
    exit.then(settle(session, sent).await)
}

/// Whether somebody is there to ask, or nobody has to.
pub fn can_ask(session: &Session) -> Result<(), Exit> {
    if session.args.yes || attended() {
        return Ok(());
    }
    let name = session.verb.command();
    eprintln!(
        "kubectl {name}: nobody is there to ask, so nothing was decided; a script says --yes, and what it read with --digest"
    );
    Err(Exit::Undecided)
}

/// Why a decision was not made.
enum Stop {
    /// The next name is asked about.
    Here(Exit),
    /// Nobody answers any more.
    Everything(Exit),
}

/// One request, and what it would run.
struct Found {
    seen: Seen,
    request: RequestFacts,
}

async fn one(session: &Session, name: &str) -> Result<Sent, Stop> {
    let mut found = find(session, name).await?;
    show(session, &found).await;
    let mut again = false;
    loop {
        decidable(session, &found)?;
        let comment = comment(session, &found).await?;
        if !session.args.yes {
            confirm(session, &found, again).await?;
        }
        let refused = match send(session, session.verb, &found.request, comment.as_deref()).await {
            Ok(sent) => return Ok(sent),
            Err(refused) => refused,
        };
        found = changed(session, found, refused).await?;
        again = true;
    }
}

async fn find(session: &Session, name: &str) -> Result<Found, Stop> {
    let namespace = session.namespace();
    let stop = |refused: Refused| Stop::Here(not_decided(session, namespace, name, &refused));
    let object = session.cluster.requests(Some(namespace)).get(name).await;
    let object = object.map_err(|error| stop(session.cluster.refused(error, namespace, name)))?;
    let unreadable = |error: anyhow::Error| stop(Refused::unanswered(format!("{error:#}")));
    let request = read_request(&object).map_err(unreadable)?;
    let stored = serde_json::to_value(object).map_err(|error| unreadable(error.into()))?;
    // Without somebody who reads it, what would run is not fetched: the digest binds it either way.
    let target = if session.args.yes { None } else { session.cluster.target(&stored).await };
    Ok(Found { seen: Seen { request: stored, target }, request })
}

/// Shows the card.
async fn show(session: &Session, found: &Found) {
    let mut card = rows(&found.seen.request, found.seen.target.as_ref(), Some(Timestamp::now()));
    if !session.args.yes {
        card.extend(
            before(session, &found.request, &found.seen.request)
                .await
                .into_iter()
                .map(|text| Row::new("Before", &text)),
        );
    }
    tell(&lay_out(&card, look()));
}

/// What is another than in the last release of the same workflow and step.
pub async fn before(session: &Session, request: &RequestFacts, stored: &Value) -> Vec<String> {
    let released = Page { which: Some(RELEASED), ..Page::default() };
    let Ok(list) = session.cluster.page(Some(&request.namespace), &released).await else {
        return vec!["whether this was released before cannot be read".into()];
    };
    let more = list.metadata.continue_.is_some_and(|token| !token.is_empty());
    let others: Vec<(RequestFacts, Value)> = list
        .items
        .into_iter()
        .filter_map(|object| Some((read_request(&object).ok()?, serde_json::to_value(object).ok()?)))
        .collect();
    let others = others.iter().map(|(facts, stored)| (facts, stored));
    let Some((time, earlier)) = last_released(request, others) else {
        let place = if more { "among the first released requests here" } else { "that is still there" };
        return vec![format!("no release of this workflow and step for this requester {place}")];
    };
    let name = earlier.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let mut lines = since(earlier, stored);
    let told = if lines.is_empty() { "the same was asked, under the same rules" } else { "since then:" };
    lines.insert(0, format!("{} was released at {time}; {told}", visible_identifier(name)));
    lines
}

/// Whether there is something to decide, and it is what was pinned.
fn decidable(session: &Session, found: &Found) -> Result<(), Stop> {
    let (namespace, name) = (&found.request.namespace, &found.request.name);
    if let Some(why) = not_up(&found.seen.request, &found.request) {
        return Err(Stop::Here(not_decided(session, namespace, name, &Refused::final_word(why))));
    }
    let digest = found.request.status.digest.as_deref().unwrap_or_default();
    match &session.args.digest {
        Some(pinned) if !digest.starts_with(pinned.as_str()) => {
            let text = format!("you pinned {pinned}, and what stands here now is {digest}: read it again");
            not_decided(session, namespace, name, &Refused::final_word(text));
            Err(Stop::Here(Exit::Changed))
        }
        _ => Ok(()),
    }
}

/// The reviewer's words; asked for where an approval takes some.
async fn comment(session: &Session, found: &Found) -> Result<Option<String>, Stop> {
    let given = session.args.comment.clone();
    if !lacks_comment(session.verb, &found.request, given.as_deref()) {
        return Ok(given);
    }
    let (namespace, name) = (&found.request.namespace, &found.request.name);
    if session.args.yes {
        return Err(Stop::Here(not_decided(session, namespace, name, &comment_missing())));
    }
    match ask("This approval takes a comment. What did you check? ".into()).await {
        None => Err(Stop::Everything(undecided(session))),
        Some(text) if text.trim().is_empty() => {
            Err(Stop::Here(not_decided(session, namespace, name, &comment_missing())))
        }
        Some(text) => Ok(Some(text.trim().into())),
    }
}

async fn confirm(session: &Session, found: &Found, again: bool) -> Result<(), Stop> {
    let verb = session.verb.question();
    let question = match (again, session.args.names.len()) {
        (true, _) => format!("{verb} what stands there now? [y/N] "),
        (false, 1) => format!("{verb}? [y/N] "),
        (false, _) => format!("{verb} {}? [y/N] ", visible_identifier(&found.request.name)),
    };
    match confirmed(question).await {
        Some(true) => Ok(()),
        Some(false) => Err(Stop::Here(undecided(session))),
        None => {
            eprintln!();
            Err(Stop::Everything(undecided(session)))
        }
    }
}

/// Says that nothing was decided.
pub fn undecided(session: &Session) -> Exit {
    eprintln!("Not {}.", session.verb.done());
    Exit::Undecided
}

/// After a refusal: what stands there now, if it is another, with what is different; else the refusal is told.
async fn changed(session: &Session, shown: Found, not_sent: NotSent) -> Result<Found, Stop> {
    let (namespace, name) = (&shown.request.namespace, &shown.request.name);
    let refused = || Stop::Here(not_decided(session, namespace, name, &not_sent.refused));
    if !not_sent.conflict {
        return Err(refused());
    }
    let now = find(session, name).await?;
    if now.request.uid == shown.request.uid && now.request.status.digest == shown.request.status.digest {
        return Err(refused());
    }
    let digest = |found: &Found| found.request.status.digest.as_deref().map_or("nothing yet".into(), short_digest);
    eprintln!("\n{}", look().warning("What you were shown has changed, so nothing was stored."));
    eprintln!("{} is now {}:", digest(&shown), digest(&now));
    let rows: Vec<Row> =
        changes(&shown.seen, &now.seen).iter().map(|line| Row::new("Changed", &visible(line))).collect();
    eprint!("{}", lay_out(&rows, look()));
    if session.args.yes || session.args.digest.is_some() {
        return Err(Stop::Here(Exit::Changed));
    }
    Ok(now)
}
