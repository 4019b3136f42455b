//! `countersign manifests`: everything a cluster needs, as one YAML stream.

use crate::admission::registration::Hold;
use crate::api::{crd, names};
use anyhow::Context;
use serde::Deserialize;
use serde_json::Value;

/// The manifests as they stand under `deploy/`, written for [`names::DEFAULT_NAMESPACE`].
const NAMESPACE: &str = include_str!("../../deploy/namespace.yaml");
const RBAC: &str = include_str!("../../deploy/rbac.yaml");

/// The admission policies under `deploy/admission/`: what is refused, whoever holds.
const GUARDS: &[&str] = &[
    include_str!("../../deploy/admission/status.yaml"),
    include_str!("../../deploy/admission/requests.yaml"),
    include_str!("../../deploy/admission/policies.yaml"),
    include_str!("../../deploy/admission/records.yaml"),
    include_str!("../../deploy/admission/namespaces.yaml"),
    include_str!("../../deploy/admission/jobs.yaml"),
    include_str!("../../deploy/admission/cronjobs.yaml"),
    include_str!("../../deploy/admission/pods.yaml"),
    include_str!("../../deploy/admission/workloads.yaml"),
    include_str!("../../deploy/admission/exec.yaml"),
    include_str!("../../deploy/admission/inputs.yaml"),
];

/// The admission policies under `deploy/admission/holding/`: the API server holds and stamps by itself.
const HOLDS: &[&str] = &[
    include_str!("../../deploy/admission/holding/jobs.yaml"),
    include_str!("../../deploy/admission/holding/cronjobs.yaml"),
    include_str!("../../deploy/admission/holding/pods.yaml"),
];

const EXAMPLES: &str = "Examples:
  countersign manifests | kubectl apply -f -
  countersign manifests --only crds > crds.yaml
  countersign manifests --hold webhook | kubectl apply -f -    # Kubernetes 1.33 to 1.35";

/// Flags of `countersign manifests`.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Namespace the operator lives in
    #[arg(long, default_value = names::DEFAULT_NAMESPACE, value_parser = dns_label)]
    pub namespace: String,
    /// Print only this part
    #[arg(long, value_enum)]
    pub only: Option<Part>,
    /// What holds the Jobs and Pods of gated namespaces
    #[arg(long, value_enum, default_value_t)]
    pub hold: Hold,
}

/// A part of the manifests.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// The custom resource definitions
    Crds,
    /// Roles and their bindings
    Rbac,
    /// The rules that hold inside the API server
    AdmissionPolicies,
}

/// The manifests that `args` asks for, as one YAML stream.
pub fn render(args: &Args) -> anyhow::Result<String> {
    let wanted = |part| args.only.is_none_or(|only| only == part);
    let mut documents = vec![];
    if wanted(Part::Crds) {
        documents.extend(crd::STORED.map(|(_, text)| text.to_owned()));
    }
    // Only with the rest: whoever asks for one part has the namespace already.
    if args.only.is_none() {
        documents.push(in_namespace(NAMESPACE, &args.namespace));
    }
    if wanted(Part::Rbac) {
        documents.push(in_namespace(RBAC, &args.namespace));
    }
    if wanted(Part::AdmissionPolicies) {
        documents.extend(admission_files(args.hold).map(|text| in_namespace(text, &args.namespace)));
    }
    Ok(documents.join("---\n"))
}

/// The admission policies and their bindings as they are to be stored, for an operator in `namespace`. Each `spec` is
/// written in full, so that it equals what the API server stores.
pub fn admission_objects(namespace: &str, hold: Hold) -> anyhow::Result<Vec<Value>> {
    let mut objects = vec![];
    for text in admission_files(hold) {
        for document in serde_yaml::Deserializer::from_str(&in_namespace(text, namespace)) {
            objects.push(Value::deserialize(document).context("reading the admission policies")?);
        }
    }
    Ok(objects)
}

fn admission_files(hold: Hold) -> impl Iterator<Item = &'static str> {
    let holds = if hold == Hold::Policy { HOLDS } else { &[] };
    GUARDS.iter().chain(holds).copied()
}

/// `text` with the default namespace replaced. As a value of its own the name is quoted, since a namespace may be
/// called `123` or `no`; elsewhere it stands inside a longer string.
fn in_namespace(text: &str, namespace: &str) -> String {
    if namespace == names::DEFAULT_NAMESPACE {
        return text.into();
    }
    let value = |name: &str| format!(": {name}\n");
    text.replace(&value(names::DEFAULT_NAMESPACE), &value(&format!("\"{namespace}\"")))
        .replace(names::DEFAULT_NAMESPACE, namespace)
}

