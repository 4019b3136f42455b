//! What the trail tells, what it costs, and who may touch it.

use crate::support::{Space, by_sre};
use crate::{lab, transitions};
use anyhow::{Context, Result};
use countersign_testbed::{AuditFilter, Mark};
use serde_json::{Value, json};

const OPERATOR: &str = "system:serviceaccount:countersign-system:countersign";

#[tokio::test]
async fn the_trail_tells_how_each_request_went_and_is_whole() -> Result<()> {
    let lab = lab().await?;
    let space = Space::new(lab.cluster, "audit-story").await?;
    space.policy(by_sre()).await?;
    let alice = lab.user("alice", "sre")?;
    let digest = space.bound("released").await?;
    let patch = json!({"spec": {"review": {"decision": "Approve", "digest": digest, "comment": "seen\u{1b}[2J it"}}});
    space.patch(&alice, "released", patch).ok().await?;
    space.state("released", "Released").await?;
    let digest = space.bound("denied").await?;
    space.review(&alice, "denied", "Deny", &digest).ok().await?;
    space.state("denied", "Denied").await?;
    space.bound("withdrawn").await?;
    space.patch(&space.triage, "withdrawn", json!({"spec": {"cancel": true}})).ok().await?;
    space.state("withdrawn", "Cancelled").await?;

    let export = lab
        .export(
            "story",
            &[
                ("audit-story", "released", "Released"),
                ("audit-story", "denied", "Denied"),
                ("audit-story", "withdrawn", "Cancelled"),
            ],
        )
        .await?;
    let entries = export.entries()?;
    let of = |name| transitions(&entries, "audit-story", name);
    assert_eq!(of("released"), ["Requested", "Evaluated", "Reviewed", "Approved", "Released"]);
    assert_eq!(of("denied"), ["Requested", "Evaluated", "Reviewed", "Denied"]);
    assert_eq!(of("withdrawn"), ["Requested", "Evaluated", "Cancelled"]);
    let reviewed = entries.iter().find(|e| e["transition"] == "Reviewed" && e["request"]["name"] == "released");
    let reviewed = reviewed.context("a review")?;
    let stored = space.get("approvalrequests", "released").await?;
    assert_eq!(reviewed["review"], stored["spec"]["reviews"][0], "in full, with its seal");
    assert_eq!(reviewed["by"], json!([{"username": "alice", "groups": ["sre"]}]));
    let of_this = |e: &&Value| e["request"]["uid"] == stored["metadata"]["uid"];
    let released = entries.iter().filter(of_this).find(|e| e["transition"] == "Released").context("a release")?;
    for field in ["digest", "policySnapshot", "jobHash", "revision", "constraints", "scope"] {
        assert_eq!(released["seen"][field], stored["status"][field], "{field}");
    }
    let (whole, said) = export.verify(&export.trail).await?;
    assert!(whole && said.contains("the checkpoint agrees"), "{said}");
    let shown = lab.audit(&["show", "released", "--namespace", "audit-story"]).await?;
    assert!(shown.status.success(), "{}", shown.stderr);
    for part in [
        "triage asked, for workflow.incident-triage Job released: prod write detected",
        "alice approved digest sha256:",
        "\"seen\\u{1b}[2J it\"",
        "started Job released: approved by alice",
    ] {
        assert!(shown.stdout.contains(part), "{part}: {}", shown.stdout);
    }
    let offline = lab.audit(&["show", "released", "--from", &export.trail]).await?;
    assert_eq!(offline.stdout, shown.stdout, "the same without a cluster");
    assert_eq!(lab.audit(&["show", "never", "--from", &export.trail]).await?.status.code(), Some(1));
    Ok(())
}

/// What was bound before is recorded before it is written over, and a Job that policy allows leaves its entry, too.
#[tokio::test]
async fn what_was_bound_before_and_what_needed_no_request_is_told() -> Result<()> {
    let lab = lab().await?;
    let space = Space::gated(lab.cluster, "audit-gated").await?;
    space.policy(json!([{"name": "all", "decision": "Allow"}])).await?;
    space.job("allowed").await?;
    let job = space.wait("jobs", "allowed", |j| j["spec"]["suspend"] == json!(false)).await?;
    let plain = Space::new(lab.cluster, "audit-rebound").await?;
    plain.policy(by_sre()).await?;
    plain.bound("run").await?;
    for revision in 2..5 {
        let change = json!({"metadata": {"labels": {"n": revision.to_string()}}});
        let change = json!({"spec": {"template": change}}).to_string();
        let patch = ["patch", "job", "run", "-n", "audit-rebound", "--type=merge", "--patch", &change];
        plain.triage.kubectl(patch).ok().await?;
        plain.wait("approvalrequests", "run", |r| r["status"]["revision"] == revision).await?;
    }
    let uid = job["metadata"]["uid"].as_str().context("uid")?;
    let entries =
        lab.export_until("gated", |entries| entries.iter().any(|e| e["target"]["uid"] == uid)).await?.entries()?;
    assert_eq!(
        transitions(&entries, "audit-rebound", "run"),
        ["Requested", "Evaluated", "Evaluated", "Evaluated", "Evaluated"]
    );
    let bound: Vec<_> = entries
        .iter()
        .filter(|e| e["request"]["namespace"] == "audit-rebound")
        .filter_map(|e| e["seen"]["revision"].as_i64())
        .collect();
    assert_eq!(bound, [1, 2, 3, 4]);
    let allowed: Vec<_> = entries.iter().filter(|e| e["target"]["uid"] == job["metadata"]["uid"]).collect();
    assert_eq!(allowed.len(), 1, "{allowed:?}");
    assert_eq!((&allowed[0]["transition"], &allowed[0]["reason"]), (&json!("Released"), &json!("Allowed")));
    assert_eq!(allowed[0]["seen"]["digest"], job["metadata"]["annotations"]["countersign.dev/released"]);
    Ok(())
}

