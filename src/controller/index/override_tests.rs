//! Which overrides the trail tells of by themselves: each start once, whoever may tell of it.

use super::*;
use crate::api::{ApprovalRecordSpec, RecordEntry, Transition};
use crate::audit::{Keys, by_name};
use serde_json::{Value, json};

const NOW: &str = "2026-11-20T17:05:00Z";

struct Watched {
    index: Index,
    key: Arc<Keyring>,
    version: i64,
}

impl Watched {
    fn new() -> Self {
        let key = Arc::new(Keyring::from_seed(&[7; 32]).unwrap());
        let index = Index::new(key.clone(), "home".into(), false, Cluster::default());
        index.set_trail_read();
        let mut watched = Self { index, key, version: 0 };
        watched.namespace("enforce");
        watched
    }

    fn complete() -> Self {
        let watched = Self::new();
        watched.index.set_complete();
        watched
    }

    fn next(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }

    fn namespace(&mut self, gate: &str) {
        let version = self.next();
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "a", "resourceVersion": version, "labels": {"countersign.dev/gate": gate}}});
        self.index.set_namespace(&serde_json::from_value(namespace).unwrap());
    }

    /// The Job as bob started it by an override, or as he stopped it since.
    fn job(&mut self, suspend: bool, status: Value) {
        let version = self.next();
        let job = json!({"apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": "job", "namespace": "a", "uid": "j", "resourceVersion": version,
                "creationTimestamp": "2026-11-20T16:00:00Z",
                "annotations": {"countersign.dev/created-by": "alice", "countersign.dev/overridden-by": "bob",
                    "countersign.dev/override-reason": "the site burns"}},
            "spec": {"suspend": suspend, "template": {"spec": {}}}, "status": status});
        self.index.set_target(TargetKind::Job, serde_json::from_value(job).unwrap());
    }

    fn overridden(&mut self) {
        self.job(false, json!({}));
    }

    fn request(&mut self, requester: &str, status: Value) {
        self.stored(requester, status, false);
    }

    fn stored(&mut self, requester: &str, status: Value, deleting: bool) -> Vec<Key> {
        let version = self.next();
        let mut request = json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "ApprovalRequest",
            "metadata": {"name": "run", "namespace": "a", "uid": "u", "resourceVersion": version,
                "creationTimestamp": "2026-11-20T16:00:00Z", "finalizers": ["countersign.dev/record"]},
            "spec": {"runID": "r", "stepID": "s", "requestedBy": "w", "reason": "why", "requester": {"username": requester},
                "target": {"apiVersion": "batch/v1", "kind": "Job", "name": "job"}},
            "status": status});
        if deleting {
            request["metadata"]["deletionTimestamp"] = json!(NOW);
        }
        self.index.set_request(serde_json::from_value(request).unwrap())
    }

    fn waiting(&self) -> Option<ApprovalRecordSpec> {
        self.index.record_overrides(NOW.parse().unwrap());
        self.index.next_record().unwrap().map(|sealed| sealed.record)
    }

    /// What waits to be recorded about the override.
    fn entries(&self) -> Vec<RecordEntry> {
        let entries = self.waiting().map(|record| record.entries).unwrap_or_default();
        entries.into_iter().filter(|entry| entry.transition == Transition::Overridden).collect()
    }

    /// Records what waits. Returns what to look at.
    fn record(&self) -> Vec<Key> {
        let keys: Keys = by_name(&[self.key.public()]);
        let record = serde_json::to_value(self.waiting().expect("something waits")).unwrap();
        self.index.learn_record(&record, &keys).unwrap()
    }
}

fn ended_as(state: &str) -> Value {
    let condition =
        json!({"type": state, "status": "True", "reason": state, "message": "m", "lastTransitionTime": NOW});
    json!({"state": state, "revision": 1, "digest": "sha256:11", "target": {"uid": "j"}, "conditions": [condition]})
}

fn told_by_the_request() -> Value {
    let mut status = ended_as("Released");
    status["conditions"][0]["type"] = json!("Overridden");
    status
}

#[test]
fn it_is_told_once_everything_is_known_and_made_up_on_return() {
    let mut watched = Watched::new();
    watched.overridden();
    assert_eq!(watched.entries(), [], "a request may tell of it that is not listed yet");
    watched.index.set_complete();
    let entries = watched.entries();
    assert_eq!(
        (entries.len(), entries[0].key.as_str(), entries[0].time.0.to_string()),
        (1, "j/0/Overridden", NOW.into())
    );
    assert!(entries[0].request.is_none() && entries[0].seen.as_ref().unwrap().job_hash.is_some());
    watched.record();
    watched.overridden();
    assert_eq!(watched.entries(), [], "once");
}

