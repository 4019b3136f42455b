//! A namespace with an attacker in it who may do everything there that RBAC can grant.

use anyhow::{Context, Result, bail};
use countersign_testbed::{ControlPlane, Identity, Kubectl};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

pub const FILES: [&str; 5] = [
    include_str!("../../deploy/admission/pods.yaml"),
    include_str!("../../deploy/admission/holding/pods.yaml"),
    include_str!("../../deploy/admission/workloads.yaml"),
    include_str!("../../deploy/admission/exec.yaml"),
    include_str!("../../deploy/admission/inputs.yaml"),
];

pub const OPERATOR: &str = "--as=system:serviceaccount:countersign-system:countersign";

/// What stops mallory must be admission, not missing RBAC. The operator gets the same, for what it may do to Pods. The
/// wildcard that mallory has elsewhere in these tests would give her `override` and `ungate`.
const ROLES: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: test-everything-here}
rules:
- apiGroups: [""]
  resources: [pods, pods/status, pods/log, pods/exec, pods/attach, pods/ephemeralcontainers, pods/resize, pods/binding,
    pods/eviction, bindings, configmaps, secrets, replicationcontrollers, replicationcontrollers/scale]
  verbs: ["*"]
- {apiGroups: [apps, batch], resources: ["*"], verbs: ["*"]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: test-everything-here}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: test-everything-here}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: User, name: mallory}
- {apiGroup: rbac.authorization.k8s.io, kind: User, name: carol}
- {kind: ServiceAccount, name: countersign, namespace: countersign-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: test-override}
rules:
- {apiGroups: [countersign.dev], resources: [approvalrequests], verbs: [override]}
- {apiGroups: [countersign.dev], resources: [approvalpolicies], verbs: [ungate]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: test-override}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: test-override}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: carol}]
"#;

/// A namespace of one test.
pub struct Arena {
    pub namespace: String,
    pub admin: Identity,
    pub mallory: Identity,
    /// May override and ungate.
    pub carol: Identity,
    /// A service account of the namespace with mallory's rights in it.
    pub hostile: Identity,
}

