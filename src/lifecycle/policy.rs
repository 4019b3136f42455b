//! The status of a policy: whether it is in force.

use crate::api::ApprovalPolicyStatus;
use crate::api::condition::{self, ConditionStatus};
use crate::lifecycle::message::cut;
use crate::policy::PolicyError;
use jiff::Timestamp;

/// What is known of a policy.
#[derive(Clone, Debug)]
pub struct PolicyFacts {
    /// Name.
    pub name: String,
    /// Resource version, as the API server wrote it.
    pub resource_version: String,
    /// The same as a number.
    pub version: i64,
    /// Generation of the spec.
    pub generation: Option<i64>,
    /// Content hash of the spec as stored.
    pub snapshot: Option<String>,
    /// Who last changed the spec, where admission stamped that.
    pub editor: Option<String>,
    /// Whether it compiles.
    pub compiled: Result<(), PolicyError>,
    /// The status as stored.
    pub status: ApprovalPolicyStatus,
}

/// The status to write for a policy, if it is not there yet. `Ready` stands first; `Reconciling` and `Stalled` are what kstatus
/// goes by, and with it Flux, Argo CD and `kubectl wait`.
pub fn plan_policy(policy: &PolicyFacts, now: Timestamp) -> Option<ApprovalPolicyStatus> {
    let mut status = policy.status.clone();
    status.observed_generation = policy.generation;
    status.snapshot = policy.snapshot.clone();
    for (type_, holds, reason, text) in judged(&policy.compiled) {
        let holds = if holds { ConditionStatus::True } else { ConditionStatus::False };
        condition::set(&mut status.conditions, type_, holds, reason, &text, policy.generation, now);
    }
    (status != policy.status).then_some(status)
}

/// Type, whether it holds, reason and text. A policy is compiled at one look, so nothing is ever still going on once it was
/// looked at: until then its generation is not the observed one.
fn judged(compiled: &Result<(), PolicyError>) -> [(&'static str, bool, &'static str, String); 3] {
    let done = |reason| ("Reconciling", false, reason, "nothing is left to do at this generation".to_string());
    match compiled {
        Ok(()) => [
            ("Ready", true, "Compiled", "in force".into()),
            done("Compiled"),
            ("Stalled", false, "Compiled", "it compiles".into()),
        ],
        Err(error) => {
            let text = cut(format!(
                "{error}; nothing it might cover is approved meanwhile. Correct it where it is kept, or delete it"
            ));
            [("Ready", false, "Invalid", text.clone()), done("Invalid"), ("Stalled", true, "Invalid", text)]
        }
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
