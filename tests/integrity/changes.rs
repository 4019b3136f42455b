//! Each way to open the gate that one write to an admission object takes, and that it is told everywhere.

use crate::support::told::{metrics_address, said};
use crate::support::{Space, client, countersign, merge};
use crate::{HOME, OPERATOR, cluster, event, holder, lease, resource, saved};
use anyhow::{Context, Result, ensure};
use countersign_testbed::{AuditFilter, AuditLog, Identity, Mark, Operator};
use kube::Client;
use kube::api::{Api, DynamicObject};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// What an attacker does, and what is then told.
struct Attack {
    kind: &'static str,
    name: &'static str,
    /// A JSON Patch, or none to delete the object.
    patch: Option<Value>,
    told: &'static str,
}

fn attacks() -> Vec<Attack> {
    let patch = |kind, name, patch: Value, told| Attack { kind, name, patch: Some(patch), told };
    let delete = |kind, name, told| Attack { kind, name, patch: None, told };
    let (mutating, validating) = ("mutatingwebhookconfiguration", "validatingwebhookconfiguration");
    let (policy, binding) = ("validatingadmissionpolicy", "validatingadmissionpolicybinding");
    let replace = |path: &str, value: Value| json!([{"op": "replace", "path": path, "value": value}]);
    let add = |path: &str, value: Value| json!([{"op": "add", "path": path, "value": value}]);
    vec![
        patch(
            mutating,
            "countersign",
            replace("/webhooks/0/failurePolicy", json!("Ignore")),
            r#"MutatingWebhookConfiguration/countersign: webhooks[requests.countersign.dev].failurePolicy: expected "Fail", found "Ignore""#,
        ),
        patch(
            mutating,
            "countersign",
            replace("/webhooks/0/clientConfig/url", json!("https://127.0.0.1:1/admit")),
            r#"found "https://127.0.0.1:1/admit""#,
        ),
        patch(
            validating,
            "countersign",
            add("/webhooks/0/objectSelector", json!({"matchLabels": {"reviewed": "true"}})),
            r#"ValidatingWebhookConfiguration/countersign: webhooks[policies.countersign.dev].objectSelector.matchLabels: expected nothing, found {"reviewed":"true"}"#,
        ),
        delete(validating, "countersign", "ValidatingWebhookConfiguration/countersign: missing"),
        delete(binding, "countersign-requests", "ValidatingAdmissionPolicyBinding/countersign-requests: missing"),
        patch(
            binding,
            "countersign-status",
            replace("/spec/validationActions", json!(["Audit"])),
            r#"ValidatingAdmissionPolicyBinding/countersign-status: spec.validationActions: expected ["Deny"], found ["Audit"]"#,
        ),
        patch(
            policy,
            "countersign-requests",
            replace("/spec/matchConstraints/resourceRules/0/operations", json!(["CREATE"])),
            r#"ValidatingAdmissionPolicy/countersign-requests: spec.matchConstraints.resourceRules[0].operations: expected ["CREATE","UPDATE"], found ["CREATE"]"#,
        ),
        patch(
            policy,
            "countersign-status",
            add("/spec/matchConditions/-", json!({"name": "never", "expression": "false"})),
            "ValidatingAdmissionPolicy/countersign-status: spec.matchConditions: expected 1 entries, found 2",
        ),
        delete(policy, "countersign-status", "ValidatingAdmissionPolicy/countersign-status: missing"),
    ]
}

/// An operator, and where it tells.
pub struct Told {
    admin: Identity,
    pub client: Client,
    address: String,
    operator: Operator,
}

impl Told {
    pub async fn get(&self, path: &str) -> Result<(String, String)> {
        let answer = said(&self.address, path).await?;
        let (head, body) = answer.split_once("\r\n\r\n").context("an HTTP answer")?;
        Ok((head.lines().next().unwrap_or_default().to_owned(), body.to_owned()))
    }

    async fn everywhere(&self, findings: usize, told: &str) -> Result<Value> {
        let intact = if findings == 0 { "True" } else { "False" };
        let lease = lease(&self.client, HOME, intact, told).await?;
        let (_, metrics) = self.get("/metrics").await?;
        for line in [
            format!("countersign_gate_intact {}", i32::from(findings == 0)),
            format!("countersign_gate_findings {findings}"),
        ] {
            ensure!(metrics.lines().any(|l| l == line), "{line} in {metrics}");
        }
        // It goes on deciding either way.
        let (status, text) = self.get("/readyz").await?;
        ensure!(status.ends_with("200 OK"), "{status}");
        let line = if findings == 0 { "gate: intact\n" } else { "gate: broken: " };
        ensure!(text.starts_with("watches: every watch has listed everything\n"), "{text}");
        ensure!(text.contains(line) && text.contains(told), "{text}");
        Ok(lease)
    }

    async fn attack(&self, attack: &Attack) -> Result<()> {
        let Attack { kind, name, patch, .. } = attack;
        match patch {
            Some(patch) => {
                self.admin.kubectl(["patch", kind, name, "--type=json", "--patch", &patch.to_string()]).ok().await?
            }
            None => self.admin.kubectl(["delete", kind, name]).ok().await?,
        };
        Ok(())
    }

    pub async fn restore(&self, object: &Value) -> Result<()> {
        let apply = ["apply", "--server-side", "--force-conflicts", "--field-manager=restore", "--filename", "-"];
        let restored = self.admin.kubectl(apply).stdin(object.to_string()).run().await?;
        if !restored.status.success() {
            self.admin.kubectl(["replace", "--filename", "-"]).stdin(object.to_string()).ok().await?;
        }
        let kind = object["kind"].as_str().context("kind")?;
        let name = object["metadata"]["name"].as_str().context("name")?;
        let now = saved(&self.admin, kind, name).await?;
        if now != *object {
            // What apply leaves alone, a replacement takes away.
            self.admin.kubectl(["replace", "--filename", "-"]).stdin(object.to_string()).ok().await?;
        }
        Ok(())
    }
}

