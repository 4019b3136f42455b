//! One control plane with admission in this process. One test at a time: some take admission away.

use anyhow::{Context, Result, bail};
use countersign::admission::certificate::{Good, Served, name_of};
use countersign::admission::deciders::{AccessReviews, Deciders};
use countersign::admission::registration::{At, Endpoint, Hold, register};
use countersign::admission::{GateView, server, tls};
use countersign::audit::Refusals;
use countersign::binding::Keyring;
use countersign::lifecycle::Surroundings;
use countersign::policy::{PolicySet, compile};
use countersign_testbed::{ControlPlane, Identity, Kubectl, Options};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{MutexGuard, OnceCell};

const OPERATOR: &str = "system:serviceaccount:countersign-system:countersign";

/// What admission knows, and how often it asked for the policies: once a verdict on a Job or Pod.
#[derive(Default)]
pub struct Memory {
    policies: Mutex<Option<Arc<PolicySet>>>,
    pub asked: AtomicUsize,
}

impl Memory {
    pub fn forget(&self) -> Option<Arc<PolicySet>> {
        self.policies.lock().unwrap().take()
    }

    pub fn learn(&self, policies: Option<Arc<PolicySet>>) {
        *self.policies.lock().unwrap() = policies;
    }
}

impl GateView for Memory {
    fn policies(&self) -> Option<Arc<PolicySet>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.policies.lock().unwrap().clone()
    }

    fn namespace(&self, _name: &str) -> Option<Arc<BTreeMap<String, String>>> {
        Some(Arc::default())
    }

    fn surroundings(&self, _: &str, _: &str, _: &BTreeMap<String, String>) -> Surroundings {
        Surroundings::default()
    }

    fn speaks_for(&self, _namespace: &str, job: &str) -> Option<(String, String)> {
        Some((format!("{job}-request"), "Pending".into()))
    }
}

struct Shared {
    cluster: ControlPlane,
    url: String,
    authority: String,
    view: Arc<Memory>,
}

/// The control plane, held by one test.
pub struct Lab {
    shared: &'static Shared,
    pub view: Arc<Memory>,
    pub admin: Identity,
    _alone: MutexGuard<'static, ()>,
}

pub async fn lab() -> Result<Lab> {
    static SHARED: OnceCell<Shared> = OnceCell::const_new();
    static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let alone = ALONE.lock().await;
    let shared = SHARED.get_or_try_init(start).await?;
    let lab = Lab { shared, view: shared.view.clone(), admin: shared.cluster.admin(), _alone: alone };
    lab.reset().await?;
    Ok(lab)
}

fn policies() -> Arc<PolicySet> {
    let rules = json!([
        {"name": "never", "when": {"riskTags": ["never"]}, "decision": "Deny", "reason": "not here"},
        {"name": "prod-write", "when": {"riskTags": ["prod"]}, "decision": "RequireApproval",
         "approvals": {"requirements": [{"name": "sre", "approvers": [{"kind": "Group", "name": "sre"}]}]}},
    ]);
    let policy = compile("production", &json!({"rules": rules}), None).unwrap();
    Arc::new(PolicySet { ready: vec![Arc::new(policy)], broken: vec![] })
}

async fn client_of(who: &Identity) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(&who.kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

async fn start() -> Result<Shared> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cluster = ControlPlane::start(Options::default()).await?;
    let view = Arc::new(Memory { policies: Mutex::new(Some(policies())), ..Memory::default() });
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("https://{}/admit", listener.local_addr()?);
    let now = jiff::Timestamp::now();
    let serving = tls::self_signed("127.0.0.1", now, jiff::SignedDuration::from_hours(24))?;
    let served = Arc::new(Served::default());
    served.serve(Good::check(&serving, &name_of("127.0.0.1").context("a name")?, now)?);
    let server = server::Server {
        key: Arc::new(Keyring::from_seed(&[7; 32])?),
        view: view.clone(),
        deciders: Arc::new(Deciders::new(Arc::new(AccessReviews(client_of(&cluster.admin()).await?)))),
        readiness: Default::default(),
        refusals: Arc::new(Mutex::new(Refusals::new("test", jiff::SignedDuration::from_secs(30)))),
        metrics: countersign::telemetry::Metrics::new().work,
    };
    // A runtime of its own: that of one test ends with it.
    std::thread::spawn(move || -> Result<()> {
        tokio::runtime::Runtime::new()?.block_on(async {
            Ok(server::serve(listener, tls::server_config(served)?, server, Default::default()).await?)
        })
    });
    Ok(Shared { cluster, url, authority: serving.authority, view })
}