#[test]
fn the_time_is_that_of_the_start_where_a_status_tells_it() {
    for (start, time) in [
        ("2026-11-20T17:01:00Z", "2026-11-20T17:01:00Z"),
        ("2026-11-20T15:00:00Z", NOW),
        ("2026-11-21T00:00:00Z", NOW),
        ("soon", NOW),
    ] {
        let mut watched = Watched::complete();
        watched.job(false, json!({"startTime": start}));
        assert_eq!(watched.entries()[0].time.0.to_string(), time, "{start}");
    }
}

#[test]
fn an_unfinished_request_tells_of_it_and_if_it_goes_without_a_word_the_trail_does() {
    for goes in ["gone", "Denied"] {
        let mut watched = Watched::complete();
        watched.request("alice", json!({"state": "Pending"}));
        watched.overridden();
        assert_eq!(watched.entries(), []);
        match goes {
            "gone" => drop(watched.index.remove_request("a", "run", i64::MAX)),
            state => watched.request("alice", ended_as(state)),
        }
        assert_eq!(watched.entries().len(), 1, "{goes}");
    }
}

#[test]
fn a_request_that_ended_before_is_named_and_one_that_says_it_itself_is_the_only_one() {
    for state in ["Denied", "Expired", "Cancelled"] {
        let mut watched = Watched::complete();
        watched.request("alice", ended_as(state));
        watched.overridden();
        let entries = watched.entries();
        assert_eq!(entries.len(), 1, "{state}");
        assert_eq!(entries[0].request.as_ref().map(|r| r.name.as_str()), Some("run"));
        assert_eq!(entries[0].seen.as_ref().unwrap().digest.as_deref(), Some("sha256:11"));
    }
    let mut watched = Watched::complete();
    watched.request("alice", told_by_the_request());
    watched.overridden();
    assert_eq!(watched.entries().len(), 1);
    watched.record();
    // Neither without the request nor with another one is it told again.
    watched.index.remove_request("a", "run", i64::MAX);
    watched.overridden();
    assert_eq!(watched.entries(), []);
    watched.request("alice", told_by_the_request());
    assert_eq!(watched.entries(), []);
}

/// Whoever makes a request that never speaks for the Job must not keep the start out of the trail.
#[test]
fn a_request_that_does_not_own_it_hides_nothing() {
    let mut watched = Watched::complete();
    watched.request("mallory", json!({"state": "Pending"}));
    watched.overridden();
    let entries = watched.entries();
    assert_eq!((entries.len(), entries[0].request.as_ref()), (1, None));
}

#[test]
fn what_was_stopped_since_was_started_all_the_same() {
    let mut watched = Watched::complete();
    watched.request("alice", json!({"state": "Pending"}));
    watched.job(true, json!({}));
    assert_eq!(watched.entries().len(), 1, "the request goes on, and will not tell of it");
}

/// Elsewhere anybody may write these annotations.
#[test]
fn only_in_a_gated_namespace_does_it_prove_anything() {
    for gate in ["warn", "off"] {
        let mut watched = Watched::complete();
        watched.namespace(gate);
        watched.overridden();
        assert_eq!(watched.entries(), [], "{gate}");
    }
}

/// The Job is gone, the request is there, and the other way round: what is recorded is not told again, and lets both go.
#[test]
fn a_request_is_let_go_by_the_entry_of_its_target() {
    let mut watched = Watched::complete();
    watched.overridden();
    assert_eq!(watched.entries().len(), 1);
    watched.stored("alice", told_by_the_request(), true);
    assert_eq!(watched.entries().len(), 1);
    assert_eq!(watched.record(), [Key::Request("a".into(), "run".into())], "it waited for that");
    assert!(watched.index.observe("a", "run").unwrap().is_recorded());
    watched.index.remove_target(TargetKind::Job, "a", "job", i64::MAX);
    watched.index.forget_the_gone();
    watched.stored("alice", told_by_the_request(), true);
    assert_eq!(watched.entries(), []);
    assert!(watched.index.observe("a", "run").unwrap().is_recorded());
    watched.index.remove_request("a", "run", i64::MAX);
    assert_eq!(watched.index.entry_number("j/0/Overridden"), None, "nothing is kept of what is gone");
}
