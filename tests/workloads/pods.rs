//! Bare Pods: held at creation, held until the operator or an override lets them go.

use crate::arena::{gates, ours, override_patch, pod, refused};
use crate::gated_arena;
use anyhow::{Context, Result};
use countersign_testbed::{ControlPlane, Identity};
use serde_json::{Value, json};

const HELD_KEYS: [&str; 4] = [
    "countersign.dev/held",
    "countersign.dev/created-by",
    "countersign.dev/created-by-groups",
    "countersign.dev/created-by-uid",
];

fn assert_held(pod: &Value, creator: &str) {
    assert!(gates(pod).contains(&"countersign.dev/approval"), "{pod:#}");
    assert_eq!(pod.pointer("/status/conditions/0/reason"), Some(&json!("SchedulingGated")), "{pod:#}");
    assert_eq!(pod["metadata"]["labels"]["countersign.dev/held"], "true");
    assert_eq!(pod["metadata"]["annotations"]["countersign.dev/created-by"], json!(creator));
    assert_eq!(ours(pod), HELD_KEYS);
}

pub async fn a_pod_is_held_whoever_creates_it_and_however(cluster: &ControlPlane) -> Result<()> {
    let arena = gated_arena(cluster, "pods-held").await?;
    let job = arena.job("theirs", true).await?;
    for who in [&arena.mallory, &arena.hostile, &arena.admin] {
        let created = arena.create(
            who,
            &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "mine-"},
            "spec": pod("x")["spec"]}),
        );
        assert_held(&created.json().await?, &who.name);
    }
    let mallory = &arena.mallory;
    let groups = arena.create(mallory, &pod("plain")).json().await?;
    assert_eq!(
        groups["metadata"]["annotations"]["countersign.dev/created-by-groups"],
        "developers\nsystem:authenticated"
    );
    let hostile = arena.create(&arena.hostile, &pod("hostile")).json().await?;
    let uid = arena.get("serviceaccount/hostile").await?["metadata"]["uid"].clone();
    assert_eq!(hostile["metadata"]["annotations"]["countersign.dev/created-by-uid"], uid);

    let applied = arena.run(mallory, &["apply", "--server-side", "--filename", "-"]).stdin(pod("applied").to_string());
    assert_held(&applied.json().await?, "mallory");
    let run = arena.run(mallory, &["run", "run", "--image=localhost/mine:1"]);
    assert_held(&run.json().await?, "mallory");
    let mut child = pod("child");
    child["metadata"]["ownerReferences"] = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "theirs",
        "uid": job["metadata"]["uid"], "controller": true}]);
    child["metadata"]["labels"] = job["spec"]["template"]["metadata"]["labels"].clone();
    assert_held(&arena.create(mallory, &child).json().await?, "mallory");

    let mut more = pod("more");
    more["spec"]["schedulingGates"] = json!([{"name": "example.com/mine"}]);
    let more = arena.create(mallory, &more).json().await?;
    assert_eq!(gates(&more), ["example.com/mine", "countersign.dev/approval"]);
    let mut ready = pod("ready");
    ready["spec"]["schedulingGates"] = json!([{"name": "countersign.dev/approval"}]);
    assert_eq!(gates(&arena.create(mallory, &ready).json().await?), ["countersign.dev/approval"]);

    // The controller of the Job sees its adopted child, the scheduler sees none of them.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let pods = arena.run(&arena.admin, &["get", "pods", "--selector=countersign.dev/held"]).json().await?;
    for pod in pods["items"].as_array().context("items")? {
        assert!(pod["spec"]["nodeName"].is_null() && pod["status"]["phase"] == "Pending", "{pod:#}");
    }
    Ok(())
}

pub async fn what_admission_stamps_cannot_be_forged(cluster: &ControlPlane) -> Result<()> {
    let arena = gated_arena(cluster, "pods-forged").await?;
    let mut forged = pod("forged");
    forged["metadata"]["labels"] = json!({"countersign.dev/held": "released"});
    forged["metadata"]["annotations"] =
        json!({"countersign.dev/created-by": "alice", "countersign.dev/created-by-groups": "sre"});
    assert_held(&arena.create(&arena.mallory, &forged).json().await?, "mallory");
    for (map, key) in [
        ("annotations", "countersign.dev/receipt"),
        ("annotations", "countersign.dev/released"),
        ("annotations", "countersign.dev/override-reason"),
        ("annotations", "countersign.dev/held"),
        ("labels", "countersign.dev/created-by"),
    ] {
        let mut forged = pod("never");
        forged["metadata"][map] = json!({key: "x"});
        refused(arena.create(&arena.mallory, &forged), "are written by Countersign alone").await?;
    }
    // Joined by line breaks, such a group would pass for two.
    let odd = cluster.user("bob", &["system:masters", "developers\nsre"])?;
    refused(arena.create(&odd, &pod("never")), "cannot be written down on this Pod").await?;
    let by_groups = |count: usize, length: usize| {
        let groups = (0..count).map(|n| format!("--as-group={n:0>length$}"));
        let args = ["create", "--as=bob", "--as-group=system:masters", "--namespace=pods-forged", "--filename", "-"];
        let args = args.into_iter().map(String::from).chain(groups);
        arena.admin.kubectl(args).stdin(pod(&format!("of-{count}")).to_string())
    };
    refused(by_groups(1, 257), "cannot be written down on this Pod").await?;
    refused(by_groups(255, 9), "cannot be written down on this Pod").await?;
    // The API server adds one as well.
    assert_held(&by_groups(254, 256).json().await?, "bob");
    Ok(())
}

