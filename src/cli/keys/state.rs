//! Where a rotation stands: the Secrets, what the audit trail knows of their keys, and what open requests rest on.

use crate::api::names;
use crate::audit::{Signers, Trusted, verify};
use crate::binding::{KeySet, named_key};
use crate::cli::audit::input;
use crate::cli::client::{Cluster, Found, Served, explained};
use crate::controller::keys_of;
use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DynamicObject};
use serde_json::Value;
use std::collections::BTreeMap;

/// Requests.
const REQUESTS: Served = Served::new(names::GROUP, names::VERSION, "ApprovalRequest", "approvalrequests");

/// The Secrets and what they hold.
pub struct Stored {
    /// The Secret that the operator made, while it is there.
    pub first: Option<Secret>,
    /// The one that took its place.
    pub rotated: Option<Secret>,
    /// The keys.
    pub keys: KeySet,
}

/// What the audit trail knows of keys.
pub struct Trail {
    /// Who may sign, where its whole part ends.
    pub signers: Signers,
    /// What is wrong with it.
    pub fault: Option<String>,
}

/// Open requests with reviews under a key, by its name.
pub type Resting = BTreeMap<String, Vec<String>>;

/// Where a rotation stands.
pub struct State {
    /// What they hold.
    pub keys: KeySet,
    /// What the trail knows.
    pub trail: Trail,
    /// What rests on each.
    pub resting: Resting,
}

/// Reads everything.
pub async fn read(cluster: &Cluster, namespace: &str) -> anyhow::Result<State> {
    let keys = stored(cluster, namespace).await?.keys;
    let trail = trail(cluster, namespace, &keys).await?;
    Ok(State { keys, trail, resting: resting(cluster).await? })
}

/// The Secrets of a namespace.
pub fn secrets(cluster: &Cluster, namespace: &str) -> Api<Secret> {
    Api::namespaced(cluster.client(), namespace)
}

/// Reads the Secrets, in the order in which none is missed.
pub async fn stored(cluster: &Cluster, namespace: &str) -> anyhow::Result<Stored> {
    let secrets = secrets(cluster, namespace);
    let get = async |name: &str| {
        let found = secrets.get_opt(name).await;
        found.map_err(|e| explained(e, cluster.server())).with_context(|| format!("Secret {namespace}/{name}"))
    };
    let first = get(names::SIGNING_KEY_SECRET).await?;
    let rotated = get(names::SIGNING_KEYS_SECRET).await?;
    if first.is_none() && rotated.is_none() {
        bail!(
            "there is no Secret {} in namespace {namespace}; the operator makes the first key when it starts",
            names::SIGNING_KEY_SECRET
        );
    }
    let keys = keys_of(namespace, first.as_ref(), rotated.as_ref())?;
    Ok(Stored { first, rotated, keys })
}

/// Reads the audit trail.
pub async fn trail(cluster: &Cluster, namespace: &str, keys: &KeySet) -> anyhow::Result<Trail> {
    let published = input::published(cluster, namespace, names::PUBLIC_KEYS).await?;
    // They let an earlier part be read, and decide nothing; what is no key is passed over.
    let lines = published.as_object().into_iter().flatten().filter_map(|(_, key)| input::key(key.as_str()?).ok());
    let trusted = lines.chain(keys.roles().into_iter().map(|(key, _)| key)).collect();
    let records = input::stored(cluster, namespace).await?;
    let report = verify(&records, &Trusted { keys: trusted, checkpoints: vec![] });
    Ok(Trail { signers: report.signers, fault: report.fault.map(|fault| fault.to_string()) })
}

/// Reads open requests, and under which keys their reviews are sealed.
pub async fn resting(cluster: &Cluster) -> anyhow::Result<Resting> {
    let mut resting = Resting::new();
    match cluster.list(REQUESTS, None, None, |request| rests(&request, &mut resting)).await? {
        Found::There(()) | Found::Absent => Ok(resting),
        Found::Refused(what) => bail!("{what}"),
    }
}

fn rests(request: &DynamicObject, resting: &mut Resting) {
    let read = |pointer: &str| request.data.pointer(pointer);
    let state = read("/status/state").and_then(|state| serde_json::from_value(state.clone()).ok());
    if state.is_some_and(|state: crate::api::State| state.is_final()) {
        return;
    }
    let named = |review: &Value| Some(named_key(review["seal"].as_str()?).to_string());
    let reviews = read("/spec/reviews").and_then(Value::as_array).into_iter().flatten();
    let mut keys: Vec<_> = reviews.filter_map(named).filter(|name| !name.is_empty()).collect();
    keys.sort_unstable();
    keys.dedup();
    let metadata = &request.metadata;
    let (namespace, name) =
        (metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default());
    for key in keys {
        resting.entry(key).or_default().push(format!("{namespace}/{name}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn open_requests_rest_on_the_keys_that_their_seals_name() {
        let mut resting = Resting::new();
        let request = |name: &str, state: Value, seals: &[&str]| -> DynamicObject {
            let reviews: Vec<_> = seals.iter().map(|seal| json!({"seal": seal})).collect();
            serde_json::from_value(json!({"metadata": {"namespace": "payments", "name": name},
                "spec": {"reviews": reviews}, "status": {"state": state}}))
            .unwrap()
        };
        for (name, state, seals) in [
            ("a", json!("Pending"), &["k1.x", "k1.y", "k2.z"][..]),
            ("b", json!("Approved"), &["k1.x"]),
            ("c", json!("Released"), &["k1.x"]),
            ("d", json!(null), &["dry-run", "", "k2.z"]),
            ("e", json!("Pending"), &[]),
        ] {
            rests(&request(name, state, seals), &mut resting);
        }
        let of = |key: &str| resting.get(key).cloned().unwrap_or_default();
        assert_eq!(of("k1"), ["payments/a", "payments/b"]);
        assert_eq!(of("k2"), ["payments/a", "payments/d"]);
        assert_eq!(resting.len(), 2);
    }
}
