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

/// Namespace the operator lives in unless it is told otherwise.
pub const DEFAULT_NAMESPACE: &str = "countersign-system";
/// Name of the operator's service account.
pub const SERVICE_ACCOUNT: &str = "countersign";
/// Secret in the operator's namespace that holds the ed25519 key which seals reviews and signs receipts.
pub const SIGNING_KEY_SECRET: &str = "countersign-signing-key";

/// Username of the operator when it lives in `namespace`.
pub fn operator_username(namespace: &str) -> String {
    format!("system:serviceaccount:{namespace}:{SERVICE_ACCOUNT}")
}
