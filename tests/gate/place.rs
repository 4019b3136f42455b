//! A namespace under attack, and what is created there.

use anyhow::{Result, ensure};
use countersign_testbed::{Identity, Kubectl};
use serde_json::{Value, json};

/// A namespace.
pub struct Place {
    pub admin: Identity,
    pub namespace: String,
}

impl Place {
    /// A command in this namespace.
    pub fn kubectl(&self, who: &Identity, args: &[&str]) -> Kubectl {
        who.kubectl(args.iter().copied().chain(["--namespace", self.namespace.as_str()]))
    }

    /// Creates the object.
    pub fn create(&self, who: &Identity, body: &Value) -> Kubectl {
        self.kubectl(who, &["create", "-f", "-"]).stdin(body.to_string())
    }

    /// A merge patch of what `target` names (`job/a`).
    pub fn merge(&self, who: &Identity, target: &str, patch: Value) -> Kubectl {
        self.kubectl(who, &["patch", target, "--type=merge", "--patch", &patch.to_string()])
    }

    /// The same through a subresource.
    pub fn merge_sub(&self, who: &Identity, target: &str, subresource: &str, patch: Value) -> Kubectl {
        let subresource = format!("--subresource={subresource}");
        self.kubectl(who, &["patch", target, &subresource, "--type=merge", "--patch", &patch.to_string()])
    }

    /// A JSON patch.
    pub fn json_patch(&self, who: &Identity, target: &str, patch: Value) -> Kubectl {
        self.kubectl(who, &["patch", target, "--type=json", "--patch", &patch.to_string()])
    }

    /// What is stored.
    pub async fn get(&self, target: &str) -> Result<Value> {
        self.kubectl(&self.admin, &["get", target]).json().await
    }

    /// The same without what ties it to one version, to be written back.
    pub async fn writable(&self, target: &str) -> Result<Value> {
        let mut object = self.get(target).await?;
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata
                .retain(|key, _| !["resourceVersion", "uid", "managedFields", "generation"].contains(&key.as_str()));
        }
        Ok(object)
    }

    /// A Job that mallory made, held.
    pub async fn held(&self, who: &Identity, name: &str) -> Result<()> {
        self.create(who, &job(name)).ok().await?;
        Ok(())
    }

    /// Starts the Job as the operator does, with bounds and receipt.
    pub async fn release(&self, operator: &Identity, name: &str, spec: Value) -> Result<()> {
        let mut patch =
            json!({"metadata": {"annotations": {"countersign.dev/released": "sha256:digest"}}, "spec": spec});
        patch["spec"]["suspend"] = json!(false);
        patch["spec"]["template"] = json!({"metadata": {"annotations": {"countersign.dev/receipt": "signed"}}});
        self.merge(operator, &format!("job/{name}"), patch).ok().await?;
        Ok(())
    }

    /// No Pod is here, and no Job has started one.
    pub async fn nothing_ran(&self) -> Result<()> {
        let pods = self.kubectl(&self.admin, &["get", "pods", "-o", "name"]).ok().await?;
        ensure!(pods.trim().is_empty(), "{pods}");
        let jobs = self.kubectl(&self.admin, &["get", "jobs"]).json().await?;
        for job in jobs["items"].as_array().into_iter().flatten() {
            ensure!(job["spec"]["suspend"] == true && job["status"].get("startTime").is_none(), "{job:#}");
        }
        Ok(())
    }
}

/// A Job as people write them: it would start at once.
pub fn job(name: &str) -> Value {
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": job_spec()})
}

/// A CronJob that never fires by itself.
pub fn cron_job(name: &str) -> Value {
    json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name},
        "spec": {"schedule": "0 0 29 2 *", "jobTemplate": {"spec": job_spec()}}})
}

fn job_spec() -> Value {
    json!({"template": {"spec": {"restartPolicy": "Never",
        "containers": [{"name": "main", "image": "localhost/remediate:1", "command": ["remediate"]}]}}})
}

/// An annotation of ours on the object itself.
pub fn note<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["annotations"][format!("countersign.dev/{key}")].as_str()
}
