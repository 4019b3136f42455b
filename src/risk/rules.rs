//! The rules of one role: what they let its holders change, and whether they let them read Secrets.

use crate::binding::sha256;
use crate::risk::breadth::{Breadth, NOTABLE, every, gains, reaches};
use crate::risk::text::one_line;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The verbs that read.
const READING: [&str; 3] = ["get", "list", "watch"];
/// Where requests for approval are.
const REQUESTS: (&str, &str) = ("countersign.dev", "approvalrequests");
/// Group, resource and verbs that change nothing that approval is for: asking about oneself, and asking for approval. (Its
/// `status`, its deletion and the verb `override` are something else.)
const HARMLESS: [(&str, &str, &[&str]); 4] = [
    ("authorization.k8s.io", "selfsubjectaccessreviews", &["create"]),
    ("authorization.k8s.io", "selfsubjectrulesreviews", &["create"]),
    ("authentication.k8s.io", "selfsubjectreviews", &["create"]),
    (REQUESTS.0, REQUESTS.1, &["create"]),
];
/// What else is harmless of requests in a role that lets create them: withdrawing one's own. Alone, it is what reviewers may.
const ASKING: [&str; 2] = ["update", "patch"];
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

/// What the rules of a role let do, of one sort: the widest of them as text, how much beside it, and a hash of it all.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Power {
    /// How wide the widest is.
    pub breadth: Breadth,
    /// Stands for everything that they let do, of that sort: two roles with the same hash let do the same.
    pub hash: String,
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
        let asks = rules.iter().any(Rule::asks);
        Self {
            writes: sum(rules.iter().filter_map(|rule| rule.writes(asks))),
            reads: sum(rules.iter().filter_map(Rule::reads_secrets)),
        }
    }

    /// Whether they let do nothing that matters.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Something that one rule lets do: the widest part of it, how many pairs of verb and resource that names, how many the rule
/// lists, and all of them.
struct Deed {
    rank: Rank,
    text: String,
    named: usize,
    listed: usize,
    all: Value,
}

/// By breadth; then what is for every name and every resource before what is for some.
type Rank = (Breadth, bool, bool);

