//! Objects at rest: what thousands of them are kept as until one is looked at.
//!
//! A tree of small maps takes ten times the memory of its text, since each map has room for eleven entries; and half of the text
//! stands in every object of its kind.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DynamicObject;
use lz4_flex::block::{compress_with_dict, decompress_with_dict};
use serde_json::Value;

/// Text that most objects share, as they are written: what repeats it is kept as a reference to it.
const COMMON: &[u8] = include_bytes!("packed.txt");

/// An object as compressed text, without its type.
#[derive(Clone, Debug)]
pub struct Packed {
    compressed: Box<[u8]>,
    /// Bytes of the text.
    length: usize,
}

impl Packed {
    /// Of an object. None where it cannot be written as JSON, as no object is that came as JSON.
    pub fn of(object: &DynamicObject) -> Option<Self> {
        let text = serde_json::to_vec(&(&object.metadata, &object.data)).ok()?;
        Some(Self { compressed: compress_with_dict(&text, COMMON).into(), length: text.len() })
    }

    /// The object. None where memory is damaged: whoever asks has no object then, and decides nothing.
    pub fn open(&self) -> Option<DynamicObject> {
        let text = decompress_with_dict(&self.compressed, self.length, COMMON).ok()?;
        let (metadata, data): (ObjectMeta, Value) = serde_json::from_slice(&text).ok()?;
        Some(DynamicObject { types: None, metadata, data })
    }

    /// Has memory go bad, for tests of what comes of it.
    #[cfg(test)]
    pub fn damage(&mut self) {
        self.compressed = Box::default();
    }

    /// Bytes that it takes.
    pub fn size(&self) -> usize {
        self.compressed.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn object(spec: &Value) -> DynamicObject {
        let metadata = json!({"name": "a", "namespace": "b", "uid": "c", "resourceVersion": "7", "generation": 2,
            "creationTimestamp": "2026-01-01T00:00:00Z", "deletionTimestamp": "2026-01-01T00:00:01Z",
            "finalizers": ["d"], "labels": {"e": "f"}, "annotations": {"g": "h"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "n", "uid": "u", "controller": true}]});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    #[test]
    fn what_repeats_in_every_job_is_hardly_kept() {
        let hash = "ceb8c3e9e4de7953793dd5e89d87a60998423f8277905fa6cc3794bd9b4346d1";
        let job =
            object(&json!({"backoffLimit": 6, "completionMode": "NonIndexed", "completions": 1, "parallelism": 1,
            "suspend": true, "template": {"metadata": {"labels": {"app": hash}}, "spec": {"dnsPolicy": "ClusterFirst",
            "restartPolicy": "Never", "schedulerName": "default-scheduler", "securityContext": {},
            "terminationGracePeriodSeconds": 30}}}));
        let packed = Packed::of(&job).unwrap();
        assert!(packed.size() < packed.length / 2, "{} of {} bytes", packed.size(), packed.length);
        assert_eq!(packed.open().unwrap(), job);
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(|b| json!(b)),
            any::<u64>().prop_map(|n| json!(n)),
            any::<i64>().prop_map(|n| json!(n)),
            any::<f64>().prop_map(|n| json!(n)),
            any::<String>().prop_map(|s| json!(s)),
        ];
        leaf.prop_recursive(4, 32, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
                prop::collection::btree_map(any::<String>(), inner, 0..8)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// A number that changed its last digit would change the digest.
        #[test]
        fn what_is_packed_comes_out_as_it_was(spec in values()) {
            let object = object(&spec);
            prop_assert_eq!(Packed::of(&object).unwrap().open().unwrap(), object);
        }
    }
}
