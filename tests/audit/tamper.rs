//! The tamper matrix: each kind of edit is made directly in etcd, past every guard, and named by what reads it.

use crate::support::{Space, by_sre};
use crate::{Export, Lab, RECORDS, lab};
use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::STANDARD};
use countersign::api::RecordEntry;
use countersign::audit::{Head, seal};
use countersign::binding::Keyring;
use serde_json::{Value, json};

/// A trail of some records, exported honestly, and what etcd holds of it.
async fn trail(lab: &Lab, name: &str) -> Result<(Export, Vec<(String, Value)>)> {
    let space = Space::new(lab.cluster, name).await?;
    space.policy(by_sre()).await?;
    for run in ["a", "b", "c"] {
        space.bound(run).await?;
        // Each with records of its own.
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    }
    let export =
        lab.export(name, &[(name, "a", "Evaluated"), (name, "b", "Evaluated"), (name, "c", "Evaluated")]).await?;
    let stored = lab.cluster.storage().list(RECORDS).await?;
    assert!(stored.len() >= 3, "{} records", stored.len());
    Ok((export, stored))
}

/// Puts everything back.
async fn restore(lab: &Lab, stored: &[(String, Value)]) -> Result<()> {
    for (key, _) in lab.cluster.storage().list(RECORDS).await? {
        if !stored.iter().any(|(kept, _)| *kept == key) {
            lab.cluster.storage().delete(&key).await?;
        }
    }
    for (key, value) in stored {
        lab.cluster.storage().put(key, value).await?;
    }
    Ok(())
}

fn key_of(stored: &(String, Value)) -> &str {
    &stored.0
}

/// The operator's key, as somebody has it who can read its Secret.
async fn signing_key(lab: &Lab) -> Result<Keyring> {
    let get = ["get", "secret", "countersign-signing-key", "-n", "countersign-system"];
    let secret = lab.cluster.admin().kubectl(get).json().await?;
    let seed = secret["data"]["seed"].as_str().context("seed")?;
    Ok(Keyring::from_seed(&STANDARD.decode(seed)?)?)
}

/// A stored record with another story in it, signed anew and in its place in the chain.
fn forged(stored: &Value, key: &Keyring) -> Result<Value> {
    let mut forged = stored.clone();
    let mut entries: Vec<RecordEntry> = serde_json::from_value(stored["spec"]["entries"].clone())?;
    entries[0].message = "mallory was never here".into();
    let length = stored["spec"]["sequence"].as_i64().context("sequence")? - 1;
    let head = Head { length, hash: stored["spec"]["previous"].as_str().context("previous")?.into() };
    forged["spec"] = serde_json::to_value(seal(&head, entries, key)?)?;
    Ok(forged)
}

/// What an auditor finds who exports now, holding the keys and the checkpoint of before.
async fn found(lab: &Lab, export: &Export) -> Result<String> {
    let now = lab.file("tampered.jsonl").display().to_string();
    let output = lab.audit(&["export", "--output", &now]).await?;
    anyhow::ensure!(output.status.success(), "{}", output.stderr);
    Ok(export.verify(&now).await?.1)
}

