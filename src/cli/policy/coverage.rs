//! Which rules no test ever matched, and which policies no test uses.

use crate::cli::policy::documents::PolicyDocument;
use crate::policy::PolicySet;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What tests covered so far.
#[derive(Debug, Default)]
pub struct Coverage {
    /// Files that a fixture names.
    used: BTreeSet<PathBuf>,
    /// File and policy, and which of its rules were matched.
    rules: BTreeMap<(PathBuf, String), BTreeMap<String, bool>>,
}

impl Coverage {
    /// Notes the policies of a suite.
    pub fn add(&mut self, documents: &[PolicyDocument], policies: &PolicySet) {
        for document in documents {
            let file = same_file(&document.source);
            self.used.insert(file.clone());
            if let Some(policy) = policies.ready.iter().find(|policy| *policy.name == document.name) {
                let rules = self.rules.entry((file, document.name.clone())).or_default();
                for rule in policy.rule_names() {
                    rules.entry(rule.into()).or_default();
                }
            }
        }
    }

    /// Notes that a rule of one of these policies matched.
    pub fn matched(&mut self, documents: &[PolicyDocument], policy: &str, rule: &str) {
        for document in documents.iter().filter(|document| document.name == policy) {
            let rules = self.rules.entry((same_file(&document.source), policy.into())).or_default();
            rules.insert(rule.into(), true);
        }
    }

    /// Of these policies, those whose files no fixture names.
    pub fn unused<'a>(&self, policies: &'a [PolicyDocument]) -> Vec<&'a PolicyDocument> {
        policies.iter().filter(|policy| !self.used.contains(&same_file(&policy.source))).collect()
    }

    /// What is not covered, of the policies that tests use and of these others; in words, sorted.
    pub fn gaps(&self, others: &[PolicyDocument]) -> Vec<String> {
        let mut gaps = BTreeSet::new();
        for ((_, policy), rules) in &self.rules {
            let silent = rules.iter().filter(|(_, matched)| !**matched);
            gaps.extend(silent.map(|(rule, _)| format!("{policy}/{rule}: no test matches it")));
        }
        gaps.extend(self.unused(others).iter().map(|policy| format!("{}: no test uses it", policy.name)));
        gaps.into_iter().collect()
    }
}

/// One name for a file, however it is reached.
fn same_file(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.into())
}
