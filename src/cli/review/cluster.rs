//! What the commands ask of the API server: fixed resource paths, no discovery, with the reviewer's own rights.

use crate::admission::Caller;
use crate::api::{ApprovalRequest, ReviewDecision, names};
use crate::cli::explain::{JOBS, PODS};
use crate::cli::review::refusal::{Place, Refused, refused};
use anyhow::Context;
use futures::Stream;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::core::ObjectList;
use kube::{Client, Config};
use serde_json::{Value, json};
use std::time::Duration;

/// Objects that are asked for at a time.
const PAGE: u32 = 500;

/// Field selector of requests that can still be decided: finished ones, of which there may be many, stay where they are.
pub const OPEN: &str = "status.state!=Released,status.state!=Denied,status.state!=Expired,status.state!=Cancelled";
/// Field selector of requests that were released.
pub const RELEASED: &str = "status.state=Released";

/// A cluster, and the namespace of the kubeconfig's context.
pub struct Cluster {
    client: Client,
    server: String,
    /// The namespace that is meant where none is named.
    pub namespace: String,
}

impl Cluster {
    /// The cluster of a configuration.
    pub fn new(config: Config) -> anyhow::Result<Self> {
        let (server, namespace) = (config.cluster_url.to_string(), config.default_namespace.clone());
        let client = Client::try_from(config).context("no client can be made from this kubeconfig")?;
        Ok(Self { client, server, namespace })
    }

    /// What an error means for the request `name`.
    pub fn refused(&self, error: kube::Error, namespace: &str, name: &str) -> Refused {
        refused(error, &self.server, Place { namespace: Some(namespace), name: Some(name) })
    }

    /// What an error means for a list.
    pub fn unlisted(&self, error: kube::Error, namespace: Option<&str>) -> Refused {
        refused(error, &self.server, Place { namespace, name: None })
    }

    /// The requests of one namespace, or of all.
    pub fn requests(&self, namespace: Option<&str>) -> Api<DynamicObject> {
        let resource = ApiResource::erase::<ApprovalRequest>(&());
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    /// The Job or Pod that a request names; none where it is gone or may not be read: the card says so.
    pub async fn target(&self, request: &Value) -> Option<Value> {
        let name = request.pointer("/spec/target/name")?.as_str()?;
        let namespace = request.pointer("/metadata/namespace")?.as_str()?;
        let kind = if request.pointer("/spec/target/kind")? == "Pod" { PODS } else { JOBS };
        let found = kind.api(self.client.clone(), Some(namespace)).get(name).await.ok()?;
        serde_json::to_value(found).ok()
    }

    /// One page of requests.
    pub async fn page(&self, namespace: Option<&str>, from: &Page<'_>) -> kube::Result<ObjectList<DynamicObject>> {
        let mut page = ListParams {
            label_selector: from.labels.map(String::from),
            field_selector: from.which.map(String::from),
            ..ListParams::default()
        }
        .limit(PAGE);
        if let Some(token) = from.token {
            page = page.continue_token(token);
        }
        self.requests(namespace).list(&page).await
    }

    /// Gives a review, and returns the request as it is stored then.
    pub async fn review(&self, namespace: &str, name: &str, review: &Review<'_>) -> kube::Result<DynamicObject> {
        let decision = format!("{:?}", review.decision);
        let mut body = json!({"decision": decision, "digest": review.digest});
        if let Some(comment) = review.comment {
            body["comment"] = comment.into();
        }
        let manager = if review.decision == ReviewDecision::Approve { "kubectl-approve" } else { "kubectl-deny" };
        let parameters = PatchParams { field_manager: Some(manager.into()), ..PatchParams::default() };
        let patch = Patch::Merge(json!({"spec": {"review": body}}));
        self.requests(Some(namespace)).patch(name, &parameters, &patch).await
    }

    /// What happens to requests after that version, or to one of them.
    pub async fn watch(
        &self,
        namespace: Option<&str>,
        name: Option<&str>,
        version: &str,
        within: Duration,
    ) -> kube::Result<impl Stream<Item = kube::Result<WatchEvent<DynamicObject>>> + use<>> {
        let mut parameters = WatchParams::default().timeout((within.as_secs() + 1).min(290) as u32);
        if let Some(name) = name {
            parameters = parameters.fields(&format!("metadata.name={name}"));
        }
        self.requests(namespace).watch(&parameters, version).await
    }

    /// Who the caller is, as the API server says.
    pub async fn whoami(&self) -> kube::Result<Caller> {
        let api: Api<SelfSubjectReview> = Api::all(self.client.clone());
        let said = api.create(&PostParams::default(), &SelfSubjectReview::default()).await?;
        let user = said.status.and_then(|status| status.user_info).unwrap_or_default();
        Ok(Caller {
            username: user.username.unwrap_or_default(),
            uid: user.uid,
            groups: user.groups.unwrap_or_default(),
            extra: user.extra.unwrap_or_default(),
        })
    }

    /// Whether the caller holds the verb `approve` on a policy; none where that cannot be asked.
    pub async fn may_approve(&self, policy: &str) -> Option<bool> {
        let attributes = ResourceAttributes {
            verb: Some(names::APPROVE_VERB.into()),
            group: Some(names::GROUP.into()),
            version: Some("*".into()),
            resource: Some("approvalpolicies".into()),
            name: Some(policy.into()),
            ..ResourceAttributes::default()
        };
        let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), non_resource_attributes: None };
        let question = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
        let api: Api<SelfSubjectAccessReview> = Api::all(self.client.clone());
        let answer = api.create(&PostParams::default(), &question).await;
        answer.ok()?.status.map(|status| status.allowed)
    }
}

/// Which page of a list.
#[derive(Clone, Copy, Debug, Default)]
pub struct Page<'a> {
    /// A label selector.
    pub labels: Option<&'a str>,
    /// A field selector, such as [`OPEN`].
    pub which: Option<&'a str>,
    /// Where the last page ended.
    pub token: Option<&'a str>,
}

/// A review to give.
#[derive(Clone, Copy, Debug)]
pub struct Review<'a> {
    /// Approve or Deny.
    pub decision: ReviewDecision,
    /// All of the digest that was shown.
    pub digest: &'a str,
    /// In the reviewer's words.
    pub comment: Option<&'a str>,
}
