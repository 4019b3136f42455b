//! From a stored policy to rules that can be matched, or to the field that is wrong.

use crate::api::policy::{ApprovalPolicySpec, Match};
use crate::api::{LabelSelector, Rule};
use crate::policy::validate;
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
    /// Its rules.
    pub rules: Vec<Arc<CompiledRule>>,
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
    pub(super) fn applies(&self, namespace_labels: &BTreeMap<String, String>) -> bool {
        self.selector.as_ref().is_none_or(|selector| selector.matches(namespace_labels))
    }
}

impl BrokenPolicy {
    pub(super) fn might_apply(&self, namespace_labels: &BTreeMap<String, String>) -> bool {
        self.selector.as_ref().is_none_or(|selector| selector.matches(namespace_labels))
    }
}

/// Compiles the policy `name` from its `spec` as stored. Fields this version does not know are an error: they might
/// restrict what it would otherwise allow.
pub fn compile(name: &str, spec: &Value) -> Result<CompiledPolicy, Box<BrokenPolicy>> {
    let broken = |error| Box::new(BrokenPolicy { name: name.into(), selector: readable_selector(spec), error });
    let parsed: ApprovalPolicySpec = serde_path_to_error::deserialize(spec)
        .map_err(|e| broken(PolicyError::new(format!("spec.{}", e.path()), e.inner().to_string())))?;
    validate::policy(&parsed).map_err(broken)?;
    let policy: Arc<str> = name.into();
    let stored = spec.get("rules").and_then(Value::as_array).cloned().unwrap_or_default();
    let rules = parsed
        .rules
        .into_iter()
        .zip(stored)
        .map(|(rule, stored)| Arc::new(CompiledRule { policy: policy.clone(), rule, stored }))
        .collect();
    Ok(CompiledPolicy { name: policy, selector: parsed.match_.and_then(|m| m.namespace_selector), rules })
}

/// Where a policy that does not compile would apply, if at least that part is sound.
fn readable_selector(spec: &Value) -> Option<LabelSelector> {
    let matched: Match = serde_json::from_value(spec.get("match")?.clone()).ok()?;
    let selector = matched.namespace_selector?;
    validate::selector("", &selector).ok()?;
    Some(selector)
}
