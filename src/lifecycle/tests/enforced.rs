//! Bounds on runtime and retries, what they leave room for, and who keeps them after the release.

use super::*;
use crate::lifecycle::tests::gate::gated;

const POD: &str = "/spec/template/spec";

/// A world whose policy has those constraints, and whose Job was edited.
fn bounded(constraints: Value, edit: impl FnOnce(&mut Value)) -> World {
    let mut world = World::new("RequireApproval");
    world.policies[0].1["rules"][0]["constraints"] = constraints;
    world.edit_job(|job| edit(&mut job["spec"]));
    world
}

fn with_grace(bound: i64, own: Option<i64>, grace: i64) -> World {
    bounded(json!({"maxRuntimeSeconds": bound}), |spec| {
        spec["template"]["spec"]["terminationGracePeriodSeconds"] = json!(grace);
        if let Some(own) = own {
            spec["activeDeadlineSeconds"] = json!(own);
        }
    })
}

fn refused(mut world: World, expected: &str) {
    world.settle();
    let status = world.status();
    assert_eq!((world.reason().as_str(), status.digest, world.running()), ("ConstraintNotEnforceable", None, false));
    assert!(status.message.contains(expected), "{expected:?} in {:?}", status.message);
    let deadline = status.target.and_then(|target| target.bounds.active_deadline_seconds);
    assert!(deadline.is_none_or(|seconds| seconds > 0), "what the API takes: {deadline:?}");
}

#[test]
fn time_to_stop_counts_towards_the_runtime() {
    for (bound, own, grace, deadline) in [
        // What Kubernetes gives everybody comes on top.
        (900, None, 30, 900),
        (900, None, 0, 900),
        (900, None, -1, 900),
        (1, None, 30, 1),
        // What is longer is taken off.
        (900, None, 31, 899),
        (900, None, 330, 600),
        (900, None, 900, 30),
        (900, Some(600), 330, 600),
        (900, Some(700), 330, 600),
        (900, Some(60), 330, 60),
        (31, None, 31, 30),
    ] {
        let mut world = with_grace(bound, own, grace);
        world.settle();
        let shown = world.status().target.map(|t| t.bounds.active_deadline_seconds);
        assert_eq!(shown, Some(Some(deadline)), "{bound} {own:?} {grace}");
        world.approve("alice");
        world.settle();
        let job = world.job.as_ref().unwrap();
        assert_eq!((world.running(), &job["spec"]["activeDeadlineSeconds"]), (true, &json!(deadline)));
        assert_eq!(job.pointer(POD).unwrap()["terminationGracePeriodSeconds"], json!(grace), "not ours to change");
    }
    let mut unbounded = bounded(json!({}), |spec| {
        spec["template"]["spec"]["terminationGracePeriodSeconds"] = json!(86_400);
        spec["activeDeadlineSeconds"] = json!(60);
    });
    unbounded.settle();
    assert_eq!(unbounded.status().target.unwrap().bounds.active_deadline_seconds, Some(60));
}

#[test]
fn more_time_to_stop_than_to_run_is_refused() {
    let text = "a Pod of Job job may take 86400 s to stop (terminationGracePeriodSeconds), and maxRuntimeSeconds is 900: it could run on for that long; create it anew with terminationGracePeriodSeconds of at most 900";
    refused(with_grace(900, None, 86_400), text);
    refused(with_grace(900, Some(10), 901), "may take 901 s to stop");
    refused(with_grace(20, None, 31), "terminationGracePeriodSeconds of at most 30");
    let mut world = gated("Allow");
    world.policies[0].1["rules"][0]["constraints"] = json!({"maxRuntimeSeconds": 900});
    world.edit_job(|job| job["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(86_400));
    world.settle_gated();
    assert_eq!((world.reason().as_str(), world.running()), ("ConstraintNotEnforceable", false), "by no Allow either");
}

fn pod(spec: Value) -> TargetFacts {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "payments", "uid": "p1"},
        "spec": {"schedulingGates": [{"name": "countersign.dev/approval"}], "restartPolicy": "Never",
            "containers": [{"name": "main", "image": "x"}]}});
    pod["spec"].as_object_mut().unwrap().extend(spec.as_object().cloned().unwrap());
    TargetFacts::read(TargetKind::Pod, &object(&pod), &key(), None)
}

