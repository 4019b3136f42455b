//! Risk is what will run, not what is said: a worker that declares nothing is held for the Secret it mounts and for what its
//! service account may do, and what it may do is what the API server would answer.

use crate::support::{Space, cluster, job};
use anyhow::{Context, Result, ensure};
use countersign::risk::{Grants, RbacKind};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, PostParams};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const RBAC: &str = "rbac.authorization.k8s.io";

fn rule(groups: &[&str], resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": groups, "resources": resources, "verbs": verbs})
}

fn named(mut rule: Value, name: &str) -> Value {
    rule["resourceNames"] = json!([name]);
    rule
}

/// A role: cluster-wide where the namespace is empty.
fn role(namespace: &str, name: &str, rules: Value) -> Value {
    let kind = if namespace.is_empty() { "ClusterRole" } else { "Role" };
    let mut role =
        json!({"apiVersion": format!("{RBAC}/v1"), "kind": kind, "metadata": {"name": name}, "rules": rules});
    if !namespace.is_empty() {
        role["metadata"]["namespace"] = json!(namespace);
    }
    role
}

fn binding(namespace: &str, name: &str, role: (&str, &str), subject: Value) -> Value {
    let kind = if namespace.is_empty() { "ClusterRoleBinding" } else { "RoleBinding" };
    let mut binding = json!({"apiVersion": format!("{RBAC}/v1"), "kind": kind, "metadata": {"name": name},
        "roleRef": {"apiGroup": RBAC, "kind": role.0, "name": role.1}, "subjects": [subject]});
    if !namespace.is_empty() {
        binding["metadata"]["namespace"] = json!(namespace);
    }
    binding
}

fn account(namespace: &str, name: &str) -> Value {
    json!({"kind": "ServiceAccount", "namespace": namespace, "name": name})
}

pub async fn apply(space: &Space, items: Vec<Value>) -> Result<()> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    space.admin.kubectl(["apply", "--filename", "-"]).stdin(list.to_string()).ok().await?;
    Ok(())
}

/// Everybody may do everything, but not with Secrets and rights to write.
fn rules() -> Value {
    json!([
        {"name": "everybody", "decision": "Allow",
         "when": {"requesters": [{"kind": "Group", "name": "system:authenticated"}]}},
        {"name": "risky", "decision": "RequireApproval", "when": {"riskTags": ["secrets", "write"]},
         "approvals": {"requirements": [{"name": "sre", "approvers": [{"kind": "Group", "name": "sre"}]}]}},
    ])
}

fn worker(name: &str, service_account: &str) -> Value {
    let mut job = job(name);
    let spec = &mut job["spec"]["template"]["spec"];
    spec["serviceAccountName"] = json!(service_account);
    spec["volumes"] = json!([{"name": "certs", "secret": {"secretName": "tls"}}]);
    job
}

/// The detail of the one derived entry with that tag.
pub fn derived<'a>(request: &'a Value, tag: &str) -> Option<&'a str> {
    let entries = request["status"]["scope"].as_array()?.iter();
    let mut found = entries.filter(|entry| entry["tag"] == tag && entry["source"] == "Derived");
    found.next().and_then(|entry| entry["detail"].as_str())
}

/// A gated namespace with the accounts `worker`, which may patch Deployments, and `idle`, which may nothing.
async fn space(name: &str) -> Result<Space> {
    let space = Space::gated(cluster().await?, name).await?;
    let service_account = |account: &str| json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": name}});
    apply(
        &space,
        vec![
            service_account("worker"),
            service_account("idle"),
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tls", "namespace": name}, "stringData": {"key": "x"}}),
            role(name, "deployer", json!([rule(&["apps"], &["deployments"], &["get", "patch"])])),
            binding(name, "deployer", ("Role", "deployer"), account(name, "worker")),
        ],
    )
    .await?;
    space.policy(rules()).await?;
    Ok(space)
}