pub async fn a_pod_that_names_its_node_is_refused(cluster: &ControlPlane) -> Result<()> {
    let arena = gated_arena(cluster, "pods-node").await?;
    let mut bound = pod("bound");
    bound["spec"]["nodeName"] = json!("simulated");
    // The mutation adds the gate, and then the API server says it before we do.
    let words = "spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared";
    refused(arena.create(&arena.mallory, &bound), words).await?;
    bound["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    refused(arena.create(&arena.mallory, &bound), words).await
}

pub async fn only_a_node_shows_its_mirror_pods(cluster: &ControlPlane) -> Result<()> {
    let arena = gated_arena(cluster, "pods-mirror").await?;
    let mut mirror = pod("mirror");
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    refused(arena.create(&arena.mallory, &mirror), "must set spec.nodeName if mirror pod annotation is set").await?;
    mirror["spec"]["nodeName"] = json!("simulated");
    mirror["spec"]["automountServiceAccountToken"] = json!(false);
    let as_node = ["--as=system:node:simulated", "--as-group=system:nodes", "create", "--filename", "-"];
    let create = |body: &Value| arena.run(&arena.admin, &as_node).stdin(body.to_string());
    // Its node would not start what it did not read from its own files. Anything else from a node is held like any Pod.
    let mut plain = mirror.clone();
    plain["metadata"] = json!({"name": "plain"});
    refused(create(&plain), "cannot be set until all schedulingGates have been cleared").await?;
    let created = create(&mirror).json().await?;
    assert!(gates(&created).is_empty() && ours(&created).is_empty(), "{created:#}");
    Ok(())
}

pub async fn a_dry_run_leaves_nothing(cluster: &ControlPlane) -> Result<()> {
    let arena = gated_arena(cluster, "pods-dry").await?;
    let dry = ["create", "--dry-run=server", "--filename", "-"];
    let answer = arena.run(&arena.mallory, &dry).stdin(pod("dry").to_string()).json().await?;
    assert!(gates(&answer).contains(&"countersign.dev/approval"), "what it shows is what would be: {answer:#}");
    assert_eq!(arena.get("pods").await?["items"], json!([]));
    Ok(())
}

pub async fn a_held_pod_stays_held(cluster: &ControlPlane) -> Result<()> {
    let arena = gated_arena(cluster, "pods-stay").await?;
    let mut held = pod("held");
    held["spec"]["schedulingGates"] = json!([{"name": "example.com/mine"}]);
    arena.create(&arena.mallory, &held).ok().await?;
    let gate = "spec.schedulingGates: countersign.dev/approval is removed by the Countersign operator alone";
    let keys = "are written by the Countersign operator alone. Leave them as they are";
    for who in [&arena.mallory, &arena.admin] {
        let patch = |patch: Value, flags: &[&str]| arena.patch(who, "pod/held", &patch, flags);
        refused(patch(json!({"spec": {"schedulingGates": null}}), &[]), gate).await?;
        refused(patch(json!({"spec": {"schedulingGates": [{"name": "example.com/mine"}]}}), &[]), gate).await?;
        for flags in [&[][..], &["--subresource=status"]] {
            for (map, key) in [
                ("labels", "held"),
                ("annotations", "created-by"),
                ("annotations", "receipt"),
                ("annotations", "override-reason"),
            ] {
                let key = format!("countersign.dev/{key}");
                refused(patch(json!({"metadata": {map: {key: "x"}}}), flags), keys).await?;
            }
            refused(patch(json!({"metadata": {"labels": null}}), flags), keys).await?;
            refused(patch(json!({"metadata": {"annotations": null}}), flags), keys).await?;
        }
    }
    // The status of a Pod carries its spec, and the API server does not take it from there.
    let none = json!({"spec": {"schedulingGates": null}, "status": {"message": "mine"}});
    arena.patch(&arena.mallory, "pod/held", &none, &["--subresource=status"]).ok().await?;
    // Nor does it bind a Pod that has a gate.
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "held"}, "target": {"kind": "Node", "name": "simulated"}});
    for path in ["pods/held/binding", "bindings"] {
        let raw = format!("/api/v1/namespaces/pods-stay/{path}");
        let create = arena.mallory.kubectl(["create", "--raw", &raw, "--filename", "-"]).stdin(binding.to_string());
        refused(create, "non-empty .spec.schedulingGates").await?;
    }
    // Gates and labels of others are their own affair.
    let others = json!({"metadata": {"labels": {"mine": "yes"}}, "spec": {"schedulingGates": [{"name": "countersign.dev/approval"}]}});
    arena.patch(&arena.mallory, "pod/held", &others, &[]).ok().await?;
    assert_eq!(gates(&arena.get("pod/held").await?), ["countersign.dev/approval"]);
    Ok(())
}

