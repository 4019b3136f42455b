//! What holds while the operator is away, and what a crash between two writes leaves. One control plane for all, one test
//! at a time: each takes the operator away.

#[path = "../support/mod.rs"]
mod support;

mod crash;
mod gate;
mod gone;
mod rights;
mod stored;

use anyhow::{Result, ensure};
use countersign_testbed::{ControlPlane, Identity, Operator};
use serde_json::{Value, json};
use support::{countersign, installed};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

/// The control plane, and the operator if one runs. Holding it keeps other tests waiting.
struct Lab {
    cluster: &'static ControlPlane,
    operator: MutexGuard<'static, Option<Operator>>,
}

async fn lab() -> Result<Lab> {
    static CLUSTER: OnceCell<ControlPlane> = OnceCell::const_new();
    static OPERATOR: Mutex<Option<Operator>> = Mutex::const_new(None);
    let operator = OPERATOR.lock().await;
    let cluster = CLUSTER.get_or_try_init(installed).await?;
    let mut lab = Lab { cluster, operator };
    // A test that failed may have left anything.
    lab.allow_all().await?;
    if lab.operator.is_none() {
        lab.start().await?;
    }
    Ok(lab)
}

impl Lab {
    async fn start(&mut self) -> Result<()> {
        *self.operator = Some(countersign().start(self.cluster).await?);
        Ok(())
    }

    fn kill(&mut self) {
        if let Some(operator) = self.operator.take() {
            operator.kill();
        }
    }

    /// Takes from the operator the right to patch a resource, as a stand-in for a crash before that write: what is stored
    /// is the same. Of `subjectaccessreviews`, it is the right to create them, of `networkpolicies` the one to list them.
    async fn forbid(&self, resource: &str) -> Result<()> {
        self.set_rights(|r| r != resource).await
    }

    async fn allow_all(&self) -> Result<()> {
        self.set_rights(|_| true).await
    }

    async fn set_rights(&self, kept: impl Fn(&str) -> bool) -> Result<()> {
        let admin = self.cluster.admin();
        let manifests = countersign().run(&["manifests", "--only", "rbac"], "").await?.stdout;
        let mut documents = vec![];
        for document in serde_yaml::Deserializer::from_str(&manifests) {
            let mut role: Value = serde::Deserialize::deserialize(document)?;
            if role["metadata"]["name"] == "countersign-operator" && role["kind"] == "ClusterRole" {
                for rule in role["rules"].as_array_mut().into_iter().flatten() {
                    let names: Vec<String> = serde_json::from_value(rule["resources"].clone())?;
                    if names.iter().any(|n| !kept(n)) {
                        // What is asked of the authorizer is created, and nothing else is done with it.
                        let lost = match names.first().map_or("", String::as_str) {
                            "subjectaccessreviews" => "create",
                            "networkpolicies" => "list",
                            _ => "patch",
                        };
                        let verbs: Vec<String> = serde_json::from_value(rule["verbs"].clone())?;
                        rule["verbs"] = json!(verbs.into_iter().filter(|v| v != lost).collect::<Vec<_>>());
                        if rule["verbs"] == json!([]) {
                            rule["verbs"] = json!(["get"]);
                        }
                    }
                }
            }
            documents.push(role);
        }
        let list = json!({"apiVersion": "v1", "kind": "List", "items": documents});
        admin.kubectl(["apply", "--server-side", "--force-conflicts", "-f", "-"]).stdin(list.to_string()).ok().await?;
        for resource in ["jobs", "approvalrequests/status"] {
            self.until_in_force(resource, kept(resource)).await?;
        }
        Ok(())
    }

    /// A changed role takes effect some time later.
    async fn until_in_force(&self, resource: &str, allowed: bool) -> Result<()> {
        let (kind, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let subresource = format!("--subresource={subresource}");
        let operator = "--as=system:serviceaccount:countersign-system:countersign";
        let began = std::time::Instant::now();
        loop {
            let asked =
                self.cluster.admin().kubectl(["auth", "can-i", "patch", kind, &subresource, operator]).run().await?;
            if asked.status.success() == allowed {
                return Ok(());
            }
            ensure!(began.elapsed().as_secs() < 20, "{resource}: {}{}", asked.stdout, asked.stderr);
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    fn user(&self, name: &str, group: &str) -> Result<Identity> {
        self.cluster.user(name, &[group])
    }

    /// Successful patches of the Job by the operator, by the audit log.
    async fn job_patches(&self, namespace: &str, name: &str) -> Result<usize> {
        let log = self.cluster.audit_log();
        log.settle().await?;
        let filter = countersign_testbed::AuditFilter::new()
            .user("system:serviceaccount:countersign-system:countersign")
            .verb("patch")
            .resource("jobs")
            .namespace(namespace)
            .name(name)
            .code(200);
        log.count(countersign_testbed::Mark::START, &filter)
    }

    async fn delete_webhooks(&self) -> Result<()> {
        let admin = self.cluster.admin();
        let kinds = ["mutatingwebhookconfiguration", "validatingwebhookconfiguration"];
        for kind in kinds {
            admin.kubectl(["delete", kind, "countersign", "--ignore-not-found"]).ok().await?;
        }
        let left = admin.kubectl(["get", "mutatingwebhookconfigurations", "-o", "name"]).ok().await?;
        ensure!(left.trim().is_empty(), "{left}");
        Ok(())
    }
}
