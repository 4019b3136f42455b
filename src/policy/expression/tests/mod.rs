use super::*;
use crate::api::Requester;
use crate::policy::Facts;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;

mod bounds;
mod claims;
mod compiling;
mod reference;

/// The facts of one request, owned.
pub(super) struct Asked {
    pub requester: Requester,
    pub labels: BTreeMap<String, String>,
    pub claims: Value,
    pub object: Option<Value>,
    pub asked: Timestamp,
}

impl Asked {
    pub(super) fn of(object: Option<Value>) -> Self {
        Self {
            requester: Requester {
                username: "alice".into(),
                uid: Some("u-1".into()),
                groups: vec!["sre".into(), "system:authenticated".into()],
            },
            labels: BTreeMap::from([("team".into(), "payments".into())]),
            claims: json!({"reason": "hotfix for 4711", "riskTags": ["write"]}),
            object,
            // A Sunday in Berlin, half past one at night; still Saturday in UTC.
            asked: "2026-03-28T23:30:15.25Z".parse().unwrap(),
        }
    }

    pub(super) fn facts(&self) -> Facts<'_> {
        Facts {
            requested_by: "",
            declared_tags: &[],
            claims: &self.claims,
            derived_tags: &[],
            requester: &self.requester,
            namespace: "prod",
            namespace_labels: &self.labels,
            object: self.object.as_ref(),
            asked: self.asked,
        }
    }

    pub(super) fn holds(&self, text: &str, trust_claims: bool) -> Result<bool, String> {
        let expression = Expression::compile(text, trust_claims).unwrap_or_else(|e| panic!("{text}: {e}"));
        expression.holds(&Environment::new(&self.facts(), trust_claims), &mut Budget::default())
    }
}

/// As a controller would write it, and the API server store it.
pub(super) fn job() -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "migrate", "namespace": "prod", "uid": "j-1", "generation": 1,
            "labels": {"app": "billing"}, "annotations": {"note": "safe"}},
        "spec": {"completions": 12, "parallelism": 3, "ttlSecondsAfterFinished": 600, "suspend": true,
            "template": {"metadata": {"labels": {"tier": "batch"}}, "spec": {
                "restartPolicy": "Never", "serviceAccountName": "migrator",
                "containers": [
                    {"name": "main", "image": "registry.example/billing:1.4", "command": ["sh", "-c", "migrate"],
                        "env": [{"name": "DB", "value": "s3cr3t-db"}, {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "k", "key": "v"}}}],
                        "resources": {"limits": {"cpu": "2", "memory": "1Gi"}}},
                    {"name": "log", "image": "registry.example/log@sha256:0123", "securityContext": {"runAsUser": 0}},
                ],
                "volumes": [{"name": "tmp", "emptyDir": {}}],
            }}},
        "status": {"active": 0},
    })
}

