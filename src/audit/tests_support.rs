//! Trails for tests.

use crate::api::record::RecordedCaller;
use crate::api::{RecordEntry, Transition};
use crate::audit::{Head, chain};
use crate::binding::Keyring;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde_json::{Value, json};

/// An entry of that key.
pub fn entry(key: &str) -> RecordEntry {
    RecordEntry {
        key: key.into(),
        transition: Transition::Reviewed,
        time: MicroTime(jiff::Timestamp::from_second(1_800_000_000).unwrap()),
        request: None,
        target: None,
        by: vec![RecordedCaller { username: "alice".into(), uid: Some("u-1".into()), groups: vec!["sre".into()] }],
        reason: "Approve".into(),
        message: "für Zoë".into(),
        seen: None,
        review: Some(json!({"decision": "Approve", "comment": "seen", "nested": [{"a": 1}]})),
        count: None,
        pruned: None,
        public_key: None,
    }
}

/// The next record of a chain, as it is stored.
pub fn next(head: &mut Head, entries: Vec<RecordEntry>, key: &Keyring) -> Value {
    let spec = serde_json::to_value(chain::seal(head, entries, key).unwrap()).unwrap();
    *head = Head { length: spec["last"].as_i64().unwrap(), hash: chain::hash(&spec).unwrap() };
    spec
}

/// Records with these numbers of entries.
pub fn trail(key: &Keyring, sizes: &[usize]) -> Vec<Value> {
    trail_of("uid", key, sizes)
}

/// The same about something else.
pub fn other_trail(key: &Keyring, sizes: &[usize]) -> Vec<Value> {
    trail_of("other", key, sizes)
}

fn trail_of(uid: &str, key: &Keyring, sizes: &[usize]) -> Vec<Value> {
    let (mut head, mut number) = (Head::default(), 0);
    let mut fresh = || {
        number += 1;
        entry(&format!("{uid}/{number}/Reviewed"))
    };
    sizes.iter().map(|size| next(&mut head, (0..*size).map(|_| fresh()).collect(), key)).collect()
}

/// JSON pointers to everything in `value` that is neither a list nor a map.
pub fn leaves(value: &Value) -> Vec<String> {
    let inner = |part: String, value: &Value| leaves(value).into_iter().map(move |rest| format!("/{part}{rest}"));
    match value {
        Value::Object(map) => map.iter().flat_map(|(name, value)| inner(name.replace('/', "~1"), value)).collect(),
        Value::Array(list) => list.iter().enumerate().flat_map(|(at, value)| inner(at.to_string(), value)).collect(),
        _ => vec![String::new()],
    }
}
