//! What harms one kind of objects or one namespace alone, so that these run at the same time.

use crate::case::{Case, RUN};
use crate::judge::{self, End};
use crate::limits::{full, lift};
use crate::support::{create, job};
use crate::*;
use countersign_testbed::{Answer, Effect};
use serde_json::json;

// One watch for each storm, since the operator rests the longer the more often one failed lately; and on what no other test needs.
const NETWORK_POLICIES: &str = "/apis/networking.k8s.io/v1/networkpolicies";
const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/roles";
const ROLE_BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/rolebindings";
const CLUSTER_ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
const CONFIG_MAPS: &str = "/api/v1/configmaps";
/// How long a storm lasts.
const STORM: Duration = Duration::from_secs(2);
/// Within that time after a fault what was approved is released.
const RESUMES: Duration = Duration::from_secs(5);
/// Within that time a request that is never answered is given up.
const UNANSWERED: Duration = Duration::from_secs(20);

/// Has everything that the operator asks by that path meet this for a while. Returns how often it asked.
async fn asks(stand: &Stand, path: &str, effect: Effect) -> usize {
    stand.proxy.storm(Fault { method: "GET".into(), path: path.into(), effect });
    let before = stand.proxy.count(path);
    stand.proxy.cut_watches(path);
    tokio::time::sleep(STORM).await;
    let asked = stand.proxy.count(path) - before;
    stand.proxy.calm(path);
    asked
}

/// Alice approves after such a fault, and the operator has not missed it.
async fn afterwards(case: Case) -> Result<()> {
    case.approve().await?;
    let took = case.released(RESUMES).await?;
    eprintln!("{}: released {took:?} after the approval", case.space.namespace);
    case.ends(End::Started).await
}

/// Each watch is told again and again that its version is forgotten, in either way: it lists anew, and not in a hot loop.
#[tokio::test]
async fn a_history_that_is_always_forgotten_is_listed_anew_more_and_more_rarely() -> Result<()> {
    let stand = beside().await?;
    let case = Case::pending("faults-410").await?;
    for (path, effect) in [(NETWORK_POLICIES, Effect::Expired), (ROLES, Effect::ExpiredEvent)] {
        let asked = asks(&stand, path, effect).await;
        eprintln!("{effect:?}: {asked} requests in {STORM:?} for one watch");
        ensure!((2..=12).contains(&asked), "{asked} requests in {STORM:?} for one watch");
    }
    afterwards(case).await
}

/// A load balancer, say, that ends each watch as soon as it is open.
#[tokio::test]
async fn watches_that_end_at_once_are_opened_more_and_more_rarely() -> Result<()> {
    let stand = beside().await?;
    let case = Case::pending("faults-ends").await?;
    let asked = asks(&stand, ROLE_BINDINGS, Effect::EndsAtOnce).await;
    eprintln!("watches that end at once: {asked} requests in {STORM:?} for one watch");
    ensure!((2..=8).contains(&asked), "{asked} requests in {STORM:?} for one watch");
    afterwards(case).await
}

/// Lists and watches are refused for want of time, with a Retry-After.
#[tokio::test]
async fn a_list_waits_as_long_as_it_is_asked_to() -> Result<()> {
    let stand = beside().await?;
    let case = Case::pending("faults-busy").await?;
    let busy = Answer { code: 429, content_type: "text/plain", headers: &[("Retry-After", "3")], body: "busy" };
    let asked = asks(&stand, CLUSTER_ROLES, Effect::Answer(busy)).await;
    eprintln!("busy: {asked} requests in {STORM:?} for one watch");
    ensure!(asked == 1, "{asked} requests in {STORM:?} for one watch");
    afterwards(case).await
}

