//! Whether a stored request is the one that a call asks for. Pure.

use crate::admission::Caller;
use serde_json::{Map, Value};

/// Every field of the spec that this client may write. What admission stamps is none of them.
const ASKED: [&str; 9] =
    ["runID", "stepID", "requestedBy", "reason", "riskTags", "constraints", "policySnapshot", "target", "evidence"];

/// The longest value that is told.
const SHOWN: usize = 120;

/// A field that is not as asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Difference {
    /// Where, such as `spec.constraints.maxRetries`.
    pub field: String,
    /// What this call asks.
    pub asked: Value,
    /// What is stored.
    pub stored: Value,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is {} there, and {} here", self.field, shown(&self.stored), shown(&self.asked))
    }
}

fn shown(value: &Value) -> String {
    if value.is_null() {
        return "absent".into();
    }
    let text = value.to_string();
    let cut: String = text.chars().take(SHOWN).collect();
    if cut.len() < text.len() { format!("{cut}…") } else { cut }
}

/// The first field of the stored request that is not what the manifest asks. Labels and annotations may be more than asked:
/// admission of others may add some. The spec is exactly as asked.
pub fn first_difference(manifest: &Value, stored: &Value) -> Option<Difference> {
    let spec = ASKED.iter().find_map(|field| {
        let (asked, found) = (&manifest["spec"][*field], &stored["spec"][*field]);
        if *field == "riskTags" {
            // A set: the order says nothing.
            return (sorted(asked) != sorted(found)).then(|| differs("spec.riskTags", asked, found));
        }
        exact(&format!("spec.{field}"), asked, found)
    });
    spec.or_else(|| {
        ["labels", "annotations"].iter().find_map(|kind| {
            let asked = manifest["metadata"][*kind].as_object()?;
            asked.iter().find_map(|(key, value)| {
                let found = &stored["metadata"][*kind][key];
                (found != value).then(|| differs(&format!("metadata.{kind}[{key}]"), value, found))
            })
        })
    })
}

/// Whether somebody else asked. Unknown where nobody was stamped.
pub fn other_requester(caller: &Caller, stored: &Value) -> Option<Difference> {
    let requester = &stored["spec"]["requester"];
    let username = requester["username"].as_str()?;
    if username != caller.username {
        return Some(differs("spec.requester.username", &caller.username.as_str().into(), &requester["username"]));
    }
    // An account that was deleted and created anew has the old name.
    let (here, there) = (caller.uid.as_deref().filter(|uid| !uid.is_empty())?, requester["uid"].as_str()?);
    (here != there).then(|| differs("spec.requester.uid", &here.into(), &requester["uid"]))
}

fn differs(field: &str, asked: &Value, stored: &Value) -> Difference {
    Difference { field: field.into(), asked: asked.clone(), stored: stored.clone() }
}

fn sorted(tags: &Value) -> Vec<&str> {
    let mut tags: Vec<_> = tags.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    tags.sort_unstable();
    tags
}

fn exact(path: &str, asked: &Value, stored: &Value) -> Option<Difference> {
    match (asked, stored) {
        (Value::Object(a), Value::Object(b)) => each_of(path, a, b),
        (Value::Object(a), Value::Null) => each_of(path, a, &Map::new()),
        (Value::Null, Value::Object(b)) => each_of(path, &Map::new(), b),
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().find_map(|(at, (a, b))| exact(&format!("{path}[{at}]"), a, b))
        }
        (Value::Number(a), Value::Number(b)) if a.as_f64() == b.as_f64() => None,
        (a, b) if empty(a) && empty(b) => None,
        (a, b) => (a != b).then(|| differs(path, a, b)),
    }
}

fn each_of(path: &str, asked: &Map<String, Value>, stored: &Map<String, Value>) -> Option<Difference> {
    let more = stored.keys().filter(|key| !asked.contains_key(*key));
    asked.keys().chain(more).find_map(|key| {
        let at = |map: &Map<String, Value>| map.get(key).cloned().unwrap_or_default();
        exact(&format!("{path}.{key}"), &at(asked), &at(stored))
    })
}

