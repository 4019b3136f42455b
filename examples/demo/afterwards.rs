//! `--keep`: a second request that waits for two people, and commands to try as each of them.

use crate::shell::{quoted, short};
use crate::stage::Stage;
use anyhow::{Context, Result};
use countersign_testbed::Identity;
use serde_json::Value;

const REQUEST: &str = "run-91c2-migrate";

/// Asks for the second approval, says what to try, and waits for Ctrl-C.
pub async fn invite(stage: &Stage) -> Result<()> {
    say!("\n8. Your turn: a schema change waits for one of sre and one of security");
    stage.shell.quietly(&stage.triage, "kubectl create -f examples/schema-change/job.yaml").await?;
    let ask = "countersign request -f examples/schema-change/request.json -n payments --target job/migrate-91c2";
    stage.shell.quietly(&stage.triage, ask).await?;
    let wait = format!("kubectl wait apr/{REQUEST} -n payments --for=jsonpath='{{.status.digest}}' --timeout=30s");
    stage.shell.quietly(&stage.triage, &wait).await?;
    let request = stage.alice.kubectl(["get", "apr", REQUEST, "-n", "payments"]).json().await?;
    let digest = request.pointer("/status/digest").and_then(Value::as_str).context("the request has no digest")?;
    say!("{}", commands(stage, digest));
    tokio::signal::ctrl_c().await.context("waiting for Ctrl-C")?;
    say!("\nStopping.");
    Ok(())
}

fn commands(stage: &Stage, digest: &str) -> String {
    let patch = |decision: &str| {
        let patch = format!(r#"{{"spec":{{"review":{{"decision":"{decision}","digest":"{digest}"}}}}}}"#);
        format!("kubectl patch apr {REQUEST} -n payments --type=merge -p '{patch}'")
    };
    let say = |who: &Identity, what: &str, command: &str| {
        format!("# {}: {what}\nKUBECONFIG={} {command}\n\n", short(who), quoted(&who.kubeconfig))
    };
    let mut text = format!("\nIn another terminal:\n\n{}\n\n", stage.shell.exports());
    text.push_str(&say(&stage.alice, "what waits, and for what", "kubectl get apr -n payments -o wide"));
    text.push_str(&say(&stage.mallory, "is refused, and told why", &patch("Approve")));
    text.push_str(&say(&stage.triage, "asked for it, so may not approve it", &patch("Approve")));
    text.push_str(&say(&stage.admin, "is cluster-admin, and still no approver", &patch("Approve")));
    text.push_str(&say(&stage.bob, "approves for sre: one more is missing", &patch("Approve")));
    text.push_str(&say(&stage.carol, "approves for security: the Job starts", &patch("Approve")));
    text.push_str(&say(&stage.alice, "or, before carol, ends it", &patch("Deny")));
    text.push_str("Everything keeps running until Ctrl-C.");
    text
}
