//! Expectations, and what was found instead.

use crate::api::{Constraints, Decision, Subject};
use crate::cli::policy::fixture::{DecisionHere, Expect, Needed, Release, Rules};
use crate::cli::policy::judge::Judged;
use crate::lifecycle::missing;
use crate::policy::{JoinedRequirement, Outcome, PolicySet, decision_name};
use anyhow::ensure;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// An expectation that does not hold.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Failure {
    /// Which one, as the fixture calls it.
    pub what: String,
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub found: String,
}

impl Expect {
    /// Whether it expects something, and nothing that excludes the rest.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(*self != Self::default(), "is empty, so that the test could not fail; name an expectation");
        let alone = Self { error: self.error.clone(), ..Self::default() };
        let policy_error = self.error.is_some();
        ensure!(
            !policy_error || *self == alone,
            "error: stands alone: where a policy does not compile, nothing else is certain"
        );
        for (what, text) in [("missing", &self.missing), ("held", &self.held), ("error", &self.error)] {
            let blank = text.as_ref().is_some_and(|text| text.trim().is_empty());
            ensure!(!blank, "{what}: is blank, which is a part of every text; write a part of what must be found");
        }
        for (what, tags) in [("tags", &self.tags), ("notTags", &self.not_tags)] {
            ensure!(tags.as_ref().is_none_or(|tags| !tags.is_empty()), "{what}: names none, so that it could not fail");
        }
        if let Some(Rules::Partly(partly)) = &self.rules {
            let names = partly.includes.len() + partly.not.len();
            ensure!(names > 0, "rules: names none, so that it could not fail; [] says that no rule matches");
        }
        let bounds = self.constraints.as_ref();
        ensure!(
            bounds.is_none_or(|bounds| !bounds.is_empty()),
            "constraints: names no bound, so that it could not fail"
        );
        for (name, needed) in self.requirements.iter().flatten() {
            let (count, some) = match needed {
                Needed::Count(count) => (*count, true),
                Needed::From(from) => (from.count, !from.approvers.is_empty()),
            };
            ensure!(count > 0 && some, "requirements.{name}: takes a count from 1 on, and at least one approver");
        }
        Ok(())
    }

    /// Compares with what was judged. `policies` are those of the test.
    pub fn failures(&self, policies: &PolicySet, judged: &Judged) -> Vec<Failure> {
        let mut found = Findings::default();
        if let Some(decision) = self.decision {
            found.compare("decision", name(decision), decision_name(judged.outcome.decision));
        }
        if let Some(rules) = &self.rules {
            found.rules(rules, judged);
        }
        found.tags(self, judged);
        if let Some(expected) = &self.requirements {
            found.requirements(expected, &judged.outcome.requirements);
        }
        if let Some(expected) = &self.constraints {
            found.constraints(expected, &judged.constraints);
        }
        found.terms(self, &judged.outcome);
        found.approval(self, judged);
        if let Some(late) = &judged.late {
            found.fail("reviews", "each comes before the request ends", late);
        }
        found.held(self.held.as_deref(), policies, judged);
        found.0
    }

    /// For tests of a policy that must not compile.
    pub fn error_failure(&self, policies: &PolicySet) -> Option<Failure> {
        let expected = self.error.as_deref()?;
        let errors: Vec<_> = policies.broken.iter().map(|b| format!("{}: {}", b.name, b.error)).collect();
        let found = if errors.is_empty() { "every policy compiles".into() } else { errors.join("; ") };
        let there = errors.iter().any(|error| error.contains(expected));
        (!there).then(|| Failure { what: "error".into(), expected: expected.into(), found })
    }
}

fn name(decision: DecisionHere) -> &'static str {
    match decision {
        DecisionHere::Allow => "Allow",
        DecisionHere::RequireApproval => "RequireApproval",
        DecisionHere::Deny => "Deny",
        DecisionHere::NoMatch => "NoMatch",
    }
}

/// A requirement in words: `sre: 2 from sre`.
fn requirement(name: &str, count: i64, approvers: &[Subject]) -> String {
    let who: Vec<_> = approvers.iter().map(Subject::describe).collect();
    let who = if who.is_empty() { String::new() } else { format!(" from {}", who.join(" or ")) };
    format!("{name}: {count}{who}")
}