/// A namespace's name, or why it is none (RFC 1123 label).
pub fn dns_label(name: &str) -> Result<String, String> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > 63 {
        return Err(format!("a namespace has 1 to 63 characters, this one {}", name.chars().count()));
    }
    if !name.chars().all(inner) || name.starts_with('-') || name.ends_with('-') {
        return Err("a namespace is lower-case letters, digits and `-`, with a letter or digit at both ends".into());
    }
    Ok(name.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rendered(namespace: &str, only: Option<Part>) -> (String, Vec<Value>) {
        let text = render(&Args { namespace: namespace.into(), only, hold: Hold::Policy }).unwrap();
        let documents = serde_yaml::Deserializer::from_str(&text).map(|d| Value::deserialize(d).unwrap()).collect();
        (text, documents)
    }

    #[test]
    fn every_document_is_a_named_object() {
        for only in [None, Some(Part::Crds), Some(Part::Rbac), Some(Part::AdmissionPolicies)] {
            let (_, documents) = rendered("gate", only);
            assert!(documents.len() >= 2, "{only:?}");
            for document in &documents {
                for field in [&document["apiVersion"], &document["kind"], &document["metadata"]["name"]] {
                    assert!(field.as_str().is_some_and(|text| !text.is_empty()), "{document:?}");
                }
            }
            let kinds =
                documents.iter().map(|d| d["kind"].as_str().unwrap()).collect::<std::collections::BTreeSet<_>>();
            assert_eq!(kinds.contains("CustomResourceDefinition"), matches!(only, None | Some(Part::Crds)));
            assert_eq!(kinds.contains("Namespace"), only.is_none());
        }
    }

    #[test]
    fn another_namespace_leaves_none_of_the_default() {
        let default = rendered(names::DEFAULT_NAMESPACE, None).0;
        assert!(default.contains(&names::operator_username(names::DEFAULT_NAMESPACE)));
        // `123`, `no` and `1e3` are names that YAML would read as something else.
        for namespace in ["gate", "123", "no", "1e3"] {
            let (text, documents) = rendered(namespace, None);
            assert!(!text.contains(names::DEFAULT_NAMESPACE));
            assert!(text.contains(&names::operator_username(namespace)));
            let home = documents.iter().find(|d| d["kind"] == "Namespace").unwrap();
            assert_eq!(home["metadata"]["name"], namespace);
            assert!(text.contains(&format!("namespace: \"{namespace}\"")));
        }
    }

    #[test]
    fn the_webhook_holds_where_no_policy_does_and_the_guards_stay() {
        let of = |hold| admission_objects("gate", hold).unwrap();
        let mutating = |object: &Value| object["kind"].as_str().unwrap().starts_with("MutatingAdmissionPolicy");
        let (guards, holds): (Vec<_>, Vec<_>) = of(Hold::Policy).into_iter().partition(|object| !mutating(object));
        assert_eq!(guards, of(Hold::Webhook));
        assert!(!holds.is_empty());
        let args = |hold| Args { namespace: "gate".into(), only: Some(Part::AdmissionPolicies), hold };
        assert!(render(&args(Hold::Policy)).unwrap().contains("MutatingAdmissionPolicyBinding"));
        assert!(!render(&args(Hold::Webhook)).unwrap().contains("MutatingAdmissionPolicyBinding"));
    }

    #[test]
    fn every_admission_policy_is_bound_and_labelled() {
        let objects = admission_objects("gate", Hold::Policy).unwrap();
        let texts = |kind: &str, pointer: &str| {
            let of_kind = objects.iter().filter(|object| object["kind"] == kind);
            of_kind.map(|object| object.pointer(pointer).unwrap().as_str().unwrap()).collect::<Vec<_>>()
        };
        for kind in ["ValidatingAdmissionPolicy", "MutatingAdmissionPolicy"] {
            let binding = format!("{kind}Binding");
            let (names, bound) = (texts(kind, "/metadata/name"), texts(&binding, "/spec/policyName"));
            assert_eq!(texts(&binding, "/metadata/name"), bound);
            assert_eq!(names, bound);
        }
        for object in &objects {
            assert_eq!(object["metadata"]["labels"]["app.kubernetes.io/name"], "countersign", "{object}");
        }
    }

    #[test]
    fn what_selects_gated_namespaces_leaves_out_the_same_ones() {
        // `123` would be a number where YAML decides.
        for object in admission_objects("123", Hold::Policy).unwrap() {
            let Some(selector) = object.pointer("/spec/matchConstraints/namespaceSelector") else { continue };
            if *selector != json!({}) {
                let names = json!([names::SYSTEM_NAMESPACES.as_slice(), &["123"]].concat());
                let but = json!({"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": names});
                assert_eq!(selector["matchLabels"], json!({names::GATE: names::ENFORCE}));
                // Beside it, at most a label that opens the gate for some.
                let expressions = selector["matchExpressions"].as_array().unwrap();
                let opens = |e: &&Value| [names::WORKLOADS, names::EXEC].iter().any(|name| e["key"] == **name);
                assert!(expressions.contains(&but), "{object}");
                assert_eq!(expressions.iter().filter(opens).count() + 1, expressions.len(), "{object}");
            }
        }
    }

    #[test]
    fn what_is_stamped_on_a_cron_job_is_what_is_demanded() {
        let objects = admission_objects("gate", Hold::Policy).unwrap();
        let variables = |kind: &str| {
            let named = |o: &&Value| o["kind"] == kind && o["metadata"]["name"] == "countersign-cronjobs";
            objects.iter().find(named).unwrap()["spec"]["variables"].clone()
        };
        assert_eq!(variables("MutatingAdmissionPolicy"), variables("ValidatingAdmissionPolicy"));
    }

    #[test]
    fn the_policies_guard_every_field_of_the_ask() {
        let spec = serde_json::to_value(&crd::all()[0]).unwrap();
        let spec = spec.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties").unwrap().clone();
        for field in spec.as_object().unwrap().keys().filter(|f| !["review", "reviews", "cancel"].contains(&f.as_str()))
        {
            let same = |dot: &str| format!("object.spec.{dot}{field} == oldObject.spec.{dot}{field}");
            let guarded = GUARDS.iter().any(|text| text.contains(&same("")) || text.contains(&same("?")));
            assert!(guarded, "{field} may change after creation");
        }
    }

    #[test]
    fn a_namespace_is_a_dns_label() {
        for good in ["a", "countersign-system", "123", &"a".repeat(63)] {
            assert!(dns_label(good).is_ok(), "{good}");
        }
        for bad in ["", "a.b", "A", "-a", "a-", "a b", "ä", "a\nb", &"a".repeat(64)] {
            assert!(dns_label(bad).is_err(), "{bad}");
        }
    }
}
