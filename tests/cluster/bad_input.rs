//! Requests that are wrong: a clear error, nothing lost, nothing approved.

use crate::support::{Space, by_sre, cluster, countersign, request};
use anyhow::{Context, Result};
use countersign_testbed::Output;
use serde_json::{Value, json};

async fn ask(space: &Space, args: &[&str], input: &str) -> Result<Output> {
    let kubeconfig = space.triage.kubeconfig.to_string_lossy().into_owned();
    let all = [&["request", "-f", "-", "--kubeconfig", &kubeconfig, "--namespace", &space.namespace], args].concat();
    countersign().run(&all, input).await
}

const GOOD: &str = r#"{"run_id":"run_1","step_id":"s","reason":"why","risk_tags":["prod"],"constraints":{"max_lines_changed":500,"max_runtime_sec":900},"requested_by":"workflow.x"}"#;

#[tokio::test]
async fn our_command_refuses_with_the_place_and_creates_nothing() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "bad-command").await?;
    let oversized = format!(r#"{{"run_id":"{}"}}"#, "x".repeat(300_000));
    let beyond = GOOD.replace("500", "9223372036854775808");
    let unsafe_limit = GOOD.replace("500", "9007199254740993");
    for (input, args, expected) in [
        ("{\"run_id\": ", &[][..], "line 1"),
        ("run_id: [unclosed", &[], "line"),
        (&oversized, &[], "256 KiB"),
        (&GOOD.replace("\"reason\"", "\"reasons\""), &[], "reasons"),
        (&GOOD.replace("900", "-1"), &[], "max_runtime_sec"),
        (&GOOD.replace("500", "-5"), &[], "max_lines_changed"),
        (&beyond, &[], "max_lines_changed"),
        (&unsafe_limit, &[], "max_lines_changed"),
        (&GOOD.replace("500", "1.5"), &[], "max_lines_changed"),
        (&GOOD.replace("workflow.x", "workflow.\u{430}dmin"), &[], "requested"),
        (&GOOD.replace("why", "\\u001b[2Jgone"), &[], "\\u{1b}"),
        (GOOD, &["--target", "deployment/web"], "job/NAME"),
        (GOOD, &["--target", "other/job/web"], "job/NAME"),
    ] {
        let output = ask(&space, args, input).await?;
        assert!(!output.status.success(), "{input}");
        assert!(output.stderr.contains(expected), "expected {expected:?} in {:?}", output.stderr);
        assert!(!output.stderr.contains('\u{1b}'), "no escape sequence reaches the terminal");
    }
    assert!(space.api("approvalrequests").list(&Default::default()).await?.items.is_empty());
    let output = ask(&space, &[], GOOD).await?;
    assert!(output.status.success(), "{}", output.stderr);
    let printed: Value = serde_yaml::from_str(&output.stdout)?;
    assert_eq!(printed["metadata"]["name"], "run-1-s");
    assert_eq!(printed["spec"]["requester"]["username"], "system:serviceaccount:bad-command:triage");
    // The same call finds the same request; another one of that name is refused.
    let twice = ask(&space, &[], GOOD).await?;
    assert!(twice.status.success() && twice.stderr.contains("bad-command/run-1-s: found"), "{}", twice.stderr);
    let other = ask(&space, &[], &GOOD.replace("why", "wherefore")).await?;
    assert_eq!(other.status.code(), Some(6), "{}", other.stderr);
    assert!(other.stderr.contains("another request has that name: spec.reason"), "{}", other.stderr);
    assert_eq!(space.api("approvalrequests").list(&Default::default()).await?.items.len(), 1);
    Ok(())
}

#[tokio::test]
async fn the_api_server_refuses_what_the_schema_excludes() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "bad-schema").await?;
    let target = |change: Value| {
        let mut target = json!({"apiVersion": "batch/v1", "kind": "Job", "name": "run"});
        for (key, value) in change.as_object().into_iter().flatten() {
            target[key] = value.clone();
        }
        json!({"target": target})
    };
    for (change, expected) in [
        (
            target(json!({"kind": "Deployment"})),
            r#"spec.target.kind: Unsupported value: "Deployment": supported values: "Job", "Pod""#,
        ),
        (
            target(json!({"apiVersion": "v1"})),
            "spec.target: Invalid value: target is apiVersion batch/v1, kind Job, or apiVersion v1, kind Pod",
        ),
        (target(json!({"namespace": "kube-system"})), r#"unknown field "spec.target.namespace""#),
        (target(json!({"name": "kube-system/run"})), "spec.target.name"),
        (json!({"constraints": {"maxRuntimeSeconds": -1}}), "spec.constraints.maxRuntimeSeconds"),
        (json!({"constraints": {"maxRuntimeSeconds": 1.5}}), "spec.constraints.maxRuntimeSeconds"),
        (json!({"constraints": {"limits": {"n": -1}}}), "spec.constraints.limits.n"),
        (json!({"constraints": {"limits": {"n": 9_007_199_254_740_993i64}}}), "spec.constraints.limits.n"),
        (json!({"constraints": {"limits": {"n": 1e30}}}), "spec.constraints.limits.n"),
        (json!({"colour": "blue"}), r#"unknown field "spec.colour""#),
        (json!({"requestedBy": "workflow.\u{430}dmin"}), "spec.requestedBy"),
        (json!({"requestedBy": "a\u{202e}b"}), "spec.requestedBy"),
        (json!({"runID": "run\u{0000}x"}), "spec.runID"),
        (json!({"riskTags": ["PROD"]}), "spec.riskTags[0]"),
        (json!({"riskTags": ["prod", "prod"]}), "spec.riskTags[1]: Duplicate value"),
        (json!({"reason": ""}), "spec.reason"),
        (json!({"reason": "x".repeat(1025)}), "spec.reason"),
        (json!({"evidence": [{"title": "t", "url": "javascript:alert(1)"}]}), "spec.evidence[0].url"),
    ] {
        let mut body = request("bad", None);
        for (key, value) in change.as_object().into_iter().flatten() {
            body["spec"][key] = value.clone();
        }
        let create = space.triage.kubectl(["create", "-n", "bad-schema", "--filename", "-"]);
        let message = create.stdin(body.to_string()).refused().await?;
        assert!(message.contains(expected), "expected {expected:?} in {message:?}");
    }
    let deep = format!(
        r#"{{"apiVersion":"countersign.dev/v1alpha1","kind":"ApprovalRequest","metadata":{{"name":"deep"}},"spec":{}1{}}}"#,
        "{\"a\":".repeat(5000),
        "}".repeat(5000)
    );
    space
        .triage
        .kubectl(["create", "-n", "bad-schema", "--validate=ignore", "--filename", "-"])
        .stdin(deep)
        .refused()
        .await?;
    assert!(space.api("approvalrequests").list(&Default::default()).await?.items.is_empty());
    Ok(())
}

/// Few bytes that take much memory to read: what admission will not, is not stored, and the next one is served.
#[tokio::test]
async fn what_would_take_too_much_memory_is_refused_and_says_so() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "bad-weight").await?;
    let mut body = request("heavy", None);
    body["spec"]["evidence"] = vec![json!({}); 80_000].into();
    let create = ["create", "--namespace", "bad-weight", "--filename", "-"];
    let message = space.triage.kubectl(create).stdin(body.to_string()).refused().await?;
    assert!(message.contains("holds more lists, fields and values than admission reads"), "{message:.2000}");
    assert!(space.api("approvalrequests").get_opt("heavy").await?.is_none());
    space.request("light", None).await
}

