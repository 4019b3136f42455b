//! What a held Job reads, and which images it runs: bound with the rest, or asked to be immutable.

use super::gate::*;
use super::*;

fn config_map(text: &str, extra: Value) -> Value {
    let mut map = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"run.sh": text},
        "metadata": {"name": "script", "namespace": "payments", "uid": "m1", "resourceVersion": "2"}});
    json_patch::merge(&mut map, &extra);
    map
}

/// A gated Job that mounts the ConfigMap `script`.
fn reading(decision: &str) -> World {
    let mut world = gated(decision);
    world.edit_job(|job| {
        job["spec"]["template"]["spec"]["volumes"] = json!([{"name": "s", "configMap": {"name": "script"}}]);
    });
    world.config_maps = vec![config_map("echo fine", json!({}))];
    world
}

#[test]
fn a_config_map_that_is_swapped_after_the_review_voids_it() {
    let mut world = reading("RequireApproval");
    world.settle_gated();
    let (shown, digest) = (world.status().inputs, world.digest());
    assert_eq!((shown.len(), shown[0].name.as_str()), (1, "script"));
    world.approve("bob");
    world.config_maps = vec![config_map("rm -rf /", json!({}))];
    world.inputs_version = world.bump();
    world.settle_gated();
    assert_eq!((world.status().state, world.running()), (State::Pending, false));
    assert_ne!(world.digest(), digest);
    assert!(
        world.status().message.contains("a ConfigMap or Secret that it reads changed"),
        "{}",
        world.status().message
    );
    world.config_maps = vec![config_map("echo fine", json!({}))];
    world.inputs_version = world.bump();
    world.settle_gated();
    assert!(!world.running(), "what went stale does not revive");
}

#[test]
fn where_inputs_must_be_immutable_nothing_is_allowed_or_approved_before_they_are() {
    for decision in ["Allow", "RequireApproval"] {
        let mut world = reading(decision);
        world.policies[0].1["rules"][0]["requireImmutableInputs"] = json!(true);
        world.settle_gated();
        assert_eq!((world.reason().as_str(), world.running()), ("InputsNotImmutable", false), "{decision}");
        let locked = json!({"immutable": true, "metadata": {"labels": {"countersign.dev/input": "locked"}}});
        world.config_maps = vec![config_map("echo fine", locked)];
        world.inputs_version = world.bump();
        world.settle_gated();
        if decision == "RequireApproval" {
            world.approve("bob");
            world.settle_gated();
        }
        assert!(world.running(), "{decision} {}", world.status().message);
    }
}

#[test]
fn where_images_must_be_pinned_a_tag_is_not_enough() {
    let mut world = gated("RequireApproval");
    world.policies[0].1["rules"][0]["requireImageDigests"] = json!(true);
    world.settle_gated();
    assert_eq!(world.reason(), "ImagesNotPinned");
}

#[test]
fn a_job_that_reads_nothing_any_more_is_shown_anew() {
    let mut world = reading("RequireApproval");
    world.settle_gated();
    let digest = world.digest();
    world.edit_job(|job| drop(job["spec"]["template"]["spec"].as_object_mut().unwrap().remove("volumes")));
    world.settle_gated();
    assert_ne!(world.digest(), digest);
    world.approve("bob");
    world.settle_gated();
    assert!(world.running(), "{}", world.status().message);
}
