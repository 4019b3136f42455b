//! The Job of `--job`: how it is created, and whether one that is there already is that one. Pure.

use crate::api::{Quantity, names};
use crate::binding;
use crate::cli::bounds::object_name;
use crate::cli::request::same::{Difference, empty};
use crate::cli::yaml;
use anyhow::{Context, bail, ensure};
use serde_json::{Map, Value, json};

/// Annotation: the hash of what the call wrote. Its prefix is not the gate's own, since a Job's creator may write few names
/// of that.
pub const MANIFEST: &str = "request.countersign.dev/manifest";

/// A Job to create.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// Its name.
    pub name: String,
    /// The whole of it.
    pub object: Value,
    /// Whether the file would have started it at once.
    pub was_unheld: bool,
}

/// The Job of a file, suspended, and tied to the request of that name.
pub fn plan(text: &[u8], request: &str, namespace: Option<&str>) -> anyhow::Result<Planned> {
    yaml::check(text)?;
    // YAML holds JSON as well. Its value refuses a key that stands there twice.
    let value: serde_yaml::Value = serde_yaml::from_slice(text).context("it is neither YAML nor JSON of one object")?;
    let mut object = serde_json::to_value(value).context("it holds what JSON cannot")?;
    ensure!(object["apiVersion"] == "batch/v1" && object["kind"] == "Job", "it must be a Job of apiVersion batch/v1");
    let name = object["metadata"]["name"]
        .as_str()
        .context("metadata.name: is missing; a restarted call finds the Job by it")?;
    object_name(name).map_err(|why| anyhow::anyhow!("metadata.name: {why}"))?;
    let name = name.to_string();
    if let (Some(there), Some(here)) = (object["metadata"]["namespace"].as_str(), namespace) {
        ensure!(there == here, "metadata.namespace: is {there}, and the request is in {here}");
    }
    ensure!(object["spec"].is_object(), "spec: is missing");
    let was_unheld = object["spec"]["suspend"] != json!(true);
    object["spec"]["suspend"] = json!(true);
    let annotations = annotations(&mut object)?;
    match annotations.get(names::REQUEST) {
        Some(other) if other != request => {
            bail!("metadata.annotations: {} names {other}, and this call asks as {request}", names::REQUEST)
        }
        _ => annotations.insert(names::REQUEST.into(), request.into()),
    };
    annotations.remove(MANIFEST);
    let hash = binding::sha256(&object).context("it cannot be hashed")?;
    object["metadata"]["annotations"][MANIFEST] = hash.into();
    Ok(Planned { name, object, was_unheld })
}

fn annotations(object: &mut Value) -> anyhow::Result<&mut Map<String, Value>> {
    let annotations = &mut object["metadata"]["annotations"];
    if annotations.is_null() {
        *annotations = json!({});
    }
    annotations.as_object_mut().context("metadata.annotations: must be a set of texts")
}

/// The first thing that makes a stored Job another than the planned one. The hash tells which file it came of. Whoever wrote
/// it could have written any hash, so while the Job is held every field that the file gives must stand there too. The
/// release changes some of them.
pub fn first_difference(planned: &Planned, stored: &Value) -> Option<Difference> {
    let annotation = |key: &str| {
        let (asked, found) = (&planned.object["metadata"]["annotations"][key], &stored["metadata"]["annotations"][key]);
        (asked != found).then(|| Difference {
            field: format!("metadata.annotations[{key}]"),
            asked: asked.clone(),
            stored: found.clone(),
        })
    };
    let released = stored["metadata"]["annotations"][names::RELEASED].is_string();
    annotation(names::REQUEST)
        .or_else(|| annotation(MANIFEST))
        .or_else(|| if released { None } else { missing("spec", &planned.object["spec"], &stored["spec"]) })
}

/// The first field that is not as written. What the API server fills in is none.
fn missing(path: &str, asked: &Value, stored: &Value) -> Option<Difference> {
    match (asked, stored) {
        (Value::Object(a), Value::Object(b)) => a
            .iter()
            .find_map(|(key, value)| missing(&format!("{path}.{key}"), value, b.get(key).unwrap_or(&Value::Null))),
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().find_map(|(at, (a, b))| missing(&format!("{path}[{at}]"), a, b))
        }
        (a, _) if empty(a) => None,
        (a, b) if a == b || is_quantity(path) && same_quantity(a, b) => None,
        (a, b) => Some(Difference { field: path.into(), asked: a.clone(), stored: b.clone() }),
    }
}

/// Elsewhere, such as among arguments, `1k` and `1000` are two things.
fn is_quantity(path: &str) -> bool {
    path.contains(".resources.") || path.ends_with(".sizeLimit")
}

