//! What every test against a real API server needs: one control plane a test binary with an operator beside it, and a
//! namespace of its own for each test, with real users and RBAC.
#![allow(dead_code, reason = "each test binary uses a part")]

use anyhow::{Context, Result, bail};
use countersign_testbed::{ControlPlane, Countersign, Identity, Observer, Operator, Options};
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;

pub mod clock;
mod gated;
pub mod helm;
pub mod many;
pub mod process;
pub mod python;
pub mod shell;
pub mod told;

/// The command under test.
pub fn countersign() -> Countersign {
    Countersign::new(env!("CARGO_BIN_EXE_countersign"), &[])
}

/// A control plane with Countersign's manifests applied, and no operator.
pub async fn installed() -> Result<ControlPlane> {
    installed_with(Options::default()).await
}

/// The same, started in another way.
pub async fn installed_with(options: Options) -> Result<ControlPlane> {
    let cluster = ControlPlane::start(options).await?;
    // From the first request on: nothing gated runs unapproved, whatever a test does.
    cluster.observer()?;
    install(cluster).await
}

/// The same without an observer, for tests that act as the operator does.
pub async fn bare(options: Options) -> Result<ControlPlane> {
    install(ControlPlane::start(options).await?).await
}

async fn install(cluster: ControlPlane) -> Result<ControlPlane> {
    // Fails when another test was first, and then it is there.
    let _ = rustls::crypto::ring::default_provider().install_default();
    countersign().install(&cluster).await?;
    shared_roles(&cluster).await?;
    Ok(cluster)
}

/// Binds people to the roles that the manifests made.
pub async fn shared_roles(cluster: &ControlPlane) -> Result<()> {
    cluster.admin().kubectl(["apply", "--filename", "-"]).stdin(SHARED_ROLES).ok().await?;
    Ok(())
}

/// The control plane that the tests of one binary share, with an operator.
pub async fn cluster() -> Result<&'static ControlPlane> {
    static SHARED: OnceCell<(ControlPlane, Operator)> = OnceCell::const_new();
    let start = || async {
        let cluster = installed().await?;
        let operator = countersign().start(&cluster).await?;
        anyhow::Ok((cluster, operator))
    };
    Ok(&SHARED.get_or_try_init(start).await?.0)
}

/// Everybody may read and patch requests everywhere, mallory too: what stops her must be admission, not missing RBAC.
const SHARED_ROLES: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: test-reviewers}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: countersign-reviewer}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: Group, name: sre}
- {apiGroup: rbac.authorization.k8s.io, kind: Group, name: security}
- {apiGroup: rbac.authorization.k8s.io, kind: Group, name: developers}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: test-attacker}
rules:
- apiGroups: [countersign.dev]
  resources: ["*"]
  # A wildcard would imply the verbs that let people past the gate.
  verbs: [get, list, watch, create, update, patch, delete, deletecollection]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: test-attacker}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: test-attacker}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: mallory}]
"#;

/// A namespace of one test, and who acts there.
pub struct Space {
    pub namespace: String,
    pub admin: Identity,
    /// The workflow's service account: creates Jobs and requests.
    pub triage: Identity,
    pub client: Client,
    observer: Option<Arc<Observer>>,
}

impl Drop for Space {
    /// What a test did last is observed before the test ends. A violation ends the process in there.
    fn drop(&mut self) {
        let _ = self.observer.as_ref().map(|observer| observer.catch_up());
    }
}

impl Space {
    /// Makes the namespace `name`, labelled `env: prod`, with the service account `triage`.
    pub async fn new(cluster: &ControlPlane, name: &str) -> Result<Self> {
        let mut space = Self::unobserved(cluster, name).await?;
        space.observer = Some(cluster.observer()?);
        Ok(space)
    }

    /// The same for tests that judge the run themselves: the observer would end them at what looks like a violation.
    pub async fn unobserved(cluster: &ControlPlane, name: &str) -> Result<Self> {
        make(&cluster.admin(), name).await?;
        let triage = cluster.service_account(name, "triage").await?;
        let client = client(&cluster.admin()).await?;
        Ok(Self { namespace: name.into(), admin: cluster.admin(), triage, client, observer: None })
    }

    /// The same where no more is known of the cluster than an administrator's kubeconfig.
    pub async fn given(admin: &Identity, observer: Option<Arc<Observer>>, name: &str) -> Result<Self> {
        make(admin, name).await?;
        let triage = admin.acting_as(&format!("system:serviceaccount:{name}:triage"), &[])?;
        let client = client(admin).await?;
        Ok(Self { namespace: name.into(), admin: admin.clone(), triage, client, observer })
    }

