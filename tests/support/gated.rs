//! Gated namespaces: nothing in them runs unapproved.

use super::{Space, binding, conditions, job};
use anyhow::{Context, Result, bail, ensure};
use countersign_testbed::{ControlPlane, Identity};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

impl Space {
    /// As [`Space::new`], and gated: nothing in it runs unapproved. The service account may do what its users may do there.
    pub async fn gated(cluster: &ControlPlane, name: &str) -> Result<Self> {
        Self::new(cluster, name).await?.gate().await
    }

    /// Gates it from now on.
    pub async fn gate(self) -> Result<Self> {
        let name = self.namespace.as_str();
        let roles = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "gated", "namespace": name},
             "rules": [
                {"apiGroups": ["batch"], "resources": ["jobs", "cronjobs"], "verbs": ["*"]},
                {"apiGroups": [""], "resources": ["pods", "configmaps", "events"], "verbs": ["*"]},
                {"apiGroups": ["countersign.dev"], "resources": ["approvalrequests"], "verbs": ["delete"]}]},
            binding(name, "gated", "Role", "gated"),
        ]});
        self.admin.kubectl(["apply", "--filename", "-"]).stdin(roles.to_string()).ok().await?;
        self.admin.kubectl(["label", "namespace", name, "countersign.dev/gate=enforce"]).ok().await?;
        self.until_gated().await?;
        Ok(self)
    }

    /// A label of a namespace takes effect some time later.
    async fn until_gated(&self) -> Result<()> {
        let began = Instant::now();
        let mut probe = job("probe");
        probe["spec"]["suspend"] = json!(false);
        loop {
            let create =
                ["create", "--dry-run=server", "-o", "json", "--namespace", &self.namespace, "--filename", "-"];
            let output = self.admin.kubectl(create).stdin(probe.to_string()).run().await?;
            let held = serde_json::from_str::<Value>(&output.stdout).is_ok_and(|job| job["spec"]["suspend"] == true);
            if held {
                return Ok(());
            }
            anyhow::ensure!(
                began.elapsed() < Duration::from_secs(30),
                "not gated: {} {}",
                output.stdout,
                output.stderr
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The name of a Job of that CronJob, other than `but`, once there is one. A schedule takes a minute.
    pub async fn scheduled(&self, cron_job: &str, but: Option<&str>) -> Result<String> {
        let began = Instant::now();
        loop {
            for job in self.api("jobs").list(&Default::default()).await? {
                let owner = job.metadata.owner_references.iter().flatten().any(|o| o.name == cron_job);
                let name = job.metadata.name.unwrap_or_default();
                if owner && Some(name.as_str()) != but {
                    return Ok(name);
                }
            }
            ensure!(began.elapsed().as_secs() < 130, "the schedule made no Job");
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    /// Creates an object as the workflow does.
    pub async fn create(&self, object: &Value) -> Result<Value> {
        self.triage
            .kubectl(["create", "--namespace", &self.namespace, "--filename", "-"])
            .stdin(object.to_string())
            .json()
            .await
    }

    /// The request that speaks for a Job or Pod, once it was evaluated.
    pub async fn request_for(&self, target: &str) -> Result<Value> {
        self.request_with(target, "Evaluated").await
    }

    /// The request of a Job that was started past the gate, once it says so.
    pub async fn request_for_overridden(&self, target: &str) -> Result<Value> {
        self.request_with(target, "Overridden").await
    }

    async fn request_with(&self, target: &str, condition: &str) -> Result<Value> {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(30) {
            for request in self.api("approvalrequests").list(&Default::default()).await? {
                let request = serde_json::to_value(request)?;
                let evaluated = conditions(&request).any(|c| c["type"] == condition);
                if request["spec"]["target"]["name"] == target && evaluated {
                    return Ok(request);
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("no request for {target}")
    }

    /// Approves the request that speaks for a Job or Pod, and waits until it is released.
    pub async fn approve(&self, who: &Identity, target: &str) -> Result<Value> {
        let request = self.request_for(target).await?;
        let name = request["metadata"]["name"].as_str().context("name")?;
        let digest = self.digest(name).await?;
        self.review(who, name, "Approve", &digest).ok().await?;
        self.state(name, "Released").await
    }
}
