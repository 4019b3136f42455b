//! Many requests at once.

use crate::support::{Space, conditions, create, job, request};
use anyhow::{Result, ensure};
use futures::stream::{self, StreamExt, TryStreamExt};
use kube::api::{Api, DynamicObject, ListParams};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long the control plane has to bind all of them, or to come to rest.
const PATIENCE: Duration = Duration::from_secs(180);

impl Space {
    /// Makes `count` suspended Jobs, each with a request, and waits until all are bound. Returns names and digests.
    pub async fn bound_many(&self, count: usize) -> Result<BTreeMap<String, String>> {
        let (jobs, requests) = (self.api("jobs"), self.api("approvalrequests"));
        stream::iter(0..count)
            .map(|i| {
                let (jobs, requests, name) = (jobs.clone(), requests.clone(), format!("run-{i:04}"));
                async move {
                    create(&jobs, &job(&name)).await?;
                    create(&requests, &request(&name, Some(&name))).await.map(drop)
                }
            })
            .buffer_unordered(16)
            .try_collect::<()>()
            .await?;
        let began = Instant::now();
        loop {
            let found = list(&requests).await?;
            let text = |value: &Value| value.as_str().map(String::from);
            let bound = found.iter().filter_map(|r| text(&r["metadata"]["name"]).zip(text(&r["status"]["digest"])));
            let digests: BTreeMap<_, _> = bound.collect();
            if digests.len() == count {
                return Ok(digests);
            }
            ensure!(began.elapsed() < PATIENCE, "{} of {count} requests are bound", digests.len());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

impl Space {
    /// Waits until the Job controller has noted on every Job that it is suspended: from then on it leaves them alone.
    pub async fn settled(&self) -> Result<()> {
        let began = Instant::now();
        loop {
            let jobs = list(&self.api("jobs")).await?;
            if jobs.iter().all(|job| conditions(job).any(|c| c["type"] == "Suspended")) {
                return Ok(());
            }
            ensure!(began.elapsed() < PATIENCE, "the Job controller is still busy");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

/// Every object there is.
pub async fn list(api: &Api<DynamicObject>) -> Result<Vec<Value>> {
    let items = api.list(&ListParams::default()).await?.items;
    Ok(items.into_iter().map(serde_json::to_value).collect::<Result<_, _>>()?)
}

/// A patch that approves what has that digest.
pub fn approval(digest: &str) -> Value {
    json!({"spec": {"review": {"decision": "Approve", "digest": digest}}})
}
