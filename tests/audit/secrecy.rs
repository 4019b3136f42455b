//! What the trail and all that hangs on it must not hold: nothing of a Secret, and of people only username, uid and groups.
//! And what it shows must not be obeyed by a terminal.

use crate::support::told::{metrics_address, said};
use crate::support::{Space, by_sre, client, job};
use crate::{Lab, lab, transitions};
use anyhow::{Context, Result, ensure};
use axum::http::Request;
use base64::{Engine, engine::general_purpose::STANDARD};
use kube::Client;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const NAMESPACE: &str = "audit-secrecy";
const HOME: &str = "countersign-system";
/// Stands in a Secret that the Job uses.
const CANARY: &str = "canary-5d41402abc4b2a76";
/// Stands in what an authenticator told of people beside their names.
const EXTRA: &str = "extra-7d793037a0760186";
/// Clears a screen, names a window, rings, turns the direction of reading, hides itself, and ends a line.
const HOSTILE: &str = "seen\u{1b}[2J\u{1b}]0;pwned\u{7}\u{9b}31m\u{202e}txet\u{2066}\u{200b}\r\n\u{8}\u{7f}\u{1}end";

/// Somebody of whom the authenticator knows more than a name.
struct Person {
    admin: Client,
    name: &'static str,
    group: &'static str,
}

impl Person {
    /// Sends a request in this name, as an authenticating proxy would. The API server's answer, or why it refused.
    async fn send(&self, method: &str, path: &str, content: &str, body: &Value) -> kube::Result<Value> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("Content-Type", content)
            .header("Impersonate-User", self.name)
            .header("Impersonate-Uid", format!("uid-of-{}", self.name))
            .header("Impersonate-Group", self.group)
            .header("Impersonate-Group", "system:authenticated")
            .header("Impersonate-Extra-ssn", EXTRA)
            .body(body.to_string().into_bytes());
        self.admin.request(request.map_err(|error| kube::Error::Service(error.into()))?).await
    }

    async fn review(&self, request: &str, review: Value) -> kube::Result<Value> {
        let path = format!("/apis/countersign.dev/v1alpha1/namespaces/{NAMESPACE}/approvalrequests/{request}");
        let patch = json!({"spec": {"review": review}});
        self.send("PATCH", &path, "application/merge-patch+json", &patch).await
    }
}

/// A Job that takes the Secret both ways, and says something for terminals.
fn reading() -> Value {
    let mut job = job("reads");
    job["metadata"]["annotations"] = json!({"countersign.dev/reason": HOSTILE});
    let pod = &mut job["spec"]["template"]["spec"];
    pod["volumes"] = json!([{"name": "db", "secret": {"secretName": "db"}}]);
    pod["containers"][0]["volumeMounts"] = json!([{"name": "db", "mountPath": "/db"}]);
    pod["containers"][0]["envFrom"] = json!([{"secretRef": {"name": "db"}}]);
    let from = json!({"secretKeyRef": {"name": "db", "key": "password"}});
    pod["containers"][0]["env"] = json!([{"name": "PASSWORD", "valueFrom": from}]);
    job
}

/// Has the operator read all of Secrets, and serve metrics.
async fn start_reading(lab: &mut Lab) -> Result<()> {
    let role = "--clusterrole=countersign-read-secrets";
    let account = "--serviceaccount=countersign-system:countersign";
    let bind = ["create", "clusterrolebinding", "secrecy-reads", role, account];
    lab.cluster.admin().kubectl(bind).ok().await?;
    lab.kill();
    lab.start(&["--read-secrets", "content", "--metrics-bind", "127.0.0.1:0"]).await
}

/// Everything about people: what stands under a name that holds callers.
fn people<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
    if let Value::Object(map) = value {
        for name in ["by", "reviewer", "requester"] {
            match map.get(name) {
                Some(Value::Array(several)) => found.extend(several),
                Some(one) => found.push(one),
                None => {}
            }
        }
    }
    let inner: Box<dyn Iterator<Item = &Value>> = match value {
        Value::Object(map) => Box::new(map.values()),
        Value::Array(list) => Box::new(list.iter()),
        _ => return,
    };
    inner.for_each(|value| people(value, found));
}

/// Everything that Countersign wrote or would show, each by its name.
async fn written(lab: &Lab, space: &Space, trail: &str, released: &Value) -> Result<Vec<(&'static str, String)>> {
    let admin = lab.cluster.admin();
    let all = async |what: &'static str, args: &[&str]| {
        anyhow::Ok((what, admin.kubectl(args.iter().chain(&["-o", "json"])).ok().await?))
    };
    let annotations = &released["spec"]["template"]["metadata"]["annotations"];
    let receipt = annotations["countersign.dev/receipt"].as_str().context("a receipt")?;
    let envelope: Value = serde_json::from_str(receipt)?;
    let payload = STANDARD.decode(envelope["payload"].as_str().context("a payload")?)?;
    let log = lab.operator.as_ref().context("operator")?.log();
    let stored = lab.cluster.storage().list(crate::RECORDS).await?;
    Ok(vec![
        ("export", std::fs::read_to_string(trail)?),
        ("stored records", format!("{stored:?}")),
        ("receipt", format!("{receipt} {}", String::from_utf8(payload)?)),
        ("released Job", released.to_string()),
        all("requests", &["get", "apr", "-n", &space.namespace]).await?,
        all("events", &["get", "events.events.k8s.io", "-A"]).await?,
        all("checkpoint and keys", &["get", "configmaps", "-n", HOME]).await?,
        all("snapshots", &["get", "controllerrevisions", "-n", HOME]).await?,
        all("leases", &["get", "leases", "-n", HOME]).await?,
        ("metrics", said(metrics_address(&log)?, "/metrics").await?),
        ("log", log),
    ])
}

