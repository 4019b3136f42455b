//! One signing key takes another's place, while requests wait and two operators run. On a control plane of its own: the other
//! tests know of one key alone.

use crate::support::{Space, countersign};
use crate::{Export, Lab, RECORDS, Shared, lab_on, python};
use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use countersign::api::{RecordEntry, Transition};
use countersign::audit::{Head, chain, object_name, seal};
use countersign::binding::{Keyring, key_name, seal as seal_review};
use countersign_testbed::Output;
use serde_json::{Value, json};

const HOME: &str = "countersign-system";
const FIRST: &str = "countersign-signing-key";
const ROTATED: &str = "countersign-signing-keys";

async fn lab() -> Result<Lab> {
    static SHARED: Shared = Shared::new();
    lab_on(&SHARED).await
}

/// Two approvals of the group sre.
fn by_two() -> Value {
    json!([{
        "name": "prod-write", "decision": "RequireApproval",
        "approvals": {"requirements": [{"name": "sre", "count": 2, "approvers": [{"kind": "Group", "name": "sre"}]}]},
        "constraints": {"maxRuntimeSeconds": 900},
    }])
}

/// Runs `countersign keys` as admin.
async fn keys(lab: &Lab, args: &[&str]) -> Result<Output> {
    let kubeconfig = lab.cluster.admin().kubeconfig;
    let connection = ["--kubeconfig", kubeconfig.to_str().context("a path")?];
    countersign().run(&[&["keys"], args, &connection].concat(), "").await
}

/// The same, where it must be done.
async fn step(lab: &Lab, args: &[&str]) -> Result<String> {
    let output = keys(lab, args).await?;
    ensure!(output.status.success(), "{args:?}: {}", output.stderr);
    Ok(output.stdout)
}

/// The same, where it must be refused as out of order.
async fn refused(lab: &Lab, args: &[&str], said: &str) -> Result<()> {
    let output = keys(lab, args).await?;
    ensure!(output.status.code() == Some(1) && output.stderr.contains(said), "{args:?}: {output:?}");
    Ok(())
}

async fn secret(lab: &Lab, name: &str) -> Result<Value> {
    let get = lab.cluster.admin().kubectl(["get", "secret", name, "-n", HOME, "--ignore-not-found", "--output=json"]);
    let found = get.ok().await?;
    Ok(if found.is_empty() { Value::Null } else { serde_json::from_str(&found)? })
}

/// A key of a Secret, as somebody has it who can read that.
fn key_in(secret: &Value, entry: &str) -> Result<Keyring> {
    Ok(Keyring::from_seed(&STANDARD.decode(secret["data"][entry].as_str().context("an entry")?)?)?)
}

async fn restart(lab: &mut Lab) -> Result<()> {
    lab.kill();
    lab.start(&[]).await
}

/// An export once the trail has an entry of that transition about that key.
async fn told(lab: &Lab, name: &str, transition: &str, key: &str) -> Result<Export> {
    lab.export_until(name, |entries| {
        entries.iter().any(|e| e["transition"] == transition && key_of(e).is_some_and(|named| named == key))
    })
    .await
}

fn key_of(entry: &Value) -> Option<String> {
    let public: [u8; 32] = STANDARD.decode(entry["publicKey"].as_str()?).ok()?.try_into().ok()?;
    Some(key_name(&public))
}

fn signers(export: &Export) -> Result<Vec<String>> {
    Ok(export.records()?.iter().map(|r| r["keyID"].as_str().unwrap_or_default().to_string()).collect())
}

/// A file of one public key.
fn file_of(lab: &Lab, name: &str, key: &Keyring) -> Result<String> {
    let path = lab.file(name);
    std::fs::write(&path, format!("{} {}\n", key.id(), STANDARD.encode(key.public())))?;
    Ok(path.display().to_string())
}

/// A record at the end of the trail, signed by that key, as somebody writes it who has etcd.
async fn forge(lab: &Lab, key: &Keyring, transition: Transition) -> Result<String> {
    let storage = lab.cluster.storage();
    let (_, last) = storage.list(RECORDS).await?.pop().context("a record")?;
    let mut entries: Vec<RecordEntry> = serde_json::from_value(last["spec"]["entries"].clone())?;
    entries.truncate(1);
    entries[0].key = format!("forged-{}/1/Released", key.id());
    entries[0].transition = transition;
    let length = last["spec"]["last"].as_i64().context("last")?;
    let head = Head { length, hash: chain::hash(&last["spec"])? };
    let mut forged = last.clone();
    let name = object_name(length + 1);
    forged["metadata"]["name"] = json!(name);
    forged["spec"] = serde_json::to_value(seal(&head, entries, key)?)?;
    let at = format!("{RECORDS}{name}");
    storage.put(&at, &forged).await?;
    Ok(at)
}

