//! What the operator hears of the cluster comes late, twice, not at all, or from a version that is forgotten.

use crate::case::{Case, RUN};
use crate::judge::{self, End};
use crate::support::{by_sre, create, job, merge};
use crate::*;
use countersign_testbed::{Asked, Effect};
use serde_json::{Value, json};

const EVERYTHING: &str = "/api";
const POLICIES: &str = "/apis/countersign.dev/v1alpha1/approvalpolicies";
const REQUESTS: &str = "/apis/countersign.dev/v1alpha1/approvalrequests";
/// A Job that names no request: the operator makes one.
const MADE: &str = "made";
const JOBS: &str = "/apis/batch/v1/jobs";
/// Watches that an operator has open, at least and at most.
const WATCHES: std::ops::Range<usize> = 15..40;
/// Within that time after such a fault what is approved is released.
const RESUMES: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_watch_that_is_cut_is_taken_up_where_it_ended() -> Result<()> {
    let mut stand = alone_with_proxy().await?;
    let case = Case::pending("faults-dropped").await?;
    stand.proxy.take_asked();
    let cut = stand.proxy.cut_watches(EVERYTHING);
    ensure!(WATCHES.contains(&cut), "{cut} watches were open");
    // What happens while none is open is heard of by the next.
    case.approve().await?;
    let took = case.released(RESUMES).await?;
    eprintln!("{cut} watches cut, released after {took:?}");
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        stand.proxy.cut_watches(EVERYTHING);
    }
    let lists: Vec<_> = stand.proxy.take_asked().into_iter().filter(|asked| asked.method == "GET").collect();
    ensure!(lists.len() <= cut * 6, "{} requests for {cut} watches that were cut four times", lists.len());
    stand.lives()?;
    case.ends(End::Started).await
}

#[tokio::test]
async fn events_that_come_twice_do_nothing_twice() -> Result<()> {
    let stand = alone_with_proxy().await?;
    stand.proxy.storm(Fault { method: "GET".into(), path: EVERYTHING.into(), effect: Effect::Twice });
    let case = Case::pending("faults-twice").await?;
    stand.proxy.take_asked();
    case.approve().await?;
    case.released(RESUMES).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let wrote =
        stand.proxy.take_asked().into_iter().filter(|asked| asked.path.contains(&case.part())).collect::<Vec<_>>();
    stand.proxy.calm("");
    // The start, and the status; an Event about it is there besides.
    let deeds = wrote.iter().filter(|asked| !asked.path.contains("/events")).count();
    ensure!(deeds == 2, "{wrote:#?}");
    case.ends(End::Started).await
}

/// Whoever creates a Job and then the request for it may be heard of in the other order. Nobody is told that it is missing.
#[tokio::test]
async fn a_job_that_comes_after_its_request_is_not_called_missing() -> Result<()> {
    let mut stand = alone_with_proxy().await?;
    let late = Duration::from_millis(500);
    stand.proxy.storm(Fault { method: "GET".into(), path: JOBS.into(), effect: Effect::Late(late) });
    stand.proxy.take_asked();
    let mut case = Case::asked("faults-job-after-request", by_sre()).await?;
    let asked = Instant::now();
    case.is_bound().await?;
    eprintln!("a Job that is told {late:?} late: bound {:?} after the request was made", asked.elapsed());
    let written = stand.proxy.count(&format!("{}{RUN}/status", case.path("approvalrequests")));
    stand.proxy.calm("");
    ensure!(written == 1, "{written} statuses were written");
    case.approve().await?;
    case.released(RESUMES).await?;
    stand.lives()?;
    case.ends(End::Started).await
}

/// The operator sees a Job as it was: the write that would start it names the version that was seen, and is refused.
#[tokio::test]
async fn a_job_that_changed_unseen_is_not_started_by_an_old_view() -> Result<()> {
    let stand = alone_with_proxy().await?;
    let case = Case::pending("faults-late-job").await?;
    let late = Effect::Late(Duration::from_millis(1500));
    stand.proxy.storm(Fault { method: "GET".into(), path: JOBS.into(), effect: late });
    let change = json!({"spec": {"template": {"metadata": {"annotations": {"sidecar": "inject"}}}}});
    merge(&case.space.api("jobs"), RUN, &change).await?;
    stand.proxy.take_asked();
    case.approve().await?;
    let back = case.space.wait("approvalrequests", RUN, |r| r["status"]["revision"] == 2).await?;
    let tried = stand.proxy.count(&case.path("jobs"));
    stand.proxy.calm("");
    ensure!(back["status"]["state"] == "Pending", "{back:#}");
    ensure!((1..=8).contains(&tried), "{tried} attempts to start it");
    case.ends(End::Held).await
}