/// Whether that name stands for what is needed: of several requirements of one name, the counts add up.
fn meets(name: &str, needed: &Needed, found: &[JoinedRequirement]) -> bool {
    let of_name: Vec<_> = found.iter().filter(|requirement| requirement.name == name).collect();
    match (needed, &of_name[..]) {
        (Needed::Count(count), all) => *count == all.iter().map(|one| i64::from(one.count)).sum::<i64>(),
        (Needed::From(from), [one]) => {
            let set = |subjects: &[Subject]| subjects.iter().cloned().collect::<BTreeSet<_>>();
            from.count == i64::from(one.count) && set(&from.approvers) == set(&one.approvers)
        }
        (Needed::From(_), _) => false,
    }
}

fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let all: Vec<_> = names.into_iter().collect();
    if all.is_empty() { "none".into() } else { all.join(", ") }
}

#[derive(Default)]
struct Findings(Vec<Failure>);

impl Findings {
    fn compare(&mut self, what: &str, expected: &str, found: &str) {
        if expected != found {
            self.fail(what, expected, found);
        }
    }

    fn fail(&mut self, what: &str, expected: impl Into<String>, found: impl Into<String>) {
        self.0.push(Failure { what: what.into(), expected: expected.into(), found: found.into() });
    }

    fn rules(&mut self, expected: &Rules, judged: &Judged) {
        let matches: BTreeSet<String> =
            judged.outcome.matches.iter().map(|m| format!("{}/{}", m.policy, m.rule.name)).collect();
        let found = listed(matches.iter().map(String::as_str));
        match expected {
            Rules::Exactly(rules) => {
                let rules: BTreeSet<&str> = rules.iter().map(String::as_str).collect();
                self.compare("rules", &listed(rules), &found);
            }
            Rules::Partly(partly) => {
                if partly.includes.iter().any(|rule| !matches.contains(rule)) {
                    self.fail("rules.includes", listed(partly.includes.iter().map(String::as_str)), found.clone());
                }
                if partly.not.iter().any(|rule| matches.contains(rule)) {
                    self.fail("rules.not", listed(partly.not.iter().map(String::as_str)), found);
                }
            }
        }
    }

    /// All of them: a requirement more or less is another outcome.
    fn requirements(&mut self, expected: &BTreeMap<String, Needed>, found: &[JoinedRequirement]) {
        let met = expected.iter().all(|(name, needed)| meets(name, needed, found));
        if met && found.iter().all(|requirement| expected.contains_key(&requirement.name)) {
            return;
        }
        let told = expected.iter().map(|(name, needed)| match needed {
            Needed::Count(count) => requirement(name, *count, &[]),
            Needed::From(from) => requirement(name, from.count, &from.approvers),
        });
        let there = found.iter().map(|one| requirement(&one.name, i64::from(one.count), &one.approvers));
        let (told, there): (Vec<_>, Vec<_>) = (told.collect(), there.collect());
        self.fail("requirements", listed(told.iter().map(String::as_str)), listed(there.iter().map(String::as_str)));
    }

    fn tags(&mut self, expect: &Expect, judged: &Judged) {
        let derived: BTreeSet<&str> = judged.derived.iter().map(|d| d.tag.as_str()).collect();
        let found = || {
            let all: Vec<_> = judged.derived.iter().map(|d| format!("{} ({})", d.tag, d.detail)).collect();
            listed(all.iter().map(String::as_str))
        };
        for (what, tags, wanted) in [("tags", &expect.tags, true), ("notTags", &expect.not_tags, false)] {
            let tags = tags.iter().flatten().map(String::as_str);
            if tags.clone().any(|tag| derived.contains(tag) != wanted) {
                self.fail(what, listed(tags), found());
            }
        }
    }

    /// Each bound that is expected; others may be there.
    fn constraints(&mut self, expected: &Constraints, found: &Constraints) {
        let bounds = |c: &Constraints| {
            let mut all: BTreeMap<String, String> = BTreeMap::new();
            let mut bound = |name: &str, value: Option<String>| all.extend(value.map(|v| (name.to_string(), v)));
            bound("maxRuntimeSeconds", c.max_runtime_seconds.map(|n| n.to_string()));
            bound("maxRetries", c.max_retries.map(|n| n.to_string()));
            bound("maxParallelism", c.max_parallelism.map(|n| n.to_string()));
            bound("maxCpu", c.max_cpu.as_ref().map(|q| q.as_str().into()));
            bound("maxMemory", c.max_memory.as_ref().map(|q| q.as_str().into()));
            all.extend(c.limits.iter().map(|(name, limit)| (format!("limits.{name}"), limit.0.to_string())));
            all
        };
        let found = bounds(found);
        for (bound, expected) in bounds(expected) {
            let found = found.get(&bound).map_or("unbounded", String::as_str);
            self.compare(&format!("constraints.{bound}"), &expected, found);
        }
    }

