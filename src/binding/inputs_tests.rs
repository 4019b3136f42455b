use super::*;
use crate::api::{Constraints, Requester};
use crate::binding::{BoundJob, Shown, digest, unheld};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn key() -> Keyring {
    Keyring::from_seed(&[7; 32]).unwrap()
}

/// Every form in which a pod spec can name a ConfigMap or a Secret, each with its own name.
fn every_reference() -> Value {
    let env = |n: &str| {
        json!({"name": n, "image": "i",
            "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": format!("{n}-cm-key"), "key": "k"}}},
                    {"name": "B", "valueFrom": {"secretKeyRef": {"name": format!("{n}-key"), "key": "k", "optional": true}}},
                    {"name": "C", "value": "plain"}],
            "envFrom": [{"configMapRef": {"name": format!("{n}-cm-env"), "optional": true}},
                        {"secretRef": {"name": format!("{n}-env")}, "prefix": "P_"}]})
    };
    json!({
        "imagePullSecrets": [{"name": "pull"}],
        "initContainers": [env("init")], "containers": [env("main")], "ephemeralContainers": [env("debug")],
        "volumes": [
            {"name": "v0", "configMap": {"name": "cm-volume", "optional": true}},
            {"name": "v1", "secret": {"secretName": "volume", "optional": true}},
            {"name": "v2", "projected": {"sources": [
                {"configMap": {"name": "cm-projected"}}, {"secret": {"name": "projected"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"serviceAccountToken": {"path": "token"}}
            ]}},
            {"name": "v3", "azureFile": {"secretName": "azure-file", "shareName": "s"}},
            {"name": "v4", "cephfs": {"monitors": ["m"], "secretRef": {"name": "cephfs"}}},
            {"name": "v5", "cinder": {"volumeID": "i", "secretRef": {"name": "cinder"}}},
            {"name": "v6", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "csi"},
                "volumeAttributes": {"secretName": "csi-attribute"}}},
            {"name": "v7", "flexVolume": {"driver": "d", "secretRef": {"name": "flex"}}},
            {"name": "v8", "iscsi": {"targetPortal": "t", "secretRef": {"name": "iscsi"}}},
            {"name": "v9", "rbd": {"monitors": ["m"], "secretRef": {"name": "rbd"}}},
            {"name": "v10", "scaleIO": {"gateway": "g", "secretRef": {"name": "scaleio"}}},
            {"name": "v11", "storageos": {"volumeName": "s", "secretRef": {"name": "storageos"}}},
            {"name": "v12", "ofTheFuture": {"controllerSecretRef": {"name": "future"}}},
        ]
    })
}

#[test]
fn every_form_of_a_reference_is_found() {
    let found = references(&every_reference());
    let of = |kind, optional| -> Vec<&str> {
        found.iter().filter(|r| r.kind == kind && r.optional == optional).map(|r| r.name.as_str()).collect()
    };
    assert_eq!(of(InputKind::ConfigMap, false), ["cm-projected", "debug-cm-key", "init-cm-key", "main-cm-key"]);
    assert_eq!(of(InputKind::ConfigMap, true), ["cm-volume", "debug-cm-env", "init-cm-env", "main-cm-env"]);
    let required = [
        "azure-file",
        "cephfs",
        "cinder",
        "csi",
        "csi-attribute",
        "debug-env",
        "flex",
        "future",
        "init-env",
        "iscsi",
        "main-env",
        "projected",
        "rbd",
        "scaleio",
        "storageos",
    ];
    assert_eq!(of(InputKind::Secret, false), required);
    assert_eq!(of(InputKind::Secret, true), ["debug-key", "init-key", "main-key", "pull", "volume"]);
}

#[test]
fn the_example_spells_its_fields_as_the_api_does() {
    let mut spec = every_reference();
    spec["volumes"].as_array_mut().unwrap().pop();
    let typed: k8s_openapi::api::core::v1::PodSpec = serde_json::from_value(spec.clone()).unwrap();
    let kept = serde_json::to_value(typed).unwrap();
    assert_eq!(references(&kept), references(&spec), "what the types do not know would be lost here");
}

#[test]
fn an_input_is_optional_only_if_every_reference_is() {
    let volume = |optional: bool| json!({"name": "v", "configMap": {"name": "a", "optional": optional}});
    let of = |volumes: Value| references(&json!({"volumes": volumes}));
    assert!(of(json!([volume(true), volume(true)]))[0].optional);
    for order in [[true, false], [false, true]] {
        let found = of(json!(order.map(volume)));
        assert_eq!((found.len(), found[0].optional), (1, false));
    }
}

#[test]
fn a_name_that_nothing_can_have_is_no_reference() {
    for name in [json!(""), json!("A"), json!("a/b"), json!("a\n"), json!("a".repeat(254)), json!(7), json!(null)] {
        let spec = json!({"volumes": [{"configMap": {"name": name}}, {"secret": {"secretName": name}}]});
        assert_eq!(references(&spec), [], "{name}");
    }
}

