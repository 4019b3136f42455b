//! People and machines: who asked, who reviewed, and whom a policy names.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a [`Subject`] names.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub enum SubjectKind {
    /// A user by its authenticated username.
    User,
    /// Everyone in an authenticated group.
    Group,
    /// A service account by namespace and name.
    ServiceAccount,
    /// Whoever the cluster's authorizer grants the verb `approve` on the ApprovalPolicy of that name. For approvers only.
    Authorized,
}

/// Someone whom a policy names, as in an RBAC binding.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("(self.kind == 'ServiceAccount') == has(self.namespace)").message("namespace is required for a ServiceAccount, and only there"))]
pub struct Subject {
    /// User, Group, ServiceAccount, or (for approvers) Authorized.
    pub kind: SubjectKind,
    /// The name of the user, group or service account; for Authorized, the name of the policy that says so.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    /// The service account's namespace; only for `kind: ServiceAccount`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

impl Subject {
    /// Whether the authenticated caller with this username and these groups is, or belongs to, the subject. Nobody is
    /// `Authorized` by a name: that takes the authorizer's word.
    pub fn covers(&self, username: &str, groups: &[String]) -> bool {
        match self.kind {
            SubjectKind::User => username == self.name,
            SubjectKind::Group => groups.contains(&self.name),
            SubjectKind::Authorized => false,
            SubjectKind::ServiceAccount => self.namespace.as_deref().is_some_and(|namespace| {
                username.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'))
                    == Some((namespace, self.name.as_str()))
            }),
        }
    }

    /// The subject in short, for a person: `sre`, `user alice`, `serviceaccount ci/deployer`.
    pub fn describe(&self) -> String {
        match self.kind {
            SubjectKind::Group => self.name.clone(),
            SubjectKind::User => format!("user {}", self.name),
            SubjectKind::Authorized => format!("whoever may approve policy {}", self.name),
            SubjectKind::ServiceAccount => {
                format!("serviceaccount {}/{}", self.namespace.as_deref().unwrap_or("?"), self.name)
            }
        }
    }
}

/// Who created the request, stamped at admission from the authenticated caller.
#[derive(Clone, Debug, Default, Deserialize, Eq, Hash, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Requester {
    /// The authenticated username.
    #[schemars(length(min = 1, max = 512))]
    pub username: String,
    /// The authenticated uid, where the authenticator gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub uid: Option<String>,
    /// All authenticated groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 256)))]
    pub groups: Vec<String>,
}

impl Requester {
    /// Nobody: a name that no policy covers.
    pub const NOBODY: Self = Self { username: String::new(), uid: None, groups: vec![] };
}

/// Who reviewed, stamped at admission from the authenticated caller.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reviewer {
    /// The authenticated username.
    #[schemars(length(min = 1, max = 512))]
    pub username: String,
    /// The authenticated uid, where the authenticator gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub uid: Option<String>,
    /// The authenticated groups that the policy names; others are not kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 256)))]
    pub groups: Vec<String>,
    /// The policies on which the authorizer granted the verb `approve`, of those that the request asks about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 256)))]
    pub authorized: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_account_is_covered_by_namespace_and_name_only() {
        let ci = Subject { kind: SubjectKind::ServiceAccount, name: "deployer".into(), namespace: Some("ci".into()) };
        assert!(ci.covers("system:serviceaccount:ci:deployer", &[]));
        assert!(!ci.covers("system:serviceaccount:other:deployer", &[]));
        assert!(!ci.covers("system:serviceaccount:ci:deployer:x", &[]));
        assert!(!ci.covers("deployer", &["deployer".into()]));
        let missing = Subject { namespace: None, ..ci };
        assert!(!missing.covers("system:serviceaccount::deployer", &[]));
    }
}
