//! What an approval costs the API server, and many approvals at once. One test at a time: each counts everything that
//! the operators send.

mod again;
#[path = "../support/mod.rs"]
mod support;

use anyhow::{Context, Result, ensure};
use countersign_testbed::{AuditFilter, ControlPlane, Mark, Options};
use futures::stream::{self, StreamExt, TryStreamExt};
use kube::api::{Api, DynamicObject};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use support::many::{approval, list};
use support::{Space, by_sre, client, installed_with, merge};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

const OPERATOR: &str = "system:serviceaccount:countersign-system:countersign";

/// The control plane that these tests share, one after the other; none leaves an operator behind.
async fn cluster() -> Result<(&'static ControlPlane, MutexGuard<'static, ()>)> {
    static CLUSTER: OnceCell<ControlPlane> = OnceCell::const_new();
    static TURN: Mutex<()> = Mutex::const_new(());
    let turn = TURN.lock().await;
    let options = Options { kube_api_qps: LIMIT, ..Options::default() };
    Ok((CLUSTER.get_or_try_init(|| installed_with(options)).await?, turn))
}

async fn as_alice(cluster: &ControlPlane, space: &Space) -> Result<Api<DynamicObject>> {
    let client = client(&cluster.user("alice", &["sre"])?).await?;
    Ok(Api::namespaced_with(client, &space.namespace, &support::requests()))
}

/// Kubernetes' own limit for controllers, in requests per second: without it, running the Pods of what was released takes most of
/// the machine, and what is measured is that.
const LIMIT: u32 = 20;
/// As good as none, for what is not measured.
const NO_LIMIT: u32 = 1000;

/// Waits until the Job controller is done with all of these, and with what it still had to do about an earlier test.
async fn settled(cluster: &ControlPlane, space: &Space) -> Result<()> {
    cluster.restart_controller_manager(NO_LIMIT)?;
    space.settled().await?;
    cluster.restart_controller_manager(LIMIT)
}

async fn all_released(space: &Space, count: usize) -> Result<()> {
    let began = Instant::now();
    loop {
        let states: Vec<_> =
            list(&space.api("approvalrequests")).await?.iter().map(|r| r["status"]["state"].clone()).collect();
        if states.iter().filter(|s| **s == "Released").count() == count {
            return Ok(());
        }
        ensure!(!states.iter().any(|s| ["Expired", "Denied", "Cancelled"].iter().any(|end| s == end)), "{states:?}");
        ensure!(began.elapsed().as_secs() < 120, "not all are released: {states:?}");
        tokio::time::sleep(Duration::from_millis(1000)).await;
    }
}

/// What the operators sent since `mark`, without Events, which may be shed.
async fn sent(cluster: &ControlPlane, mark: Mark) -> Result<Vec<Value>> {
    let log = cluster.audit_log();
    log.settle().await?;
    let mut events = log.select(mark, &AuditFilter::new().user(OPERATOR))?;
    events.retain(|e| e["objectRef"]["resource"] != "events");
    Ok(events)
}

fn is(event: &Value, verb: &str, resource: &str, subresource: Option<&str>) -> bool {
    let about = &event["objectRef"];
    event["verb"] == verb && about["resource"] == resource && about["subresource"].as_str() == subresource
}

/// A record of the audit trail, or a checkpoint.
fn of_the_trail(event: &Value) -> bool {
    is(event, "create", "approvalrecords", None) || is(event, "patch", "configmaps", None)
}

/// However much there is to record, there are at most four records a second, and one checkpoint every five seconds. How many
/// writes that is for an approval depends on how fast approvals come.
fn few_writes_of_the_trail(events: &[Value], took: Duration) {
    let count = |verb, resource| events.iter().filter(|e| is(e, verb, resource, None)).count();
    let (records, checkpoints) = (count("create", "approvalrecords"), count("patch", "configmaps"));
    println!("the audit trail took {records} records and {checkpoints} checkpoints in {took:?}");
    let seconds = took.as_secs() as usize + 1;
    assert!(records > 0 && records <= 4 * seconds + 1, "{records} records in {took:?}");
    assert!(checkpoints <= seconds / 5 + 1, "{checkpoints} checkpoints in {took:?}");
}

