//! Who decides: whom RBAC lets approve, whom a policy excludes, and what an approval must say.

use crate::support::{Space, by_sre, cluster, job, policy};
use anyhow::{Context, Result, ensure};
use countersign_testbed::{ControlPlane, Identity};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Rules of the policy `name` that take one person whom RBAC lets approve it.
fn by_authorized(name: &str) -> Value {
    let mut rules = by_sre();
    let requirements = json!([{"name": "authorized", "approvers": [{"kind": "Authorized", "name": name}]}]);
    rules[0]["approvals"]["requirements"] = requirements;
    rules
}

/// A role of that name with these rules, bound to the user.
async fn grant(cluster: &ControlPlane, name: &str, user: &str, rule: Value) -> Result<()> {
    let rbac = "rbac.authorization.k8s.io";
    let role =
        json!({"apiVersion": format!("{rbac}/v1"), "kind": "ClusterRole", "metadata": {"name": name}, "rules": [rule]});
    bind(cluster, name, name, user, Some(role)).await
}

async fn bind(cluster: &ControlPlane, name: &str, role: &str, user: &str, with: Option<Value>) -> Result<()> {
    let rbac = "rbac.authorization.k8s.io";
    let binding = json!({"apiVersion": format!("{rbac}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": rbac, "kind": "User", "name": user}]});
    let items: Vec<Value> = with.into_iter().chain([binding]).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
    cluster.admin().kubectl(["apply", "-f", "-"]).stdin(list).ok().await?;
    Ok(())
}

fn approve_on(names: &[&str]) -> Value {
    let mut rule = json!({"apiGroups": ["countersign.dev"], "resources": ["approvalpolicies"], "verbs": ["approve"]});
    if !names.is_empty() {
        rule["resourceNames"] = json!(names);
    }
    rule
}

async fn refused(space: &Space, who: &Identity, name: &str, review: Value, expected: &str) -> Result<()> {
    let message = space.patch(who, name, json!({"spec": {"review": review}})).refused().await?;
    ensure!(message.contains(expected), "expected {expected:?} in {message:?}");
    ensure!(!space.started(name).await?);
    Ok(())
}

fn approve(digest: &str) -> Value {
    json!({"decision": "Approve", "digest": digest})
}

