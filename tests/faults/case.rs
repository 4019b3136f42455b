//! What every scenario has: a gated namespace with a Job that is held, a request for it that waits, and alice.

use crate::cluster;
use crate::judge::{self, End};
use crate::support::{Space, by_sre, client, create, job, merge, request};
use anyhow::{Context, Result, ensure};
use countersign::binding::Keyring;
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The name of the Job and of its request.
pub const RUN: &str = "run";

/// A request that waits.
pub struct Case {
    pub space: Space,
    pub digest: String,
    requests: Api<DynamicObject>,
}

impl Case {
    /// Makes the namespace, and waits until the request is bound and waits for alice.
    pub async fn pending(name: &str) -> Result<Self> {
        Self::pending_under(name, by_sre()).await
    }

    /// The same under these rules.
    pub async fn pending_under(name: &str, rules: Value) -> Result<Self> {
        let mut case = Self::asked(name, rules).await?;
        case.is_bound().await?;
        Ok(case)
    }

    /// Waits until the request is bound.
    pub async fn is_bound(&mut self) -> Result<()> {
        self.digest = self.space.digest(RUN).await?;
        Ok(())
    }

    /// Makes the same, and waits for nothing.
    pub async fn asked(name: &str, rules: Value) -> Result<Self> {
        let cluster = cluster().await?;
        let admin = client(&cluster.admin()).await?;
        let labels = json!({"env": "prod", "countersign.dev/gate": "enforce"});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        create(&namespaces(&admin), &namespace).await?;
        let space = Space::given(&cluster.admin(), Some(cluster.observer()?), name).await?;
        space.policy(rules).await?;
        create(&space.api("jobs"), &held(RUN)).await?;
        create(&space.api("approvalrequests"), &request(RUN, Some(RUN))).await?;
        let alice = cluster.user("alice", &["sre"])?;
        let requests = Api::namespaced_with(client(&alice).await?, name, &crate::support::requests());
        Ok(Self { space, digest: String::new(), requests })
    }

    /// The path of requests, Jobs and the like in this namespace.
    pub fn path(&self, resource: &str) -> String {
        let group = if resource == "jobs" { "batch/v1" } else { "countersign.dev/v1alpha1" };
        format!("/apis/{group}/namespaces/{}/{resource}/", self.space.namespace)
    }

    /// What is in every path of this namespace.
    pub fn part(&self) -> String {
        format!("/namespaces/{}/", self.space.namespace)
    }

    /// Alice's one patch, which must be stored.
    pub async fn approve(&self) -> Result<()> {
        self.try_to_approve().await.context("alice approves")?;
        Ok(())
    }

    /// Alice says no.
    pub async fn deny(&self) -> Result<()> {
        let review = json!({"spec": {"review": {"decision": "Deny", "digest": self.digest, "comment": "no"}}});
        merge(&self.requests, RUN, &review).await.context("alice denies")?;
        Ok(())
    }

    /// Alice's one patch, which may be refused.
    pub async fn try_to_approve(&self) -> kube::Result<DynamicObject> {
        let review = json!({"spec": {"review": {"decision": "Approve", "digest": self.digest}}});
        merge(&self.requests, RUN, &review).await
    }

    /// Alice goes on until her patch is stored, which it may be though nobody told her. How long that took.
    pub async fn approve_as_soon_as_possible(&self, most: Duration) -> Result<Duration> {
        let began = Instant::now();
        loop {
            let Err(error) = self.try_to_approve().await else { return Ok(began.elapsed()) };
            let stored = self.stored().await.unwrap_or_default();
            if stored["spec"]["reviews"][0]["reviewer"]["username"] == "alice" {
                return Ok(began.elapsed());
            }
            ensure!(began.elapsed() < most, "alice could not approve within {most:?}: {error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What is stored of the request.
    pub async fn stored(&self) -> Result<Value> {
        self.space.get("approvalrequests", RUN).await
    }

    /// Waits until the request is released, for so long at most. How long that took.
    pub async fn released(&self, most: Duration) -> Result<Duration> {
        self.comes_to("Released", most).await
    }

    /// Waits until the request is in that state, for so long at most. How long that took.
    pub async fn comes_to(&self, wanted: &str, most: Duration) -> Result<Duration> {
        let began = Instant::now();
        loop {
            let state = self.stored().await.map(|stored| stored["status"]["state"].clone());
            if state.as_ref().is_ok_and(|state| state == wanted) {
                return Ok(began.elapsed());
            }
            ensure!(began.elapsed() < most, "not {wanted} within {most:?}, but {state:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What the audit trail tells of the request for that Job, in its order.
    pub async fn transitions(&self, job: &str) -> Result<Vec<String>> {
        let resource = ApiResource::erase::<countersign::api::ApprovalRecord>(&());
        let records = Api::<DynamicObject>::namespaced_with(self.space.client.clone(), "countersign-system", &resource);
        let mut told = vec![];
        for record in records.list(&Default::default()).await? {
            for entry in record.data["spec"]["entries"].as_array().into_iter().flatten() {
                let of = (&entry["target"]["namespace"], &entry["target"]["name"]);
                if of == (&json!(self.space.namespace), &json!(job)) {
                    told.push(entry["transition"].as_str().unwrap_or_default().to_owned());
                }
            }
        }
        Ok(told)
    }

    /// Fails unless etcd and the audit log say that the Job came to that, and by what is right alone.
    pub async fn ends(self, end: End) -> Result<()> {
        let keys = judge::keys(cluster().await?).await?;
        self.ends_under(&keys, &[(RUN, end)]).await
    }

    /// The same of several Jobs, and where reviews were sealed with these keys.
    pub async fn ends_under(self, keys: &Keyring, ends: &[(&str, End)]) -> Result<()> {
        judge::judge(cluster().await?, keys, &self.space.namespace, ends).await?;
        // Nobody waits for it to be gone.
        let api = namespaces(&client(&self.space.admin).await?);
        match api.delete(&self.space.namespace, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            deleted => Ok(deleted.map(drop)?),
        }
    }
}

fn namespaces(client: &Client) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &ApiResource::erase::<Namespace>(&()))
}

/// A Job that waits for the request of its name.
pub fn held(name: &str) -> Value {
    let mut job = job(name);
    job["metadata"]["annotations"] = json!({"countersign.dev/request": name});
    job
}
