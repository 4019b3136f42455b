//! The status to write: composed from the stored one, so that equal facts give an equal status and no write.

use crate::api::condition::{self, ConditionStatus};
use crate::api::status::{BoundAt, BoundTarget, Freeze, RuleMatch, Summary, TagSource};
use crate::api::{ApprovalRequestStatus, State, TargetKind};
use crate::binding::{DIGEST_FORMAT, MAX_INPUTS};
use crate::lifecycle::evaluate::{Evaluation, Problem};
use crate::lifecycle::plan::{Binding, Grant, Note, Observed, Plan, Step, Target, seconds};
use crate::lifecycle::{Gate, bounds, end, message, release};
use crate::policy::{JoinedWindow, Outcome};
use crate::review::Tally;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::BTreeSet;

/// Most matches that are listed; the snapshot has them all.
const MOST_MATCHES: usize = 256;
/// Most freeze windows that are listed; the snapshot has them all.
pub(super) const MOST_FREEZES: usize = 32;
/// Most requirements that are listed; with more, nothing is approved.
const MOST_REQUIREMENTS: usize = 64;
/// Most people that are listed as excluded.
const MOST_EXCLUDED: usize = 64;
/// Longest word on an expression that failed.
const LONGEST_FAILURE: usize = 256;

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
        surroundings: match &o.target {
            Target::Found(..) => o.surroundings.version,
            _ => 0,
        },
    }
}

/// What a release waits for.
pub(super) struct Wait {
    /// When it can be tried, if that is known.
    pub until: Option<Timestamp>,
    /// When the approval expires.
    pub release_by: Option<Timestamp>,
    /// Whether the API server refused it.
    pub refused: bool,
    /// For a person.
    pub text: String,
}

/// The status being composed.
pub(super) struct Next {
    pub status: ApprovalRequestStatus,
    pub digest: Option<String>,
    pub pending_until: Timestamp,
    pub binding: Binding,
}

