//! Roles and bindings as RBAC knows them.

use crate::risk::Rights;
use crate::risk::rights::{Grant, Granted, Scope};
use crate::risk::rules::Powers;
use kube::core::DynamicObject;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

/// What the user name of a service account begins with; namespace and name follow, with a colon between.
const ACCOUNT: &str = "system:serviceaccount:";
/// What the name of the group of all service accounts of a namespace begins with; the namespace follows.
const OF_NAMESPACE: &str = "system:serviceaccounts:";
/// Groups in which every service account is.
const EVERYONE: [&str; 2] = ["system:serviceaccounts", "system:authenticated"];

/// The kinds of `rbac.authorization.k8s.io/v1`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum RbacKind {
    /// A ClusterRole.
    ClusterRole,
    /// A ClusterRoleBinding.
    ClusterRoleBinding,
    /// A Role.
    Role,
    /// A RoleBinding.
    RoleBinding,
}

impl RbacKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::ClusterRole, Self::ClusterRoleBinding, Self::Role, Self::RoleBinding];

    /// As the API has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClusterRole => "ClusterRole",
            Self::ClusterRoleBinding => "ClusterRoleBinding",
            Self::Role => "Role",
            Self::RoleBinding => "RoleBinding",
        }
    }

    fn is_role(self) -> bool {
        matches!(self, Self::ClusterRole | Self::Role)
    }

    fn is_cluster_wide(self) -> bool {
        matches!(self, Self::ClusterRole | Self::ClusterRoleBinding)
    }
}

/// Kind, namespace (empty for cluster-wide ones) and name of a role or binding.
type Id = (RbacKind, String, String);

/// Whom a binding names, as far as that can be a service account.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
enum Subject {
    /// Every one.
    Everyone,
    /// Those of a namespace.
    Namespace(String),
    /// One, by namespace and name.
    Account(String, String),
}

#[derive(Debug, Eq, PartialEq)]
struct Binding {
    role: Id,
    subjects: BTreeSet<Subject>,
}

/// Every role and binding in the cluster, by what a service account gets from them. What gives service accounts nothing
/// that matters is not kept, so that a role costs a line of text and a binding its names.
#[derive(Debug, Default)]
pub struct Grants {
    roles: HashMap<Id, Powers>,
    bindings: HashMap<Id, Binding>,
    by_subject: HashMap<Subject, BTreeSet<Id>>,
    by_role: HashMap<Id, BTreeSet<Id>>,
    touched: Touched,
}

/// The accounts whose rights may have changed.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Touched(BTreeSet<Subject>);

impl Touched {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether that account is one of them.
    pub fn concerns(&self, namespace: &str, service_account: &str) -> bool {
        subjects_of(namespace, service_account).iter().any(|subject| self.0.contains(subject))
    }
}

/// All that a binding can call an account.
fn subjects_of(namespace: &str, service_account: &str) -> [Subject; 3] {
    [
        Subject::Everyone,
        Subject::Namespace(namespace.into()),
        Subject::Account(namespace.into(), service_account.into()),
    ]
}

impl Grants {
    /// A role or binding as stored. Returns whether anything changed that rights rest on: metadata is nothing of that kind,
    /// nor is a rule that lets nobody change anything or read Secrets.
    pub fn set(&mut self, kind: RbacKind, object: &DynamicObject) -> bool {
        let id = id(kind, object.metadata.namespace.as_deref(), object.metadata.name.as_deref().unwrap_or_default());
        if kind.is_role() {
            let powers = Powers::of(object.data.get("rules").unwrap_or(&Value::Null));
            self.replace_role(id, Some(powers).filter(|powers| !powers.is_empty()))
        } else {
            let binding = Binding::read(&id, &object.data);
            self.replace_binding(id, binding)
        }
    }

    /// A role or binding is gone (the namespace is empty for cluster-wide ones).
    pub fn remove(&mut self, kind: RbacKind, namespace: &str, name: &str) {
        let id = id(kind, Some(namespace), name);
        match kind.is_role() {
            true => self.replace_role(id, None),
            false => self.replace_binding(id, None),
        };
    }

    /// The accounts whose rights may have changed since the last call.
    pub fn take_touched(&mut self) -> Touched {
        std::mem::take(&mut self.touched)
    }

    /// Namespace (empty for cluster-wide ones) and name of everything of a kind that is kept.
    pub fn names(&self, kind: RbacKind) -> impl Iterator<Item = (&str, &str)> {
        let ids = self.roles.keys().chain(self.bindings.keys());
        ids.filter(move |id| id.0 == kind).map(|(_, namespace, name)| (namespace.as_str(), name.as_str()))
    }