/// A grant of RBAC takes effect some time after it is stored, and a refusal is remembered for some seconds.
async fn eventually(space: &Space, who: &Identity, name: &str, digest: &str) -> Result<()> {
    let began = Instant::now();
    loop {
        let output = space.review(who, name, "Approve", digest).run().await?;
        if output.status.success() {
            return Ok(());
        }
        ensure!(began.elapsed() < Duration::from_secs(20), "{}", output.stderr);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test]
async fn whom_rbac_lets_approve_this_policy_decides_and_nobody_else() -> Result<()> {
    let cluster = cluster().await?;
    let name = "deciders-rbac";
    let space = Space::new(cluster, name).await?;
    space.policy(by_authorized(name)).await?;
    let digest = space.bound("run").await?;
    // Each may patch requests; only the verb differs.
    let [alice, bob, carol, mallory] =
        ["alice-d", "bob-d", "carol-d", "mallory-d"].map(|user| cluster.user(user, &["sre", "developers"]));
    let (alice, bob, carol, mallory) = (alice?, bob?, carol?, mallory?);
    grant(cluster, "deciders-this", "alice-d", approve_on(&[name])).await?;
    grant(cluster, "deciders-other", "bob-d", approve_on(&["deciders-elsewhere"])).await?;
    let near = json!({"apiGroups": ["countersign.dev"], "resources": ["approvalpolicies", "approvalrequests"],
        "verbs": ["get", "list", "update", "patch", "create", "delete", "override", "ungate"]});
    grant(cluster, "deciders-near", "mallory-d", near).await?;
    bind(cluster, "deciders-admin", "cluster-admin", "carol-d", None).await?;
    let expected = |who: &str| {
        format!("{who} is not an approver of this request; it takes whoever may approve policy deciders-rbac")
    };
    refused(&space, &bob, "run", approve(&digest), &expected("bob-d")).await?;
    refused(&space, &mallory, "run", approve(&digest), &expected("mallory-d")).await?;
    refused(&space, &mallory, "run", json!({"decision": "Deny", "digest": digest}), &expected("mallory-d")).await?;
    let dry = json!({"spec": {"review": approve(&digest)}}).to_string();
    let dry = ["patch", "apr", "run", "-n", name, "--dry-run=server", "--type=merge", "--patch", &dry];
    let began = Instant::now();
    let seen = loop {
        match alice.kubectl(dry).json().await {
            Ok(seen) => break seen,
            Err(error) => ensure!(began.elapsed() < Duration::from_secs(20), "{error}"),
        }
    };
    ensure!(seen["spec"]["reviews"][0]["reviewer"]["authorized"] == json!([name]), "{seen:#}");
    ensure!(!space.started("run").await?);
    eventually(&space, &alice, "run", &digest).await?;
    let done = space.state("run", "Released").await?;
    let reviewer = &done["spec"]["reviews"][0]["reviewer"];
    ensure!(reviewer["username"] == "alice-d" && reviewer["authorized"] == json!([name]), "{reviewer:#}");
    ensure!(done["status"]["approvals"][0]["approvedBy"] == json!(["alice-d"]), "{done:#}");

    // A wildcard implies every verb, this one too.
    let digest = space.bound("by-admin").await?;
    eventually(&space, &carol, "by-admin", &digest).await?;
    space.state("by-admin", "Released").await?;
    Ok(())
}

#[tokio::test]
async fn the_creator_of_the_job_is_excluded_where_the_policy_says_so() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::gated(cluster, "deciders-creator").await?;
    let mut rules = by_sre();
    rules[0].as_object_mut().map(|rule| rule.remove("when"));
    rules[0]["approvals"]["selfApproval"] = json!("Allow");
    rules[0]["approvals"]["requirements"][0]["approvers"] = json!([{"kind": "Group", "name": "sre"}, {"kind": "ServiceAccount", "namespace": "deciders-creator", "name": "triage"}]);
    space.policy(rules.clone()).await?;
    // Allowed by itself: the creator approves its own.
    space.job("own").await?;
    let digest_of = |request: &Value| {
        (
            request["metadata"]["name"].as_str().unwrap_or_default().to_string(),
            request["status"]["digest"].as_str().unwrap_or_default().to_string(),
        )
    };
    let (request, digest) = digest_of(&space.request_for("own").await?);
    space.review(&space.triage, &request, "Approve", &digest).ok().await?;
    space.state(&request, "Released").await?;

    rules[0]["approvals"]["exclude"] = json!(["JobCreator"]);
    space.policy(rules).await?;
    space.job("excluded").await?;
    let (request, digest) = digest_of(&space.request_for("excluded").await?);
    let said = json!({"spec": {"review": approve(&digest)}});
    let message = space.patch(&space.triage, &request, said).refused().await?;
    ensure!(message.contains("created what would run") && message.contains("policy excludes whoever did"), "{message}");
    let alice = cluster.user("alice", &["sre"])?;
    space.review(&alice, &request, "Approve", &digest).ok().await?;
    space.state(&request, "Released").await?;
    Ok(())
}

/// Only a gated namespace writes down who made a Job, and guards the name.
#[tokio::test]
async fn where_no_creator_is_stamped_a_rule_that_excludes_them_approves_nothing() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "deciders-ungated").await?;
    let mut rules = by_sre();
    rules[0]["approvals"]["exclude"] = json!(["JobCreator"]);
    space.policy(rules).await?;
    let alice = cluster.user("alice", &["sre"])?;
    // Whom the name would keep out, if it were believed.
    let mut job = job("run");
    job["metadata"]["annotations"] = json!({"countersign.dev/created-by": "bob"});
    let create = space.triage.kubectl(["create", "-n", "deciders-ungated", "-f", "-"]);
    create.stdin(job.to_string()).ok().await?;
    space.request("run", Some("run")).await?;
    let seen = space.evaluated("run", "CreatorUnknown").await?;
    ensure!(seen["status"].get("digest").is_none(), "{seen:#}");
    let review = approve(&format!("sha256:{}", "0".repeat(64)));
    let expected = "this request cannot be reviewed now: Job run: policy excludes whoever made it, and who that is, is known in a gated namespace alone";
    refused(&space, &alice, "run", review, expected).await
}

