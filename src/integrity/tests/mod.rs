//! What is compared, what is found, and what is told of it.

mod expectations;

use super::Kind;
use super::compare::compare;
use super::state::{State, Unwatchable};
use crate::api::ConditionStatus;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn policy() -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "countersign-jobs", "labels": {"app.kubernetes.io/name": "countersign"}},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "matchPolicy": "Equivalent",
                "namespaceSelector": {},
                "objectSelector": {},
                "resourceRules": [
                    {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
                     "resources": ["jobs", "jobs/*"], "scope": "*"},
                ],
            },
            "validations": [
                {"expression": "object.spec.suspend == true", "message": "a", "reason": "Forbidden"},
                {"expression": "has(object.spec.template)", "message": "b", "reason": "Forbidden"},
            ],
        },
    })
}

fn binding() -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "countersign-jobs"},
        "spec": {"policyName": "countersign-jobs", "validationActions": ["Deny"]},
    })
}

fn configuration() -> Value {
    let webhook = |name: &str| {
        json!({
            "name": name,
            "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": "https://127.0.0.1:9443/admit", "caBundle": "Q0E="},
            "rules": [{"apiGroups": ["countersign.dev"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"],
                "resources": ["approvalrequests"], "scope": "Namespaced"}],
            "failurePolicy": "Fail",
            "matchPolicy": "Equivalent",
            "namespaceSelector": {},
            "objectSelector": {},
            "matchConditions": [{"name": "not-the-operator", "expression": "request.userInfo.username != 'o'"}],
        })
    };
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "countersign"},
        "webhooks": [webhook("requests.countersign.dev"), webhook("jobs.countersign.dev")],
    })
}

/// What is found when that place of the stored object holds another value.
fn with(expected: &Value, place: &str, value: Value) -> Vec<String> {
    let mut stored = expected.clone();
    let (parent, key) = place.rsplit_once('/').unwrap();
    match stored.pointer_mut(parent).unwrap() {
        Value::Array(list) if key == "-" => list.push(value),
        Value::Array(list) => list[key.parse::<usize>().unwrap()] = value,
        Value::Object(map) => drop(map.insert(key.into(), value)),
        other => unreachable!("{other}"),
    }
    compare(expected, Some(&stored)).into_iter().map(|finding| finding.to_string()).collect()
}

fn without(expected: &Value, parent: &str, key: &str) -> Vec<String> {
    let mut stored = expected.clone();
    match stored.pointer_mut(parent).unwrap() {
        Value::Array(list) => drop(list.remove(key.parse().unwrap())),
        Value::Object(map) => drop(map.remove(key).unwrap()),
        other => unreachable!("{other}"),
    }
    compare(expected, Some(&stored)).into_iter().map(|finding| finding.to_string()).collect()
}

#[test]
fn what_is_stored_as_written_is_no_finding() {
    for expected in [policy(), binding(), configuration()] {
        assert_eq!(compare(&expected, Some(&expected)), []);
        // A watch tells kind and apiVersion of a list's items once, for all.
        let mut stored = expected.clone();
        stored.as_object_mut().unwrap().retain(|key, _| key != "kind" && key != "apiVersion");
        stored["metadata"] = json!({"name": "countersign", "generation": 7, "managedFields": [{}]});
        stored["status"] = json!({"typeChecking": {"expressionWarnings": [{"warning": "w"}]}});
        assert_eq!(compare(&expected, Some(&stored)), []);
    }
}

#[test]
fn an_object_that_is_gone_is_missing() {
    let found = compare(&policy(), None);
    assert_eq!(found[0].to_string(), "ValidatingAdmissionPolicy/countersign-jobs: missing");
}

