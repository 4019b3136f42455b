//! The status to write: composed from the stored one, so that equal facts give an equal status and no write.

use crate::api::condition::{self, ConditionStatus};
use crate::api::status::{BoundAt, BoundTarget, RuleMatch, Summary, TagSource};
use crate::api::{ApprovalRequestStatus, State, TargetKind};
use crate::binding::{DIGEST_FORMAT, MAX_INPUTS};
use crate::lifecycle::evaluate::{Evaluation, Problem};
use crate::lifecycle::message;
use crate::lifecycle::plan::{Binding, Note, Observed, Plan, Step, Target};
use crate::policy::Outcome;
use crate::review::Tally;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Most matches that are listed; the snapshot has them all.
const MOST_MATCHES: usize = 256;

/// The versions of what this view shows.
pub fn bound_at(o: &Observed<'_>) -> BoundAt {
    BoundAt {
        policies: o.policies_version,
        namespace: o.namespace.map_or(0, |n| n.version),
        target: match &o.target {
            Target::Found(job, _) => job.version,
            _ => 0,
        },
        format: DIGEST_FORMAT,
        inputs: if o.inputs.is_empty() { 0 } else { o.inputs_version },
    }
}

/// The status being composed.
pub(super) struct Next {
    pub status: ApprovalRequestStatus,
    pub digest: Option<String>,
    pub pending_until: Timestamp,
    binding: Binding,
}

impl Next {
    /// Takes over what the evaluation found, and binds anew where what was shown no longer stands.
    pub(super) fn new(o: &Observed<'_>, e: &Evaluation, binding: Binding, pending_until: Timestamp) -> Self {
        let mut status = o.request.status.clone();
        status.observed_generation = o.request.generation;
        status.pending_until = Some(Time(whole_second(pending_until)));
        let was_bound = status.digest.is_some();
        if binding == Binding::New {
            let difference = difference(&status, e);
            let revision = status.revision + 1;
            status.digest = e.digest_at(o, revision).filter(|_| e.problem.is_none());
            if status.digest.is_some() {
                status.revision = revision;
                status.bound_at = Some(bound_at(o));
                let (reason, text) = match was_bound || revision > 1 {
                    true => ("Rebound", format!("{difference}; what was approved before is void")),
                    false => ("Bound", "evaluated and bound".into()),
                };
                condition::set(
                    &mut status.conditions,
                    "Evaluated",
                    ConditionStatus::True,
                    reason,
                    &text,
                    o.request.generation,
                    o.now,
                );
            } else if was_bound {
                status.bound_at = Some(bound_at(o));
            }
            describe(&mut status, e);
        } else if e.problem.is_none() {
            describe(&mut status, e);
            recover(&mut status, o);
        } else if !was_bound {
            describe(&mut status, e);
        }
        if o.request.status.target.is_none() && status.target.is_some() {
            status.bound_at = Some(bound_at(o));
        }
        Self { digest: status.digest.clone(), status, pending_until, binding }
    }

    /// Waits: for reviewers, or for what `problem` says.
    pub(super) fn pending(
        mut self,
        o: &Observed<'_>,
        e: &Evaluation,
        tally: &Tally,
        problem: Option<&Problem>,
    ) -> Plan {
        self.tallied(e, tally);
        let status = &mut self.status;
        status.state = State::Pending;
        status.release_by = None;
        status.conditions.retain(|c| c.type_ != "Approved");
        let note = match problem {
            Some(p) => {
                status.message = message::cut(p.message.clone());
                let known = condition::find(&status.conditions, "Evaluated").is_some_and(|c| c.reason == p.reason);
                let (conditions, text) = (&mut status.conditions, &status.message);
                let generation = o.request.generation;
                condition::set(conditions, "Evaluated", ConditionStatus::False, p.reason, text, generation, o.now);
                (!known).then(|| Note { warning: true, reason: p.reason.into(), message: status.message.clone() })
            }
            None => {
                status.message = message::cut(waiting(o, status, tally));
                let reason = condition::find(&status.conditions, "Evaluated").map_or("Bound", |c| c.reason.as_str());
                let reason = if reason == "Rebound" { "Rebound" } else { "ApprovalRequired" };
                (self.binding == Binding::New).then(|| Note {
                    warning: reason == "Rebound",
                    reason: reason.into(),
                    message: status.message.clone(),
                })
            }
        };
        self.written(o, e, note)
    }

    /// Approved, and the API server does not take the release.
    pub(super) fn approved(
        mut self,
        o: &Observed<'_>,
        e: &Evaluation,
        tally: &Tally,
        release_by: Option<Timestamp>,
        refused: &str,
    ) -> Plan {
        self.tallied(e, tally);
        let status = &mut self.status;
        status.state = State::Approved;
        status.release_by = release_by.map(|by| Time(whole_second(by)));
        status.message = message::cut(format!("approved; the release waits, the API server refused it: {refused}"));
        let text = "approved";
        let generation = o.request.generation;
        condition::set(&mut status.conditions, "Approved", ConditionStatus::True, "Approved", text, generation, o.now);
        let known = o.request.status.state == State::Approved;
        let note = Note { warning: true, reason: "ReleaseRefused".into(), message: self.status.message.clone() };
        self.written(o, e, (!known).then_some(note))
    }

    /// Sets how far the approval has come.
    pub(super) fn tallied(&mut self, e: &Evaluation, tally: &Tally) {
        if self.status.digest.is_none() {
            self.status.approvals = vec![];
            return;
        }
        self.status.approvals = tally.progress.clone();
        let required: i64 = e.outcome.approvals_required();
        let held: usize = tally.progress.iter().map(|p| p.approved_by.len()).sum();
        self.status.summary.get_or_insert_default().approvals = format!("{held}/{required}");
    }