/// Who makes a Job may name its authors, and so take an approval from somebody, but no veto.
#[tokio::test]
async fn a_name_on_a_job_takes_no_veto_away() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::gated(cluster, "deciders-veto").await?;
    let mut rules = by_sre();
    rules[0].as_object_mut().map(|rule| rule.remove("when"));
    space.policy(rules).await?;
    let alice = cluster.user("alice", &["sre"])?;
    let mut job = job("run");
    job["metadata"]["annotations"] = json!({"countersign.dev/authored-by": "alice"});
    space.create(&job).await?;
    let request = space.request_for("run").await?;
    let name = request["metadata"]["name"].as_str().unwrap_or_default();
    let digest = space.digest(name).await?;
    let message = space.patch(&alice, name, json!({"spec": {"review": approve(&digest)}})).refused().await?;
    ensure!(message.contains("alice has a part in what would run"), "{message}");
    space.review(&alice, name, "Deny", &digest).ok().await?;
    let done = space.state(name, "Denied").await?;
    ensure!(done["status"]["message"].as_str().is_some_and(|m| m.contains("denied by alice")), "{done:#}");
    ensure!(!space.started("run").await?);
    Ok(())
}

#[tokio::test]
async fn a_grant_that_is_withdrawn_stops_new_approvals_takes_none_back_and_leaves_the_veto() -> Result<()> {
    let cluster = cluster().await?;
    let name = "deciders-withdrawn";
    let space = Space::new(cluster, name).await?;
    let mut rules = by_authorized(name);
    let sre = json!({"name": "sre", "approvers": [{"kind": "Group", "name": "sre"}]});
    let mine = rules[0]["approvals"]["requirements"][0].clone();
    rules[0]["approvals"]["requirements"] = json!([mine, sre]);
    space.policy(rules).await?;
    let (alice, bob) = (cluster.user("alice-g", &["developers"])?, cluster.user("bob-g", &["sre"])?);
    grant(cluster, name, "alice-g", approve_on(&[name])).await?;
    let (run, stopped, later) = (space.bound("run").await?, space.bound("stopped").await?, space.bound("later").await?);
    eventually(&space, &alice, "run", &run).await?;
    eventually(&space, &alice, "stopped", &stopped).await?;
    space.admin.kubectl(["delete", "clusterrolebinding", name]).ok().await?;
    let dry = json!({"spec": {"review": approve(&later)}}).to_string();
    let dry = ["patch", "apr", "later", "-n", name, "--dry-run=server", "--type=merge", "--patch", &dry];
    // At first the operator remembers the grant, and the admission policy, which asks anew, does not take it.
    let began = Instant::now();
    while !alice.kubectl(dry).run().await?.stderr.contains("is not an approver of this request") {
        ensure!(began.elapsed() < Duration::from_secs(30), "a grant that is gone still counts");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    refused(&space, &alice, "later", approve(&later), "alice-g is not an approver of this request").await?;
    let deny = json!({"decision": "Deny", "digest": later});
    refused(&space, &alice, "later", deny, "alice-g is not an approver of this request").await?;
    // What she said before stands, until she takes it back.
    space.review(&alice, "stopped", "Deny", &stopped).ok().await?;
    space.state("stopped", "Denied").await?;
    space.review(&bob, "run", "Approve", &run).ok().await?;
    let done = space.state("run", "Released").await?;
    let by: Vec<&Value> =
        done["status"]["approvals"].as_array().into_iter().flatten().map(|p| &p["approvedBy"]).collect();
    ensure!(by.contains(&&json!(["alice-g"])) && by.contains(&&json!(["bob-g"])), "{done:#}");
    Ok(())
}

#[tokio::test]
async fn whoever_last_changed_the_policy_is_excluded_where_it_says_so() -> Result<()> {
    let cluster = cluster().await?;
    let name = "deciders-editor";
    let space = Space::new(cluster, name).await?;
    let (alice, bob) = (cluster.user("alice-e", &["sre"])?, cluster.user("bob-e", &["sre"])?);
    bind(cluster, "deciders-editors", "countersign-policy-editor", "alice-e", None).await?;
    let mut rules = by_sre();
    rules[0]["approvals"]["exclude"] = json!(["PolicyEditor"]);
    let mut body = policy(name, name, rules);
    // What she writes herself does not stand.
    body["metadata"]["annotations"] = json!({"countersign.dev/edited-by": "bob-e"});
    let apply = || alice.kubectl(["apply", "-f", "-"]).stdin(body.to_string());
    let began = Instant::now();
    while !apply().run().await?.status.success() {
        ensure!(began.elapsed() < Duration::from_secs(20), "alice cannot write policies");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let stamped = async || {
        let stored = space.get("approvalpolicies", name).await?;
        anyhow::Ok(stored["metadata"]["annotations"]["countersign.dev/edited-by"].clone())
    };
    ensure!(stamped().await? == "alice-e");
    // Whoever touches metadata alone takes nothing over, and cannot write it either.
    let admin = &space.admin;
    let label = ["label", "apol", name, "touched=yes"];
    admin.kubectl(label).ok().await?;
    admin.kubectl(["annotate", "apol", name, "countersign.dev/edited-by=bob-e", "--overwrite"]).ok().await?;
    admin.kubectl(["annotate", "apol", name, "countersign.dev/edited-by-"]).ok().await?;
    ensure!(stamped().await? == "alice-e");

    let digest = space.bound("run").await?;
    refused(
        &space,
        &alice,
        "run",
        approve(&digest),
        "alice-e last changed a policy that applies here, and policy excludes whoever did",
    )
    .await?;
    // Another who changes it takes her place, and what was shown is shown anew.
    body["metadata"]["annotations"] = json!({});
    body["spec"]["rules"][0]["reason"] = json!("another reason");
    admin.kubectl(["apply", "-f", "-"]).stdin(body.to_string()).ok().await?;
    ensure!(stamped().await? != "alice-e");
    let seen = space
        .wait("approvalrequests", "run", |r| {
            r["status"]["digest"] != json!(digest) && r["status"]["excluded"] != json!(["alice-e"])
        })
        .await?;
    let digest = seen["status"]["digest"].as_str().unwrap_or_default();
    space.review(&alice, "run", "Approve", digest).ok().await?;
    space.state("run", "Released").await?;
    let digest = space.bound("again").await?;
    space.review(&bob, "again", "Approve", &digest).ok().await?;
    space.state("again", "Released").await?;
    Ok(())
}

#[tokio::test]
async fn an_approval_says_what_was_checked_where_the_policy_wants_it() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "deciders-comment").await?;
    let mut rules = by_sre();
    rules[0]["approvals"]["requireComment"] = json!(true);
    space.policy(rules).await?;
    let digest = space.bound("run").await?;
    let alice = cluster.user("alice", &["sre"])?;
    let expected = "this approval takes a comment: say in spec.review.comment what you checked";
    refused(&space, &alice, "run", approve(&digest), expected).await?;
    let blank = json!({"decision": "Approve", "digest": digest, "comment": "  "});
    refused(&space, &alice, "run", blank, expected).await?;
    let said = json!({"spec": {"review": {"decision": "Approve", "digest": digest, "comment": "read the diff"}}});
    space.patch(&alice, "run", said).ok().await?;
    space.state("run", "Released").await?;
    let digest = space.bound("denied").await?;
    space.review(&alice, "denied", "Deny", &digest).ok().await?;
    space.state("denied", "Denied").await?;
    Ok(())
}

