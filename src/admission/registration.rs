//! Tells the API server where admission is: at a URL beside the cluster, or behind a Service in it.
//!
//! Every field is written, defaults too: what the API server stores is what stands here, so that a watchdog can compare.

mod conditions;

use crate::api::names;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Resource};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::fmt::Debug;

/// Name of both configurations.
pub const NAME: &str = "countersign";

/// Path of admission on its server.
pub const PATH: &str = "/admit";

/// What follows [`PATH`] for namespaces whose gate only warns.
pub const WARN: &str = "/warn";

/// What follows [`PATH`] for policies that are still to be changed.
pub const STAMP: &str = "/stamp";

/// Seconds the API server waits for a verdict that it needs. Verdicts take well under a millisecond.
const TIMEOUT_SECONDS: u32 = 5;

/// Seconds it waits for a verdict that only explains: how long a dead operator may delay what it does not block.
const EXPLAINING_TIMEOUT_SECONDS: u32 = 2;

/// The label of every admission object of ours.
const LABEL: (&str, &str) = ("app.kubernetes.io/name", "countersign");

/// What holds Jobs and Pods, and stamps them and CronJobs. The guards behind it are the same either way.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Hold {
    /// MutatingAdmissionPolicies, inside the API server (Kubernetes 1.36 and newer); webhooks only explain, and may be away
    #[default]
    Policy,
    /// The operator's webhooks; without them nothing is created that would have to be held
    Webhook,
}

/// Port of a Service that leads to admission.
pub const SERVICE_PORT: u16 = 443;

/// How the API server reaches admission.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum At<'a> {
    /// By a URL, with [`PATH`].
    Url(&'a str),
    /// Through a Service in the cluster, at [`SERVICE_PORT`].
    Service {
        /// Its namespace.
        namespace: &'a str,
        /// Its name.
        name: &'a str,
    },
}

impl At<'_> {
    fn client_config(self, path: &str, authority: &str) -> Value {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let bundle = STANDARD.encode(authority);
        match self {
            Self::Url(url) => json!({"url": format!("{url}{path}"), "caBundle": bundle}),
            Self::Service { namespace, name } => json!({
                "service": {"namespace": namespace, "name": name, "path": format!("{PATH}{path}"), "port": SERVICE_PORT},
                "caBundle": bundle,
            }),
        }
    }
}

/// Where admission is, and for whom.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint<'a> {
    /// How it is reached.
    pub at: At<'a>,
    /// The authorities of its certificates, PEM.
    pub authority: &'a str,
    /// The operator's username. Its own writes are not sent.
    pub operator: &'a str,
    /// What holds.
    pub hold: Hold,
}

/// The versions of both configurations that a registration is written over, and no other; none where they do not matter.
#[derive(Clone, Debug, Default)]
pub struct Versions([Option<String>; 2]);

impl Versions {
    /// The versions that are stored now.
    pub async fn read(client: &Client) -> kube::Result<Self> {
        let mutating = Api::<MutatingWebhookConfiguration>::all(client.clone()).get_opt(NAME).await?;
        let validating = Api::<ValidatingWebhookConfiguration>::all(client.clone()).get_opt(NAME).await?;
        Ok(Self([mutating.and_then(|stored| version(&stored)), validating.and_then(|stored| version(&stored))]))
    }
}

fn version(stored: &impl Resource) -> Option<String> {
    stored.meta().resource_version.clone()
}

/// Writes both webhook configurations (server-side apply), in place of whatever they said before.
pub async fn register(client: &Client, endpoint: &Endpoint<'_>) -> kube::Result<()> {
    register_over(client, endpoint, &Versions::default()).await.map(drop)
}

/// The same over these versions alone: a conflict (409) where somebody wrote since. Returns what is stored then.
pub async fn register_over(client: &Client, endpoint: &Endpoint<'_>, over: &Versions) -> kube::Result<Versions> {
    let [mutating, validating] = configurations(endpoint);
    let [over_mutating, over_validating] = &over.0;
    let mutating = apply::<MutatingWebhookConfiguration>(client, mutating, over_mutating).await?;
    let validating = apply::<ValidatingWebhookConfiguration>(client, validating, over_validating).await?;
    Ok(Versions([mutating, validating]))
}

