//! What new policies change about requests: one entry each, for a person and for a program. Pure.

use crate::cli::case::{Case, World};
use crate::cli::escape::{visible, visible_identifier};
use crate::policy::{DerivedTag, Difference, Outcome, PolicySet, compare, decision_name, evaluate, tags_suffice};
use anyhow::Context;
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write;

/// A request that comes out differently.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: String,
    /// What it was judged without, where something is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub without: Option<String>,
    /// The decision under the policies in force.
    pub before: &'static str,
    /// The decision under the new ones.
    pub after: &'static str,
    /// Whether it got weaker in one respect at least.
    pub weaker: bool,
    /// Everything that differs.
    pub differences: Vec<Difference>,
}

/// Both sets of policies, and what stands around everything.
pub struct Comparison {
    /// In force.
    pub current: PolicySet,
    /// To be tried.
    pub new: PolicySet,
    /// Roles, bindings and NetworkPolicies.
    pub world: World,
}

impl Comparison {
    /// Whether a request whose Job or Pod is gone can be judged by the tags in its status.
    pub fn tags_suffice(&self, labels: &BTreeMap<String, String>) -> bool {
        tags_suffice(&self.current, &self.new, labels)
    }

    /// What is said of a request under both; none where that is the same. Names and state are left to the caller.
    /// `stored` are the derived tags that stand in its status, for one whose Job or Pod is gone.
    pub fn change(&self, case: &Case, stored: Option<&[DerivedTag]>) -> Option<Change> {
        let outcome = |policies: &PolicySet| -> Outcome {
            let derived = match stored {
                Some(stored) => stored.to_vec(),
                None => case.derived(policies, &self.world),
            };
            evaluate(policies, &case.facts(&derived))
        };
        let (before, after) = (outcome(&self.current), outcome(&self.new));
        let differences = compare(&before, &after);
        (!differences.is_empty()).then(|| Change {
            namespace: case.namespace.clone(),
            name: String::new(),
            state: String::new(),
            without: None,
            before: decision_name(before.decision),
            after: decision_name(after.decision),
            weaker: differences.iter().any(|difference| difference.weaker),
            differences,
        })
    }
}

/// What a replay found.
#[derive(Debug, Default)]
pub struct Changes {
    /// How many requests were judged.
    pub judged: usize,
    /// How many of them without their Job or Pod, which is gone.
    pub without_target: usize,
    /// How many of those so that the new policies might say something else of them than is told here.
    pub blind: usize,
    /// Requests that could not be judged, and why.
    pub unread: Vec<String>,
    /// Those that come out differently.
    pub changed: Vec<Change>,
}

impl Changes {
    /// Whether every request was judged, each as the operator would, and none comes out weaker.
    pub fn proves_nothing_weaker(&self) -> bool {
        self.weaker() == 0 && self.unread.is_empty() && self.blind == 0
    }

    /// How many got weaker.
    pub fn weaker(&self) -> usize {
        self.changed.iter().filter(|change| change.weaker).count()
    }

    /// As a table, with everything that differs below each row.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let rows: Vec<[String; 4]> = self.changed.iter().map(row).collect();
        let heading = ["REQUEST", "STATE", "DECISION", ""].map(String::from);
        let all = || std::iter::once(&heading).chain(&rows);
        let width = |column: usize| all().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths = [0, 1, 2].map(width);
        let line = |row: &[String; 4]| {
            let [first, second, third] = [0, 1, 2].map(|i| format!("{:<1$}", row[i], widths[i]));
            format!("{first}  {second}  {third}  {}", row[3]).trim_end().to_string()
        };
        if !rows.is_empty() {
            let _ = writeln!(text, "{}", line(&heading));
        }
        for (row, change) in rows.iter().zip(&self.changed) {
            let _ = writeln!(text, "{}", line(row));
            for difference in &change.differences {
                let _ = writeln!(text, "    {}", describe(difference));
            }
        }
        for unread in &self.unread {
            let _ = writeln!(text, "not judged: {}", visible(unread));
        }
        let (judged, changed, weaker) = (self.judged, self.changed.len(), self.weaker());
        let _ = writeln!(text, "{changed} of {judged} requests come out differently, {weaker} of them weaker");
        if self.without_target > 0 {
            let _ = writeln!(
                text,
                "{} were judged by the tags in their status, since their Job or Pod is gone",
                self.without_target
            );
        }
        if self.blind > 0 {
            let _ = writeln!(
                text,
                "{} of them blindly: these policies look at more of a Job than its tags, or nobody had evaluated them",
                self.blind
            );
        }
        text
    }

    /// As JSON: every word as it was written.
    pub fn json(&self) -> anyhow::Result<String> {
        let document = json!({
            "judged": self.judged,
            "withoutTarget": self.without_target,
            "blind": self.blind,
            "notJudged": self.unread,
            "weaker": self.weaker(),
            "changed": self.changed,
        });
        let text = serde_json::to_string_pretty(&document).context("the changes cannot be written as JSON")?;
        Ok(text + "\n")
    }
}

