//! The decision: what to write next for one request.

use crate::api::{ApprovalRequestStatus, Requester, State, TargetKind};
use crate::binding::{InputRef, InputState, Keyring, Receipt, Snapshot};
use crate::lifecycle::evaluate::{Evaluation, Problem};
use crate::lifecycle::target_patch::Closed;
use crate::lifecycle::{
    Claim, Cluster, Foreseen, Gate, NamespaceFacts, Override, RequestFacts, Surroundings, TargetFacts, Unrecorded, end,
    message, release, status, target_patch, view,
};
use crate::policy::PolicySet;
use crate::review::{Tally, Terms, fold};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// How long after a deadline the request expires: a review that was sealed in time may still be on its way here.
pub(super) const GRACE: SignedDuration = SignedDuration::from_millis(500);

/// Everything one decision rests on.
#[derive(Debug)]
pub struct Observed<'a> {
    /// The request.
    pub request: &'a RequestFacts,
    /// What it targets.
    pub target: Target<'a>,
    /// Every policy.
    pub policies: &'a PolicySet,
    /// The newest resource version seen of policies.
    pub policies_version: i64,
    /// The newest resource version seen of the target's kind.
    pub targets_version: i64,
    /// The ConfigMaps and Secrets that the target reads, as they are now.
    pub inputs: &'a [(InputRef, InputState)],
    /// The newest resource version seen of any of them.
    pub inputs_version: i64,
    /// What stands around the target.
    pub surroundings: &'a Surroundings,
    /// What the cluster can do.
    pub cluster: Cluster,
    /// The request's namespace; none while it is not known yet.
    pub namespace: Option<&'a NamespaceFacts>,
    /// Whether every watch has spoken lately. Nothing is released on old news.
    pub fresh: bool,
    /// Whether everything that there is to record of the request, as it is stored, is recorded.
    pub recorded: bool,
    /// Why nothing may be released for the audit trail's sake, if so.
    pub unrecorded: Option<&'a Unrecorded>,
    /// Why the API server refused the release last time, if it did.
    pub refused: Option<&'a str>,
    /// Signs receipts.
    pub key: &'a Keyring,
    /// The time.
    pub now: Timestamp,
}

/// What a request targets.
#[derive(Debug)]
pub enum Target<'a> {
    /// Nothing: its own state is what a paused step waits for.
    None,
    /// A Job or Pod that is not there.
    Missing,
    /// A Job or Pod, and whose it is.
    Found(&'a TargetFacts, Claim),
}

/// A guarded write to a Job or Pod.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetPatch {
    /// Which of the two.
    pub kind: TargetKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// RFC 6902 operations.
    pub operations: Value,
}

impl TargetPatch {
    pub(super) fn new(job: &TargetFacts, operations: Vec<Value>) -> Self {
        Self {
            kind: job.kind,
            namespace: job.namespace.clone(),
            name: job.name.clone(),
            operations: Value::Array(operations),
        }
    }
}

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Keep a policy snapshot under its hash.
    KeepSnapshot(Snapshot),
    /// Start the Job or Pod: the point of no return.
    Release(TargetPatch),
    /// Record on the Job or Pod that its request ended without approval.
    Close(TargetPatch),
    /// Create the gate's own request.
    Ask(Box<Value>),
    /// Delete a held Job that will never run. What it owns stays.
    Delete(Deletion),
    /// Replace the request's status.
    WriteStatus(Box<ApprovalRequestStatus>),
    /// Let the request be deleted.
    RemoveFinalizer,
}

/// A Job to delete, if it is still the one that was seen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Deletion {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its resource version: a Job that was started meanwhile is not deleted.
    pub resource_version: String,
}

/// Something to tell as an Event, after the writes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Note {
    /// Whether it is a warning.
    pub warning: bool,
    /// One CamelCase word.
    pub reason: String,
    /// For a person.
    pub message: String,
}

/// Writes to make, in order; each only if the one before succeeded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The writes.
    pub steps: Vec<Step>,
    /// When to look again though nothing happened.
    pub next: Option<Timestamp>,
    /// What to tell.
    pub note: Option<Note>,
    /// What a gate that only warns would have done.
    pub foreseen: Option<Foreseen>,
}

impl Plan {
    /// Nothing to do until something happens.
    pub fn idle() -> Self {
        Self::default()
    }

    /// Nothing to do until that time.
    pub fn until(next: Timestamp) -> Self {
        Self { next: Some(next), ..Self::default() }
    }

    /// The state that this plan writes, if it writes one.
    pub fn writes_state(&self) -> Option<State> {
        self.steps.iter().find_map(|step| match step {
            Step::WriteStatus(status) => Some(status.state),
            _ => None,
        })
    }
}

