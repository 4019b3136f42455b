//! Policies as they are applied, and what is said of them afterwards.

use super::pipeline::{Repository, UNLESS_NOTHING};
use super::{condition, example, lab, rendered, until};
use anyhow::{Context, Result};
use countersign_testbed::{Identity, Kubectl, Output};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Applies on the server, as that field manager, and as Flux and Argo CD do: what another manager owns is taken from it.
fn apply(who: &Identity, manager: &str, manifests: &str) -> Kubectl {
    let manager = format!("--field-manager={manager}");
    who.kubectl(["apply", "--server-side", "--force-conflicts", &manager, "-f", "-"]).stdin(manifests)
}

/// Waits as a pipeline does.
fn wait(who: &Identity, condition: &str, policies: &[&str], timeout: &str) -> Kubectl {
    let names = policies.iter().map(|name| format!("apol/{name}"));
    let flags = [format!("--for=condition={condition}"), format!("--timeout={timeout}")];
    who.kubectl(["wait".to_string()].into_iter().chain(flags).chain(names))
}

/// Resource versions by name: they change with every write, also of `managedFields`.
async fn versions(who: &Identity) -> Result<BTreeMap<String, String>> {
    let list = who.kubectl(["get", "apol"]).json().await?;
    let text = |policy: &Value, field: &str| policy["metadata"][field].as_str().map(String::from).context("metadata");
    let policies = list["items"].as_array().context("items")?;
    policies.iter().map(|policy| Ok((text(policy, "name")?, text(policy, "resourceVersion")?))).collect()
}

async fn differs(who: &Identity, flags: &[&str], manifests: &str) -> Result<Output> {
    who.kubectl([&["diff", "-f", "-"], flags].concat()).stdin(manifests).run().await
}

const PROD: [&str; 3] = ["changes", "images", "weekend"];

#[tokio::test]
async fn what_is_applied_again_is_not_written_again_whichever_tool_applies_it() -> Result<()> {
    let lab = lab().await?;
    let flux = lab.flux().await?;
    let prod = rendered(&flux, &example("clusters/prod")).await?;
    apply(&flux, "kustomize-controller", &prod).ok().await?;
    wait(&flux, "Ready", &PROD, "30s").ok().await?;
    let changes = lab.policy("changes").await?;
    assert_eq!(changes.pointer("/spec/rules/0/approvals/requirements/0/count"), Some(&json!(2)), "the patch of prod");
    assert_eq!(changes["metadata"]["annotations"], json!({"countersign.dev/edited-by": flux.name}));

    let first = versions(&flux).await?;
    assert_eq!(first.len(), 3);
    apply(&flux, "kustomize-controller", &prod).ok().await?;
    assert_eq!(versions(&flux).await?, first, "Flux applies it again");

    // A second manager that wants the same takes part in owning it: that is written once.
    apply(&flux, "argocd-controller", &prod).ok().await?;
    let second = versions(&flux).await?;
    for manager in ["argocd-controller", "kustomize-controller"] {
        apply(&flux, manager, &prod).ok().await?;
        assert_eq!(versions(&flux).await?, second, "{manager}");
    }

    // Whoever looks is not whoever applied it: the editor stays, and there is no difference.
    let admin = lab.cluster.admin();
    for who in [&flux, &admin] {
        for flags in [&["--server-side", "--field-manager=kustomize-controller"][..], &[]] {
            let said = differs(who, flags, &prod).await?;
            assert_eq!(said.status.code(), Some(0), "{} {flags:?}: {}{}", who.name, said.stdout, said.stderr);
        }
    }
    let staging = rendered(&flux, &example("clusters/staging")).await?;
    let flags = ["--server-side", "--force-conflicts", "--field-manager=kustomize-controller"];
    let said = differs(&flux, &flags, &staging).await?;
    assert_eq!(said.status.code(), Some(1), "a difference is seen: {}{}", said.stdout, said.stderr);
    Ok(())
}

#[tokio::test]
async fn what_is_applied_from_the_client_is_not_written_again_and_moves_to_the_server() -> Result<()> {
    let lab = lab().await?;
    let flux = lab.flux().await?;
    let prod = rendered(&flux, &example("clusters/prod")).await?;
    let from_the_client = || flux.kubectl(["apply", "-f", "-"]).stdin(prod.as_str());
    from_the_client().ok().await?;
    wait(&flux, "Ready", &PROD, "30s").ok().await?;
    let first = versions(&flux).await?;
    from_the_client().ok().await?;
    assert_eq!(versions(&flux).await?, first);
    let said = differs(&flux, &[], &prod).await?;
    assert_eq!(said.status.code(), Some(0), "{}{}", said.stdout, said.stderr);

    apply(&flux, "kustomize-controller", &prod).ok().await?;
    let moved = versions(&flux).await?;
    apply(&flux, "kustomize-controller", &prod).ok().await?;
    assert_eq!(versions(&flux).await?, moved);
    Ok(())
}

