//! Checks the specs of requests and policies against the bounds of their CRDs before a server is asked. The schemas that are
//! walked here are those that the types generate, so that they cannot come apart.

use crate::api::{Quantity, crd, quantity};
use serde_json::{Map, Value};
use std::sync::LazyLock;

/// Parts of the spec that admission writes, or that come after creation.
const NOT_ASKED: [(&str, &str); 4] = [
    ("requester", "admission stamps it from whoever creates the request; leave it out"),
    ("review", "a request cannot be reviewed before it exists; leave it out"),
    ("reviews", "admission writes them; leave them out"),
    ("cancel", "a request is withdrawn after it was made; leave it out"),
];

/// A pattern of the schema, what it means, and the check.
type Pattern = (&'static str, &'static str, fn(&str) -> bool);

const PATTERNS: [Pattern; 6] = [
    ("^[!-~]+$", "printable ASCII without spaces", |t| t.chars().all(|c| c.is_ascii_graphic())),
    (
        "^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$",
        "lower-case letters, digits, `.`, `_` and `-`, with a letter or digit at both ends",
        |t| bounded_by_alphanumerics(t, "._-"),
    ),
    (
        "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
        "lower-case letters, digits, `-` and `.`, with a letter or digit at both ends",
        |t| bounded_by_alphanumerics(t, "-."),
    ),
    (
        "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        "lower-case letters, digits and `-`, with a letter or digit at both ends",
        |t| bounded_by_alphanumerics(t, "-"),
    ),
    ("^https?://", "a link that begins with http:// or https://", |t| {
        t.starts_with("http://") || t.starts_with("https://")
    }),
    (quantity::PATTERN, "a quantity such as 500m, 2 or 1.5Gi", |t| t.parse::<Quantity>().is_ok()),
];

static SCHEMA: LazyLock<Value> = LazyLock::new(|| spec_of("ApprovalRequest"));
static POLICY: LazyLock<Value> = LazyLock::new(|| spec_of("ApprovalPolicy"));

/// Where the fields of a policy begin. The CRD of policies says nothing of control characters: they come from Git.
const IN_POLICY: &str = "spec";

fn spec_of(kind: &str) -> Value {
    let text = crd::STORED.into_iter().find(|(stored, _)| *stored == kind).map_or("", |(_, text)| text);
    let crd: Value = serde_yaml::from_str(text).unwrap_or_default();
    crd.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec").cloned().unwrap_or_default()
}

/// What is wrong with a field of the spec.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// The field inside the spec, such as `evidence[0].title`.
    pub path: String,
    /// What is wrong, and what would be right.
    pub what: String,
}

/// Whether an API server with the same CRD would take this spec, as far as can be told here.
pub fn check(spec: &Map<String, Value>) -> Result<(), Problem> {
    for (field, why) in NOT_ASKED {
        if spec.contains_key(field) {
            return problem(field, why);
        }
    }
    check_object(&SCHEMA, spec, "")
}

/// Whether an API server with the same CRD would take this policy, as far as names, lengths, numbers and patterns go.
pub fn check_policy(name: &str, spec: &Map<String, Value>) -> Result<(), Problem> {
    object_name(name).or_else(|why| problem("metadata.name", why))?;
    check_object(&POLICY, spec, IN_POLICY)
}

/// Whether `name` may name an object, or why not (RFC 1123 subdomain).
pub fn object_name(name: &str) -> Result<(), String> {
    let label = |label: &str| bounded_by_alphanumerics(label, "-");
    if name.is_empty() || name.len() > 253 {
        return Err(format!("a name has 1 to 253 characters, this one has {}", name.chars().count()));
    }
    if !name.split('.').all(label) {
        return Err(
            "a name is lower-case letters, digits, `-` and `.`, each part with a letter or digit at both ends".into()
        );
    }
    Ok(())
}

/// The first control character in `text`, except for line breaks and tabs where `lines` allows them.
pub fn control_character(text: &str, lines: bool) -> Option<char> {
    text.chars().find(|c| c.is_control() && !(lines && matches!(c, '\n' | '\t')))
}

fn problem<T>(path: &str, what: impl Into<String>) -> Result<T, Problem> {
    Err(Problem { path: path.into(), what: what.into() })
}

