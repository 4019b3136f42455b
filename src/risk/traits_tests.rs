use super::*;
use proptest::prelude::*;

fn pod(spec: Value) -> Traits {
    Traits::of(&spec, &Value::Null)
}

/// A pod spec with one container that has these fields.
fn main(fields: Value) -> Value {
    let mut container = json!({"name": "main", "image": "i"});
    container.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json!({"containers": [container]})
}

fn confined(context: Value) -> Traits {
    pod(main(json!({"securityContext": context})))
}

#[test]
fn every_use_of_a_secret_says_where() {
    let env =
        |name: &str, secret: &str| json!({"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": "k"}}});
    let traits = pod(json!({
        "imagePullSecrets": [{"name": "registry"}],
        "initContainers": [{"name": "proxy", "restartPolicy": "Always", "env": [env("A", "mesh")]}],
        "containers": [
            {"name": "main", "env": [env("DB_PASSWORD", "db"), {"name": "PLAIN", "value": "x"}]},
            {"name": "two", "env": [env("B", "b"), env("A", "a"), env("C", "b"), env("D", "b")],
                "envFrom": [{"secretRef": {"name": "all"}}, {"configMapRef": {"name": "no"}}]},
        ],
        "ephemeralContainers": [{"name": "debug", "envFrom": [{"secretRef": {"name": "dbg"}}]}],
        "volumes": [
            {"name": "certs", "secret": {"secretName": "tls"}},
            {"name": "many", "projected": {"sources": [{"secret": {"name": "p2"}}, {"secret": {"name": "p1"}}]}},
            {"name": "disk", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "node"}}},
            {"name": "future", "unheard": {"someSecretRef": {"name": "later"}}},
            {"name": "cfg", "configMap": {"name": "cfg"}},
        ],
    }));
    assert_eq!(
        traits.secrets,
        [
            "init container proxy: env A from Secret mesh",
            "container main: env DB_PASSWORD from Secret db",
            "container two: env A from Secret a",
            "container two: env B and 2 more from Secret b",
            "container two: envFrom Secret all",
            "ephemeral container debug: envFrom Secret dbg",
            "volume certs: Secret tls",
            "volume many: Secret p1",
            "volume many: Secret p2",
            "volume disk: Secret node",
            "volume future: Secret later",
        ]
    );
    assert_eq!(pod(main(json!({}))).secrets, Vec::<String>::new());
}