/// The export of now, verified by one key file: by ours, and by the one in Python.
async fn verified(lab: &Lab, name: &str, keys: &str, checkpoint: &str) -> Result<(String, String)> {
    let trail = lab.file(name).display().to_string();
    let output = lab.audit(&["export", "--output", &trail]).await?;
    ensure!(output.status.success(), "{}", output.stderr);
    let ours = lab.audit(&["verify", &trail, "--keys", keys, "--checkpoint", checkpoint]).await?;
    let theirs = python::run(&python::python().await?, "verify.py", &[&trail, keys, checkpoint]).await?;
    ensure!(ours.status.code() == theirs.status.code(), "{ours:?} {theirs:?}");
    Ok((ours.stdout, String::from_utf8(theirs.stdout)?))
}

#[tokio::test]
async fn a_key_is_replaced_while_requests_wait_and_two_operators_run() -> Result<()> {
    let mut lab = lab().await?;
    let space = Space::new(lab.cluster, "rotation").await?;
    space.policy(by_two()).await?;
    let (alice, bob) = (lab.user("alice", "sre")?, lab.user("bob", "sre")?);
    let before = secret(&lab, FIRST).await?;
    let old = key_in(&before, "seed")?;
    let first_key = file_of(&lab, "first.keys", &old)?;
    let digests = [space.bound("early").await?, space.bound("waits").await?, space.bound("loses").await?];
    space.review(&bob, "early", "Approve", &digests[0]).ok().await?;
    for (name, digest) in ["early", "waits", "loses"].iter().zip(&digests) {
        space.review(&alice, name, "Approve", digest).ok().await?;
    }
    space.state("early", "Released").await?;

    // Add.
    refused(&lab, &["promote"], "next: countersign keys add").await?;
    refused(&lab, &["retire"], "next: countersign keys add").await?;
    let said = step(&lab, &["add"]).await?;
    let stored = secret(&lab, ROTATED).await?;
    let new = key_in(&stored, "next")?;
    ensure!(
        said.contains(&format!("key {} was added", new.id())) && key_in(&stored, "seed")?.id() == old.id(),
        "{said}"
    );
    ensure!(secret(&lab, FIRST).await?.is_null(), "one Secret is left");
    refused(&lab, &["add"], "was added already").await?;
    refused(&lab, &["promote"], "no operator has introduced key").await?;
    // Cut short between its two writes, it leaves both Secrets.
    let mut again = before.clone();
    again["metadata"] = json!({"name": FIRST, "namespace": HOME});
    let create = lab.cluster.admin().kubectl(["create", "--filename", "-"]);
    create.stdin(again.to_string()).ok().await?;
    restart(&mut lab).await?;
    let added = told(&lab, "rotation-added", "KeyAdded", new.id()).await?;
    ensure!(signers(&added)?.iter().all(|id| id == old.id()), "it signs nothing yet");
    let published = std::fs::read_to_string(&added.keys)?;
    ensure!(
        published.contains(old.id()) && published.contains(new.id()),
        "for workers to have both in time: {published}"
    );

    // Promote: one operator with each, on one chain.
    step(&lab, &["promote"]).await?;
    ensure!(secret(&lab, FIRST).await?.is_null(), "what was left is tidied");
    refused(&lab, &["add"], "next: restart every operator, then countersign keys retire").await?;
    let second = countersign().start_with(lab.cluster, &[]).await?;
    let both = interleaved(&lab, &space, &old, &new).await?;
    ensure!(both.verify(&both.trail).await?.0);
    lab.kill();
    drop(second);
    lab.start(&[]).await?;

    // What the old key sealed counts under the operator of the new one.
    let message = space.get("approvalrequests", "waits").await?["status"]["message"].clone();
    ensure!(!message.to_string().contains("do not count"), "{message}");
    space.review(&bob, "waits", "Approve", &digests[1]).ok().await?;
    let waits = space.state("waits", "Released").await?;
    assert_eq!(waits["status"]["approvals"][0]["approvedBy"], json!(["alice", "bob"]));
    let seals: Vec<_> = [0, 1].map(|n| waits["spec"]["reviews"][n]["seal"].as_str().unwrap_or_default()).into();
    ensure!(seals[0].starts_with(old.id()) && seals[1].starts_with(new.id()), "{seals:?}");
    for (job, key) in [("early", &old), ("waits", &new)] {
        receipt_holds(&lab, &space, job, key, &both.keys).await?;
    }

    // Retire.
    refused(&lab, &["retire"], &format!("1 open request(s) have reviews that key {} sealed: rotation/loses", old.id()))
        .await?;
    let shown = step(&lab, &["show"]).await?;
    ensure!(shown.contains(new.id()) && shown.contains(&format!("{:<18}accepted, signed before", old.id())), "{shown}");
    step(&lab, &["retire", "--void-reviews"]).await?;
    restart(&mut lab).await?;
    let end = told(&lab, "rotation-end", "KeyRetired", old.id()).await?;
    let lost = space.wait("approvalrequests", "loses", |r| {
        r["status"]["message"].as_str().is_some_and(|m| m.contains("under a signing key that was retired since"))
    });
    assert_eq!(lost.await?["status"]["summary"]["approvals"], "0/2");
    for who in [&alice, &bob] {
        space.review(who, "loses", "Approve", &digests[2]).ok().await?;
    }
    space.state("loses", "Released").await?;
    receipt_holds(&lab, &space, "early", &old, &end.keys).await?;
    let shown = step(&lab, &["show"]).await?;
    ensure!(shown.ends_with("next: no rotation is under way; countersign keys add begins one\n"), "{shown}");

    // The first public key is enough for the whole.
    let end = lab.export("rotation-whole", &[("rotation", "loses", "Released")]).await?;
    let (ours, theirs) = verified(&lab, "whole.jsonl", &first_key, &end.checkpoint).await?;
    ensure!(
        ours.starts_with("whole: ") && ours.contains("the checkpoint agrees") && theirs == "whole\n",
        "{ours} {theirs}"
    );
    let last_key = file_of(&lab, "last.keys", &new)?;
    let (ours, _) = verified(&lab, "whole.jsonl", &last_key, &end.checkpoint).await?;
    ensure!(ours.contains("line 1: signed by another key"), "{ours}");

    // Whoever has the retired key adds nothing to it.
    lab.kill();
    let forged = forge(&lab, &old, Transition::Released).await?;
    let (ours, theirs) = verified(&lab, "forged.jsonl", &first_key, &end.checkpoint).await?;
    ensure!(
        ours.contains(": signed by a retired key: ") && theirs.contains("signed by a retired key"),
        "{ours} {theirs}"
    );
    lab.start(&[]).await?;
    let log = lab.operator.as_ref().context("operator")?.log();
    ensure!(log.contains("the audit trail is not whole: signed by a retired key"), "{log}");
    lab.cluster.storage().delete(&forged).await?;
    // Nor does the old Secret come back.
    lab.kill();
    put_back(&lab, &before).await?;
    lab.start(&["--reanchor-audit"]).await?;
    let log = lab.operator.as_ref().context("operator")?.log();
    ensure!(log.contains(&format!("key {} was retired in the audit trail and never signs again", old.id())), "{log}");
    lab.kill();
    lab.cluster.admin().kubectl(["delete", "secret", FIRST, "-n", HOME]).ok().await?;
    put_rotated(&lab).await?;
    again_with_secrets(&mut lab).await?;
    restart(&mut lab).await
}