    /// Applies a policy named like the namespace, for this namespace alone, and waits until it is in force.
    pub async fn policy(&self, rules: Value) -> Result<()> {
        self.named_policy(&self.namespace, rules).await
    }

    /// Applies a policy of that name for this namespace alone, and waits until it is in force.
    pub async fn named_policy(&self, name: &str, rules: Value) -> Result<()> {
        let policy = policy(name, &self.namespace, rules);
        self.admin.kubectl(["apply", "--filename", "-"]).stdin(policy.to_string()).ok().await?;
        self.wait("approvalpolicies", name, |p| {
            p.pointer("/status/observedGeneration") == p.pointer("/metadata/generation")
                && p.pointer("/status/conditions/0/status") == Some(&json!("True"))
        })
        .await?;
        Ok(())
    }

    /// Creates a suspended Job as the workflow does.
    pub async fn job(&self, name: &str) -> Result<Value> {
        let created = self.triage.kubectl(["create", "--filename", "-", "--namespace", &self.namespace]);
        created.stdin(job(name).to_string()).json().await
    }

    /// Creates a request as the workflow does.
    pub async fn request(&self, name: &str, target: Option<&str>) -> Result<()> {
        let body = request(name, target);
        self.triage
            .kubectl(["create", "--namespace", &self.namespace, "--filename", "-"])
            .stdin(body.to_string())
            .ok()
            .await?;
        Ok(())
    }

    /// A Job and a request that targets it, evaluated and bound. Returns the digest.
    pub async fn bound(&self, name: &str) -> Result<String> {
        self.job(name).await?;
        self.request(name, Some(name)).await?;
        self.digest(name).await
    }

    /// The digest, once there is one.
    pub async fn digest(&self, name: &str) -> Result<String> {
        let request = self.wait("approvalrequests", name, |r| r.pointer("/status/digest").is_some()).await?;
        Ok(request["status"]["digest"].as_str().context("digest")?.to_string())
    }

    /// Waits until the request has that state.
    pub async fn state(&self, name: &str, state: &str) -> Result<Value> {
        self.wait("approvalrequests", name, |r| r.pointer("/status/state") == Some(&json!(state))).await
    }

    /// Waits until `Evaluated` has that reason.
    pub async fn evaluated(&self, name: &str, reason: &str) -> Result<Value> {
        self.wait("approvalrequests", name, |r| {
            conditions(r).any(|c| c["type"] == "Evaluated" && c["reason"] == reason)
        })
        .await
    }

    /// The object as it is stored now.
    pub async fn get(&self, resource: &str, name: &str) -> Result<Value> {
        let object = self.api(resource).get(name).await.with_context(|| format!("{resource}/{name}"))?;
        Ok(serde_json::to_value(object)?)
    }

