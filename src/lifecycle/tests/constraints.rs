//! Bounds on CPU and memory, and which bounds nobody enforces.

use super::*;
use crate::lifecycle::tests::gate::gated;

const POD: &str = "/spec/template/spec";

/// A world whose policy bounds CPU and memory, and whose Job has that pod spec.
fn bounded(pod: Value) -> World {
    let mut world = World::new("RequireApproval");
    world.policies[0].1["rules"][0]["constraints"] = json!({"maxCpu": "500m", "maxMemory": "1Gi"});
    world.edit_job(|job| job["spec"]["template"]["spec"] = pod);
    world
}

fn container(resources: Value) -> Value {
    json!({"name": "main", "image": "x", "resources": resources})
}

/// What a container's resources are after a release; none where there was none.
fn released(resources: Value) -> Option<Value> {
    let mut world = bounded(json!({"containers": [container(resources)]}));
    world.settle();
    world.approve("alice");
    world.settle();
    let job = world.job.as_ref().unwrap();
    (world.status().state == State::Released).then(|| job.pointer(POD).unwrap()["containers"][0]["resources"].clone())
}

#[test]
fn a_release_tightens_what_is_above_a_bound_and_nothing_else() {
    let bound = json!({"cpu": "500m", "memory": "1Gi"});
    let table = [
        // Absent in every way.
        (json!(null), json!({"limits": bound})),
        (json!({}), json!({"limits": bound})),
        (json!({"limits": null}), json!({"limits": bound})),
        (json!({"limits": {}}), json!({"limits": bound})),
        (json!({"limits": {"cpu": "4"}}), json!({"limits": bound})),
        // Lower, or the same in other words: left as it is.
        (json!({"limits": {"cpu": "0.5", "memory": "1024Mi"}}), json!({"limits": {"cpu": "0.5", "memory": "1024Mi"}})),
        (json!({"limits": {"cpu": "100m", "memory": "1e8"}}), json!({"limits": {"cpu": "100m", "memory": "1e8"}})),
        // Requests come along where they are above the new limit.
        (
            json!({"limits": {"cpu": "4", "memory": "8Gi"}, "requests": {"cpu": "2", "memory": "512Mi"}}),
            json!({"limits": bound, "requests": {"cpu": "500m", "memory": "512Mi"}}),
        ),
        (json!({"requests": {"memory": "2Gi"}}), json!({"limits": bound, "requests": {"memory": "1Gi"}})),
        (json!({"requests": {"cpu": "1"}}), json!({"limits": bound, "requests": {"cpu": "500m"}})),
        // What else is there stays.
        (
            json!({"limits": {"cpu": "1", "memory": "1Gi", "example.com/gpu": "2"}, "claims": [{"name": "a"}]}),
            json!({"limits": {"cpu": "500m", "memory": "1Gi", "example.com/gpu": "2"}, "claims": [{"name": "a"}]}),
        ),
    ];
    for (before, after) in table {
        assert_eq!(released(before.clone()), Some(after), "{before}");
    }
}

#[test]
fn a_release_never_raises_what_it_cannot_read() {
    // As the API server stores them.
    for small in ["100e-3", "1n", "1e-1"] {
        let own = json!({"limits": {"cpu": small, "memory": "1Mi"}});
        assert_eq!(released(own.clone()), Some(own), "{small}");
    }
    for (part, odd) in [
        ("limits", json!("many")),
        ("limits", json!("9e99")),
        ("requests", json!("-1")),
        ("requests", json!("")),
        ("limits", json!(0.1)),
    ] {
        let mut world = bounded(json!({"containers": [container(json!({part: {"cpu": odd}}))]}));
        world.settle();
        if world.status().digest.is_some() {
            world.approve("alice");
            world.settle();
        }
        assert_eq!((world.running(), world.status().state), (false, State::Pending), "{part} {odd}");
        let said = world.status().message;
        assert!(said.contains(&format!("resources.{part}.cpu of {odd}, which cannot be read")), "{said}");
    }
}