/// Decides what to write next. Deterministic; final states absorb.
pub fn plan(o: &Observed<'_>) -> Plan {
    let request = o.request;
    if request.status.state.is_final() {
        // What is deleted stays until its records are written.
        let remove = request.deleting && request.finalizer.is_some() && o.recorded;
        return Plan { steps: if remove { vec![Step::RemoveFinalizer] } else { vec![] }, ..Plan::idle() };
    }
    // The Job is the point of no return: what stands on it has happened, whatever else is known.
    if let Some(receipt) = own_receipt(o) {
        return end::released_before(o, receipt);
    }
    if let Some(by) = overridden(o) {
        return end::overridden(o, by);
    }
    let natural = decide(o);
    if !o.recorded && overwrites(o, &natural) {
        // The record is on its way, and this request is looked at again when it is written.
        return Plan::idle();
    }
    match own_close(o) {
        Some(state) if natural.writes_state() != Some(state) => end::closed_before(o, state),
        _ => natural,
    }
}

/// Whether a plan writes over what only the stored status tells: what was bound before, or that it was approved.
fn overwrites(o: &Observed<'_>, plan: &Plan) -> bool {
    let stored = &o.request.status;
    plan.steps.iter().any(|step| match step {
        Step::WriteStatus(next) => {
            let bound_anew = stored.revision > 0 && next.revision != stored.revision;
            bound_anew || (stored.state == State::Approved && next.state == State::Pending)
        }
        _ => false,
    })
}

/// The receipt on the target, if it speaks of this request.
fn own_receipt<'a>(o: &'a Observed<'_>) -> Option<&'a Receipt> {
    match &o.target {
        Target::Found(job, _) => {
            job.receipt.as_ref().filter(|r| r.request.as_ref().is_some_and(|r| r.uid == o.request.uid))
        }
        _ => None,
    }
}

/// Who started this request's target past the gate, if somebody did.
fn overridden<'a>(o: &'a Observed<'_>) -> Option<&'a Override> {
    let Target::Found(job, Claim::Owner) = &o.target else { return None };
    let gated = o.namespace.is_some_and(|n| n.gate == Gate::Enforce);
    let ours = o.request.status.target.as_ref().is_none_or(|t| t.uid == job.uid) && asked_for(o, job);
    job.overridden().filter(|_| gated && ours)
}

/// The end that the target says this request had: a crash came before the status was written.
fn own_close(o: &Observed<'_>) -> Option<State> {
    let Target::Found(job, Claim::Owner) = &o.target else { return None };
    let closed = Closed::read(job.closed.as_deref()?);
    let ours = closed.is_of(&o.request.uid, o.request.status.digest.as_deref());
    let ends = [State::Denied, State::Expired, State::Cancelled];
    ends.into_iter().find(|end| ours && end.as_str() == closed.state)
}

fn decide(o: &Observed<'_>) -> Plan {
    let request = o.request;
    if view::is_behind(o) {
        return Plan::idle();
    }
    if let Some(message) = target_gone(o) {
        return end::without_approval(o, State::Cancelled, "TargetDeleted", &message);
    }
    if request.deleting {
        return end::without_approval(o, State::Cancelled, "Deleted", "the request was deleted before a decision");
    }
    if request.spec.cancel {
        return end::without_approval(o, State::Cancelled, "Withdrawn", "withdrawn by the requester");
    }
    let Some(namespace) = o.namespace else { return Plan::idle() };
    let mut evaluation = Evaluation::of(o, namespace);
    if let Some(message) = evaluation.denial() {
        return end::denied_by_policy(o, &evaluation, &message);
    }
    if let Some(until) = view::target_may_come(o) {
        return Plan::until(until);
    }
    evaluation.problem = evaluation.problem.take().or_else(|| release::obstacle(o, &evaluation));
    if evaluation.digest_at(o, request.status.revision).as_deref() == request.status.digest.as_deref()
        && request.status.digest.is_some()
    {
        return proceed(o, evaluation, Binding::Kept);
    }
    match &evaluation.problem {
        Some(problem) if !problem.unbinds => proceed(o, evaluation, Binding::Unseen),
        // What was shown is no longer so. An older view than the one it was shown from says nothing about that.
        _ if request.status.digest.is_some() && !view::is_newer(o) => Plan::idle(),
        _ => proceed(o, evaluation, Binding::New),
    }
}

/// Why the bound target can never run any more, if so.
fn target_gone(o: &Observed<'_>) -> Option<String> {
    let bound = o.request.status.target.as_ref()?;
    let noun = o.request.spec.target.as_ref().map(|t| format!("{} {}", t.kind.as_str(), t.name)).unwrap_or_default();
    match &o.target {
        Target::Found(job, _) if job.uid == bound.uid && !job.deleting => None,
        Target::Found(job, _) if job.uid != bound.uid => {
            Some(format!("{noun} was deleted and created anew; approval is bound to the one that was shown"))
        }
        _ => Some(format!("{noun} was deleted")),
    }
}

/// Whether what reviewers were shown still stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Binding {
    /// It stands.
    Kept,
    /// It cannot be told, for a problem: what is bound, if something is, stands as it was.
    Unseen,
    /// It does not, or nothing was shown yet.
    New,
}

