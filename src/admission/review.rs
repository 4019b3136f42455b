//! The verdict on a review: who may give it, on what, and when. Pure; everything it needs stands in the stored status.

use crate::admission::Refusal;
use crate::admission::request::Context;
use crate::api::condition::{self, ConditionStatus};
use crate::api::{
    ApprovalRequestStatus, Requester, Review, ReviewDecision, ReviewInput, Reviewer, SelfApproval, State,
};
use crate::binding::{UNUSABLE_SEAL, seal, verify_seal};
use crate::policy::MAX_APPROVALS;
use crate::review::{asked, eligible, is_requester, named_groups, named_policies, persons};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde_json::{Map, Value, json};

/// Most reviews that a request can hold. Of these, [`MAX_APPROVALS`] may be approvals: there is always room to deny.
const MOST_REVIEWS: usize = 64;

/// Refuses what comes after the end.
pub(super) fn unfinished(old: &Value) -> Result<(), Refusal> {
    let status = status(old)?;
    if status.state.is_final() {
        let text =
            format!("this request is {} already ({}); nothing can change that", status.state.as_str(), status.message);
        return Err(Refusal::conflict(text).because("Ended"));
    }
    Ok(())
}

fn status(old: &Value) -> Result<ApprovalRequestStatus, Refusal> {
    match old.get("status") {
        None => Ok(ApprovalRequestStatus::default()),
        Some(status) => serde_json::from_value(status.clone()).map_err(|_| {
            Refusal::conflict("the stored status cannot be read by this operator; ask the platform team")
                .because("StatusUnreadable")
        }),
    }
}

/// The policies about which the authorizer must be asked before a verdict on this change: none where it brings no review, or
/// where the request names nobody of kind `Authorized`.
pub(super) fn asks(old: &Value, new: &Value) -> Vec<String> {
    if new.pointer("/spec/review").is_none_or(Value::is_null) {
        return vec![];
    }
    status(old).map(|status| named_policies(&status)).unwrap_or_default()
}

/// Moves the review in `after.review` to the end of `reviews`, stamped and sealed, or says why not.
pub(super) fn seal_review(
    old: &Value,
    after: &Map<String, Value>,
    context: &Context<'_>,
) -> Result<Vec<Value>, Refusal> {
    unfinished(old)?;
    let status = status(old)?;
    if old.pointer("/metadata/deletionTimestamp").is_some_and(|t| !t.is_null()) {
        return Err(
            Refusal::conflict("this request is being deleted; it takes no more reviews").because("BeingDeleted")
        );
    }
    let input = input(after, &status)?;
    in_time(&status, context)?;
    same_digest(&input, &status, old)?;
    commented(&input, &status)?;
    let entries = after.get("reviews").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let said = own_words(entries, old, context);
    may_review(&input, &status, &said, old, context)?;
    says_anew(&input, &said)?;
    has_room(&input, entries)?;
    let entry = entry(input, &status, old, context)?;
    let append = match after.get("reviews").is_some_and(Value::is_array) {
        true => json!({"op": "add", "path": "/spec/reviews/-", "value": entry}),
        false => json!({"op": "add", "path": "/spec/reviews", "value": [entry]}),
    };
    Ok(vec![json!({"op": "remove", "path": "/spec/review"}), append])
}

fn input(after: &Map<String, Value>, status: &ApprovalRequestStatus) -> Result<ReviewInput, Refusal> {
    let review = after.get("review").unwrap_or(&Value::Null);
    let digest = status.digest.as_deref().unwrap_or("not there yet");
    if review.get("digest").is_none_or(|d| d.as_str().is_none_or(str::is_empty)) {
        let text = format!("spec.review.digest is missing: name the digest that you read in status.digest ({digest})");
        return Err(Refusal::invalid(text).because("DigestMissing"));
    }
    serde_json::from_value(review.clone()).map_err(|e| {
        Refusal::invalid(format!(
            "spec.review: {e}; it takes decision (Approve or Deny), digest, and a comment if you like"
        ))
        .because("Malformed")
    })
}

