//! The health checks for Argo CD, in a Lua of the version that Argo CD has, with the library that it opens: `table`.

use super::{example, lab, rendered};
use crate::support::{Space, by_sre, policy};
use anyhow::{Context, Result, ensure};
use countersign::api::status::State;
use countersign::api::{ApprovalRequestStatus, names};
use mlua::{Lua, LuaOptions, StdLib, Table};
use serde_json::{Value, json};

/// What Argo CD knows a health check to say.
const STATES: [&str; 6] = ["Healthy", "Progressing", "Degraded", "Suspended", "Missing", "Unknown"];

/// Health and message of an object, by the check for its kind.
fn health(kind: &str, object: &Value) -> Result<(String, String)> {
    let script = std::fs::read_to_string(example("argocd/health").join(format!("{}.lua", kind.to_lowercase())))?;
    judged(&script, object)
}

/// The same of a policy.
pub fn of_policy(object: &Value) -> Result<(String, String)> {
    health("ApprovalPolicy", object)
}

fn of_request(object: &Value) -> Result<(String, String)> {
    health("ApprovalRequest", object)
}

fn judged(script: &str, object: &Value) -> Result<(String, String)> {
    let lua = Lua::new_with(StdLib::TABLE, LuaOptions::default())?;
    lua.globals().set("obj", to_lua(&lua, object)?)?;
    let said: Table = lua.load(script).eval()?;
    let (status, message): (String, String) = (said.get("status")?, said.get("message")?);
    ensure!(STATES.contains(&status.as_str()), "{status:?} is no health");
    ensure!(!message.is_empty(), "{status} without a message");
    Ok((status, message))
}

fn to_lua(lua: &Lua, value: &Value) -> Result<mlua::Value> {
    Ok(match value {
        Value::Null => mlua::Value::Nil,
        Value::Bool(truth) => mlua::Value::Boolean(*truth),
        Value::Number(number) => mlua::Value::Number(number.as_f64().context("a number")?),
        Value::String(text) => mlua::Value::String(lua.create_string(text)?),
        Value::Array(list) => {
            let items = list.iter().map(|item| to_lua(lua, item)).collect::<Result<Vec<_>>>()?;
            mlua::Value::Table(lua.create_sequence_from(items)?)
        }
        Value::Object(fields) => {
            let table = lua.create_table()?;
            for (name, field) in fields {
                table.set(name.as_str(), to_lua(lua, field)?)?;
            }
            mlua::Value::Table(table)
        }
    })
}

async fn request(space: &Space, name: &str) -> Result<(String, String)> {
    of_request(&space.get("approvalrequests", name).await?)
}

#[tokio::test]
async fn argo_cd_sees_a_request_suspended_while_it_waits_healthy_once_released_and_degraded_at_any_other_end()
-> Result<()> {
    let lab = lab().await?;
    let space = Space::new(lab.cluster, "health").await?;
    space.policy(by_sre()).await?;
    let alice = lab.cluster.user("alice", &["sre"])?;

    let digest = space.bound("released").await?;
    let (status, message) = request(&space, "released").await?;
    assert_eq!(status, "Suspended");
    assert!(message.starts_with("Pending: ") && message.contains("kubectl patch apr released"), "{message}");
    space.review(&alice, "released", "Approve", &digest).ok().await?;
    space.state("released", "Released").await?;
    assert_eq!(request(&space, "released").await?, ("Healthy".into(), "Released: approved by alice".into()));

    let digest = space.bound("denied").await?;
    space.review(&alice, "denied", "Deny", &digest).ok().await?;
    space.state("denied", "Denied").await?;
    let (status, message) = request(&space, "denied").await?;
    assert_eq!(status, "Degraded");
    assert_eq!(message, "Denied: denied by alice. It is final for its Job: ask anew with another");

    space.bound("cancelled").await?;
    space.patch(&space.triage, "cancelled", json!({"spec": {"cancel": true}})).ok().await?;
    space.state("cancelled", "Cancelled").await?;
    let (status, message) = request(&space, "cancelled").await?;
    assert_eq!(status, "Degraded");
    assert!(message.starts_with("Cancelled: ") && message.ends_with(". Ask anew with another request"), "{message}");

    let mut rules = by_sre();
    rules[0]["notBeforeSeconds"] = json!(3600);
    space.policy(rules.clone()).await?;
    let digest = space.bound("approved").await?;
    space.review(&alice, "approved", "Approve", &digest).ok().await?;
    space.state("approved", "Approved").await?;
    let (status, message) = request(&space, "approved").await?;
    assert_eq!(status, "Suspended");
    assert!(message.starts_with("Approved: "), "{message}");

    rules[0]["pendingTimeoutSeconds"] = json!(1);
    space.policy(rules).await?;
    space.request("expired", None).await?;
    space.state("expired", "Expired").await?;
    let (status, message) = request(&space, "expired").await?;
    assert_eq!(status, "Degraded");
    assert!(message.starts_with("Expired: ") && message.ends_with(". Ask anew with another request"), "{message}");
    Ok(())
}