#[test]
fn every_container_is_bounded() {
    let mut world = bounded(json!({
        "initContainers": [
            {"name": "fetch", "image": "x", "resources": {"limits": {"cpu": "2"}}},
            {"name": "sidecar", "image": "x", "restartPolicy": "Always"},
        ],
        "containers": [container(json!({})), {"name": "second", "image": "x", "resources": {"limits": {"cpu": "100m", "memory": "1Mi"}}}],
    }));
    world.settle();
    let hash = world.status().job_hash;
    world.approve("alice");
    let operations = match &world.plan().steps[0] {
        Step::Release(patch) => patch.operations.clone(),
        other => panic!("{other:?}"),
    };
    let touched = |number: usize| format!("{POD}/containers/{number}/resources");
    let text = operations.to_string();
    assert!(text.contains(&touched(0)) && !text.contains(&touched(1)), "only what changes something: {text}");
    world.settle();
    let pod = world.job.as_ref().unwrap().pointer(POD).unwrap().clone();
    let limits = |list: &str, number: usize| pod[list][number]["resources"]["limits"].clone();
    let bound = json!({"cpu": "500m", "memory": "1Gi"});
    assert_eq!(
        [limits("initContainers", 0), limits("initContainers", 1), limits("containers", 0)],
        [bound.clone(), bound.clone(), bound]
    );
    assert_eq!(limits("containers", 1), json!({"cpu": "100m", "memory": "1Mi"}));
    assert_eq!((world.status().state, world.status().job_hash), (State::Released, hash), "what was reviewed is named");
    let annotation =
        &world.job.as_ref().unwrap()["spec"]["template"]["metadata"]["annotations"]["countersign.dev/constraints"];
    let told: Value = serde_json::from_str(annotation.as_str().unwrap()).unwrap();
    assert_eq!(told, json!({"maxCpu": "500m", "maxMemory": "1Gi"}));
    assert_eq!(world.plan(), Plan::idle());
}

#[test]
fn the_requester_may_bound_more_and_never_less() {
    let mut world = bounded(json!({"containers": [container(json!({}))]}));
    world.request["spec"]["constraints"] = json!({"maxCpu": "4", "maxMemory": "64Mi"});
    world.settle();
    world.approve("alice");
    world.settle();
    let limits = world.job.as_ref().unwrap().pointer(POD).unwrap()["containers"][0]["resources"]["limits"].clone();
    assert_eq!(limits, json!({"cpu": "500m", "memory": "64Mi"}));
}

#[test]
fn resources_that_change_after_the_review_are_other_work() {
    let mut world = bounded(json!({"containers": [container(json!({"limits": {"cpu": "4"}}))]}));
    world.settle();
    world.approve("alice");
    world.edit_job(|job| job["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"] = json!("3"));
    world.settle();
    assert_eq!((world.status().state, world.status().revision, world.running()), (State::Pending, 2, false));
}

#[test]
fn what_cannot_be_enforced_is_not_released() {
    let older = |pod: Value| {
        let mut world = bounded(pod);
        world.cluster = Cluster::default();
        world.settle();
        (world.reason(), world.status().message, world.status().digest.is_some())
    };
    let refused = [
        (
            json!({"containers": [container(json!({"limits": {"cpu": "2", "memory": "1Gi"}}))]}),
            "container main of Job job has a cpu limit of 2, maxCpu is 500m, and this cluster does not let the resources of a suspended Job be changed (Kubernetes 1.36 does); create it anew with resources.limits.cpu of at most 500m in every container",
        ),
        (
            json!({"containers": [container(json!({"limits": {"cpu": "500m"}}))]}),
            "container main of Job job has no memory limit, maxMemory is 1Gi",
        ),
        (
            json!({"initContainers": [{"name": "fetch"}], "containers": [container(json!({"limits": {"cpu": "1m", "memory": "1"}}))]}),
            "container fetch of Job job has no cpu limit",
        ),
        (
            json!({"containers": [container(json!({"limits": {"cpu": "1m", "memory": "x"}}))]}),
            "has resources.limits.memory of \"x\", which cannot be read",
        ),
    ];
    for (pod, text) in refused {
        let (reason, message, bound) = older(pod.clone());
        assert_eq!((reason.as_str(), bound), ("ConstraintNotEnforceable", false), "{pod}");
        assert!(message.contains(text), "{message}");
    }
    let within = json!({"containers": [container(json!({"limits": {"cpu": "500m", "memory": "1Gi"}}))]});
    assert_eq!(older(within).0, "Bound", "its own limits are within the bounds");
    // A limit of the whole Pod bounds each of its containers.
    let whole =
        json!({"resources": {"limits": {"cpu": "500m", "memory": "1Gi"}}, "containers": [container(json!({}))]});
    assert_eq!(older(whole.clone()).0, "Bound");
    let mut world = bounded(whole);
    world.settle();
    world.approve("alice");
    world.settle();
    assert_eq!(
        world.job.as_ref().unwrap().pointer(POD).unwrap()["containers"][0]["resources"],
        json!({}),
        "nothing to tighten"
    );
    // Where it does not, containers are not tightened beside it.
    let mut world = bounded(json!({"resources": {"requests": {"cpu": "1"}}, "containers": [container(json!({}))]}));
    world.settle();
    assert_eq!(world.reason(), "ConstraintNotEnforceable");
    assert!(
        world.status().message.contains("beside resources of the whole Pod (spec.resources)"),
        "{}",
        world.status().message
    );
}