fn in_time(status: &ApprovalRequestStatus, context: &Context<'_>) -> Result<(), Refusal> {
    let evaluated = condition::find(&status.conditions, "Evaluated").is_some_and(|c| c.status == ConditionStatus::True);
    if !evaluated || status.digest.is_none() {
        let why = if status.message.is_empty() { "it was not evaluated yet" } else { &status.message };
        return Err(Refusal::conflict(format!("this request cannot be reviewed now: {why}")).because("NotEvaluated"));
    }
    // Once approved, the release may wait for a window far longer: a denial must still stop it, and whoever may pass the
    // window lets it go. What was approved too late completes nothing, which is for the lifecycle to see.
    match &status.pending_until {
        Some(until) if context.now >= until.0 && status.state != State::Approved => {
            Err(Refusal::conflict(format!("this request expired at {}; the workflow has to ask anew", until.0))
                .because("TooLate"))
        }
        _ => Ok(()),
    }
}

fn same_digest(input: &ReviewInput, status: &ApprovalRequestStatus, old: &Value) -> Result<(), Refusal> {
    let current = status.digest.as_deref().unwrap_or_default();
    if input.digest == current {
        return Ok(());
    }
    let part = |pointer: &str| old.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (name, namespace) = (part("/metadata/name"), part("/metadata/namespace"));
    Err(Refusal::conflict(format!(
        "what you reviewed is not what stands here now: you name {}, it is {current}; read it again with `kubectl get apr {name} -n {namespace} -o yaml` and decide anew",
        input.digest
    )).because("OtherDigest"))
}

fn commented(input: &ReviewInput, status: &ApprovalRequestStatus) -> Result<(), Refusal> {
    let blank = input.comment.as_deref().is_none_or(|comment| comment.trim().is_empty());
    if status.require_comment && input.decision == ReviewDecision::Approve && blank {
        return Err(Refusal::invalid("this approval takes a comment: say in spec.review.comment what you checked")
            .because("CommentMissing"));
    }
    Ok(())
}

/// Whether the caller's word counts. A denial counts from everybody who is asked: who has a part in it is partly what its
/// creator says, who must not choose who has no veto.
fn may_review(
    input: &ReviewInput,
    status: &ApprovalRequestStatus,
    said: &[Review],
    old: &Value,
    context: &Context<'_>,
) -> Result<(), Refusal> {
    let caller = context.caller;
    if input.decision == ReviewDecision::Approve {
        may_approve(status, old, context)?;
    }
    // Whoever approved may take it back, with or without what made them an approver; the authorizer is not asked for that.
    let took_part = |r: &Review| r.decision == ReviewDecision::Approve && r.digest == input.digest;
    let takes_back =
        input.decision == ReviewDecision::Deny && said.iter().any(|r| took_part(r) && eligible(status, &r.reviewer));
    if !takes_back && !eligible(status, &reviewer(status, context)) {
        let mut who: Vec<String> = vec![];
        for described in asked(status).flatten().map(crate::api::Subject::describe) {
            if !who.contains(&described) {
                who.push(described);
            }
        }
        let text = format!("{} is not an approver of this request; it takes {}", caller.username, who.join(" or "));
        return Err(Refusal::forbidden(text).because("NotAnApprover"));
    }
    Ok(())
}

/// Refuses an approval by somebody whose approvals do not count.
fn may_approve(status: &ApprovalRequestStatus, old: &Value, context: &Context<'_>) -> Result<(), Refusal> {
    let username = &context.caller.username;
    let requester: Requester =
        old.pointer("/spec/requester").and_then(|r| serde_json::from_value(r.clone()).ok()).unwrap_or_default();
    let own = is_requester(&requester, username, context.caller.uid.as_deref());
    if own && status.self_approval != Some(SelfApproval::Allow) {
        let text = "you asked for this yourself, and its policy forbids self-approval; someone else must approve (to withdraw it, set spec.cancel)";
        return Err(Refusal::forbidden(text).because("SelfApproval"));
    }
    let parties = status.target.as_ref().map_or(&[][..], |target| &target.parties);
    if parties.contains(username) && status.self_approval != Some(SelfApproval::Allow) {
        let text = format!(
            "{username} has a part in what would run (its creator, the author of its CronJob, or the account it runs as), and its policy forbids self-approval; someone else must approve"
        );
        return Err(Refusal::forbidden(text).because("HasAPart"));
    }
    if status.excluded.contains(username) {
        return Err(Refusal::forbidden(excluded(username, parties.contains(username))).because("Excluded"));
    }
    Ok(())
}