#[tokio::test]
async fn argo_cd_sees_what_nobody_looked_at_as_progressing() -> Result<()> {
    let mut lab = lab().await?;
    let space = Space::new(lab.cluster, "unseen").await?;
    space.policy(by_sre()).await?;
    let seen = lab.policy("unseen").await?;
    assert_eq!(of_policy(&seen)?, ("Healthy".into(), "in force".into()));
    lab.unserved().await?;
    let mut other = by_sre();
    other[0]["reason"] = json!("another");
    let edited = policy("unseen", "unseen", other);
    space.admin.kubectl(["apply", "-f", "-"]).stdin(edited.to_string()).ok().await?;
    let new = policy("new", "unseen", by_sre());
    space.admin.kubectl(["create", "-f", "-"]).stdin(new.to_string()).ok().await?;
    for name in ["unseen", "new"] {
        let (status, message) = of_policy(&lab.policy(name).await?)?;
        assert_eq!(status, "Progressing", "{name}");
        assert!(message.contains("see whether its operator runs"), "{message}");
    }
    let unseen = json!({"apiVersion": names::API_VERSION, "kind": "ApprovalRequest", "metadata": {"name": "x", "generation": 1}});
    assert_eq!(of_request(&unseen)?.0, "Progressing");
    Ok(())
}

#[test]
fn every_state_of_a_request_has_a_health_and_one_that_is_not_known_says_so() -> Result<()> {
    let states = [State::Pending, State::Approved, State::Released, State::Denied, State::Expired, State::Cancelled];
    for state in states {
        let status = ApprovalRequestStatus { state, message: "because".into(), ..ApprovalRequestStatus::default() };
        let (health, message) = of_request(&json!({"metadata": {"name": "x"}, "status": status}))?;
        let expected = match state {
            State::Pending | State::Approved => "Suspended",
            State::Released => "Healthy",
            State::Denied | State::Expired | State::Cancelled => "Degraded",
        };
        assert_eq!(health, expected);
        assert!(message.starts_with(&format!("{}: because", state.as_str())), "{message}");
        let silent = of_request(&json!({"metadata": {"name": "x"}, "status": {"state": state}}))?;
        assert_eq!(silent.0, expected);
    }
    let (health, message) = of_request(&json!({"metadata": {"name": "x"}, "status": {"state": "Paused"}}))?;
    assert_eq!(health, "Unknown");
    assert!(message.contains("Paused: this health check is older than Countersign"), "{message}");
    Ok(())
}

#[test]
fn a_policy_as_an_older_version_left_it_is_judged_by_ready_alone() -> Result<()> {
    let of = |status: &str, generation: i64| {
        of_policy(&json!({"metadata": {"name": "p", "generation": generation}, "status": {"observedGeneration": 2,
            "conditions": [{"type": "Ready", "status": status, "reason": "x", "message": "why"}]}}))
    };
    assert_eq!(of("True", 2)?, ("Healthy".into(), "why".into()));
    assert_eq!(of("False", 2)?, ("Degraded".into(), "why".into()));
    assert_eq!(of("Unknown", 2)?.0, "Progressing");
    assert_eq!(of("True", 3)?.0, "Progressing", "an older generation says nothing of this one");
    Ok(())
}

#[tokio::test]
async fn the_health_checks_get_into_argo_cds_own_config_map_and_leave_the_rest_of_it_alone() -> Result<()> {
    let lab = lab().await?;
    let admin = lab.cluster.admin();
    let installed = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "argocd"}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "argocd-cm", "namespace": "argocd",
            "labels": {"app.kubernetes.io/part-of": "argocd"}}, "data": {"url": "https://argocd.example.com"}},
    ]});
    admin.kubectl(["apply", "-f", "-"]).stdin(installed.to_string()).ok().await?;
    let checks = rendered(&admin, &example("argocd/health")).await?;
    let apply = ["apply", "--server-side", "--field-manager=countersign-health", "-f", "-"];
    admin.kubectl(apply).stdin(checks).ok().await?;
    // Whoever installs Argo CD anew keeps them.
    admin.kubectl(["apply", "-f", "-"]).stdin(installed.to_string()).ok().await?;
    let stored = admin.kubectl(["get", "configmap", "argocd-cm", "-n", "argocd"]).json().await?;
    assert_eq!(stored["metadata"]["labels"]["app.kubernetes.io/part-of"], "argocd");
    let data = stored["data"].as_object().context("data")?;
    assert_eq!((data.len(), &data["url"]), (3, &json!("https://argocd.example.com")));
    for kind in ["ApprovalPolicy", "ApprovalRequest"] {
        let key = format!("resource.customizations.health.{}_{kind}", names::GROUP);
        let script = data.get(&key).and_then(Value::as_str).with_context(|| key)?;
        let (status, _) = judged(script, &json!({"kind": kind, "metadata": {"name": "x", "generation": 1}}))?;
        assert_eq!(status, "Progressing");
    }
    Ok(())
}