#[test]
fn the_cluster_ca_is_exempt_in_its_one_form_only() {
    let source = |items: Value| {
        let map = json!({"name": "kube-root-ca.crt", "items": items});
        json!({"volumes": [{"name": "v", "projected": {"sources": [{"configMap": map}]}}]})
    };
    let injected = source(json!([{"key": "ca.crt", "path": "ca.crt"}]));
    assert_eq!(references(&injected), []);
    assert!(unheld(&injected).iter().any(|(word, _)| *word == "cluster-ca"));
    for items in [
        json!(null),
        json!([]),
        json!([{"key": "run.sh", "path": "ca.crt"}]),
        json!([{"key": "ca.crt", "path": "run.sh"}]),
    ] {
        assert_eq!(references(&source(items.clone())).len(), 1, "{items}");
    }
    assert_eq!(references(&json!({"volumes": [{"configMap": {"name": "kube-root-ca.crt"}}]})).len(), 1);
}

// -- facts --

fn metadata(labels: &[(&str, &str)]) -> ObjectMeta {
    ObjectMeta {
        name: Some("a".into()),
        uid: Some("u1".into()),
        resource_version: Some("7".into()),
        labels: Some(labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()),
        ..ObjectMeta::default()
    }
}

fn config_map(object: Value) -> InputFacts {
    InputFacts::read(InputKind::ConfigMap, &metadata(&[]), &object, &key())
}

#[test]
fn a_hash_covers_the_content_and_nothing_else() {
    let object = json!({"data": {"run.sh": "echo"}, "binaryData": {"b": "AA=="}});
    let facts = config_map(object.clone());
    assert_eq!(facts.hash, sha256(&object).ok());
    let mut described = object.clone();
    described["immutable"] = json!(true);
    described["metadata"] = json!({"labels": {"a": "b"}});
    assert_eq!(config_map(described).hash, facts.hash);
    for changed in [
        json!({"data": {"run.sh": "rm"}, "binaryData": {"b": "AA=="}}),
        json!({"data": {"run.sh": "echo"}, "binaryData": {"b": "AAA="}}),
        json!({"data": {"run.sh": "echo", "b": "AA=="}}),
        json!({"binaryData": {"run.sh": "echo"}, "data": {"b": "AA=="}}),
        json!({}),
    ] {
        assert_ne!(config_map(changed.clone()).hash, facts.hash, "{changed}");
    }
    let empty = config_map(json!({})).hash;
    assert!(empty.is_some());
    assert_eq!(config_map(json!({"data": null, "binaryData": {}})).hash, empty);
}

#[test]
fn the_hash_of_a_secret_tells_nobody_its_content() {
    let object = json!({"data": {"password": "aHVudGVyMg=="}});
    let of = |object: &Value, seed| {
        let key = Keyring::from_seed(&[seed; 32]).unwrap();
        InputFacts::read(InputKind::Secret, &metadata(&[]), object, &key).hash.unwrap()
    };
    let hash = of(&object, 7);
    assert!(hash.starts_with("keyed:") && hash.len() == 70, "{hash}");
    assert_eq!(of(&object, 7), hash);
    assert_ne!(of(&object, 8), hash, "another key");
    assert_ne!(of(&json!({"data": {"password": "aHVudGVyMw=="}}), 7), hash);
    assert!(!sha256(&object).unwrap().ends_with(&hash[6..]));
}

#[test]
fn held_means_immutable_and_locked() {
    let state = |labels: &[(&str, &str)], object: Value| {
        InputState::Present(InputFacts::read(InputKind::ConfigMap, &metadata(labels), &object, &key()))
    };
    let locked = [(names::INPUT, names::LOCKED)];
    let held = state(&locked, json!({"immutable": true}));
    assert!(held.is_held(true) && !held.is_held(false), "the label holds nothing where nobody guards it");
    for open in [
        state(&locked, json!({})),
        state(&locked, json!({"immutable": "true"})),
        state(&[], json!({"immutable": true})),
        state(&[(names::INPUT, "Locked")], json!({"immutable": true})),
        InputState::Absent,
        InputState::Unknown,
    ] {
        assert!(!open.is_held(true), "{open:?}");
    }
    let of_metadata = |labels| InputState::Present(InputFacts::of_metadata(InputKind::Secret, &metadata(labels)));
    assert!(of_metadata(&locked).is_held(true), "the guard locks only what is immutable");
    assert!(!of_metadata(&locked).is_held(false) && !of_metadata(&[]).is_held(true));
}

// -- what is bound --

fn digest_with(inputs: &[BoundInput]) -> String {
    let bounds = Default::default();
    let shown = Shown {
        uid: "r1",
        revision: 1,
        ask: &json!({}),
        requester: &Requester::default(),
        scope: &[],
        rights: None,
        constraints: &Constraints::default(),
        policy_snapshot: "sha256:00",
        job: Some(BoundJob { hash: "sha256:01", bounds: &bounds, parties: &[] }),
        inputs,
        excluded: &[],
    };
    digest(&shown).unwrap()
}

