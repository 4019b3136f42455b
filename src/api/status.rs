//! `ApprovalRequest.status`: the operator's alone.

use crate::api::{Condition, Constraints, FreezeWindow, SelfApproval, Subject, policy::Decision};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a request stands. The last four are final.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
pub enum State {
    /// Waits for policy or reviewers.
    #[default]
    Pending,
    /// Approved, and the release has to wait.
    Approved,
    /// Approved and unblocked.
    Released,
    /// A policy or enough reviewers said no.
    Denied,
    /// A clock ran out first.
    Expired,
    /// Withdrawn, or its target is gone.
    Cancelled,
}

impl State {
    /// Whether nothing can change any more.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Approved)
    }

    /// The state as it is written in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Approved => "Approved",
            Self::Released => "Released",
            Self::Denied => "Denied",
            Self::Expired => "Expired",
            Self::Cancelled => "Cancelled",
        }
    }
}

/// What the operator found and decided.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalRequestStatus {
    /// The generation this status was computed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// Where the request stands.
    #[serde(default)]
    pub state: State,
    /// What it waits for or why it ended, and what to do next.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 2048))]
    pub message: String,
    /// Every rule that matched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub matches: Vec<RuleMatch>,
    /// What the request can touch: declared and derived risk.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub scope: Vec<ScopeEntry>,
    /// The bounds in force if approved: the tightest of the policy's and the requester's.
    #[serde(default, skip_serializing_if = "Constraints::is_empty")]
    pub constraints: Constraints,
    /// Of those bounds, the ones that nothing enforces here, by name: the worker is told, and trusted. With `(set at release,
    /// can be changed later)`: outside gated namespaces whoever may change the Job may change them once it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 80)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub advisory: Vec<String>,
    /// Content hash of the policy outcome in force; the content itself is kept under this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub policy_snapshot: Option<String>,
    /// Hash of the target's uid and of the work it will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub job_hash: Option<String>,
    /// The target this request is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<BoundTarget>,
    /// The ConfigMaps and Secrets that the target reads, as bound. All of them are part of `digest`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub inputs: Vec<BoundInput>,
    /// Counts the bindings: it grows whenever the policy outcome or the target changed, so that an earlier digest never returns.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0))]
    pub revision: i64,
    /// Binds all that a reviewer is shown; what a review must name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub digest: Option<String>,
    /// What is required, and who has approved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub approvals: Vec<RequirementProgress>,
    /// How many denials end the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub denials: Option<i32>,
    /// Whether the requester may approve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_approval: Option<SelfApproval>,
    /// Who may not approve, even where self-approval is allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 512)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub excluded: Vec<String>,
    /// Whether an approval takes a comment.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub require_comment: bool,
    /// Since when the target is what it is, where it became another after it was first shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<Time>,
    /// Nothing is released before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Time>,
    /// Recurring times in which nothing is released, unless somebody approves who may pass them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub freezes: Vec<Freeze>,
    /// Until when an approved release waits, as far as it is known now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_until: Option<Time>,
    /// When the request expires unless it is approved by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_until: Option<Time>,
    /// Since when that clock runs, where it is not since creation: what was approved before no longer stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_since: Option<Time>,
    /// When an approval that could not be used expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_by: Option<Time>,
    /// Short texts for the printed columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// Resource versions of what this binding was computed from; an older view of them does not re-bind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_at: Option<BoundAt>,
    /// When what is shown was bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_time: Option<Time>,
    /// Evaluated, Approved, Denied, Released, Expired, Cancelled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}

/// A rule that matched.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleMatch {
    /// The policy's name.
    #[schemars(length(max = 253))]
    pub policy: String,
    /// The rule's name.
    #[schemars(length(max = 63))]
    pub rule: String,
    /// What the rule says.
    pub decision: Decision,
    /// Why, in the policy author's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub reason: Option<String>,
    /// What went wrong with the rule's expression. It then counts on the safe side: an Allow rule does not match, a
    /// RequireApproval rule does, and a Deny rule holds the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub failed: Option<String>,
}

