//! One object as it should be against the same object as it is stored.

use serde_json::{Map, Value};
use std::fmt::{Display, Formatter};

/// Fields that say nothing about what an object does.
const IGNORED: [&str; 4] = ["apiVersion", "kind", "metadata", "status"];
/// Longest value that a finding quotes, in characters.
const QUOTED: usize = 160;
/// How much is quoted before the place where two texts part.
const BEFORE: usize = 30;

/// One way in which a stored object is not what it should be.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Finding {
    /// Kind and name, as `ValidatingAdmissionPolicy/countersign-jobs`.
    pub object: String,
    /// What is wrong, and where.
    pub problem: String,
}

impl Display for Finding {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.object, self.problem)
    }
}

/// How `stored` differs from `expected`; nothing where it does what it should. Kind and name are those of `expected`.
///
/// Everything counts but metadata and status. What is stored beyond `expected` counts unless it is empty, since an API
/// server may fill in fields of later versions; what is not empty there may well narrow the gate.
pub fn compare(expected: &Value, stored: Option<&Value>) -> Vec<Finding> {
    let text = |pointer| expected.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let object = format!("{}/{}", text("/kind"), text("/metadata/name"));
    let Some(stored) = stored else {
        return vec![Finding { object, problem: "missing".into() }];
    };
    let mut problems = vec![];
    let nothing = Map::new();
    let (expected, stored) = (expected.as_object().unwrap_or(&nothing), stored.as_object().unwrap_or(&nothing));
    for key in keys(expected, stored).filter(|key| !IGNORED.contains(key)) {
        let (ours, theirs) = (value(expected, key), value(stored, key));
        match (key, ours.as_array(), theirs.as_array()) {
            ("webhooks", Some(ours), theirs) => webhooks(ours, theirs.map_or(&[], Vec::as_slice), &mut problems),
            _ => differences(key, ours, theirs, &mut problems),
        }
    }
    problems.into_iter().map(|problem| Finding { object: object.clone(), problem }).collect()
}

/// Webhooks are told apart by name: one more or one less should not make all behind it look changed.
fn webhooks(expected: &[Value], stored: &[Value], problems: &mut Vec<String>) {
    let name = |webhook: &Value| webhook["name"].as_str().unwrap_or_default().to_owned();
    for ours in expected {
        let path = format!("webhooks[{}]", name(ours));
        match stored.iter().find(|theirs| name(theirs) == name(ours)) {
            Some(theirs) => differences(&path, ours, theirs, problems),
            None => problems.push(format!("{path}: missing")),
        }
    }
    let known = |theirs: &Value| expected.iter().any(|ours| name(ours) == name(theirs));
    let extra = stored.iter().filter(|theirs| !known(theirs));
    problems.extend(extra.map(|theirs| format!("webhooks[{}]: not one of ours", excerpt(&name(theirs), 0))));
}

fn differences(path: &str, expected: &Value, found: &Value, problems: &mut Vec<String>) {
    if expected == found || (is_empty(expected) && is_empty(found)) {
        return;
    }
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            for key in keys(expected, found) {
                differences(&format!("{path}.{key}"), value(expected, key), value(found, key), problems);
            }
        }
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() && of_objects(expected) => {
            for (i, (expected, found)) in expected.iter().zip(found).enumerate() {
                differences(&format!("{path}[{i}]"), expected, found, problems);
            }
        }
        (Value::Array(ours), Value::Array(theirs)) if of_objects(ours) || of_objects(theirs) => {
            problems.push(format!("{path}: expected {} entries, found {}", ours.len(), theirs.len()));
        }
        _ => problems.push(changed(path, expected, found)),
    }
}

fn changed(path: &str, expected: &Value, found: &Value) -> String {
    let (ours, theirs) = (quoted(expected), quoted(found));
    let same = ours.chars().zip(theirs.chars()).take_while(|(ours, theirs)| ours == theirs).count();
    let long = ours.chars().count().max(theirs.chars().count()) > QUOTED;
    let from = if long { same.saturating_sub(BEFORE) } else { 0 };
    format!("{path}: expected {}, found {}", excerpt(&ours, from), excerpt(&theirs, from))
}

fn quoted(value: &Value) -> String {
    if value.is_null() { "nothing".into() } else { value.to_string() }
}

/// One line of `text` from that character on.
fn excerpt(text: &str, from: usize) -> String {
    let mut part: String = text.chars().skip(from).take(QUOTED).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if from > 0 {
        part.insert(0, '…');
    }
    if text.chars().count() > from + QUOTED {
        part.push('…');
    }
    part
}

/// Every key of either, once.
fn keys<'a>(expected: &'a Map<String, Value>, found: &'a Map<String, Value>) -> impl Iterator<Item = &'a str> {
    let beyond = found.keys().filter(|key| !expected.contains_key(*key));
    expected.keys().chain(beyond).map(String::as_str)
}

fn value<'a>(map: &'a Map<String, Value>, key: &str) -> &'a Value {
    map.get(key).unwrap_or(&Value::Null)
}

/// Whether the value says as little as none at all.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn of_objects(list: &[Value]) -> bool {
    list.iter().any(Value::is_object)
}
