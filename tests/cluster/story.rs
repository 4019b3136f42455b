//! The whole story with kubectl only: from the compact request to a completed Job.

use crate::support::{Space, by_sre, cluster, conditions, countersign};
use anyhow::{Context, Result};
use serde_json::json;

const COMPACT: &str = r#"{"run_id":"run_8f9a","step_id":"remediate","reason":"prod write detected","policy_snapshot":"7f3d...9c2b","risk_tags":["prod","write"],"constraints":{"max_lines_changed":500,"max_runtime_sec":900},"requested_by":"workflow.incident-triage"}"#;

#[tokio::test]
async fn from_the_compact_request_to_a_completed_job() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "story").await?;
    space.policy(by_sre()).await?;
    let kubectl = |args: &[&str]| space.triage.kubectl([args, &["--namespace", "story"]].concat());
    kubectl(&["create", "--filename", "-"]).stdin(crate::support::job("remediate-8f9a").to_string()).ok().await?;
    let dry =
        countersign().run(&["request", "-f", "-", "--target", "job/remediate-8f9a", "--dry-run"], COMPACT).await?;
    assert!(dry.status.success(), "{}", dry.stderr);
    kubectl(&["create", "--filename", "-"]).stdin(dry.stdout).ok().await?;

    let name = "run-8f9a-remediate";
    let alice = cluster.user("alice", &["sre"])?;
    let read = |path: &str| {
        alice.kubectl(["get", "apr", name, "--namespace", "story", &format!("--output=jsonpath={path}")]).ok()
    };
    space.digest(name).await?;
    let message = read("{.status.message}").await?;
    let digest = read("{.status.digest}").await?;
    assert!(message.contains("waiting for 1 approval from sre"), "{message}");
    assert!(message.contains(&digest) && message.contains(&format!("kubectl patch apr {name} -n story")), "{message}");
    let line = alice.kubectl(["get", "apr", "--namespace", "story"]).ok().await?;
    let row: Vec<_> = line.lines().nth(1).context("a row")?.split_whitespace().collect();
    assert_eq!(row[..6], [name, "Pending", "prod,write", "prod-write", "workflow.incident-triage", "0/1"], "{line}");
    assert!(line.starts_with("NAME"), "{line}");
    let header: Vec<_> = line.lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(header, ["NAME", "STATE", "RISK", "RULE", "REQUESTED-BY", "APPROVALS", "AGE"]);

    let patch = json!({"spec": {"review": {"decision": "Approve", "digest": digest, "comment": "seen the diff"}}});
    alice.kubectl(["patch", "apr", name, "-n", "story", "--type=merge", "-p", &patch.to_string()]).ok().await?;
    let wait =
        |what: &str, object: &str| alice_or(&space, ["wait", what, object, "--namespace", "story", "--timeout=30s"]);
    wait("--for=condition=Released", &format!("apr/{name}")).ok().await?;
    wait("--for=condition=Complete", "job/remediate-8f9a").ok().await?;

    let job = space.get("jobs", "remediate-8f9a").await?;
    assert_eq!(job["spec"]["activeDeadlineSeconds"], 900);
    assert_eq!(job["metadata"]["annotations"]["countersign.dev/released"], json!(digest));
    let template = &job["spec"]["template"]["metadata"]["annotations"];
    let constraints: serde_json::Value =
        serde_json::from_str(template["countersign.dev/constraints"].as_str().context("constraints")?)?;
    assert_eq!(constraints, json!({"maxRuntimeSeconds": 900, "limits": {"maxLinesChanged": 500}}));
    assert!(template["countersign.dev/receipt"].as_str().context("receipt")?.contains("signatures"));
    let pods = space.api("pods").list(&Default::default()).await?.items;
    assert!(
        pods[0].metadata.annotations.as_ref().is_some_and(|a| a.contains_key("countersign.dev/receipt")),
        "the Pod carries it"
    );

    let request = space.get("approvalrequests", name).await?;
    let held: Vec<_> =
        conditions(&request).filter(|c| c["status"] == "True").filter_map(|c| c["type"].as_str()).collect();
    assert_eq!(held, ["Evaluated", "Approved", "Released"]);
    assert_eq!(
        request["spec"]["policySnapshot"], "7f3d...9c2b",
        "what the workflow planned against stays beside the one in force"
    );
    assert_eq!(request["spec"]["requester"]["username"], "system:serviceaccount:story:triage");
    assert_eq!(request["status"]["approvals"][0]["approvedBy"], json!(["alice"]));
    let after = alice.kubectl(["get", "apr", name, "-n", "story", "--output=wide"]).ok().await?;
    assert!(
        after.contains("Released")
            && after.contains("1/1")
            && after.contains(&digest)
            && after.contains("remediate-8f9a"),
        "{after}"
    );
    Ok(())
}

fn alice_or(space: &Space, args: [&str; 6]) -> countersign_testbed::Kubectl {
    space.admin.kubectl(args)
}
