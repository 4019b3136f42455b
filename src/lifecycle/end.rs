//! The ends of a request: the writes that finish it, in the order that survives a crash between them.

use crate::api::condition::{self, ConditionStatus};
use crate::api::status::BoundTarget;
use crate::api::{ApprovalRequestStatus, Requester, RequirementProgress, ReviewDecision, SelfApproval, State};
use crate::binding::{Pass, Receipt, ReceiptJob, ReceiptRequest};
use crate::lifecycle::evaluate::Evaluation;
use crate::lifecycle::plan::{Note, Observed, Plan, Step, Target, close_step};
use crate::lifecycle::{Override, message, release, status, target_patch};
use crate::policy::{JoinedRequirement, JoinedWindow};
use crate::review::{CountedReview, Tally, Terms, fold};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Reason of a release, or of its wait, that nobody was asked for.
pub(super) const ALLOWED: &str = "Allowed";
/// Reason of a release that nobody approved.
const OVERRIDDEN: &str = "Overridden";

/// Approved (or allowed): start the Job, then say so. Without a Job, saying so is the release.
pub(super) fn released(o: &Observed<'_>, mut next: status::Next, e: &Evaluation, tally: &Tally) -> Plan {
    next.tallied(e, tally);
    let (reason, text) = grounds(&tally.approvers, &passes(o, e, tally));
    let release = release(o, e, tally, next.digest.as_deref());
    if release.is_none() && !matches!(o.target, Target::None) {
        // Without the write that starts the Job nothing was released, so nothing says so.
        return Plan::idle();
    }
    let mut steps = next.snapshot_step(e);
    steps.extend(release);
    steps.push(finish(o, next.status, State::Released, reason, &text));
    Plan { steps, note: Some(note(State::Released, &text)), ..Plan::idle() }
}

/// On what grounds a request is released: the reason of its conditions, and a text for a person. It names who passed a
/// window that held.
pub(super) fn grounds(approvers: &[String], passed: &[Pass]) -> (&'static str, String) {
    let (reason, text) = match approvers {
        [] => (ALLOWED, "allowed by policy".into()),
        some => ("Approved", format!("approved by {}", some.join(", "))),
    };
    let held: Vec<_> = passed.iter().filter(|pass| pass.held).collect();
    (reason, if held.is_empty() { text } else { format!("{text}; {}", message::passed(&held)) })
}

/// Who passed which freeze window, of those that the status lists.
fn passes(o: &Observed<'_>, e: &Evaluation, tally: &Tally) -> Vec<Pass> {
    let pass = |joined: &JoinedWindow| {
        let window = joined.window();
        Some(Pass {
            policy: joined.rule.policy.to_string(),
            rule: joined.rule.rule.name.clone(),
            window: window.name.clone(),
            by: release::passer(&window.may_pass, tally)?.username.clone(),
            held: joined.compiled().holds_until(o.now).is_some(),
        })
    };
    e.outcome.windows.iter().take(status::MOST_FREEZES).filter_map(pass).collect()
}

/// The write that starts the Job, where there is one.
pub(super) fn release(o: &Observed<'_>, e: &Evaluation, tally: &Tally, digest: Option<&str>) -> Option<Step> {
    let (Target::Found(job, _), Some(bound), Some(digest)) = (&o.target, &e.job, digest) else { return None };
    let most = target_patch::bounded(job, &e.constraints).active_deadline_seconds;
    let receipt = Receipt {
        request: Some(ReceiptRequest {
            namespace: o.request.namespace.clone(),
            name: o.request.name.clone(),
            uid: o.request.uid.clone(),
        }),
        job: ReceiptJob::of(job.kind.as_str(), &job.namespace, &job.name, &bound.uid, bound.hash.clone()),
        digest: digest.into(),
        policy_snapshot: e.snapshot.as_ref().map(|s| s.hash.clone()).unwrap_or_default(),
        approvers: tally.approvers.clone(),
        passed: passes(o, e, tally),
        constraints: e.constraints.clone(),
        time: o.now,
        valid_until: Receipt::valid_until(o.now, most),
    };
    let envelope = receipt.sign(o.key).ok()?;
    Some(Step::Release(target_patch::release(job, &e.constraints, o.cluster, digest, &envelope)))
}

