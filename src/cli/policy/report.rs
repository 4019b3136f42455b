//! Results of tests, for a person and for a program.

use crate::cli::escape::visible;
use crate::cli::explain::{policy_line, rule_lines};
use crate::cli::policy::expect::Failure;
use crate::policy::PolicyTrace;
use anyhow::Context;
use serde_json::json;
use std::fmt::Write;

/// The result of one test.
#[derive(Clone, Debug)]
pub struct TestResult {
    /// Its file.
    pub file: String,
    /// Its name.
    pub name: String,
    /// Whether every expectation holds.
    pub passed: bool,
    /// Those that do not.
    pub failures: Vec<Failure>,
    /// Every policy and rule, where something failed.
    pub trace: Vec<PolicyTrace>,
}

impl TestResult {
    /// What failed, and how rules were judged: one line each, safe to show.
    pub fn explanation(&self) -> String {
        let failures = self.failures.iter().map(|failure| {
            visible(&format!("{}: expected {}, found {}", failure.what, failure.expected, failure.found))
        });
        let rules = self.trace.iter().flat_map(|policy| {
            let rules = policy.rules.iter().flat_map(rule_lines).map(|line| format!("  {line}"));
            std::iter::once(policy_line(policy)).chain(rules)
        });
        failures.chain(rules).collect::<Vec<_>>().join("\n")
    }
}

/// The results of all tests.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// In the order of files and tests.
    pub results: Vec<TestResult>,
    /// Rules that no test matches, and policies that no test uses.
    pub not_covered: Vec<String>,
    /// Whether that is an error.
    pub coverage_required: bool,
    /// Policies that the API server would refuse, and those that no test uses and that do not compile: what is wrong with each.
    pub broken: Vec<String>,
    /// What was not looked at.
    pub passed_over: Vec<String>,
}

impl Report {
    /// How many tests failed.
    pub fn failed(&self) -> usize {
        self.results.iter().filter(|result| !result.passed).count()
    }

    /// Whether all is as it should be.
    pub fn passed(&self) -> bool {
        self.failed() == 0 && self.broken.is_empty() && (self.not_covered.is_empty() || !self.coverage_required)
    }

    /// For a person.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for results in self.results.chunk_by(|a, b| a.file == b.file) {
            let _ = writeln!(text, "{}", visible(results.first().map_or("", |result| &result.file)));
            for result in results {
                let mark = if result.passed { "✓" } else { "✗" };
                let _ = writeln!(text, "  {mark} {}", visible(&result.name));
                result.explanation().lines().for_each(|line| {
                    let _ = writeln!(text, "      {line}");
                });
            }
        }
        for broken in &self.broken {
            let _ = writeln!(text, "broken: {}", visible(broken));
        }
        for passed_over in &self.passed_over {
            let _ = writeln!(text, "not looked at: {}", visible(passed_over));
        }
        for gap in &self.not_covered {
            let _ = writeln!(text, "not covered: {}", visible(gap));
        }
        let (failed, gaps) = (self.failed(), self.not_covered.len());
        let covered = if gaps > 0 { format!(", {gaps} not covered") } else { String::new() };
        let broken = if self.broken.is_empty() { String::new() } else { format!(", {} broken", self.broken.len()) };
        let _ = writeln!(text, "{} passed, {failed} failed{broken}{covered}", self.results.len() - failed);
        text
    }

    /// For a program: every word as it was written.
    pub fn json(&self) -> anyhow::Result<String> {
        let results = self.results.iter().map(|result| {
            json!({"file": result.file, "name": result.name, "passed": result.passed, "failures": result.failures, "policies": result.trace})
        });
        let document = json!({
            "passed": self.results.len() - self.failed(),
            "failed": self.failed(),
            "broken": self.broken,
            "notLookedAt": self.passed_over,
            "notCovered": self.not_covered,
            "tests": results.collect::<Vec<_>>(),
        });
        let text = serde_json::to_string_pretty(&document).context("the results cannot be written as JSON")?;
        Ok(text + "\n")
    }
}
