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
        (
            with(
                "/spec/rules/0/approvals/requirements",
                json!([{"name": "a", "count": 40, "approvers": [{"kind": "Group", "name": "sre"}]},
                    {"name": "b", "count": 9, "approvers": [{"kind": "Group", "name": "security"}]}]),
            ),
            "spec.rules[prod-write].approvals.requirements: take 49 people together; at most 48 approvals can be recorded",
        ),
        (
            with(
                "/spec/rules/0/approvals",
                json!({"denials": 2, "requirements": [{"name": "a", "approvers": [alice, alice]}]}),
            ),
            "spec.rules[prod-write].approvals.denials: is 2, and only 1 people may deny",
        ),
        (
            with(&at("approvers"), json!([{"kind": "User", "name": "system:serviceaccount:ci:"}])),
            "is no service account's username",
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
async fn time_expressions_and_classifiers_that_could_never_work_are_refused_with_their_field() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "bad-parts").await?;
    let window = |name: &str, start: &str, seconds: i64, zone: &str| json!({"name": name, "start": start, "durationSeconds": seconds, "timeZone": zone});
    let windows = |windows: Value| with("/spec/rules/0/freezeWindows", windows);
    let expression = |text: &str| with("/spec/rules/0/when/expression", json!(text));
    let list = vec!["1"; 180].join(",");
    let costly = format!("[{list}].all(a, [{list}].all(b, a + b > 0))");
    let classifier = |when: Value| with("/spec/classifiers", json!([{"tag": "t", "when": when}]));
    let approvers = |approvers: Value| with("/spec/rules/0/approvals/requirements/0/approvers", approvers);
    for (policy, expected) in [
        (
            windows(json!([window("w", "0 18 * * 5", 3600, "Europe/Atlantis")])),
            "spec.rules[prod-write].freezeWindows[w].timeZone: \"Europe/Atlantis\" is no time zone",
        ),
        (windows(json!([window("w", "61 18 * * 5", 3600, "UTC")])), "spec.rules[prod-write].freezeWindows[w].start"),
        (windows(json!([window("w", "0 0 31 2 *", 3600, "UTC")])), "spec.rules[prod-write].freezeWindows[w].start"),
        (windows(json!([window("w", "* * * * *", 3600, "UTC")])), "is as long as its starts lie apart"),
        (
            windows(json!([window("a", "0 0 * * *", 43200, "UTC"), window("b", "0 12 * * *", 43200, "UTC")])),
            "leave no time at which none of them holds",
        ),
        (windows(json!([window("w", "0 0 * * *", 60, "UTC"), window("w", "0 1 * * *", 60, "UTC")])), "freezeWindows"),
        (with("/spec/rules/0/notBeforeSeconds", json!(0)), "notBeforeSeconds"),
        (expression("object.spec.x >"), "spec.rules[prod-write].when.expression: line 1, column 16"),
        (expression("objekt != null"), "there is no \"objekt\"; there is object, namespaceObject, request, time"),
        (expression("claims.reason == 'x'"), "trustClaims: true"),
        (expression("[1].all(a, [a].all(b, [b].all(c, true)))"), "at most 2 macros"),
        (expression("size('three')"), "spec.rules[prod-write].when.expression"),
        (expression("time.getDayOfWeek() == '0'"), "== does not go with an int and a string"),
        (expression(&costly), "spec.rules[prod-write].when.expression: line 1, column 1: it is too costly"),
        (expression(&"true || ".repeat(200)), "spec.rules[0].when.expression"),
        (classifier(json!({})), "spec.classifiers[0].when: is empty"),
        (classifier(json!({"unrestrictedEgress": false})), "network reach is advisory"),
        (with("/spec/rules/0/constraints/maxMemory", json!("plenty")), "maxMemory"),
        (with("/spec/rules/0/constraints/maxCpu", json!("0")), "constraints.maxCpu: is 0; must be more than 0"),
        (approvers(json!([{"kind": "Authorized", "name": "other"}])), "names the policy that it stands in"),
        (
            with("/spec/rules/0/when/requesters", json!([{"kind": "Authorized", "name": "bad"}])),
            "a requester is a User, Group or ServiceAccount",
        ),
    ] {
        let create = space.admin.kubectl(["create", "--filename", "-"]).stdin(policy.to_string());
        let message = create.refused().await?;
        assert!(message.contains(expected), "expected {expected:?} in {message:?}");
    }
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