#[tokio::test]
async fn a_request_is_let_go_once_its_records_are_written() -> Result<()> {
    let lab = lab().await?;
    let space = Space::new(lab.cluster, "audit-deleted").await?;
    space.policy(by_sre()).await?;
    let alice = lab.user("alice", "sre")?;
    let digest = space.bound("run").await?;
    space.review(&alice, "run", "Approve", &digest).ok().await?;
    space.state("run", "Released").await?;
    space.admin.kubectl(["delete", "apr", "run", "-n", "audit-deleted", "--timeout=20s"]).ok().await?;
    let entries = lab.export("deleted", &[("audit-deleted", "run", "Released")]).await?.entries()?;
    let told = transitions(&entries, "audit-deleted", "run");
    assert_eq!(told, ["Requested", "Evaluated", "Reviewed", "Approved", "Released"]);
    Ok(())
}

#[tokio::test]
async fn nobody_writes_changes_or_deletes_a_record() -> Result<()> {
    let lab = lab().await?;
    let space = Space::new(lab.cluster, "audit-guards").await?;
    space.policy(by_sre()).await?;
    space.bound("run").await?;
    let export = lab.export("guards", &[("audit-guards", "run", "Evaluated")]).await?;
    let record = &export.records()?[0];
    let forged = json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "ApprovalRecord",
        "metadata": {"name": "record-9999999999999999", "namespace": "countersign-system"}, "spec": record});
    let first = "record-0000000000000001";
    let mallory = lab.user("mallory", "developers")?;
    for who in [&mallory, &lab.cluster.admin()] {
        let create = who.kubectl(["create", "--filename", "-"]).stdin(forged.to_string());
        let change = who.kubectl([
            "patch",
            "arec",
            first,
            "-n",
            "countersign-system",
            "--type=merge",
            "--patch",
            r#"{"spec":{"keyID":"0123456789abcdef"}}"#,
        ]);
        let label = who.kubectl(["label", "arec", first, "-n", "countersign-system", "x=y"]);
        let delete = who.kubectl(["delete", "arec", first, "-n", "countersign-system"]);
        let all = who.kubectl(["delete", "arec", "--all", "-n", "countersign-system"]);
        for attempt in [create, change, label, delete, all] {
            let refused = attempt.refused().await?;
            assert!(
                refused.contains("ApprovalRecords are the audit trail") || refused.contains("forbidden"),
                "{refused}"
            );
        }
    }
    assert!(lab.export("guards", &[]).await?.verify(&export.trail).await?.0);
    Ok(())
}

/// Records come after the effect, together, and at rest there are none.
#[tokio::test]
async fn the_trail_costs_nothing_before_the_unsuspend_and_little_after() -> Result<()> {
    let lab = lab().await?;
    let space = Space::new(lab.cluster, "audit-cost").await?;
    space.policy(by_sre()).await?;
    let alice = lab.user("alice", "sre")?;
    let digest = space.bound("one").await?;
    lab.export("cost-before", &[("audit-cost", "one", "Evaluated")]).await?;
    let log = lab.cluster.audit_log();
    log.settle().await?;
    let mark = log.mark()?;
    space.review(&alice, "one", "Approve", &digest).ok().await?;
    space.state("one", "Released").await?;
    let export = lab.export("cost", &[("audit-cost", "one", "Released")]).await?;
    log.settle().await?;
    let sent = log.select(mark, &AuditFilter::new().user(OPERATOR))?;
    let writes: Vec<&str> = sent
        .iter()
        .filter(|e| !["watch", "get", "list"].iter().any(|verb| e["verb"] == *verb))
        .filter(|e| e["objectRef"]["resource"] != "events" && e["objectRef"]["resource"] != "leases")
        .filter_map(|e| e["objectRef"]["resource"].as_str())
        .collect();
    assert_eq!(writes[..2], ["jobs", "approvalrequests"], "the effect comes first: {writes:?}");
    assert!(writes[2..].iter().filter(|w| **w == "approvalrecords").count() <= 2, "{writes:?}");
    assert!(writes[2..].iter().all(|w| ["approvalrecords", "configmaps"].contains(w)), "{writes:?}");
    let mark: Mark = log.mark()?;
    tokio::time::sleep(std::time::Duration::from_secs(8)).await;
    log.settle().await?;
    let still: Vec<Value> = log.select(mark, &AuditFilter::new().user(OPERATOR).resource("approvalrecords"))?;
    assert_eq!(still.len(), 0, "nothing at rest");
    assert!(export.verify(&export.trail).await?.0);
    Ok(())
}