impl Lab {
    pub fn endpoint(&self, hold: Hold) -> Endpoint<'_> {
        Endpoint { at: At::Url(&self.shared.url), authority: &self.shared.authority, operator: OPERATOR, hold }
    }

    /// A client for this runtime.
    pub async fn client(&self) -> Result<Client> {
        client_of(&self.admin).await
    }

    pub fn user(&self, name: &str) -> Result<Identity> {
        self.shared.cluster.user(name, &["system:masters"])
    }

    /// Admission is there, holds by webhook, and knows the policies.
    pub async fn reset(&self) -> Result<()> {
        self.view.learn(Some(policies()));
        register(&self.client().await?, &self.endpoint(Hold::Webhook)).await?;
        let namespace = self.namespace("probe", json!({"countersign.dev/gate": "enforce"})).await?;
        self.until(&namespace, |job| job["spec"]["suspend"] == json!(true)).await
    }

    /// A namespace with these labels, ready for Pods.
    pub async fn namespace(&self, name: &str, labels: Value) -> Result<String> {
        let object =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}).to_string();
        self.admin.kubectl(["apply", "--filename", "-"]).stdin(object).ok().await?;
        self.patiently("the default service account", || async {
            let found = self.admin.kubectl(["get", "serviceaccount", "default", "--namespace", name]).run().await?;
            Ok(found.status.success().then_some(name.to_string()))
        })
        .await
    }

    pub fn create(&self, namespace: &str, object: &Value) -> Kubectl {
        create(&self.admin, namespace, object)
    }

    /// Waits until a new Job would come out as wanted.
    pub async fn until(&self, namespace: &str, wanted: impl Fn(&Value) -> bool) -> Result<()> {
        let wanted = &wanted;
        self.patiently("a Job as wanted", || async move {
            let args = ["create", "--dry-run=server", "--namespace", namespace, "--filename", "-"];
            let job = self.admin.kubectl(args).stdin(job("probe").to_string()).json().await;
            Ok(job.ok().filter(wanted).map(drop))
        })
        .await
    }

    /// Waits until a new Job would be refused, and says how.
    pub async fn refused(&self, namespace: &str) -> Result<String> {
        self.patiently("a refusal", || async move {
            let args = ["create", "--dry-run=server", "--namespace", namespace, "--filename", "-"];
            let output = self.admin.kubectl(args).stdin(job("probe").to_string()).run().await?;
            Ok((!output.status.success()).then_some(output.stderr))
        })
        .await
    }

    /// Waits for an object that is as wanted.
    pub async fn find(&self, namespace: &str, resource: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let wanted = &wanted;
        self.patiently(resource, || async move {
            let list = self.admin.kubectl(["get", resource, "--namespace", namespace]).json().await?;
            Ok(list["items"].as_array().context("items")?.iter().find(|item| wanted(item)).cloned())
        })
        .await
    }

    async fn patiently<T, F: Future<Output = Result<Option<T>>>>(
        &self,
        what: &str,
        attempt: impl Fn() -> F,
    ) -> Result<T> {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(30) {
            if let Some(found) = attempt().await? {
                return Ok(found);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("{what} did not come")
    }
}

pub fn create(who: &Identity, namespace: &str, object: &Value) -> Kubectl {
    who.kubectl(["create", "--namespace", namespace, "--filename", "-"]).stdin(object.to_string())
}

/// A Job that would start at once.
pub fn job(name: &str) -> Value {
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"template": {"spec": pod_spec()}}})
}

pub fn pod_spec() -> Value {
    json!({"restartPolicy": "Never", "containers": [{"name": "main", "image": "localhost/remediate:1"}]})
}
