//! The join of the fields that the rules of approvals, time and constraints set.

use super::*;
use crate::api::Subject;

/// A policy whose one rule takes an approval, with these changes.
fn requiring(change: impl Fn(&mut Value)) -> Value {
    let mut rule = rule("r", json!({}), "RequireApproval");
    change(&mut rule);
    json!({"rules": [rule]})
}

fn of(policies: &[(&str, Value)]) -> Outcome {
    Asked::with_tags(&[]).of(&set(policies))
}

#[test]
fn exclusions_and_comments_hold_once_one_rule_asks_for_them() {
    let plain = requiring(|_| ());
    let creator = requiring(|r| r["approvals"]["exclude"] = json!(["JobCreator"]));
    let comment = requiring(|r| r["approvals"]["requireComment"] = json!(true));
    let asked = |o: &Outcome| (o.exclude_creator, o.require_comment);
    assert_eq!(asked(&of(&[("a", plain.clone())])), (false, false));
    assert_eq!(asked(&of(&[("a", plain.clone()), ("b", creator.clone())])), (true, false));
    let both = of(&[("a", plain), ("b", creator), ("c", comment)]);
    assert_eq!(asked(&both), (true, true));
    let snapshot = both.snapshot();
    assert_eq!((&snapshot["excludeJobCreator"], &snapshot["requireComment"]), (&json!(true), &json!(true)));
}

#[test]
fn whoever_last_changed_a_policy_that_has_a_say_is_excluded_once_one_rule_asks_for_it() {
    let excluding = requiring(|r| r["approvals"]["exclude"] = json!(["PolicyEditor"]));
    let compiled = |name: &str, spec: &Value, editor| Arc::new(compile(name, spec, editor).unwrap());
    let ready = vec![
        compiled("a", &excluding, Some("alice")),
        compiled("b", &requiring(|_| ()), Some("bob")),
        compiled("c", &excluding, Some("alice")),
        compiled("d", &requiring(|r| r["when"] = json!({"riskTags": ["other"]})), Some("carol")),
    ];
    let asked = |ready| Asked::with_tags(&[]).of(&PolicySet { ready, broken: vec![] });
    let editors = |outcome: &Outcome| outcome.editors.iter().map(|e| e.to_string()).collect::<Vec<_>>();
    let outcome = asked(ready.clone());
    // One rule's word is about every policy that has a say: else its editor loosens another, and approves by both.
    assert_eq!(editors(&outcome), ["alice", "bob"], "and not who wrote what says nothing here");
    assert_eq!(outcome.snapshot()["excludeEditorsOf"], json!(["a", "b", "c"]));
    assert!(outcome.doubts.is_empty());
    let silent = asked(vec![ready[1].clone(), ready[3].clone()]);
    assert_eq!((editors(&silent), silent.snapshot()["excludeEditorsOf"].clone()), (vec![], json!([])));

    let doubted = asked(vec![compiled("a", &excluding, None)]);
    assert!(doubted.doubts[0].what.contains("nobody was stamped"), "{:?}", doubted.doubts);
    let other = asked(vec![ready[0].clone(), compiled("b", &requiring(|_| ()), None)]);
    assert_eq!((other.doubts.len(), other.doubts[0].policy.as_str()), (1, "b"), "{:?}", other.doubts);
}

#[test]
fn releases_wait_for_the_latest_hour_and_for_every_window() {
    let window = |name: &str, start: &str| json!({"name": name, "start": start, "durationSeconds": 3600});
    let early = requiring(|r| {
        r["notBeforeSeconds"] = json!(60);
        r["freezeWindows"] = json!([window("nightly", "0 2 * * *"), window("noon", "0 12 * * *")]);
    });
    let late = json!({"rules": [{"name": "r", "decision": "Allow", "notBeforeSeconds": 600,
        "freezeWindows": [window("nightly", "0 3 * * *")]}]});
    let outcome = of(&[("b", late), ("a", early), ("c", requiring(|_| ()))]);
    assert_eq!(outcome.not_before_seconds, Some(600), "an Allow rule's clock counts too");
    let windows: Vec<_> = outcome
        .windows
        .iter()
        .map(|w| (w.rule.policy.to_string(), w.window().name.as_str(), w.window().start.as_str()))
        .collect();
    let expected = [("a", "nightly", "0 2 * * *"), ("a", "noon", "0 12 * * *"), ("b", "nightly", "0 3 * * *")];
    assert_eq!(windows, expected.map(|(p, n, s)| (p.to_string(), n, s)), "windows of one name stay apart");
    assert_eq!(outcome.snapshot()["freezeWindows"].as_array().map(Vec::len), Some(3));
}

