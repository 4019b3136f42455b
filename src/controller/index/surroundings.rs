//! What stands around a Job or Pod: what its service account may do, and how far its network reaches.

use crate::controller::index::outline::TargetOutline;
use crate::controller::index::state::{At, State};
use crate::controller::index::{Index, Key};
use crate::lifecycle::{Surroundings, TargetFacts, version};
use crate::risk::RbacKind;
use kube::core::DynamicObject;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Index {
    /// A role or binding arrived. Returns what to look at: what is held and runs as an account whose rights may have changed.
    pub fn set_rbac(&self, kind: RbacKind, object: &DynamicObject) -> Vec<Key> {
        let mut state = self.write();
        state.surroundings_at(version(&object.metadata));
        state.grants.set(kind, object);
        self.touched(&mut state)
    }

    /// A role or binding is gone, as of that resource version. Returns what to look at.
    pub fn remove_rbac(&self, kind: RbacKind, namespace: &str, name: &str, version: i64) -> Vec<Key> {
        let mut state = self.write();
        state.surroundings_at(version);
        state.grants.remove(kind, namespace, name);
        self.touched(&mut state)
    }

    fn touched(&self, state: &mut State) -> Vec<Key> {
        let touched = state.grants.take_touched();
        // Until everything is known nothing is decided, and then all that is open is looked at.
        if touched.is_empty() || !self.is_complete() {
            return vec![];
        }
        state.held(|at, target| touched.concerns(&at.0, target.service_account.as_deref().unwrap_or_default()))
    }

    /// A NetworkPolicy arrived. Returns what to look at: what is held in its namespace.
    pub fn set_network_policy(&self, object: &DynamicObject) -> Vec<Key> {
        let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
        let mut state = self.write();
        state.surroundings_at(version(&object.metadata));
        match state.network_policies.set(object) && self.is_complete() {
            true => state.held(|at, _| at.0 == namespace),
            false => vec![],
        }
    }

    /// A NetworkPolicy is gone, as of that resource version. Returns what to look at.
    pub fn remove_network_policy(&self, namespace: &str, name: &str, version: i64) -> Vec<Key> {
        let mut state = self.write();
        state.surroundings_at(version);
        match state.network_policies.remove(namespace, name) && self.is_complete() {
            true => state.held(|at, _| at.0 == namespace),
            false => vec![],
        }
    }

    /// Roles, bindings or NetworkPolicies were listed, as of that resource version.
    pub fn surroundings_at(&self, version: i64) {
        self.write().surroundings_at(version);
    }
}

impl State {
    fn surroundings_at(&mut self, version: i64) {
        self.surroundings_version = self.surroundings_version.max(version);
    }

    /// What stands around a target.
    pub fn surroundings_of(&self, target: &TargetFacts) -> Surroundings {
        self.surroundings(&target.namespace, &target.work.traits.service_account, &target.work.pod_labels)
    }

    /// What stands around a Pod with these labels that runs as that service account.
    pub fn surroundings(
        &self,
        namespace: &str,
        service_account: &str,
        pod_labels: &BTreeMap<String, String>,
    ) -> Surroundings {
        Surroundings {
            rights: Arc::new(self.grants.rights(namespace, service_account)),
            open_egress: self.network_policies.open_egress(namespace, pod_labels),
            version: self.surroundings_version,
        }
    }

    /// Unfinished requests that target what is held and wanted, and that itself where the gate has to decide about it.
    fn held(&self, wanted: impl Fn(&At, &TargetOutline) -> bool) -> Vec<Key> {
        let found = self.targets.iter().filter(|(at, target)| {
            let target = &target.outline;
            target.held && !target.finished && wanted(at, target)
        });
        found.flat_map(|(at, _)| self.waiting_for(at)).collect()
    }
}
