//! Jobs in a gated namespace, with the operator up: held at creation, asked for, and started by the operator alone.

use crate::support::{Space, by_sre, cluster, conditions, job, merge, request};
use anyhow::{Context, Result};
use countersign_testbed::AuditFilter;
use serde_json::{Value, json};

const OPERATOR: &str = "system:serviceaccount:countersign-system:countersign";

/// Every Job needs an approval of the group sre; no tags asked.
fn always() -> Value {
    let mut rules = by_sre();
    rules[0].as_object_mut().map(|rule| rule.remove("when"));
    rules
}

fn allow() -> Value {
    json!([{"name": "harmless", "decision": "Allow", "reason": "a drill"}])
}

fn unsuspended(name: &str) -> Value {
    let mut job = job(name);
    job["spec"]["suspend"] = json!(false);
    job
}

#[tokio::test]
async fn a_job_is_held_asked_for_and_started_on_approval() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::gated(cluster, "gate-asks").await?;
    space.policy(always()).await?;
    let mut body = unsuspended("rotate");
    body["metadata"]["annotations"] = json!({"countersign.dev/reason": "rotate the keys",
        "countersign.dev/risk-tags": "prod,write", "countersign.dev/requested-by": "workflow.keys"});
    let made = space.create(&body).await?;
    assert_eq!(made["spec"]["suspend"], true, "held at creation");
    let asked = space.request_for("rotate").await?;
    let spec = &asked["spec"];
    assert_eq!(spec["requester"]["username"], "system:serviceaccount:gate-asks:triage");
    assert_eq!((&spec["reason"], &spec["requestedBy"]), (&json!("rotate the keys"), &json!("workflow.keys")));
    assert_eq!(spec["riskTags"], json!(["prod", "write"]));
    assert_eq!(spec["target"]["uid"], made["metadata"]["uid"]);
    assert_eq!(asked["metadata"]["ownerReferences"][0]["uid"], made["metadata"]["uid"]);
    assert!(!space.started("rotate").await?);
    // Neither who made it, nor the account it runs as, decides on it, whatever groups they are in.
    let name = asked["metadata"]["name"].as_str().context("name")?;
    let digest = space.digest(name).await?;
    let own = space.review(&space.triage, name, "Approve", &digest).refused().await?;
    assert!(own.contains("you asked for this yourself"), "{own}");
    let done = space.approve(&cluster.user("alice", &["sre"])?, "rotate").await?;
    assert_eq!(done["status"]["approvals"][0]["approvedBy"], json!(["alice"]));
    space.wait("jobs", "rotate", |j| j["status"]["succeeded"] == 1).await?;
    // Whoever watches over all tests of this control plane has seen it, and is not blind.
    let observer = cluster.observer()?;
    observer.check_now().await?;
    let seen = observer.counts();
    assert!(seen.jobs > 0 && seen.pods > 0 && seen.releases > 0, "{seen:?}");
    Ok(())
}

#[tokio::test]
async fn what_policy_allows_starts_at_once_with_one_write_and_no_request() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::gated(cluster, "gate-allows").await?;
    space.policy(allow()).await?;
    let log = cluster.audit_log();
    let warm = space.create(&unsuspended("first")).await?;
    assert_eq!(warm["spec"]["suspend"], true);
    space.wait("jobs", "first", |j| j["status"]["succeeded"] == 1).await?;
    let mark = log.settle().await?;
    space.create(&unsuspended("second")).await?;
    space.wait("jobs", "second", |j| j["status"]["succeeded"] == 1).await?;
    log.settle().await?;
    let by_operator = AuditFilter::new().user(OPERATOR).namespace("gate-allows").stage("ResponseComplete");
    let requests = log.select(mark, &by_operator)?;
    let calls: Vec<_> =
        requests.iter().filter(|e| e["verb"] != "watch" && e["objectRef"]["resource"] != "events").collect();
    assert_eq!(calls.len(), 1, "one write, no read: {calls:#?}");
    assert_eq!((&calls[0]["verb"], &calls[0]["objectRef"]["name"]), (&json!("patch"), &json!("second")));
    assert!(space.api("approvalrequests").list(&Default::default()).await?.items.is_empty(), "no request object");
    Ok(())
}