#[test]
fn the_expressions_that_people_write() {
    let asked = Asked::of(Some(job()));
    for (text, expected) in [
        (r#"object.spec.template.spec.containers.all(c, c.image.startsWith("registry.example/"))"#, true),
        ("has(object.spec.ttlSecondsAfterFinished) && object.spec.ttlSecondsAfterFinished < 3600", true),
        (r#"request.userInfo.groups.exists(g, g == "sre")"#, true),
        (r#""sre" in request.userInfo.groups && !("dev" in request.userInfo.groups)"#, true),
        (r#"time.getDayOfWeek("Europe/Berlin") in [0, 6]"#, true),
        (r#"object != null && object.kind == "Job" && object.spec.completions > 10"#, true),
        (r#"namespaceObject.metadata.labels["team"] == "payments""#, true),
        (r#""team" in namespaceObject.metadata.labels && namespaceObject.metadata.name == "prod""#, true),
        (
            r#"request.userInfo.username == "alice" && request.userInfo.uid == "u-1" && request.namespace == "prod""#,
            true,
        ),
        (r#"object.metadata.namespace == "prod" && object.apiVersion == "batch/v1""#, true),
        (r#"object.spec.template.spec.containers.exists_one(c, c.image.matches("@sha256:[0-9a-f]+$"))"#, true),
        (r#"object.spec.template.spec.containers[0].command == ["sh", "-c", "migrate"]"#, true),
        (r#"["sh", "-c", "migrate"] == object.spec.template.spec.containers[0].command"#, true),
        (r#"object.spec.template.spec.containers.filter(c, has(c.securityContext)).size() == 1"#, true),
        (r#"object.spec.template.spec.containers.map(c, c.name) == ["main", "log"]"#, true),
        (r#"object.spec.template.spec.containers.map(c, has(c.env), c.env.size()) == [2]"#, true),
        (r#"object.spec.template.spec.containers.all(c, !has(c.env) || c.env.all(e, e.name.size() <= 3))"#, true),
        (r#"object.spec.template.spec.containers.exists(c, c.?x == 1)"#, false),
        ("object.spec.completions * 2 == 24 && object.spec.completions / object.spec.parallelism == 4", true),
        (
            "object.spec.completions % 5 == 2 && -object.spec.completions == -12 && object.spec.completions == 12.0",
            true,
        ),
        ("object.spec.suspend ? object.spec.parallelism <= 3 : false", true),
        (r#"int(object.spec.template.spec.containers[0].resources.limits.cpu) == 2"#, true),
        (r#"object.spec.template.metadata.labels.tier == "batch""#, true),
        ("has(object.spec.template.spec.volumes[0].emptyDir) && !has(object.spec.template.spec.hostPID)", true),
    ] {
        if text.contains(".?") {
            assert!(Expression::compile(text, false).is_err(), "{text}");
            continue;
        }
        assert_eq!(asked.holds(text, false), Ok(expected), "{text}");
    }
    assert_eq!(asked.holds(r#"claims.reason.contains("hotfix")"#, true), Ok(true));
    assert_eq!(asked.holds(r#""write" in claims.riskTags && object.metadata.labels.app == "billing""#, true), Ok(true));
    assert_eq!(
        asked.holds(r#"object.metadata.name == "migrate" && object.metadata.annotations.note == "safe""#, true),
        Ok(true)
    );
}

#[test]
fn a_request_without_a_target_has_no_object() {
    let asked = Asked::of(None);
    assert_eq!(asked.holds("object == null", false), Ok(true));
    assert_eq!(asked.holds(r#"object != null && object.kind == "Job""#, false), Ok(false));
    assert_eq!(asked.holds(r#"object.kind == "Job""#, false), Err("null has no fields".into()));
}

#[test]
fn an_object_that_nobody_has_seen_fails_whatever_is_asked_of_it() {
    let asked = Asked::of(Some(Value::Null));
    for text in ["object == null", "object != null", "has(object.spec)", "[object].size() == 1", "object.kind != 'Job'"]
    {
        assert_eq!(asked.holds(text, false), Err("the Job or Pod has not been seen".into()), "{text}");
    }
    assert_eq!(
        asked.holds("object == null || request.namespace == 'prod'", false),
        Ok(true),
        "it does not depend on it"
    );
    assert_eq!(asked.holds("object.kind == 'Job' && request.namespace == 'x'", false), Ok(false));
}

#[test]
fn time_is_when_it_was_asked() {
    let asked = Asked::of(None);
    for text in [
        "time.getFullYear() == 2026 && time.getMonth() == 2 && time.getDate() == 28 && time.getDayOfMonth() == 27",
        "time.getDayOfWeek() == 6 && time.getDayOfYear() == 86 && time.getHours() == 23 && time.getMinutes() == 30",
        "time.getSeconds() == 15 && time.getMilliseconds() == 250",
        // The clocks go forward in Berlin on that day, an hour and a half later.
        r#"time.getHours("Europe/Berlin") == 0 && (time + duration("1h30m")).getHours("Europe/Berlin") == 3"#,
        r#"time.getDate("Europe/Berlin") == 29 && time.getDate("-08:30") == 28 && time.getHours("+02:00") == 1"#,
        r#"time.getHours("America/New_York") == 19 && time.getMinutes("Asia/Kolkata") == 0"#,
        r#"time > timestamp("2026-03-28T00:00:00Z") && time - duration("24h") < timestamp("2026-03-28T01:00:00+01:00")"#,
        r#"time - timestamp("2026-03-28T23:30:00Z") == duration("15.25s") && duration("90m").getHours() == 1"#,
        r#"string(timestamp("2026-01-02T03:04:05Z")) == "2026-01-02T03:04:05Z" && int(timestamp("1970-01-01T00:01:00Z")) == 60"#,
        r#"duration("-1h30m").getMinutes() == -90 && duration("1h") + duration("1ms") > duration("1h")"#,
    ] {
        assert_eq!(asked.holds(text, false), Ok(true), "{text}");
    }
}

#[test]
fn the_language() {
    let asked = Asked::of(None);
    for (text, expected) in [
        // Numbers of any kind compare by what they are worth, exactly.
        ("1 == 1.0 && 1u == 1 && 2.5 > 2 && 3 > 2u && 1 < 1.5", true),
        ("9223372036854775807 == 9223372036854775807.0", false),
        ("18446744073709551615u > 9223372036854775807 && -1 < 0u", true),
        ("-9223372036854775808 < -9223372036854775807 && 0x10 == 16", true),
        ("1 in [1.0] && 1u in [1] && 1.5 in {1: true} == false && 1u in {1: true}", true),
        ("{1: 'a'}[1u] == 'a' && {true: 1}[true] == 1 && {'a': 1}.a == 1 && {'a': 1}['a'] == 1", true),
        ("{'a': 1, 'b': [2]} == {'b': [2.0], 'a': 1u} && {'a': 1} != {'a': 2} && {'a': 1} != {'b': 1}", true),
        // Values of different kinds are different, not an error.
        ("dyn(1) == '1' || null == 0 || dyn([]) == {} || dyn(true) == 1", false),
        ("null == null && [1, [2]] == [1, [2]] && [1] + [2] == [1, 2] && 'a' + 'b' == 'ab'", true),
        ("'ä€' < 'ä€z' && size('ä€') == 2 && 'äb'.size() == 2 && size([1, 2]) == 2 && {'a': 1}.size() == 1", true),
        (r#"'a"b' == "a\"b" && r'\d' == '\\d' && '''a'b''' == "a'b" && '\u00e4' == 'ä'"#, true),
        // An operand that decides makes up for what is wrong with the other.
        ("false && 1 / 0 == 1 || true", true),
        ("1 / 0 == 1 && false", false),
        ("1 / 0 == 1 || true", true),
        ("[1, 0].exists(x, 1 / x == 1) && [0, 1].exists(x, 1 / x == 1)", true),
        ("[0, 2].all(x, 1 / x == 1)", false),
        ("[].all(x, false) && ![].exists(x, true) && ![].exists_one(x, true)", true),
        ("[1, 2, 3].exists_one(x, x > 2) && ![1, 2, 3].existsOne(x, x > 1)", true),
        ("{'a': 1, 'b': 2}.all(k, k in ['a', 'b']) && {'a': 1}.map(k, k) == ['a']", true),
        // Names of items are seen where they are given, and not elsewhere.
        ("[[1], [2]].all(x, x.all(x, x > 0)) && [[1, 2], [3]].map(x, x.map(y, y + x.size())) == [[3, 4], [4]]", true),
        ("[1, 2].filter(x, x > 1).map(x, x * 2) == [4] && [3].map(x, [x].exists(y, y == x)) == [true]", true),
        ("(true ? 1 : 2) == 1 && (false ? 1 / 0 : 2) == 2 && !(1 > 2)", true),
        ("int('12') == 12 && int(1.9) == 1 && int(-1.9) == -1 && uint(3) == 3u && double('1.5') == 1.5", true),
        ("bool('true') && string(12) == '12' && string(true) == 'true' && dyn(1) == 1", true),
        (
            "'registry.example/x'.matches('^registry\\\\.example/') && matches('abc', 'b') && !'ä'.matches('^\\\\w$')",
            true,
        ),
        (
            "'a1_'.matches(r'^[\\w]+$') && 'a b'.matches(r'\\bb\\b') && 'a-b'.matches(r'^\\w\\W\\w$') && !'x'.matches(r'\\d')",
            true,
        ),
        ("'abc'.contains('bc') && 'abc'.endsWith('c') && ''.startsWith('')", true),
        ("0.0 / 0.0 == 0.0 / 0.0 || 0.0 / 0.0 < 1.0", false),
        ("true // says nothing ) more", true),
        ("[1, 2][0] == 1 && [1, 2][1u] == 2 && [1, 2][1.0] == 2", true),
    ] {
        assert_eq!(asked.holds(text, false), Ok(expected), "{text}");
    }
}

#[test]
fn what_cannot_be_said_is_an_error_that_names_no_content() {
    let asked = Asked::of(Some(job()));
    for (text, error) in [
        ("object.spec.backoffLimit > 3", r#"there is no field "backoffLimit"; ask with has() first"#),
        ("object.spec.template.spec.containers[1].env.size() == 0", r#"there is no field "env"; ask with has() first"#),
        (
            "object.spec.template.spec.containers[7].name == 'x'",
            "a list has no item of that number; ask for its size first",
        ),
        ("object.spec.completions.x == 1", "an int has no fields"),
        ("object.spec.completions + '1' == '131'", "+ does not go with an int and a string"),
        ("object.spec.completions > '1'", "> does not go with an int and a string"),
        ("object.spec.completions + 1.0 > 1.0", "+ does not go with an int and a double"),
        ("object.spec.template.spec.containers[0].image", "the expression is not true or false but a string"),
        ("object.spec.completions && true", "&& does not go with an int"),
        ("object.spec.completions.contains('x')", "contains does not go with an int and a string"),
        ("object.spec.completions.matches('x')", "matches does not go with an int"),
        ("object.spec.completions.all(x, true)", "a macro does not go with an int"),
        ("object.spec.completions.getHours() == 1", "getHours does not go with an int"),
        ("object.spec.completions / 0 == 1", "a calculation divides by zero, or its result is out of range"),
        (
            "object.spec.completions * 9223372036854775807 > 1",
            "a calculation divides by zero, or its result is out of range",
        ),
        (
            "time + duration('2562047h') + duration('2562047h') > time || time - duration('2562047h') - duration('2562047h') - duration('2562047h') - duration('2562047h') - duration('2562047h') - duration('2562047h') - duration('2562047h') < time",
            "",
        ),
        (
            "object.spec.template.spec.containers[0].env.exists(e, {'DB': 1}[e.name] == 2)",
            "a map has no such key; ask with \"in\" first",
        ),
        (
            "int(object.spec.template.spec.containers[0].env[0].value) == 1",
            "int() found no whole number, or one that is too large",
        ),
        ("int(1e19) == 1", "int() found no whole number, or one that is too large"),
        ("timestamp(object.kind) == time", "timestamp() found no time such as \"2026-01-31T00:00:00Z\""),
        ("duration(object.kind) == duration('1s')", "duration() found no duration such as \"1h30m\""),
        ("size(object.spec.completions) == 1", "size does not go with an int"),
        ("{object.kind: 1, 'Job': 2}.Job == 1", "a map has a key twice"),
        ("{object.spec: 1} == {}", "a key does not go with a map"),
        ("object.spec in object.spec", "in does not go with a map and a map"),
        (
            "object.spec.template.spec.containers.map(c, c.env)[0].size() == 2",
            r#"there is no field "env"; ask with has() first"#,
        ),
    ] {
        let found = asked.holds(text, false);
        if error.is_empty() {
            assert!(found.is_ok(), "{text}: {found:?}");
            continue;
        }
        assert_eq!(found, Err(error.to_owned()), "{text}");
    }
}

#[test]
fn a_reason_is_short_and_on_one_line() {
    let asked = Asked::of(Some(job()));
    let long = format!("object.spec.{}", "x".repeat(900));
    let error = asked.holds(&long, false).unwrap_err();
    assert!(error.len() <= 200 && error.contains("xxx"), "{error}");
    let error = asked.holds("object.spec[\"a\\nb\"] == 1", false).unwrap_err();
    assert_eq!(error, r#"there is no field "a\nb"; ask with has() first"#);
    for text in ["\"".to_owned() + &"é".repeat(900), format!("nothing_{}", "x".repeat(900)), "(".repeat(1000)] {
        let error = Expression::compile(&text, false).unwrap_err();
        assert!(error.problem.chars().count() <= 200 && !error.problem.contains('\n'), "{error}");
    }
}