/// A policy that was edited is in force once its status says so, however late the operator hears of it. A review is judged by what
/// stands in the request, and may still be stored until that was looked at, too: it starts nothing.
#[tokio::test]
async fn a_policy_holds_from_when_its_status_says_so() -> Result<()> {
    let stand = alone_with_proxy().await?;
    let case = Case::pending("faults-late-policy").await?;
    let late = Effect::Late(Duration::from_millis(1500));
    stand.proxy.storm(Fault { method: "GET".into(), path: POLICIES.into(), effect: late });
    let began = Instant::now();
    case.space.policy(denying()).await?;
    ensure!(began.elapsed() > Duration::from_secs(1), "it was not late");
    stand.proxy.calm("");
    let early = case.try_to_approve().await;
    eprintln!("a review right after: {}", early.map_or_else(|refused| refused.to_string(), |_| "stored".into()));
    case.space.state(RUN, "Denied").await?;
    ensure!(case.try_to_approve().await.is_err(), "an approval was stored though policy has denied");
    case.ends(End::Held).await
}

/// The moment between the two, made long: the policy is in force, and what the request says is not written yet.
#[tokio::test]
async fn a_review_between_a_policy_and_what_it_makes_of_a_request_starts_nothing() -> Result<()> {
    let stand = alone_with_proxy().await?;
    let case = Case::pending("faults-between").await?;
    let status = format!("{}{RUN}/status", case.path("approvalrequests"));
    let written = move |asked: &Asked| asked.method == "PATCH" && asked.path == status;
    let held_up = stand.proxy.inject_where(written, Effect::Delay(Duration::from_secs(3)));
    case.space.policy(denying()).await?;
    tokio::time::timeout(RESUMES, held_up).await.context("the operator wrote no status")??;
    case.approve().await?;
    let stored = case.stored().await?;
    ensure!(stored["status"]["state"] == "Pending", "what policy says was written before: {stored:#}");
    case.space.state(RUN, "Denied").await?;
    case.ends(End::Held).await
}

/// What lets nothing run.
fn denying() -> Value {
    json!([{"name": "never", "decision": "Deny"}])
}

/// A list is older than the request that the operator makes while it waits for that list, and tells, records and ends. It is not
/// there, and it is not gone: nothing of it is recorded twice.
#[tokio::test]
async fn a_list_that_is_older_than_what_was_made_meanwhile_takes_nothing_for_gone() -> Result<()> {
    let mut stand = alone_with_proxy().await?;
    let mut brief = by_sre();
    brief[0]["name"] = json!("brief");
    brief[0]["when"] = json!({"riskTags": ["brief"]});
    brief[0]["pendingTimeoutSeconds"] = json!(1);
    let case = Case::pending_under("faults-late-list", json!([by_sre()[0], brief[0]])).await?;
    let list = |asked: &Asked| asked.method == "GET" && !asked.watch && asked.path.starts_with(REQUESTS);
    let late = Duration::from_secs(8);
    let listed = stand.proxy.inject_where(list, Effect::LateAnswer(late));
    stand.proxy.inject(Fault { method: "GET".into(), path: REQUESTS.into(), effect: Effect::ExpiredEvent });
    ensure!(stand.proxy.cut_watches(REQUESTS) == 1, "no watch was open");
    tokio::time::timeout(RESUMES, listed).await.context("the operator did not list")??;

    let began = Instant::now();
    let mut made = job(MADE);
    made["metadata"]["annotations"] = json!({"countersign.dev/risk-tags": "brief"});
    create(&case.space.api("jobs"), &made).await?;
    let told = loop {
        let told = case.transitions(MADE).await?;
        if told.iter().any(|transition| transition == "Expired") {
            break told;
        }
        ensure!(began.elapsed() < late, "the list comes before the trail told the end: {told:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    ensure!(began.elapsed() < late, "the list has come before");
    let watches = |asked: &Asked| asked.watch && asked.path.starts_with(REQUESTS);
    stand.proxy.take_asked();
    while !stand.proxy.take_asked().iter().any(watches) {
        ensure!(began.elapsed() < late + RESUMES, "no watch follows the list");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let afterwards = case.transitions(MADE).await?;
    ensure!(afterwards == told, "the trail told {told:?}, and then {afterwards:?}");
    stand.lives()?;
    case.approve().await?;
    case.released(RESUMES).await?;
    let keys = judge::keys(cluster().await?).await?;
    case.ends_under(&keys, &[(RUN, End::Started), (MADE, End::Held)]).await
}

/// Nothing comes any more though the connection stays, as behind a firewall that forgot it. What happens meanwhile is not seen;
/// when the connection ends, or after 70 seconds, it is. `COUNTERSIGN_FAULTS_LONG=1` waits for that.
#[tokio::test]
async fn a_watch_that_falls_silent_hides_nothing_for_good() -> Result<()> {
    let mut stand = alone_with_proxy().await?;
    let case = Case::pending("faults-silent").await?;
    stand.proxy.storm(Fault { method: "GET".into(), path: REQUESTS.into(), effect: Effect::Silent });
    // A review wakes the reading of the proxy, and is what gets lost.
    case.approve().await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    ensure!(case.stored().await?["status"]["state"] == "Pending", "it was not silent");
    stand.proxy.calm("");
    let silent = Instant::now();
    let long = std::env::var_os("COUNTERSIGN_FAULTS_LONG").is_some();
    if !long {
        ensure!(stand.proxy.cut_watches(REQUESTS) == 1, "no watch was open");
    }
    case.released(if long { Duration::from_secs(95) } else { RESUMES }).await?;
    eprintln!("a silent watch: released {:?} after", silent.elapsed());
    stand.lives()?;
    case.ends(End::Started).await
}
