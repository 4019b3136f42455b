//! What policy says of a request and its target now.

use crate::api::status::{JobBounds, ScopeEntry, TagSource};
use crate::api::{Constraints, policy::Decision};
use crate::binding::{BoundJob, Shown, Snapshot, digest, job_hash};
use crate::lifecycle::plan::{Observed, Target, asked_for};
use crate::lifecycle::{Claim, JobFacts, NamespaceFacts, job_patch};
use crate::policy::{Facts, Outcome, evaluate};
use std::collections::BTreeSet;

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
    pub uid: String,
    pub hash: String,
    pub bounds: JobBounds,
}

/// What policy says, and what it says it about.
#[derive(Debug)]
pub(super) struct Evaluation {
    pub outcome: Outcome,
    pub scope: Vec<ScopeEntry>,
    pub constraints: Constraints,
    pub snapshot: Option<Snapshot>,
    pub job: Option<EvaluatedJob>,
    pub problem: Option<Problem>,
}

impl Evaluation {
    pub(super) fn of(o: &Observed<'_>, namespace: &NamespaceFacts) -> Self {
        let spec = &o.request.spec;
        let requester = o.request.requester();
        let facts = Facts {
            requested_by: &spec.requested_by,
            declared_tags: &spec.risk_tags,
            derived_tags: &[],
            requester: &requester,
            namespace_labels: &namespace.labels,
        };
        let outcome = evaluate(o.policies, &facts);
        let constraints = outcome.constraints.tightest(&spec.constraints);
        let declared: BTreeSet<&String> = spec.risk_tags.iter().collect();
        let scope = declared
            .into_iter()
            .map(|tag| ScopeEntry { tag: tag.clone(), source: TagSource::Declared, detail: None })
            .collect();
        let mut evaluation = Self { scope, constraints, snapshot: None, job: None, problem: None, outcome };
        evaluation.problem = evaluation.bind(o).err().or_else(|| evaluation.obstacle(o));
        evaluation
    }

    /// Hashes outcome and target.
    fn bind(&mut self, o: &Observed<'_>) -> Result<(), Problem> {
        if self.outcome.decision.is_none() {
            return Err(Problem {
                unbinds: true,
                ..problem("NoMatchingPolicy", "no policy has a rule for this request; it waits until one does".into())
            });
        }
        let unbindable = |what: &str, e: String| problem("Unbindable", format!("{what} cannot be hashed: {e}"));
        let snapshot = Snapshot::of(self.outcome.snapshot()).map_err(|e| unbindable("the policy", e.to_string()))?;
        self.snapshot = Some(snapshot);
        if let Target::Job(job, claim) = &o.target {
            check_target(o, job, claim)?;
            let work = job.work_hash.as_ref().map_err(|e| unbindable("the Job", e.clone()))?;
            self.job = Some(EvaluatedJob {
                uid: job.uid.clone(),
                hash: job_hash(&job.uid, work).map_err(|e| unbindable("the Job", e.to_string()))?,
                bounds: job_patch::bounded(&job.bounds, &self.constraints),
            });
        }
        Ok(())
    }

    /// What keeps even a bound request from going on.
    fn obstacle(&self, o: &Observed<'_>) -> Option<Problem> {
        if o.request.spec.requester.as_ref().is_none_or(|r| r.username.is_empty()) {
            return Some(problem(
                "NoRequester",
                "no authenticated requester was stamped; create the request anew".into(),
            ));
        }
        if let Some((name, error)) = self.outcome.not_ready.first() {
            let text = format!("policy {name} does not compile and might apply, so nothing is approved: {error}");
            return Some(problem("PolicyNotReady", text));
        }
        if self.outcome.approvals_required() > crate::policy::MAX_APPROVALS {
            let n = self.outcome.approvals_required();
            let text = format!("the matching rules ask for {n} approvals together; at most 64 can be recorded");
            return Some(problem("Unsatisfiable", text));
        }
        if !matches!(o.target, Target::Missing) && self.digest_at(o, 1).is_none() {
            return Some(problem("Unbindable", "what would be shown cannot be hashed; create the request anew".into()));
        }
        match &o.target {
            Target::Missing => {
                let name = o.request.spec.target.as_ref().map_or("", |t| t.name.as_str());
                let text = format!(
                    "there is no Job {name} in namespace {}; create it with suspend: true (a request can only target a Job of its own namespace)",
                    o.request.namespace
                );
                Some(problem("TargetMissing", text))
            }
            _ => None,
        }
    }

    /// Why policy denies the request, if it does.
    pub(super) fn denial(&self) -> Option<String> {
        let rule = self.outcome.matches.iter().find(|m| m.rule.decision == Decision::Deny)?;
        let reason = rule.rule.reason.as_deref().map(|r| format!(": {r}")).unwrap_or_default();
        Some(format!("denied by rule {}/{}{reason}", rule.policy, rule.rule.name))
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
            constraints: &self.constraints,
            policy_snapshot: &self.snapshot.as_ref()?.hash,
            job: self.job.as_ref().map(|job| BoundJob { hash: &job.hash, bounds: &job.bounds }),
        };
        digest(&shown).ok()
    }
}

fn check_target(o: &Observed<'_>, job: &JobFacts, claim: &Claim) -> Result<(), Problem> {
    let name = &job.name;
    if !asked_for(o, job) {
        let text = format!("Job {name} has uid {}, not the one that the request names", job.uid);
        return Err(problem("TargetReplaced", text));
    }
    match claim {
        Claim::Owner => {}
        Claim::Taken(by) => {
            return Err(problem("TargetTaken", format!("request {by} already speaks for Job {name}")));
        }
        Claim::Denied(by) => {
            let text = format!("Job {name} was denied ({by}), which is final for it; create another Job to ask again");
            return Err(problem("TargetTaken", text));
        }
    }
    if job.finished {
        return Err(problem(
            "TargetFinished",
            format!("Job {name} has finished already; create it with suspend: true"),
        ));
    }
    if !job.suspended {
        return Err(problem("TargetRunning", format!("Job {name} is running already; create it with suspend: true")));
    }
    if job.started {
        let text =
            format!("Job {name} has run before and was stopped; a stopped Job is not started again, create another");
        return Err(problem("TargetStarted", text));
    }
    Ok(())
}

fn problem(reason: &'static str, message: String) -> Problem {
    Problem { reason, message, unbinds: false }
}