impl Arena {
    /// Makes the namespace with these labels.
    pub async fn new(cluster: &ControlPlane, name: &str, labels: &[&str]) -> Result<Self> {
        let admin = cluster.admin();
        let labels: Value =
            labels.iter().filter_map(|l| l.split_once('=')).map(|(k, v)| (k.to_owned(), json!(v))).collect();
        let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}},
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "hostile", "namespace": name}},
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}},
            {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "hostile", "namespace": name},
             "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "test-everything-here"},
             "subjects": [{"kind": "ServiceAccount", "name": "hostile", "namespace": name}]},
        ]});
        let apply = ["apply", "--server-side", "--force-conflicts", "--filename", "-"];
        admin.kubectl(apply).stdin(objects.to_string()).ok().await?;
        let (mallory, carol) = (cluster.user("mallory", &["developers"])?, cluster.user("carol", &["oncall"])?);
        let hostile = cluster.service_account(name, "hostile").await?;
        Ok(Self { namespace: name.into(), admin, mallory, carol, hostile })
    }

    /// A kubectl command in this namespace.
    pub fn run(&self, who: &Identity, args: &[&str]) -> Kubectl {
        who.kubectl([&["--namespace", &self.namespace], args].concat())
    }

    /// A kubectl command in this namespace in the operator's name.
    pub fn operator(&self, args: &[&str]) -> Kubectl {
        self.run(&self.admin, &[&[OPERATOR], args].concat())
    }

    pub fn create(&self, who: &Identity, object: &Value) -> Kubectl {
        self.run(who, &["create", "--filename", "-"]).stdin(object.to_string())
    }

    /// A merge patch; `what` is as in `pod/name`, `flags` may name a subresource.
    pub fn patch(&self, who: &Identity, what: &str, patch: &Value, flags: &[&str]) -> Kubectl {
        let patch = patch.to_string();
        self.run(who, &[&["patch", what, "--type=merge", "--patch", &patch], flags].concat())
    }

    pub async fn get(&self, what: &str) -> Result<Value> {
        self.run(&self.admin, &["get", what]).json().await
    }

    /// Waits until the object is as wanted.
    pub async fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let began = Instant::now();
        let mut last = Value::Null;
        while began.elapsed() < Duration::from_secs(40) {
            if let Ok(object) = self.get(what).await {
                last = object;
                if wanted(&last) {
                    return Ok(last);
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("{what} did not become as wanted; last seen: {last:#}")
    }

    /// Waits for a Pod with that label that is as wanted, and returns it.
    pub async fn pod_of(&self, selector: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let began = Instant::now();
        let mut last = Value::Null;
        while began.elapsed() < Duration::from_secs(40) {
            last = self.run(&self.admin, &["get", "pods", "--selector", selector]).json().await?;
            if let Some(pod) = last["items"].as_array().context("items")?.iter().find(|p| wanted(p)) {
                return Ok(pod.clone());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("no Pod of {selector} became as wanted; last seen: {last:#}")
    }

    /// Starts a Job as the operator does, with a receipt.
    pub async fn job(&self, name: &str, forever: bool) -> Result<Value> {
        let mut job = super::support::job(name);
        if forever {
            job["spec"]["template"]["metadata"]["annotations"] = json!({"testbed.countersign.dev/runs-forever": "yes"});
        }
        self.release(job).await
    }

    pub async fn release(&self, job: Value) -> Result<Value> {
        let what = format!("job/{}", job["metadata"]["name"].as_str().context("name")?);
        self.create(&self.admin, &job).ok().await?;
        let receipt = json!({"metadata": {"annotations": {"countersign.dev/receipt": "{}"}}});
        let patch = json!({"spec": {"suspend": false, "template": receipt}}).to_string();
        self.operator(&["patch", &what, "--type=merge", "--patch", &patch]).ok().await?;
        self.get(&what).await
    }

    /// Sets labels of the namespace and waits until `probe`, which is refused before, passes.
    pub async fn relabel(&self, labels: &[&str], probe: impl AsyncFn() -> Result<bool>) -> Result<()> {
        let args = [&["label", "namespace", &self.namespace, "--overwrite"], labels].concat();
        self.admin.kubectl(args).ok().await?;
        until(&format!("{labels:?} take effect"), probe).await
    }
}

/// Waits until `reached`.
pub async fn until(what: &str, reached: impl AsyncFn() -> Result<bool>) -> Result<()> {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(40) {
        if reached().await? {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("waited in vain until {what}")
}

/// Applies the policies and the roles of this test.
pub async fn apply(cluster: &ControlPlane) -> Result<()> {
    for text in FILES.into_iter().chain([ROLES]) {
        let apply = ["apply", "--server-side", "--force-conflicts", "--filename", "-"];
        cluster.admin().kubectl(apply).stdin(text).ok().await?;
    }
    Ok(())
}

/// Waits until each policy does something: it takes effect some time after it is created.
pub async fn in_force(cluster: &ControlPlane) -> Result<()> {
    let arena = Arena::new(cluster, "is-the-gate-there", &["countersign.dev/gate=enforce"]).await?;
    let metadata = json!({"name": "probe", "annotations": {"countersign.dev/receipt": "x"}});
    let mut forged = pod("probe");
    forged["metadata"] = metadata.clone();
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": metadata,
        "target": {"kind": "Node", "name": "simulated"}});
    let locked = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "probe", "labels": {"countersign.dev/input": "locked"}}});
    let refused = async |path: &str, object: Value, policy: &str| {
        let raw = format!("/api/v1/namespaces/is-the-gate-there/{path}");
        let create = arena.admin.kubectl(["create", "--raw", &raw, "--filename", "-"]).stdin(object.to_string());
        Ok(create.run().await?.stderr.contains(&format!("'{policy}'")))
    };
    until("Pods are held", async || held(&arena).await).await?;
    until("countersign-pods", async || refused("pods?dryRun=All", forged.clone(), "countersign-pods").await).await?;
    until("countersign-bindings", async || {
        refused("bindings?dryRun=All", binding.clone(), "countersign-bindings").await
    })
    .await?;
    until("countersign-inputs", async || refused("configmaps?dryRun=All", locked.clone(), "countersign-inputs").await)
        .await?;
    until("countersign-exec", async || refused("pods/probe/exec?command=true", json!({}), "countersign-exec").await)
        .await?;
    until("countersign-workloads", async || {
        let create = arena.run(&arena.admin, &["create", "deployment", "x", "--image=x", "--dry-run=server"]);
        Ok(create.run().await?.stderr.contains("'countersign-workloads'"))
    })
    .await?;
    until("overrides are stamped", async || stamped(&arena).await).await
}

/// Whether a new Pod would be held.
pub async fn held(arena: &Arena) -> Result<bool> {
    let create = arena.run(&arena.admin, &["create", "--dry-run=server", "--output=json", "--filename", "-"]);
    let mut probe = pod("");
    probe["metadata"] = json!({"generateName": "probe-"});
    Ok(create.stdin(probe.to_string()).run().await?.stdout.contains("countersign.dev/approval"))
}

/// Whether an override would be stamped.
async fn stamped(arena: &Arena) -> Result<bool> {
    arena.run(&arena.admin, &["apply", "--filename", "-"]).stdin(pod("probe").to_string()).ok().await?;
    let flags = ["--dry-run=server", "--output=json"];
    Ok(arena.patch(&arena.carol, "pod/probe", &override_patch("probe"), &flags).run().await?.status.success())
}

/// A Pod.
pub fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "main", "image": "localhost/mine:1"}]}})
}

/// What an override writes.
pub fn override_patch(reason: &str) -> Value {
    json!({"metadata": {"annotations": {"countersign.dev/override-reason": reason}}, "spec": {"schedulingGates": null}})
}

/// The names of a Pod's scheduling gates.
pub fn gates(pod: &Value) -> Vec<&str> {
    let gates = pod.pointer("/spec/schedulingGates").and_then(Value::as_array);
    gates.into_iter().flatten().filter_map(|g| g["name"].as_str()).collect()
}

/// The labels and annotations of ours that an object has.
pub fn ours(object: &Value) -> Vec<&str> {
    let maps = ["labels", "annotations"].map(|m| object["metadata"][m].as_object());
    maps.into_iter()
        .flatten()
        .flat_map(|m| m.keys())
        .map(String::as_str)
        .filter(|k| k.starts_with("countersign.dev/"))
        .collect()
}

/// Runs the command, which has to be refused with these words.
pub async fn refused(command: Kubectl, words: &str) -> Result<()> {
    let message = command.refused().await?;
    anyhow::ensure!(message.contains(words), "expected {words:?} in {message:?}");
    Ok(())
}
