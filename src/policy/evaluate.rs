//! Matching: every rule of every policy against what is known of one request.

use crate::api::policy::Decision;
use crate::api::{Requester, When};
use crate::policy::outcome::{Failure, Matched};
use crate::policy::{Budget, CompiledPolicy, CompiledRule, Doubt, Environment, Expression, Outcome, PolicySet, glob};
use jiff::Timestamp;
use serde_json::Value;
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// A risk tag seen in what will run.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct DerivedTag {
    /// The tag.
    pub tag: String,
    /// The policy whose classifier derived it; none for a built-in classifier.
    pub policy: Option<String>,
    /// Why it applies.
    pub detail: String,
    /// Whether the cluster does not enforce what it rests on.
    pub advisory: bool,
}

/// What is known of a request. The first three fields are the requester's claims, the rest are facts.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Claim: the workflow's name.
    pub requested_by: &'a str,
    /// Claim: declared risk tags.
    pub declared_tags: &'a [String],
    /// Claim: all that is asked, as the spec of a request has it; what expressions see as `claims`.
    pub claims: &'a Value,
    /// Risk tags seen in what will run (see [`classify`](crate::policy::classify)).
    pub derived_tags: &'a [DerivedTag],
    /// The authenticated requester.
    pub requester: &'a Requester,
    /// The request's namespace.
    pub namespace: &'a str,
    /// Labels of the request's namespace.
    pub namespace_labels: &'a BTreeMap<String, String>,
    /// The Job or Pod that will run, with `apiVersion`, `kind`, `metadata` and `spec`; none where there is to be none, and
    /// [`UNSEEN`] where there is to be one that nobody has seen.
    pub object: Option<&'a Value>,
    /// When it was asked.
    pub asked: Timestamp,
}

/// A Job or Pod that nobody has seen: it is not there yet, or nothing is known of it any more. It has no derived tags, and an
/// expression that asks for it fails, so that nothing is denied for what it may turn out to be.
pub const UNSEEN: &Value = &Value::Null;

/// Evaluates every policy against the facts of one request. Total: it never fails and never panics.
pub fn evaluate(policies: &PolicySet, facts: &Facts<'_>) -> Outcome {
    let views = Views::new(facts);
    let mut found = Matched::default();
    for policy in policies.ready.iter().filter(|policy| policy.applies(facts.namespace_labels)) {
        for (rule, judgement) in policy.rules.iter().zip(views.judge(policy)) {
            if judgement.applies(rule.rule.decision) {
                found.rules.push(Arc::clone(rule));
            }
            if let Judgement::Unsure { error, .. } = judgement {
                found.failures.push(Failure { rule: Arc::clone(rule), error });
            }
        }
    }
    let broken = policies.broken.iter().filter(|policy| policy.might_apply(facts.namespace_labels));
    found.doubts = broken.map(|policy| Doubt::broken(&policy.name, &policy.error)).collect();
    Outcome::join(found)
}

/// Why an `unless` that asks for tags is not judged without the object: a tag that is not there may be derived yet.
const UNSEEN_TAGS: &str = "the Job or Pod has not been seen, and its tags are derived from it";

/// The part of a rule by which it does not match.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Missed<'a> {
    /// This tag of `riskTags`.
    Tag(&'a str),
    /// All of `anyRiskTags`.
    AnyTag,
    /// `requestedBy`.
    RequestedBy,
    /// `requesters`.
    Requesters,
    /// `namespaceSelector`.
    Namespace,
    /// `expression` is false.
    Expression,
    /// All of `unless` holds.
    Unless,
}

/// Whether a rule matches.
#[derive(Debug)]
pub(super) enum Judgement<'r> {
    /// It does.
    Matches,
    /// It does not, by this part.
    Missed(Missed<'r>),
    /// Nobody can tell: the expression of this part failed, and nothing else keeps the rule from matching.
    Unsure {
        /// `when` or `unless`.
        part: &'static str,
        /// What went wrong.
        error: String,
    },
}

impl Judgement<'_> {
    /// Whether a rule with that decision counts among those that match. What is unsure is taken on the safe side: it asks
    /// for approval, allows nothing, and does not deny for good.
    pub(super) fn applies(&self, decision: Decision) -> bool {
        match self {
            Self::Matches => true,
            Self::Missed(_) => false,
            Self::Unsure { .. } => decision == Decision::RequireApproval,
        }
    }
}

/// Whether `when` or `unless` holds: a failing expression is neither true nor false.
enum Truth<'r> {
    Holds,
    Not(Missed<'r>),
    Fails(String),
}

/// The facts as the parts of rules may see them.
pub(super) struct Views<'a> {
    facts: &'a Facts<'a>,
    /// Every tag that applies, by its name: rules ask for many.
    tags: HashMap<&'a str, Sources<'a>>,
    /// What expressions see: of facts alone, and with claims. Made when the first one asks.
    environments: [OnceCell<Environment<'a>>; 2],
}

/// Who says that a tag applies.
#[derive(Default)]
struct Sources<'a> {
    /// The requester.
    declared: bool,
    /// A built-in classifier.
    built_in: bool,
    /// Policies, by their classifiers.
    policies: HashSet<&'a str>,
}

impl<'a> Views<'a> {
    pub(super) fn new(facts: &'a Facts<'a>) -> Self {
        let mut tags: HashMap<&str, Sources<'_>> = HashMap::new();
        for tag in facts.declared_tags {
            tags.entry(tag).or_default().declared = true;
        }
        for derived in facts.derived_tags {
            let sources = tags.entry(&derived.tag).or_default();
            match &derived.policy {
                Some(policy) => _ = sources.policies.insert(policy),
                None => sources.built_in = true,
            }
        }
        Self { facts, tags, environments: [OnceCell::new(), OnceCell::new()] }
    }

