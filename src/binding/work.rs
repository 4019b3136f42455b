//! What a Job or Pod will do, as a hash.

use crate::api::names;
use crate::binding::{CanonicalError, sha256};
use serde_json::{Map, Value, json};

/// Fields of a Job's spec that `workHash` leaves out, each with the reason.
const LEFT_OUT: [(&str, &str); 4] = [
    ("suspend", "the release turns it off"),
    ("activeDeadlineSeconds", "the release tightens it; the value in force stands in the digest as a bound"),
    ("backoffLimit", "the release tightens it; the value in force stands in the digest as a bound"),
    ("parallelism", "the release tightens it; the value in force stands in the digest as a bound"),
];

/// Pod template labels that the API server generates with the selector, from the Job's own uid and name.
const GENERATED_LABELS: [&str; 4] =
    ["controller-uid", "job-name", "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"];

/// Pod template annotations that the release itself sets.
const RELEASE_ANNOTATIONS: [&str; 2] = [names::RECEIPT, names::CONSTRAINTS];

/// Hash of what a Job will do: its stored `spec` without what the API server generates and without what a release
/// changes. The same before and after a release, but for the resources of containers that a bound on CPU or memory lowers:
/// those are part of the work as it is reviewed, and nobody compares the hash of a Job that was released.
pub fn work_hash(spec: &Value) -> Result<String, CanonicalError> {
    let mut work = spec.clone();
    if let Some(fields) = work.as_object_mut() {
        for (field, _) in LEFT_OUT {
            fields.remove(field);
        }
        // With a manual selector, selector and labels are the author's and part of the work.
        let generated = fields.get("manualSelector") != Some(&Value::Bool(true));
        if generated {
            fields.remove("selector");
        }
        if let Some(template) = fields.get_mut("template").and_then(Value::as_object_mut) {
            prune_template(template, generated);
        }
    }
    sha256(&work)
}

fn prune_template(template: &mut Map<String, Value>, generated: bool) {
    let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    // Older API servers write this null, newer ones leave it out.
    if metadata.get("creationTimestamp") == Some(&Value::Null) {
        metadata.remove("creationTimestamp");
    }
    if generated {
        remove_keys(metadata, "labels", &GENERATED_LABELS);
    }
    remove_keys(metadata, "annotations", &RELEASE_ANNOTATIONS);
    if metadata.is_empty() {
        template.remove("metadata");
    }
}

fn remove_keys(metadata: &mut Map<String, Value>, map: &str, keys: &[&str]) {
    let Some(entries) = metadata.get_mut(map).and_then(Value::as_object_mut) else { return };
    entries.retain(|key, _| !keys.contains(&key.as_str()));
    if entries.is_empty() {
        metadata.remove(map);
    }
}

/// Hash of what a Pod will do: its stored `spec`, labels and annotations, without what holds it and what a release
/// changes. The same before and after a release.
pub fn pod_work_hash(pod: &Value) -> Result<String, CanonicalError> {
    let mut spec = pod.get("spec").cloned().unwrap_or_default();
    if let Some(fields) = spec.as_object_mut() {
        // The release tightens the deadline; the value in force stands in the digest as a bound.
        fields.remove("activeDeadlineSeconds");
        // The scheduler writes it once nothing holds the Pod any more.
        fields.remove("nodeName");
        if let Some(gates) = fields.get_mut("schedulingGates").and_then(Value::as_array_mut) {
            gates.retain(|gate| gate["name"] != names::SCHEDULING_GATE);
        }
        if fields.get("schedulingGates").is_some_and(|gates| gates.as_array().is_none_or(Vec::is_empty)) {
            fields.remove("schedulingGates");
        }
    }
    let mut metadata = Map::new();
    for map in ["labels", "annotations"] {
        metadata.insert(map.into(), pod.pointer(&format!("/metadata/{map}")).cloned().unwrap_or_default());
    }
    remove_keys(&mut metadata, "labels", &[names::HELD]);
    remove_keys(&mut metadata, "annotations", &[names::RELEASED, names::CLOSED, names::RECEIPT, names::CONSTRAINTS]);
    metadata.retain(|_, map| !map.is_null());
    sha256(&json!({"metadata": metadata, "spec": spec}))
}

/// Hash of one Job's identity and work: a Job that is deleted and created anew has another.
pub fn job_hash(uid: &str, work_hash: &str) -> Result<String, CanonicalError> {
    sha256(&json!({"uid": uid, "work": work_hash}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Value {
        json!({
            "suspend": true, "backoffLimit": 6, "parallelism": 1, "completions": 1,
            "selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": "u1"}},
            "template": {
                "metadata": {"creationTimestamp": null, "labels": {"controller-uid": "u1", "job-name": "j"}},
                "spec": {"containers": [{"name": "main", "image": "busybox:1.36"}], "restartPolicy": "Never"}
            }
        })
    }

    #[test]
    fn a_release_keeps_the_work_hash() {
        let mut released = spec();
        released["suspend"] = json!(false);
        released["activeDeadlineSeconds"] = json!(900);
        released["backoffLimit"] = json!(0);
        released["template"]["metadata"]["annotations"] = json!({names::RECEIPT: "x", names::CONSTRAINTS: "{}"});
        assert_eq!(work_hash(&spec()).unwrap(), work_hash(&released).unwrap());
    }

    #[test]
    fn anything_else_changes_it() {
        let before = work_hash(&spec()).unwrap();
        for (pointer, value) in [
            ("/completions", json!(2)),
            ("/template/spec/containers/0/image", json!("busybox:latest")),
            ("/template/metadata/labels/extra", json!("x")),
            ("/template/metadata/annotations", json!({"a": "b"})),
            ("/template/spec/nodeSelector", json!({"a": "b"})),
            ("/manualSelector", json!(true)),
            ("/fieldOfTheFuture", json!(1)),
        ] {
            let mut changed = spec();
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            changed.pointer_mut(parent).unwrap()[key] = value;
            assert_ne!(before, work_hash(&changed).unwrap(), "{pointer}");
        }
    }

    #[test]
    fn labels_of_a_manual_selector_are_part_of_the_work() {
        let mut a = spec();
        a["manualSelector"] = json!(true);
        let mut b = a.clone();
        b["template"]["metadata"]["labels"]["job-name"] = json!("other");
        assert_ne!(work_hash(&a).unwrap(), work_hash(&b).unwrap());
    }

    #[test]
    fn the_same_work_under_another_uid_is_another_job() {
        let work = work_hash(&spec()).unwrap();
        assert_ne!(job_hash("u1", &work).unwrap(), job_hash("u2", &work).unwrap());
    }
}
