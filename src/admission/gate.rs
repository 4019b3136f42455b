//! What verdicts need to know beside the object: an outlook on the operator's caches, and never a question to the network.

use crate::lifecycle::Surroundings;
use crate::policy::PolicySet;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The operator's caches as admission sees them. Every answer comes from memory.
pub trait GateView: Send + Sync {
    /// Every policy, compiled; none until all of them have been read once.
    fn policies(&self) -> Option<Arc<PolicySet>>;

    /// The labels of a namespace; none where it is not known (yet).
    fn namespace(&self, name: &str) -> Option<Arc<BTreeMap<String, String>>>;

    /// What stands around a Pod with these labels that runs as that service account.
    fn surroundings(
        &self,
        namespace: &str,
        service_account: &str,
        pod_labels: &BTreeMap<String, String>,
    ) -> Surroundings;

    /// The request that speaks for a Job and the request's state, if there is one: it explains why the Job is held.
    fn speaks_for(&self, namespace: &str, job: &str) -> Option<(String, String)>;
}
