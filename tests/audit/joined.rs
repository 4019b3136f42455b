//! The trail beside the API server's own audit log: each leads to the other.

use crate::support::{Space, by_sre};
use crate::{Lab, lab};
use anyhow::{Context, Result, ensure};
use countersign_testbed::Mark;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The query of docs/audit.md, condition by condition.
fn is_of(event: &Value, entry: &Value) -> bool {
    let user = if event["impersonatedUser"].is_null() { &event["user"] } else { &event["impersonatedUser"] };
    event["objectRef"]["resource"] == "approvalrequests"
        && event["objectRef"]["namespace"] == entry["request"]["namespace"]
        && event["objectRef"]["name"] == entry["request"]["name"]
        && user["username"] == entry["by"][0]["username"]
        && event["annotations"]["requests.countersign.dev/verdict"] == "accepted"
        && event["annotations"]["requests.countersign.dev/decision"] == entry["reason"]
        && event["annotations"]["requests.countersign.dev/digest"] == entry["review"]["digest"]
        && event["responseStatus"]["code"] == 200
        && event["requestURI"].as_str().is_some_and(|uri| !uri.contains("dryRun="))
}

async fn events(lab: &Lab, mark: Mark) -> Result<Vec<Value>> {
    let log = lab.cluster.audit_log();
    log.settle().await?;
    log.events_since(mark)
}

/// The one event that the query finds for the review of a request.
fn joined<'a>(events: &'a [Value], entries: &[Value], name: &str) -> Result<&'a Value> {
    let of = |e: &&Value| {
        e["transition"] == "Reviewed" && e["request"]["namespace"] == "audit-joined" && e["request"]["name"] == name
    };
    let entry = entries.iter().find(of).context("a review in the trail")?;
    let found: Vec<_> = events.iter().filter(|event| is_of(event, entry)).collect();
    ensure!(found.len() == 1, "{name}: {found:#?}");
    ensure!(found[0]["auditID"].as_str().is_some_and(|id| !id.is_empty()), "{:#}", found[0]);
    Ok(found[0])
}

#[tokio::test]
async fn the_api_servers_audit_log_says_what_was_decided_and_who_spoke_for_whom() -> Result<()> {
    let lab = lab().await?;
    let mark = lab.cluster.audit_log().mark()?;
    let space = Space::new(lab.cluster, "audit-joined").await?;
    space.policy(by_sre()).await?;
    let (alice, mallory) = (lab.user("alice", "sre")?, lab.user("mallory", "developers")?);
    let digest = space.bound("run").await?;
    let word =
        |decision: &str| json!({"spec": {"review": {"decision": decision, "digest": digest, "comment": "hunter2"}}});
    let approve = word("Approve").to_string();
    let tried = ["patch", "apr", "run", "-n", "audit-joined", "--type=merge", "--dry-run=server", "--patch", &approve];
    alice.kubectl(tried).ok().await?;
    space.patch(&mallory, "run", word("Approve")).refused().await?;
    space.patch(&alice, "run", word("Approve")).ok().await?;
    space.state("run", "Released").await?;
    let denied = space.bound("as-bob").await?;
    let deny = json!({"spec": {"review": {"decision": "Deny", "digest": denied}}}).to_string();
    let as_bob = ["patch", "apr", "as-bob", "-n", "audit-joined", "--type=merge", "--patch", &deny];
    lab.cluster.admin().kubectl(as_bob.iter().chain(&["--as", "bob", "--as-group", "sre"])).ok().await?;
    let told = [("audit-joined", "run", "Released"), ("audit-joined", "as-bob", "Denied")];
    let entries = lab.export("joined", &told).await?.entries()?;

    let events = events(&lab, mark).await?;
    let approved = joined(&events, &entries, "run")?;
    assert_eq!((&approved["user"]["username"], &approved["verb"]), (&json!("alice"), &json!("patch")));
    assert_eq!(approved["annotations"]["requests.countersign.dev/digest"], digest.as_str());
    assert_eq!(approved["annotations"]["requests.countersign.dev/reason"], "Accepted");
    let spoken = joined(&events, &entries, "as-bob")?;
    assert_eq!(spoken["impersonatedUser"]["username"], "bob");
    assert_ne!(spoken["user"]["username"], "bob", "only the audit log knows");
    let refused =
        |e: &&Value| e["user"]["username"] == "mallory" && e["objectRef"]["name"] == "run" && e["verb"] == "patch";
    let refused = events.iter().find(refused).context("the refused attempt")?;
    for (key, value) in
        [("verdict", "refused"), ("reason", "NotAnApprover"), ("decision", "Approve"), ("digest", &digest)]
    {
        assert_eq!(refused["annotations"][format!("requests.countersign.dev/{key}")], value, "{refused:#}");
    }
    // From level Request on, the API server itself logs what a webhook patched.
    let annotations = events.iter().filter_map(|e| e["annotations"].as_object()).flatten();
    let ours: Vec<_> = annotations.filter(|(key, _)| key.contains(".countersign.dev/")).collect();
    assert!(ours.len() >= 8 && ours.iter().all(|(_, value)| !value.to_string().contains("hunter2")), "{ours:?}");
    let documented = include_str!("../../docs/audit.md");
    for part in ["requests.countersign.dev/digest", "requests.countersign.dev/decision", ".impersonatedUser // .user"] {
        assert!(documented.contains(part), "{part}");
    }
    Ok(())
}