#[test]
fn who_may_pass_a_window_of_an_allow_stops_it_alone_whatever_else_is_asked() {
    let window =
        |may_pass: Value| json!([{"name": "w", "start": "0 2 * * *", "durationSeconds": 60, "mayPass": may_pass}]);
    let allow = |windows: Value| json!({"rules": [{"name": "r", "decision": "Allow", "freezeWindows": windows}]});
    let three = requiring(|r| r["approvals"]["denials"] = json!(3));
    let leads = json!([{"kind": "Group", "name": "leads"}]);
    assert_eq!(of(&[("a", allow(window(leads.clone())))]).denials, 1);
    assert_eq!(
        of(&[("a", allow(window(leads))), ("b", three.clone())]).denials,
        1,
        "a rule more does not make it three"
    );
    assert_eq!(of(&[("a", allow(window(json!([])))), ("b", three)]).denials, 3, "nobody is asked there");
}

#[test]
fn a_service_account_is_one_subject_however_it_is_spelled() {
    let naming = |approver: Value| requiring(|r| r["approvals"]["requirements"][0]["approvers"] = json!([approver]));
    let outcome = of(&[
        ("a", naming(json!({"kind": "User", "name": "system:serviceaccount:ci:deployer"}))),
        ("b", naming(json!({"kind": "ServiceAccount", "namespace": "ci", "name": "deployer"}))),
    ]);
    let approvers: Vec<&Subject> = outcome.requirements.iter().flat_map(|r| &r.approvers).collect();
    assert_eq!(approvers.len(), 1, "{approvers:?}");
    assert_eq!(approvers[0].describe(), "serviceaccount ci/deployer");
}

/// What is joined is written into the status, and has to be what the CRD takes there.
#[test]
fn a_user_who_only_looks_like_a_service_account_is_refused_and_never_taken_apart() {
    let user = |name: &str| json!({"kind": "User", "name": name});
    let long = format!("system:serviceaccount:{}:bot", "n".repeat(64));
    let wrong = [
        "system:serviceaccount:ci:",
        "system:serviceaccount::bot",
        "system:serviceaccount:ci",
        "system:serviceaccount:",
        &long,
        "system:serviceaccount:ci:a:b",
        "system:serviceaccount:Ci:bot",
    ];
    for name in wrong {
        let approver = requiring(|r| r["approvals"]["requirements"][0]["approvers"] = json!([user(name)]));
        let requester = requiring(|r| r["when"] = json!({"requesters": [user(name)]}));
        for (spec, at) in [(approver, "requirements[sre].approvers[0].name"), (requester, "when.requesters[0].name")] {
            let found = error(spec);
            assert!(found.contains(at) && found.contains("is no service account's username"), "{name}: {found}");
        }
    }
    for name in ["system:serviceaccount:ci:bot", "system:serviceaccount:ci:bot.v1", "system:serviceaccounts", "alice"] {
        let spec = requiring(|r| r["approvals"]["requirements"][0]["approvers"] = json!([user(name)]));
        assert_eq!(of(&[("a", spec)]).requirements.len(), 1, "{name}");
    }
}

#[test]
fn the_tightest_amount_is_taken_by_value() {
    let bounded = |cpu: &str, memory: &str| {
        requiring(|r| r["constraints"] = json!({"maxCpu": cpu, "maxMemory": memory, "maxRetries": 3}))
    };
    let outcome = of(&[("a", bounded("1", "1Gi")), ("b", bounded("900m", "2G")), ("c", requiring(|_| ()))]);
    let bounds = &outcome.constraints;
    let text = |q: &Option<crate::api::Quantity>| q.as_ref().map(|q| q.as_str().to_string());
    assert_eq!((text(&bounds.max_cpu), text(&bounds.max_memory)), (Some("900m".into()), Some("1Gi".into())));
}

