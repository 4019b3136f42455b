//! What is told later of how an object is to be stored, and what changes while it does.

use super::*;

fn trusting(bundle: &str) -> Value {
    let mut configuration = configuration();
    for webhook in configuration["webhooks"].as_array_mut().unwrap() {
        webhook["clientConfig"]["caBundle"] = json!(bundle);
    }
    configuration
}

/// The other objects are as they should be, and this one is stored like that.
fn seen(state: &mut State, stored: Option<&Value>) {
    state.all(Kind::ValidatingAdmissionPolicy, &listed(&[policy()]));
    state.all(Kind::ValidatingAdmissionPolicyBinding, &listed(&[binding()]));
    state.set(Kind::MutatingWebhookConfiguration, "countersign", stored);
}

#[test]
fn while_a_change_is_on_its_way_both_ways_are_as_expected_and_then_only_the_new_one() {
    let mut state = intact();
    state.expect(trusting("bmV3"));
    state.expect(trusting("bmV3"));
    assert_eq!(state.condition(at(1)).status, ConditionStatus::True, "it is not written yet");
    let mut soft = configuration();
    soft["webhooks"][0]["failurePolicy"] = json!("Ignore");
    seen(&mut state, Some(&soft));
    let findings: Vec<_> = state.findings().map(ToString::to_string).collect();
    assert_eq!(findings.len(), 1, "the nearest tells: {findings:?}");
    seen(&mut state, Some(&trusting("bmV3")));
    assert_eq!(state.condition(at(2)).status, ConditionStatus::True);
    state.changes();
    seen(&mut state, Some(&configuration()));
    assert_eq!(state.changes().found.len(), 2, "what was left behind is not expected any more");
    // Where it is to be as it was, it may be.
    state.expect(configuration());
    assert_eq!(state.condition(at(3)).status, ConditionStatus::True);
    assert_eq!(state.changes().mended, ["MutatingWebhookConfiguration/countersign"]);
    state.expect(json!({"kind": "Secret", "metadata": {"name": "countersign"}}));
    assert_eq!(state.findings().count(), 0, "nobody asked for that");
}

#[test]
fn one_that_is_told_later_is_unknown_until_then() {
    let mut state = State::new(vec![policy(), binding()]).unwrap();
    state.await_one(Kind::MutatingWebhookConfiguration, "countersign");
    assert_eq!(state.kinds().len(), 3);
    state.all(Kind::MutatingWebhookConfiguration, &BTreeMap::new());
    seen(&mut state, Some(&trusting("bmV3")));
    let condition = state.condition(at(1));
    assert_eq!(condition.status, ConditionStatus::Unknown);
    assert_eq!(condition.message, "not seen yet: mutatingwebhookconfigurations");
    state.expect(trusting("bmV3"));
    assert_eq!(state.condition(at(2)).status, ConditionStatus::True);
    assert_eq!(state.changes(), Default::default());
    seen(&mut state, None);
    assert_eq!(state.changes().found[0].to_string(), "MutatingWebhookConfiguration/countersign: missing");
}
