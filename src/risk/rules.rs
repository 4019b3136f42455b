//! The rules of one role: what they let its holders change, and whether they let them read Secrets.

use crate::risk::text::one_line;
use serde_json::Value;
use std::collections::BTreeSet;

/// The verbs that read.
const READING: [&str; 3] = ["get", "list", "watch"];
/// The verbs by which somebody gains rights that they were not given.
const GAINING: [&str; 3] = ["bind", "escalate", "impersonate"];
/// Group, resource and verbs that change nothing that approval is for: asking about oneself, and asking for approval. (Its
/// `status`, its deletion and the verb `override` are something else.)
const HARMLESS: [(&str, &str, &[&str]); 4] = [
    ("authorization.k8s.io", "selfsubjectaccessreviews", &["create"]),
    ("authorization.k8s.io", "selfsubjectrulesreviews", &["create"]),
    ("authentication.k8s.io", "selfsubjectreviews", &["create"]),
    ("countersign.dev", "approvalrequests", &["create", "update", "patch"]),
];
/// Kinds of which `use` only loosens what a Pod may be that somebody creates, which takes another right. Everybody has it on
/// some clusters.
const POD_TERMS: [(&str, &str); 3] = [
    ("policy", "podsecuritypolicies"),
    ("extensions", "podsecuritypolicies"),
    ("security.openshift.io", "securitycontextconstraints"),
];
/// Subresources of the core group through which a plain `get` reaches into containers, nodes and services: commands run there
/// over a connection that begins with a GET.
const CONNECTING: [(&str, &str); 6] = [
    ("pods", "exec"),
    ("pods", "attach"),
    ("pods", "portforward"),
    ("pods", "proxy"),
    ("services", "proxy"),
    ("nodes", "proxy"),
];
/// The longest verb, resource, group or name in a text, in characters; verbs together take twice that.
const LONGEST_WORD: usize = 40;
/// The most verbs in a text.
const MOST_VERBS: usize = 8;

/// How much a rule lets do, the widest first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Breadth {
    /// Everything with everything.
    Everything,
    /// Taking rights that were not given.
    Gaining,
    /// Every resource of a group, or of all.
    EveryResource,
    /// Everything with one resource.
    EveryVerb,
    /// Some verbs on some resources.
    Some,
    /// Only on objects of some names.
    Named,
}

/// What the rules of a role let do, of one sort: the widest of them as text, and how much beside it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Power {
    /// How wide the widest is.
    pub breadth: Breadth,
    /// The widest, for a person: `patch deployments.apps`.
    widest: String,
    /// Pairs of a verb and a resource beyond it, as the rules list them.
    more: usize,
}

impl Power {
    /// For a person.
    pub(super) fn text(&self) -> String {
        match self.more {
            // More than everything says nothing.
            0 => self.widest.clone(),
            _ if self.breadth == Breadth::Everything => self.widest.clone(),
            n => format!("{} and {n} more", self.widest),
        }
    }
}

/// What a role lets do, as far as it matters.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Powers {
    /// Changes.
    pub writes: Option<Power>,
    /// Reading Secrets.
    pub reads: Option<Power>,
}

impl Powers {
    /// Reads the `rules` of a role. Total: what has another form than the API gives it grants nothing, as in the API server.
    pub(super) fn of(rules: &Value) -> Self {
        let rules: BTreeSet<Rule<'_>> = rules.as_array().into_iter().flatten().map(Rule::read).collect();
        Self {
            writes: sum(rules.iter().filter_map(Rule::writes)),
            reads: sum(rules.iter().filter_map(Rule::reads_secrets)),
        }
    }

    /// Whether they let do nothing that matters.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Something that one rule lets do: the widest part of it, how many pairs of verb and resource that names, and how many the
/// rule lists.
struct Deed {
    breadth: Breadth,
    text: String,
    named: usize,
    listed: usize,
}

fn sum(deeds: impl Iterator<Item = Deed>) -> Option<Power> {
    let deeds: Vec<Deed> = deeds.collect();
    let listed = deeds.iter().fold(0usize, |sum, deed| sum.saturating_add(deed.listed));
    let widest = deeds.into_iter().min_by(|a, b| (a.breadth, &a.text).cmp(&(b.breadth, &b.text)))?;
    Some(Power { breadth: widest.breadth, more: listed.saturating_sub(widest.named), widest: widest.text })
}

/// One rule, without what a wildcard covers anyway.
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Rule<'a> {
    groups: BTreeSet<&'a str>,
    resources: BTreeSet<&'a str>,
    verbs: BTreeSet<&'a str>,
    names: BTreeSet<&'a str>,
}

fn texts<'a>(rule: &'a Value, field: &str) -> BTreeSet<&'a str> {
    rule.get(field).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

fn or_all(texts: BTreeSet<&str>) -> BTreeSet<&str> {
    if texts.contains("*") { BTreeSet::from(["*"]) } else { texts }
}

impl<'a> Rule<'a> {
    fn read(rule: &'a Value) -> Self {
        Self {
            groups: or_all(texts(rule, "apiGroups")),
            resources: or_all(texts(rule, "resources")),
            verbs: or_all(texts(rule, "verbs")),
            names: texts(rule, "resourceNames"),
        }
    }

    fn covers(&self, group: &str, resource: &str) -> bool {
        let has = |set: &BTreeSet<&str>, text: &str| set.contains("*") || set.contains(text);
        has(&self.groups, group) && has(&self.resources, resource)
    }

