//! What there is to record of a request, or of a Job that needed none. Everything is taken from the stored objects, so that
//! whatever a crash left out is found again.

use crate::api::condition::{self, Condition, ConditionStatus};
use crate::api::record::{RecordedCaller, RecordedRequest, RecordedTarget, Seen};
use crate::api::{
    ApprovalRequestSpec, ApprovalRequestStatus, RecordEntry, Review, ReviewDecision, State, TargetKind, Transition,
};
use crate::binding::Receipt;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde_json::Value;

/// Longest message that is kept, in bytes.
const LONGEST: usize = 2048;

/// A request as it is stored.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its uid.
    pub uid: &'a str,
    /// When it was created.
    pub created: Timestamp,
    /// What is asked.
    pub spec: &'a ApprovalRequestSpec,
    /// How many reviews it has.
    pub reviews: usize,
    /// What the operator found and decided.
    pub status: &'a ApprovalRequestStatus,
}

/// The keys of everything that there is to record of a request, in the order of what happened.
pub fn keys(told: &Told<'_>) -> Vec<String> {
    transitions(told).iter().map(|what| what.key(told)).collect()
}

/// The key of the entry that will say how the request of that uid ended, if it has.
pub fn end(uid: &str, status: &ApprovalRequestStatus) -> Option<String> {
    ended(status).map(|transition| key_of(uid, status, transition))
}

/// The key of the entry that says that the Job or Pod of that uid was started by an override. It is the same whether a
/// request tells of it or no request does, so that one start never has two entries.
pub fn override_of(target: &str) -> String {
    format!("{target}/0/{}", Transition::Overridden.as_str())
}

/// When a request ended, if it has.
pub fn ended_at(status: &ApprovalRequestStatus) -> Option<Timestamp> {
    let condition = condition::find(&status.conditions, ended(status)?.as_str())?;
    Some(condition.last_transition_time.0)
}

/// The entries of a request that are not known yet, in the order of what happened. `reviews` are its own, as stored.
pub fn of_request(told: &Told<'_>, reviews: &[Value], known: impl Fn(&str) -> bool) -> Vec<RecordEntry> {
    let missing = transitions(told).into_iter().map(|what| (what.key(told), what)).filter(|(key, _)| !known(key));
    missing.map(|(key, what)| entry(told, reviews, key, &what)).collect()
}

/// The entry of a Job or Pod that policy allowed without a request.
pub fn allowed(kind: TargetKind, namespace: &str, name: &str, receipt: &Receipt) -> RecordEntry {
    RecordEntry {
        key: format!("{}/0/Released", receipt.job.uid),
        reason: "Allowed".into(),
        message: "allowed by policy".into(),
        target: Some(target(kind, namespace, name, Some(&receipt.job.uid))),
        seen: Some(Seen {
            digest: Some(receipt.digest.clone()),
            policy_snapshot: Some(receipt.policy_snapshot.clone()),
            job_hash: Some(receipt.job.hash.clone()),
            constraints: receipt.constraints.clone(),
            ..Seen::default()
        }),
        ..blank(Transition::Released, receipt.time)
    }
}

/// A Job or Pod that somebody started by an override.
#[derive(Clone, Debug)]
pub struct Overriding<'a> {
    /// Which of the two.
    pub kind: TargetKind,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its uid.
    pub uid: &'a str,
    /// Hash of its uid and of what it will do, where there is one.
    pub job_hash: Option<String>,
    /// Who started it.
    pub by: &'a str,
    /// Why, in their words.
    pub why: &'a str,
    /// When.
    pub time: Timestamp,
}

