use super::*;
use crate::binding::inputs::tests::hostile;
use proptest::prelude::*;
use serde_json::json;

#[test]
fn what_cannot_be_held_is_said() {
    let spec = json!({
        "serviceAccountName": "fixer",
        "containers": [{"name": "main", "image": "busybox:1.36", "env": [
            {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['run']"}}},
            {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['countersign.dev/constraints']"}}},
            {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "D", "valueFrom": {"ofTheFuture": {"name": "x"}}},
            {"name": "E", "valueFrom": {"fileKeyRef": {"volumeName": "w", "key": "k", "path": "p"}}}
        ], "envFrom": [{"ofTheFuture": {"name": "x"}}]}],
        "resourceClaims": [{"name": "gpu", "resourceClaimName": "gpu"}],
        "volumes": [
            {"name": "data", "persistentVolumeClaim": {"claimName": "ledger"}},
            {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {}}}, {"name": "empty", "emptyDir": {}},
            {"name": "host", "hostPath": {"path": "/etc"}}, {"name": "share", "nfs": {"server": "s", "path": "/"}},
            {"name": "vault", "csi": {"driver": "secrets-store.csi.k8s.io"}}, {"name": "gone", "nfs": null},
            {"name": "new", "ofTheFuture": {}}, {"name": "tools", "image": {"reference": "tools:latest"}},
            {"name": "p", "projected": {"sources": [
                {"clusterTrustBundle": {"name": "corp", "path": "ca"}}, {"ofTheFuture": {}},
                {"clusterTrustBundle": {"signerName": "example.com/s", "path": "ca"}},
                {"podCertificate": {"signerName": "example.com/s"}},
                {"downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.annotations"}}]}}
            ]}}
        ]
    });
    let found: Vec<_> = unheld(&spec).into_iter().map(|(word, detail)| format!("{word}: {detail}")).collect();
    let expected = [
        "device-claim: device gpu",
        "driver-volume: volume vault, filled by secrets-store.csi.k8s.io",
        "external-variable: D (ofTheFuture)",
        "external-variable: variables of main (ofTheFuture)",
        "external-volume: content of volume new (ofTheFuture)",
        "external-volume: content of volume p (ofTheFuture)",
        "external-volume: content of volume share (nfs)",
        "host-path: /etc of the node",
        "image-tag: busybox:1.36 can be moved to another image",
        "image-tag: tools:latest can be moved to another image",
        "persistent-volume: content of the claim ledger",
        "persistent-volume: what volume scratch is created with",
        "pod-certificate: a certificate by example.com/s",
        "pod-metadata: metadata.annotations of the Pod",
        "pod-metadata: metadata.labels['run'] of the Pod",
        "service-account: what fixer may do, and the pull secrets it adds",
        "trust-bundle: certificates of the bundle corp",
        "trust-bundle: certificates trusted for example.com/s",
    ];
    assert_eq!(found, expected);
    let plain = json!({"containers": [{"image": format!("a@sha256:{}", "0".repeat(64))}]});
    assert_eq!(unheld(&plain).len(), 1, "only the service account");
}

#[test]
fn too_much_to_list_is_counted() {
    let volumes: Vec<_> = (0..100).map(|i| json!({"name": "v", "hostPath": {"path": format!("/{i:03}")}})).collect();
    let found = unheld(&json!({"volumes": volumes}));
    assert_eq!((found.len(), found[63].0, found[63].1.as_str()), (64, "unheld", "38 more, in the Job's pod template"));
}

#[test]
fn only_a_whole_digest_pins_an_image() {
    let (digest, long) = ("a".repeat(64), "b".repeat(128));
    let pinned = [format!("a@sha256:{digest}"), format!("r.io:5000/a/b:1@sha256:{digest}"), format!("a@sha512:{long}")];
    let open = [
        "busybox".to_string(),
        "busybox:1.36".into(),
        format!("a:sha256-{digest}"),
        format!("a@sha256:{}", &digest[1..]),
        format!("a@sha256:{digest}0"),
        format!("a@sha256:{}", "A".repeat(64)),
        format!("a@sha256:{digest}@b"),
        format!("a@b@sha256:{digest}"),
        format!("@sha256:{digest}"),
        format!("a@md5:{digest}"),
        digest.clone(),
    ];
    let of = |images: &[String]| {
        let containers: Vec<_> = images.iter().map(|image| json!({"image": image})).collect();
        images_without_digest(&json!({"ephemeralContainers": containers}))
    };
    assert_eq!(of(&pinned), [""; 0]);
    let expected: BTreeSet<_> = open.iter().cloned().collect();
    assert_eq!(of(&open), expected.into_iter().collect::<Vec<_>>());
    let without = json!({"containers": [{"name": "a"}], "initContainers": [{"image": 7}], "volumes": [{"image": {}}]});
    assert_eq!(images_without_digest(&without), ["(no image)"]);
}

proptest! {
    #[test]
    fn what_a_hostile_pod_spec_reads_is_said_within_bounds(spec in hostile()) {
        let found = unheld(&spec);
        let harmless = |c: char| !c.is_control() && c != '\u{202e}';
        prop_assert!(!found.is_empty() && found.len() <= 64);
        for (word, detail) in &found {
            prop_assert!(word.len() <= 63 && detail.chars().count() <= 256 && detail.chars().all(harmless), "{}", detail);
        }
        let images = images_without_digest(&spec);
        prop_assert!(images.windows(2).all(|pair| pair[0] < pair[1]) || images.contains(&"(no image)".to_string()));
    }
}
