//! The API group `countersign.dev/v1alpha1`: types, conditions and the names Countersign puts on other objects.
//!
//! This room holds data only. It knows no client, clock or environment; the CRD YAML under `crds/` is generated
//! from the types here (see [`crd`]).

pub mod classifier;
pub mod condition;
pub mod constraints;
pub mod crd;
pub mod names;
pub mod policy;
pub mod quantity;
pub mod record;
pub mod request;
pub mod selector;
pub mod status;
pub mod subject;
pub mod window;

pub use classifier::{Classifier, ClassifierWhen, ServiceAccountMay};
pub use condition::{Condition, ConditionStatus};
pub use constraints::{Constraints, Limit};
pub use policy::{
    ApprovalPolicy, ApprovalPolicySpec, ApprovalPolicyStatus, Approvals, Decision, Exclude, OnDenied, Requirement,
    Rule, SelfApproval, When,
};
pub use quantity::Quantity;
pub use record::{ApprovalRecord, ApprovalRecordSpec, Pruned, RecordEntry, Transition};
pub use request::{
    ApprovalRequest, ApprovalRequestSpec, Evidence, Review, ReviewDecision, ReviewInput, TargetKind, TargetRef,
};
pub use selector::{LabelSelector, Operator, SelectorRequirement};
pub use status::{ApprovalRequestStatus, BoundInput, InputKind, RequirementProgress, State};
pub use subject::{Requester, Reviewer, Subject, SubjectKind};
pub use window::FreezeWindow;