fn check_value(schema: &Value, value: &Value, path: &str) -> Result<(), Problem> {
    match (schema["type"].as_str(), value) {
        (Some("object"), Value::Object(fields)) => check_object(schema, fields, path),
        (Some("array"), Value::Array(items)) => check_array(schema, items, path),
        (Some("string"), Value::String(text)) => check_string(schema, text, path),
        (Some("integer"), Value::Number(number)) => check_integer(schema, number, path),
        (Some("boolean"), Value::Bool(_)) | (None, _) => Ok(()),
        (Some(type_), other) => problem(path, format!("must be {}, not {}", expected(type_), kind(other))),
    }
}

fn check_object(schema: &Value, fields: &Map<String, Value>, path: &str) -> Result<(), Problem> {
    let at = |key: &str| if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
    for (key, value) in fields {
        let property = &schema["properties"][key];
        match (property, &schema["additionalProperties"]) {
            (Value::Null, additional @ Value::Object(_)) => {
                let limit = !path.ends_with("matchLabels");
                if limit && (!(1..=63).contains(&key.chars().count()) || control_character(key, false).is_some()) {
                    return problem(&at(key), "a limit's name has 1 to 63 characters, no control character");
                }
                check_value(additional, value, &at(key))?;
            }
            (Value::Null, _) => {
                let known: Vec<_> = schema["properties"].as_object().into_iter().flatten().map(|(k, _)| k).collect();
                let known = known.into_iter().filter(|k| !NOT_ASKED.iter().any(|(n, _)| n == k));
                let known: Vec<_> = known.map(String::as_str).collect();
                return problem(&at(key), format!("there is no such field; known are {}", known.join(", ")));
            }
            (property, _) => check_value(property, value, &at(key))?,
        }
    }
    if let Some(missing) = strings(&schema["required"]).find(|key| !fields.contains_key(*key)) {
        return problem(&at(missing), "is missing");
    }
    match schema["maxProperties"].as_u64() {
        Some(max) if fields.len() as u64 > max => problem(path, format!("has {} entries, at most {max}", fields.len())),
        _ => Ok(()),
    }
}

fn check_array(schema: &Value, items: &[Value], path: &str) -> Result<(), Problem> {
    for (i, item) in items.iter().enumerate() {
        check_value(&schema["items"], item, &format!("{path}[{i}]"))?;
        if schema["x-kubernetes-list-type"] == "set" && items[..i].contains(item) {
            return problem(&format!("{path}[{i}]"), format!("{item} stands there twice"));
        }
    }
    match schema["maxItems"].as_u64() {
        Some(max) if items.len() as u64 > max => problem(path, format!("has {} entries, at most {max}", items.len())),
        _ => Ok(()),
    }
}

fn check_string(schema: &Value, text: &str, path: &str) -> Result<(), Problem> {
    let lines = path == "reason" || path.ends_with(".text");
    if let Some(c) = control_character(text, lines).filter(|_| !path.starts_with(IN_POLICY)) {
        return problem(path, format!("contains the control character \\u{{{:x}}}; take it out", u32::from(c)));
    }
    let length = text.chars().count() as u64;
    if length < schema["minLength"].as_u64().unwrap_or(0) {
        return problem(path, "is too short: it must not be empty");
    }
    if let Some(max) = schema["maxLength"].as_u64().filter(|max| length > *max) {
        return problem(path, format!("has {length} characters, at most {max}"));
    }
    let pattern = PATTERNS.iter().find(|(pattern, ..)| schema["pattern"] == *pattern);
    if let Some((_, meaning, matches)) = pattern
        && !matches(text)
    {
        return problem(path, format!("must be {meaning}, not `{text}`"));
    }
    if schema["enum"].is_array() && !strings(&schema["enum"]).any(|known| known == text) {
        let known: Vec<_> = strings(&schema["enum"]).collect();
        return problem(path, format!("must be {}, not `{text}`", known.join(" or ")));
    }
    Ok(())
}