pub async fn operator(cluster: &countersign_testbed::ControlPlane) -> Result<Told> {
    let flags = ["--admission-bind=127.0.0.1:0", "--admission-url=https://127.0.0.1:0", "--metrics-bind=127.0.0.1:0"];
    let admin = cluster.admin();
    let client = client(&admin).await?;
    let before = holder(&client).await?;
    let operator = countersign().start_with(cluster, &flags).await?;
    // What an earlier operator wrote says nothing about this one.
    let began = Instant::now();
    while holder(&client).await? == before {
        ensure!(began.elapsed() < Duration::from_secs(20), "the operator did not write its Lease");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let address = metrics_address(&operator.log())?;
    Ok(Told { client, admin, address, operator })
}

#[tokio::test]
async fn every_way_to_open_the_gate_is_told_and_so_is_its_end() -> Result<()> {
    let (cluster, _turn) = cluster().await?;
    let told = operator(cluster).await?;
    told.everywhere(0, "").await?;
    for attack in attacks() {
        let before = saved(&told.admin, attack.kind, attack.name).await?;
        told.attack(&attack).await?;
        let began = Instant::now();
        let broken = told.everywhere(1, attack.told).await.context(attack.told)?;
        let event = event(&told.client, &broken, "GateBroken", attack.told).await?;
        assert_eq!(event["type"], "Warning");
        println!("told after {:?}: {}", began.elapsed(), attack.told);
        assert!(told.operator.log().contains("the gate is broken"));
        told.restore(&before).await?;
        told.everywhere(0, "").await.with_context(|| format!("after {}", attack.told))?;
    }
    let whole = lease(&told.client, HOME, "True", "").await?;
    assert_eq!(event(&told.client, &whole, "GateIntact", "as expected again").await?["type"], "Normal");
    Ok(())
}

#[tokio::test]
async fn a_gate_that_is_open_for_a_moment_only_is_told_too() -> Result<()> {
    let (cluster, _turn) = cluster().await?;
    let told = operator(cluster).await?;
    let whole = told.everywhere(0, "").await?;
    let (kind, name) = ("ValidatingAdmissionPolicyBinding", "countersign-requests");
    let api: Api<DynamicObject> = Api::all_with(
        told.client.clone(),
        &resource("admissionregistration.k8s.io", kind, "validatingadmissionpolicybindings"),
    );
    for action in ["Warn", "Deny"] {
        merge(&api, name, &json!({"spec": {"validationActions": [action]}})).await?;
    }
    event(&told.client, &whole, "GateBroken", r#"spec.validationActions: expected ["Deny"], found ["Warn"]"#).await?;
    ensure!(told.get("/metrics").await?.1.contains("countersign_gate_broken_total 1\n"));
    told.everywhere(0, "").await?;
    Ok(())
}

#[tokio::test]
async fn what_broke_while_nobody_looked_is_told_at_the_start() -> Result<()> {
    let (cluster, _turn) = cluster().await?;
    let admin = cluster.admin();
    let (kind, name) = ("validatingadmissionpolicybinding", "countersign-status");
    let before = saved(&admin, kind, name).await?;
    admin.kubectl(["delete", kind, name]).ok().await?;
    let told = operator(cluster).await?;
    let outcome = told.everywhere(1, "ValidatingAdmissionPolicyBinding/countersign-status: missing").await;
    told.restore(&before).await?;
    outcome?;
    told.everywhere(0, "").await?;
    Ok(())
}

/// Longer than anything that is done now and then: a checkpoint of the trail is stated every five seconds where there is news.
const QUIET: Duration = Duration::from_secs(6);

/// What the operator asked the API server since then, beside its watches, once [`QUIET`] has passed.
async fn asked(log: &AuditLog, since: Mark) -> Result<Vec<Value>> {
    tokio::time::sleep(QUIET).await;
    log.settle().await?;
    let mut asked = log.select(since, &AuditFilter::new().user(OPERATOR))?;
    asked.retain(|event| event["verb"] != "watch");
    Ok(asked)
}

#[tokio::test]
async fn at_rest_it_asks_nothing_and_others_webhooks_are_nothing_to_it() -> Result<()> {
    let (cluster, _turn) = cluster().await?;
    let told = operator(cluster).await?;
    told.everywhere(0, "").await?;
    // A trail that has something in it, whichever test comes first.
    let space = Space::unobserved(cluster, "rest").await?;
    space.request("run", None).await?;
    space.wait("approvalrequests", "run", |request| request.pointer("/status/state").is_some()).await?;
    let log = cluster.audit_log();
    let began = Instant::now();
    while !asked(&log, log.settle().await?).await?.is_empty() {
        ensure!(began.elapsed() < Duration::from_secs(60), "it does not come to rest");
    }
    let other = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "of-others", "labels": {"app.kubernetes.io/name": "countersign"}}, "webhooks": []});
    let mark = log.settle().await?;
    told.admin.kubectl(["create", "--filename", "-"]).stdin(other.to_string()).ok().await?;
    told.admin.kubectl(["delete", "validatingwebhookconfiguration", "of-others"]).ok().await?;
    let asked = asked(&log, mark).await?;
    ensure!(asked.is_empty(), "{asked:#?}");
    told.everywhere(0, "").await?;
    Ok(())
}
