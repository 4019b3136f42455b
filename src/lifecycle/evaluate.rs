//! What policy says of a request and its target now.

use crate::api::status::{JobBounds, ScopeEntry, TagSource};
use crate::api::{BoundInput, Constraints, SelfApproval, Subject, TargetKind, TargetRef, policy::Decision};
use crate::binding::{BoundJob, InputState, Shown, Snapshot, bound, digest, job_hash};
use crate::lifecycle::plan::{Observed, Target, asked_for};
use crate::lifecycle::{
    Claim, Gate, Marks, NamespaceFacts, Surroundings, TargetFacts, bounds, obstacles, status, target_patch,
    unsatisfiable,
};
use crate::policy::{DerivedTag, Facts, Failure, Outcome, PolicySet, UNSEEN, classify, evaluate};
use crate::risk::Work;
use std::collections::BTreeSet;

/// Most entries of the scope that are shown.
const MOST_SCOPE: usize = 128;

/// Most failed rules that a message names.
const MOST_FAILED: usize = 3;

/// Why a request cannot go on for now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Problem {
    /// Reason of the condition `Evaluated`.
    pub reason: &'static str,
    /// For a person.
    pub message: String,
    /// Whether the outcome itself is another, so that what was shown before no longer stands.
    pub unbinds: bool,
}

/// The target as it would be released.
#[derive(Clone, Debug)]
pub(super) struct EvaluatedJob {
    pub kind: TargetKind,
    pub uid: String,
    pub hash: String,
    pub bounds: JobBounds,
    pub parties: Vec<String>,
}

/// What policy says, and what it says it about.
#[derive(Debug)]
pub(super) struct Evaluation {
    pub outcome: Outcome,
    pub scope: Vec<ScopeEntry>,
    /// What stands for all that its service account may do.
    pub rights: Option<String>,
    pub constraints: Constraints,
    pub snapshot: Option<Snapshot>,
    pub job: Option<EvaluatedJob>,
    pub inputs: Vec<BoundInput>,
    /// Who may not approve, even where self-approval is allowed.
    pub excluded: Vec<String>,
    /// Who may pass a freeze window, all windows together.
    pub passers: Vec<Subject>,
    pub problem: Option<Problem>,
}

impl Evaluation {
    pub(super) fn of(o: &Observed<'_>, namespace: &NamespaceFacts) -> Self {
        let spec = &o.request.spec;
        let requester = o.request.requester();
        let target = match &o.target {
            Target::Found(target, _) => Some(*target),
            _ => None,
        };
        let derived = derived_tags(o.policies, target, o.surroundings, namespace);
        let facts = Facts {
            requested_by: &spec.requested_by,
            declared_tags: &spec.risk_tags,
            claims: &o.request.ask,
            derived_tags: &derived,
            requester: &requester,
            namespace: &o.request.namespace,
            namespace_labels: &namespace.labels,
            object: match &o.target {
                Target::None => None,
                Target::Missing => Some(UNSEEN),
                Target::Found(target, _) => Some(&target.work.object),
            },
            asked: o.request.created,
        };
        let outcome = evaluate(o.policies, &facts);
        let constraints = outcome.constraints.tightest(&spec.constraints);
        let scope = scope(o, derived);
        // What an account may do is no matter where the target cannot act as it.
        let acting = target.is_some_and(|target| target.work.traits.has_token);
        let rights = o.surroundings.rights.fingerprint.clone().filter(|_| acting);
        let inputs = bound(o.inputs, namespace.gate == Gate::Enforce, &o.request.status.inputs);
        let excluded = excluded(&outcome, target.map(|target| &target.marks), namespace.gate);
        let passers = outcome.passers();
        let mut evaluation = Self {
            scope,
            rights,
            constraints,
            snapshot: None,
            job: None,
            inputs,
            excluded,
            passers,
            problem: None,
            outcome,
        };
        evaluation.problem =
            evaluation.bind(o, namespace.gate).err().or_else(|| evaluation.obstacle(o, namespace.gate));
        evaluation
    }