fn unenforceable(target: &TargetFacts, constraints: Value) -> Option<String> {
    let constraints = serde_json::from_value(constraints).unwrap();
    bounds::unenforceable(target, &constraints, Cluster { mutable_resources: true })
}

#[test]
fn a_held_pod_is_bounded_the_same() {
    let constraints: crate::api::Constraints = serde_json::from_value(json!({"maxRuntimeSeconds": 900})).unwrap();
    let slow = pod(json!({"terminationGracePeriodSeconds": 330}));
    assert_eq!(target_patch::bounded(&slow, &constraints).active_deadline_seconds, Some(600));
    assert_eq!(unenforceable(&slow, json!({"maxRuntimeSeconds": 900})), None);
    let slower = pod(json!({"terminationGracePeriodSeconds": 1000}));
    let why = unenforceable(&slower, json!({"maxRuntimeSeconds": 900})).unwrap();
    assert!(why.starts_with("Pod p may take 1000 s to stop"), "{why}");
    assert_eq!(unenforceable(&pod(json!({})), json!({"maxRetries": 0})), None);
    let why = unenforceable(&pod(json!({"restartPolicy": "Always"})), json!({"maxRetries": 0})).unwrap();
    assert!(why.contains("container main of Pod p") && why.contains("restartPolicy: Never"), "{why}");
    assert_eq!(unenforceable(&pod(json!({"restartPolicy": "Always"})), json!({"maxRetries": 1})), None);
}

type Case = (&'static str, fn(&mut Value), &'static str);

/// Ways in which something runs again that no `backoffLimit` counts in time, and what names them.
fn uncounted() -> Vec<Case> {
    vec![
        (
            "whole Pod",
            |spec| spec["template"]["spec"]["restartPolicy"] = json!("OnFailure"),
            "container main of Job job is started again where it fails (restartPolicy OnFailure)",
        ),
        (
            "one container",
            |spec| spec["template"]["spec"]["containers"][0]["restartPolicy"] = json!("OnFailure"),
            "container main of Job job is started again where it fails (restartPolicy OnFailure)",
        ),
        (
            "an init container",
            |spec| {
                spec["template"]["spec"]["initContainers"] = json!([{"name": "fetch", "restartPolicy": "OnFailure"}])
            },
            "container fetch of Job job",
        ),
        (
            "rules of a container",
            |spec| spec["template"]["spec"]["containers"][0]["restartPolicyRules"] = json!([{"action": "Restart"}]),
            "container main of Job job is started again where it fails (restartPolicyRules)",
        ),
        (
            "rules of a sidecar",
            |spec| {
                spec["template"]["spec"]["initContainers"] = json!([{"name": "s", "restartPolicy": "Always", "restartPolicyRules": [{"action": "RestartAllContainers"}]}]);
            },
            "container s of Job job is started again where it fails (restartPolicyRules)",
        ),
        (
            "failures that do not count",
            |spec| spec["podFailurePolicy"] = json!({"rules": [{"action": "FailJob"}, {"action": "Ignore"}]}),
            "Job job ignores some failures (podFailurePolicy with action Ignore)",
        ),
    ]
}

#[test]
fn without_retries_nothing_runs_twice() {
    for (what, edit, text) in uncounted() {
        let none = bounded(json!({"maxRetries": 0}), edit);
        refused(none, text);
        // Where running again is allowed, that it is not counted exactly is said.
        let mut some = bounded(json!({"maxRetries": 1}), edit);
        some.gate = Gate::Enforce;
        some.settle();
        assert_eq!(some.status().advisory, ["maxRetries"], "{what}");
        let mut unbounded = bounded(json!({}), edit);
        unbounded.settle();
        assert_eq!((unbounded.reason().as_str(), unbounded.status().advisory), ("Bound", vec![]), "{what}");
    }
    for fine in [
        json!([{"name": "s", "restartPolicy": "Always"}]),
        json!([{"name": "i", "restartPolicy": "Never"}, {"name": "j"}]),
    ] {
        let mut world =
            bounded(json!({"maxRetries": 0}), |spec| spec["template"]["spec"]["initContainers"] = fine.clone());
        world.settle();
        assert_eq!(world.reason(), "Bound", "{fine}");
    }
    // A container that is never restarted, in a Pod that would restart others.
    let mut world = bounded(json!({"maxRetries": 0}), |spec| {
        spec["template"]["spec"]["restartPolicy"] = json!("OnFailure");
        spec["template"]["spec"]["containers"][0]["restartPolicy"] = json!("Never");
    });
    world.settle();
    assert_eq!(world.reason(), "Bound");
}