#[test]
fn a_digest_covers_every_input_as_it_is() {
    let reference = |kind, name: &str| InputRef { kind, name: name.into(), optional: false };
    let a = reference(InputKind::ConfigMap, "a");
    let facts = config_map(json!({"data": {"k": "v"}}));
    let present = |change: &dyn Fn(&mut InputFacts)| {
        let mut facts = facts.clone();
        change(&mut facts);
        vec![(a.clone(), InputState::Present(facts))]
    };
    let before = present(&|_| {});
    let different = [
        vec![],
        vec![(a.clone(), InputState::Absent)],
        vec![(a.clone(), InputState::Unknown)],
        vec![(reference(InputKind::Secret, "a"), before[0].1.clone())],
        vec![(reference(InputKind::ConfigMap, "b"), before[0].1.clone())],
        present(&|f| f.uid = "u2".into()),
        present(&|f| f.hash = Some("sha256:00".into())),
        present(&|f| f.hash = None),
        present(&|f| (f.hash, f.resource_version) = (None, "8".into())),
        present(&|f| f.immutable = Some(true)),
        present(&|f| f.locked = true),
        before.clone(),
    ];
    let digests: BTreeSet<_> = different.iter().map(|inputs| digest_with(&bound(inputs, true, &[]))).collect();
    assert_eq!(digests.len(), different.len());
    let relabelled = present(&|f| f.resource_version = "8".into());
    assert_eq!(
        digest_with(&bound(&relabelled, true, &[])),
        digest_with(&bound(&before, true, &[])),
        "where the content is hashed"
    );

    let labelled = present(&|f| f.locked = true);
    assert_eq!(bound(&labelled, false, &[]), bound(&before, false, &[]), "nobody is told of a lock that does not hold");

    let b = (reference(InputKind::ConfigMap, "b"), InputState::Absent);
    let both = [before[0].clone(), b.clone()];
    assert_eq!(bound(&both, true, &[]), bound(&[b, before[0].clone()], true, &[]), "in whatever order they were read");
}

// -- properties --

/// Values in the shape of a pod spec here and there: field names of the API over arbitrary leaves.
pub(in crate::binding) fn hostile() -> impl Strategy<Value = Value> {
    let fields = [
        "containers",
        "initContainers",
        "ephemeralContainers",
        "volumes",
        "env",
        "envFrom",
        "valueFrom",
        "name",
        "image",
        "configMap",
        "configMapRef",
        "configMapKeyRef",
        "secret",
        "secretRef",
        "secretKeyRef",
        "secretName",
        "csi",
        "nodePublishSecretRef",
        "volumeAttributes",
        "projected",
        "sources",
        "items",
        "fieldRef",
        "fieldPath",
        "optional",
        "imagePullSecrets",
        "serviceAccountName",
        "resourceClaims",
        "clusterTrustBundle",
        "reference",
        "unknown",
        "",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,20}".prop_map(Value::from),
        "[a-z\u{0}-\u{1f}\u{202e}]{0,300}".prop_map(Value::from),
    ];
    leaf.prop_recursive(7, 200, 6, move |inner| {
        let entry = (prop::sample::select(fields.to_vec()), inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..6).prop_map(Value::from),
            prop::collection::vec(entry, 0..6)
                .prop_map(|entries| entries.into_iter().map(|(k, v)| (k.to_string(), v)).collect::<Value>()),
        ]
    })
}

proptest! {
    #[test]
    fn references_of_a_hostile_pod_spec_are_sorted_and_bounded(spec in hostile()) {
        let found = references(&spec);
        prop_assert!(found.windows(2).all(|pair| (pair[0].kind, &pair[0].name) < (pair[1].kind, &pair[1].name)));
        prop_assert!(found.iter().all(|r| (1..=253).contains(&r.name.len())));
        let states: Vec<_> = found.into_iter().map(|r| (r, InputState::Unknown)).collect();
        prop_assert_eq!(bound(&states, true, &[]).len(), states.len());
    }

    #[test]
    fn more_in_a_pod_spec_never_hides_a_reference(name in "[a-z]{1,8}", before in hostile(), after in hostile()) {
        let ours = json!({"name": "v", "configMap": {"name": name}});
        let spec = json!({"volumes": [before, ours, after]});
        let found = references(&spec);
        prop_assert!(found.iter().any(|r| r.kind == InputKind::ConfigMap && r.name == name && !r.optional));
    }

    #[test]
    fn any_content_hashes_and_different_content_differs(a in prop::collection::btree_map("[a-c]{1,2}", "\\PC{0,5}", 0..4), b in prop::collection::btree_map("[a-c]{1,2}", "\\PC{0,5}", 0..4)) {
        let hash = |data| config_map(json!({"data": data})).hash.unwrap();
        prop_assert_eq!(hash(&a) == hash(&b), a == b);
    }
}
