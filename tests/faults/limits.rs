//! Quotas that are full. That of records is tried in `tests/audit/crash.rs`, that of requests in `apart.rs`.

use crate::case::{Case, RUN};
use crate::judge::End;
use crate::support::{by_sre, merge};
use crate::*;
use serde_json::{Value, json};

/// Within that time after a quota is lifted what waits for it goes on: the operator waits twice as long after each failure.
const RESUMES: Duration = Duration::from_secs(10);
const FULL: Duration = Duration::from_millis(1500);

/// Allows no such object in that namespace, from when this returns.
pub async fn full(case: &Case, namespace: &str, resource: &str) -> Result<()> {
    let count = format!("count/{resource}");
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full", "namespace": namespace},
        "spec": {"hard": {&count: "0"}}});
    let admin = &case.space.admin;
    admin.kubectl(["create", "--filename", "-"]).stdin(quota.to_string()).ok().await?;
    let began = Instant::now();
    loop {
        let quota = admin.kubectl(["get", "resourcequota", "full", "-n", namespace]).json().await?;
        if quota["status"]["hard"][&count].is_string() {
            return Ok(());
        }
        ensure!(began.elapsed() < Duration::from_secs(30), "the quota is not in force: {quota}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

pub async fn lift(case: &Case, namespace: &str) -> Result<()> {
    case.space.admin.kubectl(["delete", "resourcequota", "full", "-n", namespace]).ok().await?;
    Ok(())
}

/// Snapshots of policies are kept as ControllerRevisions. One that cannot be kept binds no request; what was bound goes on.
#[tokio::test]
async fn a_snapshot_that_has_no_room_binds_nothing_until_it_has() -> Result<()> {
    let stand = alone_with_proxy().await?;
    let bound = Case::pending("faults-kept").await?;
    full(&bound, "countersign-system", "controllerrevisions.apps").await?;
    let outcome = without_room(&stand, &bound).await;
    lift(&bound, "countersign-system").await?;
    let mut unbound = outcome?;
    let lifted = Instant::now();
    unbound.is_bound().await?;
    eprintln!("bound {:?} after there was room", lifted.elapsed());
    ensure!(lifted.elapsed() < RESUMES, "it took {:?}", lifted.elapsed());
    unbound.approve().await?;
    unbound.released(RESUMES).await?;
    unbound.ends(End::Started).await?;
    bound.ends(End::Started).await
}

async fn without_room(stand: &Stand, bound: &Case) -> Result<Case> {
    stand.proxy.take_asked();
    let unbound = Case::asked("faults-unkept", by_sre()).await?;
    tokio::time::sleep(FULL).await;
    let asked = stand.proxy.count("/controllerrevisions");
    ensure!((1..=12).contains(&asked), "{asked} requests for one snapshot");
    let stored: Value = unbound.stored().await?;
    ensure!(stored["status"].get("digest").is_none(), "bound to what is not kept: {stored:#}");
    bound.approve().await?;
    bound.released(RESUMES).await?;
    // A change that is not kept starts nothing either.
    merge(&unbound.space.api("jobs"), RUN, &json!({"metadata": {"annotations": {"example.com/seen": "now"}}})).await?;
    ensure!(!unbound.space.started(RUN).await?);
    Ok(unbound)
}
