//! `ApprovalPolicy`: rules of the platform team, delivered by GitOps.
#![allow(clippy::duplicated_attributes, reason = "printer columns repeat their types")]

use crate::api::{Classifier, Condition, Constraints, FreezeWindow, LabelSelector, Subject};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rules about which requests are allowed, need approval, or are denied.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "countersign.dev",
    version = "v1alpha1",
    kind = "ApprovalPolicy",
    plural = "approvalpolicies",
    shortname = "apol",
    category = "countersign",
    status = "ApprovalPolicyStatus",
    derive = "PartialEq",
    doc = "Rules about which requests are allowed, need approval, or are denied. Every matching rule of every policy counts; the strictest wins.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message"),
    printcolumn(name = "Snapshot", type_ = "string", json_path = ".status.snapshot", priority = 1)
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApprovalPolicySpec {
    /// Where this policy applies; absent means everywhere.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub match_: Option<Match>,
    /// Derive risk tags from what will run. This policy's rules see them as facts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub classifiers: Vec<Classifier>,
    /// The rules: a set, every rule that matches counts.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub rules: Vec<self::Rule>,
}

/// Where a policy applies.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Match {
    /// Namespaces by label; absent means every namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
}

/// What a rule says about a request.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Decision {
    /// No approval is needed, as far as this rule goes.
    Allow,
    /// People must approve.
    RequireApproval,
    /// Never.
    Deny,
}

/// One rule.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("(self.decision == 'RequireApproval') == has(self.approvals)").message("approvals is required with decision RequireApproval, and only there"),
    validation = Rule::new("self.decision != 'Allow' || !has(self.onDenied)").message("onDenied belongs to decision RequireApproval or Deny: an Allow rule denies nothing"),
    validation = Rule::new("self.decision != 'Deny' || (!has(self.notBeforeSeconds) && !has(self.freezeWindows))").message("notBeforeSeconds and freezeWindows belong to decision Allow or RequireApproval: a Deny rule lets nothing run"),
    validation = Rule::new("self.decision != 'Deny' || !((has(self.requireImmutableInputs) && self.requireImmutableInputs) || (has(self.requireImageDigests) && self.requireImageDigests))").message("requireImmutableInputs and requireImageDigests belong to decision Allow or RequireApproval: a Deny rule lets nothing run")
)]
pub struct Rule {
    /// The rule's name, unique in its policy.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// When the rule applies: all parts must hold; absent means always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<When>,
    /// When it does not: all parts must hold. Facts only, unless `trustClaims`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unless: Option<When>,
    /// Allow, RequireApproval or Deny.
    pub decision: Decision,
    /// Shown to requester and reviewers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub reason: Option<String>,
    /// Lets an Allow rule or an `unless` believe what the requester says of itself (`requestedBy`, declared tags). Weakens the gate.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trust_claims: bool,
    /// Who must approve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approvals: Option<Approvals>,
    /// Bounds on what runs.
    #[serde(default, skip_serializing_if = "Constraints::is_empty")]
    pub constraints: Constraints,
    /// Nothing is released that reads a ConfigMap or Secret which can still change: each must be immutable and labelled `countersign.dev/input: locked`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub require_immutable_inputs: bool,
    /// Nothing is released that names an image by a tag alone: each must be `image@sha256:…`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub require_image_digests: bool,
    /// What becomes of the held Job after a denial, an expiry or a withdrawal. Absent: Jobs of CronJobs are deleted, others are held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_denied: Option<OnDenied>,
    /// Nothing is released sooner than this many seconds after it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31536000))]
    pub not_before_seconds: Option<i64>,
    /// Recurring times in which nothing is released.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub freeze_windows: Vec<FreezeWindow>,
    /// How long a request may wait for approval, in seconds from its creation.
    #[serde(default = "one_hour")]
    #[schemars(range(min = 1, max = 31536000))]
    pub pending_timeout_seconds: i64,
    /// How long an approval may wait to be used, in seconds.
    #[serde(default = "quarter_hour")]
    #[schemars(range(min = 1, max = 31536000))]
    pub release_timeout_seconds: i64,
}

/// Conditions on a request; all that are given must hold.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct When {
    /// The request carries all of these risk tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub risk_tags: Vec<String>,
    /// The request carries at least one of these risk tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub any_risk_tags: Vec<String>,
    /// The request's `requestedBy` matches one of these patterns (`*` is any run of characters, `?` any one): a claim.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub requested_by: Vec<String>,
    /// The authenticated requester is one of these: User, Group or ServiceAccount.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[x_kube(validation = Rule::new("!self.exists(s, s.kind == 'Authorized')").message("a requester is a User, Group or ServiceAccount"))]
    pub requesters: Vec<Subject>,
    /// The request's namespace carries these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// A CEL expression over `object`, `namespaceObject`, `request`, `time`, and with `trustClaims` also `claims`, that is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub expression: Option<String>,
}

/// Who must approve, and what ends it.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Approvals {
    /// All must be met, by distinct people.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub requirements: Vec<Requirement>,
    /// This many denials end the request.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 64))]
    pub denials: i32,
    /// Whether the requester may approve.
    #[serde(default)]
    pub self_approval: SelfApproval,
    /// Whose approval does not count, even where self-approval is allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub exclude: Vec<Exclude>,
    /// Whether an approval takes a comment. A denial never does: stopping is not made harder.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub require_comment: bool,
}

/// Somebody who does not count as an approver.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Exclude {
    /// Whoever created the Job or Pod, or wrote the CronJob that it came from: known in gated namespaces alone.
    JobCreator,
    /// Whoever last changed this policy, or another that has a matching rule.
    PolicyEditor,
}

/// A number of people out of a set.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("self.approvers.exists(a, a.kind == 'Group' || a.kind == 'Authorized') || self.count <= size(self.approvers)").message("count is above the number of approvers listed by name"))]
pub struct Requirement {
    /// The requirement's name, unique in its rule.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// How many distinct people.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 64))]
    pub count: i32,
    /// Who counts. Kind `Authorized` is whoever the cluster authorizes for the verb `approve` on this policy.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub approvers: Vec<Subject>,
}

/// What becomes of the held Job after a denial, an expiry or a withdrawal. Absent: a Job of a CronJob is deleted, any other is held. Where rules disagree, it is held.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub enum OnDenied {
    /// It is deleted, once the end is recorded.
    Delete,
    /// It stays, suspended.
    Hold,
}

fn one() -> i32 {
    1
}

/// Seconds a request waits for approval where no rule says otherwise.
pub const DEFAULT_PENDING_TIMEOUT_SECONDS: i64 = 3600;
/// Seconds an approval waits to be used where no rule says otherwise.
pub const DEFAULT_RELEASE_TIMEOUT_SECONDS: i64 = 900;

fn one_hour() -> i64 {
    DEFAULT_PENDING_TIMEOUT_SECONDS
}

fn quarter_hour() -> i64 {
    DEFAULT_RELEASE_TIMEOUT_SECONDS
}

/// Whether whoever asked may also approve.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub enum SelfApproval {
    /// No.
    #[default]
    Forbid,
    /// Yes.
    Allow,
}

/// What the operator found.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalPolicyStatus {
    /// The generation this status was computed from; -1 until there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1))]
    pub observed_generation: Option<i64>,
    /// Content hash of the policy's spec as read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub snapshot: Option<String>,
    /// Ready: the policy compiles and is in force. Stalled: it does not compile, and stays so until it is changed. Reconciling: never
    /// true, for what was looked at is judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
