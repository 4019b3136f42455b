//! What is read: exports, public keys and checkpoints from files, records from a cluster.

use crate::api::names;
use crate::audit::Checkpoint;
use crate::binding::key_name;
use crate::cli::client::{Cluster, Found, Served};
use anyhow::{Context, bail, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

/// Records.
pub const RECORDS: Served = Served::new(names::GROUP, names::VERSION, "ApprovalRecord", "approvalrecords");
/// ConfigMaps.
const CONFIG_MAPS: Served = Served::new("", "v1", "ConfigMap", "configmaps");
/// Who says what is exported, in the words of server-side apply.
const MANAGER: &str = "countersign-export";

/// Reads a file, or standard input for `-`.
pub fn text(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text).context("standard input")?;
        return Ok(text);
    }
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// The records of an export: one a line, blank lines aside. A line that is no JSON becomes null, so that verifying names it.
pub fn records(export: &str) -> Vec<Value> {
    let lines = export.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| serde_json::from_str(line).unwrap_or(Value::Null)).collect()
}

/// The records of several exports as one trail: what a later one has of an earlier one, it has only once. Records that have
/// a number in common and are not the same both stay, for verifying to name.
pub fn joined(exports: impl IntoIterator<Item = Vec<Value>>) -> Vec<Value> {
    let mut joined = vec![];
    let mut known: HashMap<Option<i64>, Value> = HashMap::new();
    for export in exports {
        let new: Vec<_> =
            export.into_iter().filter(|record| known.get(&record["sequence"].as_i64()) != Some(record)).collect();
        known.extend(new.iter().map(|record| (record["sequence"].as_i64(), record.clone())));
        joined.extend(new);
    }
    joined
}

/// The public keys of a file: a key a line, in base64, after its name and a space where it has one.
pub fn keys(text: &str) -> anyhow::Result<Vec<[u8; 32]>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let keys = lines.map(key).collect::<anyhow::Result<Vec<_>>>()?;
    ensure!(!keys.is_empty(), "no public key is in it");
    Ok(keys)
}

/// One public key, after its name and a space where it has one.
pub fn key(line: &str) -> anyhow::Result<[u8; 32]> {
    let (name, encoded) = line.rsplit_once(' ').map_or((None, line), |(name, key)| (Some(name.trim()), key));
    let bytes = STANDARD.decode(encoded).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    let key = bytes.with_context(|| format!("{encoded:?} is not a public key: 32 bytes in base64"))?;
    match name {
        Some(name) if name != key_name(&key) => bail!("the key called {name} is {}", key_name(&key)),
        _ => Ok(key),
    }
}

/// The lines of a file of keys, for the entries of the ConfigMap that publishes them.
pub fn key_lines(data: &Value) -> String {
    let keys = data.as_object().into_iter().flatten();
    keys.filter_map(|(name, key)| Some(format!("{name} {}\n", key.as_str()?))).collect()
}

/// The checkpoints of files, each checked against the keys.
pub fn checkpoints(paths: &[std::path::PathBuf], keys: &[[u8; 32]]) -> anyhow::Result<Vec<Checkpoint>> {
    let one = |path: &std::path::PathBuf| {
        let note = text(path)?;
        Checkpoint::open(&note, keys).with_context(|| path.display().to_string())
    };
    paths.iter().map(one).collect()
}

/// Every record of a cluster, in order.
pub async fn stored(cluster: &Cluster, namespace: &str) -> anyhow::Result<Vec<Value>> {
    let mut specs = vec![];
    let found = cluster
        .list(RECORDS, Some(namespace), None, |mut object| {
            specs.push(object.data.get_mut("spec").map(Value::take).unwrap_or_default());
        })
        .await?;
    match found {
        Found::There(()) => Ok(specs),
        Found::Absent => Ok(vec![]),
        Found::Refused(what) => bail!("{what}; the role countersign-auditor in namespace {namespace} lets you"),
    }
}

/// Tells the operator that everything up to this record, by its `spec`, is kept elsewhere.
pub async fn acknowledge(cluster: &Cluster, namespace: &str, spec: &Value, hash: &str) -> anyhow::Result<()> {
    let data = json!({"sequence": spec["sequence"].to_string(), "last": spec["last"].to_string(), "hash": hash});
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": names::EXPORTED, "namespace": namespace}, "data": data,
    });
    let object = serde_json::from_value(object).context("a ConfigMap")?;
    match cluster.apply(CONFIG_MAPS, namespace, MANAGER, &object).await? {
        Found::There(()) => Ok(()),
        Found::Absent => bail!("there is no namespace {namespace}"),
        Found::Refused(what) => bail!("{what}; the role countersign-archivist in namespace {namespace} lets you"),
    }
}

/// One entry of a ConfigMap in the operator's namespace.
pub async fn published(cluster: &Cluster, namespace: &str, name: &str) -> anyhow::Result<Value> {
    match cluster.get(CONFIG_MAPS, Some(namespace), name).await? {
        Found::There(object) => Ok(object.data.get("data").cloned().unwrap_or_default()),
        Found::Absent => bail!("there is no ConfigMap {name} in namespace {namespace}; has the operator run?"),
        Found::Refused(what) => bail!("{what}; the role countersign-auditor in namespace {namespace} lets you"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_with_and_without_their_names() {
        let key = [7; 32];
        let encoded = STANDARD.encode(key);
        let named = format!("# of the operator\n{} {encoded}\n\n{encoded}\n", key_name(&key));
        assert_eq!(keys(&named).unwrap(), [key, key]);
        for (bad, error) in [
            ("", "no public key is in it"),
            ("# nothing\n", "no public key is in it"),
            ("AAAA", "\"AAAA\" is not a public key: 32 bytes in base64"),
            (&format!("0123456789abcdef {encoded}"), "the key called 0123456789abcdef is"),
        ] {
            assert!(keys(bad).unwrap_err().to_string().contains(error), "{bad}");
        }
    }

    #[test]
    fn exports_of_one_trail_are_joined() {
        let record = |n: i64, what: &str| json!({"sequence": n, "what": what});
        let (one, two, three) = (record(1, "a"), record(2, "b"), record(3, "c"));
        let other = record(2, "x");
        let all = vec![one.clone(), two.clone(), three.clone()];
        assert_eq!(joined([vec![one.clone(), two.clone()], vec![two.clone(), three.clone()]]), all);
        assert_eq!(joined([all.clone(), vec![two.clone()]]), all);
        assert_eq!(joined([vec![one.clone(), two.clone()], vec![other.clone()]]), [one, two.clone(), other]);
        assert_eq!(joined([vec![two.clone(), two.clone()]]).len(), 2, "what stands twice in one export stays");
    }

    #[test]
    fn a_line_that_is_no_record_is_kept_for_its_place() {
        assert_eq!(records("{\"a\":1}\n\n  \nnonsense\n").len(), 2);
        assert_eq!(records("{\"a\":1}\nnonsense")[1], Value::Null);
    }
}
