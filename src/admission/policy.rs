//! The verdict on an ApprovalPolicy: one that does not compile is refused before it can hold anything up. Pure.

use crate::admission::{Refusal, Verdict};
use crate::policy::compile;
use serde_json::Value;

/// The verdict on a policy that is created (then `old` is null) or changed. A policy that was stored broken may still
/// change its metadata: else its finalizers could never be removed, and it would hold everything up for good.
pub fn verdict(old: &Value, object: &Value) -> Verdict {
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let spec = object.get("spec").unwrap_or(&Value::Null);
    if old.get("spec") == Some(spec) {
        return Verdict::Allow(vec![]);
    }
    match compile(name, spec) {
        Ok(_) => Verdict::Allow(vec![]),
        Err(broken) => Verdict::Refuse(Refusal::invalid(broken.error.to_string())),
    }
}
