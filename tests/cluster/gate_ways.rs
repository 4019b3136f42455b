//! Further ways around the gate, tried with the operator up.

use crate::support::{Space, by_sre, client, cluster, conditions, create, job};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::net::TcpListener;
use std::time::Duration;

fn unsuspended(name: &str) -> Value {
    let mut job = job(name);
    job["spec"]["suspend"] = json!(false);
    job
}

/// Who declares to be harmless does not become so: what allows rests on facts.
#[tokio::test]
async fn a_job_that_claims_to_be_harmless_is_not_allowed_for_it() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::gated(cluster, "ways-claims").await?;
    space
        .policy(json!([
            {"name": "harmless", "when": {"riskTags": ["harmless"]}, "decision": "Allow"},
            {"name": "else", "unless": {"riskTags": ["harmless"]}, "decision": "RequireApproval", "approvals": {
                "requirements": [{"name": "sre", "approvers": [{"kind": "Group", "name": "sre"}]}]}},
        ]))
        .await?;
    let mut body = unsuspended("innocent");
    body["metadata"]["annotations"] = json!({"countersign.dev/risk-tags": "harmless",
        "countersign.dev/requested-by": "workflow.harmless"});
    space.create(&body).await?;
    let asked = space.request_for("innocent").await?;
    assert!(conditions(&asked).any(|c| c["type"] == "Evaluated" && c["status"] == "True"), "{asked:#}");
    assert_eq!(asked["status"]["summary"]["rule"], "else");
    assert!(!space.started("innocent").await?);
    Ok(())
}

/// A mutation that comes after ours: ours is asked again, and what validates the final object comes last.
#[tokio::test]
async fn a_mutation_after_ours_does_not_undo_the_hold() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::gated(cluster, "ways-mutation").await?;
    let here = json!({"matchLabels": {"kubernetes.io/metadata.name": "ways-mutation"}});
    let meta = json!({"name": "zz-unsuspend"});
    let policy = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy", "metadata": meta, "spec": {
            "failurePolicy": "Fail", "reinvocationPolicy": "IfNeeded",
            "matchConstraints": {"namespaceSelector": here, "resourceRules": [
                {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}]},
            "mutations": [{"patchType": "ApplyConfiguration",
                "applyConfiguration": {"expression":
                "Object{metadata: Object.metadata{labels: {'touched': 'true'}}, spec: Object.spec{suspend: false}}"}}]}},
        {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding", "metadata": meta,
         "spec": {"policyName": "zz-unsuspend"}}]});
    space.admin.kubectl(["apply", "-f", "-"]).stdin(policy.to_string()).ok().await?;
    let began = std::time::Instant::now();
    loop {
        let body = unsuspended(&format!("work-{}", began.elapsed().as_millis()));
        let create = space.triage.kubectl(["create", "-n", "ways-mutation", "-o", "json", "-f", "-"]);
        let output = create.stdin(body.to_string()).run().await?;
        if !output.status.success() {
            assert!(output.stderr.contains("spec.suspend must be true"), "{}", output.stderr);
            break;
        }
        let made: Value = serde_json::from_str(&output.stdout)?;
        assert_eq!(made["spec"]["suspend"], true, "{made:#}");
        if made["metadata"]["labels"]["touched"] == "true" {
            break;
        }
        // The other policy takes some time to come into force.
        anyhow::ensure!(began.elapsed() < Duration::from_secs(30), "never in force: {}", output.stdout);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for job in space.api("jobs").list(&Default::default()).await? {
        assert_eq!(job.data["spec"]["suspend"], true, "{job:#?}");
    }
    Ok(())
}

/// Nothing that a tenant writes makes the operator call anything.
#[tokio::test]
async fn a_link_in_a_request_is_shown_and_never_followed() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "ways-links").await?;
    space.policy(by_sre()).await?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let url = format!("http://{}/metadata", listener.local_addr()?);
    let mut body = crate::support::request("run", None);
    body["spec"]["evidence"] = json!([{"title": "graph", "url": url}]);
    body["spec"]["reason"] = json!(format!("see {url}"));
    space.create(&body).await?;
    let digest = space.digest("run").await?;
    space.review(&cluster.user("alice", &["sre"])?, "run", "Approve", &digest).ok().await?;
    space.state("run", "Released").await?;
    assert!(listener.accept().is_err_and(|e| e.kind() == ErrorKind::WouldBlock), "somebody followed the link");
    Ok(())
}

/// Hostile objects are held and told; they neither start nor stall anything.
#[tokio::test]
async fn a_hostile_job_stalls_nothing() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::gated(cluster, "ways-hostile").await?;
    space.policy(json!([{"name": "harmless", "decision": "Allow"}])).await?;
    let triage = client(&space.triage).await?;
    let jobs = kube::Api::namespaced_with(
        triage,
        "ways-hostile",
        &kube::core::ApiResource::erase::<k8s_openapi::api::batch::v1::Job>(&()),
    );
    let mut hostile = unsuspended("hostile");
    let volumes: Vec<Value> = (0..80)
        .map(|n| json!({"name": format!("v{n}"), "configMap": {"name": format!("m{n}"), "optional": true}}))
        .collect();
    hostile["spec"]["template"]["spec"]["volumes"] = json!(volumes);
    hostile["metadata"]["annotations"] = json!({"countersign.dev/reason": "x\u{1b}[2J\u{202e}y"});
    create(&jobs, &hostile).await?;
    let asked = space.request_for("hostile").await?;
    assert!(conditions(&asked).any(|c| c["reason"] == "TooManyInputs"), "{asked:#}");
    let reason = asked["spec"]["reason"].as_str().context("reason")?;
    assert!(reason.contains('\u{202e}'), "kept as it was; whoever shows it escapes it");
    space.create(&unsuspended("next")).await?;
    space.wait("jobs", "next", |j| j["status"]["succeeded"] == 1).await?;
    assert!(!space.started("hostile").await?);
    Ok(())
}
