//! What all matching rules say together: a join, so that order never matters and more rules never mean less.

use crate::api::policy::{DEFAULT_PENDING_TIMEOUT_SECONDS, DEFAULT_RELEASE_TIMEOUT_SECONDS, Decision};
use crate::api::{Constraints, OnDenied, Rule, SelfApproval, Subject};
use crate::policy::CompiledRule;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The most people that one request can be made to wait for; as many as its `reviews` can hold.
pub const MAX_APPROVALS: i64 = 64;

/// A requirement after the join: keyed by its normalised approver set, with the highest count.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JoinedRequirement {
    /// The first name, in alphabetical order, that a rule gives it.
    pub name: String,
    /// How many distinct people.
    pub count: i32,
    /// Who counts: sorted, without duplicates.
    pub approvers: Vec<Subject>,
}

/// The effective outcome for one request.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The strictest decision of all matching rules; none where no rule matches.
    pub decision: Option<Decision>,
    /// Every rule that matched, by policy and rule name.
    pub matches: Vec<Arc<CompiledRule>>,
    /// What must be met, all of it, by distinct people.
    pub requirements: Vec<JoinedRequirement>,
    /// This many denials end it: the smallest that a rule says.
    pub denials: i32,
    /// Allow only where every matching RequireApproval rule grants it.
    pub self_approval: SelfApproval,
    /// The tightest bounds of all matching rules.
    pub constraints: Constraints,
    /// Whether a matching rule wants every input immutable and locked.
    pub require_immutable_inputs: bool,
    /// Whether a matching rule wants every image named by digest.
    pub require_image_digests: bool,
    /// What becomes of the held Job after an end without approval: Hold if a matching rule says so, else Delete if one
    /// says that; none where none says anything (see [`Outcome::after_denial`]).
    pub on_denied: Option<OnDenied>,
    /// The shortest that a rule of the winning decision says, in seconds.
    pub pending_timeout_seconds: i64,
    /// The shortest that a rule of the winning decision says, in seconds.
    pub release_timeout_seconds: i64,
    /// Policies that do not compile and might apply: (name, what is wrong). While there is one, nothing is approved.
    pub not_ready: Vec<(String, String)>,
}

impl Outcome {
    /// Joins what the matching rules say.
    pub(super) fn join(mut matches: Vec<Arc<CompiledRule>>, not_ready: Vec<(String, String)>) -> Self {
        matches.sort_by(|a, b| (&a.policy, &a.rule.name).cmp(&(&b.policy, &b.rule.name)));
        let rules = || matches.iter().map(|m| &m.rule);
        let decision = rules().map(|r| r.decision).max();
        let deciding = || rules().filter(|r| Some(r.decision) == decision);
        let approvals = || rules().filter_map(|r| r.approvals.as_ref());
        let granted = approvals().next().is_some() && approvals().all(|a| a.self_approval == SelfApproval::Allow);
        Self {
            decision,
            requirements: requirements(rules()),
            denials: approvals().map(|a| a.denials).min().unwrap_or(1),
            self_approval: if granted { SelfApproval::Allow } else { SelfApproval::Forbid },
            constraints: rules().fold(Constraints::default(), |all, r| all.tightest(&r.constraints)),
            require_immutable_inputs: rules().any(|r| r.require_immutable_inputs),
            require_image_digests: rules().any(|r| r.require_image_digests),
            on_denied: rules().filter_map(|r| r.on_denied).max(),
            pending_timeout_seconds: deciding()
                .map(|r| r.pending_timeout_seconds)
                .min()
                .unwrap_or(DEFAULT_PENDING_TIMEOUT_SECONDS),
            release_timeout_seconds: deciding()
                .map(|r| r.release_timeout_seconds)
                .min()
                .unwrap_or(DEFAULT_RELEASE_TIMEOUT_SECONDS),
            matches,
            not_ready,
        }
    }

    /// How many approvals all requirements take together.
    pub fn approvals_required(&self) -> i64 {
        self.requirements.iter().map(|r| i64::from(r.count)).sum()
    }

    /// What becomes of the held Job after an end without approval. A Job of a CronJob goes unless a rule wants it held: else
    /// it would stand in the way of every Job to come, where the schedule forbids two at a time.
    pub fn after_denial(&self, of_cron_job: bool) -> OnDenied {
        self.on_denied.unwrap_or(if of_cron_job { OnDenied::Delete } else { OnDenied::Hold })
    }

    /// The outcome as a document: what a policy snapshot holds. Rules stand in it as stored, in full.
    pub fn snapshot(&self) -> Value {
        let rules: Vec<Value> = self.matches.iter().map(|m| json!({"policy": &*m.policy, "rule": m.stored})).collect();
        let requirements: Vec<Value> = self
            .requirements
            .iter()
            .map(|r| json!({"name": r.name, "count": r.count, "approvers": r.approvers}))
            .collect();
        json!({
            "version": 1,
            "decision": self.decision,
            "rules": rules,
            "requirements": requirements,
            "denials": self.denials,
            "selfApproval": self.self_approval,
            "constraints": self.constraints,
            "requireImmutableInputs": self.require_immutable_inputs,
            "requireImageDigests": self.require_image_digests,
            "onDenied": self.on_denied,
            "pendingTimeoutSeconds": self.pending_timeout_seconds,
            "releaseTimeoutSeconds": self.release_timeout_seconds,
        })
    }
}

fn requirements<'a>(rules: impl Iterator<Item = &'a Rule>) -> Vec<JoinedRequirement> {
    let mut joined: BTreeMap<BTreeSet<&Subject>, (&str, i32)> = BTreeMap::new();
    for requirement in rules.filter_map(|r| r.approvals.as_ref()).flat_map(|a| &a.requirements) {
        let key = requirement.approvers.iter().collect();
        let slot = joined.entry(key).or_insert((&requirement.name, requirement.count));
        *slot = (slot.0.min(&requirement.name), slot.1.max(requirement.count));
    }
    let mut all: Vec<_> = joined
        .into_iter()
        .map(|(approvers, (name, count))| JoinedRequirement {
            name: name.into(),
            count,
            approvers: approvers.into_iter().cloned().collect(),
        })
        .collect();
    all.sort_by(|a, b| (&a.name, &a.approvers).cmp(&(&b.name, &b.approvers)));
    all
}