fn sum(deeds: impl Iterator<Item = Deed>) -> Option<Power> {
    let deeds: Vec<Deed> = deeds.collect();
    let listed = deeds.iter().fold(0usize, |sum, deed| sum.saturating_add(deed.listed));
    // Sorted, and each once: the order of rules and what they list beside is no matter.
    let all: BTreeSet<String> = deeds.iter().map(|deed| deed.all.to_string()).collect();
    // Texts always have a canonical form.
    let hash = sha256(&json!(all)).unwrap_or_else(|e| e.to_string());
    let widest = deeds.into_iter().min_by(|a, b| (a.rank, &a.text).cmp(&(b.rank, &b.text)))?;
    Some(Power { breadth: widest.rank.0, hash, more: listed.saturating_sub(widest.named), widest: widest.text })
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

    /// Whether it lets ask for approval.
    fn asks(&self) -> bool {
        self.names.is_empty() && self.verbs.contains("create") && self.covers(REQUESTS.0, REQUESTS.1)
    }

    /// What it lets change, in a role that lets ask for approval or does not. Every verb that does not read counts, whatever
    /// it is called.
    fn writes(&self, asks: bool) -> Option<Deed> {
        let changing: BTreeSet<&str> = self.verbs.iter().copied().filter(|verb| !READING.contains(verb)).collect();
        let listed = self.groups.len().saturating_mul(self.resources.len()).saturating_mul(changing.len());
        let harmless = self.harmless(&changing, asks);
        let listed = listed.saturating_sub(harmless);
        if listed == 0 {
            return self.connects();
        }
        // A few pairs are harmless, so this ends soon.
        let pairs = self.groups.iter().flat_map(|group| self.resources.iter().map(move |resource| (*group, *resource)));
        let deed = |(group, resource): (&str, &str)| {
            let harmless = |verb: &str| is_harmless(group, resource, verb, asks);
            let verbs: BTreeSet<&str> = changing.iter().copied().filter(|verb| !harmless(verb)).collect();
            (!verbs.is_empty()).then(|| self.deed(&verbs, group, resource, listed))
        };
        let first = pairs.into_iter().find_map(deed);
        let widest = first.into_iter().chain(self.notable().into_iter().filter_map(deed));
        let widest = widest.min_by(|a, b| (a.rank, &a.text).cmp(&(b.rank, &b.text)))?;
        // With the same lists, what else matters is how much of it is harmless here, and what a `get` beside it reaches.
        let reached = self.connects().map(|deed| deed.all);
        let all = json!(["write", self.groups, self.resources, changing, self.names, harmless, reached]);
        Some(Deed { all, ..widest })
    }

    /// What it lists of the kinds that reach farthest.
    fn notable(&self) -> Vec<(&str, &str)> {
        let groups = |known: &str| ["*", known].into_iter().find_map(|group| self.groups.get(group).copied());
        let resources = |known: &str| {
            let all = ["*".to_string(), known.to_string(), every(known).unwrap_or_default()];
            all.iter().find_map(|resource| self.resources.get(resource.as_str()).copied())
        };
        NOTABLE.iter().filter_map(|(group, resource)| groups(group).zip(resources(resource))).collect()
    }

    /// How many of the pairs that it lists are harmless.
    fn harmless(&self, verbs: &BTreeSet<&str>, asks: bool) -> usize {
        let lists = |group: &str, resource: &str| self.groups.contains(group) && self.resources.contains(resource);
        let known = HARMLESS.iter().map(|(group, resource, _)| (*group, *resource)).chain(POD_TERMS);
        let count =
            |(group, resource): (&str, &str)| verbs.iter().filter(|v| is_harmless(group, resource, v, asks)).count();
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
        let deed = match found.first() {
            Some(resource) => self.deed(&get, "", resource, found.len()),
            None if self.resources.contains("*") => {
                let deed = self.deed(&get, "", "pods/exec", 1);
                Deed { text: format!("{} (by *)", deed.text), ..deed }
            }
            None => return None,
        };
        let reached = if found.is_empty() { BTreeSet::from(["*"]) } else { found };
        Some(Deed { all: json!(["connect", reached, self.names]), ..deed })
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
        // What else the verbs let do is told as a change.
        let rank = (self.reading(&verbs, group, resource), deed.rank.1, deed.rank.2);
        let deed = Deed { all: json!(["read", group, resource, verbs, self.names]), rank, ..deed };
        match resource {
            "*" if rank.0 != Breadth::Everything => {
                Some(Deed { text: format!("{}, Secrets among it", deed.text), ..deed })
            }
            _ => Some(deed),
        }
    }

    fn reading(&self, verbs: &BTreeSet<&str>, group: &str, resource: &str) -> Breadth {
        match (verbs.contains("*"), resource == "*", group == "*") {
            _ if !self.names.is_empty() => Breadth::Named,
            (true, true, true) => Breadth::Everything,
            (_, true, _) => Breadth::EveryResource,
            (true, ..) => Breadth::EveryVerb,
            _ => Breadth::Some,
        }
    }

    /// A name takes little away from what lets somebody gain rights or reach into others: it may be the one that matters.
    fn changing(&self, verbs: &BTreeSet<&str>, group: &str, resource: &str) -> Breadth {
        let any = |test: fn(&str, &str, &str) -> bool| verbs.iter().any(|verb| test(group, resource, verb));
        match self.reading(verbs, group, resource) {
            Breadth::Everything => Breadth::Everything,
            _ if any(gains) => Breadth::Gaining,
            _ if any(reaches) => Breadth::Reaching,
            breadth => breadth,
        }
    }

    fn deed(&self, verbs: &BTreeSet<&str>, group: &str, resource: &str, listed: usize) -> Deed {
        let every = (verbs.contains("*"), resource == "*", group == "*");
        let breadth = self.changing(verbs, group, resource);
        let what = match every {
            (true, true, true) => "do anything (*)".to_string(),
            (true, ..) => format!("do anything (*) to {}", noun(group, resource)),
            _ => format!("{} {}", join(verbs, |verb| gains(group, resource, verb)), noun(group, resource)),
        };
        let rank = (breadth, !self.names.is_empty(), resource != "*");
        Deed { rank, text: format!("{what}{}", self.named()), named: verbs.len(), listed, all: Value::Null }
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

fn is_harmless(group: &str, resource: &str, verb: &str, asks: bool) -> bool {
    let own = |(g, r, verbs): &(&str, &str, &[&str])| (*g, *r) == (group, resource) && verbs.contains(&verb);
    let asking = asks && (group, resource) == REQUESTS && ASKING.contains(&verb);
    asking || HARMLESS.iter().any(own) || (verb == "use" && POD_TERMS.contains(&(group, resource)))
}

/// The first few verbs, those that matter most before the others.
fn join(verbs: &BTreeSet<&str>, first: impl Fn(&str) -> bool) -> String {
    let (before, after): (Vec<&str>, Vec<&str>) = verbs.iter().partition(|verb| first(verb));
    let all = before.into_iter().chain(after).take(MOST_VERBS);
    let words: Vec<_> = all.map(|verb| one_line(verb, LONGEST_WORD)).collect();
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
