//! `--all`: decides what was listed, each by the digest that was listed, after one question.

use crate::cli::explain::read_request;
use crate::cli::review::decide::{can_ask, undecided};
use crate::cli::review::inbox::{Columns, Waiting, columns, nothing, read, table};
use crate::cli::review::refusal::Refused;
use crate::cli::review::send::{Sent, comment_missing, lacks_comment, not_decided, not_up, send};
use crate::cli::review::settle::settle;
use crate::cli::review::terminal::confirmed;
use crate::cli::review::{Exit, Session, tell};
use jiff::Timestamp;

/// Lists, asks once, and decides.
pub async fn run(session: &Session) -> Exit {
    if let Err(exit) = can_ask(session) {
        return exit;
    }
    let listed = match read(session, false).await {
        Ok(listed) => listed.waiting,
        Err(exit) => return exit,
    };
    if listed.is_empty() {
        eprintln!("{}", nothing(session));
        return Exit::Done;
    }
    tell(&table(&listed, Columns { wide: true, ..columns(session) }, Timestamp::now()).0);
    if !session.args.yes {
        let what = if listed.len() == 1 { "this one".into() } else { format!("these {}", listed.len()) };
        match confirmed(format!("{} {what}? [y/N] ", session.verb.question())).await {
            Some(true) => {}
            _ => return undecided(session),
        }
    }
    let (mut exit, mut sent) = (Exit::Done, vec![]);
    for one in &listed {
        match decide(session, one).await {
            Ok(stored) => sent.push(stored),
            Err(failure) => exit = exit.then(failure),
        }
    }
    exit.then(settle(session, sent).await)
}

async fn decide(session: &Session, one: &Waiting) -> Result<Sent, Exit> {
    let (namespace, name) = (&one.request.namespace, &one.request.name);
    let refused = |refused: &Refused| not_decided(session, namespace, name, refused);
    if let Some(why) = not_up(&one.stored, &one.request) {
        return Err(refused(&Refused::final_word(why)));
    }
    let comment = session.args.comment.as_deref();
    if lacks_comment(session.verb, &one.request, comment) {
        return Err(refused(&comment_missing()));
    }
    let not_sent = match send(session, session.verb, &one.request, comment).await {
        Ok(sent) => return Ok(sent),
        Err(not_sent) => not_sent,
    };
    if not_sent.conflict && moved_on(session, one).await {
        refused(&Refused::final_word("it has changed since it was listed: read it again"));
        return Err(Exit::Changed);
    }
    Err(refused(&not_sent.refused))
}

/// Whether what stands there is another than what was listed.
async fn moved_on(session: &Session, one: &Waiting) -> bool {
    let found = session.cluster.requests(Some(&one.request.namespace)).get(&one.request.name).await;
    let now = found.ok().and_then(|object| read_request(&object).ok());
    now.is_some_and(|now| now.status.digest != one.request.status.digest || now.uid != one.request.uid)
}
