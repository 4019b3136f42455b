//! The operator has every right that it needs, and none that it does not: what its roles grant is what the API server's audit
//! log shows that it used.

use crate::granted::{Right, granted, taken, ungranted, unused};
use crate::life::{emulating, install};
use crate::support::{Space, by_sre, countersign, job, shared_roles};
use crate::{CHART, HOME};
use anyhow::{Context, Result, ensure};
use countersign_testbed::{AuditFilter, ControlPlane, Effect, Fault, FaultProxy, Identity, Mark, Operator};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const OPERATOR: &str = "system:serviceaccount:countersign-system:countersign";
const CERTIFICATE: &str = "/api/v1/namespaces/countersign-system/secrets/countersign-admission-certificate";
/// Everything that an operator can be told to do.
const FLAGS: [&str; 7] = [
    "--leader-elect",
    "--lease-seconds=3",
    "--admission-certificate=secret",
    "--read-secrets=content",
    "--audit-keep-entries=1",
    "--audit-prune-every=1",
    "--refusals-every=1",
];

struct Lab {
    cluster: ControlPlane,
    admin: Identity,
    alice: Identity,
}

impl Lab {
    /// Starts an operator, and meddles with the certificate while it writes it: it has to read it again.
    async fn start(&self) -> Result<(Operator, FaultProxy)> {
        let proxy = FaultProxy::start(&self.cluster, &countersign().identity(&self.cluster).await?).await?;
        let delay = Effect::Delay(Duration::from_secs(2));
        proxy.inject(Fault { method: "PUT".into(), path: CERTIFICATE.into(), effect: delay });
        let command = countersign();
        let starting = command.start_as(&self.cluster, proxy.identity(), &FLAGS);
        let (operator, ()) = tokio::try_join!(starting, self.meddle(&proxy))?;
        Ok((operator, proxy))
    }

    async fn meddle(&self, proxy: &FaultProxy) -> Result<()> {
        until("the certificate is written", async || {
            Ok(proxy.take_asked().iter().any(|asked| asked.method == "PUT" && asked.path == CERTIFICATE))
        })
        .await?;
        let secret = ["annotate", "secret", "countersign-admission-certificate", "somebody=wrote", "--namespace", HOME];
        self.admin.kubectl(secret).ok().await?;
        Ok(())
    }

    /// Asked, bound anew twice, approved and released.
    async fn asked(&self, space: &Space) -> Result<()> {
        space.policy(by_sre()).await?;
        space.bound("run").await?;
        for (revision, seconds) in [(2, 300), (3, 900)] {
            let mut edited = by_sre();
            edited[0]["constraints"]["maxRuntimeSeconds"] = json!(seconds);
            space.policy(edited).await?;
            space.wait("approvalrequests", "run", |r| r["status"]["revision"] == revision).await?;
        }
        let digest = space.digest("run").await?;
        space.review(&self.alice, "run", "Approve", &digest).ok().await?;
        space.state("run", "Released").await?;
        self.admin.kubectl(["delete", "apr", "run", "--namespace", &space.namespace, "--timeout=30s"]).ok().await?;
        Ok(())
    }

