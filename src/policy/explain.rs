//! Why each rule matched or did not, for whoever writes policies: the very judgement that [`evaluate`](super::evaluate())
//! rests on, in words.

use crate::api::policy::Decision;
use crate::api::{Subject, When};
use crate::policy::evaluate::{Judgement, Missed, Views};
use crate::policy::{CompiledPolicy, CompiledRule, DerivedTag, Facts, PolicySet};
use serde::Serialize;
use std::collections::BTreeSet;

/// Most names that one reason lists.
const MOST_NAMED: usize = 8;

/// One policy, as it meets a request.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyTrace {
    /// The policy's name.
    pub policy: String,
    /// Whether it is in force here.
    pub standing: Standing,
    /// What is wrong with it, where it does not compile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Its rules, in the order of the policy; none where it is not in force here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleTrace>,
}

/// Whether a policy is in force for a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Standing {
    /// It compiles, and applies to the namespace.
    Applies,
    /// It compiles, and its `match` does not select the namespace.
    Elsewhere,
    /// It does not compile and might apply, so that nothing is approved.
    Broken,
    /// It does not compile, and what can be read of it does not select the namespace.
    BrokenElsewhere,
}

/// One rule, as it meets a request.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleTrace {
    /// The rule's name.
    pub rule: String,
    /// What it says.
    pub decision: Decision,
    /// Whether it matches.
    pub matched: bool,
    /// The part by which it does not match, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missed: Option<String>,
    /// What went wrong with one of its expressions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// What its author may have meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Tells of every policy and rule whether it matches, and why not. Names in it are as they were written: whoever shows them
/// escapes them. Sorted by policy.
pub fn explain(policies: &PolicySet, facts: &Facts<'_>) -> Vec<PolicyTrace> {
    let views = Views::new(facts);
    let believed = believed(facts);
    let gullible = Facts { derived_tags: &believed, ..*facts };
    let gullible = Views::new(&gullible);
    let ready = policies.ready.iter().map(|policy| {
        let applies = policy.applies(facts.namespace_labels);
        let judge = |views: &Views<'_>| if applies { views.judge(policy) } else { vec![] };
        let judged = policy.rules.iter().zip(judge(&views)).zip(judge(&gullible));
        let rules = judged.map(|((rule, judgement), otherwise)| trace(rule, facts, judgement, &otherwise));
        PolicyTrace {
            policy: policy.name.to_string(),
            standing: if applies { Standing::Applies } else { Standing::Elsewhere },
            error: None,
            rules: rules.collect(),
        }
    });
    let broken = policies.broken.iter().map(|policy| PolicyTrace {
        policy: policy.name.to_string(),
        standing: match policy.might_apply(facts.namespace_labels) {
            true => Standing::Broken,
            false => Standing::BrokenElsewhere,
        },
        error: Some(policy.error.to_string()),
        rules: vec![],
    });
    let mut all: Vec<_> = ready.chain(broken).collect();
    all.sort_by(|a, b| a.policy.cmp(&b.policy));
    all
}

impl CompiledPolicy {
    /// The names of its rules, in its order.
    pub fn rule_names(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|rule| rule.rule.name.as_str())
    }
}

/// The derived tags if every tag of the request were a fact that everybody believes.
fn believed(facts: &Facts<'_>) -> Vec<DerivedTag> {
    let all = facts.tags().into_iter();
    all.map(|tag| DerivedTag { tag: tag.into(), policy: None, detail: String::new(), advisory: false }).collect()
}

fn trace(rule: &CompiledRule, facts: &Facts<'_>, judgement: Judgement<'_>, gullible: &Judgement<'_>) -> RuleTrace {
    let decision = rule.rule.decision;
    let matched = judgement.applies(decision);
    let otherwise = gullible.applies(decision) != matched;
    let (missed, failed) = match judgement {
        Judgement::Matches => (None, None),
        Judgement::Missed(missed) => (Some(words(missed, rule, facts)), None),
        Judgement::Unsure { part, error } => (unsure(decision, part, &error), Some(error)),
    };
    RuleTrace {
        rule: rule.rule.name.clone(),
        decision,
        matched,
        missed,
        hint: otherwise.then(|| hint(rule, facts, matched)).flatten(),
        failed,
    }
}

