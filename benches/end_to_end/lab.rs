//! The control plane of a measurement, Countersign or a null writer on it, and what waits to be approved.

use crate::arrivals::Load;
use crate::null_writer::{NullWriter, Template};
use crate::plain::Plain;
use crate::support::many::approval;
use crate::support::process::Process;
use crate::support::{Space, bare, by_sre, client, countersign, merge, requests};
use crate::webhook::NoOp;
use crate::{arrivals, audit, machine};
use anyhow::{Context, Result};
use countersign_testbed::{ControlPlane, Operator, Options};
use kube::api::{Api, DynamicObject};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Who the operator is to the API server.
pub const OPERATOR: &str = "system:serviceaccount:countersign-system:countersign";

/// How long the control plane rests before something is measured.
pub const REST: Duration = Duration::from_secs(2);
/// How long it may take an operator to come to rest after its start.
const PATIENCE: Duration = Duration::from_secs(300);
/// For whatever is prepared, beyond every limit of Kubernetes' own.
const FAST: u32 = 1000;

/// Who releases what was approved.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Subject {
    /// The same writes without logic.
    Null,
    /// The same writes without logic, by an operator as controller-runtime has it.
    Plain,
    /// The operator.
    Countersign,
}

impl Subject {
    /// What tables call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Null => "null writer",
            Self::Plain => "controller-runtime",
            Self::Countersign => "Countersign",
        }
    }
}

/// A control plane with Countersign's manifests, and one subject at a time.
pub struct Lab {
    pub cluster: ControlPlane,
    subject: Subject,
    operator: Option<Operator>,
    no_op: NoOp,
    template: Arc<Template>,
    null: NullWriter,
    plain: Option<Plain>,
    controller_qps: u32,
}

/// Requests that wait for one approval each: their names and digests.
pub struct Waiting {
    pub space: Space,
    pub digests: BTreeMap<String, String>,
}

/// A control plane that stores as one does in earnest, with Countersign's manifests.
pub async fn control_plane() -> Result<ControlPlane> {
    bare(Options { fsync: true, audit_bodies: false, kube_api_qps: FAST, ..Options::default() }).await
}

impl Lab {
    /// Starts everything. While something is measured, kube-controller-manager allows itself so many requests per second. With
    /// `plain`, a plain operator is to be measured as well.
    pub async fn start(controller_qps: u32, plain: bool) -> Result<Self> {
        let cluster = control_plane().await?;
        let operator = countersign().start(&cluster).await?;
        let template = Arc::new(Template::make(&cluster).await?);
        let null = NullWriter::new(&cluster, template.clone()).await?;
        let identity = countersign().identity(&cluster).await?;
        let plain = plain.then(|| Plain::new(&cluster, identity, &template)).transpose()?;
        let (subject, operator, no_op) = (Subject::Countersign, Some(operator), NoOp::serve()?);
        Ok(Self { cluster, subject, operator, no_op, template, null, plain, controller_qps })
    }

    /// Makes Jobs and requests in a namespace of that name, and waits until all are bound and nobody touches the Jobs.
    pub async fn prepare(&self, namespace: &str, count: usize) -> Result<Waiting> {
        let space = Space::given(&self.cluster.admin(), None, namespace).await?;
        space.policy(by_sre()).await?;
        let digests = space.bound_many(count).await?;
        space.settled().await?;
        Ok(Waiting { space, digests })
    }

    /// From now on, things are prepared.
    pub async fn prepares(&mut self) -> Result<()> {
        self.take(Subject::Countersign).await?;
        self.cluster.restart_controller_manager(FAST)
    }

    /// From now on, things are measured.
    pub async fn measures(&mut self) -> Result<()> {
        self.cluster.restart_controller_manager(self.controller_qps)?;
        // It reads everything there is, and with thousands of Jobs looks at them for long.
        tokio::time::sleep(Duration::from_secs(4)).await;
        machine::rests().await
    }

    /// Has that subject release, and no other.
    pub async fn take(&mut self, subject: Subject) -> Result<()> {
        if subject == self.subject {
            return Ok(());
        }
        let admin = self.cluster.admin();
        if self.subject == Subject::Countersign {
            self.operator = None;
            let both = "mutatingwebhookconfigurations,validatingwebhookconfigurations";
            admin.kubectl(["delete", both, "countersign"]).ok().await?;
            let requests = ["countersign.dev", "*", "approvalrequests"];
            self.no_op.register(&self.cluster, "no-op", requests, json!({})).await?;
            tokio::time::sleep(REST).await;
        }
        if let Some(plain) = &mut self.plain {
            plain.stop().await?;
            if subject == Subject::Plain {
                plain.start().await?;
            }
        }
        if subject == Subject::Countersign {
            admin.kubectl(["delete", "mutatingwebhookconfiguration", "no-op"]).ok().await?;
            self.operator = Some(countersign().start(&self.cluster).await?);
        }
        self.subject = subject;
        self.rests().await
    }

    /// Waits until an operator that was started has dealt with what others did meanwhile: that is no part of what is measured next.
    async fn rests(&self) -> Result<()> {
        let Some(process) = self.process()? else { return Ok(()) };
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            let (before, from) = (process.ran()?, audit::length(&self.cluster.audit_log())?);
            tokio::time::sleep(REST).await;
            let busy = process.ran()? - before >= REST / 10;
            // What others did to requests meanwhile is recorded by whoever comes next.
            if !busy && !audit::has_records(&self.cluster.audit_log(), from)? {
                return Ok(());
            }
        }
        anyhow::bail!("what was started is still at work after {PATIENCE:?}")
    }

    /// The process of the operator that runs; the null writer has none of its own.
    pub fn process(&self) -> Result<Option<Process>> {
        let plain = self.plain.as_ref().and_then(Plain::id).map(Process::new);
        let ours = self.operator.as_ref().map(|operator| operator.id().map(Process::new)).transpose()?;
        Ok(ours.or(plain))
    }

    /// Has alice approve everything that waits there, as the load says, and waits until all is released.
    pub async fn approve(&self, waiting: &Waiting, load: Load) -> Result<()> {
        let alice = client(&self.cluster.user("alice", &["sre"])?).await?;
        let alice: Api<DynamicObject> = Api::namespaced_with(alice, &waiting.space.namespace, &requests());
        let log = self.cluster.audit_log();
        let from = audit::length(&log)?;
        if self.subject == Subject::Null {
            self.null.approve(&alice, waiting, load).await?;
        } else {
            let reviews = waiting.digests.iter().map(|(name, digest)| {
                // Without our webhook, the review comes as it would leave it.
                let review = if self.operator.is_some() { approval(digest) } else { self.template.review(digest) };
                let (alice, name) = (alice.clone(), name.clone());
                async move { merge(&alice, &name, &review).await.map(drop).context("a review") }
            });
            arrivals::send(load, reviews.collect()).await?;
        }
        audit::wait_for(&log, from, &waiting.space.namespace, waiting.digests.len()).await
    }
}
