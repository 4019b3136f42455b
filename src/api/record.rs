//! `ApprovalRecord`: the audit trail, one entry a transition, in objects that are created and never changed.
#![allow(clippy::duplicated_attributes, reason = "printer columns repeat their types")]

use crate::api::{Constraints, TargetKind, status::RuleMatch, status::ScopeEntry};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Most entries of one record.
pub const MAX_ENTRIES: usize = 256;

/// A link of the audit trail: one entry, or several that were written together.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "countersign.dev",
    version = "v1alpha1",
    kind = "ApprovalRecord",
    plural = "approvalrecords",
    shortname = "arec",
    category = "countersign",
    namespaced,
    derive = "PartialEq",
    doc = "A link of the audit trail: what happened to requests, signed, and chained to the record before it. The operator creates records, named by their first entry's number, and nobody changes them.",
    printcolumn(name = "First", type_ = "integer", json_path = ".spec.sequence"),
    printcolumn(name = "Last", type_ = "integer", json_path = ".spec.last"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Key", type_ = "string", json_path = ".spec.keyID", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.signature == oldSelf.signature && self.sequence == oldSelf.sequence && self.previous == oldSelf.previous").message("a record is never changed")
)]
pub struct ApprovalRecordSpec {
    /// Number of the first entry. Numbers start at 1 and have no gaps.
    #[schemars(range(min = 1))]
    pub sequence: i64,
    /// Number of the last entry.
    #[schemars(range(min = 1))]
    pub last: i64,
    /// Hash of the record before this one; `genesis` for the first.
    #[schemars(length(min = 1, max = 71))]
    pub previous: String,
    /// What happened, in the order in which it was recorded.
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub entries: Vec<RecordEntry>,
    /// Name of the key that signed: the first 16 hexadecimal digits of the SHA-256 of the public key.
    #[serde(rename = "keyID")]
    #[schemars(length(min = 16, max = 16))]
    pub key_id: String,
    /// ed25519 signature over everything else here, in base64.
    #[schemars(length(min = 1, max = 128))]
    pub signature: String,
}

/// What an entry is about.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Transition {
    /// Somebody asked.
    Requested,
    /// Policy was evaluated, and what reviewers are shown was bound.
    Evaluated,
    /// Somebody approved or denied.
    Reviewed,
    /// There were enough approvals, or policy allows it.
    Approved,
    /// A policy or enough reviewers said no.
    Denied,
    /// The target was started.
    Released,
    /// A clock ran out first.
    Expired,
    /// Withdrawn, or the target is gone.
    Cancelled,
    /// Somebody who may override started the target without approval.
    Overridden,
    /// Admission refused; one entry for all refusals of one caller and kind within some time.
    Refused,
    /// The trail goes on under another key, which this entry names.
    Anchored,
    /// What stood before is no longer kept in the cluster: an export has it.
    Pruned,
    /// Another key may sign from here on, which this entry names.
    KeyAdded,
    /// A key signs nothing from here on, which this entry names.
    KeyRetired,
}

impl Transition {
    /// The transition as it is written in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "Requested",
            Self::Evaluated => "Evaluated",
            Self::Reviewed => "Reviewed",
            Self::Approved => "Approved",
            Self::Denied => "Denied",
            Self::Released => "Released",
            Self::Expired => "Expired",
            Self::Cancelled => "Cancelled",
            Self::Overridden => "Overridden",
            Self::Refused => "Refused",
            Self::Anchored => "Anchored",
            Self::Pruned => "Pruned",
            Self::KeyAdded => "KeyAdded",
            Self::KeyRetired => "KeyRetired",
        }
    }

    /// The transition of that name.
    pub fn parse(name: &str) -> Option<Self> {
        const ALL: [Transition; 14] = [
            Transition::Requested,
            Transition::Evaluated,
            Transition::Reviewed,
            Transition::Approved,
            Transition::Denied,
            Transition::Released,
            Transition::Expired,
            Transition::Cancelled,
            Transition::Overridden,
            Transition::Refused,
            Transition::Anchored,
            Transition::Pruned,
            Transition::KeyAdded,
            Transition::KeyRetired,
        ];
        ALL.into_iter().find(|transition| transition.as_str() == name)
    }
}