/// A second rotation, with a request that is bound to the content of a Secret, by a hash that each key makes another of.
async fn again_with_secrets(lab: &mut Lab) -> Result<()> {
    const CONTENT: &[&str] = &["--read-secrets", "content"];
    let admin = lab.cluster.admin();
    let account = format!("--serviceaccount={HOME}:countersign");
    let grant = ["create", "clusterrolebinding", "reads", "--clusterrole=countersign-read-secrets", &account];
    admin.kubectl(grant).ok().await?;
    lab.start(CONTENT).await?;
    let space = Space::new(lab.cluster, "rotation-secrets").await?;
    space.policy(by_two()).await?;
    admin
        .kubectl(["create", "secret", "generic", "token", "--from-literal=t=x", "-n", "rotation-secrets"])
        .ok()
        .await?;
    let mut uses = crate::support::job("run");
    uses["spec"]["template"]["spec"]["containers"][0]["envFrom"] = json!([{"secretRef": {"name": "token"}}]);
    let create = space.triage.kubectl(["create", "--filename", "-", "-n", "rotation-secrets"]);
    create.stdin(uses.to_string()).ok().await?;
    space.request("run", Some("run")).await?;
    let digest = space.digest("run").await?;
    let bound = space.get("approvalrequests", "run").await?["status"].clone();
    ensure!(bound["inputs"][0]["hash"].as_str().is_some_and(|hash| hash.starts_with("keyed:")), "{bound}");
    space.review(&lab.user("alice", "sre")?, "run", "Approve", &digest).ok().await?;

    step(lab, &["add"]).await?;
    let new = key_in(&secret(lab, ROTATED).await?, "next")?;
    lab.kill();
    lab.start(CONTENT).await?;
    told(lab, "rotation-again", "KeyAdded", new.id()).await?;
    step(lab, &["promote"]).await?;
    let second = countersign().start_with(lab.cluster, CONTENT).await?;
    space.review(&lab.user("bob", "sre")?, "run", "Approve", &digest).ok().await?;
    let released = space.state("run", "Released").await?["status"].clone();
    for field in ["revision", "digest", "inputs"] {
        assert_eq!(released[field], bound[field], "{field}");
    }
    drop(second);
    step(lab, &["retire"]).await?;
    restart(lab).await?;
    admin.kubectl(["delete", "clusterrolebinding", "reads"]).ok().await.map(drop)
}