#[tokio::test]
async fn a_worker_that_declares_nothing_is_held_for_what_it_can_touch() -> Result<()> {
    let space = space("derived-held").await?;
    space.create(&worker("silent", "worker")).await?;
    let asked = space.request_for("silent").await?;
    assert_eq!(asked["status"]["state"], "Pending", "{asked:#}");
    assert_eq!(asked["spec"].get("riskTags"), None, "nothing was declared");
    assert_eq!(derived(&asked, "secrets"), Some("volume certs: Secret tls"), "{asked:#}");
    let grant = "serviceaccount worker may patch deployments.apps, by Role deployer through RoleBinding deployer in derived-held";
    assert_eq!(derived(&asked, "write"), Some(grant), "{asked:#}");
    assert_eq!(derived(&asked, "cluster-scope"), None);
    assert!(!space.started("silent").await?);
    // The same Job as an account that may nothing is everybody's to run.
    space.create(&worker("harmless", "idle")).await?;
    space.wait("jobs", "harmless", |job| job["spec"]["suspend"] == false).await?;
    space.approve(&cluster().await?.user("alice", &["sre"])?, "silent").await?;
    assert!(space.started("silent").await?);
    Ok(())
}

#[tokio::test]
async fn a_right_that_is_granted_while_a_request_waits_voids_what_was_shown() -> Result<()> {
    let space = space("derived-grown").await?;
    space.create(&worker("grown", "worker")).await?;
    let asked = space.request_for("grown").await?;
    let name = asked["metadata"]["name"].as_str().context("name")?;
    let first = space.digest(name).await?;
    // Nothing that rights rest on: another account's, and metadata.
    let other = binding("derived-grown", "idle", ("Role", "deployer"), account("derived-grown", "idle"));
    apply(&space, vec![other]).await?;
    space.admin.kubectl(["annotate", "role", "deployer", "-n", "derived-grown", "seen=now"]).ok().await?;
    let edit = ("ClusterRole", "edit");
    apply(&space, vec![binding("derived-grown", "more", edit, account("derived-grown", "worker"))]).await?;
    let wider = space.wait("approvalrequests", name, |r| r["status"]["digest"] != json!(first)).await?;
    assert_eq!(wider["status"]["revision"], 2, "only what matters binds anew: {wider:#}");
    let grant = derived(&wider, "write").context("write")?;
    assert!(grant.contains("by ClusterRole edit through RoleBinding more in derived-grown"), "{grant}");
    assert!(
        derived(&wider, "secrets").is_some_and(|s| s.contains("may") && s.contains("ClusterRole edit")),
        "{wider:#}"
    );
    let alice = cluster().await?.user("alice", &["sre"])?;
    let stale = space.review(&alice, name, "Approve", &first).refused().await?;
    assert!(stale.contains("is not what stands here now"), "{stale}");

    let second = space.digest(name).await?;
    let wide = vec![
        role("", "test-derived-reader", json!([rule(&[""], &["secrets"], &["get"])])),
        binding("", "test-derived-reader", ("ClusterRole", "test-derived-reader"), account("derived-grown", "worker")),
    ];
    apply(&space, wide).await?;
    let widest = space.wait("approvalrequests", name, |r| derived(r, "cluster-scope").is_some()).await?;
    let grant = "serviceaccount worker may get secrets, by ClusterRole test-derived-reader through ClusterRoleBinding test-derived-reader, cluster-wide";
    assert_eq!(derived(&widest, "cluster-scope"), Some(grant));
    assert_ne!(widest["status"]["digest"], json!(second));
    // Taken away again, it is another view once more; no approval comes back.
    space.admin.kubectl(["delete", "clusterrolebinding", "test-derived-reader"]).ok().await?;
    let back = space.wait("approvalrequests", name, |r| derived(r, "cluster-scope").is_none()).await?;
    assert_ne!(back["status"]["digest"], json!(second), "a review that went stale never revives");
    assert!(!space.started("grown").await?);
    space.approve(&alice, "grown").await?;
    Ok(())
}

