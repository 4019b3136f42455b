//! Whether a request is mine to approve, asked of what admission itself asks. Pure.

use crate::admission::request::{Context, update};
use crate::admission::{Caller, Refusal, Verdict};
use crate::api::{Review, ReviewDecision, Reviewer, State};
use crate::binding::{Keyring, UNUSABLE_SEAL};
use crate::cli::explain::{passers, requirements, terms};
use crate::cli::review::outcome::without_command;
use crate::lifecycle::{RequestFacts, missing};
use crate::review::{CountedReview, Tally, covers, fold, named_groups, persons};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde_json::{Value, json};

/// The caller, as the API server knows them, and the policies on which it lets them `approve`.
#[derive(Clone, Debug, Default)]
pub struct Me {
    /// Who.
    pub caller: Caller,
    /// Policies.
    pub authorized: Vec<String>,
}

/// Whether an approval of mine would count, or else why not; none of both once the request is over.
pub fn standing(request: &RequestFacts, stored: &Value, me: &Me, now: Timestamp) -> Option<Result<(), String>> {
    if request.status.state.is_final() {
        return None;
    }
    let why =
        said_before(request, me).or_else(|| refused(request, stored, me, now)).or_else(|| adds_nothing(request, me));
    Some(why.map_or(Ok(()), Err))
}

/// My own words are known by who gave them: the seals on them are the operator's to check.
fn said_before(request: &RequestFacts, me: &Me) -> Option<String> {
    let own = reviewer(request, me);
    let persons = persons(&request.reviews.iter().map(|r| &r.review.reviewer).chain([&own]).collect::<Vec<_>>());
    let mine = persons.last()?;
    let words: Vec<&Review> =
        request.reviews.iter().zip(&persons).filter(|(_, person)| *person == mine).map(|(r, _)| &r.review).collect();
    let last_on_this = words.iter().rfind(|word| Some(&word.digest) == request.status.digest.as_ref());
    if words.iter().any(|word| word.decision == ReviewDecision::Deny) {
        return Some("you denied it".into());
    }
    last_on_this.map(|_| "you approved it".into())
}

/// What admission would say to an approval, with a comment.
fn refused(request: &RequestFacts, stored: &Value, me: &Me, now: Timestamp) -> Option<String> {
    // Any key: what it says of the seals is not used.
    let key = Keyring::from_seed(&[0; 32]).ok()?;
    let mut wanted = stored.clone();
    wanted["spec"]["review"] = json!({"decision": "Approve", "digest": request.status.digest, "comment": "-"});
    let context = Context { caller: &me.caller, dry_run: true, authorized: &me.authorized, key: &key, now };
    // Without a digest, what is missing is not the caller's.
    if request.status.digest.is_none() {
        return Some(not_up(request));
    }
    match update(stored, &wanted, &context) {
        Verdict::Allow(_) => None,
        Verdict::Refuse(refusal) => Some(in_short(request, &refusal)),
    }
}

fn in_short(request: &RequestFacts, refusal: &Refusal) -> String {
    let text = &refusal.message;
    match &*refusal.word {
        "SelfApproval" => "you asked for it yourself".into(),
        "HasAPart" => "you have a part in what would run".into(),
        "Excluded" => "policy excludes you".into(),
        "NotAnApprover" => text.split_once("; ").map_or(text.clone(), |(_, takes)| takes.into()),
        "TooLate" => "its time ran out".into(),
        "NotEvaluated" => not_up(request),
        _ => text.clone(),
    }
}

fn not_up(request: &RequestFacts) -> String {
    match without_command(&request.status.message) {
        "" => "not up for review: the operator has not evaluated it yet".into(),
        why => format!("not up for review: {why}"),
    }
}

/// An approval that fills no requirement and passes no window changes nothing.
fn adds_nothing(request: &RequestFacts, me: &Me) -> Option<String> {
    let (needed, passing) = (requirements(request, None), passers(request));
    let terms = terms(request, &needed, &passing);
    let filled = |tally: &Tally| tally.progress.iter().map(|p| p.approved_by.len()).sum::<usize>();
    let before = fold(&request.reviews, &terms);
    let own = reviewer(request, me);
    let passes = request.status.freezes.iter().any(|f| f.passed_by.is_none() && covers(&f.window.may_pass, &own));
    let review = Review {
        reviewer: own,
        decision: ReviewDecision::Approve,
        digest: request.status.digest.clone().unwrap_or_default(),
        comment: Some("-".into()),
        time: MicroTime(Timestamp::MAX),
        seal: UNUSABLE_SEAL.into(),
    };
    let reviews: Vec<_> = request.reviews.iter().cloned().chain([CountedReview { review, sealed: true }]).collect();
    if passes || filled(&fold(&reviews, &terms)) > filled(&before) {
        return None;
    }
    Some(match request.status.state {
        State::Approved => without_command(&request.status.message).into(),
        // The release is on its way.
        _ if complete(&before) => "it has every approval that it takes".into(),
        _ => format!("nothing you could add: {}", missing(&before)),
    })
}

fn complete(tally: &Tally) -> bool {
    tally.progress.iter().all(|p| p.approved_by.len() as i64 >= i64::from(p.required))
}

fn reviewer(request: &RequestFacts, me: &Me) -> Reviewer {
    Reviewer {
        username: me.caller.username.clone(),
        uid: me.caller.uid.clone().filter(|uid| !uid.is_empty()),
        groups: named_groups(&request.status, &me.caller.groups),
        authorized: me.authorized.clone(),
    }
}