/// The Secret of before the rotation, in the place of the one of now.
async fn put_back(lab: &Lab, before: &Value) -> Result<()> {
    let admin = lab.cluster.admin();
    let now = secret(lab, ROTATED).await?;
    std::fs::write(lab.file("rotated.json"), json!({"data": now["data"], "type": now["type"]}).to_string())?;
    admin.kubectl(["delete", "secret", ROTATED, "-n", HOME]).ok().await?;
    let mut again = before.clone();
    again["metadata"] = json!({"name": FIRST, "namespace": HOME});
    admin.kubectl(["create", "--filename", "-"]).stdin(again.to_string()).ok().await.map(drop)
}

async fn put_rotated(lab: &Lab) -> Result<()> {
    let mut rotated: Value = serde_json::from_str(&std::fs::read_to_string(lab.file("rotated.json"))?)?;
    rotated["apiVersion"] = json!("v1");
    rotated["kind"] = json!("Secret");
    rotated["metadata"] = json!({"name": ROTATED, "namespace": HOME});
    lab.cluster.admin().kubectl(["create", "--filename", "-"]).stdin(rotated.to_string()).ok().await.map(drop)
}

/// Work for two operators, until each has written after the other.
async fn interleaved(lab: &Lab, space: &Space, old: &Keyring, new: &Keyring) -> Result<Export> {
    for n in 0..60 {
        let name = format!("both-{n}");
        space.bound(&name).await?;
        let export = lab.export("rotation-both", &[("rotation", &name, "Evaluated")]).await?;
        let signed = signers(&export)?;
        let began = signed.iter().position(|id| id == new.id()).unwrap_or(signed.len());
        let after = signed[began..].iter().position(|id| id == old.id()).map_or(signed.len(), |at| began + at);
        if signed[after..].iter().any(|id| id == new.id()) {
            return Ok(export);
        }
    }
    anyhow::bail!("one of the two never wrote")
}

/// The receipt of a released Job is that key's, and holds for whoever has these keys.
async fn receipt_holds(lab: &Lab, space: &Space, job: &str, key: &Keyring, keys: &str) -> Result<()> {
    let job = space.get("jobs", job).await?;
    let annotations = &job["spec"]["template"]["metadata"]["annotations"];
    let receipt = annotations["countersign.dev/receipt"].as_str().context("a receipt")?;
    ensure!(receipt.contains(key.id()), "{receipt}");
    let path = lab.file("rotation-receipt");
    std::fs::write(&path, receipt)?;
    let (path, uid) = (path.display().to_string(), job["metadata"]["uid"].as_str().context("a uid")?);
    let output =
        countersign().run(&["receipt", "verify", "--receipt", &path, "--keys", keys, "--job-uid", uid], "").await?;
    ensure!(output.status.success(), "{output:?}");
    Ok(())
}