/// Waits for the Event about the release, so that Events were told when it is looked.
async fn told(space: &Space, request: &str) -> Result<()> {
    space.wait_for_event(request, "Released").await.map(drop)
}

#[tokio::test]
async fn no_content_of_a_secret_and_no_more_of_people_than_their_names_is_kept() -> Result<()> {
    let mut lab = lab().await?;
    start_reading(&mut lab).await?;
    let space = Space::gated(lab.cluster, NAMESPACE).await?;
    let mut rules = by_sre();
    rules[0].as_object_mut().map(|rule| rule.remove("when"));
    space.policy(rules).await?;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db", "namespace": NAMESPACE},
        "stringData": {"password": CANARY, "certificate": format!("-----BEGIN {CANARY} END-----")}});
    space.admin.kubectl(["apply", "-f", "-"]).stdin(secret.to_string()).ok().await?;
    let bind = ["create", "rolebinding", "carol", "--role=gated", "--user=carol", "-n", NAMESPACE];
    space.admin.kubectl(bind).ok().await?;
    let person = async |name, group| anyhow::Ok(Person { admin: client(&lab.cluster.admin()).await?, name, group });
    let (alice, carol, mallory) =
        (person("alice", "sre").await?, person("carol", "ops").await?, person("mallory", "developers").await?);

    let jobs = format!("/apis/batch/v1/namespaces/{NAMESPACE}/jobs");
    let began = Instant::now();
    // A new role binding takes effect some time later.
    while let Err(error) = carol.send("POST", &jobs, "application/json", &reading()).await {
        ensure!(began.elapsed() < Duration::from_secs(20), "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let asked = space.request_for("reads").await?;
    let name = asked["metadata"]["name"].as_str().context("name")?;
    let digest = space.digest(name).await?;
    let bound = space.get("approvalrequests", name).await?;
    assert_eq!(bound["status"]["inputs"][0]["name"], "db", "the Secret is read and bound: {bound:#}");
    let review = json!({"decision": "Approve", "digest": digest, "comment": HOSTILE});
    assert!(mallory.review(name, review.clone()).await.is_err(), "she is no approver");
    alice.review(name, review).await?;
    space.state(name, "Released").await?;
    told(&space, name).await?;
    let wanted = |entries: &[Value]| {
        let refused = |e: &Value| e["transition"] == "Refused" && e["by"][0]["username"] == "mallory";
        let here = |e: &&Value| e["request"]["namespace"] == NAMESPACE;
        transitions(entries, NAMESPACE, name).contains(&"Released") && entries.iter().filter(here).any(refused)
    };
    let export = lab.export_until("secrecy", wanted).await?;

    let seen = std::fs::read_to_string(lab.cluster.audit_log().path())?;
    ensure!(seen.contains(EXTRA), "the API server was told more of people, or nothing is shown here");
    let released = space.get("jobs", "reads").await?;
    assert_eq!(released["metadata"]["annotations"]["countersign.dev/created-by"], "carol");
    let encoded = STANDARD.encode(CANARY);
    for (what, text) in written(&lab, &space, &export.trail, &released).await? {
        ensure!(!text.is_empty(), "{what} is empty: nothing was looked at");
        // Base64 of a longer text holds it shifted by one or two; the middle of each is what does not change.
        let shifted = (1..3).map(|by| STANDARD.encode(format!("{}{CANARY}", "x".repeat(by)))[4..24].to_string());
        for needle in [CANARY.to_string(), encoded[..24].to_string(), EXTRA.into()].into_iter().chain(shifted) {
            assert!(!text.contains(&needle), "{what} holds {needle}");
        }
    }
    let records = export.records()?;
    let mut found = vec![];
    records.iter().for_each(|record| people(record, &mut found));
    assert!(found.iter().any(|who| who["uid"] == "uid-of-alice") && found.iter().any(|who| who["username"] == "carol"));
    for who in found {
        let fields = who.as_object().context("a person")?;
        assert!(fields.keys().all(|key| ["username", "uid", "groups"].contains(&key.as_str())), "{who}");
    }
    for about in [name, "job/reads"] {
        let shown = lab.audit(&["show", about, "-n", NAMESPACE]).await?.stdout;
        assert!(shown.contains("txet") && shown.contains("\\u{1b}[2J"), "both texts are told, spelled out: {shown}");
        let obeyed = |c: &char| {
            (c.is_control() && *c != '\n')
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        };
        assert_eq!(shown.chars().find(obeyed), None, "{shown:?}");
    }
    lab.cluster.admin().kubectl(["delete", "clusterrolebinding", "secrecy-reads"]).ok().await?;
    // Whoever comes next starts an operator that reads no Secret.
    lab.kill();
    Ok(())
}