    /// What it lets change. Every verb that does not read counts, whatever it is called.
    fn writes(&self) -> Option<Deed> {
        let changing: BTreeSet<&str> = self.verbs.iter().copied().filter(|verb| !READING.contains(verb)).collect();
        let listed = self.groups.len().saturating_mul(self.resources.len()).saturating_mul(changing.len());
        let listed = listed.saturating_sub(self.harmless(&changing));
        if listed == 0 {
            return self.connects();
        }
        // A few pairs are harmless, so this ends soon.
        let pairs = self.groups.iter().flat_map(|group| self.resources.iter().map(move |resource| (*group, *resource)));
        pairs.into_iter().find_map(|(group, resource)| {
            let verbs: BTreeSet<&str> = changing.iter().copied().filter(|v| !is_harmless(group, resource, v)).collect();
            (!verbs.is_empty()).then(|| self.deed(&verbs, group, resource, listed))
        })
    }

    /// How many of the pairs that it lists are harmless.
    fn harmless(&self, verbs: &BTreeSet<&str>) -> usize {
        let lists = |group: &str, resource: &str| self.groups.contains(group) && self.resources.contains(resource);
        let known = HARMLESS.iter().map(|(group, resource, _)| (*group, *resource)).chain(POD_TERMS);
        let count = |(group, resource): (&str, &str)| verbs.iter().filter(|v| is_harmless(group, resource, v)).count();
        known.filter(|(group, resource)| lists(group, resource)).map(count).sum()
    }

    /// A `get` that reaches into something that runs.
    fn connects(&self) -> Option<Deed> {
        if !self.verbs.contains("get") || !(self.groups.contains("*") || self.groups.contains("")) {
            return None;
        }
        let named = |part: &(&str, &str)| {
            let (whole, every) = (format!("{}/{}", part.0, part.1), format!("*/{}", part.1));
            self.resources.iter().find(|resource| ***resource == whole || ***resource == every).copied()
        };
        let found: BTreeSet<&str> = CONNECTING.iter().filter_map(named).collect();
        let get = BTreeSet::from(["get"]);
        match found.first() {
            Some(resource) => Some(self.deed(&get, "", resource, found.len())),
            None if self.resources.contains("*") => {
                let deed = self.deed(&get, "", "pods/exec", 1);
                Some(Deed { text: format!("{} (by *)", deed.text), ..deed })
            }
            None => None,
        }
    }

    fn reads_secrets(&self) -> Option<Deed> {
        let verbs: BTreeSet<&str> = self.verbs.iter().copied().filter(|v| READING.contains(v) || *v == "*").collect();
        if verbs.is_empty() || !self.covers("", "secrets") {
            return None;
        }
        let one = |set: &BTreeSet<&str>, text: &'static str| if set.contains("*") { "*" } else { text };
        let (group, resource) = (one(&self.groups, ""), one(&self.resources, "secrets"));
        // Every group has a resource of that name or has not: the core one is what is meant.
        let group = if resource == "*" { group } else { "" };
        let deed = self.deed(&verbs, group, resource, verbs.len());
        match (resource, deed.breadth) {
            (_, Breadth::Everything) => Some(deed),
            ("*", _) => Some(Deed { text: format!("{}, Secrets among it", deed.text), ..deed }),
            _ => Some(deed),
        }
    }

    fn deed(&self, verbs: &BTreeSet<&str>, group: &str, resource: &str, listed: usize) -> Deed {
        let every = (verbs.contains("*"), resource == "*", group == "*");
        let breadth = match every {
            _ if !self.names.is_empty() => Breadth::Named,
            (true, true, true) => Breadth::Everything,
            _ if verbs.iter().any(|verb| GAINING.contains(verb)) => Breadth::Gaining,
            (_, true, _) => Breadth::EveryResource,
            (true, ..) => Breadth::EveryVerb,
            _ => Breadth::Some,
        };
        let what = match every {
            (true, true, true) => "do anything (*)".to_string(),
            (true, ..) => format!("do anything (*) to {}", noun(group, resource)),
            _ => format!("{} {}", join(verbs), noun(group, resource)),
        };
        Deed { breadth, text: format!("{what}{}", self.named()), named: verbs.len(), listed }
    }

    /// Only these names: less is granted, and it still counts.
    fn named(&self) -> String {
        let Some(first) = self.names.first() else { return String::new() };
        let first = one_line(first, LONGEST_WORD);
        match self.names.len() {
            1 => format!(" named {first}"),
            n => format!(" named {first} (or {} more names)", n - 1),
        }
    }
}

fn is_harmless(group: &str, resource: &str, verb: &str) -> bool {
    let own = |(g, r, verbs): &(&str, &str, &[&str])| (*g, *r) == (group, resource) && verbs.contains(&verb);
    HARMLESS.iter().any(own) || (verb == "use" && POD_TERMS.contains(&(group, resource)))
}

fn join(verbs: &BTreeSet<&str>) -> String {
    let words: Vec<_> = verbs.iter().take(MOST_VERBS).map(|verb| one_line(verb, LONGEST_WORD)).collect();
    one_line(&words.join(", "), 2 * LONGEST_WORD)
}

fn noun(group: &str, resource: &str) -> String {
    let (group, short) = (one_line(group, LONGEST_WORD), one_line(resource, LONGEST_WORD));
    match (resource, group.as_str()) {
        ("*", "*") => "everything (*)".into(),
        ("*", "") => "everything (*) in the core group".into(),
        ("*", _) => format!("everything (*) in {group}"),
        (_, "") => short,
        _ => format!("{short}.{group}"),
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
