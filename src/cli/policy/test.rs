//! `countersign policy test`: runs fixtures, offline.

use crate::cli::policy::coverage::Coverage;
use crate::cli::policy::documents::{beside, find, policy_set};
use crate::cli::policy::fixture::Test;
use crate::cli::policy::judge::judge;
use crate::cli::policy::junit;
use crate::cli::policy::report::{Report, TestResult};
use crate::cli::policy::stage::Suite;
use crate::cli::print;
use anyhow::{Context, bail};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Who last changed a policy, where neither it nor the test says that.
const EDITOR: &str = "policy-editor";

const HELP: &str = "Examples:
  countersign policy test policies/
  countersign policy test policies/ --require-coverage --junit results.xml
  countersign policy test production.test.yaml -o json

A fixture is a file whose name ends in .test.yaml:
  apiVersion: cli.countersign.dev/v1alpha1
  kind: PolicyTest
  policies: [../production.yaml]          # relative to this file, or whole ApprovalPolicies
  objects: [fixtures/payments.yaml]       # Namespaces, Jobs, Pods, RBAC, NetworkPolicies, ApprovalRequests
  tests:
  - name: a write to production waits for sre
    at: 2026-11-20T17:00:00Z              # when it is asked
    namespace: payments                   # of objects, or {name, labels}
    requester: {username: \"system:serviceaccount:payments:triage\"}
    request: {riskTags: [prod, write]}    # claims; without them, what the Job's annotations claim
    job: remediate                        # of objects; or pod
    reviews: [{reviewer: alice, groups: [sre], after: 60}]  # seconds after it is asked
    expect:
      decision: RequireApproval           # Allow, RequireApproval, Deny, NoMatch
      rules: [production/prod-write]      # exactly; or {includes: [], not: []}
      tags: [write]                       # derived; notTags: those that are not
      requirements: {sre: {count: 1, approvers: [{kind: Group, name: sre}]}}  # or {sre: 1}
      constraints: {maxRuntimeSeconds: 900}
      approved: true
      released: now                       # or false, or a time
Also: denied; missing, held and error (each a part of the text; error stands alone); requireComment,
requireImmutableInputs, requireImageDigests, onDenied, pendingTimeoutSeconds and releaseTimeoutSeconds.

Reviews are heard in the order of time, until the request ends; one that comes later fails the test.

Exit code: 0 all passed, 1 some failed or a policy is broken, 2 the input is unusable.";

/// Flags of `countersign policy test`.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = HELP)]
pub struct TestArgs {
    /// Fixtures, or folders that are searched for *.test.yaml
    #[arg(required = true, value_name = "DIR|FILE")]
    pub paths: Vec<PathBuf>,
    /// Write JUnit XML there as well
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Fail where a rule is matched by no test, or a policy in a given folder is used by none
    #[arg(long)]
    pub require_coverage: bool,
    /// How to print the results
    #[arg(short, long, value_enum, default_value_t = crate::cli::explain::Form::Text)]
    pub output: crate::cli::explain::Form,
}

/// Runs the tests and prints the results. Returns whether all is as it should be.
pub fn run(args: &TestArgs) -> anyhow::Result<bool> {
    // A report of an earlier run must not be taken for this one's, whatever becomes of it.
    if let Some(path) = args.junit.as_ref().filter(|path| path.symlink_metadata().is_ok_and(|about| about.is_file())) {
        std::fs::remove_file(path).with_context(|| format!("{} cannot be replaced", path.display()))?;
    }
    let report = TestRun::of(args)?.report;
    if let Some(path) = &args.junit {
        std::fs::write(path, junit::render(&report))
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    print(&match args.output {
        crate::cli::explain::Form::Text => report.text(),
        crate::cli::explain::Form::Json => report.json()?,
    })?;
    Ok(report.passed())
}

/// A run of tests.
#[derive(Debug)]
pub struct TestRun {
    report: Report,
}

impl TestRun {
    /// Reads and runs everything. An error is an input that is unusable.
    pub fn of(args: &TestArgs) -> anyhow::Result<Self> {
        let (mut fixtures, mut others) = (vec![], vec![]);
        let mut report = Report { coverage_required: args.require_coverage, ..Report::default() };
        for path in &args.paths {
            let found = find(path)?;
            if found.fixtures.is_empty() {
                bail!("{}: there is no *.test.yaml here", path.display());
            }
            fixtures.extend(found.fixtures);
            for file in found.others {
                others.extend(beside(&file)?);
            }
            let link = |path: &PathBuf| format!("{}: a link to a folder; name it as well", path.display());
            report.passed_over.extend(found.links.iter().map(link));
        }
        let mut coverage = Coverage::default();
        let mut used = vec![];
        for fixture in fixtures {
            for suite in Suite::read(&fixture)? {
                run_suite(&suite, &mut report, &mut coverage)?;
                used.extend(suite.policies);
            }
        }
        // Of one that a test uses, that test tells whether it compiles: it may expect that it does not.
        let used = used.iter().filter(|policy| policy.compiles(EDITOR));
        let problems = used.chain(coverage.unused(&others)).filter_map(|policy| policy.problem(EDITOR));
        report.broken = problems.collect::<BTreeSet<_>>().into_iter().collect();
        report.not_covered = coverage.gaps(&others);
        Ok(Self { report })
    }

    /// Whether all is as it should be.
    pub fn passed(&self) -> bool {
        self.report.passed()
    }

    /// How many tests there were.
    pub fn count(&self) -> usize {
        self.report.results.len()
    }

    /// The results, for a person.
    pub fn text(&self) -> String {
        self.report.text()
    }
}

fn run_suite(suite: &Suite, report: &mut Report, coverage: &mut Coverage) -> anyhow::Result<()> {
    coverage.add(&suite.policies, &policy_set(&suite.policies, Some(EDITOR)));
    for (i, test) in suite.tests.iter().enumerate() {
        let result = run_test(suite, test, coverage);
        report.results.push(result.with_context(|| format!("{}: tests[{i}] ({})", suite.path.display(), test.name))?);
    }
    Ok(())
}

fn run_test(suite: &Suite, test: &Test, coverage: &mut Coverage) -> anyhow::Result<TestResult> {
    let policies = policy_set(&suite.policies, Some(test.policy_editor.as_deref().unwrap_or(EDITOR)));
    let result = |failures: Vec<_>, trace| TestResult {
        file: suite.path.display().to_string(),
        name: test.name.clone(),
        passed: failures.is_empty(),
        failures,
        trace,
    };
    if test.expect.error.is_some() {
        return Ok(result(test.expect.error_failure(&policies).into_iter().collect(), vec![]));
    }
    let judged = judge(&policies, &suite.world, &suite.stage(test)?, &test.reviews);
    for rule in &judged.outcome.matches {
        coverage.matched(&suite.policies, &rule.policy, &rule.rule.name);
    }
    let failures = test.expect.failures(&policies, &judged);
    let trace = if failures.is_empty() { vec![] } else { judged.traces };
    Ok(result(failures, trace))
}
