//! `--shell`: the stage is set, and whoever watches plays. docs/tutorial.md goes on from here.

use crate::shell::short;
use crate::stage::Stage;
use anyhow::{Context, Result};
use countersign_testbed::Identity;
use serde_json::{Value, json};
use std::fs;

/// The namespace of the story, so that commands need not name it.
const NAMESPACE: &str = "payments";

/// Opens a shell in which every person of the story is a context of kubectl, and waits until it ends.
pub async fn open(stage: &Stage) -> Result<()> {
    let people = [
        (&stage.admin, "cluster-admin"),
        (&stage.triage, "a workflow: a service account of the namespace payments"),
        (&stage.alice, "of the group sre"),
        (&stage.bob, "of the group sre"),
        (&stage.carol, "of the group security"),
        (&stage.mallory, "of the group developers"),
    ];
    let kubeconfig = stage.cluster.dir().join("kubeconfig");
    let identities = people.iter().map(|(who, _)| Ok((short(who), read(who)?))).collect::<Result<Vec<_>>>()?;
    fs::write(&kubeconfig, format!("{:#}\n", merged(&identities))).context("writing the kubeconfig")?;

    say!("\n2. Your turn\n\n{}", welcome(&people));
    let mut bash = stage.shell.program("bash", &kubeconfig);
    // Nothing that a system or a person sets for every shell hides our commands, and nothing gets into their history.
    bash.arg("--norc").env("PS1", "countersign$ ").env("HISTFILE", "");
    // However it ends, the reader wanted it to.
    bash.status().await.context("starting bash")?;
    say!("Stopping.");
    Ok(())
}

fn read(who: &Identity) -> Result<Value> {
    let text = fs::read_to_string(&who.kubeconfig).with_context(|| who.kubeconfig.display().to_string())?;
    serde_json::from_str(&text).with_context(|| who.kubeconfig.display().to_string())
}

/// One kubeconfig of several, each a context under its short name. The first is the current one.
fn merged(identities: &[(&str, Value)]) -> Value {
    let users = identities.iter().map(|(name, config)| json!({"name": name, "user": config["users"][0]["user"]}));
    let contexts = identities
        .iter()
        .map(|(name, _)| json!({"name": name, "context": {"cluster": "demo", "user": name, "namespace": NAMESPACE}}));
    let cluster = identities.first().map(|(_, config)| &config["clusters"][0]["cluster"]);
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "demo", "cluster": cluster}],
        "users": users.collect::<Vec<_>>(),
        "contexts": contexts.collect::<Vec<_>>(),
        "current-context": identities.first().map(|(name, _)| name),
    })
}

fn welcome(people: &[(&Identity, &str)]) -> String {
    let mut text =
        "   This shell has kubectl, kubectl approve, kubectl deny and countersign. Be one of these with\n   \
                    `kubectl config use-context NAME`:\n\n"
            .to_string();
    for (who, what) in people {
        text.push_str(&format!("     {:8} {what}\n", short(who)));
    }
    text.push_str("\n   `exit` ends the shell and everything in it.");
    text
}
