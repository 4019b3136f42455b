//! The digest: one hash over all that a reviewer is shown.

use crate::api::status::{BoundInput, JobBounds, ScopeEntry};
use crate::api::{Constraints, Requester};
use crate::binding::{CanonicalError, sha256};
use serde_json::{Value, json};

/// Counts the forms of the digest: raised whenever the same facts give another digest than before, so that what an earlier
/// version bound is bound anew instead of waiting for a change that never comes.
pub const DIGEST_FORMAT: i64 = 3;

/// The target as it is shown: its hash, and the bounds it will run under.
#[derive(Clone, Copy, Debug)]
pub struct BoundJob<'a> {
    /// `jobHash`.
    pub hash: &'a str,
    /// Its bounds once released.
    pub bounds: &'a JobBounds,
    /// Who has a part in it.
    pub parties: &'a [String],
}

/// All that a reviewer is shown.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// The request's uid.
    pub uid: &'a str,
    /// `status.revision`: an earlier digest never returns, even if everything else does.
    pub revision: i64,
    /// What is asked, as stored (see [`ask`]).
    pub ask: &'a Value,
    /// Who asks.
    pub requester: &'a Requester,
    /// What it can touch.
    pub scope: &'a [ScopeEntry],
    /// What stands for all that the service account may do, where the target can act as it: the scope names the widest
    /// alone. None where it may do nothing.
    pub rights: Option<&'a str>,
    /// The bounds in force.
    pub constraints: &'a Constraints,
    /// `policySnapshot`.
    pub policy_snapshot: &'a str,
    /// The target, where there is one.
    pub job: Option<BoundJob<'a>>,
    /// What the target reads, as it is now (see [`bound`](crate::binding::bound)).
    pub inputs: &'a [BoundInput],
    /// Who may not approve, whatever is allowed otherwise.
    pub excluded: &'a [String],
}

/// Fields of a request's spec that are not part of the ask: who asked is shown beside it, and reviews come after.
const NOT_ASKED: [&str; 4] = ["requester", "review", "reviews", "cancel"];

/// What is asked: the stored spec without the parts that admission writes.
pub fn ask(spec: &Value) -> Value {
    let mut ask = spec.clone();
    if let Some(fields) = ask.as_object_mut() {
        fields.retain(|key, _| !NOT_ASKED.contains(&key.as_str()));
    }
    ask
}

/// `sha256:…` over all that a reviewer is shown.
pub fn digest(shown: &Shown<'_>) -> Result<String, CanonicalError> {
    let mut document = json!({
        "type": "countersign.dev/digest/v1",
        "uid": shown.uid,
        "revision": shown.revision,
        "ask": shown.ask,
        "requester": shown.requester,
        "scope": shown.scope,
        "constraints": shown.constraints,
        "policySnapshot": shown.policy_snapshot,
        "job": shown.job.map(|job| json!({"hash": job.hash, "bounds": job.bounds, "parties": job.parties})),
    });
    // Only where there are any: what reads nothing keeps the digest that it had.
    if let Some(rights) = shown.rights {
        document["rights"] = json!(rights);
    }
    if !shown.inputs.is_empty() {
        document["inputs"] = json!(shown.inputs);
    }
    if !shown.excluded.is_empty() {
        document["excluded"] = json!(shown.excluded);
    }
    sha256(&document)
}
