//! Something is away while the command waits.

use crate::{lab, times};
use anyhow::Result;
use countersign_testbed::{Effect, Fault, FaultProxy};
use std::time::Duration;

#[tokio::test]
async fn the_operator_may_restart_before_and_while_it_is_waited_for() -> Result<()> {
    let mut lab = lab().await?;
    let desk = lab.desk("operator").await?;
    lab.kill();
    let mut run = desk.start("a", &[])?;
    run.says("the operator does not answer, so nothing was stored; trying again").await?;
    lab.start().await?;
    run.says("answered again").await?;
    desk.space.digest("run-8f9a-a").await?;
    lab.kill();
    lab.start().await?;
    desk.decide("run-8f9a-a", "Approve").await?;
    let (_, said) = run.ends(0, "Released").await?;
    assert_eq!(times(&said, "does not answer"), 1, "{said}");
    Ok(())
}

/// A new API server remembers no events, so the old version to watch from is refused with 410, and the request listed anew.
#[tokio::test]
async fn the_api_server_may_restart() -> Result<()> {
    let lab = lab().await?;
    let desk = lab.desk("apiserver").await?;
    let mut run = desk.start("a", &["--heartbeat", "0"])?;
    run.says("waiting for").await?;
    let mut late = None;
    lab.cluster
        .restart_apiserver(async {
            run.says("cannot be reached").await?;
            // One that starts while there is none.
            let mut started = desk.start("b", &[])?;
            started.says("cannot be reached").await?;
            late = Some(started);
            Ok(())
        })
        .await?;
    desk.decide("run-8f9a-a", "Approve").await?;
    let (_, said) = run.ends(0, "Released").await?;
    // Each kind once: away, then up and without its roles for a moment, or busy.
    assert_eq!(times(&said, "cannot be reached"), 1, "{said}");
    assert!(times(&said, "trying again") <= 3, "{said}");
    if let Some(late) = late {
        desk.space.digest("run-8f9a-b").await?;
        desk.decide("run-8f9a-b", "Approve").await?;
        late.ends(0, "Released").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_lost_answer_to_the_create_makes_no_second_request() -> Result<()> {
    let lab = lab().await?;
    let desk = lab.desk("lost").await?;
    let proxy = FaultProxy::start(lab.cluster, &desk.workflow).await?;
    let path = "/apis/countersign.dev/v1alpha1/namespaces/lost/approvalrequests";
    let fault = |method: &str, effect| Fault { method: method.into(), path: path.into(), effect };
    proxy.inject(fault("POST", Effect::CutAfter));
    let asked = [&["--step-id", "a", "--wait"], &crate::ASKED[..]].concat();
    let mut run = desk.start_as(proxy.identity(), &asked)?;
    run.says("trying again").await?;
    run.says("lost/run-8f9a-a: found").await?;
    // The list after the create, and the watches, are lost too.
    proxy.inject(fault("GET", Effect::CutBefore));
    proxy.inject(fault("GET", Effect::CutAfter));
    desk.decide("run-8f9a-a", "Approve").await?;
    run.ends(0, "Released").await?;
    assert_eq!(desk.requests().await?, 1);
    Ok(())
}

/// Both ways in which the API server says so: in place of a watch, and in one.
#[tokio::test]
async fn a_watch_from_a_forgotten_version_is_no_trouble_and_is_begun_anew() -> Result<()> {
    let lab = lab().await?;
    let desk = lab.desk("expired").await?;
    let path = "/apis/countersign.dev/v1alpha1/namespaces/expired/approvalrequests";
    let proxy = FaultProxy::start(lab.cluster, &desk.workflow).await?;
    for (step, effect) in [("a", Effect::Expired), ("b", Effect::ExpiredEvent)] {
        proxy.inject(Fault { method: "GET".into(), path: path.into(), effect });
        let asked = [&["--step-id", step, "--wait"], &crate::ASKED[..]].concat();
        let run = desk.start_as(proxy.identity(), &asked)?;
        let name = format!("run-8f9a-{step}");
        desk.decide(&name, "Approve").await?;
        let (_, said) = run.ends(0, &format!("{name}: Released")).await?;
        assert!(proxy.take_armed().is_empty(), "no watch met the fault: {said}");
        assert_eq!(times(&said, "trying again"), 0, "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn a_request_that_was_replaced_while_nobody_watched_is_not_taken() -> Result<()> {
    let lab = lab().await?;
    let desk = lab.desk("replaced").await?;
    let proxy = FaultProxy::start(lab.cluster, &desk.workflow).await?;
    let asked = [&["--step-id", "a", "--wait"], &crate::ASKED[..]].concat();
    let path = "/apis/countersign.dev/v1alpha1/namespaces/replaced/approvalrequests";
    let delay = Effect::Delay(Duration::from_secs(4));
    // The first look after the create comes late.
    proxy.inject(Fault { method: "GET".into(), path: path.into(), effect: delay });
    let run = desk.start_as(proxy.identity(), &asked)?;
    desk.space.digest("run-8f9a-a").await?;
    desk.space.admin.kubectl(["delete", "apr", "run-8f9a-a", "-n", "replaced"]).ok().await?;
    let without_wait = [&["--step-id", "a", "-o", "name"], &crate::ASKED[..]].concat();
    desk.start_as(&desk.workflow, &without_wait)?.ends(0, "").await?;
    run.ends(6, "another request took its name").await?;
    Ok(())
}
