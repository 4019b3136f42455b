//! Each end has its exit code.

use crate::support::by_sre;
use crate::{ASKED, lab, state, times};
use anyhow::Result;
use serde_json::json;

#[tokio::test]
async fn each_end_has_its_exit_code() -> Result<()> {
    let lab = lab().await?;
    let desk = lab.desk("ends").await?;
    let run = desk.start("released", &["-o", "json"])?;
    desk.decide("run-8f9a-released", "Approve").await?;
    let (out, said) = run.ends(0, "ends/run-8f9a-released: Released").await?;
    assert_eq!(state(&out)?, "Released");
    assert_eq!(times(&said, "Pending: waiting for"), 1, "{said}");

    let run = desk.start("denied", &["-o", "json"])?;
    desk.decide("run-8f9a-denied", "Deny").await?;
    assert_eq!(state(&run.ends(3, "ends/run-8f9a-denied: Denied").await?.0)?, "Denied");

    let mut run = desk.start("deleted", &[])?;
    run.says("Pending").await?;
    // The example's account may not withdraw what it asked; an admin deletes it.
    desk.space.patch(&desk.workflow, "run-8f9a-deleted", json!({"spec": {"cancel": true}})).refused().await?;
    desk.space.admin.kubectl(["delete", "apr", "run-8f9a-deleted", "-n", "ends"]).ok().await?;
    let (out, _) = run.ends(5, "ends/run-8f9a-deleted: ").await?;
    assert_eq!(out, "");

    // Somebody who may withdraw what they asked for does.
    let withdrawn = [&["--step-id", "withdrawn", "--wait", "-o", "json"], &ASKED[..]].concat();
    let mut run = desk.start_as(&desk.space.triage, &withdrawn)?;
    run.says("Pending").await?;
    desk.space.patch(&desk.space.triage, "run-8f9a-withdrawn", json!({"spec": {"cancel": true}})).ok().await?;
    assert_eq!(state(&run.ends(5, "ends/run-8f9a-withdrawn: Cancelled").await?.0)?, "Cancelled");

    let mut rules = by_sre();
    rules[0]["pendingTimeoutSeconds"] = json!(2);
    desk.space.policy(rules).await?;
    desk.start("late", &[])?.ends(4, "ends/run-8f9a-late: Expired").await?;
    // A final request is found as it is.
    desk.start("late", &[])?.ends(4, "ends/run-8f9a-late: found").await?;
    Ok(())
}

#[tokio::test]
async fn a_timeout_leaves_the_request_and_the_same_command_goes_on() -> Result<()> {
    let lab = lab().await?;
    let desk = lab.desk("timeout").await?;
    let (_, said) = desk.start("a", &["--timeout", "4s", "--heartbeat", "1"])?.ends(7, "run the same command").await?;
    assert!(times(&said, "still waiting after") >= 1, "{said}");
    let mut run = desk.start("a", &[])?;
    run.says("timeout/run-8f9a-a: found").await?;
    desk.decide("run-8f9a-a", "Approve").await?;
    run.ends(0, "Released").await?;
    assert_eq!(desk.requests().await?, 1);
    Ok(())
}

#[tokio::test]
async fn what_is_stored_and_not_asked_is_never_waited_for() -> Result<()> {
    let lab = lab().await?;
    let desk = lab.desk("changed").await?;
    let name = "run-8f9a-a";
    desk.start_as(&desk.workflow, &[&["--step-id", "a", "-o", "name"], &ASKED[..]].concat())?.ends(0, "").await?;
    // Also without --wait, and also once it is released.
    let again = [&["--step-id", "a", "-o", "name"], &ASKED[..]].concat();
    let (out, _) = desk.start_as(&desk.workflow, &again)?.ends(0, "changed/run-8f9a-a: found").await?;
    assert_eq!(out, "approvalrequest.countersign.dev/run-8f9a-a\n");
    desk.decide(name, "Approve").await?;
    desk.space.state(name, "Released").await?;
    let other = ["--reason", "other", "--step-id", "a", "--run-id", "run_8f9a", "--requested-by", "w", "--wait"];
    let difference = "spec.requestedBy is \"workflow.incident-triage\" there, and \"w\" here";
    desk.start_as(&desk.workflow, &other)?.ends(6, difference).await?;
    // The same words by somebody else are another request.
    let theirs = [&["--step-id", "a", "--wait"], &ASKED[..]].concat();
    desk.start_as(&desk.space.triage, &theirs)?.ends(6, "spec.requester.username is").await?;
    Ok(())
}

#[tokio::test]
async fn a_command_line_that_cannot_be_is_usage() -> Result<()> {
    let lab = lab().await?;
    let desk = lab.desk("usage").await?;
    desk.start("a", &["-o", "receipt"])?.ends(2, "a receipt is on a released Job").await?;
    desk.start("a", &["--timeout", "soon"])?.ends(2, "write a length of time").await?;
    assert_eq!(desk.requests().await?, 0);
    Ok(())
}