#[test]
fn what_loosens_confinement_is_privileged() {
    let table = [
        (json!({"privileged": true}), "privileged"),
        (json!({"procMount": "Unmasked"}), "procMount Unmasked"),
        (json!({"windowsOptions": {"hostProcess": true}}), "Windows host process"),
        (json!({"seccompProfile": {"type": "Unconfined"}}), "seccomp Unconfined"),
        (json!({"appArmorProfile": {"type": "Unconfined"}}), "AppArmor Unconfined"),
        (json!({"seLinuxOptions": {"type": "spc_t"}}), "SELinux type spc_t"),
    ];
    for (context, sign) in table {
        assert_eq!(confined(context.clone()).privileged, [format!("container main: {sign}")], "{context}");
        let mut of_pod = main(json!({}));
        of_pod["securityContext"] = context.clone();
        let inherited = !matches!(sign, "privileged" | "procMount Unmasked");
        assert_eq!(!pod(of_pod).privileged.is_empty(), inherited, "of the Pod: {context}");
        for field in ["initContainers", "ephemeralContainers"] {
            let spec = json!({field: [{"name": "x", "securityContext": context}]});
            assert_eq!(pod(spec).privileged.len(), 1, "{field}: {context}");
        }
    }
    let harmless = [
        json!({}),
        json!(null),
        json!({"privileged": false, "procMount": "Default"}),
        json!({"allowPrivilegeEscalation": true}),
        json!({"seccompProfile": {"type": "RuntimeDefault"}}),
        json!({"appArmorProfile": {"type": "Localhost", "localhostProfile": "p"}}),
        json!({"seLinuxOptions": {"type": "container_t", "level": "s0"}}),
        json!({"privileged": "true"}),
    ];
    for context in harmless {
        assert_eq!(confined(context.clone()).privileged, Vec::<String>::new(), "{context}");
    }
    let mut own = main(json!({"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}));
    own["securityContext"] = json!({"seccompProfile": {"type": "Unconfined"}});
    assert!(pod(own).privileged.is_empty(), "a container's own word counts");
}

#[test]
fn an_annotation_takes_the_apparmor_profile_away() {
    let key = |name: &str| format!("container.apparmor.security.beta.kubernetes.io/{name}");
    let spec = json!({"containers": [{"name": "main"}, {"name": "side"}]});
    let of = |annotations: Value| Traits::of(&spec, &annotations).privileged;
    assert_eq!(of(json!({key("side"): "unconfined"})), ["container side: AppArmor unconfined by annotation"]);
    for harmless in [json!({key("side"): "runtime/default"}), json!({key("other"): "unconfined"}), json!(null)] {
        assert!(of(harmless.clone()).is_empty(), "{harmless}");
    }
}

#[test]
fn a_driver_may_hand_out_secrets() {
    let store = json!({"driver": "secrets-store.csi.k8s.io", "volumeAttributes": {"secretProviderClass": "vault"}});
    let traits = pod(json!({"volumes": [
        {"name": "s", "csi": store}, {"name": "c", "csi": {"driver": "csi.cert-manager.io"}},
        {"name": "f", "flexVolume": {"driver": "example.com/x"}}, {"name": "e", "emptyDir": {}},
        {"name": "p", "persistentVolumeClaim": {"claimName": "p"}}]}));
    assert_eq!(traits.secrets, ["volume s: secrets of SecretProviderClass vault"]);
    let drivers = [
        "s: filled by the driver secrets-store.csi.k8s.io",
        "c: filled by the driver csi.cert-manager.io",
        "f: filled by the driver example.com/x",
    ];
    assert_eq!(traits.driver_volumes, drivers.map(|sign| format!("volume {sign}")));
}

#[test]
fn a_probe_or_hook_that_calls_another_host_is_the_nodes_reach() {
    let http = |host: &str| json!({"httpGet": {"host": host, "port": 80}});
    let tcp = |host: &str| json!({"tcpSocket": {"host": host, "port": 80}});
    let traits = pod(main(json!({
        "livenessProbe": http("169.254.169.254"), "readinessProbe": tcp("db"), "startupProbe": http("s"),
        "lifecycle": {"postStart": http("p"), "preStop": tcp("q")},
    })));
    let signs = [
        "livenessProbe calls host 169.254.169.254",
        "readinessProbe calls host db",
        "startupProbe calls host s",
        "postStart calls host p",
        "preStop calls host q",
    ];
    assert_eq!(traits.host_access, signs.map(|sign| format!("container main: {sign}")));
    let own = json!({"livenessProbe": {"httpGet": {"port": 80}}, "readinessProbe": http(""),
        "startupProbe": {"grpc": {"port": 1}}, "lifecycle": {"preStop": {"exec": {"command": ["x"]}}}});
    assert!(pod(main(own)).host_access.is_empty());
}

#[test]
fn what_is_shared_with_the_node_is_named() {
    let mut spec = main(json!({"ports": [{"containerPort": 1, "hostPort": 8080}, {"hostPort": 0}, {"hostPort": 53}]}));
    for field in ["hostNetwork", "hostPID", "hostIPC", "hostUsers", "shareProcessNamespace"] {
        spec[field] = json!(true);
    }
    spec["volumes"] = json!([{"name": "run", "hostPath": {"path": "/var/run"}}, {"name": "tmp", "emptyDir": {}}]);
    let traits = pod(spec);
    assert_eq!(traits.host_access, ["hostNetwork", "hostPID", "hostIPC", "container main: hostPort 8080, 53"]);
    assert_eq!((traits.host_paths, traits.host_network), (vec!["volume run: /var/run".to_string()], true));
    let none =
        pod(json!({"hostNetwork": false, "hostPID": null, "hostUsers": false, "containers": [{"name": "main"}]}));
    assert!(none.host_access.is_empty() && none.host_paths.is_empty() && !none.host_network);
}

#[test]
fn added_capabilities_are_listed_and_dropped_ones_are_not() {
    let traits = confined(json!({"capabilities": {"add": ["NET_ADMIN", "SYS_TIME"], "drop": ["ALL"]}}));
    assert_eq!(traits.added_capabilities, ["container main: NET_ADMIN, SYS_TIME"]);
    assert!(confined(json!({"capabilities": {"add": [], "drop": ["ALL"]}})).added_capabilities.is_empty());
}

#[test]
fn root_is_what_nothing_rules_out() {
    let (zero, open) = ("container main: runAsUser 0", "container main: no runAsUser and no runAsNonRoot");
    let table = [
        (json!({}), json!({}), Some(open)),
        (json!({}), json!({"runAsUser": 0}), Some(zero)),
        (json!({"runAsUser": 0}), json!({}), Some(zero)),
        (json!({"runAsUser": 0}), json!({"runAsUser": 1000}), None),
        (json!({"runAsUser": 1000}), json!({"runAsUser": 0}), Some(zero)),
        (json!({"runAsUser": 1000}), json!({}), None),
        (json!({"runAsUser": 1000}), json!({"runAsUser": null}), None),
        (json!({"runAsNonRoot": true}), json!({}), None),
        (json!({"runAsNonRoot": true}), json!({"runAsNonRoot": false}), Some(open)),
        (json!({"runAsNonRoot": false}), json!({"runAsNonRoot": true}), None),
        (json!({"runAsNonRoot": true}), json!({"runAsUser": 0}), Some(zero)),
        (json!({}), json!({"runAsUser": "1000"}), Some(open)),
        (json!({"runAsGroup": 1000, "fsGroup": 1000}), json!({}), Some(open)),
    ];
    for (of_pod, own, expected) in table {
        let mut spec = main(json!({"securityContext": own}));
        spec["securityContext"] = of_pod.clone();
        assert_eq!(pod(spec).runs_as_root, expected.into_iter().collect::<Vec<_>>(), "pod {of_pod}, container {own}");
    }
    let sidecar = json!({"containers": [{"name": "main", "securityContext": {"runAsUser": 1}}],
        "initContainers": [{"name": "proxy", "restartPolicy": "Always"}], "ephemeralContainers": [{"name": "debug"}]});
    assert_eq!(pod(sidecar).runs_as_root.len(), 2);
}

#[test]
fn images_are_those_of_all_containers_and_volumes() {
    let pinned = format!("r/p@sha256:{}", "0".repeat(64));
    let traits = pod(json!({
        "containers": [{"name": "a", "image": pinned}, {"name": "b", "image": "r/b:1"}, {"name": "c", "image": "r/b:1"}, {"name": "d"}],
        "initContainers": [{"name": "i", "image": "r/i:1"}], "ephemeralContainers": [{"name": "e", "image": "r/e\n:1"}],
        "volumes": [{"name": "v", "image": {"reference": "r/v:1"}}],
    }));
    assert_eq!(traits.images, ["(no image)", "r/b:1", "r/e\\n:1", "r/i:1", &pinned, "r/v:1"]);
    assert_eq!(traits.unpinned, ["(no image)", "r/b:1", "r/e\\n:1", "r/i:1", "r/v:1"]);
    let many: Vec<_> = (0..40).map(|n| json!({"name": "c", "image": format!("r/{n:02}:1")})).collect();
    let many = pod(json!({"containers": many}));
    assert_eq!((many.images.len(), many.unpinned.len()), (40, 16), "policies look for what is not in a list");
    assert_eq!(many.unpinned[15], "25 more, in the pod spec");
}

#[test]
fn the_account_and_whether_its_token_is_there() {
    let table = [
        (json!({}), "default", true),
        (json!({"serviceAccountName": "a", "serviceAccount": "b"}), "a", true),
        (json!({"serviceAccount": "b"}), "b", true),
        (json!({"serviceAccountName": "", "serviceAccount": "b"}), "b", true),
        (json!({"automountServiceAccountToken": true}), "default", true),
        (json!({"automountServiceAccountToken": null}), "default", true),
        (json!({"automountServiceAccountToken": false}), "default", false),
        (
            json!({"automountServiceAccountToken": false, "volumes": [{"name": "t", "projected": {"sources": [
                {"configMap": {"name": "c"}}, {"serviceAccountToken": {"path": "token"}}]}}]}),
            "default",
            true,
        ),
        (
            json!({"automountServiceAccountToken": false, "volumes": [{"name": "t", "projected": {"sources": [
                {"configMap": {"name": "c"}}]}}]}),
            "default",
            false,
        ),
    ];
    for (spec, account, token) in table {
        let traits = pod(spec.clone());
        assert_eq!((traits.service_account.as_str(), traits.has_token), (account, token), "{spec}");
    }
}

#[test]
fn words_of_tenants_stay_short_and_on_one_line() {
    let long = "x".repeat(300);
    let env = json!([{"name": format!("{long}\n"), "valueFrom": {"secretKeyRef": {"name": "db-of-the-payments-team", "key": "k"}}}]);
    let spec = json!({"containers": [{"name": format!("\u{1b}[2J{long}"), "env": env,
        "securityContext": {"privileged": true, "capabilities": {"add": [long, long, long, long, long]}}}],
        "volumes": [{"name": "v", "hostPath": {"path": format!("/a\nb{long}")}}]});
    let traits = pod(spec);
    let all =
        [&traits.secrets, &traits.privileged, &traits.added_capabilities, &traits.host_paths].map(|l| l[0].clone());
    assert!(all.iter().all(|sign| sign.chars().count() <= 120 && !sign.contains(char::is_control)), "{all:?}");
    assert!(all[0].contains("from Secret db-of-the-payments"), "what it is about is not cut off: {all:?}");
}

/// JSON of any form, with the names that a pod spec has.
fn value() -> impl Strategy<Value = Value> {
    let names = prop::sample::select(vec![
        "containers",
        "initContainers",
        "volumes",
        "env",
        "envFrom",
        "name",
        "secret",
        "secretName",
        "secretRef",
        "valueFrom",
        "secretKeyRef",
        "securityContext",
        "capabilities",
        "add",
        "projected",
        "sources",
        "image",
        "reference",
        "ports",
        "hostPort",
        "hostPath",
        "path",
        "runAsUser",
        "serviceAccount",
        "imagePullSecrets",
        "csi",
        "nodePublishSecretRef",
    ]);
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|b| json!(b)),
        any::<i64>().prop_map(|n| json!(n)),
        "[a-c\n]{0,3}".prop_map(|s| json!(s)),
    ];
    leaf.prop_recursive(6, 64, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map(names.clone(), inner, 0..6)
                .prop_map(|map| map.into_iter().map(|(k, v)| (k.to_string(), v)).collect()),
        ]
    })
}

proptest! {
    #[test]
    fn nothing_panics_all_is_bounded_and_every_secret_that_is_bound_is_said(spec in value()) {
        let traits = Traits::of(&spec, &spec);
        prop_assert_eq!(&traits, &Traits::of(&spec, &spec));
        let lists = [&traits.secrets, &traits.driver_volumes, &traits.privileged, &traits.host_access, &traits.host_paths,
            &traits.added_capabilities, &traits.runs_as_root, &traits.unpinned];
        for sign in lists.into_iter().flat_map(|list| { assert!(list.len() <= 16); list }) {
            prop_assert!(sign.chars().count() <= 120 && !sign.contains(char::is_control), "{sign}");
        }
        let mut seen = spec.clone();
        seen.as_object_mut().map(|fields| fields.remove("imagePullSecrets"));
        let bound = references(&seen).into_iter().filter(|input| input.kind == InputKind::Secret);
        let said = |name: &str| traits.secrets.iter().any(|sign| sign.split(' ').any(|word| word == name));
        let few = traits.secrets.len() < 16;
        for input in bound {
            prop_assert!(!few || said(&input.name), "{} in {:?}", input.name, traits.secrets);
        }
    }
}
