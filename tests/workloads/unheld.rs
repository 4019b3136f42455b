//! The MutatingAdmissionPolicies are gone: nothing is held any more, and so nothing gets in.

use crate::arena::{apply, gates, held, in_force, override_patch, pod, refused, until};
use crate::gated_arena;
use anyhow::Result;
use countersign_testbed::ControlPlane;
use serde_json::json;

pub async fn without_the_mutation_nothing_unheld_gets_in(cluster: &ControlPlane) -> Result<()> {
    let arena = gated_arena(cluster, "unheld").await?;
    let policies = ["countersign-pods", "countersign-pods-override"];
    arena.admin.kubectl([&["delete", "mutatingadmissionpolicy"], &policies[..]].concat()).ok().await?;
    until("the mutation is gone", async || Ok(!held(&arena).await?)).await?;
    let outcome = refusals(&arena).await;
    apply(cluster).await?;
    in_force(cluster).await?;
    outcome
}

async fn refusals(arena: &crate::arena::Arena) -> Result<()> {
    let unheld = "Namespace unheld is gated: a Pod that no Job made waits for approval there";
    for who in [&arena.mallory, &arena.hostile, &arena.admin] {
        refused(arena.create(who, &pod("never")), unheld).await?;
        let apply = arena.run(who, &["apply", "--server-side", "--filename", "-"]);
        refused(apply.stdin(pod("never").to_string()), unheld).await?;
        let generated =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "n-"}, "spec": pod("x")["spec"]});
        refused(arena.create(who, &generated), unheld).await?;
    }
    let job = arena.job("runs", true).await?;
    arena.pod_of("job-name=runs", |p| p["status"]["phase"] == "Running" && gates(p).is_empty()).await?;
    let mut forged = pod("never");
    forged["metadata"]["ownerReferences"] = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "runs",
        "uid": job["metadata"]["uid"], "controller": true}]);
    refused(arena.create(&arena.mallory, &forged), unheld).await?;
    let mut bound = pod("never");
    bound["spec"]["nodeName"] = json!("simulated");
    refused(arena.create(&arena.mallory, &bound), "a Pod that names its node passes the scheduler by").await?;
    bound["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    refused(arena.create(&arena.mallory, &bound), "a Pod that names its node passes the scheduler by").await?;

    // Whoever holds it by hand does so in their own name. So does the webhook, where there is no such mutation.
    let mut own = pod("own");
    own["spec"]["schedulingGates"] = json!([{"name": "countersign.dev/approval"}]);
    refused(arena.create(&arena.mallory, &own), unheld).await?;
    own["metadata"]["labels"] = json!({"countersign.dev/held": "true"});
    let by = |who: &str, groups: &str| {
        json!({"countersign.dev/created-by": who, "countersign.dev/created-by-uid": "",
        "countersign.dev/created-by-groups": groups})
    };
    let stamps = "of this Pod must be those of its creator, mallory";
    refused(arena.create(&arena.mallory, &own), stamps).await?;
    for (who, groups) in [("alice", "developers\nsystem:authenticated"), ("mallory", "sre\nsystem:authenticated")] {
        own["metadata"]["annotations"] = by(who, groups);
        refused(arena.create(&arena.mallory, &own), stamps).await?;
    }
    own["metadata"]["annotations"] = by("mallory", "developers\nsystem:authenticated");
    arena.create(&arena.mallory, &own).ok().await?;

    // An override without the stamp names its author, and nobody else.
    let words = "Set this annotation to carol in the same patch";
    refused(arena.patch(&arena.carol, "pod/own", &override_patch("why"), &[]), words).await?;
    let mut signed = override_patch("why");
    signed["metadata"]["annotations"]["countersign.dev/overridden-by"] = json!("alice");
    refused(arena.patch(&arena.carol, "pod/own", &signed, &[]), words).await?;
    signed["metadata"]["annotations"]["countersign.dev/overridden-by"] = json!("carol");
    arena.patch(&arena.carol, "pod/own", &signed, &[]).ok().await?;
    arena.until("pod/own", |p| p["status"]["phase"] == "Running").await?;
    Ok(())
}