#[tokio::test]
async fn a_right_that_is_swapped_behind_the_same_words_voids_what_was_shown() -> Result<()> {
    const SPACE: &str = "derived-swapped";
    let space = space(SPACE).await?;
    // In the API, the name of a service account is as long as that of any object.
    let long = "a".repeat(253);
    let worker_like =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": long, "namespace": SPACE}});
    let swapped = |resources: &[&str]| role(SPACE, "swapped", json!([rule(&[""], resources, &["create"])]));
    let bound = binding(SPACE, "swapped", ("Role", "swapped"), account(SPACE, &long));
    apply(&space, vec![worker_like, swapped(&["configmaps", "events"]), bound]).await?;
    space.create(&worker("swapped", &long)).await?;
    let asked = space.request_for("swapped").await?;
    let name = asked["metadata"]["name"].as_str().context("name")?;
    let first = space.digest(name).await?;
    let shown = space.get("approvalrequests", name).await?;
    let words = derived(&shown, "write").context("write")?.to_string();
    assert!(words.contains("may create configmaps and 1 more, by Role swapped"), "{words}");

    // Of what somebody grants in another namespace, it is told that it is there, once.
    let away = format!("{SPACE}-away");
    let everybody = |name: &str| {
        let group = json!({"kind": "Group", "name": format!("system:serviceaccounts:{SPACE}"), "apiGroup": RBAC});
        binding(&away, name, ("Role", "small"), group)
    };
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": away}});
    let small = role(&away, "small", json!([rule(&[""], &["configmaps"], &["patch"])]));
    apply(&space, vec![namespace, small, everybody("one")]).await?;
    let far = "change something in other namespaces";
    let told =
        space.wait("approvalrequests", name, |r| derived(r, "write").is_some_and(|words| words.ends_with(far))).await?;
    assert_eq!(told["status"]["revision"], 2, "{told:#}");
    apply(&space, vec![everybody("two"), everybody("three")]).await?;

    apply(&space, vec![swapped(&["configmaps", "persistentvolumeclaims"])]).await?;
    let anew = space.wait("approvalrequests", name, |r| r["status"]["revision"] != 2).await?;
    assert_eq!(derived(&anew, "write"), derived(&told, "write"), "the words are the same");
    assert_eq!(anew["status"]["revision"], 3, "bound once for the swap, and not for other namespaces: {anew:#}");
    let alice = cluster().await?.user("alice", &["sre"])?;
    let stale = space.review(&alice, name, "Approve", &first).refused().await?;
    assert!(stale.contains("is not what stands here now"), "{stale}");

    apply(&space, vec![swapped(&["configmaps", "pods/exec"])]).await?;
    let shown = space.wait("approvalrequests", name, |r| r["status"]["revision"] == 4).await?;
    let words = derived(&shown, "write").context("write")?;
    assert!(words.contains("may create pods/exec and 1 more"), "the widest is shown: {words}");
    assert!(!space.started("swapped").await?);
    space.approve(&alice, "swapped").await?;
    Ok(())
}

const HOME: &str = "derived-a";
const AWAY: &str = "derived-b";