/// Why the caller does not count. The status says who, and not for which of the two reasons.
fn excluded(username: &str, has_part: bool) -> String {
    let did = match has_part {
        true => "created what would run, or wrote the CronJob that it came from, or last changed a policy",
        false => "last changed a policy that applies here",
    };
    format!("{username} {did}, and policy excludes whoever did; someone else must approve")
}

/// The caller, as the review will name them.
fn reviewer(status: &ApprovalRequestStatus, context: &Context<'_>) -> Reviewer {
    let caller = context.caller;
    let mut authorized = named_policies(status);
    authorized.retain(|policy| context.authorized.contains(policy));
    Reviewer {
        username: caller.username.clone(),
        uid: caller.uid.clone().filter(|uid| !uid.is_empty()),
        groups: named_groups(status, &caller.groups),
        authorized,
    }
}

/// What the caller has said before, under this name or another. Only what admission sealed counts as said.
fn own_words(entries: &[Value], old: &Value, context: &Context<'_>) -> Vec<Review> {
    let uid = uid(old);
    let sealed = entries.iter().filter(|entry| verify_seal(context.key, uid, entry));
    let sealed: Vec<Review> = sealed.filter_map(|e| serde_json::from_value(e.clone()).ok()).collect();
    let caller = context.caller;
    let me = Reviewer { username: caller.username.clone(), uid: caller.uid.clone(), ..Reviewer::default() };
    let persons = persons(&sealed.iter().map(|r| &r.reviewer).chain([&me]).collect::<Vec<_>>());
    let mine = persons.last().copied();
    sealed.into_iter().zip(persons).filter(|(_, person)| Some(*person) == mine).map(|(review, _)| review).collect()
}

fn says_anew(input: &ReviewInput, said: &[Review]) -> Result<(), Refusal> {
    if input.decision == ReviewDecision::Approve && said.iter().any(|r| r.decision == ReviewDecision::Deny) {
        let text = "you denied this request, and a denial stands; someone else may approve, or the workflow asks anew";
        return Err(Refusal::conflict(text).because("DeniedBefore"));
    }
    if said.last().is_some_and(|last| last.decision == input.decision && last.digest == input.digest) {
        return Err(Refusal::conflict(format!("you have said {:?} to this already; it counts once", input.decision))
            .because("SaidBefore"));
    }
    Ok(())
}

fn has_room(input: &ReviewInput, entries: &[Value]) -> Result<(), Refusal> {
    if entries.len() >= MOST_REVIEWS {
        let text = format!("this request holds {MOST_REVIEWS} reviews and takes no more; ask anew");
        return Err(Refusal::conflict(text).because("Full"));
    }
    let approvals = entries.iter().filter(|entry| entry["decision"] == "Approve").count() as i64;
    if input.decision == ReviewDecision::Approve && approvals >= MAX_APPROVALS {
        let text = format!("this request holds {approvals} approvals and takes no more, only denials; ask anew");
        return Err(Refusal::conflict(text).because("Full"));
    }
    Ok(())
}

fn entry(
    input: ReviewInput,
    status: &ApprovalRequestStatus,
    old: &Value,
    context: &Context<'_>,
) -> Result<Value, Refusal> {
    let review = Review {
        reviewer: reviewer(status, context),
        decision: input.decision,
        digest: input.digest,
        comment: input.comment,
        time: MicroTime(context.now),
        seal: UNUSABLE_SEAL.into(),
    };
    let unsealable =
        |_| Refusal::invalid("this review cannot be sealed; leave the comment out and try again").because("Unsealable");
    let mut entry = serde_json::to_value(review).map_err(unsealable)?;
    if !context.dry_run {
        let seal = seal(context.key, uid(old), &entry).map_err(|_| {
            Refusal::invalid("this review cannot be sealed; leave the comment out and try again").because("Unsealable")
        })?;
        entry["seal"] = Value::String(seal);
    }
    Ok(entry)
}

fn uid(old: &Value) -> &str {
    old.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default()
}