/// A list and a watch end in the midst of an object.
#[tokio::test]
async fn a_list_or_an_event_that_is_cut_short_is_asked_for_again() -> Result<()> {
    let stand = beside().await?;
    let case = Case::pending("faults-short").await?;
    let config_maps = case.space.api("configmaps");
    let named = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    // The watch is refused, the list after it is cut, and so is the next watch.
    for effect in [Effect::Expired, Effect::Truncate(60), Effect::Truncate(60)] {
        stand.proxy.inject(Fault { method: "GET".into(), path: CONFIG_MAPS.into(), effect });
    }
    let before = stand.proxy.count(CONFIG_MAPS);
    stand.proxy.cut_watches(CONFIG_MAPS);
    let began = Instant::now();
    for number in 0.. {
        // Something that the watch tells of, and is cut in the midst of it.
        create(&config_maps, &named(&format!("told-{number}"))).await?;
        if !stand.proxy.is_armed(CONFIG_MAPS) {
            break;
        }
        ensure!(began.elapsed() < Duration::from_secs(10), "no request met a fault");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let asked = stand.proxy.count(CONFIG_MAPS) - before;
    ensure!((3..=10).contains(&asked), "{asked} requests");
    afterwards(case).await
}

/// The connection is accepted, and nothing comes: a watch has a deadline to open, too.
#[tokio::test]
async fn a_watch_that_is_never_answered_is_given_up() -> Result<()> {
    let stand = beside().await?;
    let case = Case::pending("faults-hole-watch").await?;
    let pods = "/api/v1/pods";
    stand.proxy.inject(Fault { method: "GET".into(), path: pods.into(), effect: Effect::HoldBefore });
    let before = stand.proxy.count(pods);
    ensure!(stand.proxy.cut_watches(pods) == 1, "no watch is open");
    let cut = Instant::now();
    case.approve().await?;
    case.released(RESUMES).await?;
    while stand.proxy.count(pods) - before < 2 {
        ensure!(cut.elapsed() < UNANSWERED, "the watch is not given up");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    eprintln!("a watch that is not answered is given up after {:?}", cut.elapsed());
    ensure!(cut.elapsed() > Duration::from_secs(10), "given up after {:?}", cut.elapsed());
    case.ends(End::Started).await
}

#[tokio::test]
async fn a_job_whose_request_has_no_room_stays_held_until_it_has() -> Result<()> {
    let stand = beside().await?;
    let name = "faults-quota";
    let case = Case::pending(name).await?;
    full(&case, name, "approvalrequests.countersign.dev").await?;
    let mut second = job("second");
    second["spec"]["suspend"] = json!(false);
    second["metadata"]["annotations"] = json!({"countersign.dev/risk-tags": "prod,write"});
    let before = stand.proxy.count(&case.part());
    create(&case.space.api("jobs"), &second).await?;
    tokio::time::sleep(STORM).await;
    let asked = stand.proxy.count(&case.part()) - before;
    ensure!((1..=12).contains(&asked), "{asked} requests for one that has no room");
    ensure!(!case.space.started("second").await?);
    // What was asked for before is decided.
    case.approve().await?;
    case.released(RESUMES).await?;
    lift(&case, name).await?;
    let lifted = Instant::now();
    let made = case.space.request_for("second").await?;
    eprintln!("{asked} requests without room, one was made {:?} after", lifted.elapsed());
    ensure!(lifted.elapsed() < RESUMES * 2, "it took {:?}", lifted.elapsed());
    let request = made["metadata"]["name"].as_str().context("name")?;
    let digest = case.space.digest(request).await?;
    let alice = cluster().await?.user("alice", &["sre"])?;
    case.space.review(&alice, request, "Approve", &digest).ok().await?;
    case.space.state(request, "Released").await?;
    let keys = judge::keys(cluster().await?).await?;
    case.ends_under(&keys, &[(RUN, End::Started), ("second", End::Started)]).await
}

/// Alice approves while everything in the namespace is on its way out.
#[tokio::test]
async fn a_namespace_that_ends_takes_its_requests_along() -> Result<()> {
    let stand = beside().await?;
    let name = "faults-ends-with";
    let case = Case::pending(name).await?;
    let before = stand.proxy.count(&case.part());
    let began = Instant::now();
    case.space.admin.kubectl(["delete", "namespace", name, "--wait=false"]).ok().await?;
    // Whether it is taken or not: what is not there cannot start, and what still is was approved.
    let tried = case.try_to_approve().await;
    for resource in ["approvalrequests", "jobs"] {
        while case.space.api(resource).get_opt(RUN).await?.is_some() {
            ensure!(began.elapsed() < Duration::from_secs(60), "its {resource} are there still");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let asked = stand.proxy.count(&case.part()) - before;
    eprintln!("gone after {:?}, {asked} requests, alice's patch was stored: {}", began.elapsed(), tried.is_ok());
    ensure!(asked <= 30, "{asked} requests about what ends");
    case.ends(End::Gone).await
}