#[tokio::test]
async fn refused_attempts_are_told_in_aggregate_and_a_dry_run_is_none() -> Result<()> {
    let lab = lab().await?;
    let space = Space::new(lab.cluster, "audit-refused").await?;
    space.policy(by_sre()).await?;
    let mallory = lab.user("mallory", "developers")?;
    let digest = space.bound("run").await?;
    let patch = json!({"spec": {"review": {"decision": "Approve", "digest": digest, "comment": "hunter2"}}});
    let tried = ["patch", "apr", "run", "-n", "audit-refused", "--type=merge", "--dry-run=server", "--patch"];
    let text = patch.to_string();
    mallory.kubectl(tried.iter().copied().chain([text.as_str()])).refused().await?;
    for _ in 0..5 {
        space.patch(&mallory, "run", patch.clone()).refused().await?;
    }
    let of_this = |e: &&Value| e["transition"] == "Refused" && e["request"]["namespace"] == "audit-refused";
    let counted = |entries: &[Value]| entries.iter().filter(of_this).filter_map(|e| e["count"].as_i64()).sum::<i64>();
    let export = lab.export_until("refused", |entries| counted(entries) >= 5).await?;
    let entries = export.entries()?;
    assert_eq!(counted(&entries), 5);
    for entry in entries.iter().filter(of_this) {
        assert_eq!((&entry["reason"], &entry["request"]["name"]), (&json!("NotAnApprover"), &json!("run")));
        assert_eq!(entry["by"][0]["username"], "mallory");
        assert!(!entry.to_string().contains("hunter2"), "{entry}");
    }
    let (whole, said) = export.verify(&export.trail).await?;
    assert!(whole, "{said}");
    let shown = lab.audit(&["show", "run", "--namespace", "audit-refused", "--from", &export.trail]).await?.stdout;
    assert!(shown.contains("times: mallory: UPDATE of approvalrequests \"run\" was refused: NotAnApprover"), "{shown}");
    Ok(())
}

#[tokio::test]
async fn an_event_about_an_end_names_the_entry() -> Result<()> {
    let lab = lab().await?;
    let space = Space::new(lab.cluster, "audit-events").await?;
    space.policy(by_sre()).await?;
    let alice = lab.user("alice", "sre")?;
    let digest = space.bound("run").await?;
    space.review(&alice, "run", "Approve", &digest).ok().await?;
    space.state("run", "Released").await?;
    let entries = lab.export("events", &[("audit-events", "run", "Released")]).await?.entries()?;
    let of_this = |e: &Value| e["transition"] == "Released" && e["request"]["namespace"] == "audit-events";
    let number = entries.iter().position(of_this).context("the entry")? + 1;
    let wanted = format!("(audit entry {number})");
    let began = Instant::now();
    loop {
        let list = space.admin.kubectl(["get", "events", "-n", "audit-events"]).json().await?;
        let told: Vec<_> =
            list["items"].as_array().context("items")?.iter().filter_map(|e| e["message"].as_str()).collect();
        if told.iter().any(|note| note.ends_with(&wanted)) {
            return Ok(());
        }
        ensure!(began.elapsed() < Duration::from_secs(20), "{wanted}: {told:#?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
