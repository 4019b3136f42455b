//! The verdict on an ApprovalPolicy: one that does not compile is refused before it can hold anything up. Pure.

use crate::admission::{Refusal, Verdict};
use crate::policy::compile;
use serde_json::Value;

/// The verdict on a policy that is created or changed.
pub fn verdict(object: &Value) -> Verdict {
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    match compile(name, object.get("spec").unwrap_or(&Value::Null)) {
        Ok(_) => Verdict::Allow(vec![]),
        Err(broken) => Verdict::Refuse(Refusal::invalid(broken.error.to_string())),
    }
}
