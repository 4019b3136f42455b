//! Two outcomes of the same request: what differs, and whether the second one is weaker.

use crate::api::policy::Decision;
use crate::api::{Classifier, Constraints, FreezeWindow, SelfApproval, Subject, When};
use crate::policy::{CompiledPolicy, JoinedRequirement, Outcome, PolicySet};
use serde::Serialize;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One thing that differs between two outcomes.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// What differs, as the API calls it: `decision`, `requirements`, `constraints.maxRuntimeSeconds`, …
    pub what: String,
    /// How it was; empty where it was not there.
    pub before: String,
    /// How it is; empty where it is gone.
    pub after: String,
    /// Whether it asks less than before, or may: what cannot be compared counts as weaker.
    pub weaker: bool,
}

/// Everything in which `after` differs from `before`. The order is that of the join: what one rule more can bring about is
/// never weaker, an Allow where nothing matched aside. That one is: what was held would run.
pub fn compare(before: &Outcome, after: &Outcome) -> Vec<Difference> {
    let mut found = Comparison { found: vec![], denies: after.decision == Some(Decision::Deny) };
    found.decision(before.decision, after.decision);
    found.rules(before, after);
    found.doubts(before, after);
    // Nobody is asked where nothing is approved.
    if after.decision != Some(Decision::Deny) {
        found.people(before, after);
    }
    found.bounds(&before.constraints, &after.constraints);
    found.time(before, after);
    found.demands(before, after);
    found.found
}

/// Whether the tags that stand on a request are all that both sets look at of its Job or Pod, in a namespace with these
/// labels: without expressions, and with the same classifiers in both.
pub fn tags_suffice(before: &PolicySet, after: &PolicySet, labels: &BTreeMap<String, String>) -> bool {
    let here = |set: &PolicySet| -> Vec<Arc<CompiledPolicy>> {
        set.ready.iter().filter(|policy| policy.applies(labels)).cloned().collect()
    };
    let (before, after) = (here(before), here(after));
    let expression = |when: &Option<When>| when.as_ref().is_some_and(|when| when.expression.is_some());
    let expressions = |policy: &Arc<CompiledPolicy>| {
        policy.rules.iter().any(|rule| expression(&rule.rule.when) || expression(&rule.rule.unless))
    };
    let derives = |policies: &[Arc<CompiledPolicy>]| -> BTreeMap<Arc<str>, Vec<Classifier>> {
        let some = policies.iter().filter(|policy| !policy.classifiers.is_empty());
        some.map(|policy| (policy.name.clone(), policy.classifiers.clone())).collect()
    };
    !before.iter().chain(&after).any(expressions) && derives(&before) == derives(&after)
}

/// Whether `after` is weaker than `before` in at least one respect.
pub fn weaker(before: &Outcome, after: &Outcome) -> bool {
    compare(before, after).iter().any(|difference| difference.weaker)
}

/// The decision, for a person: `NoMatch` where no rule matches.
pub fn decision_name(decision: Option<Decision>) -> &'static str {
    match decision {
        None => "NoMatch",
        Some(Decision::Allow) => "Allow",
        Some(Decision::RequireApproval) => "RequireApproval",
        Some(Decision::Deny) => "Deny",
    }
}

struct Comparison {
    found: Vec<Difference>,
    /// Whether nothing runs any more: then no bound on what runs is weaker.
    denies: bool,
}

impl Comparison {
    fn note(&mut self, what: impl Into<String>, before: String, after: String, weaker: bool) {
        if before != after {
            self.found.push(Difference { what: what.into(), before, after, weaker });
        }
    }

    fn decision(&mut self, before: Option<Decision>, after: Option<Decision>) {
        let opened = before.is_none() && after == Some(Decision::Allow);
        self.note("decision", decision_name(before).into(), decision_name(after).into(), opened || after < before);
    }

    fn rules(&mut self, before: &Outcome, after: &Outcome) {
        let names = |o: &Outcome| -> BTreeSet<String> {
            o.matches.iter().map(|m| format!("{}/{}", m.policy, m.rule.name)).collect()
        };
        let (before, after) = (names(before), names(after));
        // That a rule comes or goes is no weakness by itself: what it says shows in the rest.
        for gone in before.difference(&after) {
            self.note("rules", gone.clone(), String::new(), false);
        }
        for new in after.difference(&before) {
            self.note("rules", String::new(), new.clone(), false);
        }
    }

    fn doubts(&mut self, before: &Outcome, after: &Outcome) {
        let text = |o: &Outcome| {
            o.doubts
                .iter()
                .map(|d| format!("policy {} {}: {}", d.policy, d.what, d.error))
                .collect::<Vec<_>>()
                .join("; ")
        };
        // What held everything holds nothing any more.
        let lifted = after.doubts.is_empty() && !before.doubts.is_empty() && !self.denies;
        self.note("held", text(before), text(after), lifted);
    }

    fn people(&mut self, before: &Outcome, after: &Outcome) {
        self.requirements(&before.requirements, &after.requirements);
        // Who approves an Allow, and who may stop it, was never asked.
        let asked = before.decision == Some(Decision::RequireApproval) && after.decision == before.decision;
        self.note(
            "denials",
            before.denials.to_string(),
            after.denials.to_string(),
            asked && after.denials > before.denials,
        );
        let own = |o: &Outcome| match o.self_approval {
            SelfApproval::Allow => "Allow".to_string(),
            SelfApproval::Forbid => "Forbid".to_string(),
        };
        let looser = after.self_approval > before.self_approval;
        self.note("selfApproval", own(before), own(after), asked && looser);
        self.flag("excludeJobCreator", before.exclude_creator, after.exclude_creator);
        let editors = |o: &Outcome| o.exclude_editors.iter().map(|p| &**p).collect::<Vec<_>>().join(", ");
        let fewer = !before.exclude_editors.is_subset(&after.exclude_editors);
        self.note("excludeEditorsOf", editors(before), editors(after), fewer);
        self.flag("requireComment", before.require_comment, after.require_comment);
    }