#[tokio::test]
async fn a_rule_that_its_people_cannot_meet_is_refused_with_its_field() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "deciders-short").await?;
    let mut rules = by_sre();
    let alice = json!([{"kind": "User", "name": "alice"}]);
    rules[0]["approvals"]["requirements"] =
        json!([{"name": "sre", "approvers": alice}, {"name": "security", "approvers": alice}]);
    let body = policy("deciders-short", "deciders-short", rules).to_string();
    let message = space.admin.kubectl(["create", "-f", "-"]).stdin(body).refused().await?;
    let expected = "spec.rules[prod-write].approvals.requirements: 2 people are needed for sre and security, and only user alice is named; user alice stands in both, and counts once";
    ensure!(message.contains(expected), "{message}");
    Ok(())
}

#[tokio::test]
async fn the_printed_command_is_taken_once_its_comment_is_written() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "decide-printed").await?;
    let mut rules = by_sre();
    rules[0]["approvals"]["requireComment"] = json!(true);
    space.policy(rules).await?;
    space.bound("run").await?;
    let request = space.get("approvalrequests", "run").await?;
    let message = request["status"]["message"].as_str().context("message")?;
    let command = message.split_once("kubectl ").context("command")?.1;
    assert!(command.contains("<what you checked>"), "{command}");
    let (words, patch) = command.split_once(" '").context("patch")?;
    let patch = patch.trim_end_matches('\'').replace("<what you checked>", "read the diff");
    let args: Vec<&str> = words.split(' ').chain([patch.as_str()]).collect();
    cluster.user("alice", &["sre"])?.kubectl(args).ok().await?;
    let done = space.state("run", "Released").await?;
    assert_eq!(done["spec"]["reviews"][0]["comment"], "read the diff");
    Ok(())
}