/// Goes on with a request that policy does not deny: release, expire, or wait.
fn proceed(o: &Observed<'_>, evaluation: Evaluation, binding: Binding) -> Plan {
    let mut next = status::Next::new(o, &evaluation, binding);
    let tally = fold(&o.request.reviews, &terms(o, &evaluation, next.digest.as_deref().unwrap_or_default()));
    if tally.denied && evaluation.problem.is_none() {
        return end::denied_by_reviewers(o, next, &evaluation, &tally);
    }
    let grant = grant(o, &next, &evaluation, &tally);
    match (&evaluation.problem, grant) {
        (None, Some(grant)) => release::release_or_expire(o, next, &evaluation, &tally, grant),
        (problem, grant) => {
            next.leave_approved(o, &evaluation);
            wait_or_expire(o, next, &evaluation, &tally, problem.as_ref(), grant)
        }
    }
}

/// That nothing is missing any more for a release.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grant {
    /// Since when: the last approval, or the request where policy allows it.
    pub since: Timestamp,
    /// Until when it must be used; none where policy allows it.
    pub release_by: Option<Timestamp>,
}

/// Whether nothing is missing, of what is bound.
fn grant(o: &Observed<'_>, next: &status::Next, e: &Evaluation, tally: &Tally) -> Option<Grant> {
    let digest = next.digest.as_deref()?;
    let status = &o.request.status;
    if next.binding == Binding::Unseen {
        // A part of what is bound is out of sight, and with it what it asks for: what was found before counts.
        let since = o.request.created;
        let release_by = status.release_by.as_ref().map(|t| t.0);
        return (release_by.is_some() || status.approvals.is_empty()).then_some(Grant { since, release_by });
    }
    if e.outcome.requirements.is_empty() {
        return Some(Grant { since: o.request.created, release_by: None });
    }
    let since = tally.approved_at.filter(|at| *at <= next.pending_until)?;
    let release_by = release::Schedule::of(o, &next.status, e, tally, digest).release_by(e, since);
    Some(Grant { since, release_by: Some(release_by) })
}

fn terms<'a>(o: &'a Observed<'_>, evaluation: &'a Evaluation, digest: &'a str) -> Terms<'a> {
    Terms {
        requirements: &evaluation.outcome.requirements,
        passers: &evaluation.passers,
        denials: evaluation.outcome.denials,
        self_approval: evaluation.outcome.self_approval,
        requester: o.request.spec.requester.as_ref().unwrap_or(const { &Requester::NOBODY }),
        parties: evaluation.job.as_ref().map_or(&[], |job| &job.parties),
        excluded: &evaluation.excluded,
        require_comment: evaluation.outcome.require_comment,
        digest,
    }
}

/// Waits for approvals, or for a problem to pass. What was approved in time expires by the clock of its release, and what
/// is allowed by none.
fn wait_or_expire(
    o: &Observed<'_>,
    mut next: status::Next,
    evaluation: &Evaluation,
    tally: &Tally,
    problem: Option<&Problem>,
    grant: Option<Grant>,
) -> Plan {
    let by = grant.map_or(Some(next.pending_until), |grant| grant.release_by);
    let expires = by.map(|by| by + GRACE);
    if let Some(by) = by.filter(|_| expires.is_some_and(|at| o.now >= at)) {
        let why = problem.map_or_else(|| message::missing(tally), |p| p.message.clone());
        let text = match grant {
            Some(_) => format!("approved, but not released by {by}: {why}; ask anew"),
            None => format!("no approval by {by}: {why}"),
        };
        return end::expired(o, next, evaluation, tally, &text);
    }
    next.keep_clock(grant);
    let mut plan = next.pending(o, evaluation, tally, problem);
    plan.next = expires;
    plan
}

/// A number of seconds, as the API bounds it.
pub(super) fn seconds(n: i64) -> SignedDuration {
    SignedDuration::from_secs(n)
}

/// The name and value of the annotation that an end without approval leaves on the Job, if it is to be written.
pub(super) fn close_step(o: &Observed<'_>, state: State) -> Option<Step> {
    let Target::Found(job, Claim::Owner) = &o.target else { return None };
    let value = target_patch::closed_value(state, o.request.status.digest.as_deref(), &o.request.uid);
    let gone = job.deleting || o.request.status.target.as_ref().is_some_and(|t| t.uid != job.uid);
    let others = job.receipt.is_some();
    let done = job.closed.as_deref() == Some(&value);
    (!gone && !others && !done && asked_for(o, job)).then(|| Step::Close(target_patch::close(job, &value)))
}

/// Whether the Job is the one that the request names, where it names a uid.
pub(super) fn asked_for(o: &Observed<'_>, job: &TargetFacts) -> bool {
    o.request.spec.target.as_ref().is_some_and(|t| t.uid.as_ref().is_none_or(|uid| *uid == job.uid))
}
