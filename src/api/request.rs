//! `ApprovalRequest`: what is asked, by whom, and the reviews it received.
#![allow(clippy::duplicated_attributes, reason = "printer columns repeat their types")]

use crate::api::{Constraints, Requester, Reviewer, status::ApprovalRequestStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A paused step of a workflow asks for approval.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "countersign.dev",
    version = "v1alpha1",
    kind = "ApprovalRequest",
    plural = "approvalrequests",
    shortname = "apr",
    category = "countersign",
    namespaced,
    status = "ApprovalRequestStatus",
    derive = "PartialEq",
    doc = "A paused step of a workflow asks for approval. Reviewers decide by patching spec.review; the operator evaluates policy, keeps status, and releases the target.",
    selectable = ".status.state",
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Risk", type_ = "string", json_path = ".status.summary.risk"),
    printcolumn(name = "Rule", type_ = "string", json_path = ".status.summary.rule"),
    printcolumn(name = "Requested-By", type_ = "string", json_path = ".spec.requestedBy"),
    printcolumn(name = "Approvals", type_ = "string", json_path = ".status.summary.approvals"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.target.name", priority = 1),
    printcolumn(name = "Digest", type_ = "string", json_path = ".status.digest", priority = 1),
    printcolumn(name = "Requester", type_ = "string", json_path = ".spec.requester.username", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.runID == oldSelf.runID && self.stepID == oldSelf.stepID && self.requestedBy == oldSelf.requestedBy && self.reason == oldSelf.reason").message("runID, stepID, requestedBy and reason are immutable; create a new ApprovalRequest"),
    validation = Rule::new("has(self.riskTags) == has(oldSelf.riskTags) && (!has(self.riskTags) || self.riskTags == oldSelf.riskTags)").message("riskTags are immutable; create a new ApprovalRequest"),
    validation = Rule::new("has(self.constraints) == has(oldSelf.constraints) && (!has(self.constraints) || self.constraints == oldSelf.constraints)").message("constraints are immutable; create a new ApprovalRequest"),
    validation = Rule::new("has(self.policySnapshot) == has(oldSelf.policySnapshot) && (!has(self.policySnapshot) || self.policySnapshot == oldSelf.policySnapshot)").message("policySnapshot is immutable; create a new ApprovalRequest"),
    validation = Rule::new("has(self.target) == has(oldSelf.target) && (!has(self.target) || self.target == oldSelf.target)").message("target is immutable; create a new ApprovalRequest"),
    validation = Rule::new("has(self.evidence) == has(oldSelf.evidence) && (!has(self.evidence) || self.evidence == oldSelf.evidence)").message("evidence is immutable; create a new ApprovalRequest"),
    validation = Rule::new("has(self.requester) == has(oldSelf.requester) && (!has(self.requester) || self.requester == oldSelf.requester)").message("requester is stamped at creation and immutable"),
    validation = Rule::new("!has(oldSelf.reviews) || (has(self.reviews) && size(self.reviews) >= size(oldSelf.reviews) && oldSelf.reviews.all(i, r, self.reviews[i] == r))").message("reviews are append-only"),
    validation = Rule::new("!has(oldSelf.cancel) || !oldSelf.cancel || (has(self.cancel) && self.cancel)").message("cancel is set once and stays")
)]
pub struct ApprovalRequestSpec {
    /// The workflow run this belongs to. Printable ASCII without spaces.
    #[serde(rename = "runID")]
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[!-~]+$"))]
    pub run_id: String,
    /// The step of the run that is paused. Printable ASCII without spaces.
    #[serde(rename = "stepID")]
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[!-~]+$"))]
    pub step_id: String,
    /// The workflow's name, such as `workflow.incident-triage`: a claim of the requester. Printable ASCII without spaces.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[!-~]+$"))]
    pub requested_by: String,
    /// Why, in the requester's words.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,
    /// Risk that the requester declares; policy may add derived tags, never removes any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub risk_tags: Vec<String>,
    /// Bounds the requester offers; policy may tighten them, never loosen.
    #[serde(default, skip_serializing_if = "Constraints::is_empty")]
    pub constraints: Constraints,
    /// What the workflow planned against, any text; shown beside the snapshot in force, never trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub policy_snapshot: Option<String>,
    /// What is unblocked on approval, in this namespace. Without it the request's own state is what a paused step waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetRef>,
    /// What the requester shows in support.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub evidence: Vec<Evidence>,
    /// Who created the request; stamped at admission from the authenticated caller, whatever a client writes here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester: Option<Requester>,
    /// A reviewer patches this one slot; admission moves it, stamped and sealed, to `reviews`. It is never stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<ReviewInput>,
    /// The reviews, append-only, written by admission alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub reviews: Vec<Review>,
    /// The requester withdraws the request; set once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancel: bool,
}

/// The kinds a request can unblock.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub enum TargetKind {
    /// A suspended `batch/v1` Job.
    Job,
    /// A `v1` Pod that the gate of its namespace holds.
    Pod,
}

impl TargetKind {
    /// The kind as Kubernetes spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Job => "Job",
            Self::Pod => "Pod",
        }
    }

    /// The API version that is targeted.
    pub fn api_version(self) -> &'static str {
        match self {
            Self::Job => "batch/v1",
            Self::Pod => "v1",
        }
    }
}

/// The API versions a request can target.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum TargetApiVersion {
    /// `batch/v1`
    #[serde(rename = "batch/v1")]
    BatchV1,
    /// `v1`
    #[serde(rename = "v1")]
    V1,
}

/// What is unblocked on approval: a suspended Job, or a held Pod, in the request's own namespace.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.kind == 'Job') == (self.apiVersion == 'batch/v1')").message("target is apiVersion batch/v1, kind Job, or apiVersion v1, kind Pod"))]
pub struct TargetRef {
    /// The target's API version.
    pub api_version: TargetApiVersion,
    /// The target's kind.
    pub kind: TargetKind,
    /// The target's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// The target's uid; where given, no other object of that name is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub uid: Option<String>,
}

/// Something the requester shows in support.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// What it is.
    #[schemars(length(min = 1, max = 128))]
    pub title: String,
    /// The evidence in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub text: Option<String>,
    /// Where to read more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = "^https?://"))]
    pub url: Option<String>,
}

/// A reviewer's word.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum ReviewDecision {
    /// Go ahead.
    Approve,
    /// Do not.
    Deny,
}

/// What a reviewer patches into `spec.review`.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReviewInput {
    /// Approve or Deny.
    pub decision: ReviewDecision,
    /// `status.digest` as the reviewer read it: what is being decided.
    #[schemars(length(min = 71, max = 71), regex(pattern = "^sha256:[0-9a-f]{64}$"))]
    pub digest: String,
    /// The reviewer's words, kept with the decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub comment: Option<String>,
}

/// A review as admission stamped and sealed it.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Review {
    /// The authenticated caller.
    pub reviewer: Reviewer,
    /// Approve or Deny.
    pub decision: ReviewDecision,
    /// What this reviewer saw.
    #[schemars(length(min = 71, max = 71), regex(pattern = "^sha256:[0-9a-f]{64}$"))]
    pub digest: String,
    /// The reviewer's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub comment: Option<String>,
    /// When admission received it.
    pub time: MicroTime,
    /// Signature over the request's uid and every other field of this entry; a review without a valid one is not counted.
    #[schemars(length(max = 256))]
    pub seal: String,
}
