//! What policy says of a Job or Pod that is being created, in words for whoever creates it. Pure.

use crate::admission::Caller;
use crate::api::Requester;
use crate::api::policy::Decision;
use crate::lifecycle::claims::Claims;
use crate::lifecycle::made_by_cron_job;
use crate::policy::{CompiledRule, Facts, JoinedWindow, Outcome, PolicySet, classify, evaluate};
use crate::risk::Work;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
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
    /// What it will run, and what stands around that.
    pub work: Option<Work<'a>>,
    /// The time.
    pub now: Timestamp,
}

/// How an object stands before policy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Standing {
    /// It is started without anybody's approval.
    Allowed,
    /// It waits: for what, in words that go on after "held".
    Held(String),
    /// It never runs.
    Denied {
        /// A rule that denies it, as `policy/name`.
        rule: String,
        /// In words that go on after "denied".
        how: String,
    },
}

impl Standing {
    /// Asks the policies about `object`, a `kind`.
    pub(super) fn of(kind: &str, object: &Value, claims: &Claims, context: &Context<'_>, policies: &PolicySet) -> Self {
        let namespace = context.namespace;
        let Some(labels) = context.labels else {
            // The namespace is younger than our cache. Nothing is lost: what is held is judged again when it is seen.
            return Self::Held(format!(" until approved: namespace {namespace} is new here; {}", see(namespace)));
        };
        let outcome = ask(kind, object, claims, context, labels, policies);
        let denying = |rule: &CompiledRule| {
            rule.rule.decision == Decision::Deny && (claims.request.is_none() || whatever_is_claimed(rule))
        };
        let denials: Vec<_> = outcome.matches.iter().filter(|rule| denying(rule)).collect();
        if let Some(first) = denials.first() {
            return Self::Denied { rule: format!("{}/{}", first.policy, first.rule.name), how: denied(&denials) };
        }
        if let Some(request) = &claims.request {
            return Self::Held(format!(" until request {request} in namespace {namespace} is approved"));
        }
        waiting(kind, namespace, &outcome, context.now)
    }
}

fn ask(
    kind: &str,
    object: &Value,
    claims: &Claims,
    context: &Context<'_>,
    labels: &BTreeMap<String, String>,
    policies: &PolicySet,
) -> Outcome {
    let metadata = |field: &str| object.get("metadata").and_then(|m| m.get(field)).and_then(Value::as_str);
    let name = metadata("name").filter(|n| !n.is_empty()).or_else(|| metadata("generateName")).unwrap_or_default();
    let caller = context.caller;
    let cron_job = made_by_cron_job(&caller.username, &owners(object));
    // As the operator will judge it, or a rule for the Jobs of CronJobs would act there and not here.
    let requested_by = claims.asked_by(cron_job.as_ref().map(|(_, name)| name.as_str()), kind, name);
    let requester =
        Requester { username: caller.username.clone(), uid: caller.uid.clone(), groups: caller.groups.clone() };
    let facts = Facts {
        requested_by: &requested_by,
        // A request that the object names makes its own claims; those beside its name are not used.
        declared_tags: if claims.request.is_none() { &claims.risk_tags } else { &[] },
        claims: &claims.document(&requested_by),
        derived_tags: &classify(policies, context.work.as_ref(), labels),
        requester: &requester,
        namespace: context.namespace,
        namespace_labels: labels,
        object: Some(object),
        asked: context.now,
    };
    evaluate(policies, &facts)
}

/// Who owns it. What cannot be read owns nothing, and the API server refuses it.
fn owners(object: &Value) -> Vec<OwnerReference> {
    let stored = object.pointer("/metadata/ownerReferences").cloned().unwrap_or_default();
    serde_json::from_value(stored).unwrap_or_default()
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

fn waiting(kind: &str, namespace: &str, outcome: &Outcome, now: Timestamp) -> Standing {
    if let Some(doubt) = outcome.doubts.first() {
        // Not what is wrong in the policy: that is for those who may read it.
        return Standing::Held(format!(
            ": policy {} {}, so nothing is approved; ask its owners to repair it",
            doubt.policy, doubt.what
        ));
    }
    match outcome.decision {
        None => Standing::Held(format!(": no policy has a rule for this {kind}; ask the platform team for one")),
        Some(Decision::Allow) => match not_yet(outcome, now) {
            Some(why) => Standing::Held(format!(": it is allowed, and {why}; {}", see(namespace))),
            None => Standing::Allowed,
        },
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

/// What keeps even what is allowed from starting at once.
fn not_yet(outcome: &Outcome, now: Timestamp) -> Option<String> {
    let holding = outcome.windows.iter().find(|window| window.compiled().holds_until(now).is_some());
    match (holding, outcome.not_before_seconds) {
        (Some(JoinedWindow { rule, .. }), _) => {
            let name = &holding?.window().name;
            Some(format!("waits for the end of freeze window {name} of rule {}/{}", rule.policy, rule.rule.name))
        }
        (None, Some(seconds)) => Some(format!("starts no sooner than {seconds} s from now")),
        (None, None) => None,
    }
}

fn see(namespace: &str) -> String {
    format!("see kubectl get apr -n {namespace}")
}