    fn terms(&mut self, expect: &Expect, outcome: &Outcome) {
        self.equal("requireComment", expect.require_comment, outcome.require_comment);
        self.equal("requireImmutableInputs", expect.require_immutable_inputs, outcome.require_immutable_inputs);
        self.equal("requireImageDigests", expect.require_image_digests, outcome.require_image_digests);
        self.equal("pendingTimeoutSeconds", expect.pending_timeout_seconds, outcome.pending_timeout_seconds);
        self.equal("releaseTimeoutSeconds", expect.release_timeout_seconds, outcome.release_timeout_seconds);
        if let Some(expected) = expect.on_denied {
            let found = outcome.on_denied.map_or_else(|| "nothing said".into(), |found| format!("{found:?}"));
            self.compare("onDenied", &format!("{expected:?}"), &found);
        }
    }

    fn equal<T: ToString>(&mut self, what: &str, expected: Option<T>, found: T) {
        if let Some(expected) = expected {
            self.compare(what, &expected.to_string(), &found.to_string());
        }
    }

    fn approval(&mut self, expect: &Expect, judged: &Judged) {
        let yes = |found: bool| if found { "true" } else { "false" };
        let why = |found: bool| match found {
            true => "true".to_string(),
            false => format!("false: {}", unapproved(judged)),
        };
        let (approved, denied) = (judged.approved_at.is_some(), denied(judged));
        if let Some(expected) = expect.approved.filter(|expected| *expected != approved) {
            self.fail("approved", yes(expected), why(approved));
        }
        if let Some(expected) = expect.denied.filter(|expected| *expected != denied) {
            self.fail("denied", yes(expected), yes(denied));
        }
        if let Some(expected) = expect.released.filter(|expected| !same(*expected, judged)) {
            let found = match judged.released {
                Release::Never => format!("false: {}", unapproved(judged)),
                other => other.to_string(),
            };
            self.fail("released", expected.to_string(), found);
        }
        let missing = missing(&judged.tally);
        if let Some(expected) = expect.missing.as_deref().filter(|expected| !missing.contains(*expected)) {
            self.fail("missing", expected, missing.clone());
        }
    }

    /// What holds everything must be expected: else a test would vouch for a decision that has no effect.
    fn held(&mut self, expected: Option<&str>, policies: &PolicySet, judged: &Judged) {
        let held = judged.held.join("; ");
        match expected {
            Some(expected) if !held.contains(expected) => {
                self.fail("held", expected, if held.is_empty() { "nothing holds it" } else { &held });
            }
            None if !held.is_empty() => self.fail("held", "nothing holds it", held),
            _ => {}
        }
        // A policy that applies elsewhere is wrong all the same.
        if expected.is_none() && judged.held.is_empty() {
            for broken in &policies.broken {
                self.fail("error", format!("policy {} compiles", broken.name), broken.error.to_string());
            }
        }
    }
}

/// Whether policy or enough reviewers said no.
fn denied(judged: &Judged) -> bool {
    judged.tally.denied || judged.outcome.decision == Some(Decision::Deny)
}

fn same(expected: Release, judged: &Judged) -> bool {
    match (expected, judged.released) {
        // The time of approval may be spelled out.
        (Release::At(time), Release::Now) => judged.approved_at == Some(time),
        (expected, found) => expected == found,
    }
}

fn unapproved(judged: &Judged) -> String {
    match (&judged.held[..], judged.outcome.decision) {
        ([held, ..], _) => held.clone(),
        (_, None) => "no rule matches".into(),
        (_, Some(_)) if denied(judged) => "denied".into(),
        (_, Some(Decision::Allow)) if judged.approved_at.is_some() => "no window opens within a year".into(),
        (_, Some(_)) if judged.approved_at.is_some() => {
            let seconds = judged.outcome.release_timeout_seconds;
            format!("approved, and expired: no window opened or was passed in time (releaseTimeoutSeconds: {seconds})")
        }
        _ if judged.tally.approved_at.is_some() => "approved after it had expired".into(),
        _ => missing(&judged.tally),
    }
}