#[tokio::test]
async fn what_policy_denies_is_refused_with_the_rule_and_what_nobody_rules_is_held() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::gated(cluster, "gate-denies").await?;
    space.create(&unsuspended("nobody-rules")).await?;
    let held = space.request_for("nobody-rules").await?;
    assert!(conditions(&held).any(|c| c["reason"] == "NoMatchingPolicy"), "{held:#}");
    assert!(!space.started("nobody-rules").await?);
    space.policy(json!([{"name": "never", "decision": "Deny", "reason": "not on a Sunday"}])).await?;
    for args in [vec!["create"], vec!["create", "--dry-run=server"], vec!["apply"], vec!["apply", "--server-side"]] {
        let args: Vec<&str> = args.into_iter().chain(["-n", "gate-denies", "-f", "-"]).collect();
        let message = space.triage.kubectl(args.clone()).stdin(unsuspended("denied").to_string()).refused().await?;
        assert!(message.contains("denied by rule gate-denies/never: not on a Sunday"), "{args:?}: {message}");
    }
    assert!(space.api("jobs").get_opt("denied").await?.is_none());
    Ok(())
}

#[tokio::test]
async fn a_job_that_names_its_request_takes_that_of_its_creator_only() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::gated(cluster, "gate-named").await?;
    space.policy(by_sre()).await?;
    let (alice, mallory) = (cluster.user("alice", &["sre"])?, cluster.user("mallory", &["developers"])?);
    // Mallory may patch Jobs here, so that nothing but the gate stands between her request and the Job.
    let bind = ["create", "rolebinding", "mallory", "--role=gated", "--user=mallory", "-n", "gate-named"];
    space.admin.kubectl(bind).ok().await?;
    let squat = mallory.kubectl(["create", "-n", "gate-named", "-f", "-"]);
    squat.stdin(request("wanted", Some("work")).to_string()).ok().await?;
    let mut body = unsuspended("work");
    body["metadata"]["annotations"] = json!({"countersign.dev/request": "wanted"});
    space.create(&body).await?;
    let squatted = space.evaluated("wanted", "TargetForeign").await?;
    let message = squatted["status"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("it was created by system:serviceaccount:gate-named:triage"), "{message}");
    assert!(squatted["status"]["digest"].is_null(), "nobody is asked to review it");
    // Under a name of its own, the creator's request is taken.
    body["metadata"] = json!({"name": "own", "annotations": {"countersign.dev/request": "mine"}});
    space.create(&body).await?;
    space.request("mine", Some("own")).await?;
    space.approve(&alice, "own").await?;
    assert!(space.started("own").await? && !space.started("work").await?);
    let all = space.api("approvalrequests").list(&Default::default()).await?.items.len();
    assert_eq!(all, 2, "the gate made none of its own");
    Ok(())
}

#[tokio::test]
async fn a_job_that_another_controller_drives_as_well_is_said_and_not_fought_over() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::gated(cluster, "gate-shared").await?;
    space.policy(allow()).await?;
    let mut queued = unsuspended("queued");
    queued["metadata"]["labels"] = json!({"kueue.x-k8s.io/queue-name": "team"});
    let mut managed = unsuspended("managed");
    managed["spec"]["managedBy"] = json!("example.com/other");
    for (body, name, hand) in
        [(queued, "queued", "kueue.x-k8s.io/queue-name"), (managed, "managed", "example.com/other")]
    {
        space.create(&body).await?;
        let asked = space.request_for(name).await?;
        assert!(conditions(&asked).any(|c| c["reason"] == "TargetShared"), "{asked:#}");
        assert!(asked["status"]["message"].as_str().is_some_and(|m| m.contains(hand)), "{asked:#}");
        assert!(!space.started(name).await?);
    }
    merge(&space.api("jobs"), "queued", &json!({"metadata": {"labels": {"kueue.x-k8s.io/queue-name": null}}})).await?;
    space.wait("jobs", "queued", |j| j["status"]["succeeded"] == 1).await?;
    Ok(())
}

#[tokio::test]
async fn an_open_request_is_not_deleted_and_a_withdrawn_one_holds_its_job() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::gated(cluster, "gate-deletes").await?;
    space.policy(always()).await?;
    space.create(&unsuspended("work")).await?;
    let asked = space.request_for("work").await?;
    let name = asked["metadata"]["name"].as_str().context("name")?;
    let delete = ["delete", "apr", name, "-n", "gate-deletes", "--wait=false"];
    let message = space.triage.kubectl(delete).refused().await?;
    assert!(message.contains("spec.cancel"), "{message}");
    space.patch(&space.triage, name, json!({"spec": {"cancel": true}})).ok().await?;
    space.state(name, "Cancelled").await?;
    space.triage.kubectl(delete).ok().await?;
    let start = ["patch", "job", "work", "-n", "gate-deletes", "-p", r#"{"spec":{"suspend":false}}"#];
    let message = space.triage.kubectl(start).refused().await?;
    assert!(message.contains("the Countersign operator alone starts it"), "{message}");
    assert!(!space.started("work").await?);
    Ok(())
}

