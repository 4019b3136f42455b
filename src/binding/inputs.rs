//! Inputs: the ConfigMaps and Secrets that a Job's Pods read. A Job names them; what stands in them can change later, so
//! that they are bound beside the Job. What nobody can bind is in [`super::unheld()`].

use crate::api::names;
use crate::api::status::{BoundInput, InputKind};
use crate::binding::{CanonicalError, Keyring, canonical, sha256};
use kube::core::ObjectMeta;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The most inputs that one request can show. More than a reviewer can be shown is not for a reviewer to approve.
pub const MAX_INPUTS: usize = 64;

/// ConfigMap that the cluster puts into every namespace, and restores there whatever anybody writes into it.
const CLUSTER_CA: &str = "kube-root-ca.crt";

/// A ConfigMap or Secret that a pod spec refers to, by name, in the Pod's own namespace.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct InputRef {
    /// ConfigMap or Secret.
    pub kind: InputKind,
    /// Its name.
    pub name: String,
    /// Whether a Pod starts without it, as far as every reference to it goes.
    pub optional: bool,
}

/// An input as it is now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InputFacts {
    /// ConfigMap or Secret.
    pub kind: InputKind,
    /// Its name.
    pub name: String,
    /// Its uid: one that is deleted and created anew has another.
    pub uid: String,
    /// Its resource version: stands for the content where that is not read.
    pub resource_version: String,
    /// Hash of the content, where it is read: `sha256:…` of a ConfigMap, `keyed:…` of a Secret.
    pub hash: Option<String>,
    /// The same content's hashes under the other keys that are accepted: a request that was bound under one of them stays
    /// bound while the signing key is replaced.
    pub other_hashes: Vec<String>,
    /// Whether the API server lets nobody change the content; none where that was not read.
    pub immutable: Option<bool>,
    /// Whether it carries the label by which the guard of inputs keeps it, where that guard is in force.
    pub locked: bool,
}

/// What is known of an input that a pod spec refers to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum InputState {
    /// It is not there. Whoever may create it decides what stands in it.
    Absent,
    /// The operator may not read it, so nothing is known of it.
    Unknown,
    /// It is there.
    Present(InputFacts),
}

impl InputState {
    /// Whether nobody can put another content in its place: immutable, so that it cannot be edited, and locked, so that
    /// it cannot be deleted and created anew. `guarded` says that the guard of inputs is in force in its namespace; anywhere
    /// else the label is but a label, and nothing is held.
    pub fn is_held(&self, guarded: bool) -> bool {
        matches!(self, Self::Present(facts) if facts.is_locked(guarded) && facts.is_immutable(guarded))
    }
}

impl InputFacts {
    /// Reads a stored object: its metadata, and the value that has `data`, `binaryData` and `immutable` at its top.
    ///
    /// The hash is public. That of a Secret is therefore made with the operator's key, since a plain hash would let
    /// everybody who may read requests try out passwords on it.
    pub fn read(kind: InputKind, metadata: &ObjectMeta, object: &Value, key: &Keyring) -> Self {
        let hashes = content_hash(object).and_then(|hash| match kind {
            InputKind::ConfigMap => Ok(vec![hash]),
            InputKind::Secret => keyed(key, &hash),
        });
        let mut hashes = hashes.unwrap_or_default().into_iter();
        Self {
            // Without a hash, the resource version stands for the content: stricter, and never wrong.
            hash: hashes.next(),
            other_hashes: hashes.collect(),
            immutable: Some(object.get("immutable") == Some(&Value::Bool(true))),
            ..Self::of_metadata(kind, metadata)
        }
    }

    /// From metadata alone, which says neither what stands in it nor whether that is immutable.
    pub fn of_metadata(kind: InputKind, metadata: &ObjectMeta) -> Self {
        let label = metadata.labels.as_ref().and_then(|labels| labels.get(names::INPUT));
        Self {
            kind,
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            resource_version: metadata.resource_version.clone().unwrap_or_default(),
            hash: None,
            other_hashes: vec![],
            immutable: None,
            locked: label.is_some_and(|value| value == names::LOCKED),
        }
    }

    /// Whether nobody can delete it and create another under its name.
    pub fn is_locked(&self, guarded: bool) -> bool {
        self.locked && guarded
    }

    /// Whether nobody can change its content. Where that was not read, the guard answers: it lets nothing be locked that is
    /// not immutable, and keeps the content of what was locked before it came.
    pub fn is_immutable(&self, guarded: bool) -> bool {
        self.immutable.unwrap_or(self.is_locked(guarded))
    }
}

/// Hash over `data` and `binaryData`. The API server stores no empty maps; absent, null and empty are all one here.
fn content_hash(object: &Value) -> Result<String, CanonicalError> {
    let filled = |value: &&Value| !value.is_null() && value.as_object().is_none_or(|map| !map.is_empty());
    let part = |field: &str| object.get(field).filter(filled).map(|value| (field.to_string(), value.clone()));
    sha256(&Value::Object(["data", "binaryData"].into_iter().filter_map(part).collect::<Map<_, _>>()))
}

/// A hash that only the holder of the key can compute: of a signature, which is deterministic and shown nowhere. One for each
/// key that is accepted, the signer's first.
fn keyed(key: &Keyring, hash: &str) -> Result<Vec<String>, CanonicalError> {
    let message = canonical(&json!({"type": "countersign.dev/secret-input/v1", "hash": hash}))?;
    let one = |signature: [u8; 64]| Ok(sha256(&json!(signature.to_vec()))?.replacen("sha256:", "keyed:", 1));
    key.sign_by_each(&message).map(one).collect()
}