/// Why a rule does not match whose expression failed; none where it matches all the same.
fn unsure(decision: Decision, part: &str, error: &str) -> Option<String> {
    let effect = match decision {
        Decision::Allow => "so it allows nothing, and its bounds hold",
        Decision::RequireApproval => return None,
        Decision::Deny => "so nothing is approved until it is mended",
    };
    Some(format!("the expression of {part} failed, {effect}: {error}"))
}

fn words(missed: Missed<'_>, rule: &CompiledRule, facts: &Facts<'_>) -> String {
    let none = When::default();
    let when = rule.rule.when.as_ref().unwrap_or(&none);
    match missed {
        Missed::Tag(tag) => format!("riskTags: {tag} is not among {}", list(facts.tags())),
        Missed::AnyTag => {
            let wanted = when.any_risk_tags.iter().map(String::as_str);
            format!("anyRiskTags: none of {} is among {}", list(wanted), list(facts.tags()))
        }
        Missed::RequestedBy => {
            let patterns = when.requested_by.iter().map(String::as_str);
            format!("requestedBy: {} matches none of {}", facts.requested_by, list(patterns))
        }
        Missed::Requesters => {
            let wanted: Vec<_> = when.requesters.iter().map(Subject::describe).collect();
            let groups = facts.requester.groups.iter().map(String::as_str);
            format!(
                "requesters: {} (groups {}) is none of {}",
                facts.requester.username,
                list(groups),
                list(wanted.iter().map(String::as_str))
            )
        }
        Missed::Namespace => format!("namespaceSelector does not select the namespace {}", facts.namespace),
        Missed::Expression => "expression is false".into(),
        Missed::Unless => "exempted by unless".into(),
    }
}

/// What stands between a rule and its author's intent, where belief alone would turn it.
fn hint(rule: &CompiledRule, facts: &Facts<'_>, matched: bool) -> Option<String> {
    let part = if matched { rule.rule.unless.as_ref()? } else { rule.rule.when.as_ref()? };
    let wanted: BTreeSet<&str> = part.risk_tags.iter().chain(&part.any_risk_tags).map(String::as_str).collect();
    let everywhere = facts.tags();
    let of = |tag: &str, own: bool| {
        let believed = |d: &DerivedTag| d.policy.as_deref().is_none_or(|policy| !own || policy == &*rule.policy);
        facts.derived_tags.iter().any(|d| d.tag == tag && believed(d))
    };
    let unbelieved = wanted.into_iter().filter(|tag| everywhere.contains(tag) && !of(tag, true));
    let (others, declared): (Vec<&str>, Vec<&str>) = unbelieved.partition(|tag| of(tag, false));
    let what = if matched { "an unless" } else { "an Allow rule" };
    let effect = if matched { "would exempt it" } else { "would match" };
    if !declared.is_empty() {
        return Some(format!(
            "{effect} if {} were derived: a declared tag is a claim, and {what} believes facts only; add a classifier to this policy, or select by requesters or namespace",
            list(declared)
        ));
    }
    (!others.is_empty()).then(|| {
        format!(
            "{effect} if {} were derived by this policy: {what} believes its own classifiers and the built-in ones only; copy the classifier into this policy",
            list(others)
        )
    })
}

fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.into_iter().collect();
    let more = names.len().saturating_sub(MOST_NAMED);
    let shown = names.iter().take(MOST_NAMED).copied().collect::<Vec<_>>().join(", ");
    if more > 0 { format!("[{shown} and {more} more]") } else { format!("[{shown}]") }
}

#[cfg(test)]
#[path = "explain_tests.rs"]
pub(super) mod tests;
