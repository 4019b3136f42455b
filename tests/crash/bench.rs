//! The control plane, the operator behind its proxy, and what people do in a run.

use crate::scenarios::{Act, Rest, Scenario};
use crate::support::{Space, client, countersign, create, installed, job, merge, policy, request, requests};
use crate::trail::Trail;
use anyhow::{Context, Result, bail, ensure};
use countersign_testbed::{ControlPlane, FaultProxy, Operator};
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject};
use kube::core::ApiResource;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

pub const NAMESPACE: &str = "crash";
/// All names are as long, so that none is the beginning of another.
pub const NAME_LENGTH: usize = "run-0000".len();
const POLL: Duration = Duration::from_millis(50);
/// Longer than the operator waits for an answer that does not come.
const PATIENCE: Duration = Duration::from_secs(45);

/// alice may approve whatever a policy leaves to RBAC.
const MAY_APPROVE: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: may-approve}
rules: [{apiGroups: [countersign.dev], resources: [approvalpolicies], verbs: [approve]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: may-approve}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: may-approve}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: alice}]
"#;

/// What all runs share. Everything happens in one gated namespace, so that the observer judges every run.
pub struct Bench {
    pub cluster: ControlPlane,
    pub proxy: FaultProxy,
    pub trail: Trail,
    space: Space,
    alice: Client,
    triage: Client,
    operator: Mutex<Option<Operator>>,
    named: AtomicUsize,
}

/// One telling of a scenario.
pub struct Run {
    pub scenario: &'static Scenario,
    /// Of the Job, the policy, and the request where the workflow asks itself.
    pub name: String,
}

impl Bench {
    pub async fn start() -> Result<Self> {
        let cluster = installed().await?;
        let proxy = FaultProxy::start(&cluster, &countersign().identity(&cluster).await?).await?;
        let first = countersign().begin(&cluster, proxy.identity(), &[])?;
        let space = Space::gated(&cluster, NAMESPACE).await?;
        space.admin.kubectl(["create", "-f", "-"]).stdin(MAY_APPROVE).ok().await?;
        let alice = client(&cluster.user("alice", &["sre"])?).await?;
        let triage = client(&space.triage).await?;
        let trail = Trail::new(space.client.clone());
        let bench = Self {
            cluster,
            proxy,
            trail,
            space,
            alice,
            triage,
            operator: Mutex::new(Some(first)),
            named: AtomicUsize::new(1),
        };
        bench.operator.lock().await.as_mut().context("an operator")?.ready().await?;
        Ok(bench)
    }

    pub fn run(&self, scenario: &'static Scenario) -> Run {
        Run { scenario, name: format!("run-{:04}", self.named.fetch_add(1, Ordering::Relaxed)) }
    }

    /// Kills the operator, as a power cut would.
    pub async fn kill(&self) {
        if let Some(operator) = self.operator.lock().await.take() {
            operator.kill();
        }
    }

    /// Starts an operator where none runs, and does not wait for it.
    pub async fn begin(&self, flags: &[&str]) -> Result<()> {
        *self.operator.lock().await = Some(countersign().begin(&self.cluster, self.proxy.identity(), flags)?);
        Ok(())
    }

    /// Whether the operator has ended by itself.
    pub async fn has_ended(&self) -> bool {
        self.operator.lock().await.as_mut().is_none_or(Operator::has_ended)
    }

    /// Makes the policy of a run, and waits until it is in force.
    pub async fn prepare(&self, run: &Run) -> Result<()> {
        if run.scenario.has_policy() {
            self.act(run, Act::MakePolicy).await?;
            self.rest(run, Rest::InForce).await?;
        }
        Ok(())
    }

