//! What came of the reviews that were given: waited for briefly, and told as it is.

use crate::cli::card::short_digest;
use crate::cli::escape::{visible, visible_identifier};
use crate::cli::explain::read_request;
use crate::cli::review::outcome::{Fate, Heard, outcome, unknown};
use crate::cli::review::send::Sent;
use crate::cli::review::{Exit, Session, Verb, tell};
use crate::lifecycle::RequestFacts;
use futures::TryStreamExt;
use kube::api::WatchEvent;
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long to wait before a watch that ended is begun anew.
const PAUSE: Duration = Duration::from_millis(500);

/// Waits until it is known what came of every review, or until the time is up, and says so.
pub async fn settle(session: &Session, sent: Vec<Sent>) -> Exit {
    let mut exit = Exit::Done;
    for (one, heard) in settled(session, sent).await {
        tell(&format!("{}\n", told(session.verb, &one, &heard)));
        exit = exit.then(match heard.fate {
            Fate::Counts | Fate::Unknown => Exit::Done,
            Fate::Void => Exit::Changed,
            Fate::OtherEnd => Exit::OtherEnd,
        });
    }
    exit
}

/// Waits until it is known what came of every review, or until the time is up.
pub async fn settled(session: &Session, mut sent: Vec<Sent>) -> Vec<(Sent, Heard)> {
    let mut gone = vec![];
    if !all_known(&sent, &gone) && !session.args.wait.is_zero() {
        let end = Instant::now() + session.args.wait;
        // An answer in time, or none: what is known by then is told.
        let _ = timeout_at(end, follow(session, &mut sent, &mut gone)).await;
    }
    let heard = |one: &Sent| match gone.contains(&one.request.uid) {
        true => Heard { fate: Fate::OtherEnd, text: "and then deleted".into() },
        false => outcome(&one.request, &one.given).unwrap_or_else(|| unknown(&one.request, session.args.wait)),
    };
    let told = |one: Sent| {
        let heard = heard(&one);
        (one, heard)
    };
    sent.into_iter().map(told).collect()
}

/// What came of a review, in one line that is safe to show.
pub fn told(verb: Verb, one: &Sent, heard: &Heard) -> String {
    let place = visible_identifier(&format!("{}/{}", one.request.namespace, one.request.name));
    let (done, digest) = (verb.done(), short_digest(&one.given.digest));
    format!("{place}: {done} {digest}: {}", visible(&heard.text))
}

/// Takes in what happens to the requests until all is known. A watch that ends is begun anew, after a look at each.
async fn follow(session: &Session, sent: &mut [Sent], gone: &mut Vec<String>) {
    while !watched(session, sent, gone).await {
        tokio::time::sleep(PAUSE).await;
        for one in sent.iter_mut() {
            let found = session.cluster.requests(Some(&one.request.namespace)).get(&one.request.name).await;
            if let Some(request) = found.ok().and_then(|object| read_request(&object).ok()) {
                one.request = request;
            }
        }
        if all_known(sent, gone) {
            return;
        }
    }
}

fn all_known(sent: &[Sent], gone: &[String]) -> bool {
    sent.iter().all(|one| gone.contains(&one.request.uid) || outcome(&one.request, &one.given).is_some())
}

/// Watches once, and returns whether all is known.
async fn watched(session: &Session, sent: &mut [Sent], gone: &mut Vec<String>) -> bool {
    let Some(first) = sent.first().map(|one| one.request.clone()) else { return true };
    let place = sent.iter().all(|one| one.request.namespace == first.namespace).then_some(first.namespace.as_str());
    let name = (sent.len() == 1).then_some(first.name.as_str());
    let Ok(events) = session.cluster.watch(place, name, &first.resource_version, session.args.wait).await else {
        return false;
    };
    let mut events = pin!(events);
    while let Ok(Some(event)) = events.try_next().await {
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                if let Ok(request) = read_request(&object) {
                    take(sent, request);
                }
            }
            WatchEvent::Deleted(object) => gone.extend(object.metadata.uid),
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(_) => return false,
        }
        if all_known(sent, gone) {
            return true;
        }
    }
    false
}

fn take(sent: &mut [Sent], request: RequestFacts) {
    let newer = |one: &&mut Sent| one.request.uid == request.uid && one.request.version < request.version;
    if let Some(one) = sent.iter_mut().find(newer) {
        one.request = request;
    }
}
