//! The same three writes for each approval with nothing decided: the limit that the API server of this machine sets.
//!
//! The review goes through a webhook that answers yes. The release of the Job and the status are what Countersign writes,
//! copied from one request that it released.

use crate::arrivals::{self, Load};
use crate::lab::Waiting;
use crate::support::many::{approval, list};
use crate::support::{Space, by_sre, client, countersign, merge, requests};
use anyhow::{Context, Result};
use countersign_testbed::ControlPlane;
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;

/// As many as the operator works on at the same time.
const WORKERS: usize = 32;

/// What Countersign wrote for one request.
pub struct Template {
    review: Value,
    annotations: Value,
    template_annotations: Value,
    deadline: Value,
    status: Value,
}

impl Template {
    /// Has one request approved and released by the running operator.
    pub async fn make(cluster: &ControlPlane) -> Result<Self> {
        let space = Space::given(&cluster.admin(), None, "template").await?;
        space.policy(by_sre()).await?;
        let digest = space.bound("run").await?;
        let alice = client(&cluster.user("alice", &["sre"])?).await?;
        let alice = Api::namespaced_with(alice, &space.namespace, &requests());
        merge(&alice, "run", &approval(&digest)).await?;
        let request = space.state("run", "Released").await?;
        let job = space.get("jobs", "run").await?;
        Ok(Self {
            review: request["spec"]["reviews"][0].clone(),
            annotations: job["metadata"]["annotations"].clone(),
            template_annotations: job["spec"]["template"]["metadata"]["annotations"].clone(),
            deadline: job["spec"]["activeDeadlineSeconds"].clone(),
            status: request["status"].clone(),
        })
    }

    /// The review of a request with that digest, as admission would store it.
    pub fn review(&self, digest: &str) -> Value {
        let mut review = self.review.clone();
        review["digest"] = json!(digest);
        json!({"spec": {"reviews": [review]}})
    }

    /// The release of a Job that is of that version.
    pub fn release(&self, version: &str) -> Value {
        json!([
            {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
            {"op": "add", "path": "/spec/activeDeadlineSeconds", "value": self.deadline},
            {"op": "add", "path": "/metadata/annotations", "value": self.annotations},
            {"op": "add", "path": "/spec/template/metadata/annotations", "value": self.template_annotations},
            {"op": "replace", "path": "/spec/suspend", "value": false},
        ])
    }

    /// The status of a request that is of that version and has that digest.
    pub fn status(&self, version: &str, digest: &str) -> Value {
        let mut status = self.status.clone();
        status["digest"] = json!(digest);
        json!([
            {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
            {"op": "add", "path": "/status", "value": status},
        ])
    }
}

/// Writes as the operator.
pub struct NullWriter {
    client: Client,
    template: Arc<Template>,
}

impl NullWriter {
    /// Writes what the template holds.
    pub async fn new(cluster: &ControlPlane, template: Arc<Template>) -> Result<Self> {
        let client = client(&countersign().identity(cluster).await?).await?;
        Ok(Self { client, template })
    }

    /// Reviews as `reviewer` at the pace of the load, and writes the rest as soon as each review is answered.
    pub async fn approve(&self, reviewer: &Api<DynamicObject>, waiting: &Waiting, load: Load) -> Result<()> {
        let namespace = &waiting.space.namespace;
        let jobs = waiting.space.api("jobs");
        let versions: HashMap<String, String> = list(&jobs).await?.iter().filter_map(named_version).collect();
        let writes = Arc::new(Writes {
            template: self.template.clone(),
            jobs: Api::namespaced_with(self.client.clone(), namespace, &kube::api::ApiResource::erase::<Job>(&())),
            requests: Api::namespaced_with(self.client.clone(), namespace, &requests()),
            workers: Semaphore::new(WORKERS),
            running: Mutex::default(),
        });
        let mut reviews = vec![];
        for (name, digest) in &waiting.digests {
            let (reviewer, writes) = (reviewer.clone(), writes.clone());
            let (name, digest) = (name.clone(), digest.clone());
            let job = versions.get(&name).context("a Job")?.clone();
            reviews.push(async move {
                let reviewed = merge(&reviewer, &name, &writes.template.review(&digest)).await.context("a review")?;
                let version = reviewed.metadata.resource_version.unwrap_or_default();
                let later = writes.clone();
                writes.running.lock().await.spawn(async move { later.make(&name, &digest, &job, &version).await });
                Ok(())
            });
        }
        arrivals::send(load, reviews).await?;
        while let Some(made) = writes.running.lock().await.join_next().await {
            made??;
        }
        Ok(())
    }
}

type Job = k8s_openapi::api::batch::v1::Job;

struct Writes {
    template: Arc<Template>,
    jobs: Api<DynamicObject>,
    requests: Api<DynamicObject>,
    workers: Semaphore,
    running: Mutex<JoinSet<Result<()>>>,
}

impl Writes {
    async fn make(&self, name: &str, digest: &str, job: &str, version: &str) -> Result<()> {
        let _worker = self.workers.acquire().await?;
        let params = PatchParams::default();
        let release = patch(self.template.release(job))?;
        self.jobs.patch(name, &params, &release).await.context("a release")?;
        let status = patch(self.template.status(version, digest))?;
        self.requests.patch_status(name, &params, &status).await.context("a status")?;
        Ok(())
    }
}

fn patch(operations: Value) -> Result<Patch<()>> {
    Ok(Patch::Json(serde_json::from_value(operations)?))
}

fn named_version(object: &Value) -> Option<(String, String)> {
    let text = |field: &str| object["metadata"][field].as_str().map(String::from);
    text("name").zip(text("resourceVersion"))
}
