//! Policies, and whom a change of one concerns: what is in namespaces that it selects.

use crate::api::names;
use crate::binding::sha256;
use crate::controller::index::state::{Compiled, State};
use crate::controller::index::{Index, Key};
use crate::lifecycle::{PolicyFacts, version};
use crate::policy::{PolicySet, compile};
use kube::core::DynamicObject;
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

impl Index {
    /// What is known of one policy.
    pub fn policy(&self, name: &str) -> Option<Arc<PolicyFacts>> {
        self.read().policies.get(name).cloned()
    }

    /// A policy arrived. Returns what to look at.
    pub fn set_policy(&self, object: &DynamicObject) -> Vec<Key> {
        let name = object.metadata.name.clone().unwrap_or_default();
        let null = Value::Null;
        let spec = object.data.get("spec").unwrap_or(&null);
        let editor = object.metadata.annotations.as_ref().and_then(|a| a.get(names::EDITED_BY));
        let compiled = compile(&name, spec, editor.map(String::as_str));
        let snapshot = sha256(spec).ok();
        let mut state = self.write();
        let before = state.policies.get(&name).cloned();
        if before.as_ref().is_some_and(|b| b.version >= version(&object.metadata)) {
            return vec![];
        }
        let facts = PolicyFacts {
            name: name.clone(),
            resource_version: object.metadata.resource_version.clone().unwrap_or_default(),
            version: version(&object.metadata),
            generation: object.metadata.generation,
            snapshot,
            editor: editor.cloned(),
            compiled: compiled.as_ref().map(|_| ()).map_err(|broken| broken.error.clone()),
            status: object.data.get("status").and_then(|s| serde_json::from_value(s.clone()).ok()).unwrap_or_default(),
        };
        let mut keys = vec![Key::Policy(name.clone())];
        keys.extend(state.policies_at(facts.version));
        let same =
            before.is_some_and(|b| b.snapshot.is_some() && b.snapshot == facts.snapshot && b.editor == facts.editor);
        state.policies.insert(name.clone(), Arc::new(facts));
        if !same {
            keys.extend(state.replace_policy(&name, Some(compiled.map(Arc::new).map_err(Arc::from))));
        }
        keys
    }

    /// A policy is gone. Returns what to look at.
    pub fn remove_policy(&self, name: &str, at: i64) -> Vec<Key> {
        let mut state = self.write();
        let mut keys = state.policies_at(at);
        state.policies.remove(name);
        keys.extend(state.replace_policy(name, None));
        keys
    }

    /// Policies are known up to that resource version. Returns what to look at.
    pub fn policies_at(&self, version: i64) -> Vec<Key> {
        self.write().policies_at(version)
    }
}

impl State {
    /// Policies are known up to that version. Returns what may have waited for it: everything, where another operator bound
    /// something from a newer view than this one, which is rare. What was bound from a newer view is not bound anew from an older.
    fn policies_at(&mut self, version: i64) -> Vec<Key> {
        let behind = self.policies_version < self.policies_bound.min(version);
        self.policies_version = self.policies_version.max(version);
        if behind { self.unfinished(|_| true) } else { vec![] }
    }

    /// Keeps a policy in place of that name, or none. Returns what it concerns.
    fn replace_policy(&mut self, name: &str, now: Option<Compiled>) -> Vec<Key> {
        let before = match &now {
            Some(now) => self.compiled.insert(name.into(), now.clone()),
            None => self.compiled.remove(name),
        };
        self.rebuild_policies();
        self.selected_by(&[before.as_ref(), now.as_ref()])
    }

    /// What is unfinished or held in a namespace that one of these selects. A namespace that is not known may be any.
    fn selected_by(&self, policies: &[Option<&Compiled>]) -> Vec<Key> {
        let selects = |labels: &BTreeMap<String, String>| {
            policies.iter().flatten().any(|policy| match policy {
                Ok(ready) => ready.applies(labels),
                Err(broken) => broken.might_apply(labels),
            })
        };
        let others = self.namespaces.iter().filter(|(_, namespace)| !selects(&namespace.labels));
        let others: HashSet<&str> = others.map(|(name, _)| name.as_str()).collect();
        let mut keys = self.unfinished(|request| !others.contains(request.0.as_str()));
        keys.extend(self.gated(|namespace| !others.contains(namespace)));
        keys
    }