/// Accounts of the namespace `derived-a`, each with its own roles and bindings.
fn everybody() -> Vec<(&'static str, Vec<Value>)> {
    let sa = |name: &str| account(HOME, name);
    let user = |name: &str| json!({"kind": "User", "name": name, "apiGroup": RBAC});
    // A role of that name, bound in its own namespace.
    let own = |name: &str, rules: Value| vec![role(HOME, name, rules), binding(HOME, name, ("Role", name), sa(name))];
    let wide = |name: &str, rules: Value| {
        let role_name = format!("test-derived-{name}");
        vec![role("", &role_name, rules), binding("", &role_name, ("ClusterRole", &role_name), sa(name))]
    };
    let all = ["get", "list", "watch"];
    let mut local = binding(HOME, "local", ("ClusterRole", "edit"), sa("local"));
    local["subjects"] = json!([{"kind": "ServiceAccount", "name": "local"}]);
    vec![
        ("nothing", vec![]),
        ("reader", own("reader", json!([rule(&["", "apps"], &["pods", "deployments", "configmaps"], &all)]))),
        ("viewer", vec![binding(HOME, "viewer", ("ClusterRole", "view"), sa("viewer"))]),
        ("editor", vec![binding(HOME, "editor", ("ClusterRole", "edit"), sa("editor"))]),
        ("far-editor", vec![binding(AWAY, "far-editor", ("ClusterRole", "edit"), sa("far-editor"))]),
        ("far-viewer", vec![binding("", "test-derived-viewer", ("ClusterRole", "view"), sa("far-viewer"))]),
        ("root", vec![binding("", "test-derived-root", ("ClusterRole", "cluster-admin"), sa("root"))]),
        ("root-here", vec![binding(HOME, "root-here", ("ClusterRole", "cluster-admin"), sa("root-here"))]),
        ("local", vec![local]),
        (
            "as-user",
            vec![binding(HOME, "as-user", ("ClusterRole", "edit"), user("system:serviceaccount:derived-a:as-user"))],
        ),
        ("wrong-user", vec![binding(HOME, "wrong-user", ("ClusterRole", "edit"), user("wrong-user"))]),
        (
            "other-namespace",
            vec![binding(HOME, "other-namespace", ("ClusterRole", "edit"), account(AWAY, "other-namespace"))],
        ),
        ("dangling", vec![binding(HOME, "dangling", ("ClusterRole", "not-there"), sa("dangling"))]),
        ("patcher", own("patcher", json!([rule(&["apps"], &["deployments"], &["patch"])]))),
        ("status", own("status", json!([rule(&["apps"], &["*/status"], &["patch"])]))),
        ("leader", own("leader", json!([named(rule(&[""], &["configmaps"], &["patch"]), "leader")]))),
        ("one-secret", own("one-secret", json!([named(rule(&[""], &["secrets"], &["get"]), "leader")]))),
        ("every-resource", own("every-resource", json!([rule(&[""], &["*"], &["list"])]))),
        ("every-group", wide("every-group", json!([rule(&["*"], &["secrets"], &["list"])]))),
        (
            "wrong-group",
            own("wrong-group", json!([rule(&["apps"], &["secrets"], &all), rule(&[""], &["Secrets"], &all)])),
        ),
        ("subresource", own("subresource", json!([rule(&[""], &["secrets/x", "pods/log"], &all)]))),
        ("asker", vec![binding(HOME, "asker", ("ClusterRole", "countersign-requester"), sa("asker"))]),
        ("reviewer", vec![binding(HOME, "reviewer", ("ClusterRole", "countersign-reviewer"), sa("reviewer"))]),
        ("overrider", own("overrider", json!([rule(&["countersign.dev"], &["approvalrequests"], &["override"])]))),
        (
            "requests-status",
            own("requests-status", json!([rule(&["countersign.dev"], &["approvalrequests/status"], &["patch"])])),
        ),
        ("exec-by-get", own("exec-by-get", json!([rule(&[""], &["pods/exec"], &["get"])]))),
        ("cluster-reader", wide("cluster-reader", json!([rule(&["*"], &["*"], &all)]))),
        ("lister", wide("lister", json!([rule(&["*"], &["*"], &["list", "watch"])]))),
        ("token-maker", own("token-maker", json!([rule(&[""], &["serviceaccounts/token"], &["create"])]))),
        ("escalator", wide("escalator", json!([rule(&[RBAC], &["clusterroles"], &["escalate"])]))),
        (
            "asks-of-itself",
            wide(
                "asks-of-itself",
                json!([rule(&["authorization.k8s.io"], &["selfsubjectaccessreviews"], &["create"])]),
            ),
        ),
        (
            "asks-of-others",
            wide("asks-of-others", json!([rule(&["authorization.k8s.io"], &["subjectaccessreviews"], &["create"])])),
        ),
        ("custom", own("custom", json!([rule(&["example.com"], &["widgets"], &["spin"])]))),
        ("urls", wide("urls", json!([{"nonResourceURLs": ["*"], "verbs": ["*"]}]))),
    ]
}

/// One question: namespace, group, resource, subresource, name, verb.
type Ask = (&'static str, &'static str, &'static str, &'static str, &'static str, &'static str);

fn questions() -> Vec<Ask> {
    let about: [(&str, &str, &str, &[&str]); 16] = [
        ("", "secrets", "", &["get", "list", "watch", "patch"]),
        ("", "pods", "", &["get", "create", "delete"]),
        ("", "pods", "exec", &["get", "create"]),
        ("", "configmaps", "", &["get", "patch"]),
        ("", "serviceaccounts", "token", &["create"]),
        ("apps", "deployments", "", &["list", "patch"]),
        ("apps", "deployments", "status", &["patch"]),
        (RBAC, "clusterroles", "", &["escalate", "bind"]),
        ("authorization.k8s.io", "selfsubjectaccessreviews", "", &["create"]),
        ("authorization.k8s.io", "subjectaccessreviews", "", &["create"]),
        ("countersign.dev", "approvalrequests", "", &["create", "patch", "override", "delete"]),
        ("countersign.dev", "approvalrequests", "status", &["patch"]),
        ("countersign.dev", "approvalpolicies", "", &["create", "approve"]),
        ("example.com", "widgets", "", &["get", "spin"]),
        ("example.com", "secrets", "", &["get"]),
        ("", "nodes", "proxy", &["get"]),
    ];
    let mut all = vec![];
    for namespace in [HOME, AWAY, ""] {
        for (group, resource, subresource, verbs) in about {
            for verb in verbs {
                all.push((namespace, group, resource, subresource, "", *verb));
                if matches!(resource, "secrets" | "configmaps") {
                    all.push((namespace, group, resource, subresource, "leader", *verb));
                }
            }
        }
    }
    all
}