pub async fn the_operator_lets_a_held_pod_go(cluster: &ControlPlane) -> Result<()> {
    let arena = gated_arena(cluster, "pods-go").await?;
    arena.create(&arena.mallory, &pod("held")).ok().await?;
    let release = json!({"metadata": {"labels": {"countersign.dev/held": "released"},
        "annotations": {"countersign.dev/released": "sha256:x", "countersign.dev/receipt": "{}"}}, "spec": {"schedulingGates": null}});
    arena.operator(&["patch", "pod/held", "--type=merge", "--patch", &release.to_string()]).ok().await?;
    let running = arena.until("pod/held", |p| p["status"]["phase"] == "Running").await?;
    assert_eq!(running["metadata"]["labels"]["countersign.dev/held"], "released");
    Ok(())
}

pub async fn an_override_takes_the_verb_and_a_reason_and_nothing_else(cluster: &ControlPlane) -> Result<()> {
    let arena = gated_arena(cluster, "pods-override").await?;
    let mut held = pod("held");
    held["spec"]["schedulingGates"] = json!([{"name": "example.com/mine"}]);
    arena.create(&arena.mallory, &held).ok().await?;
    let others = json!([{"name": "example.com/mine"}]);
    let with = |change: Value| {
        let mut patch = override_patch("production burns");
        patch["spec"]["schedulingGates"] = others.clone();
        json_patch::merge(&mut patch, &change);
        patch
    };
    let because =
        |reason: &str| with(json!({"metadata": {"annotations": {"countersign.dev/override-reason": reason}}}));
    let patch = |who: &Identity, patch: Value| arena.patch(who, "pod/held", &patch, &[]);
    refused(patch(&arena.mallory, with(json!({}))), "which mallory does not have").await?;
    let words = "which system:serviceaccount:pods-override:hostile does not have";
    refused(patch(&arena.hostile, with(json!({}))), words).await?;
    let mut containers = arena.get("pod/held").await?["spec"]["containers"].clone();
    containers[0]["image"] = json!("localhost/other:1");
    let nothing = "nothing else may change with it";
    for (change, words) in [
        (because(" "), "say why, in 1 to 1024 characters"),
        (because(&"x".repeat(1025)), "say why, in 1 to 1024 characters"),
        (json!({"spec": {"schedulingGates": others.clone()}}), "is removed by the Countersign operator alone"),
        (json!({"metadata": {"annotations": {"countersign.dev/override-reason": "later"}}}), "Leave them as they are"),
        (override_patch("takes the other gate as well"), nothing),
        (with(json!({"spec": {"activeDeadlineSeconds": 5}})), nothing),
        (with(json!({"spec": {"nodeSelector": {"a": "b"}}})), nothing),
        (with(json!({"spec": {"containers": containers}})), nothing),
        (with(json!({"metadata": {"labels": {"a": "b"}}})), nothing),
        (with(json!({"metadata": {"labels": {"countersign.dev/held": "released"}}})), nothing),
        (with(json!({"metadata": {"annotations": {"a": "b"}}})), nothing),
        (with(json!({"metadata": {"annotations": {"countersign.dev/receipt": "{}"}}})), nothing),
        (with(json!({"metadata": {"finalizers": ["example.com/mine"]}})), nothing),
    ] {
        refused(patch(&arena.carol, change), words).await?;
    }
    // The name that is written down is the caller's, whatever the patch says.
    let alice = json!({"metadata": {"annotations": {"countersign.dev/overridden-by": "alice"}}});
    patch(&arena.carol, with(alice.clone())).ok().await?;
    let pod = arena.get("pod/held").await?;
    assert_eq!(gates(&pod), ["example.com/mine"]);
    assert_eq!(pod["metadata"]["annotations"]["countersign.dev/overridden-by"], "carol");
    assert_eq!(pod["metadata"]["labels"]["countersign.dev/held"], "true", "how the operator finds it on its return");
    patch(&arena.mallory, json!({"spec": {"schedulingGates": null}})).ok().await?;
    arena.until("pod/held", |p| p["status"]["phase"] == "Running").await?;
    refused(patch(&arena.carol, alice), "Leave them as they are").await
}