    /// Hashes outcome and target.
    fn bind(&mut self, o: &Observed<'_>, gate: Gate) -> Result<(), Problem> {
        // What policy says of a target that it has not seen is not the last word, whether it denies, allows or is silent.
        match &o.target {
            Target::Missing => {
                let text = missing(&o.request.namespace, o.request.spec.target.as_ref());
                return Err(problem("TargetMissing", text));
            }
            Target::Found(job, claim) if job.work.object == *UNSEEN => check_target(o, job, claim)?,
            _ => {}
        }
        if self.outcome.decision.is_none() {
            return Err(Problem { unbinds: true, ..problem("NoMatchingPolicy", unmatched(&self.outcome)) });
        }
        let unbindable = |what: &str, e: String| problem("Unbindable", format!("{what} cannot be hashed: {e}"));
        let snapshot = Snapshot::of(self.outcome.snapshot()).map_err(|e| unbindable("the policy", e.to_string()))?;
        self.snapshot = Some(snapshot);
        if let Target::Found(job, claim) = &o.target {
            check_target(o, job, claim)?;
            let work = job.work_hash.as_ref().map_err(|e| unbindable("the target", e.clone()))?;
            self.job = Some(EvaluatedJob {
                kind: job.kind,
                uid: job.uid.clone(),
                hash: job_hash(&job.uid, work).map_err(|e| unbindable("the target", e.to_string()))?,
                bounds: target_patch::bounded(job, &self.constraints),
                parties: job.marks.parties(&job.namespace, gate),
            });
        }
        Ok(())
    }

    /// What keeps even a bound request from going on.
    fn obstacle(&self, o: &Observed<'_>, gate: Gate) -> Option<Problem> {
        if o.request.spec.requester.as_ref().is_none_or(|r| r.username.is_empty()) {
            return Some(problem(
                "NoRequester",
                "no authenticated requester was stamped; create the request anew".into(),
            ));
        }
        if let Some(doubt) = self.outcome.doubts.first() {
            return Some(problem("PolicyNotReady", doubt.told()));
        }
        if let Some((reason, text)) = unsatisfiable(&self.outcome, &|person| self.barred(o, person)) {
            return Some(problem(reason, text));
        }
        if let Target::Found(target, _) = &o.target
            && let Some(text) = creator_unknown(&self.outcome, &target.marks, gate)
        {
            return Some(problem("CreatorUnknown", format!("{}: {text}", target.noun())));
        }
        if let Some(text) = bounds::too_many_limits(&self.constraints) {
            return Some(problem("TooManyLimits", text));
        }
        if let Some(text) = status::too_many_windows(&self.outcome) {
            return Some(problem("TooManyWindows", text));
        }
        if self.digest_at(o, 1).is_none() {
            return Some(problem("Unbindable", "what would be shown cannot be hashed; create the request anew".into()));
        }
        // Only there does a guard keep what is locked.
        if let Target::Found(target, _) = &o.target
            && let Some((reason, text)) =
                obstacles(&self.outcome, o.inputs, &target.reads.unpinned, gate == Gate::Enforce)
        {
            return Some(problem(reason, text));
        }
        None
    }

    /// Whether that person's approval does not count for this request.
    fn barred(&self, o: &Observed<'_>, person: &Subject) -> bool {
        let parties = self.job.as_ref().map_or(&[][..], |job| &job.parties);
        let requester = o.request.spec.requester.as_ref().map_or("", |r| &r.username);
        barred(person, self.outcome.self_approval, &self.excluded, requester, parties)
    }

    /// Why policy denies the request, if it does, whatever its target turns out to be: a rule that asks for one that has not
    /// been seen does not match.
    pub(super) fn denial(&self) -> Option<String> {
        let rule = self.outcome.matches.iter().find(|m| m.rule.decision == Decision::Deny)?;
        let reason = rule.rule.reason.as_deref().map(|r| format!(": {r}")).unwrap_or_default();
        Some(format!("denied by rule {}/{}{reason}", rule.policy, rule.rule.name))
    }

