//! The verifiers in examples/audit, written from docs/audit.md and docs/receipts.md alone, agree with ours.

use crate::support::{Space, by_sre, countersign, job};
use crate::{Lab, lab};
use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Output;
use tokio::process::Command;

/// A Python that has what the verifiers import.
pub async fn python() -> Result<PathBuf> {
    crate::support::python::python("cryptography", &["cryptography"]).await
}

pub async fn run(python: &Path, script: &str, args: &[&str]) -> Result<Output> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/audit").join(script);
    Ok(Command::new(python).arg(script).args(args).output().await?)
}

#[tokio::test]
async fn a_verifier_written_from_the_documentation_agrees() -> Result<()> {
    let python = python().await?;
    let lab = lab().await?;
    let space = Space::new(lab.cluster, "audit-python").await?;
    space.policy(by_sre()).await?;
    let alice = lab.user("alice", "sre")?;
    let digest = space.bound("run").await?;
    let review = serde_json::json!({"decision": "Approve", "digest": digest, "comment": "für Zoë \u{1f600}\u{fb33} \u{1} \"\\ /"});
    space.patch(&alice, "run", serde_json::json!({"spec": {"review": review}})).ok().await?;
    let export = lab.export("python", &[("audit-python", "run", "Released")]).await?;
    let said = run(&python, "verify.py", &[&export.trail, &export.keys, &export.checkpoint]).await?;
    ensure!(said.status.success() && said.stdout == b"whole\n", "{said:?}");
    let text = std::fs::read_to_string(&export.trail)?;
    let lines: Vec<_> = text.lines().collect();
    ensure!(lines.len() >= 2, "{} records", lines.len());
    // Of the tests before this one, not each leaves a request.
    let asked = lines.iter().position(|line| line.contains("workflow.incident-triage")).context("a request")?;
    let edited = format!("line {}: edited", asked + 1);
    for (name, changed, expected) in [
        ("edited", text.replacen("workflow.incident-triage", "workflow.incident-triagf", 1), edited.as_str()),
        ("missing", lines[1..].join("\n"), "line 1: missing, reordered or twice"),
        ("cut", lines[..lines.len() - 1].join("\n"), "cut off"),
    ] {
        let path = lab.file(&format!("python-{name}.jsonl"));
        std::fs::write(&path, changed)?;
        let path = path.to_str().context("a path")?;
        let said = run(&python, "verify.py", &[path, &export.keys, &export.checkpoint]).await?;
        let told = String::from_utf8_lossy(&said.stdout);
        ensure!(
            said.status.code() == Some(1) && told.starts_with(&format!("NOT WHOLE: {expected}")),
            "{name}: {said:?}"
        );
        ensure!(!export.verify(path).await?.0, "{name}: ours agrees");
    }
    Ok(())
}

const SECRET: &str = "correct-horse-battery-staple";

/// A released Job that uses a Secret.
async fn released(lab: &Lab, space: &Space) -> Result<Value> {
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "token"}, "stringData": {"token": SECRET}});
    let mut uses = job("run");
    uses["spec"]["template"]["spec"]["containers"][0]["envFrom"] = json!([{"secretRef": {"name": "token"}}]);
    for object in [secret, uses] {
        let create = space.admin.kubectl(["create", "--filename", "-", "--namespace", &space.namespace]);
        create.stdin(object.to_string()).ok().await?;
    }
    space.request("run", Some("run")).await?;
    let digest = space.digest("run").await?;
    space.review(&lab.user("alice", "sre")?, "run", "Approve", &digest).ok().await?;
    space.wait("jobs", "run", |j| j["spec"]["suspend"] == json!(false)).await
}

fn envelope(job: &Value) -> Result<String> {
    let annotations = &job["spec"]["template"]["metadata"]["annotations"];
    Ok(annotations["countersign.dev/receipt"].as_str().context("a receipt")?.into())
}

fn payload(envelope: &str) -> Result<Vec<u8>> {
    let envelope: Value = serde_json::from_str(envelope)?;
    Ok(STANDARD.decode(envelope["payload"].as_str().context("a payload")?)?)
}

/// The same envelope around a changed payload.
fn changed(envelope: &str, from: &str, to: &str) -> Result<String> {
    let statement = String::from_utf8(payload(envelope)?)?;
    ensure!(statement.contains(from), "{statement}");
    let mut envelope: Value = serde_json::from_str(envelope)?;
    envelope["payload"] = json!(STANDARD.encode(statement.replacen(from, to, 1)));
    Ok(envelope.to_string())
}