/// The inputs as they are shown and as they stand in the digest: sorted by kind and name. `guarded` as in
/// [`InputState::is_held`]. `before` is what was bound last: a hash in there that stands for the content as it is now stays, so
/// that nothing is bound anew only because another key signs.
pub fn bound(inputs: &[(InputRef, InputState)], guarded: bool, before: &[BoundInput]) -> Vec<BoundInput> {
    let mut bound: Vec<_> =
        inputs.iter().map(|(reference, state)| bound_input(reference, state, guarded, before)).collect();
    bound.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    bound
}

fn hash_as_before(facts: &InputFacts, before: &[BoundInput]) -> Option<String> {
    let bound = before.iter().find(|bound| bound.kind == facts.kind && bound.name == facts.name);
    bound?.hash.clone().filter(|hash| facts.other_hashes.contains(hash))
}

fn bound_input(reference: &InputRef, state: &InputState, guarded: bool, before: &[BoundInput]) -> BoundInput {
    let entry = BoundInput {
        kind: reference.kind,
        name: reference.name.clone(),
        uid: None,
        hash: None,
        resource_version: None,
        immutable: false,
        locked: false,
        absent: *state == InputState::Absent,
    };
    let InputState::Present(facts) = state else { return entry };
    BoundInput {
        uid: Some(facts.uid.clone()),
        hash: hash_as_before(facts, before).or_else(|| facts.hash.clone()),
        // Every edit of labels moves it, so that it is bound only where nothing better is known.
        resource_version: facts.hash.is_none().then(|| facts.resource_version.clone()),
        immutable: facts.is_immutable(guarded),
        locked: facts.is_locked(guarded),
        ..entry
    }
}

/// Every ConfigMap and Secret that a pod spec refers to, sorted, without duplicates. Total: what has another form than the
/// API gives it is no reference.
pub fn references(pod_spec: &Value) -> Vec<InputRef> {
    let mut found = References::default();
    for secret in list(pod_spec, "imagePullSecrets") {
        // A Pod starts without its pull secrets, as long as the image can be had.
        found.add(InputKind::Secret, secret.get("name"), true);
    }
    for container in containers(pod_spec) {
        for variable in list(container, "env") {
            let source = variable.get("valueFrom").unwrap_or(&Value::Null);
            found.add_ref(InputKind::ConfigMap, source.get("configMapKeyRef"));
            found.add_ref(InputKind::Secret, source.get("secretKeyRef"));
        }
        for source in list(container, "envFrom") {
            found.add_ref(InputKind::ConfigMap, source.get("configMapRef"));
            found.add_ref(InputKind::Secret, source.get("secretRef"));
        }
    }
    for volume in list(pod_spec, "volumes") {
        found.add_volume(volume);
    }
    found.sorted()
}

/// References by kind and name, each with whether all of them are optional.
#[derive(Default)]
struct References(BTreeMap<(InputKind, String), bool>);

impl References {
    fn add(&mut self, kind: InputKind, name: Option<&Value>, optional: bool) {
        let Some(name) = name.and_then(Value::as_str).filter(|name| can_exist(name)) else { return };
        self.0.entry((kind, name.into())).and_modify(|all| *all &= optional).or_insert(optional);
    }

    /// A reference in the usual form: `name` and perhaps `optional`.
    fn add_ref(&mut self, kind: InputKind, reference: Option<&Value>) {
        let Some(reference) = reference else { return };
        self.add(kind, reference.get("name"), is_optional(reference));
    }

    fn add_volume(&mut self, volume: &Value) {
        self.add_ref(InputKind::ConfigMap, volume.get("configMap"));
        for source in volume.get("projected").into_iter().flat_map(|projected| list(projected, "sources")) {
            if !is_cluster_ca(source) {
                self.add_ref(InputKind::ConfigMap, source.get("configMap"));
            }
            self.add_ref(InputKind::Secret, source.get("secret"));
        }
        // Many kinds of volume name a Secret, all in one of these forms. Looking for the form finds the kinds to come too.
        for (field, value) in volume.as_object().into_iter().flatten().filter_map(|(_, v)| v.as_object()).flatten() {
            match field.as_str() {
                "secretName" => self.add(InputKind::Secret, Some(value), is_optional(&volume["secret"])),
                "volumeAttributes" => self.add(InputKind::Secret, value.get("secretName"), false),
                "secretRef" => self.add(InputKind::Secret, value.get("name"), false),
                _ if field.ends_with("SecretRef") => self.add(InputKind::Secret, value.get("name"), false),
                _ => {}
            }
        }
    }

    fn sorted(self) -> Vec<InputRef> {
        self.0.into_iter().map(|((kind, name), optional)| InputRef { kind, name, optional }).collect()
    }
}

/// Whether an object of that name can be there: the API server takes these characters only, and at most 253 of them. A
/// reference to anything else stays unfulfilled for ever.
fn can_exist(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    (1..=253).contains(&name.len()) && name.bytes().all(allowed)
}

fn is_optional(reference: &Value) -> bool {
    reference.get("optional") == Some(&Value::Bool(true))
}

/// Whether a projected source is the one that the API server puts into every Pod beside the token: the cluster's own CA.
/// It can neither be locked nor changed for long; any other use of that ConfigMap is an input like all others.
pub(super) fn is_cluster_ca(source: &Value) -> bool {
    let map = &source["configMap"];
    let is_ca = |item: &Value| item["key"] == "ca.crt" && item["path"] == "ca.crt";
    map["name"] == CLUSTER_CA && matches!(map["items"].as_array().map(Vec::as_slice), Some([item]) if is_ca(item))
}

/// Every container of a pod spec, of whatever kind.
pub(super) fn containers(pod_spec: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(|field| list(pod_spec, field))
}

/// The items of a list field; none where it is anything else.
pub(super) fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
#[path = "inputs_tests.rs"]
pub(super) mod tests;
