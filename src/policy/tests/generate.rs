//! Policies, requests and reviews of every shape, for what holds of all of them.

use super::*;
use proptest::prelude::*;

/// A policy, and who last changed it.
#[derive(Clone, Debug)]
pub struct Written {
    pub spec: Value,
    pub editor: Option<&'static str>,
}

/// One of these, or none.
fn maybe(from: &[&'static str]) -> impl Strategy<Value = Option<&'static str>> + use<> {
    prop::option::of(prop::sample::select(from.to_vec()))
}

fn some_of(from: &[&'static str], most: usize) -> impl Strategy<Value = Vec<&'static str>> + use<> {
    prop::sample::subsequence(from.to_vec(), 0..=most)
}

/// Somebody, in one of several spellings. `Authorized` names the policy that it will stand in.
fn subject() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        json!({"kind": "User", "name": "alice"}),
        json!({"kind": "User", "name": "bob"}),
        json!({"kind": "User", "name": "system:serviceaccount:ci:bot"}),
        json!({"kind": "ServiceAccount", "namespace": "ci", "name": "bot"}),
        json!({"kind": "Group", "name": "sre"}),
        json!({"kind": "Group", "name": "security"}),
        json!({"kind": "Authorized", "name": THIS_POLICY}),
    ])
}

const THIS_POLICY: &str = "this policy";

fn subjects(least: usize) -> impl Strategy<Value = Vec<Value>> {
    prop::collection::vec(subject(), least..4)
}

fn requester() -> impl Strategy<Value = Value> {
    subject().prop_filter("approvers only", |subject| subject["kind"] != "Authorized")
}

/// One that holds of the namespace, one that does not, two about the work, one about the hour, and one that fails.
const EXPRESSIONS: [&str; 6] = [
    "request.namespace == \"payments\"",
    "request.userInfo.username == \"mallory\"",
    "object != null && object.spec.parallelism > 1",
    "object.spec.parallelism > 1",
    "time.getHours() < 12",
    "object.spec.missing == 1",
];

/// Conditions. `claims` says whether they may rest on what is claimed.
fn conditions(claims: bool) -> impl Strategy<Value = Value> {
    let tags = (some_of(&["a", "b", "c"], 2), some_of(&["a", "b", "c", "d"], 2));
    let by = some_of(&["workflow.*", "?gent", "*"], if claims { 2 } else { 0 });
    let who = prop::collection::vec(requester(), 0..2);
    // Each often absent: what never matches shows nothing.
    (tags, by, who, maybe(&["prod", "staging"]), maybe(&EXPRESSIONS), any::<[bool; 5]>()).prop_map(
        |((all, any_of), by, who, env, expression, kept)| {
            let mut when = json!({});
            let parts = [
                ("riskTags", json!(all), kept[0]),
                ("anyRiskTags", json!(any_of), kept[1]),
                ("requestedBy", json!(by), kept[2]),
                ("requesters", json!(who), kept[3] && kept[0]),
            ];
            for (name, value, _) in parts.into_iter().filter(|(_, value, kept)| *kept && *value != json!([])) {
                when[name] = value;
            }
            if let Some(env) = env.filter(|_| kept[4]) {
                when["namespaceSelector"] = json!({"matchLabels": {"env": env}});
            }
            if let Some(expression) = expression {
                when["expression"] = json!(expression);
            }
            when
        },
    )
}

fn window(name: &'static str) -> impl Strategy<Value = Value> {
    let start = prop::sample::select(vec!["0 2 * * *", "30 12 * * 1-5", "0 0 1 * *"]);
    (start, subjects(0), 60..7200i64).prop_map(move |(start, may_pass, seconds)| {
        json!({"name": name, "start": start, "durationSeconds": seconds, "mayPass": may_pass})
    })
}

fn bounds() -> impl Strategy<Value = Value> {
    let numbers = (prop::option::of(1..5000i64), prop::option::of(0..5i32), prop::option::of(1..5i32));
    let amounts = (maybe(&["500m", "1", "1000m", "2"]), maybe(&["1Gi", "1G", "1024Mi", "64Mi"]));
    let limits = prop::collection::btree_map("[m-o]", 0..100i64, 0..3);
    (numbers, amounts, limits).prop_map(|((runtime, retries, parallelism), (cpu, memory), limits)| {
        let all = json!({"maxRuntimeSeconds": runtime, "maxRetries": retries, "maxParallelism": parallelism,
            "maxCpu": cpu, "maxMemory": memory, "limits": limits});
        let set = all.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
        Value::Object(set.map(|(key, value)| (key.clone(), value.clone())).collect())
    })
}

fn approvals() -> impl Strategy<Value = Value> {
    let requirements = prop::collection::vec((1..4i32, subjects(1)), 1..5);
    let exclude = some_of(&["JobCreator", "PolicyEditor"], 2);
    // Mostly without, so that not everything is in doubt for want of an editor.
    let exclude = prop_oneof![2 => Just(vec![]), 1 => exclude];
    (requirements, 1..4i32, any::<(bool, bool)>(), exclude).prop_map(|(all, denials, (own, comment), exclude)| {
        let requirements: Vec<Value> = all
            .into_iter()
            .enumerate()
            .map(|(i, (count, approvers))| json!({"name": format!("q{i}"), "count": count, "approvers": approvers}))
            .collect();
        json!({"requirements": requirements, "denials": denials, "selfApproval": if own { "Allow" } else { "Forbid" },
            "requireComment": comment, "exclude": exclude})
    })
}

/// A rule that compiles. `trusting` ones may believe claims.
pub fn rule_of(trusting: bool) -> impl Strategy<Value = Value> {
    let decision = prop::sample::select(vec!["Allow", "RequireApproval", "RequireApproval", "RequireApproval", "Deny"]);
    let parts = (conditions(true), prop_oneof![3 => Just(json!({})), 1 => conditions(trusting)], bounds(), approvals());
    let clocks = (1..5000i64, 1..5000i64, prop::option::of(1..5000i64));
    let windows = prop_oneof![2 => Just(vec![]), 1 => (window("w"), window("v")).prop_map(|(w, v)| vec![w, v])];
    let demands = (any::<(bool, bool)>(), maybe(&["Delete", "Hold"]), windows, any::<bool>());
    (decision, parts, clocks, demands).prop_map(
        move |(decision, (when, unless, bounds, approvals), (pending, release, delay), demands)| {
            let ((inputs, images), on_denied, windows, trust) = demands;
            let mut rule = json!({"name": "x", "decision": decision, "when": when, "constraints": bounds,
                "trustClaims": trusting && trust, "pendingTimeoutSeconds": pending, "releaseTimeoutSeconds": release});
            if unless != json!({}) {
                rule["unless"] = unless;
            }
            if decision != "Deny" {
                let demands = json!({"requireImmutableInputs": inputs, "requireImageDigests": images,
                    "freezeWindows": windows});
                rule.as_object_mut().unwrap().extend(demands.as_object().unwrap().clone());
                rule["notBeforeSeconds"] = json!(delay);
            }
            if let Some(on_denied) = on_denied.filter(|_| decision != "Allow") {
                rule["onDenied"] = json!(on_denied);
            }
            if decision == "RequireApproval" {
                rule["approvals"] = approvals;
            }
            mended(rule)
        },
    )
}

pub fn rule() -> impl Strategy<Value = Value> {
    rule_of(true)
}

/// The rule without what would be refused: claims where facts are wanted, and people who are too few.
fn mended(mut rule: Value) -> Value {
    let trusting = rule["trustClaims"] == true;
    for part in ["when", "unless"] {
        if !trusting && (part == "unless" || rule["decision"] == "Allow") {
            rule[part].as_object_mut().map(|part| part.remove("requestedBy"));
        }
    }
    if rule["unless"].as_object().is_none_or(|unless| unless.is_empty()) {
        rule.as_object_mut().unwrap().remove("unless");
    }
    let compiles = |rule: &Value| compile("p", &standing_in("p", json!({"rules": [rule]})), None).map(|_| ());
    if compiles(&rule).is_err() {
        let requirements = rule.pointer_mut("/approvals/requirements").and_then(Value::as_array_mut);
        for requirement in requirements.into_iter().flatten() {
            requirement["approvers"].as_array_mut().unwrap().push(json!({"kind": "Group", "name": "sre"}));
        }
    }
    // A rule that breaks its policy would say nothing, and be in the way of those that do.
    assert!(compiles(&rule).is_ok(), "{rule:#}: {:?}", compiles(&rule));
    rule
}

/// The policy under its name.
pub fn standing_in(name: &str, spec: Value) -> Value {
    let text = spec.to_string().replace(&format!("\"{THIS_POLICY}\""), &format!("\"{name}\""));
    serde_json::from_str(&text).unwrap()
}

pub fn policy_of(trusting: bool) -> impl Strategy<Value = Written> {
    let rules = prop::collection::vec(rule_of(trusting), 1..4);
    let editor = maybe(&["alice", "carol", "system:serviceaccount:ci:bot"]);
    (rules, maybe(&["prod", "staging"]), maybe(&["a", "b"]), editor, 0..12u8).prop_map(
        |(mut rules, env, classifier, editor, broken)| {
            for (i, rule) in rules.iter_mut().enumerate() {
                rule["name"] = json!(format!("r{i}"));
            }
            let mut spec = json!({"rules": rules});
            if let Some(tag) = classifier {
                let when = json!({"namespaceSelector": {"matchLabels": {"env": "prod"}}});
                spec["classifiers"] = json!([{"tag": tag, "when": when}]);
            }
            if let Some(env) = env {
                spec["match"] = json!({"namespaceSelector": {"matchLabels": {"env": env}}});
            }
            if broken == 0 {
                spec["rules"] = json!([]);
            }
            Written { spec, editor }
        },
    )
}

pub fn policy() -> impl Strategy<Value = Written> {
    policy_of(true)
}

pub fn request() -> impl Strategy<Value = Asked> {
    let owners = prop::sample::select(vec![None, Some("p0".to_string()), Some("p1".to_string())]);
    let derived = prop::collection::vec((prop::sample::select(vec!["a", "b", "c"]), owners), 0..3);
    let object = prop::option::of(1..3i32);
    let who =
        prop::sample::select(vec![("alice", "sre"), ("mallory", "developers"), ("system:serviceaccount:ci:bot", "x")]);
    let by = prop::sample::select(vec!["workflow.triage", "agent", "x"]);
    (some_of(&["a", "b", "c", "d"], 4), derived, object, who, by, 0..2i64).prop_map(
        |(declared, derived, parallelism, (username, group), by, half)| {
            let derived = derived
                .into_iter()
                .map(|(tag, policy)| DerivedTag { tag: tag.into(), policy, detail: String::new(), advisory: false })
                .collect();
            let requester = Requester { username: username.into(), uid: None, groups: vec![group.into()] };
            let claims = json!({"requestedBy": by, "riskTags": declared});
            let object = parallelism.map(|n| json!({"kind": "Job", "metadata": {}, "spec": {"parallelism": n}}));
            let asked = jiff::Timestamp::from_second(half * 13 * 3600).unwrap();
            Asked { requested_by: by.into(), claims, object, derived, requester, asked, ..Asked::with_tags(&declared) }
        },
    )
}

/// What somebody said: who, whether they approve, whether with a comment, and in which groups and with which grants.
#[derive(Clone, Debug)]
pub struct Word {
    pub who: &'static str,
    pub approves: bool,
    pub comment: bool,
    pub groups: Vec<&'static str>,
    pub granted: Vec<&'static str>,
}

pub fn words() -> impl Strategy<Value = Vec<Word>> {
    let who = prop::sample::select(vec![
        "alice",
        "bob",
        "carol",
        "mallory",
        "u1",
        "u2",
        "u3",
        "u4",
        "system:serviceaccount:ci:bot",
    ]);
    let word = (who, 0..6u8, any::<bool>(), some_of(&["sre", "security"], 2), some_of(&["p0", "p1", "p2", "p3"], 4));
    let word =
        word.prop_map(|(who, no, comment, groups, granted)| Word { who, approves: no != 0, comment, groups, granted });
    prop::collection::vec(word, 0..16)
}
