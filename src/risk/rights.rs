//! What RBAC lets a service account do, as far as it matters for approval.

use crate::binding::sha256;
use crate::risk::breadth::Breadth;
use crate::risk::rules::Power;
use crate::risk::text::one_line;
use serde_json::json;
use std::collections::BTreeSet;

/// The longest name of a role, binding or namespace in a grant.
const LONGEST_NAME: usize = 63;
/// The longest grant, in characters; names are cut for it, and nothing else.
const LONGEST_GRANT: usize = 420;

/// What a service account may do: for each, one grant that lets it, for a person (such as `patch deployments.apps, by ClusterRole
/// edit through RoleBinding ci in payments`), with how many others there are. The same grants always give the same words, of
/// at most 420 characters without control characters; grants of other accounts never change them.
///
/// Of what holds in other namespaces than the account's own, only the breadth is told: whoever may grant something there
/// could otherwise change these words, and void approvals, everywhere.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Rights {
    /// It may change something.
    pub writes: Option<String>,
    /// It may read Secrets.
    pub reads_secrets: Option<String>,
    /// It may do one of both beyond its own namespace.
    pub cluster_scope: Option<String>,
    /// Stands for all of it: `sha256:…` over every rule that holds cluster-wide or in its own namespace, and over how much may
    /// be done in others. The words above name but one grant each. None where it may do nothing.
    pub fingerprint: Option<String>,
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
    /// For a person, with how many other grants there are, and what may be done elsewhere.
    fn text(&self, others: usize, elsewhere: Option<&'static str>) -> String {
        let what = self.power.text();
        let role = if self.cluster_role { "ClusterRole" } else { "Role" };
        let more = match others {
            0 => String::new(),
            1 => ", and through 1 more binding".into(),
            n => format!(", and through {n} more bindings"),
        };
        let elsewhere = elsewhere.map(|what| format!(", and {what} in other namespaces")).unwrap_or_default();
        let with = |role_name: &str, name: &str, namespace: &str| {
            let binding = match namespace {
                "" => format!("ClusterRoleBinding {name}, cluster-wide"),
                namespace => format!("RoleBinding {name} in {namespace}"),
            };
            format!("{what}, by {role} {role_name} through {binding}{more}{elsewhere}")
        };
        let fixed = with("", "", if self.namespace.is_empty() { "" } else { " " }).chars().count();
        let longest = LONGEST_NAME.min(LONGEST_GRANT.saturating_sub(fixed) / 3);
        let short = |name: &str| one_line(name, longest);
        with(&short(self.role), &short(self.name), &short(self.namespace))
    }
}

/// What one account is granted: changing, or reading Secrets.
#[derive(Debug, Default)]
pub(super) struct Granted<'a> {
    /// Cluster-wide, or in its own namespace.
    near: Vec<Grant<'a>>,
    /// How much in other namespaces.
    elsewhere: Option<Breadth>,
}

impl<'a> Granted<'a> {
    pub(super) fn add(&mut self, grant: Grant<'a>) {
        match grant.scope {
            Scope::Other => self.elsewhere = self.elsewhere.into_iter().chain([grant.power.breadth]).min(),
            Scope::Cluster | Scope::Own => self.near.push(grant),
        }
    }

    fn cluster_wide(&self) -> Vec<Grant<'a>> {
        self.near.iter().filter(|grant| grant.scope == Scope::Cluster).copied().collect()
    }

    /// What may be done elsewhere, where nothing that holds cluster-wide says as much.
    fn elsewhere(&self) -> Option<Breadth> {
        let everywhere = self.cluster_wide().iter().map(|grant| grant.power.breadth).min();
        self.elsewhere.filter(|elsewhere| everywhere.is_none_or(|everywhere| *elsewhere < everywhere))
    }

    /// All of it, as text. `called` says what somebody may do with that much.
    fn text(&self, called: fn(Breadth) -> &'static str) -> Option<String> {
        let elsewhere = self.elsewhere().map(called);
        let widest = widest(&self.near).map(|grant| grant.text(self.near.len() - 1, elsewhere));
        widest.or_else(|| elsewhere.map(|what| format!("{what} in other namespaces")))
    }

    /// What reaches beyond the own namespace, and how far.
    fn far(&self, called: fn(Breadth) -> &'static str) -> Option<(Scope, String)> {
        let wide = self.cluster_wide();
        let widest = widest(&wide).map(|grant| (Scope::Cluster, grant.text(wide.len() - 1, None)));
        widest.or_else(|| self.elsewhere.map(|b| (Scope::Other, format!("{} in other namespaces", called(b)))))
    }

    /// What holds at one place, as hashes.
    fn hashes(&self, scope: Scope) -> BTreeSet<&'a str> {
        self.near.iter().filter(|grant| grant.scope == scope).map(|grant| grant.power.hash.as_str()).collect()
    }
}

impl Rights {
    /// From what is granted. A binding stands in each of both once at most.
    pub(super) fn of(writes: &Granted<'_>, reads: &Granted<'_>) -> Self {
        // Of both, the one that reaches farther; changing weighs more than reading.
        let far = match (writes.far(Breadth::changes), reads.far(Breadth::reads)) {
            (Some(write), Some(read)) => Some(if read.0 < write.0 { read } else { write }),
            (write, read) => write.or(read),
        };
        let rights = Self {
            writes: writes.text(Breadth::changes),
            reads_secrets: reads.text(Breadth::reads),
            cluster_scope: far.map(|(_, text)| text),
            fingerprint: None,
        };
        if rights == Self::default() {
            return rights;
        }
        let places = [writes, reads].map(|granted| json!([granted.hashes(Scope::Cluster), granted.hashes(Scope::Own)]));
        let elsewhere = (writes.elsewhere().map(Breadth::changes), reads.elsewhere().map(Breadth::reads));
        Self { fingerprint: sha256(&json!([places, elsewhere])).ok(), ..rights }
    }
}

/// The widest of these grants.
fn widest<'a, 'g>(grants: &'g [Grant<'a>]) -> Option<&'g Grant<'a>> {
    fn order<'a>(grant: &Grant<'a>) -> (Scope, Breadth, &'a str, &'a str) {
        (grant.scope, grant.power.breadth, grant.namespace, grant.name)
    }
    grants.iter().min_by(|a, b| order(a).cmp(&order(b)))
}