#[test]
fn huge_pages_are_memory_that_no_bound_reaches() {
    let huge = |resources: Value, most: Value| {
        bounded(most, |spec| spec["template"]["spec"]["containers"][0]["resources"] = resources)
    };
    let beside = json!({"limits": {"memory": "1Gi", "hugepages-1Gi": "8Gi"}});
    let text = "container main of Job job asks for hugepages-1Gi of 8Gi, which maxMemory does not bound: huge pages are no part of a memory limit; create it anew without them";
    refused(huge(beside.clone(), json!({"maxMemory": "1Gi"})), text);
    refused(huge(json!({"requests": {"hugepages-2Mi": "2Mi"}}), json!({"maxMemory": "1Gi"})), "hugepages-2Mi of 2Mi");
    let whole = bounded(json!({"maxMemory": "1Gi"}), |spec| {
        spec["template"]["spec"]["resources"] = json!({"limits": {"memory": "1Gi", "hugepages-2Mi": "2Mi"}});
    });
    refused(whole, "Job job asks for hugepages-2Mi of 2Mi");
    for (resources, most) in [
        (beside, json!({"maxCpu": "1"})),
        (json!({"limits": {"hugepages-1Gi": "0"}}), json!({"maxMemory": "1Gi"})),
        (json!({"limits": {"example.com/hugepages-x": "1"}}), json!({"maxMemory": "1Gi"})),
    ] {
        let mut world = huge(resources.clone(), most);
        world.settle();
        assert_eq!(world.reason(), "Bound", "{resources}");
    }
}

#[test]
fn where_nothing_keeps_a_bound_after_the_release_that_is_said() {
    let all = json!({"maxRuntimeSeconds": 60, "maxRetries": 1, "maxParallelism": 1, "maxCpu": "1", "maxMemory": "1Gi",
        "limits": {"maxLinesChanged": 500}});
    let advisory = |gate: Gate, edit: fn(&mut Value)| {
        let mut world = bounded(all.clone(), edit);
        world.gate = gate;
        world.settle();
        world.status().advisory
    };
    let later = |names: &[&str]| -> Vec<String> {
        names.iter().map(|name| format!("{name} (set at release, can be changed later)")).collect()
    };
    let typed = ["maxRuntimeSeconds", "maxRetries", "maxParallelism", "maxCpu", "maxMemory"];
    assert_eq!(advisory(Gate::Enforce, |_| {}), ["limits.maxLinesChanged"]);
    for gate in [Gate::Off, Gate::Warn] {
        let mut expected = later(&typed);
        expected.push("limits.maxLinesChanged".into());
        assert_eq!(advisory(gate, |_| {}), expected);
        // What is not kept from the start is not said to be set.
        expected[1] = "maxRetries".into();
        assert_eq!(advisory(gate, |spec| spec["template"]["spec"]["restartPolicy"] = json!("OnFailure")), expected);
    }
}

/// That many names of limits.
fn limits(from: usize, number: usize) -> Value {
    Value::Object((from..from + number).map(|n| (format!("limit-{n:02}"), json!(n))).collect())
}