#[tokio::test]
async fn each_kind_of_tampering_in_etcd_is_detected_and_named() -> Result<()> {
    let mut lab = lab().await?;
    let (export, stored) = trail(&lab, "audit-tamper").await?;
    lab.kill();
    let storage = lab.cluster.storage();
    // Within what the key of now may sign: another test replaces a lost one.
    let (last, middle) = (stored.len() - 1, stored.len() - 2);
    let (key, value) = &stored[middle];
    let sequence = value["spec"]["sequence"].as_i64().context("sequence")?;
    assert!(found(&lab, &export).await?.starts_with("whole: "));

    let mut edited = value.clone();
    edited["spec"]["entries"][0]["message"] = json!("approved by bob");
    storage.put(key, &edited).await?;
    let said = found(&lab, &export).await?;
    assert!(
        said.contains(&format!("line {}: edited: the record beginning with entry {sequence} ", middle + 1)),
        "{said}"
    );
    restore(&lab, &stored).await?;

    storage.delete(key).await?;
    let said = found(&lab, &export).await?;
    let gap = value["spec"]["last"].as_i64().context("last")?;
    assert!(said.contains(&format!("missing: entries {sequence} to {gap}")), "{said}");
    restore(&lab, &stored).await?;

    let (next_key, next) = &stored[middle + 1];
    let swapped = |object: &Value, other: &Value| {
        let mut object = object.clone();
        object["spec"] = other["spec"].clone();
        object
    };
    storage.put(key, &swapped(value, next)).await?;
    storage.put(next_key, &swapped(next, value)).await?;
    let said = found(&lab, &export).await?;
    assert!(said.contains("reordered: "), "{said}");
    restore(&lab, &stored).await?;

    for (key, _) in &stored[middle..] {
        storage.delete(key).await?;
    }
    let said = found(&lab, &export).await?;
    let length = sequence - 1;
    assert!(
        said.contains(&format!("cut off: it ends with entry {length}, and a checkpoint knows of {}", export.stated()?)),
        "{said}"
    );
    restore(&lab, &stored).await?;

    let mut foreign = value.clone();
    foreign["spec"]["keyID"] = json!("0123456789abcdef");
    storage.put(key, &foreign).await?;
    let said = found(&lab, &export).await?;
    assert!(
        said.contains("signed by another key: ") && said.contains("key 0123456789abcdef, which is not trusted"),
        "{said}"
    );
    restore(&lab, &stored).await?;

    // Whoever has the key can sign anything, and not what fits both sides.
    let signer = signing_key(&lab).await?;
    storage.put(key_of(&stored[middle]), &forged(&stored[middle].1, &signer)?).await?;
    let said = found(&lab, &export).await?;
    let after = stored[middle + 1].1["spec"]["sequence"].as_i64().context("sequence")?;
    assert!(said.contains(&format!("forked: the record beginning with entry {after} ")), "{said}");
    restore(&lab, &stored).await?;
    // At the end of the chain nothing comes after it but the checkpoint.
    storage.put(key_of(&stored[last]), &forged(&stored[last].1, &signer)?).await?;
    let said = found(&lab, &export).await?;
    assert!(said.contains(&format!("rewritten: at entry {}", export.stated()?)), "{said}");
    restore(&lab, &stored).await?;
    assert!(found(&lab, &export).await?.starts_with("whole: "), "everything was put back");

    // An operator that starts on a tampered trail releases nothing, and says why.
    storage.put(key, &edited).await?;
    lab.start(&[]).await?;
    let log = lab.operator.as_ref().context("operator")?.log();
    assert!(log.contains("the audit trail is not whole: edited: the record beginning with entry"), "{log}");
    let space = Space::new(lab.cluster, "audit-broken").await?;
    space.policy(by_sre()).await?;
    let alice = lab.user("alice", "sre")?;
    let digest = space.bound("run").await?;
    space.review(&alice, "run", "Approve", &digest).ok().await?;
    let waiting = space.state("run", "Approved").await?;
    let message = waiting["status"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("the audit trail cannot be gone on with"), "{message}");
    assert!(!space.started("run").await?);
    // Once it is whole again, an operator that starts goes on, and records what was left out.
    lab.kill();
    restore(&lab, &stored).await?;
    lab.start(&[]).await?;
    space.state("run", "Released").await?;
    let export = lab.export("audit-mended", &[("audit-broken", "run", "Released")]).await?;
    assert!(export.verify(&export.trail).await?.0);
    let entries = export.entries()?;
    assert_eq!(
        crate::transitions(&entries, "audit-broken", "run"),
        ["Requested", "Evaluated", "Reviewed", "Approved", "Released"]
    );
    Ok(())
}

/// A lost key does not go unnoticed: the trail goes on once somebody says so, and tells that it does.
#[tokio::test]
async fn a_lost_key_takes_an_explicit_reanchor() -> Result<()> {
    let mut lab = lab().await?;
    let space = Space::new(lab.cluster, "audit-key").await?;
    space.policy(by_sre()).await?;
    space.bound("before").await?;
    let before = lab.export("audit-key-before", &[("audit-key", "before", "Evaluated")]).await?;
    lab.kill();
    space.admin.kubectl(["delete", "secret", "countersign-signing-key", "-n", "countersign-system"]).ok().await?;
    lab.start(&[]).await?;
    let log = lab.operator.as_ref().context("operator")?.log();
    assert!(log.contains("--reanchor-audit"), "{log}");
    let alice = lab.user("alice", "sre")?;
    let digest = space.bound("after").await?;
    space.review(&alice, "after", "Approve", &digest).ok().await?;
    space.state("after", "Approved").await?;
    assert!(!space.started("after").await?);
    lab.kill();
    lab.start(&["--reanchor-audit"]).await?;
    let digest = space.digest("after").await?;
    if space.get("approvalrequests", "after").await?["status"]["state"] != "Released" {
        // Seals are the key's, too.
        let _ = space.review(&alice, "after", "Approve", &digest).run().await?;
    }
    space.state("after", "Released").await?;
    let after = lab.export("audit-key-after", &[("audit-key", "after", "Released")]).await?;
    let (whole, said) = after.verify(&after.trail).await?;
    assert!(whole, "both keys are published: {said}");
    let anchored: Vec<_> = after.entries()?.into_iter().filter(|e| e["transition"] == "Anchored").collect();
    assert_eq!(anchored.len(), 1);
    // Whoever trusts the first key alone is told where the other begins.
    let (whole, said) = before.verify(&after.trail).await?;
    assert!(!whole && said.contains("signed by another key"), "{said}");
    Ok(())
}