    /// The hash of the target as it would be released.
    pub(super) fn job_hash(&self) -> Option<String> {
        self.job.as_ref().map(|job| job.hash.clone())
    }

    /// The digest of what would be shown at a revision; none while there is nothing to bind to.
    pub(super) fn digest_at(&self, o: &Observed<'_>, revision: i64) -> Option<String> {
        if matches!(o.target, Target::None) == self.job.is_some() {
            return None;
        }
        let shown = Shown {
            uid: &o.request.uid,
            revision,
            ask: &o.request.ask,
            requester: &o.request.requester(),
            scope: &self.scope,
            rights: self.rights.as_deref(),
            constraints: &self.constraints,
            policy_snapshot: &self.snapshot.as_ref()?.hash,
            job: self.job.as_ref().map(|job| BoundJob { hash: &job.hash, bounds: &job.bounds, parties: &job.parties }),
            inputs: &self.inputs,
            excluded: &self.excluded,
        };
        digest(&shown).ok()
    }
}

/// Why nobody is excluded who should be, if so: the policy bars whoever made the target, and who that is nobody knows.
pub fn creator_unknown(outcome: &Outcome, target: &Marks, gate: Gate) -> Option<String> {
    let why = target.unknown_maker(gate).filter(|_| outcome.exclude_creator)?;
    Some(format!("policy excludes whoever made it, and {why}"))
}

/// Whether that person's approval does not count: is excluded, or asked for it or has a part in it where self-approval is forbidden.
pub fn barred(
    person: &Subject,
    self_approval: SelfApproval,
    excluded: &[String],
    requester: &str,
    parties: &[String],
) -> bool {
    let is = |username: &str| person.covers(username, &[]);
    let own = || is(requester) || parties.iter().any(|party| is(party));
    excluded.iter().any(|name| is(name)) || (self_approval == SelfApproval::Forbid && own())
}

/// Risk tags from what will run, and where.
pub(super) fn derived_tags(
    policies: &PolicySet,
    target: Option<&TargetFacts>,
    surroundings: &Surroundings,
    namespace: &NamespaceFacts,
) -> Vec<DerivedTag> {
    let work = target.map(|target| Work {
        traits: &target.work.traits,
        rights: &surroundings.rights,
        open_egress: surroundings.open_egress,
    });
    classify(policies, work.as_ref(), &namespace.labels)
}

/// Who may not approve, whatever is allowed otherwise: editors of policies, and who made the target with these marks. Sorted.
pub fn excluded(outcome: &Outcome, target: Option<&Marks>, gate: Gate) -> Vec<String> {
    let mut names: BTreeSet<String> = outcome.editors.iter().map(|editor| editor.to_string()).collect();
    names.extend(target.filter(|_| outcome.exclude_creator).into_iter().flat_map(|marks| marks.makers(gate)));
    names.into_iter().collect()
}

/// What it can touch: what the requester declares, what will run, and what that reads that nobody can hold still.
fn scope(o: &Observed<'_>, derived: Vec<DerivedTag>) -> Vec<ScopeEntry> {
    let entry =
        |tag: &str, source, detail| ScopeEntry { tag: tag.into(), source, detail, policy: None, advisory: false };
    let declared: BTreeSet<&String> = o.request.spec.risk_tags.iter().collect();
    let declared = declared.into_iter().map(|tag| entry(tag, TagSource::Declared, None));
    let derived = derived.into_iter().map(|derived| ScopeEntry {
        tag: derived.tag,
        source: TagSource::Derived,
        detail: Some(derived.detail),
        policy: derived.policy,
        advisory: derived.advisory,
    });
    let target = match &o.target {
        Target::Found(target, _) => target.reads.unheld.clone(),
        _ => vec![],
    };
    let unread = o.inputs.iter().filter(|(_, state)| *state == InputState::Unknown);
    let unread = unread.map(|(input, _)| {
        ("unread-input", format!("{} {}, which the operator may not read", input.kind.as_str(), input.name))
    });
    let unheld = target.into_iter().chain(unread).map(|(word, detail)| entry(word, TagSource::Unheld, Some(detail)));
    declared.chain(derived).chain(unheld).take(MOST_SCOPE).collect()
}