fn row(change: &Change) -> [String; 4] {
    let name = format!("{}/{}", visible_identifier(&change.namespace), visible_identifier(&change.name));
    let decision = match change.before == change.after {
        true => change.after.to_string(),
        false => format!("{} → {}", change.before, change.after),
    };
    let weaker = if change.weaker { "WEAKER" } else { "" };
    let without = change.without.as_ref().map(|what| format!("({})", visible(what))).unwrap_or_default();
    [name, change.state.clone(), decision, format!("{weaker} {without}").trim().to_string()]
}

fn describe(difference: &Difference) -> String {
    let Difference { what, before, after, weaker } = difference;
    let weaker = if *weaker { "  (weaker)" } else { "" };
    let text = match (before.is_empty(), after.is_empty()) {
        (true, _) => format!("+ {what}: {after}"),
        (_, true) => format!("- {what}: {before}"),
        _ => format!("~ {what}: {before} → {after}"),
    };
    visible(&text) + weaker
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::policy::documents::{PolicyDocument, policy_set};
    use serde_json::Value;
    use std::path::Path;

    fn set(rules: Value) -> PolicySet {
        let document = json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "ApprovalPolicy",
            "metadata": {"name": "p"}, "spec": {"rules": rules}});
        policy_set(&[PolicyDocument::read(Path::new("p.yaml"), &document).unwrap()], None)
    }

    fn case() -> Case {
        Case {
            namespace: "payments".into(),
            labels: Default::default(),
            requester: Default::default(),
            requested_by: "w".into(),
            declared: vec!["prod".into()],
            claims: Value::Null,
            target: None,
            asked: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn what_could_not_be_judged_proves_nothing() {
        let of = |weaker: bool, unread: usize, blind: usize| {
            let comparison = Comparison {
                current: set(json!([{"name": "r", "decision": "Deny"}])),
                new: set(json!([{"name": "r", "decision": "Allow"}])),
                world: World::default(),
            };
            let changed = comparison.change(&case(), None).filter(|_| weaker).into_iter().collect();
            let changes =
                Changes { judged: 1, without_target: blind, blind, unread: vec!["x".into(); unread], changed };
            changes.proves_nothing_weaker()
        };
        assert!(of(false, 0, 0));
        assert!(!of(true, 0, 0) && !of(false, 1, 0) && !of(false, 0, 1));
    }

    #[test]
    fn the_tags_of_its_status_stand_for_a_job_that_is_gone() {
        let denies = json!([{"name": "secrets", "when": {"riskTags": ["secrets"]}, "decision": "Deny"}, {"name": "r", "decision": "Allow"}]);
        let comparison = Comparison {
            current: set(denies),
            new: set(json!([{"name": "r", "decision": "Allow"}])),
            world: World::default(),
        };
        let secrets = DerivedTag { tag: "secrets".into(), policy: None, detail: String::new(), advisory: false };
        let change = comparison.change(&case(), Some(&[secrets])).unwrap();
        assert_eq!((change.before, change.after, change.weaker), ("Deny", "Allow", true));
    }

    #[test]
    fn a_change_is_told_with_all_that_differs() {
        let by = |count: i32| {
            json!([{"name": "r", "decision": "RequireApproval", "approvals":
            {"requirements": [{"name": "sre", "count": count, "approvers": [{"kind": "Group", "name": "sre"}]}]}}])
        };
        let of = |current: Value, new: Value| {
            let comparison = Comparison { current: set(current), new: set(new), world: World::default() };
            comparison.change(&case(), None)
        };
        assert!(of(by(2), by(2)).is_none());
        let mut weaker = of(by(2), by(1)).unwrap();
        (weaker.name, weaker.state) = ("run\u{1b}".into(), "Pending".into());
        weaker.without = Some("Job gone".into());
        let denied = Change {
            name: "x".into(),
            state: "Pending".into(),
            ..of(by(1), json!([{"name": "r", "decision": "Deny"}])).unwrap()
        };
        let changes = Changes { judged: 3, without_target: 1, blind: 1, unread: vec![], changed: vec![weaker, denied] };
        let expected = "\
REQUEST             STATE    DECISION
payments/run\\u{1b}  Pending  RequireApproval         WEAKER (Job gone)
    ~ requirements: 2 from sre → 1 from sre  (weaker)
payments/x          Pending  RequireApproval → Deny
    ~ decision: RequireApproval → Deny
2 of 3 requests come out differently, 1 of them weaker
1 were judged by the tags in their status, since their Job or Pod is gone
1 of them blindly: these policies look at more of a Job than its tags, or nobody had evaluated them
";
        assert_eq!(changes.table(), expected);
        let json: Value = serde_json::from_str(&changes.json().unwrap()).unwrap();
        assert_eq!((&json["weaker"], &json["changed"][0]["name"]), (&json!(1), &json!("run\u{1b}")));
    }
}