/// A freeze window of a rule that matched.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Freeze {
    /// The policy's name.
    #[schemars(length(max = 253))]
    pub policy: String,
    /// The rule's name.
    #[schemars(length(max = 63))]
    pub rule: String,
    /// The window.
    pub window: FreezeWindow,
    /// Who passed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub passed_by: Option<String>,
}

/// Who said that a risk tag applies.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub enum TagSource {
    /// The requester says so.
    Declared,
    /// Seen in what will run.
    Derived,
    /// Read by what will run, and beyond what an approval can hold still: it may be another after the review.
    Unheld,
}

/// One risk tag and where it comes from.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScopeEntry {
    /// The tag.
    #[schemars(length(max = 63))]
    pub tag: String,
    /// Declared, Derived or Unheld.
    pub source: TagSource,
    /// What makes it apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub detail: Option<String>,
    /// The policy whose classifier derived it; absent where Countersign's own did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub policy: Option<String>,
    /// Whether the cluster does not enforce what the tag rests on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub advisory: bool,
}

/// Kinds of objects whose content a Job's Pods read.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub enum InputKind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}

impl InputKind {
    /// The kind as it is written in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }
}

/// One ConfigMap or Secret as bound. Without `uid` and `absent`, the operator may not read it: it is bound by name alone.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BoundInput {
    /// ConfigMap or Secret.
    pub kind: InputKind,
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its uid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub uid: Option<String>,
    /// Hash of `data` and `binaryData`: `sha256:…` of a ConfigMap; `keyed:…` of a Secret, made with the operator's key so that nobody can guess the content from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub hash: Option<String>,
    /// Its resource version, which stands for the content where that is not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub resource_version: Option<String>,
    /// Whether nobody can change its content.
    #[serde(default)]
    pub immutable: bool,
    /// Whether nobody can delete it, or unlock it: it carries the label `countersign.dev/input: locked` in a gated namespace.
    #[serde(default)]
    pub locked: bool,
    /// Whether it is not there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
}

/// The target as bound.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BoundTarget {
    /// The target's uid, bound at first sight.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// The target's own bounds as they will be when released.
    #[serde(default)]
    pub bounds: JobBounds,
    /// Who has a part in what runs: the target's creator, the authors of its CronJob, and the service account it runs as.
    /// As the requester, they may approve only where self-approval is allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 512)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub parties: Vec<String>,
}

/// The Job's own bounds, after the constraints are applied.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobBounds {
    /// `spec.activeDeadlineSeconds` when released; absent means unbounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub active_deadline_seconds: Option<i64>,
    /// `spec.backoffLimit` when released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub backoff_limit: Option<i32>,
    /// `spec.parallelism` when released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub parallelism: Option<i32>,
}

/// How far one requirement has come.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RequirementProgress {
    /// The requirement's name.
    #[schemars(length(max = 63))]
    pub requirement: String,
    /// How many distinct people it takes.
    #[schemars(range(min = 1, max = 64))]
    pub required: i32,
    /// Who may approve it.
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub approvers: Vec<Subject>,
    /// Who has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 512)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub approved_by: Vec<String>,
}

/// Short texts for the printed columns.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Risk tags, comma-separated.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub risk: String,
    /// The rules in force, comma-separated.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub rule: String,
    /// Approvals so far and required, such as `1/2`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 32))]
    pub approvals: String,
}

/// Resource versions of what a binding was computed from.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BoundAt {
    /// The newest resource version seen of any policy.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub policies: i64,
    /// The namespace's resource version.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub namespace: i64,
    /// The target's resource version; 0 without a target.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub target: i64,
    /// The form of the digest: an operator that knows a newer one binds anew, an older one leaves the request alone.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub format: i64,
    /// The newest resource version seen of any ConfigMap, or Secret where they are read; 0 where the target reads none.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub inputs: i64,
    /// The newest resource version seen of any role, role binding or NetworkPolicy; 0 without a target.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub surroundings: i64,
}
