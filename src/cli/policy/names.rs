//! The names that a suite's policies have. An expectation that says no to a name that nothing has could not fail.

use crate::cli::policy::documents::PolicyDocument;
use crate::cli::policy::fixture::{Expect, Rules};
use anyhow::ensure;
use std::collections::BTreeSet;

/// Tags that Countersign derives by itself.
const BUILT_IN: [&str; 5] = ["cluster-scope", "host", "privileged", "secrets", "write"];

/// Rules and tags of some policies, also of those that do not compile.
#[derive(Debug, Default)]
pub struct Names {
    /// As `policy/rule`.
    rules: BTreeSet<String>,
    /// Those that a classifier derives.
    tags: BTreeSet<String>,
}

impl Names {
    /// Those of these policies.
    pub fn of(policies: &[PolicyDocument]) -> Self {
        let mut names = Self { tags: BUILT_IN.map(String::from).into(), ..Self::default() };
        for policy in policies {
            let all = |list: &str, field: &str| -> Vec<String> {
                let entries = policy.spec[list].as_array().into_iter().flatten();
                entries.filter_map(|entry| entry[field].as_str().map(String::from)).collect()
            };
            names.rules.extend(all("rules", "name").iter().map(|rule| format!("{}/{rule}", policy.name)));
            names.tags.extend(all("classifiers", "tag"));
        }
        names
    }

    /// Whether the expectation names only what there is.
    pub fn check(&self, expect: &Expect) -> anyhow::Result<()> {
        let rules: Vec<(&str, &[String])> = match &expect.rules {
            None => vec![],
            Some(Rules::Exactly(rules)) => vec![("rules", rules)],
            Some(Rules::Partly(partly)) => vec![("rules.includes", &partly.includes), ("rules.not", &partly.not)],
        };
        for (what, rules) in rules {
            for rule in rules {
                ensure!(
                    self.rules.contains(rule),
                    "{what}: no rule of these policies is called {rule:?}; there are {} (policy/rule)",
                    listed(&self.rules)
                );
            }
        }
        for (what, tags) in [("tags", &expect.tags), ("notTags", &expect.not_tags)] {
            for tag in tags.iter().flatten() {
                ensure!(
                    self.tags.contains(tag),
                    "{what}: nothing derives {tag:?}, of these policies' classifiers and Countersign's own; there are {}",
                    listed(&self.tags)
                );
            }
        }
        Ok(())
    }
}

fn listed(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{PolicySet, classify};
    use crate::risk::{Rights, Traits, Work};
    use std::collections::BTreeMap;

    #[test]
    fn every_built_in_tag_is_known_and_no_other() {
        let some = || vec!["x".to_string()];
        let traits = Traits {
            secrets: some(),
            privileged: some(),
            host_access: some(),
            host_paths: some(),
            added_capabilities: some(),
            runs_as_root: some(),
            images: some(),
            unpinned: some(),
            has_token: true,
            ..Traits::default()
        };
        let all = || Some("x".to_string());
        let rights = Rights { writes: all(), reads_secrets: all(), cluster_scope: all(), ..Rights::default() };
        let work = Work { traits: &traits, rights: &rights, open_egress: true };
        let found = classify(&PolicySet::default(), Some(&work), &BTreeMap::new());
        let found: BTreeSet<_> = found.iter().map(|derived| derived.tag.as_str()).collect();
        assert_eq!(found, BTreeSet::from(BUILT_IN));
    }
}
