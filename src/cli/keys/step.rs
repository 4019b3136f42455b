//! The steps, each one write that somebody else's write in between refuses.

use crate::api::names;
use crate::audit::Misfit;
use crate::binding::{KeySet, OutOfOrder, Role, key_name};
use crate::cli::client::{Cluster, explained};
use crate::cli::keys::state::{self, Resting, Stored, Trail};
use crate::controller::secret;
use anyhow::Context;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, PostParams, Preconditions};

/// The most requests that a message names.
const MOST_NAMED: usize = 5;

/// Why a step is not taken now.
#[derive(Debug, thiserror::Error)]
pub enum NotNow {
    /// Another comes first.
    #[error(transparent)]
    OutOfOrder(#[from] OutOfOrder),
    /// The trail is not ours.
    #[error("no operator goes on with this audit trail: {0}; see docs/audit.md")]
    Misfit(#[from] Misfit),
    /// The trail does not tell what it should.
    #[error("the audit trail is not whole, so that it cannot tell which keys it knows: {0}; see docs/audit.md")]
    Trail(String),
    /// Reviews rest on the key.
    #[error(
        "{count} open request(s) have reviews that key {key} sealed: {named}; wait until they have ended, or go on with --void-reviews \
         and have those reviews given again"
    )]
    Rests {
        /// How many.
        count: usize,
        /// The key.
        key: String,
        /// Which.
        named: String,
    },
}

/// Adds a key made from `fresh`.
pub async fn add(cluster: &Cluster, namespace: &str, fresh: [u8; 32]) -> anyhow::Result<String> {
    let stored = tidied(cluster, namespace).await?;
    let keys = stored.keys.add(fresh).map_err(NotNow::from)?;
    write(cluster, namespace, stored, &keys).await?;
    Ok(format!(
        "key {} was added; it signs nothing yet\nnext: restart every operator; take the public keys to where workers and auditors \
         keep them; then countersign keys promote\n",
        name(&keys, Role::Next)
    ))
}

/// Lets the added key sign.
pub async fn promote(cluster: &Cluster, namespace: &str) -> anyhow::Result<String> {
    let stored = tidied(cluster, namespace).await?;
    // What is out of order whatever the trail says needs none.
    stored.keys.promote(|_| true).map_err(NotNow::from)?;
    let trail = state::trail(cluster, namespace, &stored.keys).await?;
    let keys = promoted(&stored.keys, &trail)?;
    write(cluster, namespace, stored, &keys).await?;
    Ok(format!(
        "key {} signs from the next start of an operator on; key {} is accepted still\nnext: restart every operator; once the requests \
         that were reviewed before have ended: countersign keys retire\n",
        name(&keys, Role::Signs),
        name(&keys, Role::Previous)
    ))
}

fn promoted(keys: &KeySet, trail: &Trail) -> Result<KeySet, NotNow> {
    if let Some(fault) = &trail.fault {
        return Err(NotNow::Trail(fault.clone()));
    }
    trail.signers.fit(&keys.keyring())?;
    Ok(keys.promote(|name| trail.signers.may_sign(name))?)
}

/// Accepts the key that signed before no longer.
pub async fn retire(cluster: &Cluster, namespace: &str, void_reviews: bool) -> anyhow::Result<String> {
    let stored = tidied(cluster, namespace).await?;
    let resting = if void_reviews { Resting::new() } else { state::resting(cluster).await? };
    let keys = retired(&stored.keys, &resting)?;
    let before = stored.keys.previous().unwrap_or_default();
    write(cluster, namespace, stored, &keys).await?;
    Ok(format!(
        "key {before} is accepted no longer from the next start of an operator on; key {} signs\nnext: restart every operator; the \
         first one says so in the audit trail, and records by key {before} are refused from there on\n",
        name(&keys, Role::Signs)
    ))
}

