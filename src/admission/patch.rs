//! RFC 6902 operations, only where something differs: asked again about its own work, admission has nothing left to do.

use serde_json::{Map, Value, json};

/// Operations that bring the entries into the map at the JSON pointer `at`, which is made where it is not there.
pub(super) fn entries(object: &Value, at: &str, entries: &[(&str, &str)]) -> Vec<Value> {
    if let Some(Value::Object(map)) = object.pointer(at) {
        let differing = entries.iter().filter(|(key, value)| map.get(*key).and_then(Value::as_str) != Some(value));
        return differing.map(|(key, value)| add(&pointer(at, key), json!(value))).collect();
    }
    let map: Map<String, Value> = entries.iter().map(|(key, value)| ((*key).to_string(), json!(value))).collect();
    vec![made(object, at, Value::Object(map))]
}

/// Adds `value` at `at` together with the maps above it that are not there.
fn made(object: &Value, at: &str, value: Value) -> Value {
    let (mut path, mut value) = (at, value);
    while let Some((parent, name)) = path.rsplit_once('/') {
        if parent.is_empty() || object.pointer(parent).is_some_and(Value::is_object) {
            break;
        }
        let mut wrapped = Map::new();
        wrapped.insert(name.into(), value);
        (path, value) = (parent, Value::Object(wrapped));
    }
    add(path, value)
}

/// Adds, or replaces what is there.
pub(super) fn add(path: &str, value: Value) -> Value {
    json!({"op": "add", "path": path, "value": value})
}

/// A JSON pointer to a key that contains slashes (RFC 6901, section 3).
pub(super) fn pointer(map: &str, key: &str) -> String {
    format!("{map}/{}", key.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_made_and_what_is_there_stays() {
        for (object, expected) in [
            (json!({"a": {"b": {"k/1": "v", "x": "y"}}}), json!({"a": {"b": {"k/1": "v", "x": "y"}}})),
            (json!({"a": {"b": {"k/1": "w"}}}), json!({"a": {"b": {"k/1": "v"}}})),
            (json!({"a": {"b": null}}), json!({"a": {"b": {"k/1": "v"}}})),
            (json!({"a": {}}), json!({"a": {"b": {"k/1": "v"}}})),
            (json!({"c": 1}), json!({"a": {"b": {"k/1": "v"}}, "c": 1})),
            (json!({"a": "text"}), json!({"a": {"b": {"k/1": "v"}}})),
        ] {
            let operations = entries(&object, "/a/b", &[("k/1", "v")]);
            let mut changed = object.clone();
            let patch: json_patch::Patch = serde_json::from_value(Value::Array(operations)).unwrap();
            json_patch::patch(&mut changed, &patch).unwrap();
            assert_eq!(changed, expected);
            assert_eq!(entries(&changed, "/a/b", &[("k/1", "v")]), Vec::<Value>::new());
        }
    }
}