    /// Has somebody do that, and try again while there is no operator to admit it.
    pub async fn act(&self, run: &Run, act: Act) -> Result<()> {
        let began = Instant::now();
        loop {
            match self.try_to(run, act).await {
                Ok(()) => return Ok(()),
                Err(error) if began.elapsed() > PATIENCE => return Err(error.context(format!("{}: {act:?}", run.name))),
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }

    async fn try_to(&self, run: &Run, act: Act) -> Result<()> {
        let name = run.name.as_str();
        match act {
            Act::MakePolicy => {
                let made = policy(name, NAMESPACE, run.scenario.rules(name));
                once(create(&self.space.api("approvalpolicies"), &made).await)
            }
            Act::EditPolicy => {
                let mut rules = run.scenario.rules(name);
                rules[0]["constraints"]["maxRuntimeSeconds"] = json!(300);
                let edit = json!({"spec": {"rules": rules}});
                Ok(merge(&self.space.api("approvalpolicies"), name, &edit).await.map(drop)?)
            }
            Act::Ask => {
                let mut held = job(name);
                held["metadata"]["annotations"] = json!({"countersign.dev/request": name});
                once(create(&self.jobs(), &held).await)?;
                let mut asks = request(name, Some(name));
                asks["spec"]["riskTags"] = json!([name]);
                once(create(&self.requests(&self.triage), &asks).await)
            }
            Act::MakeJob => {
                let mut free = job(name);
                free["spec"]["suspend"] = json!(false);
                free["metadata"]["annotations"] = json!({"countersign.dev/risk-tags": name});
                once(create(&self.jobs(), &free).await)
            }
            Act::Approve => self.review(run, "Approve").await,
            Act::Deny => self.review(run, "Deny").await,
            Act::Wait => Ok(()),
            Act::Withdraw => {
                let cancel = json!({"spec": {"cancel": true}});
                Ok(merge(&self.requests(&self.triage), name, &cancel).await.map(drop)?)
            }
            Act::DeleteJob => gone(self.jobs().delete(name, &DeleteParams::background()).await),
            Act::DeleteRequest => {
                let requests = self.space.api("approvalrequests");
                gone(requests.delete(&self.request(run).await?.name, &DeleteParams::default()).await)
            }
        }
    }

    async fn review(&self, run: &Run, decision: &str) -> Result<()> {
        let asked = self.request(run).await?;
        let review = json!({"spec": {"review": {"decision": decision, "digest": asked.object["status"]["digest"]}}});
        Ok(merge(&self.requests(&self.alice), &asked.name, &review).await.map(drop)?)
    }

    /// Waits until the operator has done its part of an act.
    pub async fn rest(&self, run: &Run, rest: Rest) -> Result<()> {
        let began = Instant::now();
        loop {
            if self.rests(run, rest).await? {
                return Ok(());
            }
            if began.elapsed() > PATIENCE {
                let stored = self.request(run).await.map(|request| request.object);
                bail!("{} does not come to {rest:?}: {stored:#?}", run.name);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn rests(&self, run: &Run, rest: Rest) -> Result<bool> {
        let told = async |transition: &str, times: usize| {
            let told = self.trail.transitions(&run.name).await?;
            anyhow::Ok(told.iter().filter(|told| *told == transition).count() >= times)
        };
        Ok(match rest {
            Rest::InForce => {
                let policy = self.space.get("approvalpolicies", &run.name).await?;
                policy["status"]["observedGeneration"] == policy["metadata"]["generation"]
                    && policy["status"]["conditions"][0]["status"] == "True"
            }
            Rest::Bound(times) => {
                let bound = |r: Request| r.object["status"]["revision"] == json!(times);
                self.request(run).await.is_ok_and(bound) && told("Evaluated", times).await?
            }
            Rest::State(state) => {
                let there = |r: Request| r.object["status"]["state"] == state;
                self.request(run).await.is_ok_and(there) && told(state, 1).await?
            }
            Rest::Gone => self.requests(&self.space.client).get_opt(&run.name).await?.is_none(),
        })
    }

    /// The request that speaks for the Job of a run.
    pub async fn request(&self, run: &Run) -> Result<Request> {
        let (name, own) = (&run.name, run.scenario.acts.iter().any(|(act, _)| *act == Act::Ask));
        if own {
            return Ok(Request { name: name.clone(), object: self.space.get("approvalrequests", name).await? });
        }
        for request in self.space.api("approvalrequests").list(&Default::default()).await? {
            let object = serde_json::to_value(&request)?;
            if object["spec"]["target"]["name"] == *name {
                return Ok(Request { name: request.metadata.name.context("a name")?, object });
            }
        }
        bail!("no request speaks for {name}")
    }

    /// The Job of a run, where there is one.
    pub async fn job(&self, run: &Run) -> Result<Option<Value>> {
        Ok(self.space.api("jobs").get_opt(&run.name).await?.map(serde_json::to_value).transpose()?)
    }

    /// What is left of a run would slow down the next ones: each policy is evaluated for each request.
    pub async fn forget(&self, run: &Run) -> Result<()> {
        gone(self.space.api("approvalpolicies").delete(&run.name, &DeleteParams::default()).await)
    }

    /// Frees the Lease, as if the operator that held it were long gone.
    pub async fn free_lease(&self) -> Result<()> {
        let leases = ApiResource::erase::<k8s_openapi::api::coordination::v1::Lease>(&());
        let leases: Api<DynamicObject> = Api::namespaced_with(self.space.client.clone(), "countersign-system", &leases);
        gone(leases.delete("countersign", &DeleteParams::default()).await)
    }

    /// The observer saw so many Jobs and releases, and nothing that was not approved.
    pub async fn observed(&self, jobs: usize, releases: usize) -> Result<()> {
        let observer = self.cluster.observer()?;
        observer.check_now().await?;
        let counts = observer.counts();
        let right = (counts.jobs, counts.releases, counts.overrides) == (jobs, releases, 0);
        ensure!(right, "of {jobs} Jobs and {releases} releases, the observer saw {counts:?}");
        Ok(())
    }

    fn jobs(&self) -> Api<DynamicObject> {
        let jobs = ApiResource::erase::<k8s_openapi::api::batch::v1::Job>(&());
        Api::namespaced_with(self.triage.clone(), NAMESPACE, &jobs)
    }

    fn requests(&self, who: &Client) -> Api<DynamicObject> {
        Api::namespaced_with(who.clone(), NAMESPACE, &requests())
    }
}

/// A stored request.
pub struct Request {
    pub name: String,
    pub object: Value,
}

/// Made, now or by an attempt before.
fn once(made: kube::Result<DynamicObject>) -> Result<()> {
    match made {
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(()),
        other => Ok(other.map(drop)?),
    }
}

/// Deleted, now or by an attempt before.
fn gone<T>(deleted: kube::Result<T>) -> Result<()> {
    match deleted {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => Ok(other.map(drop)?),
    }
}