/// The Job carries our receipt: it was released, and only the status is missing.
pub(super) fn released_before(o: &Observed<'_>, receipt: &Receipt) -> Plan {
    let (reason, text) = grounds(&receipt.approvers, &receipt.passed);
    let mut status = o.request.status.clone();
    if status.revision == 0 {
        bound_before(o, receipt, &mut status);
    }
    status.digest = Some(receipt.digest.clone());
    status.policy_snapshot = Some(receipt.policy_snapshot.clone());
    status.job_hash = Some(receipt.job.hash.clone());
    status.constraints = receipt.constraints.clone();
    status.approvals = assigned_before(o, receipt);
    for freeze in &mut status.freezes {
        let this = |pass: &&Pass| {
            (&pass.policy, &pass.rule, &pass.window) == (&freeze.policy, &freeze.rule, &freeze.window.name)
        };
        match receipt.passed.iter().find(this) {
            Some(pass) => freeze.passed_by = Some(pass.by.clone()),
            // A receipt of an older operator names nobody: what was found before the release stays.
            None if receipt.passed.is_empty() => {}
            None => freeze.passed_by = None,
        }
    }
    let required: i64 = status.approvals.iter().map(|p| i64::from(p.required)).sum();
    let held: usize = status.approvals.iter().map(|p| p.approved_by.len()).sum();
    status.summary.get_or_insert_default().approvals = format!("{held}/{required}");
    let steps = vec![finish(o, status, State::Released, reason, &text)];
    Plan { steps, note: Some(note(State::Released, &text)), ..Plan::idle() }
}

/// Where policy allows at once, binding and release are one plan, and a crash leaves the release alone. What the receipt
/// names was evaluated and bound, so the request says that too. Which rules matched, the snapshot tells that it names: what runs
/// already is not looked at again.
fn bound_before(o: &Observed<'_>, receipt: &Receipt, status: &mut ApprovalRequestStatus) {
    status.revision = 1;
    status.bound_time = Some(Time(status::whole_second(receipt.time)));
    if let Target::Found(job, _) = &o.target {
        let bounds = job.bounds.clone();
        status.target.get_or_insert(BoundTarget { uid: job.uid.clone(), bounds, parties: vec![] });
    }
    let generation = o.request.generation;
    let (conditions, text) = (&mut status.conditions, "evaluated and bound");
    condition::set(conditions, "Evaluated", ConditionStatus::True, "Bound", text, generation, o.now);
}

/// Who filled which requirement at the release: the words of those whom the receipt names, about what it binds, counted as
/// they were then. What was said since does not matter.
fn assigned_before(o: &Observed<'_>, receipt: &Receipt) -> Vec<RequirementProgress> {
    if receipt.approvers.is_empty() {
        return vec![];
    }
    let status = &o.request.status;
    let named = |who: &String| receipt.approvers.contains(who) || receipt.passed.iter().any(|pass| pass.by == *who);
    let counted =
        |r: &&CountedReview| r.review.decision == ReviewDecision::Approve && named(&r.review.reviewer.username);
    let reviews: Vec<_> = o.request.reviews.iter().filter(counted).cloned().collect();
    let requirement = |p: &RequirementProgress| JoinedRequirement {
        name: p.requirement.clone(),
        count: p.required,
        approvers: p.approvers.clone(),
    };
    let requirements: Vec<_> = status.approvals.iter().map(requirement).collect();
    let passers: Vec<_> = status.freezes.iter().flat_map(|f| f.window.may_pass.iter().cloned()).collect();
    let terms = Terms {
        requirements: &requirements,
        passers: &passers,
        denials: 1,
        // Whom the receipt names did count.
        self_approval: SelfApproval::Allow,
        requester: const { &Requester::NOBODY },
        parties: &[],
        excluded: &[],
        require_comment: status.require_comment,
        digest: &receipt.digest,
    };
    fold(&reviews, &terms).progress
}