fn check_integer(schema: &Value, number: &serde_json::Number, path: &str) -> Result<(), Problem> {
    let Some(whole) = number.as_i64() else {
        return problem(path, format!("must be a whole number of at most 63 bits, not {number}"));
    };
    // The schema may write its bounds as floating-point numbers.
    let bound = |name| schema[name].as_f64().map(|bound| bound as i64);
    match (bound("minimum"), bound("maximum")) {
        (Some(min), _) if whole < min => problem(path, format!("is {whole}, at least {min}")),
        (_, Some(max)) if whole > max => problem(path, format!("is {whole}, at most {max}")),
        _ => Ok(()),
    }
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn bounded_by_alphanumerics(text: &str, between: &str) -> bool {
    let end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(end) && text.ends_with(end) && text.chars().all(|c| end(c) || between.contains(c))
}

fn expected(type_: &str) -> &str {
    match type_ {
        "object" => "a set of fields",
        "array" => "a list",
        "string" => "text",
        "integer" => "a whole number",
        "boolean" => "true or false",
        other => other,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a set of fields",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec() -> Value {
        json!({
            "runID": "run_8f9a", "stepID": "remediate", "requestedBy": "workflow.incident-triage",
            "reason": "prod write detected", "riskTags": ["prod", "write"], "policySnapshot": "7f3d...9c2b",
            "constraints": {"maxRuntimeSeconds": 900, "limits": {"maxLinesChanged": 500}},
            "target": {"apiVersion": "batch/v1", "kind": "Job", "name": "remediate-8f9a"},
            "evidence": [{"title": "error rate", "text": "5xx\n12%", "url": "https://example.com"}]
        })
    }

    fn checked(spec: &Value) -> Result<(), (String, String)> {
        check(spec.as_object().unwrap()).map_err(|p| (p.path, p.what))
    }

    #[test]
    fn every_bound_names_its_field() {
        assert_eq!(checked(&spec()), Ok(()));
        let long = |n: usize| json!("é".repeat(n));
        for (pointer, value, path, what) in [
            ("/runID", json!(""), "runID", "empty"),
            ("/runID", json!("a b"), "runID", "printable ASCII without spaces"),
            ("/runID", json!(7), "runID", "must be text, not a number"),
            ("/requestedBy", json!("x".repeat(254)), "requestedBy", "254 characters, at most 253"),
            ("/reason", long(1025), "reason", "1025 characters, at most 1024"),
            ("/reason", json!("a\u{1b}[2J"), "reason", "\\u{1b}"),
            ("/reason", Value::Null, "reason", "not null"),
            ("/riskTags/1", json!("prod"), "riskTags[1]", "twice"),
            ("/riskTags/0", json!("Prod"), "riskTags[0]", "lower-case"),
            ("/riskTags", json!("prod"), "riskTags", "a list"),
            ("/riskTags", json!((0..33).map(|i| format!("t{i}")).collect::<Vec<_>>()), "riskTags", "at most 32"),
            ("/policySnapshot", long(257), "policySnapshot", "at most 256"),
            ("/policySnapshot", json!("a\nb"), "policySnapshot", "\\u{a}"),
            ("/constraints/maxRuntimeSeconds", json!(0), "constraints.maxRuntimeSeconds", "at least 1"),
            ("/constraints/maxRuntimeSeconds", json!(1.5), "constraints.maxRuntimeSeconds", "whole"),
            ("/constraints/maxRetries", json!(1001), "constraints.maxRetries", "at most 1000"),
            ("/constraints/limits/x", json!(-1), "constraints.limits.x", "at least 0"),
            ("/constraints/limits/x", json!(9_007_199_254_740_992i64), "constraints.limits.x", "9007199254740991"),
            ("/constraints/limits/x", json!(u64::MAX), "constraints.limits.x", "63 bits"),
            ("/constraints/other", json!(1), "constraints.other", "no such field"),
            ("/target/kind", json!("Deployment"), "target.kind", "must be Job"),
            ("/target/name", json!("-a"), "target.name", "at both ends"),
            ("/target/extra", json!(1), "target.extra", "no such field"),
            ("/evidence/0/url", json!("ftp://x"), "evidence[0].url", "https://"),
            ("/evidence/0/title", json!("a\tb"), "evidence[0].title", "\\u{9}"),
            ("/requester", json!({"username": "alice"}), "requester", "admission stamps it"),
            ("/reviews", json!([]), "reviews", "leave them out"),
            ("/runId", json!("x"), "runId", "known are constraints, evidence, policySnapshot"),
        ] {
            let mut bad = spec();
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            match bad.pointer_mut(parent).unwrap() {
                Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
                other => other[key] = value,
            }
            let (at, why) = checked(&bad).unwrap_err();
            assert_eq!(at, path, "{why}");
            assert!(why.contains(what), "{path}: {why}");
        }
    }

    #[test]
    fn what_is_required_is_missed() {
        for field in ["runID", "stepID", "requestedBy", "reason"] {
            let mut bad = spec();
            bad.as_object_mut().unwrap().remove(field);
            assert_eq!(checked(&bad), Err((field.into(), "is missing".into())));
        }
    }

    #[test]
    fn every_pattern_of_the_schema_is_known() {
        fn collect(schema: &Value, found: &mut Vec<String>) {
            match schema {
                Value::Object(map) => {
                    found.extend(map.get("pattern").and_then(Value::as_str).map(String::from));
                    map.iter()
                        .filter(|(key, _)| !NOT_ASKED.iter().any(|(n, _)| n == key))
                        .for_each(|(_, v)| collect(v, found));
                }
                Value::Array(items) => items.iter().for_each(|v| collect(v, found)),
                _ => {}
            }
        }
        let mut found = vec![];
        collect(&SCHEMA, &mut found);
        assert!(found.len() >= 6, "{found:?}");
        collect(&POLICY, &mut found);
        assert!(found.len() >= 12, "{found:?}");
        for pattern in found {
            assert!(PATTERNS.iter().any(|(known, ..)| *known == pattern), "{pattern}");
        }
    }

    #[test]
    fn names_are_subdomains() {
        for good in ["a", "run-8f9a-remediate", "a.b-c.d", &"a".repeat(253)] {
            assert_eq!(object_name(good), Ok(()), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a..b", "a.-b", "ä", "a\n", &"a".repeat(254)] {
            assert!(object_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_policy_is_held_against_its_own_crd() {
        let policy = |rule: Value| {
            let mut whole = json!({"name": "by-sre", "decision": "RequireApproval", "approvals":
                {"requirements": [{"name": "sre", "approvers": [{"kind": "Group", "name": "sre"}]}]}});
            whole.as_object_mut().unwrap().extend(rule.as_object().unwrap().clone());
            json!({"match": {"namespaceSelector": {"matchLabels": {"app.kubernetes.io/part-of-something-long": "x"}}}, "rules": [whole]})
        };
        let of = |name: &str, spec: Value| check_policy(name, spec.as_object().unwrap()).map_err(|p| (p.path, p.what));
        assert_eq!(of("p", policy(json!({"when": {"expression": "true\n&& true"}}))), Ok(()));
        let many: Vec<_> = (0..33).map(|i| format!("t{i}")).collect();
        for (rule, path, what) in [
            (json!({"name": "By SRE"}), "spec.rules[0].name", "must be lower-case letters"),
            (json!({"reason": "x".repeat(257)}), "spec.rules[0].reason", "257 characters, at most 256"),
            (json!({"when": {"anyRiskTags": many}}), "spec.rules[0].when.anyRiskTags", "33 entries, at most 32"),
            (json!({"when": {"riskTags": ["a", "a"]}}), "spec.rules[0].when.riskTags[1]", "twice"),
            (json!({"pendingTimeoutSeconds": 0}), "spec.rules[0].pendingTimeoutSeconds", "at least 1"),
            (json!({"unless": null}), "spec.rules[0].unless", "must be a set of fields, not null"),
            (json!({"decision": "allow"}), "spec.rules[0].decision", "must be Allow or RequireApproval or Deny"),
        ] {
            let (at, why) = of("p", policy(rule)).unwrap_err();
            assert!(at == path && why.contains(what), "{at}: {why}");
        }
        assert_eq!(of("Bad Name", policy(json!({}))).unwrap_err().0, "metadata.name");
        let label = json!({"classifiers": [{"tag": "Foo", "when": {"usesSecrets": true}}], "rules": []});
        assert_eq!(of("p", label).unwrap_err().0, "spec.classifiers[0].tag");
    }
}
