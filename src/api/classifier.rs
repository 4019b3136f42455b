//! Classifiers: what in the work, or around it, makes a risk tag apply.

use crate::api::LabelSelector;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Derives a risk tag from what will run, and not from what is said of it.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Classifier {
    /// The tag that applies.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$"))]
    pub tag: String,
    /// When it applies: all parts must hold.
    pub when: ClassifierWhen,
}

/// What a classifier looks at; all parts that are given must hold. A part that looks at the Job or Pod holds for no request
/// that has none: neither `true` nor `false` is known then.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("!has(self.unrestrictedEgress) || self.unrestrictedEgress").message("unrestrictedEgress is true or absent: network reach is advisory, and shows of nothing that it is safe"))]
pub struct ClassifierWhen {
    /// Whether a container can see a Secret: in env, envFrom, a volume or a projected volume. Pull secrets do not count. With
    /// a volume that a CSI driver or flexVolume fills, `false` does not hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses_secrets: Option<bool>,
    /// Whether a container is privileged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privileged: Option<bool>,
    /// Whether it shares the network, processes, IPC or ports of its node, or has the node call a host in a probe or hook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_access: Option<bool>,
    /// Whether a path of its node is mounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_paths: Option<bool>,
    /// Whether a container adds capabilities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added_capabilities: Option<bool>,
    /// Whether a container may run as root: nothing says `runAsNonRoot`, and no other user is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs_as_root: Option<bool>,
    /// Whether an image is named by a tag alone, and not by digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_tags: Option<bool>,
    /// At least one image matches one of these patterns (`*` is any run of characters, `?` any one).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub images: Vec<String>,
    /// At least one image matches none of these patterns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub images_other_than: Vec<String>,
    /// The service account it runs as matches one of these patterns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub service_accounts: Vec<String>,
    /// What RBAC lets that service account do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_may: Option<ServiceAccountMay>,
    /// No NetworkPolicy that restricts egress selects it. Advisory: NetworkPolicies add up, and a CNI may not enforce them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unrestricted_egress: Option<bool>,
    /// The namespace carries these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
}

/// What RBAC lets a service account do; all parts that are given must hold.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceAccountMay {
    /// Whether it may change anything, in any namespace. Asking for approval and asking about its own rights do not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write: Option<bool>,
    /// Whether it may read Secrets, in any namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_secrets: Option<bool>,
    /// Whether what it may write, or the Secrets it may read, go beyond its own namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_scope: Option<bool>,
}