impl Next {
    /// Takes over what the evaluation found, and binds anew where what was shown no longer stands.
    pub(super) fn new(o: &Observed<'_>, e: &Evaluation, binding: Binding) -> Self {
        let mut status = o.request.status.clone();
        status.observed_generation = o.request.generation;
        let pending_until = pending_since(o) + seconds(e.outcome.pending_timeout_seconds);
        status.pending_until = Some(Time(whole_second(pending_until)));
        let was_bound = status.digest.is_some();
        if binding == Binding::New {
            let difference = difference(&status, e);
            let revision = status.revision + 1;
            status.digest = e.digest_at(o, revision).filter(|_| e.problem.is_none());
            if status.digest.is_some() {
                // What was out of sight for a while may have been anything.
                if revision > 1 && (status.job_hash != e.job_hash() || status.inputs != e.inputs) {
                    status.changed_at = Some(Time(whole_second(o.now)));
                }
                status.revision = revision;
                status.bound_at = Some(bound_at(o));
                status.bound_time = Some(Time(whole_second(o.now)));
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
            describe(&mut status, o, e);
        } else if e.problem.is_none() {
            describe(&mut status, o, e);
            recover(&mut status, o);
        } else if !was_bound {
            describe(&mut status, o, e);
        }
        if o.request.status.target.is_none() && status.target.is_some() {
            status.bound_at = Some(bound_at(o));
        }
        Self { digest: status.digest.clone(), status, pending_until, binding }
    }

    /// Starts the pending clock anew where people had approved in time what does not stand any more; where policy had
    /// allowed it, the clock goes on from where it stood. So no requester gains time by changing what is asked for, and no
    /// late approval takes the place of one that was withdrawn.
    pub(super) fn leave_approved(&mut self, o: &Observed<'_>, e: &Evaluation) {
        let before = &o.request.status;
        let allowed = condition::find(&before.conditions, "Approved").filter(|_| before.state == State::Approved);
        let since = match (&before.release_by, allowed) {
            (Some(_), _) if self.binding == Binding::New => o.now,
            (None, Some(allowed)) => pending_since(o) + o.now.duration_since(allowed.last_transition_time.0),
            _ => return,
        };
        let since = whole_second(since);
        self.pending_until = since + seconds(e.outcome.pending_timeout_seconds);
        self.status.pending_since = Some(Time(since));
        self.status.pending_until = Some(Time(self.pending_until));
    }

    /// While a problem holds up what was approved, the clock of its release is kept.
    pub(super) fn keep_clock(&mut self, grant: Option<Grant>) {
        self.status.release_by = grant.and_then(|grant| grant.release_by).map(|by| Time(whole_second(by)));
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
        status.waits_until = None;
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

    /// Approved or allowed, and the release waits.
    pub(super) fn approved(mut self, o: &Observed<'_>, e: &Evaluation, tally: &Tally, wait: Wait) -> Plan {
        self.tallied(e, tally);
        let (reason, text) = end::grounds(&tally.approvers, &[]);
        let status = &mut self.status;
        status.state = State::Approved;
        status.release_by = wait.release_by.map(|by| Time(whole_second(by)));
        status.waits_until = wait.until.map(|until| Time(whole_second(until)));
        status.message = message::cut(wait.text);
        let generation = o.request.generation;
        let told = message::cut(text);
        condition::set(&mut status.conditions, "Approved", ConditionStatus::True, reason, &told, generation, o.now);
        let before = &o.request.status;
        let known = before.state == State::Approved && before.waits_until == status.waits_until;
        let (warning, reason) = if wait.refused { (true, "ReleaseRefused") } else { (false, "ReleaseWaits") };
        let note = Note { warning, reason: reason.into(), message: self.status.message.clone() };
        self.written(o, e, (!known).then_some(note))
    }

    /// Sets how far the approval has come.
    pub(super) fn tallied(&mut self, e: &Evaluation, tally: &Tally) {
        if self.binding == Binding::Unseen {
            return;
        }
        for freeze in &mut self.status.freezes {
            freeze.passed_by = release::passer(&freeze.window.may_pass, tally).map(|who| who.username.clone());
        }
        if self.status.digest.is_none() {
            self.status.approvals = vec![];
            return;
        }
        self.status.approvals = tally.progress.iter().take(MOST_REQUIREMENTS).cloned().collect();
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
        Plan { steps, note, ..Plan::idle() }
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
    if status.job_hash.is_some() && status.job_hash != e.job_hash() {
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
    if status.scope != e.scope {
        parts.push("what it can touch changed");
    }
    if parts.is_empty() { "evaluated anew".into() } else { parts.join(", ") }
}

/// Writes what the evaluation found into the status.
pub(super) fn describe(status: &mut ApprovalRequestStatus, o: &Observed<'_>, e: &Evaluation) {
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
            failed: e.outcome.failure(m).map(|error| error.chars().take(LONGEST_FAILURE).collect()),
        })
        .collect();
    status.scope = e.scope.clone();
    status.constraints = bounds::listed(&e.constraints);
    let target = match &o.target {
        Target::Found(target, _) => Some(*target),
        _ => None,
    };
    let kind = o.request.spec.target.as_ref().map(|target| target.kind);
    let gate = o.namespace.map_or(Gate::Off, |namespace| namespace.gate);
    status.advisory = bounds::advisory(&e.constraints, kind, target, gate);
    status.not_before = release::not_before(o, status, e).map(Time);
    status.freezes = freezes(&e.outcome);
    status.inputs = e.inputs.iter().take(MAX_INPUTS).cloned().collect();
    if let Some(job) = &e.job {
        status.target =
            Some(BoundTarget { uid: job.uid.clone(), bounds: job.bounds.clone(), parties: job.parties.clone() });
    }
    // Hashes are named only where a digest binds them: by then the snapshot is kept.
    let bound = status.digest.is_some();
    status.policy_snapshot = e.snapshot.as_ref().filter(|_| bound).map(|s| s.hash.clone());
    status.job_hash = e.job_hash().filter(|_| bound);
    status.denials = bound.then_some(e.outcome.denials);
    status.self_approval = bound.then_some(e.outcome.self_approval);
    // Beyond what can be listed, they are refused when reviews are counted.
    status.excluded = e.excluded.iter().take(MOST_EXCLUDED).cloned().collect();
    status.require_comment = e.outcome.require_comment;
    let approvals = status.summary.take().map(|s| s.approvals).unwrap_or_default();
    status.summary = Some(Summary { risk: tags(e), rule: rules(&e.outcome), approvals });
}

/// The windows that are listed. Admission reads here who may pass one, so that those come first that name somebody new where
/// not all can be listed.
fn listed(outcome: &Outcome) -> Vec<&JoinedWindow> {
    let all = outcome.windows.iter();
    if outcome.windows.len() <= MOST_FREEZES {
        return all.collect();
    }
    let mut named = BTreeSet::new();
    let (first, rest): (Vec<_>, Vec<_>) =
        all.partition(|w| w.window().may_pass.iter().filter(|who| named.insert(*who)).count() > 0);
    first.into_iter().chain(rest).take(MOST_FREEZES).collect()
}

/// Why not everybody who may pass a freeze window can be listed, if so: nobody else could.
pub(super) fn too_many_windows(outcome: &Outcome) -> Option<String> {
    let named: BTreeSet<_> = listed(outcome).into_iter().flat_map(|w| &w.window().may_pass).collect();
    let n = outcome.windows.len();
    outcome.passers().iter().any(|who| !named.contains(who)).then(|| {
        format!(
            "the matching rules have {n} freeze windows together, and of at most {MOST_FREEZES} it can be listed who may pass them (mayPass); the platform team merges some, or names the same people for them"
        )
    })
}

fn freezes(outcome: &Outcome) -> Vec<Freeze> {
    let listed = listed(outcome).into_iter().map(|joined| Freeze {
        policy: joined.rule.policy.to_string(),
        rule: joined.rule.rule.name.clone(),
        window: joined.window().clone(),
        passed_by: None,
    });
    listed.collect()
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
    // Declared or derived, or both: each once, in the order of the scope.
    let mut seen = BTreeSet::new();
    let tags = e.scope.iter().filter(|s| s.source != TagSource::Unheld && seen.insert(&s.tag));
    shorten(tags.map(|s| s.tag.as_str()).collect::<Vec<_>>().join(","))
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
    let command =
        status.digest.as_deref().map(|digest| message::approve_command(o.request, digest, status.require_comment));
    let parts = [rebound.map(|c| c.message.clone()), Some(message::not_counted(tally)), Some(message::missing(tally))];
    let text: Vec<_> = parts.into_iter().flatten().filter(|p| !p.is_empty()).collect();
    format!("{}: {}", text.join("; "), command.unwrap_or_default())
}

/// Since when the pending clock runs.
fn pending_since(o: &Observed<'_>) -> Timestamp {
    o.request.status.pending_since.as_ref().map_or(o.request.created, |since| since.0)
}

/// The API carries whole seconds: rounded up, so that nothing is said to end before it does.
pub(super) fn whole_second(t: Timestamp) -> Timestamp {
    let up = i64::from(t.subsec_nanosecond() > 0);
    Timestamp::from_second(t.as_second() + up).unwrap_or(t)
}