/// Why nothing covers a request: no rule does, and perhaps some would that failed.
fn unmatched(outcome: &Outcome) -> String {
    let text = "no policy has a rule for this request; it waits until one does";
    let named = |f: &Failure| format!("{}/{} ({})", f.rule.policy, f.rule.rule.name, f.error);
    let failed: Vec<_> = outcome.failures.iter().take(MOST_FAILED).map(named).collect();
    let more = outcome.failures.len() - failed.len();
    match (failed.is_empty(), more) {
        (true, _) => text.into(),
        (false, 0) => format!("{text}; rules whose expression failed: {}", failed.join(", ")),
        (false, more) => format!("{text}; rules whose expression failed: {} and {more} more", failed.join(", ")),
    }
}

fn missing(namespace: &str, target: Option<&TargetRef>) -> String {
    match target {
        Some(TargetRef { kind: TargetKind::Pod, name, .. }) => format!(
            "there is no held Pod {name} in namespace {namespace}; only Pods that a gated namespace holds are targeted"
        ),
        other => format!(
            "there is no Job {} in namespace {namespace}; create it with suspend: true (a request can only target a Job of its own namespace)",
            other.map_or("", |t| t.name.as_str())
        ),
    }
}

fn check_target(o: &Observed<'_>, job: &TargetFacts, claim: &Claim) -> Result<(), Problem> {
    let noun = job.noun();
    if !asked_for(o, job) {
        let text = format!("{noun} has uid {}, not the one that the request names", job.uid);
        return Err(problem("TargetReplaced", text));
    }
    match claim {
        Claim::Owner => {}
        Claim::Taken(by) => {
            return Err(problem("TargetTaken", format!("{by} already speaks for {noun}")));
        }
        Claim::Denied(by) => {
            let text = format!("{noun} was denied ({by}), which is final for it; create another to ask again");
            return Err(problem("TargetTaken", text));
        }
        Claim::Foreign(whose) => {
            let text = format!(
                "this request cannot speak for {noun}: {whose}; in a gated namespace only the creator's own request is taken"
            );
            return Err(problem("TargetForeign", text));
        }
    }
    if let Some((reason, text)) = beyond_release(job) {
        return Err(problem(reason, text));
    }
    Ok(())
}

/// Why a target cannot be started by us, if so: reason and text.
pub(super) fn beyond_release(job: &TargetFacts) -> Option<(&'static str, String)> {
    let noun = job.noun();
    if job.finished {
        return Some(("TargetFinished", format!("{noun} has finished already; create it anew{}", suspended(job))));
    }
    if !job.held {
        return Some(("TargetRunning", format!("{noun} is running already; create it anew{}", suspended(job))));
    }
    if job.started {
        let text = format!("{noun} has run before and was stopped; a stopped Job is not started again, create another");
        return Some(("TargetStarted", text));
    }
    job.marks.shared_with.as_ref().map(|hand| {
        let text = format!(
            "another controller starts and stops {noun} as well: {hand}; Countersign does not fight over suspend, so nothing is released until that is taken away"
        );
        ("TargetShared", text)
    })
}

fn suspended(job: &TargetFacts) -> &'static str {
    match job.kind {
        TargetKind::Job => " with suspend: true",
        TargetKind::Pod => "",
    }
}

fn problem(reason: &'static str, message: String) -> Problem {
    Problem { reason, message, unbinds: false }
}
