//! The verdict on an ApprovalRequest. Pure.

use crate::admission::{Caller, Refusal, Verdict, review};
use crate::api::{Requester, names};
use crate::binding::Keyring;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Most groups of a requester that are kept; more would have to be cut, and a cut could hide one that a policy names.
const MOST_GROUPS: usize = 256;

/// What a verdict on a request rests on beside the objects.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Who makes the request.
    pub caller: &'a Caller,
    /// Whether nothing will be stored.
    pub dry_run: bool,
    /// The policies on which the authorizer granted the caller the verb `approve`, of those that a review asks about.
    pub authorized: &'a [String],
    /// Seals reviews.
    pub key: &'a Keyring,
    /// The time.
    pub now: Timestamp,
}

/// The verdict on a request that is being created.
pub fn create(object: &Value, context: &Context<'_>) -> Verdict {
    stamp(object, context).into()
}

/// The verdict on a change.
pub fn update(old: &Value, new: &Value, context: &Context<'_>) -> Verdict {
    change(old, new, context).into()
}

fn stamp(object: &Value, context: &Context<'_>) -> Result<Vec<Value>, Refusal> {
    let Some(spec) = object.get("spec").and_then(Value::as_object) else {
        return Err(Refusal::invalid("spec is missing: say what is asked (runID, stepID, requestedBy, reason)")
            .because("Malformed"));
    };
    for field in ["review", "reviews"] {
        if present(spec, field) {
            let text = format!(
                "spec.{field} cannot be set at creation: reviews come from reviewers, once status.digest is there"
            );
            return Err(Refusal::forbidden(text).because("ReviewAtCreation"));
        }
    }
    if spec.get("cancel") == Some(&Value::Bool(true)) {
        return Err(Refusal::invalid("spec.cancel withdraws a request that exists; leave it out at creation")
            .because("CancelAtCreation"));
    }
    if has_entries(object, "ownerReferences") {
        let text = "metadata.ownerReferences cannot be set on a request: garbage collection would delete it on another's command";
        return Err(Refusal::forbidden(text).because("OwnerReferences"));
    }
    if context.caller.groups.len() > MOST_GROUPS {
        let text =
            format!("you are in {} groups; a requester may be in {MOST_GROUPS} at most", context.caller.groups.len());
        return Err(Refusal::forbidden(text).because("TooManyGroups"));
    }
    let Caller { username, uid, groups, .. } = context.caller;
    let requester = Requester {
        username: username.clone(),
        uid: uid.clone().filter(|uid| !uid.is_empty()),
        groups: groups.clone(),
    };
    let mut operations = vec![json!({"op": "add", "path": "/spec/requester", "value": requester})];
    match object.pointer("/metadata/finalizers").and_then(Value::as_array) {
        Some(list) if list.iter().any(|f| f == names::FINALIZER) => {}
        Some(_) => operations.push(json!({"op": "add", "path": "/metadata/finalizers/-", "value": names::FINALIZER})),
        None => operations.push(json!({"op": "add", "path": "/metadata/finalizers", "value": [names::FINALIZER]})),
    }
    Ok(operations)
}

fn change(old: &Value, new: &Value, context: &Context<'_>) -> Result<Vec<Value>, Refusal> {
    same_metadata(old, new, &context.caller.username)?;
    let empty = Map::new();
    let fields = |object: &'_ Value| object.get("spec").and_then(Value::as_object).cloned();
    let (before, after) = (fields(old).unwrap_or(empty.clone()), fields(new).unwrap_or(empty));
    same_ask(&before, &after)?;
    let cancels = after.get("cancel") != before.get("cancel");
    let reviews = present(&after, "review");
    if cancels && reviews {
        return Err(Refusal::invalid("spec.review and spec.cancel cannot be set at once; send one of them")
            .because("ReviewAndCancel"));
    }
    if cancels {
        cancel(old, &before, &after, context.caller)?;
    }
    if present(&before, "review") {
        // Whoever wrote it is unknown: it must not be sealed in the name of the next who comes along.
        return Err(Refusal::conflict(
            "spec.review holds a review that was stored unseen; cancel this request and ask anew",
        )
        .because("UnseenReview"));
    }
    if reviews { review::seal_review(old, &after, context) } else { Ok(vec![]) }
}

/// Nobody but the operator, who does not come this way, changes metadata; the garbage collector may where it must.
fn same_metadata(old: &Value, new: &Value, username: &str) -> Result<(), Refusal> {
    let collector = ["system:serviceaccount:kube-system:generic-garbage-collector", "system:kube-controller-manager"];
    let collecting = collector.contains(&username);
    for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
        let (before, after) = (metadata(old, field), metadata(new, field));
        let allowed = collecting && matches!(field, "finalizers" | "ownerReferences") && keeps_finalizer(old, new);
        if before != after && !allowed {
            let text =
                format!("metadata.{field} of a request cannot be changed; review it by setting spec.review alone");
            return Err(Refusal::forbidden(text).because("MetadataChanged"));
        }
    }
    Ok(())
}

fn keeps_finalizer(old: &Value, new: &Value) -> bool {
    let has = |object| {
        metadata(object, "finalizers")
            .and_then(Value::as_array)
            .is_some_and(|list| list.iter().any(|f| f == names::FINALIZER))
    };
    has(new) || !has(old)
}

/// A metadata field, where empty is the same as absent.
fn metadata<'a>(object: &'a Value, field: &str) -> Option<&'a Value> {
    let value = object.get("metadata")?.get(field)?;
    let empty =
        value.is_null() || value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty);
    (!empty).then_some(value)
}

fn has_entries(object: &Value, field: &str) -> bool {
    metadata(object, field).is_some()
}

fn same_ask(before: &Map<String, Value>, after: &Map<String, Value>) -> Result<(), Refusal> {
    let fields: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for field in fields {
        if matches!(field.as_str(), "review" | "cancel") || before.get(field) == after.get(field) {
            continue;
        }
        let text = match field.as_str() {
            "reviews" => "spec.reviews is written by admission alone; give your review in spec.review".into(),
            "requester" => "spec.requester is stamped at creation and cannot be changed".into(),
            field => format!(
                "spec.{field} cannot be changed: what is asked stays as it was; cancel and create a new request"
            ),
        };
        return Err(Refusal::forbidden(text).because("SpecChanged"));
    }
    Ok(())
}

fn cancel(
    old: &Value,
    before: &Map<String, Value>,
    after: &Map<String, Value>,
    caller: &Caller,
) -> Result<(), Refusal> {
    if before.get("cancel") == Some(&Value::Bool(true)) {
        return Err(Refusal::conflict("spec.cancel is set once and stays").because("CancelStays"));
    }
    if after.get("cancel") != Some(&Value::Bool(true)) {
        // An explicit false where nothing stood is no change.
        return Ok(());
    }
    let requester: Requester =
        before.get("requester").and_then(|r| serde_json::from_value(r.clone()).ok()).unwrap_or_default();
    // By name alone, as the admission policy behind this has it.
    if requester.username != caller.username {
        let text = format!(
            "only the requester ({}) may withdraw this request; to stop it as a reviewer, deny it",
            requester.username
        );
        return Err(Refusal::forbidden(text).because("NotTheRequester"));
    }
    review::unfinished(old)
}

/// Whether a field is there and not null.
pub(super) fn present(fields: &Map<String, Value>, field: &str) -> bool {
    fields.get(field).is_some_and(|value| !value.is_null())
}
