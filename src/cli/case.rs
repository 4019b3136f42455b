//! One request as policy sees it, put together from stored objects by the functions that the operator runs.

use crate::api::{Requester, TargetKind, names};
use crate::binding::images_without_digest;
use crate::lifecycle::{Gate, HeldWork, Marks, RequestFacts};
use crate::policy::{DerivedTag, Facts, PolicySet, UNSEEN, classify};
use crate::risk::{Grants, NetworkPolicies, RbacKind, Work};
use jiff::Timestamp;
use kube::core::DynamicObject;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Label that the API server puts on every namespace.
pub const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// A request, and what will run.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its namespace.
    pub namespace: String,
    /// Labels of its namespace.
    pub labels: BTreeMap<String, String>,
    /// Who asks.
    pub requester: Requester,
    /// The workflow's name, a claim.
    pub requested_by: String,
    /// Declared risk tags.
    pub declared: Vec<String>,
    /// All that is asked, as the spec of a request has it.
    pub claims: Value,
    /// What will run.
    pub target: Option<CaseTarget>,
    /// When it was asked.
    pub asked: Timestamp,
}

/// A Job or Pod.
#[derive(Clone, Debug)]
pub struct CaseTarget {
    /// What it will run.
    pub work: Arc<HeldWork>,
    /// Whose it is.
    pub marks: Marks,
    /// Images that are not named by digest.
    pub unpinned: Vec<String>,
}

/// What stands around all Jobs and Pods of a cluster.
#[derive(Debug, Default)]
pub struct World {
    /// Roles and bindings.
    pub grants: Grants,
    /// NetworkPolicies.
    pub network_policies: NetworkPolicies,
}

impl CaseTarget {
    /// Of a Job or Pod as stored, held or not.
    pub fn of(kind: TargetKind, object: &DynamicObject) -> Self {
        let spec = object.data.get("spec");
        let pod = match kind {
            TargetKind::Job => spec.and_then(|spec| spec.pointer("/template/spec")),
            TargetKind::Pod => spec,
        };
        Self {
            work: HeldWork::stored(kind, object),
            marks: Marks::read(object, pod),
            unpinned: pod.map(images_without_digest).unwrap_or_default(),
        }
    }
}

impl World {
    /// Takes in an object of that kind, where it is a role, a binding or a NetworkPolicy; returns whether it was one.
    pub fn take(&mut self, kind: &str, object: &DynamicObject) -> bool {
        match rbac_kind(kind) {
            Some(kind) => self.grants.set(kind, object),
            None if kind == "NetworkPolicy" => self.network_policies.set(object),
            None => return false,
        };
        true
    }
}

fn rbac_kind(kind: &str) -> Option<RbacKind> {
    Some(match kind {
        "Role" => RbacKind::Role,
        "ClusterRole" => RbacKind::ClusterRole,
        "RoleBinding" => RbacKind::RoleBinding,
        "ClusterRoleBinding" => RbacKind::ClusterRoleBinding,
        _ => return None,
    })
}

impl Case {
    /// A stored request.
    pub fn of(request: &RequestFacts, labels: BTreeMap<String, String>, target: Option<CaseTarget>) -> Self {
        Self {
            namespace: request.namespace.clone(),
            labels,
            requester: request.requester(),
            requested_by: request.spec.requested_by.clone(),
            declared: request.spec.risk_tags.clone(),
            claims: request.ask.clone(),
            target,
            asked: request.created,
        }
    }

    /// The tags that classifiers derive.
    pub fn derived(&self, policies: &PolicySet, world: &World) -> Vec<DerivedTag> {
        let Some(target) = &self.target else { return classify(policies, None, &self.labels) };
        let traits = &target.work.traits;
        let rights = world.grants.rights(&self.namespace, &traits.service_account);
        let open_egress = world.network_policies.open_egress(&self.namespace, &target.work.pod_labels);
        classify(policies, Some(&Work { traits, rights: &rights, open_egress }), &self.labels)
    }

    /// The facts, with these derived tags.
    pub fn facts<'a>(&'a self, derived: &'a [DerivedTag]) -> Facts<'a> {
        Facts {
            requested_by: &self.requested_by,
            declared_tags: &self.declared,
            claims: &self.claims,
            derived_tags: derived,
            requester: &self.requester,
            namespace: &self.namespace,
            namespace_labels: &self.labels,
            object: match &self.target {
                Some(target) => Some(&target.work.object),
                None => self.claims.get("target").filter(|target| !target.is_null()).map(|_| UNSEEN),
            },
            asked: self.asked,
        }
    }

    /// Who has a part in what runs.
    pub fn parties(&self) -> Vec<String> {
        self.target.as_ref().map(|target| target.marks.parties(&self.namespace, self.gate())).unwrap_or_default()
    }

    /// How far its namespace is gated, for an operator in its default place.
    pub fn gate(&self) -> Gate {
        Gate::of(&self.namespace, &self.labels, names::DEFAULT_NAMESPACE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_target_that_is_not_there_is_unseen_as_it_is_for_the_operator() {
        let mut case = Case {
            namespace: "payments".into(),
            labels: BTreeMap::new(),
            requester: Requester::default(),
            requested_by: String::new(),
            declared: vec![],
            claims: json!({"runID": "r"}),
            target: None,
            asked: Timestamp::UNIX_EPOCH,
        };
        assert_eq!(case.facts(&[]).object, None, "it is to be none");
        case.claims["target"] = json!({"kind": "Job", "name": "job"});
        assert_eq!(case.facts(&[]).object, Some(UNSEEN));
        case.target = Some(CaseTarget {
            work: Arc::new(HeldWork { object: json!({"kind": "Job"}), ..HeldWork::default() }),
            marks: Marks::default(),
            unpinned: vec![],
        });
        assert_eq!(case.facts(&[]).object, Some(&json!({"kind": "Job"})));
    }
}
