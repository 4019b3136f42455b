use super::*;
use crate::api::ApprovalRequestSpec;
use serde_json::json;

const CREATED: &str = "2026-11-20T17:00:00Z";

struct Stored {
    spec: ApprovalRequestSpec,
    reviews: Vec<Value>,
    status: ApprovalRequestStatus,
}

impl Stored {
    fn told(&self) -> Told<'_> {
        Told {
            namespace: "payments",
            name: "run",
            uid: "u",
            created: CREATED.parse().unwrap(),
            spec: &self.spec,
            reviews: self.reviews.len(),
            status: &self.status,
        }
    }

    fn entries(&self, known: &[&str]) -> Vec<RecordEntry> {
        of_request(&self.told(), &self.reviews, |key| known.contains(&key))
    }
}

fn condition(type_: &str, status: &str, reason: &str, time: &str) -> Value {
    json!({"type": type_, "status": status, "reason": reason, "message": format!("{reason}, in words"), "lastTransitionTime": time})
}

fn stored(status: Value) -> Stored {
    let spec = json!({"runID": "run_8f9a", "stepID": "remediate", "requestedBy": "workflow.triage", "reason": "prod write",
        "evidence": [{"title": "log", "text": "password=hunter2"}],
        "requester": {"username": "triage", "uid": "u-7", "groups": ["a"]},
        "target": {"apiVersion": "batch/v1", "kind": "Job", "name": "job"}});
    let review = json!({"reviewer": {"username": "alice", "groups": ["sre"]}, "decision": "Approve",
        "digest": format!("sha256:{}", "0".repeat(64)), "time": "2026-11-20T17:01:00.250000Z", "seal": "s", "of-a-later-version": [1]});
    Stored {
        spec: serde_json::from_value(spec).unwrap(),
        reviews: vec![review],
        status: serde_json::from_value(status).unwrap(),
    }
}

fn released() -> Stored {
    stored(
        json!({"state": "Released", "revision": 2, "digest": "sha256:11", "policySnapshot": "sha256:22", "jobHash": "sha256:33",
        "target": {"uid": "j-1"}, "boundTime": "2026-11-20T17:00:30Z", "constraints": {"maxRuntimeSeconds": 900},
        "scope": [{"tag": "secrets", "source": "Derived", "detail": "env from Secret db"}],
        "approvals": [{"requirement": "sre", "required": 1, "approvers": [], "approvedBy": ["alice"]},
            {"requirement": "either", "required": 1, "approvers": [], "approvedBy": ["alice", "bob"]}],
        "conditions": [condition("Evaluated", "True", "Rebound", "2026-11-20T17:00:01Z"),
            condition("Approved", "True", "Approved", "2026-11-20T17:01:00Z"),
            condition("Released", "True", "Approved", "2026-11-20T17:01:01Z")]}),
    )
}

#[test]
fn everything_that_happened_has_one_entry_in_order() {
    let stored = released();
    let entries = stored.entries(&[]);
    let told: Vec<_> = entries.iter().map(|e| (e.key.as_str(), e.time.0.to_string())).collect();
    assert_eq!(
        told,
        [
            ("u/0/Requested", "2026-11-20T17:00:00Z".to_string()),
            ("u/2/Evaluated", "2026-11-20T17:00:30Z".into()),
            ("u/0/Reviewed", "2026-11-20T17:01:00.25Z".into()),
            ("u/2/Approved", "2026-11-20T17:01:00Z".into()),
            ("u/2/Released", "2026-11-20T17:01:01Z".into()),
        ]
    );
    assert_eq!(keys(&stored.told()), entries.iter().map(|e| e.key.clone()).collect::<Vec<_>>());
    assert_eq!(entries[2].review.as_ref(), Some(&stored.reviews[0]), "as stored, with what this version does not know");
    let seen = entries[4].seen.as_ref().unwrap();
    assert_eq!(
        (seen.revision, seen.job_hash.as_deref(), seen.constraints.max_runtime_seconds),
        (2, Some("sha256:33"), Some(900))
    );
    let by: Vec<_> = entries[4].by.iter().map(|who| who.username.as_str()).collect();
    assert_eq!(by, ["alice", "bob"], "each once");
    assert_eq!(entries[0].by[0].uid.as_deref(), Some("u-7"));
    assert_eq!(entries[4].target.as_ref().unwrap().uid.as_deref(), Some("j-1"));
}

#[test]
fn what_is_known_is_not_told_again() {
    let stored = released();
    let keys = keys(&stored.told());
    for n in 0..=keys.len() {
        let known: Vec<_> = keys[..n].iter().map(String::as_str).collect();
        assert_eq!(stored.entries(&known).len(), keys.len() - n);
    }
}

