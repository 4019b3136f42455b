//! Classifiers at work: risk tags from what will run. Each says why.

use crate::api::{ClassifierWhen, ServiceAccountMay};
use crate::policy::{DerivedTag, PolicySet, glob};
use crate::risk::{Rights, Traits, Work};
use std::collections::BTreeMap;

/// Longest detail that is shown, in characters.
const LONGEST: usize = 510;
/// What stands between the parts of a detail.
const BETWEEN: &str = "; ";
/// Longest name of a service account in a detail.
const LONGEST_ACCOUNT: usize = 63;
/// Longest image that patterns are compared with. No image that can be pulled from a usual registry is longer.
const LONGEST_IMAGE: usize = 512;
/// Most signs that one detail names.
const MOST_NAMED: usize = 3;

/// Every tag that a classifier derives: Countersign's own first, then those of the policies that apply to the namespace.
/// `work` is none where there is no Job or Pod. Sorted, without duplicates.
pub fn classify(
    policies: &PolicySet,
    work: Option<&Work<'_>>,
    namespace_labels: &BTreeMap<String, String>,
) -> Vec<DerivedTag> {
    let mut found: BTreeMap<(&str, Option<&str>), Reasons> = BTreeMap::new();
    for (tag, signs) in work.map(built_in).unwrap_or_default() {
        found.entry((tag, None)).or_default().add(signs, false);
    }
    for policy in policies.ready.iter().filter(|policy| policy.applies(namespace_labels)) {
        for classifier in &policy.classifiers {
            if let Some(signs) = signs(&classifier.when, work, namespace_labels) {
                let advisory = classifier.when.unrestricted_egress.is_some();
                found.entry((&classifier.tag, Some(&policy.name))).or_default().add(signs, advisory);
            }
        }
    }
    let tag = |((tag, policy), reasons): ((&str, Option<&str>), Reasons)| DerivedTag {
        tag: tag.into(),
        policy: policy.map(String::from),
        advisory: reasons.fact.is_empty(),
        detail: joined(reasons.all()),
    };
    found.into_iter().map(tag).collect()
}

/// Why one tag applies: several classifiers of a policy may derive the same.
#[derive(Default)]
struct Reasons {
    fact: Vec<String>,
    advisory: Vec<String>,
}

impl Reasons {
    fn add(&mut self, signs: Vec<String>, advisory: bool) {
        let to = if advisory { &mut self.advisory } else { &mut self.fact };
        for sign in signs {
            if !to.contains(&sign) {
                to.push(sign);
            }
        }
    }

    /// Facts first.
    fn all(self) -> Vec<String> {
        self.fact.into_iter().chain(self.advisory).collect()
    }
}

/// What Countersign derives by itself: few tags, each of weight, so that they are read.
fn built_in(work: &Work<'_>) -> Vec<(&'static str, Vec<String>)> {
    let Work { traits, rights, .. } = work;
    let secrets: Vec<String> =
        rights_of(traits, &rights.reads_secrets).into_iter().chain(some(&traits.secrets)).collect();
    let host: Vec<String> = some(&traits.host_access).into_iter().chain(some(&traits.host_paths)).collect();
    let found = [
        ("secrets", secrets),
        ("write", rights_of(traits, &rights.writes).into_iter().collect()),
        ("cluster-scope", rights_of(traits, &rights.cluster_scope).into_iter().collect()),
        ("privileged", some(&traits.privileged).into_iter().chain(some(&traits.added_capabilities)).collect()),
        ("host", host),
    ];
    found.into_iter().filter(|(_, signs)| !signs.is_empty()).collect()
}

/// What the account may do, where the Pod can act as it.
fn rights_of(traits: &Traits, grant: &Option<String>) -> Option<String> {
    let grant = grant.as_ref().filter(|_| traits.has_token)?;
    Some(format!("{} may {grant}", account(traits)))
}

fn account(traits: &Traits) -> String {
    format!("serviceaccount {}", cut(traits.service_account.clone(), LONGEST_ACCOUNT))
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
        secrets(when.uses_secrets, traits),
        sign(when.privileged, &traits.privileged, "no container is privileged"),
        sign(when.host_access, &traits.host_access, "nothing of the node is shared"),
        sign(when.host_paths, &traits.host_paths, "no path of the node is mounted"),
        sign(when.added_capabilities, &traits.added_capabilities, "no capability is added"),
        sign(when.runs_as_root, &traits.runs_as_root, "no container runs as root"),
        sign(when.image_tags, &traits.unpinned, "every image is named by digest"),
        named(&when.images, || traits.images.iter().find(|i| is_image(&when.images, i)), "image"),
        named(
            &when.images_other_than,
            || traits.images.iter().find(|i| !is_image(&when.images_other_than, i)),
            "image",
        ),
        named(
            &when.service_accounts,
            || Some(&traits.service_account).filter(|a| any(&when.service_accounts, a)),
            "serviceaccount",
        ),
        may(when.service_account_may.as_ref(), traits, rights),
        egress(when.unrestricted_egress, traits, *open_egress),
    ];
    for part in parts {
        signs.extend(part?);
    }
    Some(signs)
}

