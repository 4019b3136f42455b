//! What RBAC lets a service account do, as far as it matters for approval.

use crate::risk::rules::{Breadth, Power};
use crate::risk::text::one_line;

/// The longest name of a role, binding or namespace in a grant.
const LONGEST_NAME: usize = 63;

/// What a service account may do: for each, one grant that lets it, for a person (such as `patch deployments.apps, by ClusterRole
/// edit through RoleBinding ci in payments`). The same grants always give the same words, of a bounded length and without
/// control characters; grants of other accounts never change them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Rights {
    /// It may change something.
    pub writes: Option<String>,
    /// It may read Secrets.
    pub reads_secrets: Option<String>,
    /// It may do one of both beyond its own namespace.
    pub cluster_scope: Option<String>,
}

/// Where a grant holds, the widest first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Scope {
    /// In every namespace, and on what has none.
    Cluster,
    /// In another namespace than the account's.
    Other,
    /// In the account's own namespace.
    Own,
}

/// One grant: a binding, and what its role lets do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grant<'a> {
    /// Where it holds.
    pub scope: Scope,
    /// What it lets do.
    pub power: &'a Power,
    /// Namespace of the binding; empty for a ClusterRoleBinding.
    pub namespace: &'a str,
    /// Name of the binding.
    pub name: &'a str,
    /// Whether the role is a ClusterRole.
    pub cluster_role: bool,
    /// Name of the role.
    pub role: &'a str,
}

impl Grant<'_> {
    /// For a person, with how many other grants there are: so that a further one shows.
    fn text(&self, others: usize) -> String {
        let short = |name: &str| one_line(name, LONGEST_NAME);
        let role = if self.cluster_role { "ClusterRole" } else { "Role" };
        let binding = match self.namespace {
            "" => format!("ClusterRoleBinding {}, cluster-wide", short(self.name)),
            namespace => format!("RoleBinding {} in {}", short(self.name), short(namespace)),
        };
        let more = match others {
            0 => String::new(),
            1 => ", and through 1 more binding".into(),
            n => format!(", and through {n} more bindings"),
        };
        format!("{}, by {role} {} through {binding}{more}", self.power.text(), short(self.role))
    }
}

/// The widest of these grants as text. A binding stands among them once.
pub(super) fn widest(grants: &[Grant<'_>]) -> Option<String> {
    fn order<'a>(grant: &Grant<'a>) -> (Scope, Breadth, &'a str, &'a str) {
        (grant.scope, grant.power.breadth, grant.namespace, grant.name)
    }
    let widest = grants.iter().min_by(|a, b| order(a).cmp(&order(b)))?;
    Some(widest.text(grants.len() - 1))
}