    fn rebuild_policies(&mut self) {
        let ready = self.compiled.values().filter_map(|c| c.as_ref().ok().cloned()).collect();
        let broken = self.compiled.values().filter_map(|c| c.as_ref().err().cloned()).collect();
        self.policy_set = Arc::new(PolicySet { ready, broken });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::TargetKind;
    use crate::binding::Keyring;
    use crate::lifecycle::Cluster;
    use serde_json::json;
    use std::collections::BTreeSet;

    /// An index with a pending request in each of the namespaces `a` and `b`, which are labelled by their names and gated, and `c`,
    /// which is not known; and a Job that is held in `a` and in `b`.
    fn index() -> Index {
        let key = Arc::new(Keyring::from_seed(&[7; 32]).unwrap());
        let index = Index::new(key, "home".into(), false, Cluster::default());
        index.set_complete();
        for name in ["a", "b"] {
            index.set_namespace(&object(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name,
                "resourceVersion": "1", "labels": {"name": name, names::GATE: "enforce"}}})));
            let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job", "namespace": name, "uid": name,
                "resourceVersion": "2", "annotations": {names::CREATED_BY: "alice"}}, "spec": {"suspend": true}});
            index.set_target(TargetKind::Job, object(job));
        }
        ["a", "b", "c"].into_iter().for_each(|namespace| bound_from(&index, namespace, 3, 0));
        index
    }

    /// The request in that namespace as some operator bound it from policies of that version.
    fn bound_from(index: &Index, namespace: &str, version: i64, policies: i64) {
        index.set_request(object(json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "ApprovalRequest",
            "metadata": {"name": "run", "namespace": namespace, "uid": format!("of-{namespace}"),
                "resourceVersion": version.to_string(), "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"runID": "r", "stepID": "s", "requestedBy": "w", "reason": "why"},
            "status": {"state": "Pending", "boundAt": {"policies": policies}}})));
    }

    fn object(object: Value) -> DynamicObject {
        serde_json::from_value(object).unwrap()
    }

    /// The policy that selects namespaces with these names, or every one.
    fn policy(version: i64, names: Option<&[&str]>, decision: &str) -> DynamicObject {
        let selector =
            names.map(|names| json!({"matchExpressions": [{"key": "name", "operator": "In", "values": names}]}));
        let spec = json!({"rules": [{"name": "r", "decision": decision}]});
        let mut policy = object(json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "ApprovalPolicy",
            "metadata": {"name": "p", "resourceVersion": version.to_string()}, "spec": spec}));
        if let Some(selector) = selector {
            policy.data["spec"]["match"] = json!({"namespaceSelector": selector});
        }
        policy
    }

    /// The namespaces of the requests and of the Jobs among the keys.
    fn namespaces(keys: Vec<Key>) -> (String, String) {
        let keys: BTreeSet<Key> = keys.into_iter().collect();
        let requests = keys.iter().filter_map(|key| match key {
            Key::Request(namespace, _) => Some(namespace.as_str()),
            _ => None,
        });
        let targets = keys.iter().filter_map(|key| match key {
            Key::Target(namespace, ..) => Some(namespace.as_str()),
            _ => None,
        });
        (requests.collect(), targets.collect())
    }

    #[test]
    fn a_policy_concerns_what_it_selects_or_selected() {
        let index = index();
        let all = || ("abc".to_string(), "ab".to_string());
        let set = |policy: DynamicObject| namespaces(index.set_policy(&policy));
        assert_eq!(set(policy(10, Some(&["a"]), "Allow")), ("ac".into(), "a".into()), "what is not known may be any");
        assert_eq!(set(policy(11, Some(&["a"]), "Deny")), ("ac".into(), "a".into()));
        assert_eq!(set(policy(12, Some(&["b"]), "Deny")), all(), "it did select the one, and does the other");
        assert_eq!(set(policy(13, Some(&["elsewhere"]), "Deny")), ("bc".into(), "b".into()));
        assert_eq!(set(policy(14, None, "Deny")), all());
        assert_eq!(namespaces(index.remove_policy("p", 15)), all());
        assert_eq!(namespaces(index.remove_policy("p", 16)), ("c".into(), String::new()), "there was none");
    }

    #[test]
    fn a_policy_that_does_not_compile_concerns_what_it_might_select() {
        let index = index();
        let set = |policy: DynamicObject| namespaces(index.set_policy(&policy));
        assert_eq!(set(policy(10, Some(&["b"]), "Perhaps")), ("bc".into(), "b".into()));
        let mut unreadable = policy(11, Some(&["b"]), "Perhaps");
        unreadable.data["spec"]["match"] = json!({"namespaceSelector": "b"});
        assert_eq!(set(unreadable), ("abc".into(), "ab".into()), "nobody can tell what it selects");
        assert_eq!(set(policy(12, Some(&["a"]), "Allow")), ("abc".into(), "ab".into()));
    }

    #[test]
    fn what_was_bound_from_newer_policies_is_looked_at_once_these_are_known() {
        let index = index();
        bound_from(&index, "b", 30, 25);
        let set = |policy: DynamicObject| namespaces(index.set_policy(&policy)).0;
        assert_eq!(set(policy(20, Some(&["a"]), "Allow")), "abc", "it may not be all that was seen");
        assert_eq!(set(policy(25, Some(&["a"]), "Deny")), "abc");
        assert_eq!(set(policy(26, Some(&["a"]), "Allow")), "ac", "this view is as new as any");
        bound_from(&index, "b", 50, 40);
        assert_eq!(namespaces(index.policies_at(45)).0, "abc", "a bookmark tells it as well");
        assert_eq!(namespaces(index.policies_at(46)).0, "");
    }
}
