//! The incident: a workflow asks, mallory is refused, alice approves, the Job runs.

use crate::stage::Stage;
use crate::timeline::Timeline;
use anyhow::{Context, Result, bail, ensure};
use countersign::cli::card::card;
use countersign_testbed::Identity;
use serde_json::{Value, json};

const REQUEST: &str = "run-8f9a-remediate";
const JOB: &str = "remediate-8f9a";
/// What the Job may take at most: the tighter of what the request offers and what the policy allows.
const DEADLINE: i64 = 900;

/// Plays the incident, and fails wherever something comes out otherwise than told.
pub async fn play(stage: &Stage) -> Result<()> {
    let began = stage.cluster.audit_log().mark()?;
    ask(stage).await?;
    let digest = text(&request(&stage.alice).await?, "/status/digest")?.to_string();
    attack(stage, &digest).await?;
    let command = read(stage).await?;
    approve(stage, &command).await?;
    let pod = watch(stage, &digest).await?;
    let node = if stage.real { "kubelet" } else { "node (simulated)" };
    let timeline = Timeline::read(&stage.cluster.audit_log(), began, &pod, node).await?;
    say!("\n7. What the API server saw\n\n{}", timeline.render());
    match stage.real {
        true => say!("   The container ran: kubelet, containerd and runc took the Pod, as on any node."),
        false => {
            say!("   The node is simulated: it waits 0.2 s and calls the Pod done. Everything else is the real thing.")
        }
    }
    Ok(())
}

/// The workflow creates its Job suspended, asks, and stops.
async fn ask(stage: &Stage) -> Result<()> {
    say!("\n2. An alert: checkout answers 12 % of its calls with an error");
    say!("   The triage workflow knows a fix. It would write to production, so the workflow creates the Job");
    say!("   suspended, asks, and stops. It runs as a service account and can approve nothing.");
    stage.shell.shows(&stage.triage, "kubectl create -f examples/incident/job.yaml").await?;
    stage.shell.shows(&stage.triage, "cat examples/incident/request.json").await?;
    let ask = format!("countersign request -f examples/incident/request.json -n payments --target job/{JOB}");
    let stored = stage.shell.quietly(&stage.triage, &ask).await?;
    let stored: Value = serde_yaml::from_str(&stored).context("reading the stored request")?;
    let requester = text(&stored, "/spec/requester/username")?;
    ensure!(requester == stage.triage.name, "the requester should be {}, and is {requester}", stage.triage.name);
    let wait = format!("kubectl wait apr/{REQUEST} -n payments --for=jsonpath='{{.status.digest}}' --timeout=30s");
    stage.shell.quietly(&stage.triage, &wait).await?;
    stage.shell.shows(&stage.alice, "kubectl get apr -n payments").await?;
    Ok(())
}

/// Mallory may patch requests, as every developer here may. What stops her is admission.
async fn attack(stage: &Stage, digest: &str) -> Result<()> {
    say!("\n3. mallory is in a hurry");
    say!("   RBAC lets every developer patch requests. Whose word counts is the policy's decision.");
    let review = json!({"spec": {"review": {"decision": "Approve", "digest": digest}}});
    let error = stage.shell.refused(&stage.mallory, &patch(&review)).await?;
    expect(&error, "mallory is not an approver of this request; it takes sre")?;

    say!("\n   So she writes a review in alice's name.");
    let forged = json!({"spec": {"reviews": [{"reviewer": {"username": "alice", "groups": ["sre"]}, "decision": "Approve",
        "digest": digest, "time": "2026-01-01T00:00:00.000000Z", "seal": "trust me"}]}});
    let error = stage.shell.refused(&stage.mallory, &patch(&forged)).await?;
    expect(&error, "spec.reviews is written by admission alone")?;

    let after = request(&stage.alice).await?;
    ensure!(after.pointer("/spec/reviews").is_none(), "a refused review was stored: {after:#}");
    ensure!(job(&stage.alice).await?["spec"]["suspend"] == json!(true), "the Job was started without an approval");
    let pods = pods(&stage.alice).await?;
    ensure!(pods.is_empty(), "there are Pods before any approval: {pods:?}");
    say!("\n   Nothing was stored, the Job is still suspended, and no Pod exists.");
    Ok(())
}

