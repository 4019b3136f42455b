//! Names that Countersign writes on, or reads from, objects that are not its own.

/// API group of every Countersign kind.
pub const GROUP: &str = "countersign.dev";
/// Served and stored version.
pub const VERSION: &str = "v1alpha1";
/// `apiVersion` of every Countersign object.
pub const API_VERSION: &str = "countersign.dev/v1alpha1";

/// Finalizer on requests: set by admission at creation, removed by the operator once deletion is asked for.
pub const FINALIZER: &str = "countersign.dev/record";

/// Job annotation, set by the release: the digest that was approved (`sha256:…`).
pub const RELEASED: &str = "countersign.dev/released";
/// Job annotation, set when a request ends without approval: `<state> <digest, or unbound>`.
pub const CLOSED: &str = "countersign.dev/closed";
/// Pod template annotation, set by the release: the signed receipt (a DSSE envelope, JSON).
pub const RECEIPT: &str = "countersign.dev/receipt";
/// Pod template annotation, set by the release: the constraints in force (JSON), for the worker to obey.
pub const CONSTRAINTS: &str = "countersign.dev/constraints";

/// Namespace label that gates a namespace: [`ENFORCE`] or [`WARN`].
pub const GATE: &str = "countersign.dev/gate";
/// Value of [`GATE`]: nothing gated runs unapproved.
pub const ENFORCE: &str = "enforce";
/// Value of [`GATE`]: evaluates and reports, holds nothing.
pub const WARN: &str = "warn";
/// Namespace label that lets workload controllers (Deployments and the like) into a gated namespace, by the value [`ALLOW`].
pub const WORKLOADS: &str = "countersign.dev/workloads";
/// Namespace label that lets people into running Pods of a gated namespace, by the value [`ALLOW`].
pub const EXEC: &str = "countersign.dev/exec";
/// Value of [`WORKLOADS`] and [`EXEC`].
pub const ALLOW: &str = "allow";
/// Namespaces that are never gated, beside the operator's own.
pub const SYSTEM_NAMESPACES: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// Job or Pod annotation, stamped at creation in a gated namespace: the creator's username.
pub const CREATED_BY: &str = "countersign.dev/created-by";
/// Job or Pod annotation, stamped at creation in a gated namespace: the creator's uid, empty where there is none.
pub const CREATED_BY_UID: &str = "countersign.dev/created-by-uid";
/// Job or Pod annotation, stamped at creation in a gated namespace: the creator's groups, one a line.
pub const CREATED_BY_GROUPS: &str = "countersign.dev/created-by-groups";
/// Annotation in a CronJob's jobTemplate, and on the Jobs made from it: who wrote it, one name a line.
pub const AUTHORED_BY: &str = "countersign.dev/authored-by";
/// Job annotation by its creator: the request that will target the Job, so that the gate makes none of its own.
pub const REQUEST: &str = "countersign.dev/request";
/// Job annotation by its creator: why, for the gate's own request.
pub const REASON: &str = "countersign.dev/reason";
/// Job annotation by its creator: declared risk tags, comma-separated, for the gate's own request.
pub const RISK_TAGS: &str = "countersign.dev/risk-tags";
/// Job annotation by its creator: the workflow's name, for the gate's own request.
pub const REQUESTED_BY: &str = "countersign.dev/requested-by";
/// Job annotation: why somebody with the verb `override` started the Job without approval.
pub const OVERRIDE_REASON: &str = "countersign.dev/override-reason";
/// Job annotation: who that was.
pub const OVERRIDDEN_BY: &str = "countersign.dev/overridden-by";
/// ApprovalPolicy annotation, stamped at admission: who last changed its spec.
pub const EDITED_BY: &str = "countersign.dev/edited-by";
/// Verb on `approvalpolicies`, by name: its holder counts as an approver of kind `Authorized`.
pub const APPROVE_VERB: &str = "approve";
/// Scheduling gate that holds a Pod.
pub const SCHEDULING_GATE: &str = "countersign.dev/approval";
/// Label of a Pod that the gate holds (`true`) or has let go (`released`): what the operator watches Pods by.
pub const HELD: &str = "countersign.dev/held";
/// Label of a ConfigMap or Secret that a guard keeps as it is, by the value `locked`.
pub const INPUT: &str = "countersign.dev/input";
/// Value of [`INPUT`].
pub const LOCKED: &str = "locked";

/// Namespace the operator lives in unless it is told otherwise.
pub const DEFAULT_NAMESPACE: &str = "countersign-system";
/// Name of the operator's service account.
pub const SERVICE_ACCOUNT: &str = "countersign";
/// Secret in the operator's namespace that holds the ed25519 key which seals reviews and signs receipts.
pub const SIGNING_KEY_SECRET: &str = "countersign-signing-key";
/// Secret that takes its place once a key is replaced: it holds all keys that are accepted.
pub const SIGNING_KEYS_SECRET: &str = "countersign-signing-keys";
/// Secret in the operator's namespace that holds the certificate under which admission is served.
pub const CERTIFICATE_SECRET: &str = "countersign-admission-certificate";
/// ConfigMap in the operator's namespace: the newest checkpoint of the audit trail, under `checkpoint`.
pub const CHECKPOINT: &str = "countersign-checkpoint";
/// ConfigMap in the operator's namespace: every public key that signed, in base64, by its name.
pub const PUBLIC_KEYS: &str = "countersign-public-keys";
/// ConfigMap in the operator's namespace, by whoever exports the audit trail: the last record that is kept elsewhere, by
/// `sequence`, `last` and `hash`.
pub const EXPORTED: &str = "countersign-exported";
/// ConfigMap in the operator's namespace: under `through`, the number of the last entry that was pruned. Behind it no record
/// is created, and up to it records can be deleted: an admission policy reads it.
pub const PRUNED: &str = "countersign-pruned";

/// Username of the operator when it lives in `namespace`.
pub fn operator_username(namespace: &str) -> String {
    format!("system:serviceaccount:{namespace}:{SERVICE_ACCOUNT}")
}