/// One transition.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordEntry {
    /// What this entry is the only one of: uid (of an override, that of what was started), revision (of a review, its place in the list) and transition.
    #[schemars(length(min = 1, max = 160))]
    pub key: String,
    /// What happened.
    pub transition: Transition,
    /// When it happened, as the object that tells of it says; where it does not, when the operator saw it.
    pub time: MicroTime,
    /// The request that it happened to; none where a Job or Pod was started without one, by policy or by an override.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RecordedRequest>,
    /// The Job or Pod that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<RecordedTarget>,
    /// Who did it, or on whose word it was done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub by: Vec<RecordedCaller>,
    /// Why, in one CamelCase word.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub reason: String,
    /// Why, for a person.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 2048))]
    pub message: String,
    /// What was bound, and so shown, at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Seen>,
    /// The sealed review in full, as it is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "as_stored")]
    pub review: Option<Value>,
    /// How often it happened; absent means once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub count: Option<i64>,
    /// What is no longer kept; of `Pruned` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pruned: Option<Pruned>,
    /// The key that was added or retired: its public half, 32 bytes in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 44, max = 44))]
    pub public_key: Option<String>,
}

/// The beginning of the trail that is no longer kept in the cluster. The entry that says so is the anchor of what is left.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pruned {
    /// Number of the last entry that is no longer kept.
    #[schemars(range(min = 1))]
    pub through: i64,
    /// Hash of the record that ended with it.
    #[schemars(length(max = 71))]
    pub hash: String,
    /// Hash of the trail's first record, which names the trail.
    #[schemars(length(max = 71))]
    pub first: String,
    /// What had ended by then was recorded, whole, when this was written.
    pub until: MicroTime,
    /// The keys that may sign from here on, as public halves in base64: what is gone may have introduced them.
    #[schemars(length(min = 1, max = 64), inner(length(max = 44)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub keys: Vec<String>,
    /// The names of those that never sign again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), inner(length(max = 16)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub retired: Vec<String>,
}

/// A request, by its names.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordedRequest {
    /// Its namespace.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its uid.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// The workflow run that it belongs to.
    #[serde(rename = "runID")]
    #[schemars(length(max = 128))]
    pub run_id: String,
    /// The step of the run.
    #[serde(rename = "stepID")]
    #[schemars(length(max = 128))]
    pub step_id: String,
    /// The workflow's name, as the requester claims it.
    #[schemars(length(max = 253))]
    pub requested_by: String,
}

/// A Job or Pod, by its names.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordedTarget {
    /// Job or Pod.
    pub kind: TargetKind,
    /// Its namespace.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its uid, where it was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub uid: Option<String>,
}

/// An authenticated caller: the three things that are recorded of a person, and nothing else.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordedCaller {
    /// The username.
    #[schemars(length(max = 512))]
    pub username: String,
    /// The uid, where the authenticator gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub uid: Option<String>,
    /// The groups that were kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 256)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub groups: Vec<String>,
}

/// What was bound.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// The binding that it was; grows with each.
    #[schemars(range(min = 0))]
    pub revision: i64,
    /// The digest of all that is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub digest: Option<String>,
    /// Content hash of the policy outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub policy_snapshot: Option<String>,
    /// Hash of the target's uid and work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub job_hash: Option<String>,
    /// The bounds in force.
    #[serde(default, skip_serializing_if = "Constraints::is_empty")]
    pub constraints: Constraints,
    /// What it can touch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub scope: Vec<ScopeEntry>,
    /// The rules that matched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub matches: Vec<RuleMatch>,
}

/// A review is sealed as it is stored, so nothing of it may be dropped, whatever later versions put into one.
fn as_stored(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "nullable": true,
        "maxProperties": 32,
        "description": "The sealed review in full, as it is stored.",
        "x-kubernetes-preserve-unknown-fields": true,
    })
}
