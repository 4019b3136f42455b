//! Objects as they come from the API server, read in one pass and without what nobody here looks at.
//!
//! kube's own `DynamicObject` keeps every value in a buffer first, and `managedFields`, which are often half of an object, as a
//! tree. Reading objects is most of what an operator computes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::core::{ApiResource, DynamicObject, DynamicResourceScope, TypeMeta};
use kube::{Api, Client, Resource};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// An object of any kind, without its `managedFields`.
#[derive(Clone, Debug)]
pub(crate) struct Stored(pub(crate) DynamicObject);

/// All objects of a kind, in one namespace or in all.
pub(crate) fn api(client: &Client, namespace: Option<&str>, resource: &ApiResource) -> Api<Stored> {
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
        None => Api::all_with(client.clone(), resource),
    }
}

/// What is read of an object's metadata.
#[derive(Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    annotations: Option<BTreeMap<String, String>>,
    creation_timestamp: Option<Time>,
    deletion_grace_period_seconds: Option<i64>,
    deletion_timestamp: Option<Time>,
    finalizers: Option<Vec<String>>,
    generate_name: Option<String>,
    generation: Option<i64>,
    labels: Option<BTreeMap<String, String>>,
    name: Option<String>,
    namespace: Option<String>,
    owner_references: Option<Vec<OwnerReference>>,
    resource_version: Option<String>,
    uid: Option<String>,
}

impl From<Metadata> for ObjectMeta {
    fn from(metadata: Metadata) -> Self {
        Self {
            annotations: metadata.annotations,
            creation_timestamp: metadata.creation_timestamp,
            deletion_grace_period_seconds: metadata.deletion_grace_period_seconds,
            deletion_timestamp: metadata.deletion_timestamp,
            finalizers: metadata.finalizers,
            generate_name: metadata.generate_name,
            generation: metadata.generation,
            labels: metadata.labels,
            managed_fields: None,
            name: metadata.name,
            namespace: metadata.namespace,
            owner_references: metadata.owner_references,
            resource_version: metadata.resource_version,
            self_link: None,
            uid: metadata.uid,
        }
    }
}

impl<'de> Deserialize<'de> for Stored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

impl Serialize for Stored {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Stored;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a Kubernetes object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Stored, A::Error> {
        let (mut api_version, mut kind) = (None, None);
        let (mut metadata, mut data) = (ObjectMeta::default(), Map::new());
        while let Some(field) = fields.next_key::<String>()? {
            match field.as_str() {
                "apiVersion" => api_version = fields.next_value::<Option<String>>()?,
                "kind" => kind = fields.next_value::<Option<String>>()?,
                "metadata" => metadata = fields.next_value::<Option<Metadata>>()?.unwrap_or_default().into(),
                _ => drop(data.insert(field, fields.next_value()?)),
            }
        }
        let types = api_version.zip(kind).map(|(api_version, kind)| TypeMeta { api_version, kind });
        Ok(Stored(DynamicObject { types, metadata, data: Value::Object(data) }))
    }
}

impl Resource for Stored {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        DynamicObject::group(resource)
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        DynamicObject::version(resource)
    }

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        DynamicObject::kind(resource)
    }

    fn api_version(resource: &ApiResource) -> Cow<'_, str> {
        DynamicObject::api_version(resource)
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        DynamicObject::plural(resource)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.meta_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn read(object: &Value) -> (DynamicObject, DynamicObject) {
        let text = object.to_string();
        let mut whole: DynamicObject = serde_json::from_str(&text).unwrap();
        whole.metadata.managed_fields = None;
        (serde_json::from_str::<Stored>(&text).unwrap().0, whole)
    }

    #[test]
    fn an_object_is_read_as_kube_reads_it_but_for_its_managed_fields() {
        let (stored, whole) = read(&json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": {
                "name": "a", "namespace": "b", "uid": "c", "resourceVersion": "7", "generation": 2, "generateName": "a-",
                "creationTimestamp": "2026-01-01T00:00:00Z", "deletionTimestamp": "2026-01-01T00:00:01Z",
                "deletionGracePeriodSeconds": 30, "finalizers": ["d"], "labels": {"e": "f"}, "annotations": {"g": "h"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "n", "uid": "u", "controller": true}],
                "managedFields": [{"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {}}}],
            },
            "spec": {"suspend": true}, "status": null, "data": {"x": [1, 2.5, -3, 1e300]},
        }));
        assert_eq!(stored, whole);
        assert!(stored.types.is_some() && stored.metadata.owner_references.is_some());
    }

    #[test]
    fn what_is_null_or_missing_is_not_there_and_what_is_no_object_is_an_error() {
        let (stored, whole) = read(&json!({"metadata": {"name": null, "labels": null}, "spec": null}));
        assert_eq!(stored, whole);
        assert!(serde_json::from_str::<Stored>(r#"{"metadata": null}"#).is_ok());
        for broken in ["[]", "1", r#"{"metadata": 1}"#, r#"{"metadata": {"name": 1}}"#, r#"{"kind": []}"#] {
            assert!(serde_json::from_str::<Stored>(broken).is_err(), "{broken}");
        }
    }

    proptest! {
        #[test]
        fn every_field_beside_metadata_is_kept(
            fields in prop::collection::btree_map("[a-z]{1,8}", any::<(i64, String, bool)>(), 0..8)
        ) {
            let data: Map<String, Value> =
                fields.into_iter().filter(|(name, _)| !matches!(name.as_str(), "kind" | "metadata")).map(|(name, value)| (name, json!(value))).collect();
            let mut object = Value::Object(data);
            object["metadata"] = json!({"name": "a"});
            object["kind"] = json!("K");
            object["apiVersion"] = json!("v1");
            let (stored, whole) = read(&object);
            prop_assert_eq!(stored, whole);
        }
    }
}