    fn requirements(&mut self, before: &[JoinedRequirement], after: &[JoinedRequirement]) {
        let of =
            |all: &[JoinedRequirement], who: &[Subject]| all.iter().find(|r| r.approvers == who).map_or(0, |r| r.count);
        let sets: BTreeSet<&Vec<Subject>> = before.iter().chain(after).map(|r| &r.approvers).collect();
        for who in sets {
            let (then, now) = (of(before, who), of(after, who));
            let names = who.iter().map(Subject::describe).collect::<Vec<_>>().join(" or ");
            let text = |n: i32| if n == 0 { String::new() } else { format!("{n} from {names}") };
            self.note("requirements", text(then), text(now), now < then);
        }
    }

    fn bounds(&mut self, before: &Constraints, after: &Constraints) {
        self.bound("maxRuntimeSeconds", before.max_runtime_seconds, after.max_runtime_seconds);
        self.bound("maxRetries", before.max_retries, after.max_retries);
        self.bound("maxParallelism", before.max_parallelism, after.max_parallelism);
        let quantity = |q: &Option<crate::api::Quantity>| q.clone().map(Amount);
        self.bound("maxCpu", quantity(&before.max_cpu), quantity(&after.max_cpu));
        self.bound("maxMemory", quantity(&before.max_memory), quantity(&after.max_memory));
        let names: BTreeSet<&String> = before.limits.keys().chain(after.limits.keys()).collect();
        for name in names {
            let limit = |c: &Constraints| c.limits.get(name).map(|l| l.0);
            self.bound(&format!("limits.{name}"), limit(before), limit(after));
        }
    }

    /// An upper bound: absent is the weakest.
    fn bound<T: Ord + ToString>(&mut self, name: &str, before: Option<T>, after: Option<T>) {
        let looser = match (&before, &after) {
            (Some(before), Some(after)) => after > before,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if before == after {
            return;
        }
        let text = |bound: Option<T>| bound.map(|b| b.to_string()).unwrap_or_default();
        self.note(format!("constraints.{name}"), text(before), text(after), looser && !self.denies);
    }

    fn time(&mut self, before: &Outcome, after: &Outcome) {
        let seconds = |n: Option<i64>| n.map(|n| n.to_string()).unwrap_or_default();
        let (then, now) = (before.not_before_seconds, after.not_before_seconds);
        self.note("notBeforeSeconds", seconds(then), seconds(now), now < then && !self.denies);
        self.windows(before, after);
        let asked = before.decision == Some(Decision::RequireApproval) && after.decision == before.decision;
        for (name, then, now) in [
            ("pendingTimeoutSeconds", before.pending_timeout_seconds, after.pending_timeout_seconds),
            ("releaseTimeoutSeconds", before.release_timeout_seconds, after.release_timeout_seconds),
        ] {
            self.note(name, then.to_string(), now.to_string(), asked && now > then);
        }
    }

    fn windows(&mut self, before: &Outcome, after: &Outcome) {
        let all = |o: &Outcome| o.windows.iter().map(|w| w.window().clone()).collect::<BTreeSet<_>>();
        let (before, after) = (all(before), all(after));
        for gone in before.difference(&after) {
            let kept = after.iter().any(|window| holds_as_long(gone, window));
            self.note("freezeWindows", describe(gone), String::new(), !kept && !self.denies);
        }
        for new in after.difference(&before) {
            self.note("freezeWindows", String::new(), describe(new), false);
        }
    }

    fn demands(&mut self, before: &Outcome, after: &Outcome) {
        self.flag("requireImmutableInputs", before.require_immutable_inputs, after.require_immutable_inputs);
        self.flag("requireImageDigests", before.require_image_digests, after.require_image_digests);
        let text = |o: &Outcome| o.on_denied.map(|d| format!("{d:?}")).unwrap_or_default();
        self.note("onDenied", text(before), text(after), after.on_denied < before.on_denied);
    }

    /// Something that is demanded or not.
    fn flag(&mut self, name: &str, before: bool, after: bool) {
        self.note(name, before.to_string(), after.to_string(), before && !after && !self.denies);
    }
}

/// A quantity, written as it was read, and compared by value alone.
struct Amount(crate::api::Quantity);

impl PartialEq for Amount {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Amount {}

impl PartialOrd for Amount {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Amount {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.exceeds(&other.0).cmp(&other.0.exceeds(&self.0))
    }
}

impl std::fmt::Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.as_str())
    }
}

/// Whether `after` begins when `before` does, lasts at least as long, and lets nobody else pass.
fn holds_as_long(before: &FreezeWindow, after: &FreezeWindow) -> bool {
    (&before.start, &before.time_zone) == (&after.start, &after.time_zone)
        && after.duration_seconds >= before.duration_seconds
        && after.may_pass.iter().all(|subject| before.may_pass.contains(subject))
}

fn describe(window: &FreezeWindow) -> String {
    let passers = window.may_pass.iter().map(Subject::describe).collect::<Vec<_>>().join(" or ");
    let pass = if passers.is_empty() { String::new() } else { format!(", passed by {passers}") };
    let FreezeWindow { name, start, duration_seconds, time_zone, .. } = window;
    format!("{name} ({start} {time_zone}, {duration_seconds} s{pass})")
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