fn changes(ask: &Ask) -> bool {
    match *ask {
        (_, "", "pods", "exec", ..) | (_, "", "nodes", "proxy", ..) => true,
        (.., "get" | "list" | "watch") => false,
        (_, "countersign.dev", "approvalrequests", "", _, "create") => false,
        (_, "authorization.k8s.io", "selfsubjectaccessreviews", ..) => false,
        _ => true,
    }
}

fn reads_a_secret(ask: &Ask) -> bool {
    matches!(*ask, (_, "", "secrets", "", _, "get" | "list" | "watch"))
}

async fn allowed(client: &Client, account: &str, ask: &Ask) -> Result<bool> {
    let (namespace, group, resource, subresource, name, verb) = ask;
    let review: SubjectAccessReview = serde_json::from_value(json!({"spec": {
        "user": format!("system:serviceaccount:{HOME}:{account}"),
        "groups": ["system:serviceaccounts", format!("system:serviceaccounts:{HOME}"), "system:authenticated"],
        "resourceAttributes": {"namespace": namespace, "group": group, "resource": resource, "subresource": subresource,
            "name": name, "verb": verb}}}))?;
    let answer = Api::all(client.clone()).create(&PostParams::default(), &review).await?;
    Ok(answer.status.context("status")?.allowed)
}

/// What the operator would know: everything that is stored now.
async fn grants(client: &Client) -> Result<Grants> {
    let mut grants = Grants::default();
    for kind in RbacKind::ALL {
        let gvk = GroupVersionKind::gvk(RBAC, "v1", kind.as_str());
        let resource = ApiResource::from_gvk_with_plural(&gvk, &format!("{}s", kind.as_str().to_lowercase()));
        for object in Api::<DynamicObject>::all_with(client.clone(), &resource).list(&Default::default()).await? {
            grants.set(kind, &object);
        }
    }
    Ok(grants)
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_are_what_the_api_server_would_answer() -> Result<()> {
    let space = Space::new(cluster().await?, HOME).await?;
    let mut objects = vec![json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": AWAY}})];
    let everybody = everybody();
    objects.extend(everybody.iter().flat_map(|(_, objects)| objects.clone()));
    apply(&space, objects).await?;
    // The API server's authorizer learns of roles and bindings by watches of its own.
    let last: Ask = (HOME, "example.com", "widgets", "", "", "spin");
    let began = Instant::now();
    while !allowed(&space.client, "custom", &last).await? {
        ensure!(began.elapsed() < Duration::from_secs(20), "the authorizer has not learned of the roles");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;

    let known = grants(&space.client).await?;
    let questions = questions();
    let (mut asked, mut granted) = (0, 0);
    for (name, _) in &everybody {
        let answers: Vec<(Ask, bool)> = stream::iter(questions.clone())
            .map(|ask| {
                let client = space.client.clone();
                async move { anyhow::Ok((ask, allowed(&client, name, &ask).await?)) }
            })
            .buffer_unordered(16)
            .try_collect()
            .await?;
        // Whoever may ask for approval may withdraw that; whoever may only patch reviews.
        let asks = answers.iter().any(|(ask, yes)| *yes && ask.2 == "approvalrequests" && ask.5 == "create");
        let withdraws = |ask: &Ask| asks && ask.2 == "approvalrequests" && ask.3.is_empty() && ask.5 == "patch";
        let any = |sort: fn(&Ask) -> bool, far: bool| {
            answers.iter().any(|(ask, yes)| *yes && sort(ask) && !withdraws(ask) && (!far || ask.0 != HOME))
        };
        let rights = known.rights(HOME, name);
        assert_eq!(rights.writes.is_some(), any(changes, false), "{name} writes: {rights:?}");
        assert_eq!(rights.reads_secrets.is_some(), any(reads_a_secret, false), "{name} reads Secrets: {rights:?}");
        let far = any(changes, true) || any(reads_a_secret, true);
        assert_eq!(rights.cluster_scope.is_some(), far, "{name} beyond its namespace: {rights:?}");
        asked += answers.len();
        granted += answers.iter().filter(|(_, yes)| *yes).count();
    }
    println!("{asked} questions about {} accounts, {granted} granted", everybody.len());
    assert!(granted > 300 && asked > 2 * granted, "{granted} of {asked}");
    Ok(())
}