#[tokio::test]
async fn somebody_who_may_override_starts_a_job_and_the_request_says_who() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::gated(cluster, "gate-override").await?;
    space.policy(always()).await?;
    space.create(&unsuspended("work")).await?;
    let asked = space.request_for("work").await?;
    let name = asked["metadata"]["name"].as_str().context("name")?;
    let rbac = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "break-glass", "namespace": "gate-override"},
         "rules": [{"apiGroups": ["countersign.dev"], "resources": ["approvalrequests"], "verbs": ["override"]},
                   {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "patch"]}]},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "break-glass", "namespace": "gate-override"},
         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "break-glass"},
         "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}]}]});
    space.admin.kubectl(["apply", "-f", "-"]).stdin(rbac.to_string()).ok().await?;
    let bob = cluster.user("bob", &["sre"])?;
    let patch = json!({"metadata": {"annotations": {"countersign.dev/override-reason": "the site burns"}}, "spec": {"suspend": false}});
    bob.kubectl(["patch", "job", "work", "-n", "gate-override", "--type=merge", "-p", &patch.to_string()]).ok().await?;
    let marked = space.state(name, "Released").await?;
    assert!(conditions(&marked).any(|c| c["type"] == "Overridden" && c["status"] == "True"), "{marked:#}");
    assert!(!conditions(&marked).any(|c| c["type"] == "Approved"), "{marked:#}");
    let message = marked["status"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("bob") && message.contains("the site burns"), "{message}");
    space.wait_for_event(name, "Overridden").await?;
    Ok(())
}

#[tokio::test]
async fn a_namespace_that_only_warns_holds_nothing_and_says_what_it_would_do() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "gate-warns").await?;
    space.policy(always()).await?;
    space.admin.kubectl(["label", "namespace", "gate-warns", "countersign.dev/gate=warn"]).ok().await?;
    let began = std::time::Instant::now();
    let create = ["create", "-n", "gate-warns", "-f", "-"];
    let mut n = 0;
    let warned = loop {
        n += 1;
        let output = space.triage.kubectl(create).stdin(unsuspended(&format!("free-{n}")).to_string()).run().await?;
        anyhow::ensure!(output.status.success(), "{}", output.stderr);
        if output.stderr.contains("with the gate enforced") || began.elapsed().as_secs() > 20 {
            break output.stderr;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    };
    assert!(warned.contains("would be held until approved: rule gate-warns/prod-write"), "{warned}");
    let name = format!("free-{n}");
    space.wait("jobs", &name, |j| j["status"]["succeeded"] == 1).await?;
    space.wait_for_event(&name, "WouldHold").await?;
    Ok(())
}

/// Refuses to let anything start in one namespace, and a Job named `probe` at once.
fn nothing_starts(namespace: &str) -> Value {
    let name = format!("{namespace}-nothing-starts");
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name}, "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "resourceRules": [{"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["jobs"]}]},
            "validations": [{
                "expression": "object.metadata.name != 'probe' && (request.operation == 'CREATE' || object.spec.suspend)",
                "message": "nothing starts today"}]}},
        {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"]}}]})
}

#[tokio::test]
async fn what_is_allowed_and_cannot_be_started_says_so() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::gated(cluster, "gate-refused").await?;
    space.policy(allow()).await?;
    let refusing = nothing_starts("gate-refused").to_string();
    space.admin.kubectl(["apply", "--filename", "-"]).stdin(refusing.clone()).ok().await?;
    let dry_run = ["create", "--dry-run=server", "--namespace", "gate-refused", "--filename", "-"];
    for attempt in 0.. {
        let probe = space.admin.kubectl(dry_run).stdin(job("probe").to_string()).run().await?;
        if probe.stderr.contains("nothing starts today") {
            break;
        }
        anyhow::ensure!(attempt < 100, "the policy of this test has no effect: {}", probe.stderr);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    space.create(&unsuspended("run")).await?;
    let asked = space.request_for("run").await?;
    let name = asked["metadata"]["name"].as_str().context("name")?.to_string();
    let waiting = space
        .wait("approvalrequests", &name, |r| {
            r["status"]["message"].as_str().is_some_and(|m| m.contains("nothing starts today"))
        })
        .await?;
    assert_eq!(waiting["status"]["state"], "Approved");
    assert!(!space.started("run").await?);
    space.wait_for_event("run", "ReleaseRefused").await?;
    space.admin.kubectl(["delete", "--filename", "-"]).stdin(refusing).ok().await?;
    space.state(&name, "Released").await?;
    space.wait("jobs", "run", |j| j["status"]["succeeded"] == 1).await?;
    Ok(())
}
