//! `--job`: the Job and its request, restart-safe.

use crate::support::job;
use crate::{Desk, Lab, Run, example, lab};
use anyhow::{Context, Result};
use countersign_testbed::{Effect, Fault, FaultProxy, Identity};
use serde_json::{Value, json};

/// Starts the three lines of the example in that namespace.
fn start(lab: &Lab, desk: &Desk, who: &Identity, job: &str, more: &[&str]) -> Result<Run> {
    let work: Value = serde_yaml::from_str(&example("work.yaml")?)?;
    let request = work["data"]["request.json"].as_str().context("request.json")?;
    let request = desk.file(lab.cluster, "request.json", request)?;
    let job = desk.file(lab.cluster, "job.yaml", job)?;
    let (request, job) = (request.to_str().context("path")?, job.to_str().context("path")?);
    desk.start_as(who, &[&["-f", request, "--job", job], more].concat())
}

fn job_of_example() -> Result<String> {
    let work: Value = serde_yaml::from_str(&example("work.yaml")?)?;
    Ok(work["data"]["job.yaml"].as_str().context("job.yaml")?.into())
}

const NAME: &str = "run-8f9a-remediate";
const WAIT: [&str; 3] = ["--wait", "-o", "receipt"];

#[tokio::test]
async fn the_example_releases_its_job_and_prints_the_receipt() -> Result<()> {
    let lab = lab().await?;
    let desk = lab.desk("example").await?;
    let text = job_of_example()?;
    let run = start(&lab, &desk, &desk.workflow, &text, &WAIT)?;
    desk.decide(NAME, "Approve").await?;
    let (out, said) = run.ends(0, "example/run-8f9a-remediate: Released").await?;
    assert!(said.contains("example/remediate-8f9a: Job created, suspended\n"), "{said}");
    let job = desk.space.get("jobs", "remediate-8f9a").await?;
    assert_eq!(job["spec"]["suspend"], false);
    let receipt = &job["spec"]["template"]["metadata"]["annotations"]["countersign.dev/receipt"];
    assert_eq!(receipt.as_str(), Some(out.trim_end()));
    assert!(serde_json::from_str::<Value>(&out)?["payloadType"].is_string());
    let request = desk.space.get("approvalrequests", NAME).await?;
    assert_eq!(request["spec"]["target"]["uid"], job["metadata"]["uid"]);
    // Once more, after the release changed the Job; and once more, after it is gone.
    assert_eq!(start(&lab, &desk, &desk.workflow, &text, &WAIT)?.ends(0, "found").await?.0, out);
    desk.space.admin.kubectl(["delete", "job", "remediate-8f9a", "-n", "example"]).ok().await?;
    start(&lab, &desk, &desk.workflow, &text, &["--wait"])?.ends(0, "found").await?;
    start(&lab, &desk, &desk.workflow, &text, &WAIT)?.ends(1, "released, and no receipt: the Job is gone").await?;
    assert!(desk.space.api("jobs").get_opt("remediate-8f9a").await?.is_none());
    Ok(())
}

#[tokio::test]
async fn a_job_is_held_whatever_its_file_says_and_that_is_said() -> Result<()> {
    let lab = lab().await?;
    let desk = lab.desk("unheld").await?;
    let text = job_of_example()?.replace("  suspend: true\n", "");
    let mut run = start(&lab, &desk, &desk.workflow, &text, &["--wait"])?;
    run.says("its file does not say spec.suspend: true").await?;
    desk.space.digest(NAME).await?;
    assert!(!desk.space.started("remediate-8f9a").await?);
    desk.decide(NAME, "Deny").await?;
    run.ends(3, "Denied").await?;
    assert!(!desk.space.started("remediate-8f9a").await?);
    Ok(())
}

