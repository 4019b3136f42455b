//! Who last changed a policy is nobody's to write, also while no webhook stamps it.

use crate::{Gate, refused};
use anyhow::{Result, ensure};
use countersign_testbed::{Identity, Kubectl};
use serde_json::{Value, json};

const NOBODY_ELSE: &str = "countersign.dev/edited-by names who last changed the spec, and that is you now, mallory";
const AS_IT_IS: &str = "countersign.dev/edited-by names who last changed the spec, and the spec stays as it is";

fn policy(name: &str, editor: Option<&str>, rule: &str) -> Value {
    let mut policy = json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "ApprovalPolicy", "metadata": {"name": name},
        "spec": {"match": {"namespaceSelector": {"matchLabels": {"test": "none"}}}, "rules": [{"name": rule, "decision": "Deny"}]}});
    if let Some(editor) = editor {
        policy["metadata"]["annotations"] = json!({"countersign.dev/edited-by": editor});
    }
    policy
}

fn write(who: &Identity, verb: &str, body: &Value) -> Kubectl {
    who.kubectl([verb, "-f", "-"]).stdin(body.to_string())
}

fn patch(who: &Identity, patch: Value) -> Kubectl {
    who.kubectl(["patch", "apol", "edited", "--type=merge", "--patch", &patch.to_string()])
}

fn edited_by(editor: Option<&str>) -> Value {
    json!({"metadata": {"annotations": {"countersign.dev/edited-by": editor}}})
}

fn with_rule(editor: Option<&str>, rule: &str) -> Value {
    let mut patch = edited_by(editor);
    patch["spec"] = json!({"rules": [{"name": rule, "decision": "Deny"}]});
    patch
}

async fn editor(gate: &Gate) -> Result<Value> {
    let stored = gate.admin().kubectl(["get", "apol", "edited", "-o", "json"]).json().await?;
    Ok(stored["metadata"]["annotations"]["countersign.dev/edited-by"].clone())
}

pub async fn nobody_writes_another_as_the_editor(gate: &Gate) -> Result<()> {
    let (alice, mallory, operator) = (gate.alice()?, gate.mallory()?, gate.operator().await?);
    gate.until(&policy("probe", Some("alice"), "r"), |text| text.contains("'countersign-policies'")).await?;
    for forged in ["alice", "system:masters", "mallory\nalice"] {
        refused(write(&mallory, "create", &policy("edited", Some(forged), "r")), NOBODY_ELSE).await?;
    }
    write(&alice, "create", &policy("edited", Some("alice"), "r")).ok().await?;
    // The spec stays: so does the stamp, whoever comes.
    for forged in [Some("mallory"), Some("bob"), Some(""), None] {
        refused(patch(&mallory, edited_by(forged)), AS_IT_IS).await?;
        refused(patch(&alice, edited_by(forged)), AS_IT_IS).await?;
    }
    refused(write(&mallory, "replace", &policy("edited", None, "r")), AS_IT_IS).await?;
    let status = json!({"metadata": edited_by(Some("mallory"))["metadata"], "status": {"snapshot": "x"}}).to_string();
    let through = ["patch", "apol", "edited", "--subresource=status", "--type=merge", "--patch", &status];
    ensure!(mallory.kubectl(through).refused().await?.contains("written by the Countersign operator alone"));
    patch(&mallory, json!({"metadata": {"labels": {"a": "b"}}})).ok().await?;
    ensure!(editor(gate).await? == "alice");
    // The operator's own write of the status goes through, and changes nothing else.
    let done = [
        "patch",
        "apol",
        "edited",
        "--subresource=status",
        "--type=merge",
        "--patch",
        r#"{"status":{"snapshot":"x"}}"#,
    ];
    operator.kubectl(done).ok().await?;
    // Whoever changes the spec cannot leave it to alice, nor put it on another.
    refused(patch(&mallory, json!({"spec": with_rule(None, "other")["spec"]})), NOBODY_ELSE).await?;
    for forged in ["alice", "bob"] {
        refused(patch(&mallory, with_rule(Some(forged), "other")), NOBODY_ELSE).await?;
    }
    ensure!(editor(gate).await? == "alice");
    patch(&mallory, with_rule(Some("mallory"), "other")).ok().await?;
    ensure!(editor(gate).await? == "mallory");
    // Or nobody: then nothing is approved by a rule that excludes the editor.
    patch(&alice, with_rule(None, "third")).ok().await?;
    ensure!(editor(gate).await? == Value::Null);
    refused(patch(&mallory, edited_by(Some("mallory"))), AS_IT_IS).await?;
    // Rules in another order are another spec.
    let rules = json!([{"name": "a", "decision": "Deny"}, {"name": "b", "decision": "Deny"}]);
    let turned = json!([rules[1], rules[0]]);
    for (who, name, rules) in [(&alice, "alice", rules), (&mallory, "mallory", turned)] {
        let mut change = edited_by(Some(name));
        change["spec"] = json!({"rules": rules});
        patch(who, change).ok().await?;
    }
    ensure!(editor(gate).await? == "mallory");
    Ok(())
}
