//! The status of a policy: whether it is in force.

use crate::api::ApprovalPolicyStatus;
use crate::api::condition::{self, ConditionStatus};
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

/// The status to write for a policy, if it is not there yet.
pub fn plan_policy(policy: &PolicyFacts, now: Timestamp) -> Option<ApprovalPolicyStatus> {
    let mut status = policy.status.clone();
    status.observed_generation = policy.generation;
    status.snapshot = policy.snapshot.clone();
    let (ready, reason, text) = match &policy.compiled {
        Ok(()) => (ConditionStatus::True, "Compiled", "in force".to_string()),
        Err(e) => (ConditionStatus::False, "Invalid", format!("{e}; nothing it might cover is approved meanwhile")),
    };
    condition::set(&mut status.conditions, "Ready", ready, reason, &text, policy.generation, now);
    (status != policy.status).then_some(status)
}
