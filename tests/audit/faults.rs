//! Answers that get lost: a write reaches etcd, and the operator never hears of it. Each kind of write that one request takes
//! is learned, and then cut once, one run for each.

use crate::effects::all_recorded;
use crate::support::{Space, by_sre, countersign};
use crate::{Lab, lab, transitions};
use anyhow::{Context, Result, bail, ensure};
use countersign_testbed::{AuditFilter, Effect, Fault, FaultProxy, Identity, Mark};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const NAMESPACE: &str = "audit-faults";
const OPERATOR: &str = "system:serviceaccount:countersign-system:countersign";
/// Stands for the name of a run in a path.
const RUN: &str = "{run}";

/// A part of a request's life; the operator is at rest between two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// It is made, evaluated, bound.
    Asked,
    /// It is approved and released.
    Reviewed,
    /// It is deleted and let go.
    Deleted,
}

/// A write of the operator: in which phase, its method, and its path with [`RUN`] for the run's name.
type Learned = (Phase, String, String);

/// The space of all runs, the operator behind its proxy, and who approves.
struct Stage<'a> {
    lab: &'a Lab,
    space: Space,
    proxy: FaultProxy,
    alice: Identity,
}

impl Stage<'_> {
    /// One request from its creation to its end, with this fault in its phase. Returns what the operator wrote.
    async fn run(&self, name: &str, fault: Option<(&Learned, Effect)>) -> Result<BTreeSet<Learned>> {
        // Another rule each time, so that its snapshot is not kept yet.
        let mut rules = by_sre();
        rules[0]["reason"] = json!(format!("prod write of {name}"));
        self.space.policy(rules).await?;
        let mut wrote = BTreeSet::new();
        let mut digest = String::new();
        for phase in [Phase::Asked, Phase::Reviewed, Phase::Deleted] {
            self.proxy.take_asked();
            if let Some(((_, method, path), effect)) = fault.filter(|(learned, _)| learned.0 == phase) {
                self.proxy.inject(Fault { method: method.clone(), path: path.replace(RUN, name), effect });
            }
            match phase {
                Phase::Asked => {
                    digest = self.space.bound(name).await?;
                    self.recorded(name, "Evaluated").await?;
                }
                Phase::Reviewed => {
                    self.space.review(&self.alice, name, "Approve", &digest).ok().await?;
                    self.space.state(name, "Released").await?;
                    self.recorded(name, "Released").await?;
                }
                Phase::Deleted => {
                    let delete = ["delete", "apr", name, "-n", NAMESPACE, "--timeout=30s"];
                    self.space.admin.kubectl(delete).ok().await?;
                }
            }
            let asked = self.proxy.take_asked().into_iter().filter(|asked| asked.method != "GET");
            wrote.extend(asked.map(|asked| (phase, asked.method, asked.path.replace(name, RUN))));
            let unmet = self.proxy.take_armed();
            ensure!(unmet.is_empty(), "{name}: no request met {unmet:?}");
        }
        Ok(wrote)
    }

    /// Waits until the stored trail tells that the request came to that.
    async fn recorded(&self, name: &str, transition: &str) -> Result<()> {
        let began = Instant::now();
        loop {
            let records = self.lab.cluster.storage().list(crate::RECORDS).await?;
            let entries: Vec<Value> = records
                .iter()
                .flat_map(|(_, r)| r["spec"]["entries"].as_array().cloned().unwrap_or_default())
                .collect();
            if transitions(&entries, NAMESPACE, name).contains(&transition) {
                return Ok(());
            }
            if began.elapsed() > Duration::from_secs(30) {
                bail!("{name}: {transition} is not recorded");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// How often the operator started each Job.
    async fn started_once(&self, names: &[String]) -> Result<()> {
        let log = self.lab.cluster.audit_log();
        log.settle().await?;
        let patched = AuditFilter::new().user(OPERATOR).verb("patch").resource("jobs").namespace(NAMESPACE).code(200);
        for name in names {
            let patches = log.select(Mark::START, &patched.clone().name(name))?;
            ensure!(patches.len() == 1, "{name} was started by {} writes", patches.len());
        }
        Ok(())
    }
}

/// What a fault is about: what each request takes again. Not Events, which may get lost, not checkpoints, which come by the
/// clock, and not what the operator, just started, still does for others.
fn matters((_, _, path): &Learned) -> bool {
    let shared = ["/approvalrecords", "/controllerrevisions"].iter().any(|part| path.ends_with(part));
    (path.contains(RUN) || shared) && !path.contains("/events")
}

#[tokio::test]
async fn whichever_answer_gets_lost_the_trail_is_whole_and_nothing_happens_twice() -> Result<()> {
    let mut lab = lab().await?;
    let outcome = every_write_is_lost_once(&mut lab).await;
    // Its operator goes where the proxy goes; whoever comes next starts one of their own.
    lab.kill();
    outcome
}

async fn every_write_is_lost_once(lab: &mut Lab) -> Result<()> {
    lab.kill();
    let proxy = FaultProxy::start(lab.cluster, &countersign().identity(lab.cluster).await?).await?;
    let operator = countersign().start_as(lab.cluster, proxy.identity(), &[]).await?;
    *lab.operator = Some(operator);
    let space = Space::new(lab.cluster, NAMESPACE).await?;
    let alice = lab.user("alice", "sre")?;
    let stage = Stage { lab, space, proxy, alice };

    let learned: Vec<Learned> = stage.run("learned", None).await?.into_iter().filter(matters).collect();
    for (phase, part) in [
        (Phase::Asked, "/controllerrevisions"),
        (Phase::Asked, "/approvalrequests/{run}/status"),
        (Phase::Asked, "/approvalrecords"),
        (Phase::Reviewed, "/jobs/{run}"),
        (Phase::Reviewed, "/approvalrequests/{run}/status"),
        (Phase::Reviewed, "/approvalrecords"),
        (Phase::Deleted, "/approvalrequests/{run}"),
    ] {
        ensure!(
            learned.iter().any(|(p, _, path)| *p == phase && path.ends_with(part)),
            "{phase:?} {part}: {learned:#?}"
        );
    }
    let record = |(phase, _, path): &&Learned| *phase == Phase::Reviewed && path.ends_with("/approvalrecords");
    // A record that takes long holds nothing up but what comes after it.
    let slow = learned.iter().filter(record).map(|fault| (fault, Effect::Delay(Duration::from_millis(800))));
    let cut = |effect| learned.iter().map(move |fault| (fault, effect));
    let faults = cut(Effect::CutAfter).chain(cut(Effect::CutBefore)).chain(slow);
    let mut names = vec!["learned".to_string()];
    for (fault, effect) in faults {
        let name = format!("run-{:02}", names.len());
        stage.run(&name, Some((fault, effect))).await.with_context(|| format!("{effect:?} {fault:?}"))?;
        names.push(name);
    }
    let log = lab.operator.as_ref().context("operator")?.log();
    for noticed in ["the audit trail was not written", "failed, trying again"] {
        ensure!(log.contains(noticed), "the operator never noticed that something got lost: {noticed}");
    }
    stage.started_once(&names).await?;
    let told: Vec<_> = names.iter().map(|name| (NAMESPACE, name.as_str(), "Released")).collect();
    let export = lab.export("faults", &told).await?;
    let (whole, said) = export.verify(&export.trail).await?;
    ensure!(whole, "no gap, no twin, no fork: {said}");
    let entries = export.entries()?;
    for name in &names {
        let told = transitions(&entries, NAMESPACE, name);
        assert_eq!(told, ["Requested", "Evaluated", "Reviewed", "Approved", "Released"], "{name}");
    }
    all_recorded(lab).await
}
