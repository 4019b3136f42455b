//! Pruning: what was exported goes, what is left proves it, and nothing else goes. On a control plane of its own, since other
//! tests read a whole trail.

use crate::support::{Space, by_sre};
use crate::{Export, Lab, RECORDS, Shared, lab_on, python};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const OPERATOR: &str = "--as=system:serviceaccount:countersign-system:countersign";
const HOME: [&str; 2] = ["--namespace", "countersign-system"];
const SHORT: [&str; 4] = ["--audit-keep-entries", "1", "--audit-prune-every", "1"];

/// A control plane, and no operator.
async fn stopped() -> Result<Lab> {
    static SHARED: Shared = Shared::new();
    let mut lab = lab_on(&SHARED).await?;
    lab.kill();
    Ok(lab)
}

/// First and last entry of each record that is stored.
async fn stored(lab: &Lab) -> Result<Vec<(i64, i64)>> {
    let number = |record: &Value, field: &str| record["spec"][field].as_i64().context("a number");
    let records = lab.cluster.storage().list(RECORDS).await?;
    records.iter().map(|(_, record)| Ok((number(record, "sequence")?, number(record, "last")?))).collect()
}

async fn until(what: &str, mut reached: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let began = Instant::now();
    while !reached().await? {
        ensure!(began.elapsed() < Duration::from_secs(30), "waited until {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Waits until nothing before that entry is stored, and what is left has no gap.
async fn pruned_to(lab: &Lab, first: i64) -> Result<()> {
    until("it is pruned", async || {
        let stored = stored(lab).await?;
        for pair in stored.windows(2) {
            ensure!(pair[0].1 + 1 == pair[1].0, "a gap: {stored:?}");
        }
        Ok(stored[0].0 >= first)
    })
    .await
}

/// Whether no record is stored any more of those that are said to be pruned.
async fn nothing_goes(lab: &Lab) -> Result<bool> {
    let pruned = ["get", "configmap", "countersign-pruned", "--output=jsonpath={.data.through}"];
    let through: i64 = lab.cluster.admin().kubectl(pruned.into_iter().chain(HOME)).ok().await?.trim().parse()?;
    Ok(stored(lab).await?.iter().all(|record| record.1 > through))
}

async fn said(lab: &Lab, text: &str) -> Result<()> {
    let operator = lab.operator.as_ref().context("operator")?;
    until(text, async || Ok(operator.log().contains(text))).await
}

/// Requests of these names, each approved and released, with records of its own.
async fn released(lab: &Lab, space: &Space, names: &[&str]) -> Result<()> {
    let alice = lab.user("alice", "sre")?;
    for name in names {
        let digest = space.bound(name).await?;
        space.review(&alice, name, "Approve", &digest).ok().await?;
        space.state(name, "Released").await?;
    }
    Ok(())
}

/// What `verify` says of where a trail begins. Tests that came before may have pruned it.
fn from(export: &Export) -> Result<String> {
    let first = export.records()?[0]["sequence"].as_i64().context("a number")?;
    Ok(if first == 1 { " entries in ".into() } else { format!(" entries {first} to ") })
}

/// `countersign audit verify` of several exports against several checkpoints.
async fn verified(exports: &[&Export], checkpoints: &[&Export]) -> Result<(bool, String)> {
    let mut args = vec!["audit", "verify"];
    args.extend(exports.iter().map(|export| export.trail.as_str()));
    args.extend(["--keys", &exports.last().context("an export")?.keys]);
    args.extend(checkpoints.iter().flat_map(|export| ["--checkpoint", &export.checkpoint]));
    let output = crate::support::countersign().run(&args, "").await?;
    ensure!(matches!(output.status.code(), Some(0 | 1)), "{}", output.stderr);
    Ok((output.status.success(), output.stdout))
}

#[tokio::test]
async fn what_was_exported_is_pruned_and_what_is_left_proves_it() -> Result<()> {
    let mut lab = stopped().await?;
    lab.start(&SHORT).await?;
    let space = Space::new(lab.cluster, "prune").await?;
    space.policy(by_sre()).await?;
    let open = space.bound("open").await?;
    lab.export("prune-open", &[("prune", "open", "Evaluated")]).await?;
    let begun = stored(&lab).await?.last().context("a record")?.0;
    released(&lab, &space, &["a", "b", "c"]).await?;
    said(&lab, "has not been exported").await?;
    ensure!(stored(&lab).await?[0].0 <= begun, "nothing goes before it was exported");
    let before = lab.export("prune-before", &[("prune", "c", "Released")]).await?;
    let acknowledge = ["export", "--output", &before.trail, "--append", "--acknowledge"];
    let output = lab.audit(&acknowledge).await?;
    ensure!(output.status.success() && output.stderr.contains("acknowledged: entries up to"), "{output:?}");
    // What is still open keeps its records, and with them all that came after.
    said(&lab, "is about a request that has not ended").await?;
    ensure!(stored(&lab).await?[0].0 <= begun, "nothing of what is open goes");
    space.review(&lab.user("bob", "sre")?, "open", "Deny", &open).ok().await?;
    space.state("open", "Denied").await?;
    let mut whole = before.records()?;
    pruned_to(&lab, begun + 5).await?;
    let after = lab.export_until("prune-after", |entries| entries.iter().any(|e| e["transition"] == "Pruned")).await?;
    let (holds, said) = verified(&[&after], &[&after]).await?;
    ensure!(holds && said.contains("those before pruned") && said.contains("; the checkpoint agrees"), "{said}");
    // Both exports together prove it all from where the first begins.
    let (holds, said) = verified(&[&before, &after], &[&before, &after]).await?;
    ensure!(holds && said.contains("2 checkpoints agree") && said.contains(&from(&before)?), "{said}");
    let python = python::python().await?;
    let theirs = python::run(&python, "verify.py", &[&after.trail, &after.keys, &after.checkpoint]).await?;
    ensure!(theirs.status.success(), "{theirs:?}");
    // An export that is gone on with is the same trail.
    ensure!(lab.audit(&acknowledge).await?.status.success());
    whole.extend(before.records()?.into_iter().skip(whole.len()));
    assert_eq!(before.records()?, whole);
    let (holds, said) = verified(&[&before], &[&after]).await?;
    ensure!(holds && said.contains("; the checkpoint agrees"), "{said}");
    let output = lab.audit(&["show", "a", "-n", "prune"]).await?;
    ensure!(output.stderr.contains("was pruned: read an export that has it"), "{output:?}");
    let output = crate::support::countersign().run(&["audit", "show", "a", "--from", &before.trail], "").await?;
    ensure!(output.stdout.contains("released") || output.stdout.contains("started Job a"), "{output:?}");
    Ok(())
}

/// Requests and allowed Jobs may outlive their records: whatever restarts, they are not recorded twice, and can go.
#[tokio::test]
async fn what_outlives_its_records_is_not_recorded_anew() -> Result<()> {
    let mut lab = stopped().await?;
    lab.start(&[]).await?;
    let space = Space::new(lab.cluster, "outlive").await?;
    let gated = Space::gated(lab.cluster, "outlive-gated").await?;
    space.policy(by_sre()).await?;
    gated.policy(json!([{"name": "all", "decision": "Allow"}])).await?;
    gated.job("allowed").await?;
    gated.wait("jobs", "allowed", |j| j["spec"]["suspend"] == json!(false)).await?;
    released(&lab, &space, &["a", "b"]).await?;
    let before = lab.export("outlive", &[("outlive", "b", "Released")]).await?;
    let last = before.last()?;
    ensure!(lab.audit(&["export", "--output", &before.trail, "--append", "--acknowledge"]).await?.status.success());
    lab.kill();
    // Killed in the midst of every step, it goes on where it was.
    for moment in [1050, 1250, 2050, 3050] {
        lab.start(&SHORT).await?;
        tokio::time::sleep(Duration::from_millis(moment)).await;
        lab.kill();
    }
    lab.start(&SHORT).await?;
    pruned_to(&lab, last + 1).await?;
    lab.kill();
    lab.start(&SHORT).await?;
    space.admin.kubectl(["delete", "apr", "a", "-n", "outlive", "--timeout=20s"]).ok().await?;
    space.admin.kubectl(["label", "job", "allowed", "-n", "outlive-gated", "seen=again"]).ok().await?;
    released(&lab, &space, &["c"]).await?;
    let after = lab.export("outlive-after", &[("outlive", "c", "Released")]).await?;
    let (holds, said) = verified(&[&before, &after], &[&before, &after]).await?;
    ensure!(holds && said.contains("2 checkpoints agree"), "no entry stands there twice: {said}");
    for entries in [before.entries()?, after.entries()?] {
        let again = entries.iter().filter(|e| e["target"]["name"] == "allowed").count();
        ensure!(again <= 1, "{again}");
    }
    Ok(())
}

#[tokio::test]
async fn nothing_else_is_deleted_and_nothing_that_was_pruned_is_written_again() -> Result<()> {
    // One in which nothing was pruned before.
    static FRESH: Shared = Shared::new();
    let mut lab = lab_on(&FRESH).await?;
    lab.kill();
    let records = |records: &[(i64, i64)]| records.iter().map(|r| format!("record-{:016}", r.0)).collect::<Vec<_>>();
    let admin = lab.cluster.admin();
    let delete = |name: &str| admin.kubectl(["delete", "arec", name, OPERATOR].into_iter().chain(HOME));
    let space = Space::new(lab.cluster, "fence").await?;
    lab.start(&[]).await?;
    space.policy(by_sre()).await?;
    // In two records at least, so that the last one is not the one that is edited below.
    released(&lab, &space, &["a"]).await?;
    lab.export("fence-first", &[("fence", "a", "Released")]).await?;
    released(&lab, &space, &["b"]).await?;
    let export = lab.export("fence", &[("fence", "b", "Released")]).await?;
    lab.kill();
    // As the exporter says, so far as it is so: a hash that is not the record's counts for nothing, as does a number.
    let first = export.records()?[0].clone();
    let lie = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "countersign-exported", "namespace": "countersign-system"},
        "data": {"sequence": first["sequence"].to_string(), "last": "9999", "hash": "sha256:00"}});
    let apply = lab.cluster.admin().kubectl(["apply", "--server-side", "--force-conflicts", "--filename", "-"]);
    apply.stdin(lie.to_string()).ok().await?;
    let beginning = stored(&lab).await?[0];
    lab.start(&SHORT).await?;
    said(&lab, "nothing is taken as exported").await?;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(stored(&lab).await?[0], beginning);
    // Neither does an export that is not whole, nor one by somebody who may not say so.
    let (carol, edited) = (lab.user("carol", "auditors")?, lab.file("fence-edited.jsonl"));
    let trail = std::fs::read_to_string(&export.trail)?;
    std::fs::write(&edited, trail.replacen("fence", "hence", 1))?;
    let edited = edited.to_str().context("a path")?;
    let output = lab.audit(&["export", "--output", edited, "--append", "--acknowledge"]).await?;
    ensure!(
        !output.status.success() && output.stderr.contains("is not whole, and nothing was acknowledged"),
        "{output:?}"
    );
    let bind = ["create", "rolebinding", "carol", "--role=countersign-auditor", "--user=carol"];
    lab.cluster.admin().kubectl(bind.into_iter().chain(HOME)).ok().await?;
    let kubeconfig = carol.kubeconfig.to_str().context("a path")?;
    let args = ["audit", "export", "--output", &export.trail, "--acknowledge", "--kubeconfig", kubeconfig];
    let output = crate::support::countersign().run(&args, "").await?;
    ensure!(!output.status.success() && output.stderr.contains("the role countersign-archivist"), "{output:?}");
    assert_eq!(stored(&lab).await?[0], beginning);

    ensure!(lab.audit(&["export", "--output", &export.trail, "--acknowledge"]).await?.status.success());
    pruned_to(&lab, beginning.1 + 1).await?;
    lab.kill();
    // Killed in the midst of it, it goes on: what is left of what was pruned may go, and is not what is meant here.
    while !nothing_goes(&lab).await? {
        lab.start(&SHORT).await?;
        until("what was pruned is gone", async || nothing_goes(&lab).await).await?;
        lab.kill();
    }
    let forged = json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "ApprovalRecord",
        "metadata": {"name": format!("record-{:016}", beginning.0), "namespace": "countersign-system"}, "spec": first});
    let create = lab.cluster.admin().kubectl(["create", "--filename", "-", OPERATOR]).stdin(forged.to_string());
    let refused = create.refused().await?;
    ensure!(refused.contains("is not written again"), "{refused}");
    let kept = records(&stored(&lab).await?);
    let refused = delete(&kept[0]).refused().await?;
    ensure!(refused.contains(" stays"), "{refused}");
    let mallory = lab.user("mallory", "developers")?;
    let refused = mallory.kubectl(["delete", "arec", &kept[0]].into_iter().chain(HOME)).refused().await?;
    ensure!(refused.contains("is forbidden: ValidatingAdmissionPolicy 'countersign-"), "{refused}");

    // Past every guard, in etcd: one record more that is gone is missing, and an operator does not go on with that.
    let storage = lab.cluster.storage();
    let (key, _) = storage.list(RECORDS).await?.swap_remove(0);
    storage.delete(&key).await?;
    let now = lab.file("fence-cut.jsonl").display().to_string();
    ensure!(lab.audit(&["export", "--output", &now]).await?.status.success());
    let (holds, said_so) = export.verify(&now).await?;
    ensure!(!holds && said_so.contains("missing: entries "), "{said_so}");
    lab.start(&[]).await?;
    said(&lab, "the audit trail is not whole: missing: entries ").await?;
    lab.kill();
    lab.cluster.stop();
    Ok(())
}

