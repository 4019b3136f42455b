//! Events: best effort, after the effect, shed first under load.

use crate::controller::index::Index;
use crate::lifecycle::Note;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::debug;

/// Events that may wait; what comes on top is dropped.
const WAITING: usize = 64;
/// Least time between two Events, so that a burst of approvals is not slowed by telling of it.
const PACE: Duration = Duration::from_millis(50);

/// How long an Event waits for the number of the audit trail's entry about the same.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked whether that is there.
const LOOK: Duration = Duration::from_millis(50);
/// Longest note that the API takes, in bytes.
const LONGEST: usize = 1000;

/// Something to tell.
struct Told {
    note: Note,
    about: ObjectReference,
    /// The key of the entry that will record the same.
    entry: Option<String>,
    since: Instant,
}

/// Takes notes to be told as Events.
#[derive(Clone)]
pub(super) struct Teller(mpsc::Sender<Told>);

impl Teller {
    /// Hands a note over, or drops it when too many wait. Where it will be recorded under the key `entry`, it names the
    /// number of the entry, if that is known soon.
    pub(super) fn tell(&self, note: Note, about: ObjectReference, entry: Option<String>) {
        if self.0.try_send(Told { note, about, entry, since: Instant::now() }).is_err() {
            debug!("too many Events wait, one is dropped");
        }
    }
}

/// A teller, and the task that writes what it is told.
pub(super) fn teller(client: Client, instance: String, index: Arc<Index>) -> (Teller, impl Future<Output = ()>) {
    let (sender, mut notes) = mpsc::channel::<Told>(WAITING);
    let reporter = Reporter { controller: "countersign.dev/operator".into(), instance: Some(instance) };
    let recorder = Recorder::new(client, reporter);
    let writing = async move {
        while let Some(Told { note, about, entry, since }) = notes.recv().await {
            let number = number(|| index.entry_number(entry.as_deref()?), entry.is_some(), since).await;
            let event = Event {
                type_: if note.warning { EventType::Warning } else { EventType::Normal },
                reason: note.reason.clone(),
                note: Some(text(note.message, number)),
                action: note.reason,
                secondary: None,
            };
            match tokio::time::timeout(Duration::from_secs(5), recorder.publish(&event, &about)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!(%error, "an Event was not written"),
                Err(_) => debug!("an Event was not written in time"),
            }
            tokio::time::sleep(PACE).await;
        }
    };
    (Teller(sender), writing)
}

/// The number that `find` finds, if `wanted` and found within [`PATIENCE`] of `since`. What waits behind it has waited as
/// long by then, so that a trail that cannot be written holds up all Events by that and no more.
async fn number(find: impl Fn() -> Option<i64>, wanted: bool, since: Instant) -> Option<i64> {
    if !wanted {
        return None;
    }
    loop {
        match find() {
            None if since.elapsed() < PATIENCE => tokio::time::sleep(LOOK).await,
            found => return found,
        }
    }
}

/// A note with the number of its entry, no longer than the API takes.
fn text(mut note: String, number: Option<i64>) -> String {
    let number = number.map(|number| format!(" (audit entry {number})")).unwrap_or_default();
    let room = LONGEST - number.len();
    if note.len() > room {
        note.truncate((0..=room).rev().find(|i| note.is_char_boundary(*i)).unwrap_or(0));
    }
    note + &number
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn a_note_fits_with_its_number() {
        assert_eq!(text("approved by alice".into(), Some(45)), "approved by alice (audit entry 45)");
        assert_eq!(text("approved by alice".into(), None), "approved by alice");
        for number in [None, Some(i64::MAX)] {
            let text = text("é".repeat(600), number);
            assert!(text.len() <= LONGEST && text.len() > LONGEST - 3, "{text}");
            assert_eq!(text.ends_with(')'), number.is_some());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_number_is_waited_for_and_not_for_ever() {
        let looks = Cell::new(0);
        let third = || {
            looks.set(looks.get() + 1);
            (looks.get() == 3).then_some(45)
        };
        assert_eq!(number(third, true, Instant::now()).await, Some(45));
        let since = Instant::now();
        assert_eq!(number(|| None, false, since).await, None);
        assert_eq!(since.elapsed(), Duration::ZERO);
        assert_eq!(number(|| None, true, since).await, None);
        assert!(since.elapsed() >= PATIENCE && since.elapsed() < PATIENCE + LOOK * 2);
        let late = Instant::now();
        assert_eq!(number(|| None, true, since).await, None);
        assert_eq!(late.elapsed(), Duration::ZERO, "what comes behind it waits no longer");
        assert_eq!(number(|| Some(7), true, since).await, Some(7), "it is looked once even when it is late");
    }
}