/// The API server writes quantities in its own way: `1000m` as `1`.
fn same_quantity(a: &Value, b: &Value) -> bool {
    let quantity = |value: &Value| match value {
        Value::String(text) => text.parse::<Quantity>().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    };
    quantity(a).zip(quantity(b)).is_some_and(|(a, b)| !a.exceeds(&b) && !b.exceeds(&a))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: fix}\nspec:\n  template:\n    spec:\n      restartPolicy: Never\n      containers:\n      - {name: main, image: a, args: [1k], resources: {limits: {cpu: 1000m, memory: 1024Mi}}, env: []}\n";

    fn planned() -> Planned {
        plan(FILE.as_bytes(), "run", Some("payments")).unwrap()
    }

    /// As the API server stores it.
    fn stored() -> Value {
        let mut job = planned().object;
        job["spec"]["completions"] = json!(1);
        let main = &mut job["spec"]["template"]["spec"]["containers"][0];
        main["resources"]["limits"] = json!({"cpu": "1", "memory": "1Gi"});
        main["imagePullPolicy"] = json!("Always");
        main.as_object_mut().unwrap().remove("env");
        job
    }

    #[test]
    fn a_job_is_held_and_names_its_request() {
        let planned = planned();
        assert!(planned.was_unheld && planned.name == "fix");
        assert_eq!(planned.object["spec"]["suspend"], true);
        assert_eq!(planned.object["metadata"]["annotations"][names::REQUEST], "run");
        let held = FILE.replace("spec:\n  template", "spec:\n  suspend: true\n  template");
        assert!(!plan(held.as_bytes(), "run", None).unwrap().was_unheld);
    }

    #[test]
    fn what_cannot_be_created_is_refused_by_name() {
        for (from, to, expected) in [
            ("kind: Job", "kind: Pod", "must be a Job"),
            ("{name: fix}", "{generateName: fix-}", "metadata.name: is missing"),
            ("{name: fix}", "{name: Fix}", "metadata.name: a name is"),
            ("{name: fix}", "{name: fix, namespace: other}", "is other, and the request is in payments"),
            (
                "{name: fix}",
                "{name: fix, annotations: {countersign.dev/request: other}}",
                "names \"other\", and this call asks as run",
            ),
            ("spec:\n  template", "nothing:\n  template", "spec: is missing"),
        ] {
            let error = plan(FILE.replace(from, to).as_bytes(), "run", Some("payments")).unwrap_err();
            assert!(format!("{error:#}").contains(expected), "{to}: {error:#}");
        }
        assert!(plan(b"{", "run", None).is_err());
        assert!(plan(format!("{FILE}---\n{FILE}").as_bytes(), "run", None).is_err());
    }

    #[test]
    fn what_the_api_server_and_the_release_write_is_no_difference() {
        assert_eq!(first_difference(&planned(), &stored()), None);
        let mut released = stored();
        released["metadata"]["annotations"][names::RELEASED] = json!("sha256:1");
        released["spec"]["suspend"] = json!(false);
        released["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"] = json!("500m");
        assert_eq!(first_difference(&planned(), &released), None);
    }

    #[test]
    fn another_job_is_told_also_under_the_right_hash() {
        let at = |pointer: &str, value: Value| {
            let mut job = stored();
            *job.pointer_mut(pointer).unwrap() = value;
            first_difference(&planned(), &job).map(|difference| difference.field).unwrap_or_default()
        };
        let annotations = "/metadata/annotations";
        assert_eq!(at(annotations, json!({})), "metadata.annotations[countersign.dev/request]");
        assert_eq!(
            at(&format!("{annotations}/request.countersign.dev~1manifest"), json!("sha256:0")),
            "metadata.annotations[request.countersign.dev/manifest]"
        );
        let container = "/spec/template/spec/containers/0";
        assert_eq!(at(&format!("{container}/image"), json!("b")), "spec.template.spec.containers[0].image");
        assert_eq!(at(&format!("{container}/args/0"), json!("1000")), "spec.template.spec.containers[0].args[0]");
        let sidecar = json!([{"name": "main", "image": "a"}, {"name": "more", "image": "b"}]);
        assert_eq!(at("/spec/template/spec/containers", sidecar), "spec.template.spec.containers");
        assert_eq!(at("/spec/suspend", json!(false)), "spec.suspend");
        let other = plan(FILE.replace("image: a", "image: b").as_bytes(), "run", None).unwrap();
        assert!(first_difference(&other, &stored()).is_some());
    }
}
