//! Two things at once: one coherent outcome, and everybody is told the truth of it.

use crate::support::{Space, by_sre, cluster};
use crate::{run, told};
use anyhow::{Result, ensure};
use countersign_testbed::Output;
use serde_json::{Value, json};

const YES: [&str; 4] = ["run", "--yes", "--wait", "20s"];

/// The review that somebody gave, by what is stored.
fn stored(request: &Value, who: &str) -> bool {
    let reviews = request.pointer("/spec/reviews").and_then(Value::as_array);
    reviews.is_some_and(|reviews| reviews.iter().any(|review| review["reviewer"]["username"] == who))
}

/// A command tells the truth: it succeeded just where its review is stored, and what it says of the end is the end.
fn truthful(output: &Output, who: &str, request: &Value) -> Result<()> {
    let (code, text) = told(output);
    let state = request["status"]["state"].as_str().unwrap_or_default();
    let given = stored(request, who);
    let said_stored = matches!(code, Some(0 | 6)) || (code == Some(4) && text.contains("counts no more"));
    ensure!(said_stored == given, "{who}: {code:?} {text}\n{request:#}");
    ensure!(!text.ends_with(": released\n") || state == "Released", "{who}: {text}\n{request:#}");
    ensure!(!text.ends_with(": denied\n") || state == "Denied", "{who}: {text}\n{request:#}");
    Ok(())
}

#[tokio::test]
async fn two_reviewers_at_once() -> Result<()> {
    let cluster = cluster().await?;
    let (alice, bob) = (cluster.user("alice", &["sre"])?, cluster.user("bob", &["sre"])?);
    for round in 0..3 {
        let space = Space::new(cluster, &format!("race-both-{round}")).await?;
        let mut rules = by_sre();
        rules[0]["approvals"]["requirements"][0]["count"] = json!(2);
        space.policy(rules).await?;
        space.bound("run").await?;
        let (first, second) = tokio::join!(run("approve", &alice, &space, &YES), run("approve", &bob, &space, &YES));
        let (first, second) = (first?, second?);
        let request = space.state("run", "Released").await?;
        truthful(&first, "alice", &request)?;
        truthful(&second, "bob", &request)?;
        let both = format!("{}{}", told(&first).1, told(&second).1);
        ensure!(both.contains("released") && space.started("run").await?, "{both}");
    }
    for round in 0..3 {
        // One says yes and one says no: whoever comes first decides.
        let space = Space::new(cluster, &format!("race-against-{round}")).await?;
        space.policy(by_sre()).await?;
        space.bound("run").await?;
        let (yes, no) = tokio::join!(run("approve", &alice, &space, &YES), run("deny", &bob, &space, &YES));
        let request = space.wait("approvalrequests", "run", |r| r["status"]["state"] != "Pending").await?;
        truthful(&yes?, "alice", &request)?;
        truthful(&no?, "bob", &request)?;
        assert_eq!(space.started("run").await?, request["status"]["state"] == "Released");
    }
    Ok(())
}

#[tokio::test]
async fn a_reviewer_and_the_end_of_time_at_once() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "race-expiry").await?;
    let alice = cluster.user("alice", &["sre"])?;
    let mut rules = by_sre();
    rules[0]["pendingTimeoutSeconds"] = json!(6);
    space.policy(rules).await?;
    let names: Vec<String> = (0..4).map(|i| format!("run-{i}")).collect();
    for name in &names {
        space.bound(name).await?;
    }
    let last = space.get("approvalrequests", &names[3]).await?;
    let end: jiff::Timestamp = last["status"]["pendingUntil"].as_str().unwrap_or_default().parse()?;
    // From somewhat before the end to somewhat after it.
    let before = end.duration_since(jiff::Timestamp::now()) - jiff::SignedDuration::from_millis(400);
    tokio::time::sleep(before.try_into().unwrap_or_default()).await;
    let review = async |i: usize| {
        tokio::time::sleep(std::time::Duration::from_millis(200 * i as u64)).await;
        run("approve", &alice, &space, &[names[i].as_str(), "--yes", "--wait", "20s"]).await
    };
    let outputs = tokio::join!(review(0), review(1), review(2), review(3));
    for (name, output) in names.iter().zip([outputs.0, outputs.1, outputs.2, outputs.3]) {
        let request = space.wait("approvalrequests", name, |r| r["status"]["state"] != "Pending").await?;
        truthful(&output?, "alice", &request)?;
        assert_eq!(space.started(name).await?, request["status"]["state"] == "Released", "{request:#}");
    }
    Ok(())
}

#[tokio::test]
async fn a_reviewer_and_an_edit_of_the_policy_at_once() -> Result<()> {
    let cluster = cluster().await?;
    let alice = cluster.user("alice", &["sre"])?;
    for round in 0..4u64 {
        let space = Space::new(cluster, &format!("race-policy-{round}")).await?;
        space.policy(by_sre()).await?;
        space.bound("run").await?;
        let mut edited = by_sre();
        edited[0]["approvals"]["requirements"][0]["count"] = json!(2);
        let review = async {
            tokio::time::sleep(std::time::Duration::from_millis(40 * round)).await;
            run("approve", &alice, &space, &YES).await
        };
        let (edit, output) = tokio::join!(space.policy(edited), review);
        edit?;
        let output = output?;
        let settled = |r: &Value| r["status"]["state"] == "Released" || r["status"]["revision"] == 2;
        let request = space.wait("approvalrequests", "run", settled).await?;
        truthful(&output, "alice", &request)?;
        let released = request["status"]["state"] == "Released";
        assert_eq!(space.started("run").await?, released, "{request:#}");
        if told(&output).1.contains(": released") {
            ensure!(released, "{request:#}");
        }
    }
    Ok(())
}
