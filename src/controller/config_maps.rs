//! The ConfigMaps beside the audit trail: public keys, checkpoints, and what was exported and pruned.

use crate::api::names;
use crate::controller::error::{Error, call};
use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use std::collections::BTreeMap;

/// Who writes them, in the words of server-side apply.
const MANAGER: &str = "countersign-audit";

/// Writes a ConfigMap of the trail.
pub(super) async fn publish(
    config_maps: &Api<ConfigMap>,
    what: &'static str,
    name: &str,
    data: &BTreeMap<String, String>,
) -> Result<(), Error> {
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "countersign"}},
        "data": data,
    });
    let params = PatchParams::apply(MANAGER).force();
    call(what, config_maps.patch(name, &params, &Patch::Apply(&object))).await.map(drop)
}

/// What stands in a ConfigMap of the trail; nothing where it is not there.
pub(super) async fn read_config_map(
    config_maps: &Api<ConfigMap>,
    what: &'static str,
    name: &str,
) -> Result<BTreeMap<String, String>, Error> {
    let found = call(what, config_maps.get_opt(name)).await?;
    Ok(found.and_then(|object| object.data).unwrap_or_default())
}

/// The public keys that signed until now. They let an earlier part of the trail be read; only our own goes on with it.
pub(super) async fn published(config_maps: &Api<ConfigMap>) -> Result<Vec<[u8; 32]>, Error> {
    let data = read_config_map(config_maps, "read the public keys", names::PUBLIC_KEYS).await?;
    Ok(data.values().filter_map(|key| STANDARD.decode(key).ok()?.try_into().ok()).collect())
}

/// The number up to which records may be deleted, and no record is created any more; 0 where nothing was pruned.
pub(super) async fn pruned_through(config_maps: &Api<ConfigMap>) -> Result<i64, Error> {
    let data = read_config_map(config_maps, "read what was pruned", names::PRUNED).await?;
    Ok(data.get("through").and_then(|through| through.parse().ok()).unwrap_or(0))
}