/// The card as a reviewer sees it. Returns the command on it.
async fn read(stage: &Stage) -> Result<String> {
    say!("\n4. What alice of the group sre sees\n");
    let card = card(&request(&stage.alice).await?, Some(&job(&stage.alice).await?));
    card.lines().for_each(|line| say!("{}", format!("  | {line}").trim_end()));
    for part in ["system:serviceaccount:payments:triage (authenticated)", "production/prod-write", "sre (Group sre)"] {
        expect(&card, part)?;
    }
    let command = card.lines().find(|line| line.starts_with("kubectl patch apr "));
    command.map(String::from).context("the card does not say how to approve")
}

/// Alice runs the command that stands on the card.
async fn approve(stage: &Stage, command: &str) -> Result<()> {
    say!("\n5. alice approves: one patch, under her own client certificate");
    stage.shell.shows(&stage.alice, command).await?;
    Ok(())
}

/// Waits for the end, and checks that what was approved is what ran. Returns the Pod's name.
async fn watch(stage: &Stage, digest: &str) -> Result<String> {
    say!("\n6. The Job runs, within its bounds");
    let released = format!("kubectl wait apr/{REQUEST} -n payments --for=condition=Released --timeout=30s");
    stage.shell.shows(&stage.triage, &released).await?;
    let complete = format!("kubectl wait job/{JOB} -n payments --for=condition=Complete --timeout=30s");
    stage.shell.shows(&stage.triage, &complete).await?;
    stage.shell.shows(&stage.alice, "kubectl get apr,jobs,pods -n payments").await?;
    if stage.real {
        let log = stage.shell.shows(&stage.alice, &format!("kubectl logs job/{JOB} -n payments")).await?;
        expect(&log, "remediate rollback --service checkout")?;
        expect(&log, "\"maxRuntimeSeconds\":900")?;
    }

    let (request, job) = (request(&stage.alice).await?, job(&stage.alice).await?);
    ensure!(request["status"]["approvals"][0]["approvedBy"] == json!(["alice"]), "not approved by alice: {request:#}");
    ensure!(request["status"]["digest"] == json!(digest), "the digest changed since it was reviewed: {request:#}");
    let annotations = &job["spec"]["template"]["metadata"]["annotations"];
    ensure!(annotations["countersign.dev/receipt"].is_string(), "the Job carries no receipt: {job:#}");
    ensure!(
        job["metadata"]["annotations"]["countersign.dev/released"] == json!(digest),
        "the Job names another digest: {job:#}"
    );
    ensure!(job["spec"]["activeDeadlineSeconds"] == json!(DEADLINE), "the Job runs without its deadline: {job:#}");
    say!("\n   The Job carries the digest that alice approved, a deadline of {DEADLINE} s, and a signed receipt.");
    say!("   Told to the worker: {}", text(annotations, "/countersign.dev~1constraints")?);
    match pods(&stage.alice).await?.as_slice() {
        [pod] if pod["status"]["phase"] == "Succeeded" => Ok(text(pod, "/metadata/name")?.into()),
        other => bail!("expected one Pod that succeeded, found {other:?}"),
    }
}

fn patch(patch: &Value) -> String {
    format!("kubectl patch apr {REQUEST} -n payments --type=merge -p '{patch}'")
}

async fn request(who: &Identity) -> Result<Value> {
    who.kubectl(["get", "apr", REQUEST, "-n", "payments"]).json().await
}

async fn job(who: &Identity) -> Result<Value> {
    who.kubectl(["get", "job", JOB, "-n", "payments"]).json().await
}

async fn pods(who: &Identity) -> Result<Vec<Value>> {
    let list = who.kubectl(["get", "pods", "-n", "payments"]).json().await?;
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

fn text<'a>(value: &'a Value, pointer: &str) -> Result<&'a str> {
    value.pointer(pointer).and_then(Value::as_str).with_context(|| format!("{pointer} is missing in {value:#}"))
}

fn expect(text: &str, part: &str) -> Result<()> {
    ensure!(text.contains(part), "expected to read {part:?} in:\n{text}");
    Ok(())
}