    /// What a service account may do. Depends on what is stored alone, not on the order in which it came.
    pub fn rights(&self, namespace: &str, service_account: &str) -> Rights {
        let subjects = subjects_of(namespace, service_account);
        let bindings: BTreeSet<&Id> =
            subjects.iter().filter_map(|subject| self.by_subject.get(subject)).flatten().collect();
        let (mut writes, mut reads) = (Granted::default(), Granted::default());
        for id in bindings {
            let Some(binding) = self.bindings.get(id) else { continue };
            // A binding to a role that is not there grants nothing.
            let Some(powers) = self.roles.get(&binding.role) else { continue };
            let scope = match &id.1 {
                _ if id.0 == RbacKind::ClusterRoleBinding => Scope::Cluster,
                own if own == namespace => Scope::Own,
                _ => Scope::Other,
            };
            let grant = |power| Grant {
                scope,
                power,
                namespace: &id.1,
                name: &id.2,
                cluster_role: binding.role.0 == RbacKind::ClusterRole,
                role: &binding.role.2,
            };
            powers.writes.as_ref().map(grant).into_iter().for_each(|grant| writes.add(grant));
            powers.reads.as_ref().map(grant).into_iter().for_each(|grant| reads.add(grant));
        }
        Rights::of(&writes, &reads)
    }

    fn replace_role(&mut self, id: Id, powers: Option<Powers>) -> bool {
        if self.roles.get(&id) == powers.as_ref() {
            return false;
        }
        for binding in self.by_role.get(&id).into_iter().flatten() {
            let subjects = self.bindings.get(binding).into_iter().flat_map(|binding| &binding.subjects);
            self.touched.0.extend(subjects.cloned());
        }
        match powers {
            Some(powers) => self.roles.insert(id, powers),
            None => self.roles.remove(&id),
        };
        true
    }

    fn replace_binding(&mut self, id: Id, binding: Option<Binding>) -> bool {
        let before = self.bindings.remove(&id);
        let changed = before != binding;
        if let Some(before) = before {
            forget(&mut self.by_role, &before.role, &id);
            before.subjects.iter().for_each(|subject| forget(&mut self.by_subject, subject, &id));
            self.touched.0.extend(before.subjects.into_iter().filter(|_| changed));
        }
        let Some(binding) = binding else { return changed };
        self.by_role.entry(binding.role.clone()).or_default().insert(id.clone());
        for subject in &binding.subjects {
            self.by_subject.entry(subject.clone()).or_default().insert(id.clone());
        }
        self.touched.0.extend(binding.subjects.iter().filter(|_| changed).cloned());
        self.bindings.insert(id, binding);
        changed
    }
}

fn id(kind: RbacKind, namespace: Option<&str>, name: &str) -> Id {
    let namespace = namespace.filter(|_| !kind.is_cluster_wide()).unwrap_or_default();
    (kind, namespace.into(), name.into())
}

fn forget<K: Eq + Hash>(index: &mut HashMap<K, BTreeSet<Id>>, key: &K, id: &Id) {
    if let Some(ids) = index.get_mut(key) {
        ids.remove(id);
        if ids.is_empty() {
            index.remove(key);
        }
    }
}

impl Binding {
    /// None where it names no service account.
    fn read(id: &Id, data: &Value) -> Option<Self> {
        let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_string();
        let role = &data["roleRef"];
        // A Role is looked for in the binding's own namespace, so that a ClusterRoleBinding never finds one.
        let role = match role["kind"].as_str() {
            Some("ClusterRole") => (RbacKind::ClusterRole, String::new(), text(role, "name")),
            _ => (RbacKind::Role, id.1.clone(), text(role, "name")),
        };
        let listed = data.get("subjects").and_then(Value::as_array).into_iter().flatten();
        let subjects: BTreeSet<_> = listed.filter_map(|subject| Subject::read(subject, &id.1)).collect();
        (!subjects.is_empty()).then_some(Self { role, subjects })
    }
}

impl Subject {
    /// As the API server compares it with a user: it looks at `kind`, `name` and `namespace` alone. A service account without
    /// a namespace is one of the binding's own; in a ClusterRoleBinding it is nobody.
    fn read(subject: &Value, own_namespace: &str) -> Option<Self> {
        let text = |field: &str| subject[field].as_str().filter(|text| !text.is_empty());
        let name = text("name")?;
        match subject["kind"].as_str()? {
            "ServiceAccount" => {
                let namespace = text("namespace").unwrap_or(own_namespace);
                (!namespace.is_empty()).then(|| Self::Account(namespace.into(), name.into()))
            }
            "User" => {
                let (namespace, name) = name.strip_prefix(ACCOUNT)?.split_once(':')?;
                Some(Self::Account(namespace.into(), name.into()))
            }
            "Group" if EVERYONE.contains(&name) => Some(Self::Everyone),
            "Group" => name.strip_prefix(OF_NAMESPACE).map(|namespace| Self::Namespace(namespace.into())),
            _ => None,
        }
    }
}

#[cfg(test)]
#[path = "grants_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "grants_model.rs"]
mod model;
