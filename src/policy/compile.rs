//! From a stored policy to rules that can be matched, or to the field that is wrong.

use crate::api::policy::{ApprovalPolicySpec, Match};
use crate::api::{Classifier, Exclude, LabelSelector, Rule, When};
use crate::policy::window::never_opens;
use crate::policy::{Expression, Window, validate};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Why a policy does not compile: which field, and what to change.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct PolicyError {
    /// Path of the field, such as `spec.rules[prod-write].approvals`.
    pub field: String,
    /// What is wrong and what to do.
    pub problem: String,
}

impl PolicyError {
    pub(super) fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

/// A policy that can be evaluated.
#[derive(Clone, Debug)]
pub struct CompiledPolicy {
    /// The policy's name.
    pub name: Arc<str>,
    pub(super) selector: Option<LabelSelector>,
    /// What derives tags for it.
    pub(super) classifiers: Vec<Classifier>,
    /// Its rules.
    pub rules: Vec<Arc<CompiledRule>>,
    /// Where they stand in the order of their names.
    pub(super) by_name: Arc<[usize]>,
}

/// A rule that can be matched, beside its stored form.
#[derive(Debug)]
pub struct CompiledRule {
    /// Name of the policy it belongs to.
    pub policy: Arc<str>,
    /// The rule.
    pub rule: Rule,
    /// The rule as stored, in full: what a snapshot holds.
    pub stored: Value,
    /// Who last changed the policy, where admission stamped that.
    pub editor: Option<Arc<str>>,
    pub(super) when: Option<Expression>,
    pub(super) unless: Option<Expression>,
    /// Its freeze windows, in their order.
    pub(super) windows: Vec<Window>,
}

impl CompiledRule {
    pub(super) fn excludes(&self, who: Exclude) -> bool {
        self.rule.approvals.as_ref().is_some_and(|a| a.exclude.contains(&who))
    }
}

/// A policy that does not compile. Nothing it might cover is approved.
#[derive(Clone, Debug)]
pub struct BrokenPolicy {
    /// The policy's name.
    pub name: Arc<str>,
    /// Where it applies, if that much could be read; else everywhere.
    pub(super) selector: Option<LabelSelector>,
    /// What is wrong.
    pub error: PolicyError,
}

/// Every policy in the cluster, compiled.
#[derive(Clone, Debug, Default)]
pub struct PolicySet {
    /// Policies in force.
    pub ready: Vec<Arc<CompiledPolicy>>,
    /// Policies that do not compile.
    pub broken: Vec<Arc<BrokenPolicy>>,
}

impl CompiledPolicy {
    /// Whether it applies in a namespace with these labels. Elsewhere it says nothing.
    pub(crate) fn applies(&self, namespace_labels: &BTreeMap<String, String>) -> bool {
        self.selector.as_ref().is_none_or(|selector| selector.matches(namespace_labels))
    }
}

impl BrokenPolicy {
    /// Whether it might apply in a namespace with these labels. Elsewhere it says nothing.
    pub(crate) fn might_apply(&self, namespace_labels: &BTreeMap<String, String>) -> bool {
        self.selector.as_ref().is_none_or(|selector| selector.matches(namespace_labels))
    }
}

/// Compiles the policy `name` from its `spec` as stored, last changed by `editor`. Fields this version does not know are an
/// error: they might restrict what it would otherwise allow.
pub fn compile(name: &str, spec: &Value, editor: Option<&str>) -> Result<CompiledPolicy, Box<BrokenPolicy>> {
    let broken = |error| Box::new(BrokenPolicy { name: name.into(), selector: readable_selector(spec), error });
    let parsed: ApprovalPolicySpec = serde_path_to_error::deserialize(spec)
        .map_err(|e| broken(PolicyError::new(format!("spec.{}", e.path()), e.inner().to_string())))?;
    validate::policy(name, &parsed).map_err(broken)?;
    let policy: Arc<str> = name.into();
    let editor: Option<Arc<str>> = editor.filter(|editor| !editor.is_empty()).map(Arc::from);
    let stored = spec.get("rules").and_then(Value::as_array).cloned().unwrap_or_default();
    let rules = parsed.rules.into_iter().zip(stored);
    let rules = rules.map(|(rule, stored)| compile_rule(&policy, editor.clone(), rule, stored).map(Arc::new));
    let rules: Vec<_> = rules.collect::<Result<_, _>>().map_err(broken)?;
    let mut by_name: Vec<usize> = (0..rules.len()).collect();
    by_name.sort_by_key(|at| &rules[*at].rule.name);
    Ok(CompiledPolicy {
        name: policy.clone(),
        selector: parsed.match_.and_then(|m| m.namespace_selector),
        classifiers: parsed.classifiers,
        by_name: by_name.into(),
        rules,
    })
}

fn compile_rule(
    policy: &Arc<str>,
    editor: Option<Arc<str>>,
    rule: Rule,
    stored: Value,
) -> Result<CompiledRule, PolicyError> {
    let at = format!("spec.rules[{}]", rule.name);
    let expression = |part: &str, when: Option<&When>| {
        let text = when.and_then(|w| w.expression.as_deref());
        let compiled = text.map(|text| Expression::compile(text, rule.trust_claims)).transpose();
        compiled.map_err(|e| PolicyError::new(format!("{at}.{part}.expression"), e.to_string()))
    };
    let windows = rule.freeze_windows.iter().map(|window| {
        let field = |field: &str| format!("{at}.freezeWindows[{}].{field}", window.name);
        Window::compile(window).map_err(|(name, problem)| PolicyError::new(field(name), problem))
    });
    let windows: Vec<Window> = windows.collect::<Result<_, _>>()?;
    if windows.len() > 1 && never_opens(&windows.iter().collect::<Vec<_>>()) {
        let problem = "leave no time at which none of them holds, or none for a year; shorten one of them";
        return Err(PolicyError::new(format!("{at}.freezeWindows"), problem));
    }
    Ok(CompiledRule {
        policy: policy.clone(),
        editor,
        when: expression("when", rule.when.as_ref())?,
        unless: expression("unless", rule.unless.as_ref())?,
        windows,
        stored,
        rule,
    })
}

/// Where a policy that does not compile would apply, if at least that part is sound.
fn readable_selector(spec: &Value) -> Option<LabelSelector> {
    let matched: Match = serde_json::from_value(spec.get("match")?.clone()).ok()?;
    let selector = matched.namespace_selector?;
    validate::selector("", &selector).ok()?;
    Some(selector)
}
