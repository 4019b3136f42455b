//! Classifiers at work: risk tags from what will run. Each says why.

use crate::api::{ClassifierWhen, ServiceAccountMay};
use crate::policy::{DerivedTag, PolicySet, glob};
use crate::risk::{Rights, Traits, Work};
use std::collections::BTreeMap;

/// Longest detail that is shown.
const LONGEST: usize = 250;
/// Most signs that one detail names.
const MOST_NAMED: usize = 3;

/// Every tag that a classifier derives: Countersign's own first, then those of the policies that apply to the namespace.
/// `work` is none where there is no Job or Pod. Sorted, without duplicates.
pub fn classify(
    policies: &PolicySet,
    work: Option<&Work<'_>>,
    namespace_labels: &BTreeMap<String, String>,
) -> Vec<DerivedTag> {
    let mut tags: Vec<DerivedTag> = work.map(built_in).unwrap_or_default();
    for policy in policies.ready.iter().filter(|policy| policy.applies(namespace_labels)) {
        for classifier in &policy.classifiers {
            if let Some(signs) = signs(&classifier.when, work, namespace_labels) {
                tags.push(DerivedTag {
                    tag: classifier.tag.clone(),
                    policy: Some(policy.name.to_string()),
                    detail: shortened(signs.join("; ")),
                    advisory: classifier.when.unrestricted_egress.is_some(),
                });
            }
        }
    }
    tags.sort();
    tags.dedup_by(|a, b| (&a.tag, &a.policy) == (&b.tag, &b.policy));
    tags
}

/// What Countersign derives by itself: few tags, each of weight, so that they are read.
fn built_in(work: &Work<'_>) -> Vec<DerivedTag> {
    let Work { traits, rights, .. } = work;
    let secrets: Vec<String> =
        some(&traits.secrets).into_iter().chain(rights_of(traits, &rights.reads_secrets)).collect();
    let host: Vec<String> = some(&traits.host_access).into_iter().chain(some(&traits.host_paths)).collect();
    let found = [
        ("secrets", secrets),
        ("write", rights_of(traits, &rights.writes).into_iter().collect()),
        ("cluster-scope", rights_of(traits, &rights.cluster_scope).into_iter().collect()),
        ("privileged", some(&traits.privileged).into_iter().chain(some(&traits.added_capabilities)).collect()),
        ("host", host),
    ];
    let tag = |(tag, signs): (&str, Vec<String>)| DerivedTag {
        tag: tag.into(),
        policy: None,
        detail: shortened(signs.join("; ")),
        advisory: false,
    };
    found.into_iter().filter(|(_, signs)| !signs.is_empty()).map(tag).collect()
}

/// What the account may do, where the Pod can act as it.
fn rights_of(traits: &Traits, grant: &Option<String>) -> Option<String> {
    let grant = grant.as_ref().filter(|_| traits.has_token)?;
    Some(format!("serviceaccount {} may {grant}", traits.service_account))
}

/// The first few signs as one text; none where there are none.
fn some(signs: &[String]) -> Option<String> {
    let named = signs.iter().take(MOST_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match signs.len() {
        0 => None,
        n if n > MOST_NAMED => Some(format!("{named} and {} more", n - MOST_NAMED)),
        _ => Some(named),
    }
}

/// Why the classifier's condition holds, part by part; none where a part does not.
fn signs(
    when: &ClassifierWhen,
    work: Option<&Work<'_>>,
    namespace_labels: &BTreeMap<String, String>,
) -> Option<Vec<String>> {
    let mut signs = vec![];
    if let Some(selector) = &when.namespace_selector {
        if !selector.matches(namespace_labels) {
            return None;
        }
        signs.push("the namespace's labels".to_string());
    }
    if !looks_at_work(when) {
        return Some(signs);
    }
    let Work { traits, rights, open_egress } = work?;
    let parts = [
        sign(when.uses_secrets, &traits.secrets, "no Secret is used"),
        sign(when.privileged, &traits.privileged, "no container is privileged"),
        sign(when.host_access, &traits.host_access, "nothing of the node is shared"),
        sign(when.host_paths, &traits.host_paths, "no path of the node is mounted"),
        sign(when.added_capabilities, &traits.added_capabilities, "no capability is added"),
        sign(when.runs_as_root, &traits.runs_as_root, "no container runs as root"),
        sign(when.image_tags, &traits.unpinned, "every image is named by digest"),
        named(&when.images, || traits.images.iter().find(|i| any(&when.images, i)), "image"),
        named(&when.images_other_than, || traits.images.iter().find(|i| !any(&when.images_other_than, i)), "image"),
        named(
            &when.service_accounts,
            || Some(&traits.service_account).filter(|a| any(&when.service_accounts, a)),
            "serviceaccount",
        ),
        may(when.service_account_may.as_ref(), traits, rights),
        egress(when.unrestricted_egress, *open_egress),
    ];
    for part in parts {
        signs.extend(part?);
    }
    Some(signs)
}

fn looks_at_work(when: &ClassifierWhen) -> bool {
    ClassifierWhen { namespace_selector: None, ..when.clone() } != ClassifierWhen::default()
}

/// One part of a condition: none where it does not hold, an empty text where it was not asked.
type Part = Option<Option<String>>;

fn sign(wanted: Option<bool>, found: &[String], otherwise: &str) -> Part {
    match (wanted, some(found)) {
        (None, _) => Some(None),
        (Some(true), Some(signs)) => Some(Some(signs)),
        (Some(false), None) => Some(Some(otherwise.into())),
        _ => None,
    }
}

fn named<'a>(patterns: &[String], found: impl FnOnce() -> Option<&'a String>, what: &str) -> Part {
    if patterns.is_empty() {
        return Some(None);
    }
    found().map(|name| Some(format!("{what} {name}")))
}

fn any(patterns: &[String], text: &str) -> bool {
    patterns.iter().any(|pattern| glob::matches(pattern, text))
}

fn may(wanted: Option<&ServiceAccountMay>, traits: &Traits, rights: &Rights) -> Part {
    let Some(wanted) = wanted else { return Some(None) };
    let mut signs = vec![];
    for (wanted, grant, verb) in [
        (wanted.write, &rights.writes, "write nothing"),
        (wanted.read_secrets, &rights.reads_secrets, "read no Secrets"),
        (wanted.cluster_scope, &rights.cluster_scope, "do so in its own namespace at most"),
    ] {
        match (wanted, rights_of(traits, grant)) {
            (None, _) => {}
            (Some(true), Some(sign)) => signs.push(sign),
            (Some(false), None) => signs.push(format!("serviceaccount {} may {verb}", traits.service_account)),
            _ => return None,
        }
    }
    Some((!signs.is_empty()).then(|| signs.join("; ")))
}

fn egress(wanted: Option<bool>, open: bool) -> Part {
    match wanted {
        None => Some(None),
        // `false` is refused when a policy is compiled: nothing is safe by a NetworkPolicy.
        Some(wanted) => (wanted && open).then(|| Some("no NetworkPolicy restricts its egress".into())),
    }
}

fn shortened(text: String) -> String {
    match text.char_indices().find(|(at, c)| at + c.len_utf8() > LONGEST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
#[path = "classify_tests.rs"]
mod tests;