fn retired(keys: &KeySet, resting: &Resting) -> Result<KeySet, NotNow> {
    let without = keys.retire()?;
    let key = keys.previous().unwrap_or_default();
    let Some(requests) = resting.get(&key) else { return Ok(without) };
    let mut named = requests.iter().take(MOST_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if requests.len() > MOST_NAMED {
        named += " and others";
    }
    Err(NotNow::Rests { count: requests.len(), key, named })
}

fn name(keys: &KeySet, wanted: Role) -> String {
    let key = keys.roles().into_iter().find(|(_, role)| *role == wanted);
    key.map(|(key, _)| key_name(&key)).unwrap_or_default()
}

/// The keys as they are stored. Where an earlier step was cut short between its two writes, the second is made.
async fn tidied(cluster: &Cluster, namespace: &str) -> anyhow::Result<Stored> {
    let mut stored = state::stored(cluster, namespace).await?;
    if stored.rotated.is_some()
        && let Some(first) = stored.first.take()
    {
        delete(cluster, &state::secrets(cluster, namespace), &first).await?;
    }
    Ok(stored)
}

/// Writes the keys. The immutable Secret of the operator goes only once the one that takes its place is there.
async fn write(cluster: &Cluster, namespace: &str, stored: Stored, keys: &KeySet) -> anyhow::Result<()> {
    let (secrets, name) = (state::secrets(cluster, namespace), names::SIGNING_KEYS_SECRET);
    let fresh = secret(namespace, name, keys, false);
    let written = match stored.rotated {
        None => secrets.create(&PostParams::default(), &fresh).await,
        Some(before) => {
            let mut changed = before;
            changed.data = fresh.data;
            secrets.replace(name, &PostParams::default(), &changed).await
        }
    };
    written.map_err(|e| refused(e, cluster)).with_context(|| format!("Secret {namespace}/{name}"))?;
    match stored.first {
        Some(first) => delete(cluster, &secrets, &first).await,
        None => Ok(()),
    }
}

/// Deletes that very Secret, as it was read.
async fn delete(cluster: &Cluster, secrets: &Api<Secret>, secret: &Secret) -> anyhow::Result<()> {
    let metadata = &secret.metadata;
    let preconditions =
        Preconditions { uid: metadata.uid.clone(), resource_version: metadata.resource_version.clone() };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    let name = metadata.name.as_deref().unwrap_or_default();
    match secrets.delete(name, &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(refused(error, cluster)).with_context(|| format!("deleting Secret {name}")),
    }
}

fn refused(error: kube::Error, cluster: &Cluster) -> anyhow::Error {
    match &error {
        kube::Error::Api(status) if status.code == 409 => {
            anyhow::anyhow!("somebody else changed the keys meanwhile; look at them with countersign keys show")
        }
        _ => explained(error, cluster.server()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Signers;

    fn keys() -> KeySet {
        KeySet::new([1; 32]).add([2; 32]).unwrap()
    }

    #[test]
    fn nothing_is_promoted_that_a_whole_trail_does_not_know() {
        let trail = |fault: Option<&str>| Trail { signers: Signers::default(), fault: fault.map(String::from) };
        let said = promoted(&keys(), &trail(Some("edited: x"))).unwrap_err().to_string();
        assert!(said.contains("is not whole") && said.contains("edited: x"), "{said}");
        let said = promoted(&keys(), &trail(None)).unwrap_err().to_string();
        assert!(said.starts_with("no operator has introduced key"), "{said}");
    }

    #[test]
    fn nothing_is_retired_that_open_reviews_rest_on() {
        let keys = keys().promote(|_| true).unwrap();
        let previous = keys.previous().unwrap();
        assert!(retired(&keys, &Resting::new()).is_ok());
        assert!(
            retired(&keys, &Resting::from([(name(&keys, Role::Signs), vec!["a/b".into()])])).is_ok(),
            "the other key"
        );
        let requests = (0..7).map(|n| format!("payments/run-{n}")).collect();
        let said = retired(&keys, &Resting::from([(previous.clone(), requests)])).unwrap_err().to_string();
        assert!(
            said.starts_with(&format!("7 open request(s) have reviews that key {previous} sealed: payments/run-0, ")),
            "{said}"
        );
        assert!(said.contains("payments/run-4 and others; ") && said.contains("--void-reviews"), "{said}");
    }
}
