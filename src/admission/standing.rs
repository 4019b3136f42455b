//! What policy says of a Job or Pod that is being created, in words for whoever creates it. Pure.

use crate::admission::Caller;
use crate::api::Requester;
use crate::api::policy::Decision;
use crate::lifecycle::claims::{Claims, default_requested_by};
use crate::policy::{CompiledRule, Facts, Outcome, PolicySet, evaluate};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most rules that one message names.
const MOST_RULES: usize = 3;

/// What a verdict on a new Job or Pod rests on beside the object.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Who creates it.
    pub caller: &'a Caller,
    /// The namespace it comes to.
    pub namespace: &'a str,
    /// The namespace's labels; none where the namespace is not known yet.
    pub labels: Option<&'a BTreeMap<String, String>>,
    /// Every policy; none while they have not all been read.
    pub policies: Option<&'a PolicySet>,
}

/// How an object stands before policy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Standing {
    /// It is started without anybody's approval.
    Allowed,
    /// It waits: for what, in words that go on after "held".
    Held(String),
    /// It never runs: in words that go on after "denied".
    Denied(String),
}

impl Standing {
    /// Asks the policies about `object`, a `kind`.
    pub(super) fn of(kind: &str, object: &Value, claims: &Claims, context: &Context<'_>, policies: &PolicySet) -> Self {
        let namespace = context.namespace;
        let Some(labels) = context.labels else {
            // The namespace is younger than our cache. Nothing is lost: what is held is judged again when it is seen.
            return Self::Held(format!(" until approved: namespace {namespace} is new here; {}", see(namespace)));
        };
        let outcome = ask(kind, object, claims, context.caller, labels, policies);
        let denying = |rule: &CompiledRule| {
            rule.rule.decision == Decision::Deny && (claims.request.is_none() || whatever_is_claimed(rule))
        };
        let denials: Vec<_> = outcome.matches.iter().filter(|rule| denying(rule)).collect();
        if !denials.is_empty() {
            return Self::Denied(denied(&denials));
        }
        if let Some(request) = &claims.request {
            return Self::Held(format!(" until request {request} in namespace {namespace} is approved"));
        }
        waiting(kind, namespace, &outcome)
    }
}

fn ask(
    kind: &str,
    object: &Value,
    claims: &Claims,
    caller: &Caller,
    labels: &BTreeMap<String, String>,
    policies: &PolicySet,
) -> Outcome {
    let metadata = |field: &str| object.get("metadata").and_then(|m| m.get(field)).and_then(Value::as_str);
    let name = metadata("name").filter(|n| !n.is_empty()).or_else(|| metadata("generateName")).unwrap_or_default();
    let requested_by = claims.requested_by.clone().unwrap_or_else(|| default_requested_by(kind, name));
    let requester =
        Requester { username: caller.username.clone(), uid: caller.uid.clone(), groups: caller.groups.clone() };
    let facts = Facts {
        requested_by: &requested_by,
        // A request that the object names makes its own claims; those beside its name are not used.
        declared_tags: if claims.request.is_none() { &claims.risk_tags } else { &[] },
        derived_tags: &[],
        requester: &requester,
        namespace_labels: labels,
    };
    evaluate(policies, &facts)
}

/// Whether a rule that matched without declared tags also matches with any other claims: tags only ever add matches.
fn whatever_is_claimed(rule: &CompiledRule) -> bool {
    !rule.rule.trust_claims && rule.rule.when.as_ref().is_none_or(|when| when.requested_by.is_empty())
}

fn denied(rules: &[&Arc<CompiledRule>]) -> String {
    let said = |rule: &&Arc<CompiledRule>| {
        let reason = rule.rule.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        format!("{}/{}{reason}", rule.policy, rule.rule.name)
    };
    let all: Vec<String> = rules.iter().take(MOST_RULES).map(said).collect();
    let more = if rules.len() > MOST_RULES { format!(" and {} more", rules.len() - MOST_RULES) } else { String::new() };
    format!(" by rule {}{more}", all.join("; and by rule "))
}

fn waiting(kind: &str, namespace: &str, outcome: &Outcome) -> Standing {
    if let Some((policy, _)) = outcome.not_ready.first() {
        // The name alone: what is wrong in the policy is for those who may read it.
        return Standing::Held(format!(
            ": policy {policy} does not compile and might apply, so nothing is approved; ask its owners to repair it"
        ));
    }
    match outcome.decision {
        None => Standing::Held(format!(": no policy has a rule for this {kind}; ask the platform team for one")),
        Some(Decision::Allow) => Standing::Allowed,
        Some(decision) => {
            let rules = outcome.matches.iter().filter(|rule| rule.rule.decision == decision);
            let names: Vec<String> =
                rules.take(MOST_RULES).map(|rule| format!("{}/{}", rule.policy, rule.rule.name)).collect();
            let (s, require) = if names.len() == 1 { ("", "requires") } else { ("s", "require") };
            let (names, see) = (names.join(", "), see(namespace));
            Standing::Held(format!(" until approved: rule{s} {names} {require} approval; {see}"))
        }
    }
}

fn see(namespace: &str) -> String {
    format!("see kubectl get apr -n {namespace}")
}
