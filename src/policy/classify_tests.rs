use super::*;
use crate::policy::compile;
use serde_json::{Value, json};
use std::sync::Arc;

fn traits() -> Traits {
    Traits {
        secrets: vec!["container main: env PASSWORD from Secret db".into()],
        images: vec!["docker.io/library/busybox:1.36".into(), "registry.example/worker@sha256:00".into()],
        unpinned: vec!["docker.io/library/busybox:1.36".into()],
        service_account: "triage".into(),
        has_token: true,
        ..Traits::default()
    }
}

fn rights() -> Rights {
    Rights { writes: Some("patch deployments.apps, by Role w".into()), ..Rights::default() }
}

/// What the classifiers of the policy `p` derive, and the built-in ones, as `policy/tag`.
fn derived(classifiers: &Value, work: Option<(&Traits, &Rights, bool)>) -> Vec<DerivedTag> {
    let spec = json!({"classifiers": classifiers, "rules": [{"name": "r", "decision": "Deny"}]});
    let policies = PolicySet { ready: vec![Arc::new(compile("p", &spec, None).unwrap())], broken: vec![] };
    let work = work.map(|(traits, rights, open_egress)| Work { traits, rights, open_egress });
    classify(&policies, work.as_ref(), &BTreeMap::from([("env".into(), "prod".into())]))
}

fn detail(when: Value, work: Option<(&Traits, &Rights, bool)>) -> Option<String> {
    let all = derived(&json!([{"tag": "t", "when": when}]), work);
    all.into_iter().find(|d| d.policy.is_some()).map(|d| d.detail)
}

#[test]
fn what_countersign_derives_by_itself() {
    let all = derived(&json!([]), Some((&traits(), &rights(), true)));
    let tags: Vec<_> = all.iter().map(|d| (d.tag.as_str(), d.detail.as_str())).collect();
    assert_eq!(
        tags,
        [
            ("secrets", "container main: env PASSWORD from Secret db"),
            ("write", "serviceaccount triage may patch deployments.apps, by Role w"),
        ]
    );
    assert_eq!(derived(&json!([]), Some((&Traits::default(), &Rights::default(), true))), []);
    assert_eq!(derived(&json!([]), None), []);
    let everything = Traits {
        privileged: vec!["container main: privileged".into()],
        added_capabilities: vec!["container main: NET_ADMIN".into()],
        host_access: vec!["hostNetwork".into()],
        host_paths: vec!["volume v: /etc".into()],
        ..traits()
    };
    let cluster =
        Rights { reads_secrets: Some("get secrets".into()), cluster_scope: Some("do anything".into()), ..rights() };
    let tags: Vec<_> = derived(&json!([]), Some((&everything, &cluster, false))).into_iter().map(|d| d.tag).collect();
    assert_eq!(tags, ["cluster-scope", "host", "privileged", "secrets", "write"]);
}

#[test]
fn what_an_account_may_do_is_no_matter_without_its_token() {
    let locked_out = Traits { has_token: false, secrets: vec![], ..traits() };
    assert_eq!(derived(&json!([]), Some((&locked_out, &rights(), true))), []);
    let may_not = json!({"serviceAccountMay": {"write": false}});
    assert!(detail(may_not.clone(), Some((&locked_out, &rights(), true))).is_some());
    assert_eq!(detail(may_not, Some((&traits(), &rights(), true))), None);
}

#[test]
fn every_part_of_a_condition_must_hold() {
    let work = (&traits(), &rights(), true);
    for (when, expected) in [
        (json!({"usesSecrets": true}), Some("container main: env PASSWORD from Secret db")),
        (json!({"usesSecrets": false}), None),
        (json!({"privileged": false}), Some("no container is privileged")),
        (json!({"privileged": true}), None),
        (json!({"hostAccess": true}), None),
        (
            json!({"hostPaths": false, "addedCapabilities": false}),
            Some("no path of the node is mounted; no capability is added"),
        ),
        (json!({"runsAsRoot": false}), Some("no container runs as root")),
        (json!({"imageTags": true}), Some("docker.io/library/busybox:1.36")),
        (json!({"images": ["docker.io/*"]}), Some("image docker.io/library/busybox:1.36")),
        (json!({"images": ["quay.io/*"]}), None),
        (json!({"imagesOtherThan": ["registry.example/*"]}), Some("image docker.io/library/busybox:1.36")),
        (json!({"imagesOtherThan": ["registry.example/*", "docker.io/*"]}), None),
        (json!({"serviceAccounts": ["tri*"]}), Some("serviceaccount triage")),
        (json!({"serviceAccounts": ["default"]}), None),
        (json!({"serviceAccountMay": {"readSecrets": true}}), None),
        (
            json!({"serviceAccountMay": {"write": true, "clusterScope": false}}),
            Some(
                "serviceaccount triage may patch deployments.apps, by Role w; serviceaccount triage may write nothing and read no Secrets beyond its own namespace",
            ),
        ),
        (json!({"unrestrictedEgress": true}), Some("no NetworkPolicy restricts its egress")),
        (json!({"namespaceSelector": {"matchLabels": {"env": "prod"}}}), Some("the namespace's labels")),
        (json!({"namespaceSelector": {"matchLabels": {"env": "staging"}}, "usesSecrets": true}), None),
        (
            json!({"namespaceSelector": {"matchLabels": {"env": "prod"}}, "imageTags": true}),
            Some("the namespace's labels; docker.io/library/busybox:1.36"),
        ),
    ] {
        assert_eq!(detail(when.clone(), Some(work)).as_deref(), expected, "{when}");
    }
    assert_eq!(detail(json!({"unrestrictedEgress": true}), Some((&traits(), &rights(), false))), None);
}