async fn apply<K>(client: &Client, mut wanted: Value, over: &Option<String>) -> kube::Result<Option<String>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
{
    if let Some(over) = over {
        wanted["metadata"]["resourceVersion"] = json!(over);
    }
    let (api, params) = (Api::<K>::all(client.clone()), PatchParams::apply(NAME).force());
    Ok(version(&api.patch(NAME, &params, &Patch::Apply(wanted)).await?))
}

/// Whether the API server serves MutatingAdmissionPolicies in a version that is there to stay.
pub async fn serves_mutating_policies(client: &Client) -> kube::Result<bool> {
    let served = client.list_api_group_resources("admissionregistration.k8s.io/v1").await?;
    Ok(served.resources.iter().any(|resource| resource.name == "mutatingadmissionpolicies"))
}

/// The mutating and the validating configuration, in full.
pub fn configurations(endpoint: &Endpoint<'_>) -> [Value; 2] {
    let mut mutating = vec![requests(endpoint), editors(endpoint), jobs(endpoint), unsuspend(endpoint)];
    if endpoint.hold == Hold::Webhook {
        mutating.push(cronjobs(endpoint));
    }
    mutating.extend(pods(endpoint));
    mutating.push(warn(endpoint));
    let mutating = mutating.into_iter().map(|webhook| json_of(&webhook, endpoint, true)).collect();
    let validating = vec![json_of(&policies(endpoint), endpoint, false)];
    [
        configuration("MutatingWebhookConfiguration", mutating),
        configuration("ValidatingWebhookConfiguration", validating),
    ]
}