    /// The writes for this status: a snapshot first where one is newly named, nothing where nothing changed.
    pub(super) fn written(self, o: &Observed<'_>, e: &Evaluation, note: Option<Note>) -> Plan {
        let mut steps = self.snapshot_step(e);
        if self.status != o.request.status {
            steps.push(Step::WriteStatus(Box::new(self.status)));
        }
        let note = note.filter(|_| !steps.is_empty());
        Plan { steps, next: None, note }
    }

    /// A snapshot is kept before any status names it.
    pub(super) fn snapshot_step(&self, e: &Evaluation) -> Vec<Step> {
        let new = self.binding == Binding::New && self.digest.is_some();
        e.snapshot.iter().filter(|_| new).map(|s| Step::KeepSnapshot(s.clone())).collect()
    }
}

/// What changed between the stored status and what is evaluated now.
fn difference(status: &ApprovalRequestStatus, e: &Evaluation) -> String {
    let mut parts = vec![];
    if status.policy_snapshot.is_some() && status.policy_snapshot != e.snapshot.as_ref().map(|s| s.hash.clone()) {
        parts.push("the policy outcome changed");
    }
    if status.job_hash.is_some() && status.job_hash != e.job.as_ref().map(|j| j.hash.clone()) {
        parts.push(match e.job.as_ref().map(|j| j.kind) {
            Some(TargetKind::Pod) => "the Pod changed",
            _ => "the Job changed",
        });
    }
    if status.inputs != e.inputs {
        parts.push("a ConfigMap or Secret that it reads changed");
    }
    let bounds = |t: &BoundTarget| Some(&t.bounds) != e.job.as_ref().map(|j| &j.bounds);
    if status.constraints != e.constraints || status.target.as_ref().is_some_and(bounds) {
        parts.push("the bounds changed");
    }
    if parts.is_empty() { "evaluated anew".into() } else { parts.join(", ") }
}

/// Writes what the evaluation found into the status.
pub(super) fn describe(status: &mut ApprovalRequestStatus, e: &Evaluation) {
    status.matches = e
        .outcome
        .matches
        .iter()
        .take(MOST_MATCHES)
        .map(|m| RuleMatch {
            policy: m.policy.to_string(),
            rule: m.rule.name.clone(),
            decision: m.rule.decision,
            reason: m.rule.reason.clone(),
        })
        .collect();
    status.scope = e.scope.clone();
    status.constraints = e.constraints.clone();
    status.inputs = e.inputs.iter().take(MAX_INPUTS).cloned().collect();
    if let Some(job) = &e.job {
        status.target =
            Some(BoundTarget { uid: job.uid.clone(), bounds: job.bounds.clone(), parties: job.parties.clone() });
    }
    // Hashes are named only where a digest binds them: by then the snapshot is kept.
    let bound = status.digest.is_some();
    status.policy_snapshot = e.snapshot.as_ref().filter(|_| bound).map(|s| s.hash.clone());
    status.job_hash = e.job.as_ref().filter(|_| bound).map(|j| j.hash.clone());
    status.denials = bound.then_some(e.outcome.denials);
    status.self_approval = bound.then_some(e.outcome.self_approval);
    let approvals = status.summary.take().map(|s| s.approvals).unwrap_or_default();
    status.summary = Some(Summary { risk: tags(e), rule: rules(&e.outcome), approvals });
}

/// A problem is over and what was shown still stands.
fn recover(status: &mut ApprovalRequestStatus, o: &Observed<'_>) {
    let broken = condition::find(&status.conditions, "Evaluated").is_none_or(|c| c.status != ConditionStatus::True);
    if broken {
        let text = "evaluated and bound";
        let generation = o.request.generation;
        condition::set(&mut status.conditions, "Evaluated", ConditionStatus::True, "Bound", text, generation, o.now);
    }
}

fn tags(e: &Evaluation) -> String {
    let tags: Vec<_> = e.scope.iter().filter(|s| s.source != TagSource::Unheld).map(|s| s.tag.as_str()).collect();
    shorten(tags.join(","))
}

/// The rules that carry the decision, by name.
fn rules(outcome: &Outcome) -> String {
    let deciding = outcome.matches.iter().filter(|m| Some(m.rule.decision) == outcome.decision);
    let names: Vec<_> = deciding.map(|m| m.rule.name.as_str()).collect();
    shorten(names.join(","))
}

fn shorten(text: String) -> String {
    match text.char_indices().nth(80) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

fn waiting(o: &Observed<'_>, status: &ApprovalRequestStatus, tally: &Tally) -> String {
    let rebound = condition::find(&status.conditions, "Evaluated").filter(|c| c.reason == "Rebound");
    let command = status.digest.as_deref().map(|digest| message::approve_command(o.request, digest));
    let parts = [rebound.map(|c| c.message.clone()), Some(message::not_counted(tally)), Some(message::missing(tally))];
    let text: Vec<_> = parts.into_iter().flatten().filter(|p| !p.is_empty()).collect();
    format!("{}: {}", text.join("; "), command.unwrap_or_default())
}

/// The API carries whole seconds: rounded up, so that nothing is said to end before it does.
fn whole_second(t: Timestamp) -> Timestamp {
    let up = i64::from(t.subsec_nanosecond() > 0);
    Timestamp::from_second(t.as_second() + up).unwrap_or(t)
}