    /// A Job and a Pod that nobody asked for, let go; and a Job of a CronJob, denied.
    async fn held(&self, space: &Space) -> Result<()> {
        let mut rules = by_sre();
        rules[0].as_object_mut().context("a rule")?.remove("when");
        space.policy(rules).await?;
        let pod = job("tool")["spec"]["template"]["spec"].clone();
        space.create(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "tool"}, "spec": pod})).await?;
        space.create(&job("bare")).await?;
        for name in ["tool", "bare"] {
            space.approve(&self.alice, name).await?;
        }
        let template = json!({"spec": job("nightly")["spec"]});
        let cron_job = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "nightly"},
            "spec": {"schedule": "0 0 1 1 *", "jobTemplate": template}});
        let owner = space.create(&cron_job).await?["metadata"]["uid"].clone();
        let mut scheduled = job("nightly-1");
        scheduled["metadata"]["ownerReferences"] = json!([{"apiVersion": "batch/v1", "kind": "CronJob",
            "name": "nightly", "uid": owner, "controller": true}]);
        let controller = "--as=system:serviceaccount:kube-system:cronjob-controller";
        let create = ["create", "--namespace", &space.namespace, controller, "--filename", "-"];
        self.admin.kubectl(create).stdin(scheduled.to_string()).ok().await?;
        let request = space.request_for("nightly-1").await?;
        let name = request["metadata"]["name"].as_str().context("a name")?;
        let digest = space.digest(name).await?;
        space.review(&self.alice, name, "Deny", &digest).ok().await?;
        until("the denied Job is gone", async || Ok(space.api("jobs").get_opt("nightly-1").await?.is_none())).await
    }

    /// Approved by whom RBAC lets approve.
    async fn authorized(&self, space: &Space) -> Result<()> {
        let mut rules = by_sre();
        let approvers = json!([{"kind": "Authorized", "name": space.namespace}]);
        rules[0]["approvals"]["requirements"][0]["approvers"] = approvers;
        space.policy(rules).await?;
        let digest = space.bound("run").await?;
        // She may do everything, and so she may approve.
        space.review(&self.admin, "run", "Approve", &digest).ok().await?;
        space.state("run", "Released").await?;
        Ok(())
    }

    /// Exported, and then pruned.
    async fn pruned(&self) -> Result<()> {
        let kubeconfig = self.admin.kubeconfig.display().to_string();
        let trail = self.cluster.dir().join("trail.jsonl").display().to_string();
        let export = ["audit", "export", "--kubeconfig", &kubeconfig, "--output", &trail, "--acknowledge"];
        let deleted = AuditFilter::new().user(OPERATOR).verb("delete").resource("approvalrecords");
        until("records are pruned", async || {
            let _ = std::fs::remove_file(&trail);
            // It may come before the checkpoint that it needs.
            countersign().run(&export, "").await?;
            Ok(self.cluster.audit_log().count(Mark::START, &deleted)? > 0)
        })
        .await
    }

    /// Without an operator, an administrator takes off a finalizer in its name, as the runbook says.
    async fn let_go(&self, space: &Space) -> Result<()> {
        let within = |args: &[&str]| self.admin.kubectl(args.iter().copied().chain(["--namespace", &space.namespace]));
        within(&["delete", "apr", "left", "--wait=false"]).ok().await?;
        let patch = r#"--patch={"metadata":{"finalizers":null}}"#;
        within(&["patch", "apr", "left", "--type=merge", patch, &format!("--as={OPERATOR}")]).ok().await?;
        within(&["wait", "--for=delete", "apr/left", "--timeout=30s"]).ok().await?;
        Ok(())
    }

    /// What was done as the operator. Nothing of it was forbidden.
    async fn used(&self) -> Result<BTreeSet<Right>> {
        let log = self.cluster.audit_log();
        log.settle().await?;
        let mut events = log.events_since(Mark::START)?;
        let who = |event: &Value| event.get("impersonatedUser").unwrap_or(&event["user"])["username"].clone();
        events.retain(|event| who(event) == OPERATOR);
        let refused: Vec<_> = events.iter().filter(|event| event["responseStatus"]["code"] == 403).collect();
        ensure!(refused.is_empty(), "the operator was refused: {refused:#?}");
        Ok(events.iter().flat_map(taken).collect())
    }
}

async fn until(what: &str, mut reached: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let began = Instant::now();
    while !reached().await? {
        ensure!(began.elapsed() < Duration::from_secs(60), "waited until {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// One that is not needed is taken from the roles, not excused here.
#[tokio::test(flavor = "multi_thread")]
async fn the_operator_uses_every_right_that_it_has_and_needs_no_other() -> Result<()> {
    let cluster = emulating(36).await?;
    cluster.observer()?;
    let (admin, alice) = (cluster.admin(), cluster.user("alice", &["sre"])?);
    let lab = Lab { cluster, admin, alice };
    install(&lab.cluster, "install", CHART, &["--create-namespace", "--set=readSecrets=content"]).await?;
    lab.admin.kubectl(["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"]).ok().await?;
    shared_roles(&lab.cluster).await?;
    let (mut operator, _proxy) = lab.start().await?;
    lab.asked(&Space::new(&lab.cluster, "asked").await?).await.context("asked for")?;
    lab.held(&Space::gated(&lab.cluster, "held").await?).await.context("held")?;
    let space = Space::new(&lab.cluster, "authorized").await?;
    lab.authorized(&space).await.context("authorized")?;
    lab.pruned().await?;
    space.request("left", None).await?;
    operator.terminate().await?;
    lab.let_go(&space).await.context("let go by hand")?;

    let (granted, used) = (granted(&lab.admin, OPERATOR).await?, lab.used().await?);
    ensure!(granted.len() > 50 && used.len() > 50, "{granted:#?}\n{used:#?}");
    let idle = unused(&granted, &used);
    ensure!(idle.is_empty(), "granted and not used: {idle:#?}");
    let beyond = ungranted(&granted, &used);
    ensure!(beyond.is_empty(), "done by virtue of something else: {beyond:#?}");
    Ok(())
}