/// A webhook, as far as one differs from another.
struct Webhook {
    name: &'static str,
    /// Group, version and resource.
    resource: [&'static str; 3],
    operations: &'static [&'static str],
    scope: &'static str,
    /// What follows the URL.
    path: &'static str,
    failure_policy: &'static str,
    reinvocation_policy: &'static str,
    namespace_selector: Value,
    conditions: Vec<(&'static str, String)>,
}

fn requests(endpoint: &Endpoint<'_>) -> Webhook {
    Webhook {
        name: "requests",
        resource: [names::GROUP, "*", "approvalrequests"],
        operations: &["CREATE", "UPDATE"],
        scope: "Namespaced",
        path: "",
        failure_policy: "Fail",
        reinvocation_policy: "Never",
        namespace_selector: json!({}),
        conditions: vec![conditions::not_the_operator(endpoint.operator)],
    }
}

/// Stamps who changes a policy. What comes of it is judged once every webhook has changed it: [`policies`].
fn editors(endpoint: &Endpoint<'_>) -> Webhook {
    Webhook {
        name: "editors",
        path: STAMP,
        // Another webhook may have changed the spec after this one saw it.
        reinvocation_policy: "IfNeeded",
        ..policies(endpoint)
    }
}

fn policies(endpoint: &Endpoint<'_>) -> Webhook {
    Webhook {
        name: "policies",
        resource: [names::GROUP, "*", "approvalpolicies"],
        scope: "Cluster",
        ..requests(endpoint)
    }
}

/// Holds, or explains what policy denies.
fn jobs(endpoint: &Endpoint<'_>) -> Webhook {
    Webhook {
        name: "jobs",
        resource: ["batch", "v1", "jobs"],
        operations: &["CREATE"],
        failure_policy: holding(endpoint),
        // Another webhook may have changed the Job after this one saw it.
        reinvocation_policy: "IfNeeded",
        namespace_selector: gated(endpoint, names::ENFORCE, &[]),
        conditions: vec![],
        ..requests(endpoint)
    }
}

/// Explains why a held Job is not started by hand. A ValidatingAdmissionPolicy holds behind it, so it may be away; and
/// whoever overrides needs it to be.
fn unsuspend(endpoint: &Endpoint<'_>) -> Webhook {
    let mut conditions = vec![conditions::not_the_operator(endpoint.operator)];
    conditions.extend(conditions::starts_without_override());
    Webhook {
        name: "unsuspend",
        operations: &["UPDATE"],
        failure_policy: "Ignore",
        reinvocation_policy: "Never",
        conditions,
        ..jobs(endpoint)
    }
}

/// Stamps authors, where no policy inside the API server does.
fn cronjobs(endpoint: &Endpoint<'_>) -> Webhook {
    Webhook {
        name: "cronjobs",
        resource: ["batch", "v1", "cronjobs"],
        operations: &["CREATE", "UPDATE"],
        conditions: vec![conditions::spec_changes()],
        ..jobs(endpoint)
    }
}

/// Two, for whom a namespace trusts is told by its labels, and a match condition cannot see those.
fn pods(endpoint: &Endpoint<'_>) -> [Webhook; 2] {
    let webhook = |name, operator, conditions| Webhook {
        name,
        resource: ["", "v1", "pods"],
        namespace_selector: gated(
            endpoint,
            names::ENFORCE,
            &[json!({"key": names::WORKLOADS, "operator": operator, "values": [names::ALLOW]})],
        ),
        conditions,
        ..jobs(endpoint)
    };
    [
        webhook("pods", "NotIn", conditions::not_trusted()),
        webhook("pods-beside-workloads", "In", conditions::not_trusted_beside_workloads()),
    ]
}

/// Reports in namespaces whose gate holds nothing.
fn warn(endpoint: &Endpoint<'_>) -> Webhook {
    Webhook {
        name: "warn",
        path: WARN,
        failure_policy: "Ignore",
        reinvocation_policy: "Never",
        namespace_selector: gated(endpoint, names::WARN, &[]),
        ..jobs(endpoint)
    }
}

fn holding(endpoint: &Endpoint<'_>) -> &'static str {
    match endpoint.hold {
        Hold::Policy => "Ignore",
        Hold::Webhook => "Fail",
    }
}

/// Namespaces whose gate is `gate`, but for those that are never gated.
fn gated(endpoint: &Endpoint<'_>, gate: &str, further: &[Value]) -> Value {
    let own = endpoint.operator.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split(':').next());
    let never: Vec<&str> = names::SYSTEM_NAMESPACES.into_iter().chain(own).collect();
    let mut expressions = vec![
        json!({"key": names::GATE, "operator": "In", "values": [gate]}),
        json!({"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": never}),
    ];
    expressions.extend_from_slice(further);
    json!({"matchExpressions": expressions})
}

fn configuration(kind: &str, webhooks: Vec<Value>) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": NAME, "labels": {LABEL.0: LABEL.1}},
        "webhooks": webhooks,
    })
}

fn json_of(webhook: &Webhook, endpoint: &Endpoint<'_>, mutating: bool) -> Value {
    let [group, version, resource] = webhook.resource;
    let needed = webhook.failure_policy == "Fail";
    let mut json = json!({
        "name": format!("{}.{}", webhook.name, names::GROUP),
        "admissionReviewVersions": ["v1"],
        "clientConfig": endpoint.at.client_config(webhook.path, endpoint.authority),
        "rules": [{
            "apiGroups": [group],
            "apiVersions": [version],
            "operations": webhook.operations,
            "resources": [resource],
            "scope": webhook.scope,
        }],
        "failurePolicy": webhook.failure_policy,
        "matchPolicy": "Equivalent",
        "namespaceSelector": webhook.namespace_selector,
        "objectSelector": {},
        "sideEffects": "None",
        "timeoutSeconds": if needed { TIMEOUT_SECONDS } else { EXPLAINING_TIMEOUT_SECONDS },
    });
    if mutating {
        json["reinvocationPolicy"] = json!(webhook.reinvocation_policy);
    }
    // The API server stores no empty list.
    if !webhook.conditions.is_empty() {
        let condition = |(name, expression): &(&str, String)| json!({"name": name, "expression": expression});
        json["matchConditions"] = webhook.conditions.iter().map(condition).collect();
    }
    json
}
