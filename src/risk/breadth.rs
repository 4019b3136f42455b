//! How much a right lets do, and which rights reach farther than they look.

const RBAC: &str = "rbac.authorization.k8s.io";
const CERTIFICATES: &str = "certificates.k8s.io";
const COUNTERSIGN: &str = "countersign.dev";

/// How much a right lets do, the widest first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Breadth {
    /// Everything with everything.
    Everything,
    /// Taking rights that were not given.
    Gaining,
    /// Reaching into what runs, into who it runs as, or into who may do what.
    Reaching,
    /// Every resource of a group, or of all.
    EveryResource,
    /// Everything with one resource.
    EveryVerb,
    /// Some verbs on some resources.
    Some,
    /// Only on objects of some names.
    Named,
}

/// Kinds through which somebody gains rights, or reaches into others. Looked up in a rule one by one, so that what it costs
/// to find the widest part of a rule does not grow with the rule.
pub(super) const NOTABLE: [(&str, &str); 22] = [
    (RBAC, "clusterroles"),
    (RBAC, "roles"),
    (RBAC, "clusterrolebindings"),
    (RBAC, "rolebindings"),
    ("", "users"),
    ("", "groups"),
    ("", "serviceaccounts"),
    ("authentication.k8s.io", "uids"),
    ("", "pods/exec"),
    ("", "pods/attach"),
    ("", "pods/ephemeralcontainers"),
    ("", "pods/portforward"),
    ("", "pods/proxy"),
    ("", "services/proxy"),
    ("", "nodes/proxy"),
    ("", "serviceaccounts/token"),
    (CERTIFICATES, "certificatesigningrequests/approval"),
    (CERTIFICATES, "signers"),
    (COUNTERSIGN, "approvalpolicies"),
    (COUNTERSIGN, "approvalrequests"),
    (COUNTERSIGN, "approvalrequests/status"),
    (COUNTERSIGN, "approvalpolicies/status"),
];
/// Those of them of which only some verbs reach anywhere: impersonating, or starting a Job past the gate.
const BY_VERB: [(&str, &str, &str); 5] = [
    ("", "users", "impersonate"),
    ("", "groups", "impersonate"),
    ("", "serviceaccounts", "impersonate"),
    ("authentication.k8s.io", "uids", "impersonate"),
    (COUNTERSIGN, "approvalrequests", "override"),
];

/// Whether a verb on a resource lets somebody take rights that they were not given.
pub(super) fn gains(group: &str, resource: &str, verb: &str) -> bool {
    let in_group = |known: &str| group == known || group == "*";
    let roles = in_group(RBAC) && matches!(resource, "roles" | "clusterroles" | "*");
    let identities = in_group("") && matches!(resource, "users" | "groups" | "serviceaccounts" | "*");
    let more = in_group("authentication.k8s.io");
    match verb {
        "bind" | "escalate" => roles,
        "*" => roles || identities,
        // Constrained impersonation has verbs that begin alike.
        _ => verb.starts_with("impersonate") && (identities || more || in_group("")),
    }
}

/// Whether a verb on a resource reaches into others.
pub(super) fn reaches(group: &str, resource: &str, verb: &str) -> bool {
    NOTABLE.iter().any(|(known_group, known)| {
        let by_verb = BY_VERB.iter().find(|(g, r, _)| (g, r) == (known_group, known));
        let verb = by_verb.is_none_or(|(.., needed)| verb == *needed || verb == "*");
        verb && (group == *known_group || group == "*") && names(resource, known)
    })
}

/// Whether a resource in a rule stands for that one, as RBAC has it: itself, every one, or every one with that subresource.
fn names(resource: &str, known: &str) -> bool {
    resource == known || resource == "*" || every(known).is_some_and(|every| every == resource)
}

/// How a rule names a subresource of every resource.
pub(super) fn every(resource: &str) -> Option<String> {
    resource.split_once('/').map(|(_, part)| format!("*/{part}"))
}

impl Breadth {
    /// What somebody may do who may do that much, without saying what it is.
    pub(super) fn changes(self) -> &'static str {
        match self {
            Self::Everything => "do anything (*)",
            Self::Gaining => "take further rights",
            Self::Reaching => "reach into Pods, nodes, accounts or roles",
            Self::EveryResource => "change everything of some kind",
            Self::EveryVerb | Self::Some => "change something",
            Self::Named => "change something of some names",
        }
    }

    /// The same of reading Secrets.
    pub(super) fn reads(self) -> &'static str {
        match self {
            Self::Everything => "do anything (*)",
            Self::Named => "read Secrets of some names",
            _ => "read Secrets",
        }
    }
}
