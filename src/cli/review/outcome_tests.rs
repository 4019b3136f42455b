use super::*;
use crate::cli::review::fixture::{DIGEST, EARLIER, facts, pending, review};
use serde_json::{Value, json};

fn given(decision: ReviewDecision) -> Given {
    Given { decision, digest: DIGEST.into(), generation: Some(2), place: 0 }
}

fn after(change: impl Fn(&mut Value)) -> Value {
    let mut request = pending("run");
    request["spec"]["reviews"] = json!([review("alice", "Approve", DIGEST)]);
    change(&mut request);
    request
}

fn approved(change: impl Fn(&mut Value)) -> Option<(Fate, String)> {
    outcome(&facts(&after(change)), &given(ReviewDecision::Approve)).map(|heard| (heard.fate, heard.text))
}

fn denied(change: impl Fn(&mut Value)) -> Option<(Fate, String)> {
    let request = after(|request| {
        request["spec"]["reviews"][0]["decision"] = json!("Deny");
        change(request);
    });
    outcome(&facts(&request), &given(ReviewDecision::Deny)).map(|heard| (heard.fate, heard.text))
}

fn says(fate: Fate, text: &str) -> Option<(Fate, String)> {
    Some((fate, text.into()))
}

#[test]
fn every_end_is_told_as_it_is() {
    let state = |state: &'static str| {
        move |request: &mut Value| {
            request["status"]["state"] = json!(state);
            request["status"]["message"] = json!("because");
        }
    };
    assert_eq!(approved(state("Released")), says(Fate::Counts, "released"));
    assert_eq!(approved(state("Denied")), says(Fate::OtherEnd, "and yet Denied: because"));
    assert_eq!(approved(state("Expired")), says(Fate::OtherEnd, "and yet Expired: because"));
    assert_eq!(approved(state("Cancelled")), says(Fate::OtherEnd, "and yet Cancelled: because"));
    assert_eq!(denied(state("Denied")), says(Fate::Counts, "denied"));
    assert_eq!(denied(state("Released")), says(Fate::OtherEnd, "too late: it was released before"));
    assert_eq!(denied(state("Expired")), says(Fate::Counts, "not run: Expired: because"));
}

#[test]
fn what_the_operator_has_not_looked_at_is_not_known() {
    assert_eq!(approved(|request| request["status"]["observedGeneration"] = json!(1)), None);
    assert_eq!(denied(|request| request["status"]["observedGeneration"] = json!(1)), None);
    assert_eq!(denied(|_| {}), None, "enough have denied, and the end is not written yet");
    let said = |waited| unknown(&facts(&pending("run")), waited).text;
    assert_eq!(said(Duration::ZERO), "stored; what comes of it was not waited for");
    assert_eq!(
        said(Duration::from_secs(2)),
        "stored; the operator has not answered within 2s, so what comes of it is not known yet: kubectl get apr run -n payments"
    );
}

#[test]
fn what_is_still_missing_is_said() {
    let two = |request: &mut Value| {
        request["status"]["approvals"][0]["required"] = json!(2);
        request["status"]["approvals"][0]["approvedBy"] = json!(["alice"]);
    };
    assert_eq!(approved(two), says(Fate::Counts, "1 of 2 approvals; still needs 1 more approval from sre"));
    let denials = |request: &mut Value| request["status"]["denials"] = json!(3);
    assert_eq!(denied(denials), says(Fate::Counts, "1 of 3 denials; still takes 2 more to end it"));
}

#[test]
fn a_review_that_counts_for_nothing_is_not_called_a_success() {
    let rebound = |request: &mut Value| request["status"]["digest"] = json!(EARLIER);
    let (fate, text) = approved(rebound).expect("an outcome");
    assert!(fate == Fate::Void && text.contains("has changed since"), "{text}");
    let outsider = |request: &mut Value| request["spec"]["reviews"][0]["reviewer"]["groups"] = json!([]);
    let (fate, text) = approved(outsider).expect("an outcome");
    assert!(fate == Fate::Void && text.contains("the reviewer is none of the approvers"), "{text}");
}

#[test]
fn what_an_approval_waits_for_is_said_without_the_command() {
    let window = |request: &mut Value| {
        let status = &mut request["status"];
        status["state"] = json!("Approved");
        status["waitsUntil"] = json!("2026-11-23T05:00:00Z");
        status["message"] = json!(
            "approved; released after 2026-11-23T05:00:00Z: freeze window w of rule p/r holds (sre may pass it); to pass it: kubectl patch apr run -n payments"
        );
        status["freezes"] = json!([{"policy": "p", "rule": "r", "window": {"name": "w", "start": "0 18 * * FRI", "durationSeconds": 60}}]);
    };
    assert_eq!(
        approved(window),
        says(
            Fate::Counts,
            "window closed until 2026-11-23T05:00:00Z: approved; released after 2026-11-23T05:00:00Z: freeze window w of rule p/r holds (sre may pass it)"
        )
    );
    let held = |request: &mut Value| {
        request["status"]["conditions"][0]["status"] = json!("False");
        request["status"]["message"] = json!("the Job is gone");
    };
    assert_eq!(approved(held), says(Fate::Counts, "stored, and held up: the Job is gone"));
}