#[test]
fn empty_fields_beyond_ours_are_accepted_and_no_others() {
    let policy = policy();
    for empty in [Value::Null, json!({}), json!([]), json!("")] {
        assert_eq!(with(&policy, "/spec/newField", empty.clone()), Vec::<String>::new());
        assert_eq!(with(&policy, "/spec/matchConstraints/newField", empty), Vec::<String>::new());
    }
    for (value, shown) in
        [(json!(false), "false"), (json!(0), "0"), (json!({"a": {}}), r#"{"a":{}}"#), (json!([{}]), "[{}]")]
    {
        let expected =
            format!("ValidatingAdmissionPolicy/countersign-jobs: spec.newField: expected nothing, found {shown}");
        assert_eq!(with(&policy, "/spec/newField", value), [expected]);
    }
    // The other way round: an API server that leaves an empty selector out says the same.
    assert_eq!(without(&policy, "/spec/matchConstraints", "objectSelector"), Vec::<String>::new());
    assert_eq!(with(&policy, "/spec/matchConstraints/objectSelector", Value::Null), Vec::<String>::new());
}

#[test]
fn a_policy_narrowed_or_softened_is_found_at_its_field() {
    let policy = policy();
    let rule = "spec.matchConstraints.resourceRules";
    for (found, expected) in [
        (
            with(&policy, "/spec/failurePolicy", json!("Ignore")),
            r#"spec.failurePolicy: expected "Fail", found "Ignore""#,
        ),
        (without(&policy, "/spec", "failurePolicy"), r#"spec.failurePolicy: expected "Fail", found nothing"#),
        (
            with(&policy, "/spec/matchConstraints/resourceRules/0/operations", json!(["CREATE"])),
            &format!(r#"{rule}[0].operations: expected ["CREATE","UPDATE"], found ["CREATE"]"#),
        ),
        (
            without(&policy, "/spec/matchConstraints/resourceRules", "0"),
            &format!("{rule}: expected 1 entries, found 0"),
        ),
        (
            with(&policy, "/spec/matchConstraints/objectSelector/matchLabels", json!({"gate": "on"})),
            r#"spec.matchConstraints.objectSelector.matchLabels: expected nothing, found {"gate":"on"}"#,
        ),
        (
            with(&policy, "/spec/matchConstraints/excludeResourceRules", json!([{"resources": ["jobs"]}])),
            r#"spec.matchConstraints.excludeResourceRules: expected nothing, found [{"resources":["jobs"]}]"#,
        ),
        (
            with(&policy, "/spec/matchConditions", json!([{"name": "x", "expression": "false"}])),
            r#"spec.matchConditions: expected nothing, found [{"expression":"false","name":"x"}]"#,
        ),
        (
            with(&policy, "/spec/validations/0/expression", json!("true")),
            r#"spec.validations[0].expression: expected "object.spec.suspend == true", found "true""#,
        ),
        (without(&policy, "/spec/validations", "1"), "spec.validations: expected 2 entries, found 1"),
        (
            with(&policy, "/spec/paramKind", json!({"apiVersion": "v1", "kind": "ConfigMap"})),
            r#"spec.paramKind: expected nothing, found {"apiVersion":"v1","kind":"ConfigMap"}"#,
        ),
    ] {
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].ends_with(expected), "expected {expected} in {found:?}");
    }
    for (found, expected) in [
        (with(&binding(), "/spec/validationActions", json!(["Audit"])), r#"expected ["Deny"], found ["Audit"]"#),
        (with(&binding(), "/spec/policyName", json!("other")), r#"expected "countersign-jobs", found "other""#),
        (
            with(&binding(), "/spec/matchResources", json!({"namespaceSelector": {"matchLabels": {"a": "b"}}})),
            r#"spec.matchResources: expected nothing, found {"namespaceSelector":{"matchLabels":{"a":"b"}}}"#,
        ),
    ] {
        assert!(found.len() == 1 && found[0].ends_with(expected), "expected {expected} in {found:?}");
    }
}

#[test]
fn a_webhook_is_compared_with_the_one_of_its_name() {
    let configuration = configuration();
    let of = |problem: &str| vec![format!("MutatingWebhookConfiguration/countersign: {problem}")];
    let first = "webhooks[requests.countersign.dev]";
    for (found, expected) in [
        (
            with(&configuration, "/webhooks/0/failurePolicy", json!("Ignore")),
            format!(r#"{first}.failurePolicy: expected "Fail", found "Ignore""#),
        ),
        (
            with(&configuration, "/webhooks/0/clientConfig/caBundle", json!("b3RoZXI=")),
            format!(r#"{first}.clientConfig.caBundle: expected "Q0E=", found "b3RoZXI=""#),
        ),
        (
            with(&configuration, "/webhooks/0/clientConfig/url", json!("https://mallory/admit")),
            format!(
                r#"{first}.clientConfig.url: expected "https://127.0.0.1:9443/admit", found "https://mallory/admit""#
            ),
        ),
        (
            with(&configuration, "/webhooks/0/clientConfig/service", json!({"name": "s", "namespace": "n"})),
            format!(r#"{first}.clientConfig.service: expected nothing, found {{"name":"s","namespace":"n"}}"#),
        ),
        (
            with(&configuration, "/webhooks/0/namespaceSelector/matchLabels", json!({"a": "b"})),
            format!(r#"{first}.namespaceSelector.matchLabels: expected nothing, found {{"a":"b"}}"#),
        ),
        (
            with(&configuration, "/webhooks/0/rules/0/resources", json!(["approvalrequests", "*"])),
            format!(r#"{first}.rules[0].resources: expected ["approvalrequests"], found ["approvalrequests","*"]"#),
        ),
        (
            with(&configuration, "/webhooks/0/matchConditions/0/expression", json!("false")),
            format!(
                r#"{first}.matchConditions[0].expression: expected "request.userInfo.username != 'o'", found "false""#
            ),
        ),
        (without(&configuration, "/webhooks", "0"), format!("{first}: missing")),
        (with(&configuration, "/webhooks/-", json!({"name": "more"})), "webhooks[more]: not one of ours".into()),
    ] {
        assert_eq!(found, of(&expected));
    }
    let mut swapped = configuration.clone();
    swapped["webhooks"].as_array_mut().unwrap().swap(0, 1);
    assert_eq!(compare(&configuration, Some(&swapped)), []);
    let none = json!({"metadata": {}});
    assert_eq!(compare(&configuration, Some(&none)).len(), 2);
}

#[test]
fn a_long_text_is_quoted_where_it_parts_and_stays_on_one_line() {
    let mut expected = policy();
    let text = |end: &str| json!(format!("{} {end}\nline", "object.spec.template ".repeat(40)));
    expected["spec"]["validations"][0]["expression"] = text("== 1");
    let found = with(&expected, "/spec/validations/0/expression", text("|| true"));
    assert!(found[0].contains("== 1") && found[0].contains("|| true"), "{found:?}");
    assert!(found[0].chars().count() < 500 && !found[0].contains('\n'), "{found:?}");
}

fn listed(objects: &[Value]) -> BTreeMap<String, Value> {
    objects.iter().map(|o| (o["metadata"]["name"].as_str().unwrap().to_owned(), o.clone())).collect()
}

fn state() -> State {
    State::new(vec![policy(), binding(), configuration()]).unwrap()
}

fn intact() -> State {
    let mut state = state();
    state.all(Kind::ValidatingAdmissionPolicy, &listed(&[policy()]));
    state.all(Kind::ValidatingAdmissionPolicyBinding, &listed(&[binding()]));
    state.all(Kind::MutatingWebhookConfiguration, &listed(&[configuration()]));
    state
}

#[test]
fn the_gate_is_intact_once_everything_was_seen_and_is_as_expected() {
    let mut state = state();
    assert_eq!(state.condition(at(1)).status, ConditionStatus::Unknown);
    state.all(Kind::ValidatingAdmissionPolicy, &listed(&[policy()]));
    let unknown = state.condition(at(1));
    assert_eq!(unknown.status, ConditionStatus::Unknown);
    assert_eq!(unknown.message, "not seen yet: mutatingwebhookconfigurations, validatingadmissionpolicybindings");
    // What is wrong already need not wait for the rest.
    state.all(Kind::ValidatingAdmissionPolicyBinding, &BTreeMap::new());
    assert_eq!(state.condition(at(2)).status, ConditionStatus::False);
    let mut state = intact();
    let condition = state.condition(at(3));
    assert_eq!((condition.status, condition.reason.as_str()), (ConditionStatus::True, "AsExpected"));
    assert_eq!(condition.type_, "GateIntact");
    assert_eq!(state.changes(), Default::default());
}

#[test]
fn each_change_is_told_once() {
    let mut state = intact();
    state.changes();
    state.set(Kind::ValidatingAdmissionPolicyBinding, "countersign-jobs", None);
    let mut soft = policy();
    soft["spec"]["failurePolicy"] = json!("Ignore");
    state.set(Kind::ValidatingAdmissionPolicy, "countersign-jobs", Some(&soft));
    let changes = state.changes();
    assert_eq!(changes.found.len(), 2);
    assert!(changes.mended.is_empty() && !changes.whole_again);
    assert_eq!(state.changes(), Default::default());
    let condition = state.condition(at(5));
    assert_eq!((condition.status, condition.reason.as_str()), (ConditionStatus::False, "ObjectsChanged"));
    assert_eq!(
        condition.message,
        "ValidatingAdmissionPolicy/countersign-jobs: spec.failurePolicy: expected \"Fail\", found \"Ignore\"; \
         ValidatingAdmissionPolicyBinding/countersign-jobs: missing"
    );

    state.set(Kind::ValidatingAdmissionPolicyBinding, "countersign-jobs", Some(&binding()));
    let changes = state.changes();
    assert!(changes.found.is_empty() && !changes.whole_again);
    assert_eq!(changes.mended, ["ValidatingAdmissionPolicyBinding/countersign-jobs"]);
    // Another fault of the same object is news, and the object is not mended by it.
    soft["spec"]["failurePolicy"] = json!("Fail");
    soft["spec"]["validations"] = json!([]);
    state.set(Kind::ValidatingAdmissionPolicy, "countersign-jobs", Some(&soft));
    let changes = state.changes();
    assert_eq!((changes.found.len(), changes.mended.len()), (1, 0));
    state.set(Kind::ValidatingAdmissionPolicy, "countersign-jobs", Some(&policy()));
    let changes = state.changes();
    assert!(changes.found.is_empty() && changes.whole_again);
    assert_eq!(changes.mended, ["ValidatingAdmissionPolicy/countersign-jobs"]);
    assert_eq!(state.condition(at(9)).last_transition_time.0, at(9));
    assert_eq!(state.condition(at(10)).last_transition_time.0, at(9));
}

#[test]
fn a_gate_that_was_open_for_a_moment_is_told() {
    let mut state = intact();
    state.changes();
    state.set(Kind::ValidatingAdmissionPolicyBinding, "countersign-jobs", None);
    state.set(Kind::ValidatingAdmissionPolicyBinding, "countersign-jobs", Some(&binding()));
    assert_eq!(state.condition(at(1)).status, ConditionStatus::True);
    let changes = state.changes();
    assert_eq!(changes.found[0].to_string(), "ValidatingAdmissionPolicyBinding/countersign-jobs: missing");
    assert_eq!(changes.mended, ["ValidatingAdmissionPolicyBinding/countersign-jobs"]);
    assert!(changes.whole_again);
    assert_eq!(state.changes(), Default::default());
}

#[test]
fn objects_of_others_are_nothing_to_it() {
    let mut state = intact();
    assert!(!state.expects(Kind::ValidatingAdmissionPolicy, "other"));
    assert!(!state.expects(Kind::MutatingAdmissionPolicy, "countersign-jobs"));
    state.set(Kind::ValidatingAdmissionPolicy, "other", Some(&json!({"spec": {"failurePolicy": "Ignore"}})));
    state.set(Kind::MutatingAdmissionPolicy, "countersign-jobs", None);
    assert_eq!(state.findings().count(), 0);
    assert_eq!(state.kinds().len(), 3);
}

#[test]
fn a_list_tells_of_what_went_while_nobody_looked() {
    let mut state = intact();
    state.all(Kind::MutatingWebhookConfiguration, &BTreeMap::new());
    assert_eq!(state.changes().found[0].to_string(), "MutatingWebhookConfiguration/countersign: missing");
}

#[test]
fn a_kind_that_is_not_served_is_missing_and_does_not_keep_the_rest_waiting() {
    let mutating = json!({"kind": "MutatingAdmissionPolicy", "metadata": {"name": "countersign-jobs"}, "spec": {}});
    let mut state = State::new(vec![mutating]).unwrap();
    state.not_served(Kind::MutatingAdmissionPolicy);
    assert!(!state.is_served(Kind::MutatingAdmissionPolicy) && state.is_served(Kind::ValidatingAdmissionPolicy));
    let condition = state.condition(at(1));
    assert_eq!(condition.status, ConditionStatus::False);
    assert!(condition.message.ends_with("missing: this API server does not serve the kind"), "{}", condition.message);
}

#[test]
fn a_job_started_elsewhere_counts_for_an_hour() {
    let mut state = intact();
    state.started_elsewhere("Job", "payments", "run", at(0));
    let condition = state.condition(at(1));
    assert_eq!((condition.status, condition.reason.as_str()), (ConditionStatus::False, "JobsStartedElsewhere"));
    assert!(condition.message.starts_with("Job/payments/run: started by somebody other"), "{}", condition.message);
    assert_eq!(state.changes().found.len(), 1);
    // Told once, however often it is seen.
    state.started_elsewhere("Job", "payments", "run", at(60));
    assert_eq!(state.changes(), Default::default());
    assert_eq!(state.forget(at(3600)), Some(at(3660)));
    assert_eq!(state.forget(at(3660)), None);
    assert!(state.changes().whole_again);
    assert_eq!(state.condition(at(3661)).status, ConditionStatus::True);
}

#[test]
fn many_findings_stay_within_bounds() {
    let mut state = intact();
    for i in 0..1000 {
        state.started_elsewhere("Job", "payments", &format!("run-{i}"), at(i));
    }
    assert_eq!(state.findings().count(), 20);
    let condition = state.condition(at(1000));
    assert!(condition.message.len() <= 2048, "{}", condition.message);
    assert!(condition.message.ends_with("; and 15 more"), "{}", condition.message);
}

#[test]
fn what_cannot_be_watched_is_refused() {
    let refused = |objects: Vec<Value>| State::new(objects).unwrap_err();
    assert_eq!(refused(vec![json!({"kind": "Secret"})]), Unwatchable::Kind("Secret".into()));
    let nameless = json!({"kind": "ValidatingAdmissionPolicy", "metadata": {}});
    assert_eq!(refused(vec![nameless]), Unwatchable::Nameless("ValidatingAdmissionPolicy"));
    let twice = refused(vec![policy(), policy()]);
    assert_eq!(twice.to_string(), "ValidatingAdmissionPolicy/countersign-jobs is expected twice");
}