#[tokio::test]
async fn a_receipt_holds_for_both_verifiers_and_a_changed_one_for_neither() -> Result<()> {
    let python = python().await?;
    let lab = lab().await?;
    let space = Space::new(lab.cluster, "receipt").await?;
    space.policy(by_sre()).await?;
    let job = released(&lab, &space).await?;
    let uid = job["metadata"]["uid"].as_str().context("a uid")?;
    let receipt = envelope(&job)?;
    let keys = lab.export("receipt", &[("receipt", "run", "Released")]).await?.keys;

    let statement: Value = serde_json::from_slice(&payload(&receipt)?)?;
    let request = space.get("approvalrequests", "run").await?;
    let predicate = &statement["predicate"];
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    let hash = request["status"]["jobHash"].as_str().and_then(|hash| hash.strip_prefix("sha256:")).context("a hash")?;
    assert_eq!(statement["subject"], json!([{"name": "receipt/Job/run", "digest": {"sha256": hash}}]));
    assert_eq!(predicate["request"]["uid"], request["metadata"]["uid"]);
    for field in ["digest", "policySnapshot", "constraints"] {
        assert_eq!(predicate[field], request["status"][field], "{field}");
    }
    assert_eq!((&predicate["approvers"], &predicate["job"]), (&json!(["alice"]), &json!({"uid": uid})));
    let time = |field: &str| predicate[field].as_str().context("a time")?.parse::<jiff::Timestamp>().context("a time");
    assert_eq!(time("validUntil")?.duration_since(time("time")?).as_secs(), 900);
    for secret in [SECRET, &STANDARD.encode(SECRET)] {
        ensure!(!statement.to_string().contains(secret), "what stands in the Secret stands in the receipt");
    }

    let other = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let other_key = lab.file("other.keys");
    // The name of 32 zero bytes.
    std::fs::write(&other_key, format!("66687aadf862bd77 {other}\n"))?;
    let other_key = other_key.to_str().context("a path")?;
    let cases = [
        ("good", receipt.clone(), keys.as_str(), uid, true),
        ("approver", changed(&receipt, "alice", "carol")?, &keys, uid, false),
        ("bound", changed(&receipt, "900", "901")?, &keys, uid, false),
        ("retyped", receipt.replacen("in-toto", "in-tofu", 1), &keys, uid, false),
        ("empty", String::new(), &keys, uid, false),
        ("nonsense", "{}".into(), &keys, uid, false),
        ("copied", receipt.clone(), &keys, "another-uid", false),
        ("other key", receipt.clone(), other_key, uid, false),
    ];
    for (name, text, keys, uid, holds) in cases {
        let path = lab.file(&format!("receipt-{}", name.replace(' ', "-")));
        std::fs::write(&path, text)?;
        let path = path.to_str().context("a path")?;
        let args = ["receipt", "verify", "--receipt", path, "--keys", keys, "--job-uid", uid];
        let ours = countersign().run(&args, "").await?;
        let theirs = run(&python, "verify_receipt.py", &[path, keys, uid]).await?;
        let code = Some(if holds { 0 } else { 1 });
        ensure!(ours.status.code() == code && theirs.status.code() == code, "{name}: {ours:?} {theirs:?}");
        let said = if holds { "{\"maxRuntimeSeconds\":900}\n" } else { "" };
        assert_eq!((ours.stdout.as_str(), theirs.stdout.as_slice()), (said, said.as_bytes()), "{name}");
        ensure!(holds || (ours.stderr.contains("NOT VALID") && theirs.stderr.starts_with(b"NOT VALID")), "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn a_receipt_is_read_from_a_cluster_with_its_keys_and_its_uid() -> Result<()> {
    let lab = lab().await?;
    let space = Space::gated(lab.cluster, "receipt-gated").await?;
    space.policy(json!([{"name": "all", "decision": "Allow", "constraints": {"maxRuntimeSeconds": 60}}])).await?;
    space.job("allowed").await?;
    space.wait("jobs", "allowed", |j| j["spec"]["suspend"] == json!(false)).await?;
    let kubeconfig = lab.cluster.admin().kubeconfig;
    let kubeconfig = kubeconfig.to_str().context("a path")?;
    let base = ["receipt", "verify", "--kubeconfig", kubeconfig, "--namespace", "receipt-gated", "--job"];
    let verify = async |args: &[&str]| countersign().run(&[&base, args].concat(), "").await;
    // The operator publishes its key beside its first record.
    lab.export_until("receipt-gated", |entries| entries.iter().any(|e| e["target"]["name"] == "allowed")).await?;
    let held = verify(&["allowed"]).await?;
    ensure!(held.status.success() && held.stdout == "{\"maxRuntimeSeconds\":60}\n", "{held:?}");
    let told = verify(&["allowed", "--output", "text"]).await?;
    ensure!(
        told.stdout.starts_with("valid: receipt-gated/Job/allowed, uid ")
            && told.stdout.contains("\nallowed by policy\n"),
        "{told:?}"
    );
    for (args, code, said) in [
        (&["allowed", "--job-uid", "another"][..], 1, "not another"),
        (&["allowed", "--digest", "sha256:00"], 1, "not sha256:00"),
        (&["allowed", "--at", "2100-01-01T00:00:00Z"], 1, "it was valid until"),
        (&["gone"], 2, "there is no Job gone"),
    ] {
        let output = verify(args).await?;
        ensure!(output.status.code() == Some(code) && output.stderr.contains(said), "{args:?}: {output:?}");
        ensure!(output.stdout.is_empty(), "{args:?}: {output:?}");
    }
    // Held, it has none.
    space.policy(by_sre()).await?;
    space.job("held").await?;
    let output = verify(&["held"]).await?;
    ensure!(output.status.code() == Some(1) && output.stderr.contains("there is no receipt"), "{output:?}");
    Ok(())
}
