//! Matching: every rule of every policy against what is known of one request.

use crate::api::policy::Decision;
use crate::api::{Requester, When};
use crate::policy::{CompiledRule, Outcome, PolicySet, glob};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A risk tag seen in what will run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DerivedTag {
    /// The tag.
    pub tag: String,
    /// The policy whose classifier derived it; none for a built-in classifier.
    pub policy: Option<String>,
    /// Why it applies.
    pub detail: String,
}

/// What is known of a request. The first two fields are the requester's claims, the rest are facts.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Claim: the workflow's name.
    pub requested_by: &'a str,
    /// Claim: declared risk tags.
    pub declared_tags: &'a [String],
    /// Risk tags seen in what will run.
    pub derived_tags: &'a [DerivedTag],
    /// The authenticated requester.
    pub requester: &'a Requester,
    /// Labels of the request's namespace.
    pub namespace_labels: &'a BTreeMap<String, String>,
}

/// Evaluates every policy against the facts of one request. Total: it never fails and never panics.
pub fn evaluate(policies: &PolicySet, facts: &Facts<'_>) -> Outcome {
    let matches = policies
        .ready
        .iter()
        .filter(|policy| policy.applies(facts.namespace_labels))
        .flat_map(|policy| policy.rules.iter())
        .filter(|rule| applies(rule, facts))
        .map(Arc::clone)
        .collect();
    let not_ready = policies
        .broken
        .iter()
        .filter(|policy| policy.might_apply(facts.namespace_labels))
        .map(|policy| (policy.name.to_string(), policy.error.to_string()))
        .collect();
    Outcome::join(matches, not_ready)
}

fn applies(compiled: &CompiledRule, facts: &Facts<'_>) -> bool {
    let rule = &compiled.rule;
    let trusting = View::all(facts);
    let facts_only = View::facts_only(facts, &compiled.policy);
    // What loosens the gate rests on facts: an Allow and every `unless`, unless the rule trusts claims.
    let when = if rule.decision == Decision::Allow && !rule.trust_claims { &facts_only } else { &trusting };
    let unless = if rule.trust_claims { &trusting } else { &facts_only };
    rule.when.as_ref().is_none_or(|w| when.satisfies(w)) && !rule.unless.as_ref().is_some_and(|u| unless.satisfies(u))
}

/// The facts as one part of a rule may see them.
struct View<'a> {
    facts: &'a Facts<'a>,
    /// None where claims are not believed.
    requested_by: Option<&'a str>,
    policy: Option<&'a str>,
}

impl<'a> View<'a> {
    fn all(facts: &'a Facts<'a>) -> Self {
        Self { facts, requested_by: Some(facts.requested_by), policy: None }
    }

    /// Without claims, and without tags that another policy's classifier derived: else that policy could weaken this one.
    fn facts_only(facts: &'a Facts<'a>, policy: &'a str) -> Self {
        Self { facts, requested_by: None, policy: Some(policy) }
    }

    fn has(&self, tag: &str) -> bool {
        let believed = |d: &DerivedTag| match (self.policy, &d.policy) {
            (Some(own), Some(theirs)) => own == theirs,
            _ => true,
        };
        (self.requested_by.is_some() && self.facts.declared_tags.iter().any(|t| t == tag))
            || self.facts.derived_tags.iter().any(|d| d.tag == tag && believed(d))
    }

    fn satisfies(&self, when: &When) -> bool {
        let Facts { requester, namespace_labels, .. } = self.facts;
        when.risk_tags.iter().all(|tag| self.has(tag))
            && (when.any_risk_tags.is_empty() || when.any_risk_tags.iter().any(|tag| self.has(tag)))
            && (when.requested_by.is_empty()
                || self.requested_by.is_some_and(|by| when.requested_by.iter().any(|p| glob::matches(p, by))))
            && (when.requesters.is_empty()
                || when.requesters.iter().any(|s| s.covers(&requester.username, &requester.groups)))
            && when.namespace_selector.as_ref().is_none_or(|s| s.matches(namespace_labels))
    }
}

impl Facts<'_> {
    /// Every tag that applies, declared or derived, sorted.
    pub fn tags(&self) -> BTreeSet<&str> {
        let derived = self.derived_tags.iter().map(|d| d.tag.as_str());
        self.declared_tags.iter().map(String::as_str).chain(derived).collect()
    }
}