/// Whether any part but the namespace's labels is asked for.
fn looks_at_work(when: &ClassifierWhen) -> bool {
    // Named one by one, so that a part to come is not forgotten here.
    let ClassifierWhen {
        uses_secrets,
        privileged,
        host_access,
        host_paths,
        added_capabilities,
        runs_as_root,
        image_tags,
        images,
        images_other_than,
        service_accounts,
        service_account_may,
        unrestricted_egress,
        namespace_selector: _,
    } = when;
    let flags = [
        uses_secrets,
        privileged,
        host_access,
        host_paths,
        added_capabilities,
        runs_as_root,
        image_tags,
        unrestricted_egress,
    ];
    let lists = [images, images_other_than, service_accounts];
    flags.iter().any(|flag| flag.is_some())
        || lists.iter().any(|list| !list.is_empty())
        || service_account_may.is_some()
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

/// What a driver mounts nobody knows: it makes no use of Secrets, and no lack of them either.
fn secrets(wanted: Option<bool>, traits: &Traits) -> Part {
    match wanted {
        Some(false) if !traits.driver_volumes.is_empty() => None,
        _ => sign(wanted, &traits.secrets, "no Secret is used"),
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

/// What is too long to be an image is none that anybody named.
fn is_image(patterns: &[String], image: &str) -> bool {
    image.chars().nth(LONGEST_IMAGE).is_none() && any(patterns, image)
}

fn may(wanted: Option<&ServiceAccountMay>, traits: &Traits, rights: &Rights) -> Part {
    let Some(wanted) = wanted else { return Some(None) };
    let mut signs = vec![];
    for (wanted, grant, verb) in [
        (wanted.write, &rights.writes, "write nothing"),
        (wanted.read_secrets, &rights.reads_secrets, "read no Secrets"),
        (wanted.cluster_scope, &rights.cluster_scope, "write nothing and read no Secrets beyond its own namespace"),
    ] {
        match (wanted, rights_of(traits, grant)) {
            (None, _) => {}
            (Some(true), Some(sign)) => signs.push(sign),
            (Some(false), None) => signs.push(format!("{} may {verb}", account(traits))),
            _ => return None,
        }
    }
    Some((!signs.is_empty()).then(|| signs.join(BETWEEN)))
}

fn egress(wanted: Option<bool>, traits: &Traits, open: bool) -> Part {
    let sign = match (traits.host_network, open) {
        (true, _) => "it has the node's network, which no NetworkPolicy restricts",
        (false, true) => "no NetworkPolicy restricts its egress",
        (false, false) => return wanted.is_none().then_some(None),
    };
    match wanted {
        None => Some(None),
        // `false` is refused when a policy is compiled: nothing is safe by a NetworkPolicy.
        Some(wanted) => wanted.then(|| Some(sign.into())),
    }
}

/// All parts as one text. Where that is too long, the longest parts are shortened, so that a long one hides no other.
fn joined(parts: Vec<String>) -> String {
    let between = BETWEEN.len() * parts.len().saturating_sub(1);
    let lengths: Vec<usize> = parts.iter().map(|part| part.chars().count()).collect();
    let mut sorted = lengths.clone();
    sorted.sort_unstable();
    // From the shortest on, each takes what it needs or an equal share of what is left.
    let mut left = LONGEST.saturating_sub(between);
    let mut longest = LONGEST;
    for (n, length) in sorted.iter().enumerate() {
        longest = left / (sorted.len() - n);
        if *length > longest {
            break;
        }
        left -= length;
        longest = LONGEST;
    }
    let text: Vec<String> = parts.into_iter().map(|part| cut(part, longest)).collect();
    cut(text.join(BETWEEN), LONGEST)
}

/// A text of at most that many characters.
fn cut(text: String, longest: usize) -> String {
    match text.chars().nth(longest) {
        Some(_) => text.chars().take(longest.saturating_sub(1)).chain(['…']).collect(),
        None => text,
    }
}

#[cfg(test)]
#[path = "classify_tests.rs"]
mod tests;
