//! The control plane of a measurement, Countersign or a null writer on it, and what waits to be approved.

use crate::arrivals::Load;
use crate::null_writer::{NullWriter, Template};
use crate::support::many::approval;
use crate::support::process::Process;
use crate::support::{Space, bare, by_sre, client, countersign, merge, requests};
use crate::webhook::NoOp;
use crate::{arrivals, audit};
use anyhow::{Context, Result};
use countersign_testbed::{ControlPlane, Operator, Options};
use kube::api::{Api, DynamicObject};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// Who the operator is to the API server.
pub const OPERATOR: &str = "system:serviceaccount:countersign-system:countersign";

/// How long the control plane rests before something is measured.
pub const REST: Duration = Duration::from_secs(2);
/// For whatever is prepared, beyond every limit of Kubernetes' own.
const FAST: u32 = 1000;

/// Who releases what was approved.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Subject {
    /// The same writes without logic.
    Null,
    /// The operator.
    Countersign,
}

impl Subject {
    /// What tables call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Null => "null writer",
            Self::Countersign => "Countersign",
        }
    }
}

/// A control plane with Countersign's manifests, and one subject at a time.
pub struct Lab {
    pub cluster: ControlPlane,
    operator: Option<Operator>,
    no_op: NoOp,
    null: NullWriter,
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
    /// Starts everything. While something is measured, kube-controller-manager allows itself so many requests per second.
    pub async fn start(controller_qps: u32) -> Result<Self> {
        let cluster = control_plane().await?;
        let operator = countersign().start(&cluster).await?;
        let template = Template::make(&cluster).await?;
        let null = NullWriter::new(&cluster, template).await?;
        Ok(Self { cluster, operator: Some(operator), no_op: NoOp::serve()?, null, controller_qps })
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
        // It reads everything there is.
        tokio::time::sleep(Duration::from_secs(6)).await;
        Ok(())
    }

    /// Has that subject release, and no other.
    pub async fn take(&mut self, subject: Subject) -> Result<()> {
        let admin = self.cluster.admin();
        match (subject, self.operator.is_some()) {
            (Subject::Null, true) => {
                self.operator = None;
                let both = "mutatingwebhookconfigurations,validatingwebhookconfigurations";
                admin.kubectl(["delete", both, "countersign"]).ok().await?;
                let requests = ["countersign.dev", "*", "approvalrequests"];
                self.no_op.register(&self.cluster, "null-writer", requests, json!({})).await?;
                tokio::time::sleep(REST).await;
            }
            (Subject::Countersign, false) => {
                admin.kubectl(["delete", "mutatingwebhookconfiguration", "null-writer"]).ok().await?;
                self.operator = Some(countersign().start(&self.cluster).await?);
            }
            _ => {}
        }
        Ok(())
    }

    /// The operator's process, where it runs.
    pub fn process(&self) -> Result<Option<Process>> {
        self.operator.as_ref().map(|operator| operator.id().map(Process::new)).transpose()
    }

    /// Has alice approve everything that waits there, as the load says, and waits until all is released.
    pub async fn approve(&self, waiting: &Waiting, load: Load) -> Result<()> {
        let alice = client(&self.cluster.user("alice", &["sre"])?).await?;
        let alice: Api<DynamicObject> = Api::namespaced_with(alice, &waiting.space.namespace, &requests());
        let log = self.cluster.audit_log();
        let from = audit::length(&log)?;
        if self.operator.is_some() {
            let reviews = waiting.digests.iter().map(|(name, digest)| {
                let (alice, name, review) = (alice.clone(), name.clone(), approval(digest));
                async move { merge(&alice, &name, &review).await.map(drop).context("a review") }
            });
            arrivals::send(load, reviews.collect()).await?;
        } else {
            self.null.approve(&alice, waiting, load).await?;
        }
        audit::wait_for(&log, from, &waiting.space.namespace, waiting.digests.len()).await
    }
}