/// The entry of an override that no request tells of. `ended` is the request that had ended before, if there was one: what
/// it had bound is what was known of the target.
pub fn overridden(start: &Overriding<'_>, ended: Option<&Told<'_>>) -> RecordEntry {
    let before = ended.map(|told| seen(told.status)).unwrap_or_default();
    RecordEntry {
        key: override_of(start.uid),
        request: ended.map(request),
        target: Some(target(start.kind, start.namespace, start.name, Some(start.uid))),
        by: vec![caller(start.by)],
        reason: Transition::Overridden.as_str().into(),
        message: cut(&format!("started without approval by {}, who may override: {}", start.by, start.why)),
        seen: Some(Seen { job_hash: start.job_hash.clone().or(before.job_hash.clone()), ..before }),
        ..blank(Transition::Overridden, start.time)
    }
}

/// The entry that says that the trail goes on under another key, by the names of both.
pub fn anchored(before: &str, after: &str, length: i64, now: Timestamp) -> RecordEntry {
    RecordEntry {
        key: format!("{after}/{length}/Anchored"),
        reason: "KeyReplaced".into(),
        message: format!("the trail goes on under key {after}; key {before} signed what is before"),
        ..blank(Transition::Anchored, now)
    }
}

/// Something that happened to a request.
enum What<'a> {
    Asked,
    Reviewed(usize),
    Came(Transition, &'a Condition),
}

impl What<'_> {
    fn key(&self, told: &Told<'_>) -> String {
        let uid = told.uid;
        match self {
            Self::Asked => format!("{uid}/0/Requested"),
            Self::Reviewed(place) => format!("{uid}/{place}/Reviewed"),
            Self::Came(transition, _) => key_of(uid, told.status, *transition),
        }
    }
}

fn key_of(uid: &str, status: &ApprovalRequestStatus, transition: Transition) -> String {
    match &status.target {
        Some(target) if transition == Transition::Overridden => override_of(&target.uid),
        _ => format!("{uid}/{}/{}", status.revision, transition.as_str()),
    }
}

fn transitions<'a>(told: &Told<'a>) -> Vec<What<'a>> {
    let holds =
        |type_: &str| condition::find(&told.status.conditions, type_).filter(|c| c.status == ConditionStatus::True);
    let came = |transition: Transition| holds(transition.as_str()).map(|c| What::Came(transition, c));
    let mut found = vec![What::Asked];
    found.extend(came(Transition::Evaluated));
    found.extend((0..told.reviews).map(What::Reviewed));
    found.extend(came(Transition::Approved));
    found.extend(ended(told.status).and_then(came));
    found
}

/// How a request ended, if it has.
fn ended(status: &ApprovalRequestStatus) -> Option<Transition> {
    let overridden =
        || condition::find(&status.conditions, "Overridden").is_some_and(|c| c.status == ConditionStatus::True);
    match status.state {
        State::Released if overridden() => Some(Transition::Overridden),
        State::Released => Some(Transition::Released),
        State::Denied => Some(Transition::Denied),
        State::Expired => Some(Transition::Expired),
        State::Cancelled => Some(Transition::Cancelled),
        State::Pending | State::Approved => None,
    }
}

fn entry(told: &Told<'_>, reviews: &[Value], key: String, what: &What<'_>) -> RecordEntry {
    let status = told.status;
    let asked = told.spec.target.as_ref();
    let uid = status.target.as_ref().map(|t| t.uid.as_str()).or_else(|| asked.and_then(|t| t.uid.as_deref()));
    let about = RecordEntry {
        key,
        request: Some(request(told)),
        target: asked.map(|t| target(t.kind, told.namespace, &t.name, uid)),
        ..blank(Transition::Requested, told.created)
    };
    match what {
        What::Asked => RecordEntry { by: requester(told), message: cut(&told.spec.reason), ..about },
        What::Reviewed(place) => reviewed(about, reviews.get(*place).unwrap_or(&Value::Null)),
        What::Came(transition, condition) => RecordEntry {
            transition: *transition,
            time: MicroTime(came(status, *transition, condition)),
            by: who(told, *transition),
            reason: condition.reason.clone(),
            message: cut(&condition.message),
            seen: Some(seen(status)),
            ..about
        },
    }
}