/// What the API server may leave out.
pub fn empty(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn manifest() -> Value {
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"runID": "r", "stepID": "s", "requestedBy": "w", "reason": "why",
            "riskTags": ["prod", "write"], "constraints": {"maxRetries": 1, "limits": {"maxLines": 5}},
            "target": {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "u"},
            "evidence": [{"title": "t", "text": "x"}]}})
    }

    fn at(pointer: &str, value: Value) -> Option<String> {
        let mut stored = manifest();
        *stored.pointer_mut(pointer).unwrap() = value;
        first_difference(&manifest(), &stored).map(|difference| difference.to_string())
    }

    #[test]
    fn what_the_api_server_adds_is_no_difference() {
        let mut stored = manifest();
        stored["metadata"]["annotations"] = json!({"x": "y"});
        stored["metadata"]["labels"]["more"] = json!("y");
        stored["spec"]["requester"] = json!({"username": "w"});
        stored["spec"]["reviews"] = json!([{"decision": "Approve"}]);
        stored["spec"]["riskTags"] = json!(["write", "prod"]);
        stored["spec"]["constraints"]["maxRetries"] = json!(1.0);
        assert_eq!(first_difference(&manifest(), &stored), None);
        let (mut bare, mut empty) = (manifest(), manifest());
        bare["spec"].as_object_mut().unwrap().remove("evidence");
        empty["spec"]["evidence"] = json!([]);
        assert_eq!(first_difference(&bare, &empty), None);
        assert_eq!(first_difference(&empty, &bare), None);
    }

    #[test]
    fn the_first_field_that_differs_is_named() {
        for (pointer, value, expected) in [
            ("/spec/reason", json!("other"), "spec.reason is \"other\" there, and \"why\" here"),
            ("/spec/riskTags", json!(["prod"]), "spec.riskTags is [\"prod\"] there"),
            (
                "/spec/constraints",
                json!({"maxRetries": 2}),
                "spec.constraints.limits.maxLines is absent there, and 5 here",
            ),
            ("/spec/constraints/maxRetries", json!(2), "spec.constraints.maxRetries is 2 there, and 1 here"),
            ("/spec/target/uid", Value::Null, "spec.target.uid is absent there"),
            ("/spec/target/name", json!("k"), "spec.target.name is \"k\" there"),
            ("/spec/evidence/0/text", json!("y"), "spec.evidence[0].text is \"y\" there"),
            ("/metadata/labels/a", json!("c"), "metadata.labels[a] is \"c\" there"),
        ] {
            let found = at(pointer, value).unwrap_or_default();
            assert!(found.starts_with(expected), "{pointer}: {found}");
        }
        let mut more = manifest();
        more["spec"]["policySnapshot"] = json!("x".repeat(500));
        let found = first_difference(&manifest(), &more).unwrap().to_string();
        assert!(found.contains("absent here") && found.len() < 250, "{found}");
    }

    #[test]
    fn another_requester_is_told_by_name_and_by_uid() {
        let caller = |name: &str, uid: Option<&str>| Caller {
            username: name.into(),
            uid: uid.map(String::from),
            ..Caller::default()
        };
        let stored = json!({"spec": {"requester": {"username": "w", "uid": "1"}}});
        assert_eq!(other_requester(&caller("w", Some("1")), &stored), None);
        assert_eq!(other_requester(&caller("w", None), &stored), None);
        assert_eq!(other_requester(&caller("m", Some("1")), &stored).unwrap().field, "spec.requester.username");
        assert_eq!(other_requester(&caller("w", Some("2")), &stored).unwrap().field, "spec.requester.uid");
        assert_eq!(other_requester(&caller("m", None), &json!({"spec": {}})), None);
    }
}