#[test]
fn an_older_cluster_is_no_way_past_a_bound() {
    let mut world = gated("Allow");
    world.policies[0].1["rules"][0]["constraints"] = json!({"maxCpu": "500m"});
    let newer = world.clone();
    world.cluster = Cluster::default();
    world.settle_gated();
    assert_eq!((world.reason().as_str(), world.running()), ("ConstraintNotEnforceable", false));
    let mut newer = newer;
    newer.settle_gated();
    let job = newer.job.as_ref().unwrap();
    assert!(newer.running() && newer.request.is_null());
    assert_eq!(job.pointer(POD).unwrap()["containers"][0]["resources"], json!({"limits": {"cpu": "500m"}}));
    // An approval from before the operator learned that it cannot: held.
    let mut world = bounded(json!({"containers": [container(json!({}))]}));
    world.settle();
    world.approve("alice");
    world.cluster = Cluster::default();
    world.settle();
    assert_eq!(
        (world.status().state, world.reason().as_str(), world.running()),
        (State::Pending, "ConstraintNotEnforceable", false)
    );
}

#[test]
fn a_held_pod_is_looked_at_and_not_changed() {
    let target = |resources: Value| {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "payments", "uid": "p1"},
            "spec": {"schedulingGates": [{"name": "countersign.dev/approval"}], "containers": [container(resources)]}});
        TargetFacts::read(TargetKind::Pod, &object(&pod), &key(), None)
    };
    let constraints = serde_json::from_value(json!({"maxMemory": "1Gi"})).unwrap();
    let cluster = Cluster { mutable_resources: true };
    let why = bounds::unenforceable(&target(json!({})), &constraints, cluster).unwrap();
    assert!(
        why.contains("container main of Pod p has no memory limit") && why.contains("a held Pod cannot be changed"),
        "{why}"
    );
    assert_eq!(bounds::unenforceable(&target(json!({"limits": {"memory": "1Gi"}})), &constraints, cluster), None);
}

#[test]
fn what_nobody_enforces_is_named() {
    let all = json!({"maxRuntimeSeconds": 60, "maxRetries": 1, "maxParallelism": 1, "maxCpu": "1", "maxMemory": "1Gi",
        "limits": {"maxLinesChanged": 500}});
    let advisory = |edit: &dyn Fn(&mut World)| {
        let mut world = World::new("RequireApproval");
        world.gate = Gate::Enforce;
        world.policies[0].1["rules"][0]["constraints"] = all.clone();
        edit(&mut world);
        world.settle();
        world.status().advisory
    };
    assert_eq!(advisory(&|_| {}), ["limits.maxLinesChanged"]);
    let untargeted = advisory(&|w| drop(w.request["spec"].as_object_mut().unwrap().remove("target")));
    let named = ["maxRuntimeSeconds", "maxRetries", "maxParallelism", "maxCpu", "maxMemory", "limits.maxLinesChanged"];
    assert_eq!(untargeted, named);
}