fn request(told: &Told<'_>) -> RecordedRequest {
    RecordedRequest {
        namespace: told.namespace.into(),
        name: told.name.into(),
        uid: told.uid.into(),
        run_id: told.spec.run_id.clone(),
        step_id: told.spec.step_id.clone(),
        requested_by: told.spec.requested_by.clone(),
    }
}

/// When it came to this. A condition that goes on holding tells when it began to, not when it was bound anew.
fn came(status: &ApprovalRequestStatus, transition: Transition, condition: &Condition) -> Timestamp {
    let bound = status.bound_time.as_ref().filter(|_| transition == Transition::Evaluated);
    bound.map_or(condition.last_transition_time.0, |bound| bound.0)
}

fn reviewed(about: RecordEntry, stored: &Value) -> RecordEntry {
    let review: Option<Review> = serde_json::from_value(stored.clone()).ok();
    let decision = review.as_ref().map(|review| match review.decision {
        ReviewDecision::Approve => "Approve",
        ReviewDecision::Deny => "Deny",
    });
    RecordEntry {
        transition: Transition::Reviewed,
        time: review.as_ref().map_or_else(|| about.time.clone(), |review| review.time.clone()),
        by: review
            .iter()
            .map(|review| RecordedCaller {
                username: review.reviewer.username.clone(),
                uid: review.reviewer.uid.clone(),
                groups: review.reviewer.groups.clone(),
            })
            .collect(),
        reason: decision.unwrap_or("Unreadable").into(),
        review: Some(stored.clone()),
        ..about
    }
}

fn requester(told: &Told<'_>) -> Vec<RecordedCaller> {
    let stamped = told.spec.requester.iter();
    stamped
        .map(|who| RecordedCaller { username: who.username.clone(), uid: who.uid.clone(), groups: who.groups.clone() })
        .collect()
}

/// On whose word it came to this. Uid and groups of a reviewer stand in the entry of the review.
fn who(told: &Told<'_>, transition: Transition) -> Vec<RecordedCaller> {
    let approvers = told.status.approvals.iter().flat_map(|progress| &progress.approved_by);
    let mut names: Vec<&str> = match transition {
        Transition::Approved | Transition::Released => approvers.map(String::as_str).collect(),
        _ => vec![],
    };
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(caller).collect()
}

fn seen(status: &ApprovalRequestStatus) -> Seen {
    Seen {
        revision: status.revision,
        digest: status.digest.clone(),
        policy_snapshot: status.policy_snapshot.clone(),
        job_hash: status.job_hash.clone(),
        constraints: status.constraints.clone(),
        scope: status.scope.clone(),
        matches: status.matches.clone(),
    }
}

fn target(kind: TargetKind, namespace: &str, name: &str, uid: Option<&str>) -> RecordedTarget {
    RecordedTarget { kind, namespace: namespace.into(), name: name.into(), uid: uid.map(String::from) }
}

fn caller(username: &str) -> RecordedCaller {
    RecordedCaller { username: username.into(), uid: None, groups: vec![] }
}

pub(super) fn blank(transition: Transition, time: Timestamp) -> RecordEntry {
    RecordEntry {
        key: String::new(),
        transition,
        time: MicroTime(time),
        request: None,
        target: None,
        by: vec![],
        reason: String::new(),
        message: String::new(),
        seen: None,
        review: None,
        count: None,
        pruned: None,
        public_key: None,
    }
}

/// A message, as long as one may be.
pub(super) fn cut(text: &str) -> String {
    cut_to(text, LONGEST)
}

/// The first bytes of a text, as many as may be.
pub(super) fn cut_to(text: &str, longest: usize) -> String {
    let end = (0..=text.len().min(longest)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text[..end].into()
}

#[cfg(test)]
#[path = "entries_tests.rs"]
mod tests;
