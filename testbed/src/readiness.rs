//! What a start waits for.

use std::net::Ipv4Addr;

use serde_json::Value;
use tokio::net::TcpStream;

use crate::{Identity, RealNode};

/// A step of a start that shows from outside.
#[derive(Clone, Copy)]
pub(crate) enum Goal<'a> {
    EtcdListens(u16),
    ApiServerReady(&'a Identity, u16),
    DefaultServiceAccount(&'a Identity),
    NodeTakesPods(&'a Identity, &'a str),
    ContainersRun(&'a RealNode),
}

impl Goal<'_> {
    pub(crate) fn description(&self) -> &'static str {
        match self {
            Self::EtcdListens(_) => "etcd to listen",
            Self::ApiServerReady(..) => "the API server to be ready",
            Self::DefaultServiceAccount(_) => "the default service account",
            Self::NodeTakesPods(..) => "the node to take Pods",
            Self::ContainersRun(_) => "containerd to answer",
        }
    }

    pub(crate) async fn is_reached(&self) -> bool {
        match self {
            Self::EtcdListens(port) => listens(*port).await,
            // Connecting costs far less than a kubectl that finds nobody there.
            Self::ApiServerReady(admin, port) => listens(*port).await && get(admin, "/readyz").await.is_some(),
            Self::DefaultServiceAccount(admin) => {
                let path = "/api/v1/namespaces/default/serviceaccounts/default";
                get(admin, path).await.is_some()
            }
            Self::NodeTakesPods(admin, name) => get(admin, &format!("/api/v1/nodes/{name}"))
                .await
                .and_then(|text| serde_json::from_str(&text).ok())
                .is_some_and(|node| takes_pods(&node)),
            Self::ContainersRun(node) => node.ctr(["version"]).await.is_ok_and(|output| output.status.success()),
        }
    }
}

async fn listens(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok()
}

async fn get(admin: &Identity, path: &str) -> Option<String> {
    admin.kubectl(["get", "--raw", path]).ok().await.ok()
}

/// A node is tainted until the controller manager has seen that it is ready.
fn takes_pods(node: &Value) -> bool {
    let ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
    let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
    conditions.is_some_and(|all| all.iter().any(ready)) && node.pointer("/spec/taints").is_none()
}
