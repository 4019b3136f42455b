//! What admission adds to the creation of a Job: in a namespace that is gated, beside one that is not, and beside one where
//! a webhook answers yes.

use crate::audit::time;
use crate::lab::control_plane;
use crate::report::Report;
use crate::support::{Space, by_sre, client, countersign, create, job};
use crate::webhook::NoOp;
use anyhow::{Context, Result, ensure};
use countersign_testbed::{AuditFilter, ControlPlane, Mark};
use jiff::Unit;
use kube::api::{Api, DynamicObject};
use serde_json::json;
use std::time::Duration;

/// Between two creations, so that what the operator does about one does not meet the next.
const PAUSE: Duration = Duration::from_millis(25);

/// Creates Jobs in each of three namespaces in turn.
pub async fn measure(jobs: usize, rounds: usize, report: &mut Report) -> Result<()> {
    let cluster = control_plane().await?;
    let _operator = countersign().start(&cluster).await?;
    let no_op = NoOp::serve()?;
    let mut places = vec![];
    for name in ["not-gated", "no-op-webhook", "gated"] {
        let space = Space::given(&cluster.admin(), None, name).await?;
        let space = if name == "gated" { space.gate().await? } else { space };
        let mut rules = by_sre();
        rules[0].as_object_mut().map(|rule| rule.remove("when"));
        space.policy(rules).await?;
        let triage = client(&space.triage).await?;
        let resource = kube::api::ApiResource::erase::<k8s_openapi::api::batch::v1::Job>(&());
        places.push((name, Api::namespaced_with(triage, name, &resource)));
    }
    let selector = json!({"matchLabels": {"kubernetes.io/metadata.name": "no-op-webhook"}});
    no_op.register(&cluster, "no-op", ["batch", "v1", "jobs"], selector).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    // The first of all connect, and fill what the API server caches.
    create_in_turn(&places, "warm", 20).await?;
    for round in 0..rounds {
        let mark = cluster.audit_log().settle().await?;
        create_in_turn(&places, &format!("job-{round}"), jobs).await?;
        add(&cluster, mark, &places, report).await?;
    }
    Ok(())
}

async fn create_in_turn(places: &[(&str, Api<DynamicObject>)], name: &str, count: usize) -> Result<()> {
    for number in 0..count {
        for (_, jobs) in places {
            create(jobs, &job(&format!("{name}-{number:04}"))).await?;
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(())
}

async fn add(
    cluster: &ControlPlane,
    mark: Mark,
    places: &[(&str, Api<DynamicObject>)],
    report: &mut Report,
) -> Result<()> {
    cluster.audit_log().settle().await?;
    let mut all = vec![];
    for (name, _) in places {
        let made = AuditFilter::new().verb("create").resource("jobs").namespace(name).code(201);
        let mut times = vec![];
        for event in cluster.audit_log().select(mark, &made)? {
            let took = time(&event, "stageTimestamp")? - time(&event, "requestReceivedTimestamp")?;
            times.push(took.total(Unit::Millisecond)?);
        }
        report.add_times("create a Job", name, &mut times.clone());
        all.push(times);
    }
    let [plain, no_op, gated] = <[Vec<f64>; 3]>::try_from(all).ok().context("three places")?;
    ensure!(plain.len() == gated.len() && no_op.len() == gated.len(), "a Job was not created");
    for (beside, others) in [("not gated", &plain), ("a no-op webhook", &no_op)] {
        let mut added: Vec<f64> = gated.iter().zip(others).map(|(gated, other)| gated - other).collect();
        report.add_times("create a Job", &format!("gated, beside {beside}:"), &mut added);
    }
    Ok(())
}