/// Public keys are published for others. What the operator accepts stands in its Secret.
#[tokio::test]
async fn a_key_in_the_config_map_alone_gains_nothing() -> Result<()> {
    let mut lab = lab().await?;
    let space = Space::new(lab.cluster, "rotation-planted").await?;
    space.policy(crate::support::by_sre()).await?;
    let theirs = Keyring::from_seed(&[66; 32])?;
    let digest = space.bound("run").await?;
    let honest = lab.export("rotation-honest", &[("rotation-planted", "run", "Evaluated")]).await?;
    let admin = lab.cluster.admin();
    let rights = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "config-maps", "namespace": HOME},
         "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}]},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "config-maps", "namespace": HOME},
         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "config-maps"},
         "subjects": [{"kind": "User", "name": "mallory", "apiGroup": "rbac.authorization.k8s.io"}]}]});
    admin.kubectl(["apply", "--filename", "-"]).stdin(rights.to_string()).ok().await?;
    let mallory = lab.user("mallory", "developers")?;
    let planted = json!({"data": {theirs.id(): STANDARD.encode(theirs.public())}}).to_string();
    let patch = ["patch", "configmap", "countersign-public-keys", "-n", HOME, "--type=merge", "--patch", &planted];
    mallory.kubectl(patch).ok().await?;
    restart(&mut lab).await?;

    // A review under that key, past admission.
    let at = "/registry/countersign.dev/approvalrequests/rotation-planted/run";
    let storage = lab.cluster.storage();
    let (_, mut stored) = storage.list(at).await?.pop().context("the request")?;
    let mut review = json!({"reviewer": {"username": "alice", "groups": ["sre"]}, "decision": "Approve", "digest": digest,
        "time": "2026-01-01T00:00:00.000000Z"});
    let uid = stored["metadata"]["uid"].as_str().context("a uid")?;
    review["seal"] = json!(seal_review(&theirs, uid, &review)?);
    stored["spec"]["reviews"] = json!([review]);
    storage.put(at, &stored).await?;
    let seen = space.wait("approvalrequests", "run", |r| {
        r["status"]["message"].as_str().is_some_and(|m| m.contains("1 review(s) were not sealed by admission"))
    });
    assert_eq!(seen.await?["status"]["summary"]["approvals"], "0/1");
    ensure!(!space.started("run").await?);

    // Records under that key: it began nothing, and nobody introduced it.
    lab.kill();
    let cluster_keys = lab.file("planted.keys").display().to_string();
    let all =
        lab.audit(&["export", "--output", &lab.file("x.jsonl").display().to_string(), "--keys", &cluster_keys]).await?;
    ensure!(all.status.success() && std::fs::read_to_string(&cluster_keys)?.contains(theirs.id()), "{all:?}");
    for (transition, log, said) in [
        (Transition::Released, "signed by a key that was not introduced", "signed by a key that was not introduced"),
        // Who takes keys from the cluster believes an anchor; the operator does not.
        (Transition::Anchored, &*format!("the audit trail was signed by key {}", theirs.id()), "whole"),
    ] {
        let forged = forge(&lab, &theirs, transition).await?;
        let (ours, python) = verified(&lab, "planted.jsonl", &cluster_keys, &honest.checkpoint).await?;
        ensure!(ours.contains(said) && python.contains(said), "{transition:?}: {ours} {python}");
        let (ours, python) = verified(&lab, "planted.jsonl", &honest.keys, &honest.checkpoint).await?;
        ensure!(ours.contains("signed by another key") && python.contains("signed by another key"), "{ours} {python}");
        lab.start(&[]).await?;
        let told = lab.operator.as_ref().context("operator")?.log();
        ensure!(told.contains(log), "{transition:?}: {told}");
        lab.kill();
        storage.delete(&forged).await?;
    }
    let away = json!({"data": {theirs.id(): null}}).to_string();
    mallory
        .kubectl(["patch", "configmap", "countersign-public-keys", "-n", HOME, "--type=merge", "--patch", &away])
        .ok()
        .await?;
    lab.start(&[]).await
}

/// Keys are replaced by people. The operator reads its two Secrets, and makes the first.
#[tokio::test]
async fn the_operator_may_not_change_its_keys() -> Result<()> {
    let lab = lab().await?;
    let operator = lab.cluster.service_account(HOME, "countersign").await?;
    for name in [FIRST, ROTATED] {
        for verb in ["update", "patch", "delete"] {
            let may = operator.kubectl(["auth", "can-i", verb, &format!("secrets/{name}"), "-n", HOME]).run().await?;
            assert_eq!(may.stdout.trim(), "no", "{verb} {name}");
        }
        let may = operator.kubectl(["auth", "can-i", "get", &format!("secrets/{name}"), "-n", HOME]).run().await?;
        assert_eq!(may.stdout.trim(), "yes", "get {name}");
        let refused = operator.kubectl(["delete", "secret", name, "-n", HOME]).refused().await?;
        ensure!(refused.contains("cannot delete resource"), "{refused}");
    }
    Ok(())
}