#[test]
fn what_only_waits_is_no_transition() {
    let waiting = stored(json!({"state": "Pending", "conditions": [
        condition("Evaluated", "False", "NoMatchingPolicy", "2026-11-20T17:00:01Z")]}));
    let told: Vec<_> = waiting.entries(&[]).into_iter().map(|e| e.transition).collect();
    assert_eq!(told, [Transition::Requested, Transition::Reviewed]);
}

#[test]
fn each_end_has_its_entry_and_an_override_is_no_release() {
    for (state, transition) in
        [("Denied", Transition::Denied), ("Expired", Transition::Expired), ("Cancelled", Transition::Cancelled)]
    {
        let ended =
            stored(json!({"state": state, "conditions": [condition(state, "True", "Why", "2026-11-20T17:02:00Z")]}));
        assert_eq!(
            ended.entries(&[]).last().map(|e| (e.transition, e.reason.clone())),
            Some((transition, "Why".into()))
        );
    }
    let overridden = stored(json!({"state": "Released", "conditions": [
        condition("Overridden", "True", "Overridden", "2026-11-20T17:02:00Z"),
        condition("Released", "True", "Overridden", "2026-11-20T17:02:00Z")]}));
    let told: Vec<_> = overridden.entries(&[]).into_iter().map(|e| e.transition).collect();
    assert_eq!(told, [Transition::Requested, Transition::Reviewed, Transition::Overridden]);
}

/// Nothing of a Secret, no evidence, and of people only username, uid and groups.
#[test]
fn no_more_is_kept_than_is_said() {
    let text = serde_json::to_string(&released().entries(&[])).unwrap();
    assert!(!text.contains("hunter2"), "{text}");
    let long = stored(json!({"state": "Denied", "conditions": [{"type": "Denied", "status": "True", "reason": "Why",
        "message": "ü".repeat(2000), "lastTransitionTime": CREATED}]}));
    assert!(long.entries(&[]).iter().all(|e| e.message.len() <= LONGEST));
}

#[test]
fn a_review_that_cannot_be_read_is_kept_all_the_same() {
    let mut broken = released();
    broken.reviews[0] = json!({"decision": "Perhaps"});
    let entry = &broken.entries(&[])[2];
    assert_eq!((entry.reason.as_str(), entry.review.as_ref()), ("Unreadable", Some(&json!({"decision": "Perhaps"}))));
}

fn start(time: &str) -> Overriding<'static> {
    Overriding {
        kind: TargetKind::Job,
        namespace: "payments",
        name: "job",
        uid: "j-1",
        job_hash: Some("sha256:99".into()),
        by: "bob",
        why: "the site burns",
        time: time.parse().unwrap(),
    }
}

/// One start has one key, whoever tells of it; an override that no request tells of says what is known.
#[test]
fn an_override_has_one_key_whoever_tells_of_it() {
    let alone = overridden(&start("2026-11-20T17:05:00Z"), None);
    assert_eq!((alone.key.as_str(), alone.request.as_ref()), ("j-1/0/Overridden", None));
    assert_eq!((alone.by.len(), alone.by[0].username.as_str()), (1, "bob"));
    assert_eq!(alone.message, "started without approval by bob, who may override: the site burns");
    assert_eq!(alone.seen.as_ref().and_then(|seen| seen.job_hash.as_deref()), Some("sha256:99"));
    assert_eq!(alone.time.0.to_string(), "2026-11-20T17:05:00Z");
    let told = stored(json!({"state": "Released", "revision": 3, "target": {"uid": "j-1"}, "conditions": [
        condition("Overridden", "True", "Overridden", "2026-11-20T17:05:00Z")]}));
    assert_eq!(end("u", &told.status).as_deref(), Some(alone.key.as_str()));
    assert_eq!(told.entries(&[]).last().map(|e| e.key.clone()), Some(alone.key.clone()));
    assert!(told.entries(&[alone.key.as_str()]).iter().all(|e| e.transition != Transition::Overridden));
}

#[test]
fn an_override_after_an_end_names_the_request_and_what_it_had_bound() {
    let mut denied = released();
    denied.status.state = State::Denied;
    let mut start = start("2026-11-20T17:05:00Z");
    start.job_hash = None;
    let entry = overridden(&start, Some(&denied.told()));
    assert_eq!(entry.request.as_ref().map(|r| (r.uid.as_str(), r.run_id.as_str())), Some(("u", "run_8f9a")));
    let seen = entry.seen.unwrap();
    assert_eq!((seen.digest.as_deref(), seen.job_hash.as_deref()), (Some("sha256:11"), Some("sha256:33")));
    let mut long = start;
    let why = "ü".repeat(2000);
    long.why = &why;
    assert!(overridden(&long, None).message.len() <= LONGEST);
}