/// Each Job was started by exactly one write, whichever operator made it.
async fn started_once(cluster: &ControlPlane, space: &Space, mark: Mark, count: usize) -> Result<()> {
    let mut patches: BTreeMap<String, usize> = BTreeMap::new();
    for event in sent(cluster, mark).await? {
        if is(&event, "patch", "jobs", None) && event["responseStatus"]["code"] == 200 {
            *patches.entry(event["objectRef"]["name"].as_str().context("name")?.to_string()).or_default() += 1;
        }
    }
    assert_eq!(patches.len(), count);
    assert!(patches.values().all(|n| *n == 1), "{patches:?}");
    for job in list(&space.api("jobs")).await? {
        assert_eq!(job["spec"]["suspend"], json!(false), "{job}");
        assert_eq!(job.pointer("/metadata/annotations/countersign.dev~1closed"), None);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_costs_two_writes_and_no_read_and_rest_costs_nothing() -> Result<()> {
    let (cluster, _turn) = cluster().await?;
    let _operator = support::countersign().start(cluster).await?;
    let space = Space::new(cluster, "cost").await?;
    space.policy(by_sre()).await?;
    let count = 20;
    let digests = space.bound_many(count).await?;
    let alice = as_alice(cluster, &space).await?;
    settled(cluster, &space).await?;
    let mark = cluster.audit_log().settle().await?;
    let began = Instant::now();
    for (name, digest) in &digests {
        merge(&alice, name, &approval(digest)).await?;
        space.state(name, "Released").await?;
    }
    let events = sent(cluster, mark).await?;
    let took = began.elapsed();
    for name in digests.keys() {
        let own: Vec<_> = events.iter().filter(|e| e["objectRef"]["name"] == **name).collect();
        assert_eq!(own.len(), 2, "{own:#?}");
        assert!(
            is(own[0], "patch", "jobs", None) && is(own[1], "patch", "approvalrequests", Some("status")),
            "{own:#?}"
        );
        assert!(own.iter().all(|e| e["responseStatus"]["code"] == 200));
    }
    let others = events.iter().filter(|e| e["verb"] != "watch" && !of_the_trail(e)).count();
    assert_eq!(others, 2 * count, "nothing else, no read above all");
    few_writes_of_the_trail(&events, took);
    let told = AuditFilter::new().user(OPERATOR).resource("events").namespace("cost");
    let told = cluster.audit_log().count(Mark::START, &told)?;
    let of_operator = |e: &Value| e["reportingController"] == "countersign.dev/operator";
    let told_of = list(&space.api("events")).await?.into_iter().filter(of_operator);
    let reasons: Vec<_> = told_of.map(|e| format!("{}: {}", e["regarding"]["name"], e["reason"])).collect();
    assert!((1..=2 * count).contains(&told), "at most one Event a transition (bound, released): {told}, {reasons:#?}");

    // The last checkpoint comes within five seconds.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let mark = cluster.audit_log().settle().await?;
    tokio::time::sleep(Duration::from_secs(20)).await;
    let at_rest = sent(cluster, mark).await?;
    assert!(at_rest.iter().all(|e| e["verb"] == "watch"), "{at_rest:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn at_fifty_approvals_a_second_few_writes_fail() -> Result<()> {
    let (cluster, _turn) = cluster().await?;
    let _operator = support::countersign().start(cluster).await?;
    let space = Space::new(cluster, "fifty").await?;
    space.policy(by_sre()).await?;
    let count = 300;
    let digests = space.bound_many(count).await?;
    settled(cluster, &space).await?;
    let alice = as_alice(cluster, &space).await?;
    let mark = cluster.audit_log().settle().await?;
    let began = Instant::now();
    // Open loop: an approval every 20 ms, whether the ones before are answered or not.
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let mut sending = tokio::task::JoinSet::new();
    for (name, digest) in digests {
        ticks.tick().await;
        let alice = alice.clone();
        sending.spawn(async move { merge(&alice, &name, &approval(&digest)).await.map(drop) });
    }
    while let Some(sent) = sending.join_next().await {
        sent??;
    }
    all_released(&space, count).await?;
    let events = sent(cluster, mark).await?;
    let took = began.elapsed();
    let failed = events.iter().filter(|e| e["responseStatus"]["code"].as_u64().is_some_and(|c| c >= 400)).count();
    let per_approval = failed as f64 / count as f64;
    println!("{failed} failed writes in {count} approvals: {per_approval:.3} each");
    assert!(per_approval < 0.05, "{failed} failed writes in {count} approvals");
    few_writes_of_the_trail(&events, took);
    assert!(!events.iter().any(|e| e["verb"] == "get" || e["verb"] == "list"));
    started_once(cluster, &space, mark, count).await
}

/// Approves what has these digests by name, so many at once.
async fn approve_all(alice: &Api<DynamicObject>, digests: BTreeMap<String, String>, at_once: usize) -> Result<()> {
    stream::iter(digests)
        .map(|(name, digest)| async move { merge(alice, &name, &approval(&digest)).await.map(drop) })
        .buffer_unordered(at_once)
        .try_collect::<()>()
        .await?;
    Ok(())
}

async fn burst(namespace: &str, operators: usize) -> Result<()> {
    let (cluster, _turn) = cluster().await?;
    let _first = support::countersign().start(cluster).await?;
    let mut others = vec![];
    for _ in 1..operators {
        others.push(support::countersign().start_with(cluster, &[]).await?);
    }
    let space = Space::new(cluster, namespace).await?;
    space.policy(by_sre()).await?;
    let count = 500;
    let mark = cluster.audit_log().settle().await?;
    let digests = space.bound_many(count).await?;
    let alice = as_alice(cluster, &space).await?;
    let began = Instant::now();
    approve_all(&alice, digests, 64).await?;
    all_released(&space, count).await?;
    let seconds = began.elapsed().as_secs_f64();
    let failed =
        sent(cluster, mark).await?.iter().filter(|e| e["responseStatus"]["code"].as_u64() >= Some(400)).count();
    println!("{count} approvals with {operators} operator(s): {seconds:.1} s, {failed} failed writes");
    started_once(cluster, &space, mark, count).await
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_at_once_are_each_released_once() -> Result<()> {
    burst("burst-one", 1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_at_once_with_two_operators_are_each_released_once() -> Result<()> {
    burst("burst-two", 2).await
}