#[test]
fn a_failing_expression_never_loosens() {
    let failing = json!({"expression": "object.spec.missing == 1"});
    let with = |decision: &str, part: &str| {
        let mut rule = rule("r", json!({}), decision);
        rule[part] = failing.clone();
        json!({"rules": [rule]})
    };
    let decision = |policies: &[(&str, Value)]| of(policies).decision;
    assert_eq!(decision(&[("a", with("Allow", "when"))]), None, "an Allow rule does not match");
    assert_eq!(decision(&[("a", with("Allow", "unless"))]), None, "nor does it where its exemption might hold");
    for part in ["when", "unless"] {
        let outcome = of(&[("a", with("RequireApproval", part))]);
        assert_eq!(outcome.decision, Some(Decision::RequireApproval), "{part}");
        assert!(outcome.failure(&outcome.matches[0]).is_some());
        assert_eq!(outcome.snapshot()["failures"].as_array().map(Vec::len), Some(1));
    }
    let allow = json!({"rules": [rule("r", json!({}), "Allow")]});
    for part in ["when", "unless"] {
        let outcome = of(&[("a", allow.clone()), ("b", with("Deny", part))]);
        assert_eq!(outcome.decision, Some(Decision::Allow), "{part}: a Deny that might match does not deny for good");
        assert!(outcome.doubts[0].what.contains("its rule r cannot be evaluated"), "{part}: {:?}", outcome.doubts);
    }
    // Where another part of the exemption does not hold, the expression is not asked, and it is denied.
    let mut elsewhere = with("Deny", "unless");
    elsewhere["rules"][0]["unless"]["namespaceSelector"] = json!({"matchLabels": {"env": "staging"}});
    let outcome = of(&[("b", elsewhere)]);
    assert_eq!((outcome.decision, outcome.doubts.len()), (Some(Decision::Deny), 0));
}

#[test]
fn errors_of_the_new_fields_name_them() {
    let changed = |change: &dyn Fn(&mut Value)| error(requiring(change));
    let classifier =
        |when: Value| json!({"classifiers": [{"tag": "t", "when": when}], "rules": [rule("r", json!({}), "Deny")]});
    for (found, expected) in [
        (error(classifier(json!({}))), "spec.classifiers[0].when: is empty"),
        (
            error(classifier(json!({"unrestrictedEgress": false}))),
            "spec.classifiers[0].when.unrestrictedEgress: is true or absent",
        ),
        (error(classifier(json!({"serviceAccountMay": {}}))), "spec.classifiers[0].when.serviceAccountMay: is empty"),
        (
            changed(&|r| {
                r["approvals"]["requirements"][0]["approvers"] = json!([{"kind": "Authorized", "name": "other"}])
            }),
            "approvers[0].name: is \"other\"; kind Authorized names the policy that it stands in, \"p\"",
        ),
        (
            changed(&|r| r["when"] = json!({"requesters": [{"kind": "Authorized", "name": "p"}]})),
            "when.requesters[0].kind: is for approvers",
        ),
        (changed(&|r| r["notBeforeSeconds"] = json!(0)), "spec.rules[r].notBeforeSeconds: must be from 1 to 31536000"),
        (
            error(json!({"rules": [{"name": "r", "decision": "Deny", "notBeforeSeconds": 60}]})),
            "spec.rules[r].notBeforeSeconds: belongs to decision Allow or RequireApproval",
        ),
        (
            changed(&|r| r["constraints"] = json!({"maxMemory": "plenty"})),
            "spec.rules[0].constraints.maxMemory: \"plenty\" is no quantity",
        ),
        (
            changed(&|r| r["constraints"] = json!({"maxCpu": "0"})),
            "spec.rules[r].constraints.maxCpu: is 0; must be more than 0",
        ),
    ] {
        assert!(found.contains(expected), "expected {expected:?} in {found:?}");
    }
}