    /// Waits until the object is as wanted.
    pub async fn wait(&self, resource: &str, name: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let began = Instant::now();
        let mut last = Value::Null;
        while began.elapsed() < Duration::from_secs(30) {
            if let Some(object) = self.api(resource).get_opt(name).await? {
                last = serde_json::to_value(object)?;
                if wanted(&last) {
                    return Ok(last);
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("{resource}/{name} did not become as wanted; last seen: {last:#}")
    }

    /// A reviewer's one patch.
    pub fn review(&self, who: &Identity, name: &str, decision: &str, digest: &str) -> countersign_testbed::Kubectl {
        self.patch(who, name, json!({"spec": {"review": {"decision": decision, "digest": digest}}}))
    }

    /// A merge patch on a request.
    pub fn patch(&self, who: &Identity, name: &str, patch: Value) -> countersign_testbed::Kubectl {
        who.kubectl([
            "patch",
            "apr",
            name,
            "--namespace",
            &self.namespace,
            "--type=merge",
            "--patch",
            &patch.to_string(),
        ])
    }

    /// Whether the Job runs or ran.
    pub async fn started(&self, job: &str) -> Result<bool> {
        Ok(self.get("jobs", job).await?["spec"]["suspend"] == json!(false))
    }

    /// The API of one of the resources that tests use.
    pub fn api(&self, resource: &str) -> Api<DynamicObject> {
        match resource {
            "approvalpolicies" => {
                Api::all_with(self.client.clone(), &of("countersign.dev", "v1alpha1", "ApprovalPolicy", resource))
            }
            "approvalrequests" => self.namespaced("countersign.dev", "v1alpha1", "ApprovalRequest", resource),
            "jobs" => self.namespaced("batch", "v1", "Job", resource),
            "events" => self.namespaced("events.k8s.io", "v1", "Event", resource),
            "pods" => self.namespaced("", "v1", "Pod", resource),
            "configmaps" => self.namespaced("", "v1", "ConfigMap", resource),
            "cronjobs" => self.namespaced("batch", "v1", "CronJob", resource),
            other => unreachable!("no test uses {other}"),
        }
    }

    fn namespaced(&self, group: &str, version: &str, kind: &str, plural: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &of(group, version, kind, plural))
    }
}

/// The resource of requests.
pub fn requests() -> ApiResource {
    of("countersign.dev", "v1alpha1", "ApprovalRequest", "approvalrequests")
}

fn of(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    let gvk = kube::core::GroupVersionKind::gvk(group, version, kind);
    ApiResource::from_gvk_with_plural(&gvk, plural)
}

/// A namespace of a test, and the roles of the service account that acts there.
async fn make(admin: &Identity, name: &str) -> Result<()> {
    let roles = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"env": "prod"}}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "triage", "namespace": name}},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "jobs", "namespace": name},
         "rules": [{"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "get", "list", "patch", "delete"]}]},
        binding(name, "jobs", "Role", "jobs"),
        binding(name, "requests", "ClusterRole", "countersign-requester"),
    ]});
    admin.kubectl(["apply", "--filename", "-"]).stdin(roles.to_string()).ok().await?;
    Ok(())
}

fn binding(namespace: &str, name: &str, kind: &str, role: &str) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name, "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": "triage", "namespace": namespace}]})
}

/// A client as that identity, for this runtime.
pub async fn client(who: &Identity) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(&who.kubeconfig)?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

/// The conditions of an object.
pub fn conditions(object: &Value) -> impl Iterator<Item = &Value> {
    object.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten()
}

/// A policy for one namespace.
pub fn policy(name: &str, namespace: &str, rules: Value) -> Value {
    json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "ApprovalPolicy", "metadata": {"name": name}, "spec": {
        "match": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}, "rules": rules}})
}

/// One approval of the group sre for what is tagged `prod`.
pub fn by_sre() -> Value {
    json!([{
        "name": "prod-write", "when": {"riskTags": ["prod", "write"]}, "decision": "RequireApproval", "reason": "prod write detected",
        "approvals": {"requirements": [{"name": "sre", "approvers": [{"kind": "Group", "name": "sre"}]}]},
        "constraints": {"maxRuntimeSeconds": 900},
    }])
}

/// A suspended Job.
pub fn job(name: &str) -> Value {
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"suspend": true, "template": {"spec": {
        "restartPolicy": "Never", "containers": [{"name": "main", "image": "localhost/remediate:1", "command": ["remediate"]}]}}}})
}

/// A request, for a Job or for nothing but its own state.
pub fn request(name: &str, target: Option<&str>) -> Value {
    let mut request = json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "ApprovalRequest", "metadata": {"name": name}, "spec": {
        "runID": "run_8f9a", "stepID": "remediate", "requestedBy": "workflow.incident-triage", "reason": "prod write detected",
        "riskTags": ["prod", "write"]}});
    if let Some(job) = target {
        request["spec"]["target"] = json!({"apiVersion": "batch/v1", "kind": "Job", "name": job});
    }
    request
}

/// Creates an object through the API as it is, without kubectl in between.
pub async fn create(api: &Api<DynamicObject>, object: &Value) -> kube::Result<DynamicObject> {
    let object = serde_json::from_value(object.clone()).map_err(kube::Error::SerdeError)?;
    api.create(&PostParams::default(), &object).await
}

/// A merge patch through the API, without kubectl in between.
pub async fn merge(api: &Api<DynamicObject>, name: &str, patch: &Value) -> kube::Result<DynamicObject> {
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await
}

impl Space {
    /// Waits for an Event about a request.
    pub async fn wait_for_event(&self, name: &str, reason: &str) -> Result<Value> {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(20) {
            for event in self.api("events").list(&Default::default()).await? {
                let event = serde_json::to_value(event)?;
                if event["regarding"]["name"] == name && event["reason"] == reason {
                    return Ok(event);
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("no Event {reason} about {name}")
    }
}