    /// Whether each rule of a policy matches, in their order. Its expressions share one budget. Who comes first gets it, so
    /// they take turns by name: a policy whose rules are put in another order says the same. What is left without fails,
    /// which is on the safe side.
    pub(super) fn judge<'r>(&self, policy: &'r CompiledPolicy) -> Vec<Judgement<'r>> {
        let mut budget = Budget::default();
        let turns = policy.by_name.iter().map(|at| (*at, self.rule(&policy.rules[*at], &mut budget)));
        let mut judged: Vec<_> = turns.collect();
        judged.sort_unstable_by_key(|(at, _)| *at);
        judged.into_iter().map(|(_, judgement)| judgement).collect()
    }

    /// Whether a rule matches. What loosens the gate rests on facts: an Allow and every `unless`, unless the rule trusts
    /// claims. An expression can turn any claim either way, so that without trust none sees claims at all.
    ///
    /// An expression that fails never loosens, wherever it stands: an Allow rule does not match then, a RequireApproval rule
    /// does, and a Deny rule, whose word would be final, leaves the request in doubt. What does not depend on it is judged as
    /// ever, so that a rule which misses by another part, or is exempted by a sound `unless`, does not match and has not
    /// failed.
    fn rule<'r>(&self, compiled: &'r CompiledRule, budget: &mut Budget) -> Judgement<'r> {
        let rule = &compiled.rule;
        let tightens = self.view(compiled, rule.decision != Decision::Allow);
        let when = rule.when.as_ref().map(|part| tightens.truth(part, compiled.when.as_ref(), budget));
        if let Some(Truth::Not(missed)) = when {
            return Judgement::Missed(missed);
        }
        let loosens = self.view(compiled, false);
        let unless = rule.unless.as_ref().map(|part| match loosens.truth(part, compiled.unless.as_ref(), budget) {
            Truth::Not(Missed::Tag(_) | Missed::AnyTag) if self.unseen() => Truth::Fails(UNSEEN_TAGS.into()),
            truth => truth,
        });
        match (when, unless) {
            (_, Some(Truth::Holds)) => Judgement::Missed(Missed::Unless),
            (Some(Truth::Fails(error)), _) => Judgement::Unsure { part: "when", error },
            (_, Some(Truth::Fails(error))) => Judgement::Unsure { part: "unless", error },
            _ => Judgement::Matches,
        }
    }

    fn unseen(&self) -> bool {
        self.facts.object.is_some_and(Value::is_null)
    }

    fn view<'v>(&'v self, compiled: &'v CompiledRule, tightens: bool) -> View<'v, 'a> {
        let trusting = compiled.rule.trust_claims;
        View {
            views: self,
            claims: tightens || trusting,
            // Another policy's classifier could weaken this one.
            policy: (!tightens && !trusting).then_some(&compiled.policy),
            trusting,
        }
    }

    fn environment(&self, trusting: bool) -> &Environment<'a> {
        self.environments[usize::from(trusting)].get_or_init(|| Environment::new(self.facts, trusting))
    }
}

/// The facts as one part of a rule may see them.
struct View<'v, 'a> {
    views: &'v Views<'a>,
    /// Whether claims are believed.
    claims: bool,
    /// The only policy whose classifiers are believed, beside the built-in ones.
    policy: Option<&'v str>,
    /// Whether expressions see claims.
    trusting: bool,
}

impl View<'_, '_> {
    fn has(&self, tag: &str) -> bool {
        self.views.tags.get(tag).is_some_and(|sources| {
            let derived = || match self.policy {
                Some(own) => sources.policies.contains(own),
                None => !sources.policies.is_empty(),
            };
            (self.claims && sources.declared) || sources.built_in || derived()
        })
    }

    /// Whether all parts hold, or the first that does not, cheap ones first.
    fn truth<'r>(&self, part: &'r When, expression: Option<&Expression>, budget: &mut Budget) -> Truth<'r> {
        if let Some(missed) = self.missed(part) {
            return Truth::Not(missed);
        }
        match expression.map(|e| e.holds(self.views.environment(self.trusting), budget)) {
            None | Some(Ok(true)) => Truth::Holds,
            Some(Ok(false)) => Truth::Not(Missed::Expression),
            Some(Err(error)) => Truth::Fails(error),
        }
    }

    /// The first part that does not hold, the expression aside.
    fn missed<'r>(&self, when: &'r When) -> Option<Missed<'r>> {
        let Facts { requester, namespace_labels, requested_by, .. } = self.views.facts;
        if let Some(tag) = when.risk_tags.iter().find(|tag| !self.has(tag)) {
            return Some(Missed::Tag(tag));
        }
        if !when.any_risk_tags.is_empty() && !when.any_risk_tags.iter().any(|tag| self.has(tag)) {
            return Some(Missed::AnyTag);
        }
        let asked_by = || self.claims && when.requested_by.iter().any(|p| glob::matches(p, requested_by));
        if !when.requested_by.is_empty() && !asked_by() {
            return Some(Missed::RequestedBy);
        }
        let covered = || when.requesters.iter().any(|s| s.covers(&requester.username, &requester.groups));
        if !when.requesters.is_empty() && !covered() {
            return Some(Missed::Requesters);
        }
        let elsewhere = when.namespace_selector.as_ref().is_some_and(|s| !s.matches(namespace_labels));
        elsewhere.then_some(Missed::Namespace)
    }
}

impl Facts<'_> {
    /// Every tag that applies, declared or derived, sorted.
    pub fn tags(&self) -> BTreeSet<&str> {
        let derived = self.derived_tags.iter().map(|d| d.tag.as_str());
        self.declared_tags.iter().map(String::as_str).chain(derived).collect()
    }
}