#[tokio::test]
async fn a_job_that_goes_away_ends_the_wait_as_cancelled_and_no_other_is_made() -> Result<()> {
    let lab = lab().await?;
    let desk = lab.desk("cancelled").await?;
    let text = job_of_example()?;
    let run = start(&lab, &desk, &desk.workflow, &text, &["--wait", "-o", "json"])?;
    desk.space.digest(NAME).await?;
    desk.space.triage.kubectl(["delete", "job", "remediate-8f9a", "-n", "cancelled"]).ok().await?;
    let (out, _) = run.ends(5, "cancelled/run-8f9a-remediate: Cancelled: ").await?;
    assert_eq!(crate::state(&out)?, "Cancelled");
    start(&lab, &desk, &desk.workflow, &text, &["--wait"])?.ends(5, "Cancelled: ").await?;
    assert!(desk.space.api("jobs").get_opt("remediate-8f9a").await?.is_none());
    Ok(())
}

/// Killed between the two writes: a suspended Job that nothing starts, which the next call takes.
#[tokio::test]
async fn a_call_that_ends_between_job_and_request_is_gone_on_with() -> Result<()> {
    let lab = lab().await?;
    let desk = lab.desk("between").await?;
    desk.space.admin.kubectl(["label", "namespace", "between", "countersign.dev/gate=enforce"]).ok().await?;
    let proxy = FaultProxy::start(lab.cluster, &desk.workflow).await?;
    let fault = |path: &str, effect| Fault { method: "POST".into(), path: path.into(), effect };
    // The answer to the Job is lost as well.
    proxy.inject(fault("/apis/batch/v1/namespaces/between/jobs", Effect::CutAfter));
    let requests = "/apis/countersign.dev/v1alpha1/namespaces/between/approvalrequests";
    proxy.inject(fault(requests, Effect::Delay(std::time::Duration::from_secs(60))));
    let text = job_of_example()?;
    let mut run = start(&lab, &desk, proxy.identity(), &text, &["--wait"])?;
    run.says("between/remediate-8f9a: Job found").await?;
    run.kill().await?;
    let uid = desk.uid("jobs", "remediate-8f9a").await?;
    assert_eq!(desk.requests().await?, 0);
    assert!(!desk.space.started("remediate-8f9a").await?);
    let run = start(&lab, &desk, &desk.workflow, &text, &["--wait"])?;
    desk.decide(NAME, "Approve").await?;
    run.ends(0, "Released").await?;
    assert_eq!((desk.uid("jobs", "remediate-8f9a").await?, desk.requests().await?), (uid, 1));
    assert!(desk.space.started("remediate-8f9a").await?);
    Ok(())
}

/// Somebody who may create Jobs has theirs there first, under the name, the annotations and the hash of the workflow's.
#[tokio::test]
async fn another_job_of_that_name_is_never_asked_for() -> Result<()> {
    let lab = lab().await?;
    let desk = lab.desk("planted").await?;
    let text = job_of_example()?;
    let create = |job: Value| desk.space.triage.kubectl(["create", "-n", "planted", "-f", "-"]).stdin(job.to_string());
    create(job("remediate-8f9a")).ok().await?;
    let expected = "metadata.annotations[countersign.dev/request] is absent there";
    start(&lab, &desk, &desk.workflow, &text, &["--wait"])?.ends(6, expected).await?;
    let delete = ["delete", "job", "remediate-8f9a", "-n", "planted"];
    desk.space.triage.kubectl(delete).ok().await?;
    let (_, _) = start(&lab, &desk, &desk.workflow, &text, &["-o", "name"])?.ends(0, "").await?;
    let mut planted = desk.space.get("jobs", "remediate-8f9a").await?;
    desk.space.admin.kubectl(["delete", "apr", NAME, "-n", "planted"]).ok().await?;
    desk.space.triage.kubectl(delete).ok().await?;
    let annotations = planted["metadata"]["annotations"].take();
    let mut forged = job("remediate-8f9a");
    forged["metadata"]["annotations"] = json!({});
    for key in ["countersign.dev/request", "request.countersign.dev/manifest"] {
        forged["metadata"]["annotations"][key] = annotations[key].clone();
    }
    create(forged).ok().await?;
    start(&lab, &desk, &desk.workflow, &text, &["--wait"])?.ends(6, "another Job has that name: spec.").await?;
    assert_eq!(desk.requests().await?, 0);
    // Nor is the file of another step taken for this one.
    let other = text.replace("release-41", "release-40");
    start(&lab, &desk, &desk.workflow, &other, &["--wait"])?.ends(6, "request.countersign.dev/manifest").await?;
    Ok(())
}