#[test]
fn without_a_target_nothing_is_known_of_the_work() {
    for when in
        [json!({"usesSecrets": true}), json!({"usesSecrets": false}), json!({"serviceAccountMay": {"write": false}})]
    {
        assert_eq!(detail(when.clone(), None), None, "{when}");
    }
    let labels = json!({"namespaceSelector": {"matchLabels": {"env": "prod"}}});
    assert!(detail(labels, None).is_some(), "the namespace is known");
}

#[test]
fn only_network_reach_is_advisory() {
    let classifiers = json!([
        {"tag": "network", "when": {"unrestrictedEgress": true}},
        {"tag": "secrets", "when": {"usesSecrets": true}},
    ]);
    let all = derived(&classifiers, Some((&traits(), &rights(), true)));
    let own: Vec<_> = all.iter().filter(|d| d.policy.is_some()).map(|d| (d.tag.as_str(), d.advisory)).collect();
    assert_eq!(own, [("network", true), ("secrets", false)]);
}

#[test]
fn several_classifiers_of_one_tag_add_up() {
    let classifiers = json!([
        {"tag": "t", "when": {"unrestrictedEgress": true}},
        {"tag": "t", "when": {"usesSecrets": true}},
        {"tag": "t", "when": {"imageTags": true}},
        {"tag": "t", "when": {"usesSecrets": true}},
    ]);
    let all = derived(&classifiers, Some((&traits(), &Rights::default(), true)));
    let own: Vec<_> = all.iter().filter(|d| d.policy.is_some()).collect();
    let detail = "container main: env PASSWORD from Secret db; docker.io/library/busybox:1.36; no NetworkPolicy restricts its egress";
    assert_eq!((own.len(), own[0].detail.as_str(), own[0].advisory), (1, detail, false), "a fact is no advice");
    let advice = json!([{"tag": "t", "when": {"unrestrictedEgress": true}}, {"tag": "t", "when": {"unrestrictedEgress": true, "imageTags": true}}]);
    assert!(derived(&advice, Some((&traits(), &Rights::default(), true))).iter().any(|d| d.advisory));
}

#[test]
fn no_network_policy_holds_the_nodes_network() {
    let of_node = Traits { host_network: true, ..traits() };
    let detail = detail(json!({"unrestrictedEgress": true}), Some((&of_node, &rights(), false)));
    assert_eq!(detail.as_deref(), Some("it has the node's network, which no NetworkPolicy restricts"));
}

#[test]
fn what_a_driver_mounts_is_neither_secret_nor_none() {
    let traits = Traits { driver_volumes: vec!["volume v: filled by the driver x".into()], ..Traits::default() };
    for uses in [true, false] {
        assert_eq!(detail(json!({"usesSecrets": uses}), Some((&traits, &rights(), false))), None, "{uses}");
    }
    assert!(detail(json!({"usesSecrets": false}), Some((&Traits::default(), &rights(), false))).is_some());
}

#[test]
fn an_image_that_is_too_long_is_nobodys() {
    let long = format!("registry.example/{}", "x".repeat(512));
    let traits = Traits { images: vec![long.clone()], ..Traits::default() };
    let holds = |when: Value| detail(when, Some((&traits, &rights(), false))).is_some();
    assert!(!holds(json!({"images": ["registry.example/*"]})) && !holds(json!({"images": ["*"]})));
    assert!(holds(json!({"imagesOtherThan": ["registry.example/*"]})));
    let traits = Traits { images: vec![long[..512].into()], ..Traits::default() };
    assert!(detail(json!({"images": ["registry.example/*"]}), Some((&traits, &rights(), false))).is_some());
}

#[test]
fn a_long_part_hides_no_other() {
    let grant = "list secrets, by Role r through RoleBinding r in payments, and through 3 more bindings";
    let signs: Vec<String> = (0..9).map(|n| format!("volume v{n}: Secret {}", "x".repeat(100))).collect();
    for account in ["triage".to_string(), "a".repeat(253)] {
        let hiding = Traits { secrets: signs.clone(), service_account: account, ..traits() };
        let may = Rights { reads_secrets: Some(grant.into()), ..Rights::default() };
        let all = derived(&json!([]), Some((&hiding, &may, false)));
        let detail = &all[0].detail;
        assert!(
            detail.starts_with("serviceaccount ") && detail.contains(&format!(" may {grant}; volume v0")),
            "{detail}"
        );
        assert!(detail.chars().count() <= 510, "{detail}");
    }
    // The longest that rights are.
    let may = Rights { writes: Some("x".repeat(420)), reads_secrets: Some("y".repeat(420)), ..Rights::default() };
    let named = Traits { service_account: "a".repeat(253), ..Traits::default() };
    let named = Traits { has_token: true, ..named };
    let all = derived(&json!([]), Some((&named, &may, false)));
    assert!(all.iter().all(|tag| tag.detail.ends_with("xx") || tag.detail.ends_with("yy")), "{all:?}");
    let both = detail(json!({"serviceAccountMay": {"write": true, "readSecrets": true}}), Some((&named, &may, false)));
    assert!(both.is_some_and(|detail| detail.chars().count() <= 510));
}

#[test]
fn long_details_are_cut_and_say_so() {
    let many =
        Traits { secrets: (0..40).map(|n| format!("volume v{n}: Secret {}", "é".repeat(300))).collect(), ..traits() };
    let all = derived(&json!([]), Some((&many, &Rights::default(), false)));
    assert!(all[0].detail.chars().count() <= 512 && all[0].detail.contains('…'), "{}", all[0].detail);
    let few = Traits { secrets: (0..5).map(|n| format!("s{n}")).collect(), ..traits() };
    let all = derived(&json!([]), Some((&few, &Rights::default(), false)));
    assert_eq!(all[0].detail, "s0, s1, s2 and 2 more");
}