#[test]
fn more_limits_than_can_be_shown_are_said() {
    let with = |policy: Value, own: Value| {
        let mut world = bounded(json!({"limits": policy}), |_| {});
        world.request["spec"]["constraints"] = json!({"limits": own});
        world.settle();
        world
    };
    let fits = with(limits(0, 32), limits(0, 32));
    assert_eq!((fits.reason().as_str(), fits.status().constraints.limits.len()), ("Bound", 32));
    let world = with(limits(32, 1), limits(0, 32));
    let status = world.status();
    assert_eq!((world.reason().as_str(), status.digest.is_some()), ("TooManyLimits", false));
    assert_eq!((status.constraints.limits.len(), status.advisory.len()), (32, 32), "what the API takes");
    assert!(
        status.message.contains("33 names of limits") && status.message.contains("at most 32"),
        "{}",
        status.message
    );
    assert_eq!(world.plan().steps, []);
    // The same for what is allowed, where policies alone add up.
    let mut world = gated("Allow");
    world.policies[0].1["rules"][0]["constraints"] = json!({"limits": limits(0, 17)});
    let mut other = world.policies[0].clone();
    other.0 = "other".into();
    other.1["rules"][0]["constraints"] = json!({"limits": limits(17, 17)});
    world.policies.push(other);
    world.settle_gated();
    assert_eq!((world.reason().as_str(), world.running()), ("TooManyLimits", false));
    // And where policy denies, the request ends.
    let mut world = bounded(json!({"limits": limits(0, 32)}), |_| {});
    world.policies[0].1["rules"][0]["decision"] = json!("Deny");
    world.policies[0].1["rules"][0].as_object_mut().unwrap().remove("approvals");
    world.request["spec"]["constraints"] = json!({"limits": limits(32, 1)});
    world.settle();
    assert_eq!((world.status().state, world.status().constraints.limits.len()), (State::Denied, 32));
}

/// As many windows, of several rules, each passed by another group; the first ones by nobody.
fn windows(unpassable: usize, passable: usize) -> World {
    let mut world = World::new("RequireApproval");
    let rule = world.policies[0].1["rules"][0].clone();
    let window = |n: usize| {
        let may_pass = if n < unpassable { json!([]) } else { json!([{"kind": "Group", "name": format!("g{n:02}")}]) };
        json!({"name": format!("w{n:02}"), "start": "0 3 * * *", "durationSeconds": 60, "mayPass": may_pass})
    };
    let all: Vec<Value> = (0..unpassable + passable).map(window).collect();
    let rules = all.chunks(8).enumerate().map(|(n, windows)| {
        let mut rule = rule.clone();
        rule["name"] = json!(format!("r{n:02}"));
        rule["freezeWindows"] = json!(windows);
        rule
    });
    world.policies[0].1["rules"] = rules.collect();
    world.settle();
    world
}

#[test]
fn whoever_may_pass_a_window_is_listed() {
    let passers = |world: &World| {
        let freezes = world.status().freezes;
        assert!(freezes.len() <= 32, "what the API takes");
        freezes.iter().map(|f| f.window.may_pass.len()).sum::<usize>()
    };
    let world = windows(0, 32);
    assert_eq!((world.reason().as_str(), passers(&world)), ("Bound", 32));
    let world = windows(30, 10);
    assert_eq!((world.reason().as_str(), passers(&world)), ("Bound", 10), "those that nobody passes go first");
    assert_eq!(windows(1, 2).status().freezes[0].window.name, "w00", "in their order where all fit");
    let world = windows(0, 33);
    assert_eq!((world.reason().as_str(), world.status().digest.is_some()), ("TooManyWindows", false));
    assert!(world.status().message.contains("33 freeze windows"), "{}", world.status().message);
    // The same people for many windows: each once is enough.
    let mut world = windows(0, 40);
    for rule in world.policies[0].1["rules"].as_array_mut().unwrap() {
        for window in rule["freezeWindows"].as_array_mut().unwrap() {
            window["mayPass"] = json!([{"kind": "Group", "name": "leads"}]);
        }
    }
    world.policies_version = world.bump();
    world.settle();
    assert_eq!((world.reason().as_str(), passers(&world)), ("Bound", 32));
}

#[test]
fn more_requirements_than_can_be_listed_are_said() {
    let mut world = World::new("RequireApproval");
    world.settle();
    // A single rule with so many is refused; two of them add up.
    let rule = |name: &str, numbers: std::ops::Range<i32>| {
        let requirements: Vec<Value> = numbers
            .map(|n| json!({"name": format!("g{n}"), "approvers": [{"kind": "Group", "name": format!("g{n}")}]}))
            .collect();
        json!({"name": name, "when": {"riskTags": ["prod"]}, "decision": "RequireApproval",
            "approvals": {"requirements": requirements}})
    };
    world.edit_policy("/rules", json!([rule("few", 0..33), rule("more", 33..66)]));
    world.settle();
    assert_eq!(
        (world.reason().as_str(), world.status().approvals.len()),
        ("Unsatisfiable", 1),
        "what was bound stands"
    );
    assert!(world.status().message.contains("at most 48"), "{}", world.status().message);
}
