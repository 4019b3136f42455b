//! `countersign manifests`: everything a cluster needs, as one YAML stream.

use crate::api::{crd, names};
use anyhow::Context;

/// The manifests as they stand under `deploy/`, written for [`names::DEFAULT_NAMESPACE`].
const NAMESPACE: &str = include_str!("../../deploy/namespace.yaml");
const RBAC: &str = include_str!("../../deploy/rbac.yaml");
const ADMISSION_POLICIES: &str = include_str!("../../deploy/admission-policies.yaml");

const EXAMPLES: &str = "Examples:
  countersign manifests | kubectl apply -f -
  countersign manifests --only crds > crds.yaml";

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
        let files = crd::files().context("writing the CRDs as YAML")?;
        documents.extend(files.into_iter().map(|(_, text)| text));
    }
    // Only with the rest: whoever asks for one part has the namespace already.
    if args.only.is_none() {
        documents.push(in_namespace(NAMESPACE, &args.namespace));
    }
    if wanted(Part::Rbac) {
        documents.push(in_namespace(RBAC, &args.namespace));
    }
    if wanted(Part::AdmissionPolicies) {
        documents.push(in_namespace(ADMISSION_POLICIES, &args.namespace));
    }
    Ok(documents.join("---\n"))
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
    use serde::Deserialize;
    use serde_yaml::Value;

    fn rendered(namespace: &str, only: Option<Part>) -> (String, Vec<Value>) {
        let text = render(&Args { namespace: namespace.into(), only }).unwrap();
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
    fn the_policies_guard_every_field_of_the_ask() {
        let spec = serde_json::to_value(&crd::all()[0]).unwrap();
        let spec = spec.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties").unwrap().clone();
        for field in spec.as_object().unwrap().keys().filter(|f| !["review", "reviews", "cancel"].contains(&f.as_str()))
        {
            let same = |dot: &str| format!("object.spec.{dot}{field} == oldObject.spec.{dot}{field}");
            let guarded = ADMISSION_POLICIES.contains(&same("")) || ADMISSION_POLICIES.contains(&same("?"));
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