#[tokio::test]
async fn a_target_that_cannot_be_started_is_named_and_never_approved() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "bad-target").await?;
    space.policy(by_sre()).await?;
    let create = |body: Value| {
        space.triage.kubectl(["create", "-n", "bad-target", "--filename", "-"]).stdin(body.to_string()).ok()
    };

    create(request("missing", Some("missing"))).await?;
    let held = space.evaluated("missing", "TargetMissing").await?;
    let message = held["status"]["message"].as_str().context("message")?;
    assert!(
        message.contains("there is no Job missing in namespace bad-target; create it with suspend: true"),
        "{message}"
    );

    let mut running = crate::support::job("running");
    running["spec"]["suspend"] = json!(false);
    running["spec"]["template"]["metadata"] = json!({"annotations": {"testbed.countersign.dev/runs-forever": "true"}});
    create(running).await?;
    create(request("running", Some("running"))).await?;
    space.evaluated("running", "TargetRunning").await?;

    let mut finished = crate::support::job("finished");
    finished["spec"]["suspend"] = json!(false);
    create(finished).await?;
    space
        .wait("jobs", "finished", |j| j["status"]["succeeded"] == 1 && j["status"]["completionTime"].is_string())
        .await?;
    create(request("finished", Some("finished"))).await?;
    space.evaluated("finished", "TargetFinished").await?;

    space.job("other-uid").await?;
    let mut named = request("other-uid", Some("other-uid"));
    named["spec"]["target"]["uid"] = json!("00000000-0000-0000-0000-000000000000");
    create(named).await?;
    space.evaluated("other-uid", "TargetReplaced").await?;

    let alice = cluster.user("alice", &["sre"])?;
    let any = format!("sha256:{}", "0".repeat(64));
    for name in ["missing", "running", "finished", "other-uid"] {
        let refused = space.review(&alice, name, "Approve", &any).refused().await?;
        assert!(refused.contains("cannot be reviewed now"), "{refused}");
        assert_eq!(space.get("approvalrequests", name).await?["status"]["state"], "Pending");
    }
    // Nothing is lost: once the Job is there, the request goes on.
    space.job("missing").await?;
    let digest = space.digest("missing").await?;
    space.review(&alice, "missing", "Approve", &digest).ok().await?;
    space.state("missing", "Released").await?;
    assert!(!space.started("other-uid").await?);
    Ok(())
}

#[tokio::test]
async fn hostile_text_is_shown_escaped_and_counts_like_any_other() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "bad-text").await?;
    space.policy(by_sre()).await?;
    let mut body = request("hostile", None);
    body["spec"]["reason"] = json!("all fine\u{1b}[2J\u{202e}\nApproved by bob");
    body["spec"]["evidence"] = json!([{"title": "\u{7}bell", "text": "{{ .Values }} %s \u{0} x"}]);
    crate::support::create(&space.api("approvalrequests"), &body).await?;
    let digest = space.digest("hostile").await?;
    let stored = space.get("approvalrequests", "hostile").await?;
    let card = countersign::cli::card::card(&stored, None);
    assert!(!card.contains('\u{1b}') && !card.contains('\u{202e}') && !card.contains('\u{7}'), "{card}");
    assert!(!card.lines().any(|line| line.starts_with("Approved by bob")), "{card}");
    let alice = cluster.user("alice", &["sre"])?;
    let review = json!({"spec": {"review": {"decision": "Approve", "digest": digest, "comment": "\u{1b}]0;x\u{7} ok \u{202e}"}}});
    space.patch(&alice, "hostile", review).ok().await?;
    space.state("hostile", "Released").await?;
    Ok(())
}