#[tokio::test]
async fn an_editor_in_git_is_overruled_and_written_no_second_time() -> Result<()> {
    let lab = lab().await?;
    let flux = lab.flux().await?;
    let images = std::fs::read_to_string(example("base/images.yaml"))?;
    let exported =
        images.replace("  name: images\n", "  name: images\n  annotations: {countersign.dev/edited-by: alice}\n");
    assert_ne!(images, exported);
    apply(&flux, "kustomize-controller", &exported).ok().await?;
    wait(&flux, "Ready", &["images"], "30s").ok().await?;
    let first = versions(&flux).await?;
    apply(&flux, "kustomize-controller", &exported).ok().await?;
    assert_eq!(versions(&flux).await?, first);
    let editor = lab.policy("images").await?["metadata"]["annotations"]["countersign.dev/edited-by"].clone();
    assert_eq!(editor, json!(flux.name));
    Ok(())
}

#[tokio::test]
async fn nobody_takes_a_policy_for_ready_that_the_operator_has_not_seen() -> Result<()> {
    let mut lab = lab().await?;
    let flux = lab.flux().await?;
    let prod = rendered(&flux, &example("clusters/prod")).await?;
    apply(&flux, "kustomize-controller", &prod).ok().await?;
    wait(&flux, "Ready", &PROD, "30s").ok().await?;
    lab.unserved().await?;
    // A new policy, and a new generation of one that was ready.
    apply(&flux, "kustomize-controller", &prod.replace("name: images\n", "name: unseen\n")).ok().await?;
    apply(&flux, "kustomize-controller", &prod.replace("maxRuntimeSeconds: 900", "maxRuntimeSeconds: 901"))
        .ok()
        .await?;
    assert_eq!(lab.policy("unseen").await?["status"], json!({"observedGeneration": -1}));
    let changed = lab.policy("changes").await?;
    assert_eq!((&changed["metadata"]["generation"], &changed["status"]["observedGeneration"]), (&json!(2), &json!(1)));
    for name in ["unseen", "changes"] {
        let refused = wait(&flux, "Ready", &[name], "1s").refused().await?;
        assert!(refused.contains("timed out"), "{name}: {refused}");
    }
    lab.start().await?;
    wait(&flux, "Ready", &["unseen", "changes"], "30s").ok().await?;
    Ok(())
}

#[tokio::test]
async fn a_policy_that_does_not_compile_is_refused_and_stored_anyway_stalls_until_git_is_repaired() -> Result<()> {
    let mut lab = lab().await?;
    let flux = lab.flux().await?;
    let prod = rendered(&flux, &example("clusters/prod")).await?;
    apply(&flux, "kustomize-controller", &prod).ok().await?;
    wait(&flux, "Ready", &PROD, "30s").ok().await?;

    let repository = Repository::new()?;
    repository.patch("prod", UNLESS_NOTHING)?;
    let broken = rendered(&flux, &repository.path("clusters/prod")).await?;
    let refused = apply(&flux, "kustomize-controller", &broken).refused().await?;
    assert!(refused.contains("spec.rules[can-change-something].unless: is empty"), "{refused}");
    assert_eq!(condition(&lab.policy("changes").await?, "Ready")?["status"], "True", "nothing of it was stored");

    lab.delete_webhooks().await?;
    until("it is stored", async || Ok(apply(&flux, "kustomize-controller", &broken).run().await?.status.success()))
        .await?;
    wait(&flux, "Stalled", &["changes"], "30s").ok().await?;
    let refused = wait(&flux, "Ready", &["changes"], "1s").refused().await?;
    assert!(refused.contains("timed out"), "{refused}");
    let stalled = lab.policy("changes").await?;
    let message = condition(&stalled, "Stalled")?["message"].as_str().context("message")?;
    for part in ["spec.rules[can-change-something].unless: is empty", "Correct it where it is kept, or delete it"] {
        assert!(message.contains(part), "{part:?} in {message:?}");
    }
    assert_eq!(super::health::of_policy(&stalled)?, ("Degraded".to_string(), message.to_string()));

    lab.start().await?;
    apply(&flux, "kustomize-controller", &prod).ok().await?;
    wait(&flux, "Ready", &PROD, "30s").ok().await?;
    assert_eq!(condition(&lab.policy("changes").await?, "Stalled")?["status"], "False");
    Ok(())
}