/// An operator that slept through what others wrote and pruned would write under a name that is free again. It is refused,
/// and starts anew.
#[tokio::test]
async fn an_operator_that_slept_too_long_does_not_begin_a_second_chain() -> Result<()> {
    let mut lab = stopped().await?;
    let space = Space::new(lab.cluster, "sleeper").await?;
    let mut sleeper = crate::support::countersign().start_with(lab.cluster, &[]).await?;
    sleeper.pause()?;
    let slept = stored(&lab).await?.last().map_or(0, |record| record.1);
    lab.start(&SHORT).await?;
    space.policy(by_sre()).await?;
    released(&lab, &space, &["a", "b", "c"]).await?;
    let export = lab.export("sleeper", &[("sleeper", "c", "Released")]).await?;
    ensure!(lab.audit(&["export", "--output", &export.trail, "--acknowledge"]).await?.status.success());
    pruned_to(&lab, slept + 2).await?;
    lab.kill();
    sleeper.resume()?;
    // It has missed what happened, and would tell of it now.
    until("the sleeper ends", async || Ok(sleeper.has_ended())).await?;
    let log = sleeper.log();
    ensure!(log.contains("beyond where this operator stands"), "{log}");
    lab.start(&SHORT).await?;
    released(&lab, &space, &["d"]).await?;
    let after = lab.export("sleeper-after", &[("sleeper", "d", "Released")]).await?;
    let (holds, said) = verified(&[&export, &after], &[&export, &after]).await?;
    ensure!(holds && said.contains("2 checkpoints agree"), "{said}");
    Ok(())
}

/// Whoever removes Countersign removes its namespace, whether or not anything was ever pruned.
#[tokio::test]
async fn the_records_go_with_their_namespace() -> Result<()> {
    static FRESH: Shared = Shared::new();
    let mut lab = lab_on(&FRESH).await?;
    let space = Space::new(lab.cluster, "removed").await?;
    space.policy(by_sre()).await?;
    space.bound("run").await?;
    lab.export("removed", &[("removed", "run", "Evaluated")]).await?;
    lab.kill();
    lab.cluster.admin().kubectl(["delete", "namespace", "countersign-system", "--timeout=60s"]).ok().await?;
    ensure!(stored(&lab).await?.is_empty());
    lab.cluster.stop();
    Ok(())
}
