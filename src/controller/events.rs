//! Events: best effort, after the effect, shed first under load.

use crate::lifecycle::Note;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::debug;

/// Events that may wait; what comes on top is dropped.
const WAITING: usize = 64;
/// Least time between two Events, so that a burst of approvals is not slowed by telling of it.
const PACE: Duration = Duration::from_millis(50);

/// Takes notes to be told as Events.
#[derive(Clone)]
pub(super) struct Teller(mpsc::Sender<(Note, ObjectReference)>);

impl Teller {
    /// Hands a note over, or drops it when too many wait.
    pub(super) fn tell(&self, note: Note, about: ObjectReference) {
        if self.0.try_send((note, about)).is_err() {
            debug!("too many Events wait, one is dropped");
        }
    }
}

/// A teller, and the task that writes what it is told.
pub(super) fn teller(client: Client, instance: String) -> (Teller, impl Future<Output = ()>) {
    let (sender, mut notes) = mpsc::channel::<(Note, ObjectReference)>(WAITING);
    let reporter = Reporter { controller: "countersign.dev/operator".into(), instance: Some(instance) };
    let recorder = Recorder::new(client, reporter);
    let writing = async move {
        while let Some((note, about)) = notes.recv().await {
            let event = Event {
                type_: if note.warning { EventType::Warning } else { EventType::Normal },
                reason: note.reason.clone(),
                note: Some(shortened(note.message)),
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

/// The API takes notes of at most 1 kB.
fn shortened(mut text: String) -> String {
    if text.len() > 1000 {
        let end = (0..=1000).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.truncate(end);
    }
    text
}
