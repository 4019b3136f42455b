//! Follows the one request until its end.

use crate::cli::request::desk::{Desk, WATCH, plain, say};
use crate::cli::request::exit::End;
use crate::cli::request::progress::{Progress, Step};
use crate::cli::request::trouble::{Failure, Kind};
use futures::{Stream, TryStreamExt};
use kube::api::{DynamicObject, WatchEvent};
use std::cell::RefCell;
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How much longer than asked a watch may live before it counts as dead.
const GRACE: u64 = 15;

/// How a watch ended.
enum Cut {
    /// The request is at its end.
    Over(End),
    /// The versions in between are forgotten: to be listed anew.
    Expired,
    /// By the API server, or by trouble.
    Ended(Option<Failure>),
}

/// Looks and watches until the request is final. A watch that ends is begun anew from where it was.
pub async fn follow(desk: &Desk, progress: &RefCell<Progress>) -> Result<End, End> {
    loop {
        let (request, mut version) = desk.listed().await?;
        let step = match &request {
            Some(request) => progress.borrow_mut().see(request),
            None => progress.borrow_mut().gone(None),
        };
        if let Some(end) = told(step) {
            return Ok(end);
        }
        loop {
            let began = Instant::now();
            let cut = match desk.watch(&version).await {
                Ok(events) => take(events, desk, progress, &mut version).await,
                Err(failure) => cut(failure),
            };
            match cut {
                Cut::Over(end) => return Ok(end),
                Cut::Ended(None) => desk.lived(began.elapsed()).await,
                Cut::Ended(Some(failure)) => {
                    desk.watch_failed(&failure).await?;
                    break;
                }
                Cut::Expired => {
                    desk.lived(began.elapsed()).await;
                    break;
                }
            }
        }
    }
}

/// Takes in what a watch tells.
async fn take(
    events: impl Stream<Item = kube::Result<WatchEvent<DynamicObject>>>,
    desk: &Desk,
    progress: &RefCell<Progress>,
    version: &mut String,
) -> Cut {
    let mut events = pin!(events);
    let dead = Instant::now() + Duration::from_secs(u64::from(WATCH) + GRACE);
    loop {
        let event = match timeout(dead.saturating_duration_since(Instant::now()), events.try_next()).await {
            Ok(Ok(Some(event))) => event,
            Ok(Ok(None)) => return Cut::Ended(None),
            Ok(Err(error)) => return cut(desk.failure(error)),
            Err(_) => return cut(silent()),
        };
        desk.answered();
        let step = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                note(version, &object);
                plain(object).map(|object| progress.borrow_mut().see(&object))
            }
            WatchEvent::Deleted(object) => plain(object).map(|object| progress.borrow_mut().gone(Some(&object))),
            WatchEvent::Bookmark(mark) => {
                version.clone_from(&mark.metadata.resource_version);
                continue;
            }
            WatchEvent::Error(status) => return cut(desk.failure(kube::Error::Api(status))),
        };
        match step.map(told) {
            Ok(Some(end)) | Err(end) => return Cut::Over(end),
            Ok(None) => {}
        }
    }
}

/// How a failure ends a watch.
fn cut(failure: Failure) -> Cut {
    match failure.kind {
        Kind::Forgotten => Cut::Expired,
        _ => Cut::Ended(Some(failure)),
    }
}

fn silent() -> Failure {
    Failure { kind: Kind::Unreachable, text: "the watch fell silent".into() }
}

fn note(version: &mut String, object: &DynamicObject) {
    if let Some(newer) = &object.metadata.resource_version {
        version.clone_from(newer);
    }
}

/// Says what there is to say; the end, if it is one.
pub fn told(step: Step) -> Option<End> {
    match step {
        Step::Quiet => None,
        Step::Line(line) => {
            say(&line);
            None
        }
        Step::Over(end) => Some(end),
    }
}
