//! What an explanation rests on, read with the caller's own rights.

use crate::api::{TargetKind, names};
use crate::binding::Keyring;
use crate::cli::case::CaseTarget;
use crate::cli::client::{Cluster, Found, Served};
use crate::lifecycle::RequestFacts;
use crate::policy::{PolicySet, compile};
use anyhow::{Context, bail};
use kube::core::DynamicObject;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Requests.
pub const REQUESTS: Served = Served::new(names::GROUP, names::VERSION, "ApprovalRequest", "approvalrequests");
/// Policies.
pub const POLICIES: Served = Served::new(names::GROUP, names::VERSION, "ApprovalPolicy", "approvalpolicies");
/// Namespaces.
pub const NAMESPACES: Served = Served::new("", "v1", "Namespace", "namespaces");
/// Jobs.
pub const JOBS: Served = Served::new("batch", "v1", "Job", "jobs");
/// Pods.
pub const PODS: Served = Served::new("", "v1", "Pod", "pods");

/// Everything that could be read.
#[derive(Debug)]
pub struct Gathered {
    /// The request. Every review counts as sealed: that is the operator's to check.
    pub request: RequestFacts,
    /// Labels of its namespace, where they may be read.
    pub labels: Option<BTreeMap<String, String>>,
    /// Its Job or Pod, where there is one and it may be read.
    pub target: Option<CaseTarget>,
    /// Every policy, where they may be read.
    pub policies: Option<PolicySet>,
    /// What could not be read, and what is missing for it.
    pub gaps: Vec<String>,
}

impl Gathered {
    /// Reads the request, its namespace, its target and every policy.
    pub async fn read(cluster: &Cluster, namespace: &str, name: &str) -> anyhow::Result<Self> {
        let object = match cluster.get(REQUESTS, Some(namespace), name).await? {
            Found::There(object) => object,
            Found::Absent => bail!("there is no ApprovalRequest {name} in namespace {namespace}"),
            Found::Refused(why) => bail!("{why}; the ClusterRole countersign-reviewer grants it"),
        };
        let request = read_request(&object)?;
        let mut gaps = vec![];
        let labels = match cluster.get(NAMESPACES, None, namespace).await? {
            Found::There(object) => Some(object.metadata.labels.unwrap_or_default()),
            Found::Absent => bail!("there is no namespace {namespace}"),
            Found::Refused(why) => {
                gaps.push(format!("{why}; which policies apply here depends on the namespace's labels"));
                None
            }
        };
        let target = read_target(cluster, &request, &mut gaps).await?;
        let policies = read_policies(cluster, &mut gaps).await?;
        Ok(Self { request, labels, target, policies, gaps })
    }
}

/// The request as the operator reads it, with every seal taken as good.
pub fn read_request(object: &DynamicObject) -> anyhow::Result<RequestFacts> {
    // Any key: what it says of the seals is not used.
    let key = Keyring::from_seed(&[0; 32]).context("reading the request")?;
    let mut request = RequestFacts::read(object, &key)
        .map_err(|broken| anyhow::anyhow!("this version cannot read the request: {}", broken.error))?;
    request.reviews.iter_mut().for_each(|review| review.sealed = true);
    Ok(request)
}

async fn read_target(
    cluster: &Cluster,
    request: &RequestFacts,
    gaps: &mut Vec<String>,
) -> anyhow::Result<Option<CaseTarget>> {
    let Some(target) = &request.spec.target else { return Ok(None) };
    let kind = match target.kind {
        TargetKind::Job => JOBS,
        TargetKind::Pod => PODS,
    };
    let noun = format!("{} {}", target.kind.as_str(), target.name);
    match cluster.get(kind, Some(&request.namespace), &target.name).await? {
        Found::There(object) => {
            let bound = request.status.target.as_ref().map(|t| t.uid.as_str()).or(target.uid.as_deref());
            if bound.is_some() && bound != object.metadata.uid.as_deref() {
                gaps.push(format!("{noun} is another one than the request speaks of; it was created anew"));
                return Ok(None);
            }
            Ok(Some(CaseTarget::of(target.kind, &object)))
        }
        Found::Absent => {
            gaps.push(format!("{noun} is not there"));
            Ok(None)
        }
        Found::Refused(why) => {
            gaps.push(format!("{why}; expressions that look at {noun} are judged without it"));
            Ok(None)
        }
    }
}

async fn read_policies(cluster: &Cluster, gaps: &mut Vec<String>) -> anyhow::Result<Option<PolicySet>> {
    let mut policies = PolicySet::default();
    let listed = cluster.list(POLICIES, None, None, |object| add_policy(&mut policies, &object)).await?;
    match listed {
        Found::There(()) => Ok(Some(policies)),
        Found::Absent => Ok(None),
        Found::Refused(why) => {
            gaps.push(format!("{why}; a ClusterRoleBinding of countersign-reviewer grants it"));
            Ok(None)
        }
    }
}

/// Compiles a stored policy into the set.
pub fn add_policy(policies: &mut PolicySet, object: &DynamicObject) {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let editor = object.metadata.annotations.as_ref().and_then(|a| a.get(names::EDITED_BY));
    match compile(name, object.data.get("spec").unwrap_or(&Value::Null), editor.map(String::as_str)) {
        Ok(policy) => policies.ready.push(Arc::new(policy)),
        Err(broken) => policies.broken.push(Arc::from(broken)),
    }
}
