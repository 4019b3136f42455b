//! Policies that are wrong: refused with the field named.

use crate::support::{Space, by_sre, cluster, policy};
use anyhow::Result;
use serde_json::{Value, json};

fn with(pointer: &str, value: Value) -> Value {
    let mut policy = policy("bad", "bad-policy", by_sre());
    let (parent, name) = pointer.rsplit_once('/').unwrap_or_default();
    match policy.pointer_mut(parent) {
        Some(Value::Array(list)) => match name.parse::<usize>() {
            Ok(i) => list[i] = value,
            Err(_) => list.push(value),
        },
        Some(parent) => parent[name] = value,
        None => {}
    }
    policy
}

#[tokio::test]
async fn a_policy_that_could_never_work_is_refused_with_its_field() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "bad-policy").await?;
    let requirement = "/spec/rules/0/approvals/requirements/0";
    let at = |field: &str| format!("{requirement}/{field}");
    let alice = json!({"kind": "User", "name": "alice"});
    let selector = "/spec/match/namespaceSelector/matchLabels";
    for (policy, expected) in [
        (with(selector, json!({"bad key!": "x"})), "\"bad key!\" is not a label key"),
        (with(selector, json!({"env": "not a value"})), "is not a label value"),
        (
            with("/spec/match/namespaceSelector/matchExpressions", json!([{"key": "a", "operator": "In"}])),
            "In and NotIn need values",
        ),
        (
            with("/spec/match/namespaceSelector/matchExpressions", json!([{"key": "a", "operator": "Near"}])),
            "Unsupported value: \"Near\"",
        ),
        (with("/spec/rules/-", by_sre()[0].clone()), "spec.rules"),
        (with(&at("count"), json!(0)), "count"),
        (with(requirement, json!({"name": "sre", "count": 2, "approvers": [alice]})), "count"),
        (
            with(requirement, json!({"name": "sre", "count": 2, "approvers": [alice, alice]})),
            "only 1 approvers are listed by name",
        ),
        (with(&at("approvers"), json!([])), "approvers"),
        (with("/spec/rules/0/approvals/requirements", json!([])), "requirements"),
        (with("/spec/rules/0/approvals", Value::Null), "approvals is required with decision RequireApproval"),
        (
            with("/spec/rules/0/decision", json!("Deny")),
            "approvals is required with decision RequireApproval, and only there",
        ),
        (with("/spec/rules/0/decision", json!("Maybe")), "Unsupported value: \"Maybe\""),
        (with("/spec/rules/0/unless", json!({})), "would never apply"),
        (
            with("/spec/rules/0/unless", json!({"requestedBy": ["*"]})),
            "is the requester's own claim and cannot loosen the gate",
        ),
        (
            with("/spec/rules", json!([{"name": "r", "when": {"requestedBy": ["*"]}, "decision": "Allow"}])),
            "is the requester's own claim",
        ),
        (with("/spec/rules/0/pendingTimeoutSeconds", json!(0)), "pendingTimeoutSeconds"),
        (with("/spec/rules/0/constraints/maxRuntimeSeconds", json!(-1)), "maxRuntimeSeconds"),
        (
            with(&at("approvers"), json!([{"kind": "ServiceAccount", "name": "ci"}])),
            "namespace is required for a ServiceAccount",
        ),
        (
            with("/spec/rules", json!([{"name": "r", "decision": "Allow", "onDenied": "Hold"}])),
            "onDenied belongs to decision RequireApproval or Deny",
        ),
        (
            with("/spec/rules", json!([{"name": "r", "decision": "Deny", "requireImmutableInputs": true}])),
            "requireImmutableInputs and requireImageDigests belong to decision Allow or RequireApproval",
        ),
        (with("/spec/rules/0/onDenied", json!("Suspend")), "Unsupported value: \"Suspend\""),
        (with("/spec/rules/0/colour", json!("blue")), "unknown field \"spec.rules[0].colour\""),
    ] {
        let create = space.admin.kubectl(["create", "--filename", "-"]).stdin(policy.to_string());
        let message = create.refused().await?;
        assert!(message.contains(expected), "expected {expected:?} in {message:?}");
    }
    assert!(space.api("approvalpolicies").get_opt("bad").await?.is_none());
    Ok(())
}

#[tokio::test]
async fn policy_status_says_that_it_is_in_force() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "good-policy").await?;
    space.policy(by_sre()).await?;
    let columns = space.admin.kubectl(["get", "apol", "good-policy", "--output=wide"]).ok().await?;
    assert!(columns.contains("READY") && columns.contains("True") && columns.contains("sha256:"), "{columns}");
    Ok(())
}
