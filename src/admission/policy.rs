//! The verdict on an ApprovalPolicy: one that does not compile is refused before it can hold anything up, and who last
//! changed it is written down. Pure.

use crate::admission::{Caller, Refusal, Verdict, creator, patch};
use crate::api::names;
use crate::policy::compile;
use serde_json::{Value, json};

/// The verdict on a policy that is created (then `old` is null) or changed, as it is to be stored. A policy that was stored
/// broken may still change its metadata: else its finalizers could never be removed, and it would hold everything up for
/// good.
pub fn verdict(old: &Value, object: &Value, caller: &Caller) -> Verdict {
    match check(old, object, caller) {
        Ok(()) => Verdict::Allow(vec![]),
        Err(refusal) => Verdict::Refuse(refusal),
    }
}

/// Stamps who changed the spec, over whatever the caller wrote there. Who changes nothing but metadata changes no stamp.
pub fn stamp(old: &Value, object: &Value, caller: &Caller) -> Verdict {
    stamps(old, object, caller).into()
}

fn check(old: &Value, object: &Value, caller: &Caller) -> Result<(), Refusal> {
    if !stamps(old, object, caller)?.is_empty() {
        let text = format!(
            "metadata.annotations: {} is not what it must be, who last changed the spec; another webhook wrote it after Countersign's, so tell the platform team",
            names::EDITED_BY
        );
        return Err(Refusal::forbidden(text).because("EditorOverwritten"));
    }
    if !changes(old, object) {
        return Ok(());
    }
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let spec = object.get("spec").unwrap_or(&Value::Null);
    compile(name, spec, None)
        .map(|_| ())
        .map_err(|broken| Refusal::invalid(broken.error.to_string()).because("PolicyBroken"))
}

/// Whether the spec is another. What is created is.
fn changes(old: &Value, object: &Value) -> bool {
    old.is_null() || old.get("spec") != object.get("spec")
}

fn stamps(old: &Value, object: &Value, caller: &Caller) -> Result<Vec<Value>, Refusal> {
    const ANNOTATIONS: &str = "/metadata/annotations";
    if !object.get("metadata").is_some_and(Value::is_object) {
        return Err(Refusal::invalid("metadata is missing: give the policy a name").because("Malformed"));
    }
    let pointer = patch::pointer(ANNOTATIONS, names::EDITED_BY);
    let editor = match changes(old, object) {
        true => Some(editor(caller)?),
        false => old.pointer(&pointer).and_then(Value::as_str),
    };
    Ok(match editor {
        Some(editor) => patch::entries(object, ANNOTATIONS, &[(names::EDITED_BY, editor)]),
        None if object.pointer(&pointer).is_some() => vec![json!({"op": "remove", "path": pointer})],
        None => vec![],
    })
}

fn editor(caller: &Caller) -> Result<&str, Refusal> {
    creator::one_line(&caller.username).map_err(|why| {
        Refusal::forbidden(format!(
            "{why}: who changes a policy is written into it. Use another identity, such as a service account"
        ))
        .because("CallerUnfit")
    })?;
    Ok(&caller.username)
}
