//! Locked ConfigMaps and Secrets.

use crate::arena::{Arena, refused};
use crate::gated_arena;
use anyhow::Result;
use countersign_testbed::ControlPlane;
use serde_json::{Value, json};

const KINDS: [&str; 2] = ["ConfigMap", "Secret"];

fn input(kind: &str, name: &str, label: Option<&str>) -> Value {
    // `aGk=` is text to the one and base64 to the other.
    json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "labels": {"countersign.dev/input": label}},
        "data": {"key": "aGk="}, "immutable": label.is_some()})
}

pub async fn a_locked_input_stays_as_it_is(cluster: &ControlPlane) -> Result<()> {
    let arena = gated_arena(cluster, "inputs-locked").await?;
    for kind in KINDS {
        let (plural, what) = (format!("{}s", kind.to_lowercase()), format!("{kind}/locked"));
        arena.create(&arena.mallory, &input(kind, "locked", Some("locked"))).ok().await?;
        let before = arena.get(&what).await?;
        for who in [&arena.mallory, &arena.hostile] {
            let patch = |patch: Value| arena.patch(who, &what, &patch, &[]);
            let deleted = format!("{plural} locked is locked (countersign.dev/input: locked)");
            refused(arena.run(who, &["delete", &what]), &deleted).await?;
            refused(arena.run(who, &["delete", &what, "--force", "--grace-period=0"]), &deleted).await?;
            let all = format!("/api/v1/namespaces/inputs-locked/{plural}");
            refused(who.kubectl(["delete", "--raw", &all]), &deleted).await?;
            let label = "the label countersign.dev/input: locked of";
            refused(patch(json!({"metadata": {"labels": {"countersign.dev/input": null}}})), label).await?;
            refused(patch(json!({"metadata": {"labels": {"countersign.dev/input": "free"}}})), label).await?;
            refused(patch(json!({"metadata": {"labels": null}})), label).await?;
            // These the API server itself refuses for what is immutable.
            let words = "field is immutable when `immutable` is set";
            refused(patch(json!({"data": {"key": "bm8="}})), words).await?;
            refused(patch(json!({"immutable": false})), words).await?;
            refused(patch(json!({"immutable": null})), words).await?;
            let replace = arena.run(who, &["replace", "--force", "--filename", "-"]);
            refused(replace.stdin(input(kind, "locked", None).to_string()), &deleted).await?;
        }
        // An owner that does not exist sends the garbage collector, which is refused like anybody.
        let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "00000000-0000-0000-0000-000000000000"}]);
        let orphaned = json!({"metadata": {"ownerReferences": owner, "annotations": {"mine": "yes"}}});
        arena.patch(&arena.mallory, &what, &orphaned, &[]).ok().await?;
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        let after = arena.get(&what).await?;
        assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
        assert!(after["metadata"]["deletionTimestamp"].is_null(), "{after:#}");
        // Others come and go.
        arena.create(&arena.mallory, &input(kind, "free", None)).ok().await?;
        arena.patch(&arena.mallory, &format!("{kind}/free"), &json!({"data": {"key": "bm8="}}), &[]).ok().await?;
        arena.run(&arena.mallory, &["delete", kind, "free"]).ok().await?;
    }
    Ok(())
}

pub async fn locking_takes_an_immutable_object(cluster: &ControlPlane) -> Result<()> {
    let arena = gated_arena(cluster, "inputs-locking").await?;
    let words = "countersign.dev/input: locked needs immutable: true in the same object";
    for kind in KINDS {
        let what = format!("{kind}/loose");
        let mut loose = input(kind, "loose", Some("locked"));
        loose["immutable"] = json!(false);
        refused(arena.create(&arena.mallory, &loose), words).await?;
        arena.create(&arena.mallory, &input(kind, "loose", None)).ok().await?;
        let lock = json!({"metadata": {"labels": {"countersign.dev/input": "locked"}}});
        refused(arena.patch(&arena.mallory, &what, &lock, &[]), words).await?;
        // An object on its way out would take its lock along, and make room for another.
        let finalizer = |list: Value| json!({"metadata": {"finalizers": list}});
        arena.patch(&arena.mallory, &what, &finalizer(json!(["example.com/mine"])), &[]).ok().await?;
        arena.run(&arena.mallory, &["delete", &what, "--wait=false"]).ok().await?;
        let both = json!({"metadata": {"labels": {"countersign.dev/input": "locked"}}, "immutable": true});
        refused(arena.patch(&arena.mallory, &what, &both, &[]), "this object is being deleted").await?;
        arena.patch(&arena.mallory, &what, &finalizer(json!([])), &[]).ok().await?;
        arena.create(&arena.mallory, &input(kind, "later", None)).ok().await?;
        arena.patch(&arena.mallory, &format!("{kind}/later"), &both, &[]).ok().await?;
    }
    Ok(())
}

pub async fn a_lock_from_before_the_gate_holds_what_it_can(cluster: &ControlPlane) -> Result<()> {
    let arena = Arena::new(cluster, "inputs-before", &[]).await?;
    for kind in KINDS {
        let mut loose = input(kind, "loose", Some("locked"));
        loose["immutable"] = json!(false);
        arena.create(&arena.mallory, &loose).ok().await?;
    }
    let delete = ["delete", "secret/loose", "--dry-run=server"];
    let gate = ["countersign.dev/gate=enforce"];
    arena
        .relabel(&gate, async || Ok(arena.run(&arena.mallory, &delete).run().await?.stderr.contains("is locked")))
        .await?;
    for kind in KINDS {
        let what = format!("{kind}/loose");
        let patch = |patch: Value| arena.patch(&arena.mallory, &what, &patch, &[]);
        refused(patch(json!({"data": {"key": "bm8="}})), "needs immutable: true in the same object").await?;
        refused(patch(json!({"data": {"key": "bm8="}, "immutable": true})), "Create another object with another name")
            .await?;
        if kind == "ConfigMap" {
            let binary = json!({"binaryData": {"more": "bm8="}, "immutable": true});
            refused(patch(binary), "Create another object with another name").await?;
        }
        patch(json!({"immutable": true})).ok().await?;
    }
    Ok(())
}

pub async fn whoever_may_ungate_may_unlock(cluster: &ControlPlane) -> Result<()> {
    let arena = gated_arena(cluster, "inputs-unlocked").await?;
    for kind in KINDS {
        for name in ["one", "two"] {
            arena.create(&arena.mallory, &input(kind, name, Some("locked"))).ok().await?;
        }
        arena.run(&arena.carol, &["delete", kind, "one"]).ok().await?;
        let unlock = json!({"metadata": {"labels": {"countersign.dev/input": null}}});
        arena.patch(&arena.carol, &format!("{kind}/two"), &unlock, &[]).ok().await?;
        arena.run(&arena.mallory, &["delete", kind, "two"]).ok().await?;
    }
    Ok(())
}