/// Somebody with the verb `override` started the target past the gate: it runs, so whoever waits may go on, and the
/// request says on whose word.
pub(super) fn overridden(o: &Observed<'_>, by: &Override) -> Plan {
    let text = format!("started without approval by {}, who may override: {}", by.by, by.reason);
    let mut status = o.request.status.clone();
    if let Target::Found(job, _) = &o.target {
        let bounds = job.bounds.clone();
        status.target.get_or_insert(BoundTarget { uid: job.uid.clone(), bounds, parties: vec![] });
    }
    let generation = o.request.generation;
    let told = message::cut(text.clone());
    condition::set(&mut status.conditions, "Overridden", ConditionStatus::True, "Overridden", &told, generation, o.now);
    let steps = vec![finish(o, status, State::Released, OVERRIDDEN, &text)];
    Plan { steps, note: Some(Note { warning: true, reason: OVERRIDDEN.into(), message: text }), ..Plan::idle() }
}

/// The Job says how this request ended, and only the status is missing.
pub(super) fn closed_before(o: &Observed<'_>, state: State) -> Plan {
    let text = format!("ended as {}, as its Job says", state.as_str());
    Plan {
        steps: vec![finish(o, o.request.status.clone(), state, state.as_str(), &text)],
        note: Some(note(state, &text)),
        ..Plan::idle()
    }
}

/// Ends without approval, before or beside evaluation.
pub(super) fn without_approval(o: &Observed<'_>, state: State, reason: &str, text: &str) -> Plan {
    ended(o, o.request.status.clone(), state, reason, text)
}

/// A Deny rule matched.
pub(super) fn denied_by_policy(o: &Observed<'_>, e: &Evaluation, text: &str) -> Plan {
    let mut status = o.request.status.clone();
    status::describe(&mut status, o, e);
    let generation = o.request.generation;
    let why = "evaluated";
    condition::set(&mut status.conditions, "Evaluated", ConditionStatus::True, "Denied", why, generation, o.now);
    ended(o, status, State::Denied, "PolicyDenies", text)
}

/// Enough reviewers denied.
pub(super) fn denied_by_reviewers(o: &Observed<'_>, mut next: status::Next, e: &Evaluation, tally: &Tally) -> Plan {
    next.tallied(e, tally);
    let text = format!("denied by {}", tally.deniers.join(", "));
    ended(o, next.status, State::Denied, "ReviewersDenied", &text)
}

/// A clock ran out.
pub(super) fn expired(o: &Observed<'_>, mut next: status::Next, e: &Evaluation, tally: &Tally, text: &str) -> Plan {
    next.tallied(e, tally);
    let mut plan = ended(o, next.status.clone(), State::Expired, "TimedOut", text);
    plan.steps.splice(0..0, next.snapshot_step(e));
    plan
}

/// First on the Job, guarded, then in the status: whoever writes the Job first, wins.
fn ended(o: &Observed<'_>, status: crate::api::ApprovalRequestStatus, state: State, reason: &str, text: &str) -> Plan {
    let mut steps: Vec<Step> = close_step(o, state).into_iter().collect();
    steps.push(finish(o, status, state, reason, text));
    Plan { steps, note: Some(note(state, text)), ..Plan::idle() }
}

fn finish(
    o: &Observed<'_>,
    mut status: crate::api::ApprovalRequestStatus,
    state: State,
    reason: &str,
    text: &str,
) -> Step {
    let text = message::cut(text.to_string());
    let generation = o.request.generation;
    status.state = state;
    status.observed_generation = generation;
    status.message = text.clone();
    status.release_by = None;
    status.waits_until = None;
    if state == State::Released && reason != OVERRIDDEN {
        condition::set(&mut status.conditions, "Approved", ConditionStatus::True, reason, &text, generation, o.now);
    } else {
        status.conditions.retain(|c| c.type_ != "Approved");
    }
    condition::set(&mut status.conditions, state.as_str(), ConditionStatus::True, reason, &text, generation, o.now);
    Step::WriteStatus(Box::new(status))
}

fn note(state: State, text: &str) -> Note {
    Note { warning: state != State::Released, reason: state.as_str().into(), message: text.into() }
}
