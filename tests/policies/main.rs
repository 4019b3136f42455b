//! The example policies do what their tests say, and `countersign policy test` fails where it should. What a GitOps tool does with
//! policies is tried on a control plane of its own.

#[path = "../support/mod.rs"]
mod support;

mod gitops;
mod judged;
mod looked_at;
mod mutants;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use countersign::cli::policy::{TestArgs, TestRun};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/policies")
}

/// The arguments of `policy test` as the command line reads them.
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: TestArgs,
}

/// Whether all tests of a file pass; a file that cannot be used is an error.
fn runs(path: &Path) -> Result<bool> {
    let line = Line::parse_from(["test", path.to_str().context("path")?]);
    Ok(TestRun::of(&line.args)?.passed())
}

#[test]
fn the_example_policies_do_what_their_tests_say() -> Result<()> {
    let directory = examples();
    let line = Line::parse_from(["test", directory.to_str().context("path")?, "--require-coverage"]);
    let run = TestRun::of(&line.args)?;
    ensure!(run.passed(), "{}", run.text());
    assert!(run.count() >= 220, "only {} tests", run.count());
    Ok(())
}

#[test]
fn every_example_policy_has_a_test_of_its_name_and_is_tested_with_the_others() -> Result<()> {
    let together: Value = serde_yaml::from_str(&fs::read_to_string(examples().join("tests/together.test.yaml"))?)?;
    let together: Vec<_> = together["policies"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut policies = 0;
    for entry in fs::read_dir(examples())? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "yaml") {
            let stem = path.file_stem().and_then(|stem| stem.to_str()).context("name")?;
            let test = examples().join("tests").join(format!("{stem}.test.yaml"));
            ensure!(test.exists(), "{} is missing", test.display());
            let file = format!("../{stem}.yaml");
            ensure!(together.contains(&file.as_str()), "together.test.yaml leaves out {file}");
            policies += 1;
        }
    }
    assert!(policies >= 18, "only {policies} policies");
    Ok(())
}

/// A folder with a policy, and a way to run the command in it.
struct Folder(TempDir);

const POLICY: &str = r#"
apiVersion: countersign.dev/v1alpha1
kind: ApprovalPolicy
metadata: {name: p}
spec:
  rules:
  - name: by-sre
    when: {riskTags: [prod]}
    decision: RequireApproval
    approvals: {requirements: [{name: sre, approvers: [{kind: Group, name: sre}]}]}
  - name: silent
    when: {riskTags: [never-said]}
    decision: Deny
"#;

impl Folder {
    fn new() -> Result<Self> {
        let folder = Self(TempDir::new()?);
        folder.write("policy.yaml", POLICY)?;
        Ok(folder)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.0.path().join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, text).with_context(|| path.display().to_string())
    }

    /// A fixture with one test of that text.
    fn test(&self, test: &str) -> Result<()> {
        let head = "apiVersion: cli.countersign.dev/v1alpha1\nkind: PolicyTest\npolicies: [policy.yaml]\ntests:\n";
        let indented: String = test.trim().lines().map(|line| format!("  {line}\n")).collect();
        self.write("p.test.yaml", &format!("{head}- {}", indented.trim_start()))
    }

    fn run(&self, args: &[&str]) -> Result<(Option<i32>, String, String)> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        let Output { status, stdout, stderr } =
            command.current_dir(self.0.path()).args(["policy", "test"]).args(args).output()?;
        Ok((status.code(), String::from_utf8(stdout)?, String::from_utf8(stderr)?))
    }
}

const PASSES: &str = "
name: sre is asked
namespace: {name: payments}
requester: {username: mallory}
request: {riskTags: [prod]}
expect: {decision: RequireApproval, rules: [p/by-sre], approved: false}
";

#[test]
fn what_passes_is_told_and_what_is_not_covered() -> Result<()> {
    let folder = Folder::new()?;
    folder.test(PASSES)?;
    folder.write("unused.yaml", &POLICY.replace("name: p}", "name: forgotten}"))?;
    let (code, out, _) = folder.run(&["."])?;
    assert_eq!(code, Some(0), "{out}");
    for expected in [
        "./p.test.yaml\n  ✓ sre is asked\n",
        "not covered: forgotten: no test uses it\n",
        "not covered: p/silent: no test matches it\n",
        "1 passed, 0 failed, 2 not covered\n",
    ] {
        assert!(out.contains(expected), "expected {expected:?} in\n{out}");
    }
    let (code, out, _) = folder.run(&[".", "--require-coverage", "--junit", "out.xml", "-o", "json"])?;
    assert_eq!(code, Some(1), "{out}");
    let json: Value = serde_json::from_str(&out)?;
    assert_eq!((&json["passed"], json["notCovered"].as_array().map(Vec::len)), (&Value::from(1), Some(2)));
    let xml = fs::read_to_string(folder.0.path().join("out.xml"))?;
    assert!(xml.contains(r#"tests="3" failures="2""#), "{xml}");
    Ok(())
}

#[test]
fn a_wrong_expectation_fails_and_says_what_was_found() -> Result<()> {
    let folder = Folder::new()?;
    folder.test(
        "
name: everything is wrong
namespace: {name: payments}
requester: {username: mallory}
request: {riskTags: [prod]}
reviews: [{reviewer: alice, groups: [sre]}]
expect:
  decision: Allow
  rules: {includes: [p/silent], not: [p/by-sre]}
  tags: [secrets]
  requirements: {sre: 2}
  constraints: {maxRuntimeSeconds: 900}
  requireComment: true
  onDenied: Hold
  pendingTimeoutSeconds: 60
  approved: false
  denied: true
  released: 2026-01-08T00:00:00Z
  missing: security
  held: does not compile
",
    )?;
    let (code, out, _) = folder.run(&["p.test.yaml"])?;
    assert_eq!(code, Some(1), "{out}");
    for expected in [
        "✗ everything is wrong",
        "decision: expected Allow, found RequireApproval",
        "rules.includes: expected p/silent, found p/by-sre",
        "rules.not: expected p/by-sre, found p/by-sre",
        "tags: expected secrets, found none",
        "requirements: expected sre: 2, found sre: 1",
        "constraints.maxRuntimeSeconds: expected 900, found unbounded",
        "requireComment: expected true, found false",
        "onDenied: expected Hold, found nothing said",
        "pendingTimeoutSeconds: expected 60, found 3600",
        "approved: expected false, found true",
        "denied: expected true, found false",
        "released: expected 2026-01-08T00:00:00Z, found now",
        "missing: expected security, found nothing is missing",
        "held: expected does not compile, found nothing holds it",
        "✓ by-sre RequireApproval",
        "✗ silent Deny: riskTags: never-said is not among [prod]",
        "0 passed, 1 failed",
    ] {
        assert!(out.contains(expected), "expected {expected:?} in\n{out}");
    }
    Ok(())
}

#[test]
fn a_pass_that_comes_after_the_release_clock_releases_nothing() -> Result<()> {
    let folder = Folder::new()?;
    let half = |name: &str, hour: u8, may_pass: &str| {
        format!("    - {{name: {name}, start: \"0 {hour} * * *\", durationSeconds: 43200, mayPass: [{may_pass}]}}\n")
    };
    let rule = |name: &str, window: String| {
        format!(
            "  - name: {name}\n    when: {{riskTags: [prod]}}\n    decision: RequireApproval\n    releaseTimeoutSeconds: 600\n    approvals: {{requirements: [{{name: sre, approvers: [{{kind: Group, name: sre}}]}}]}}\n    freezeWindows:\n{window}"
        )
    };
    let carol = "{kind: User, name: carol}";
    let rules = rule("day", half("day", 6, carol)) + &rule("night", half("night", 18, carol));
    let head = POLICY.split("  - name").next().context("head")?;
    folder.write("policy.yaml", &format!("{head}{rules}"))?;
    let test = |after: u32, released: &str| {
        format!(
            "name: passed after {after}\nat: 2026-01-05T08:00:00Z\nnamespace: {{name: payments}}\nrequester: {{username: mallory}}\nrequest: {{riskTags: [prod]}}\nreviews: [{{reviewer: alice, groups: [sre]}}, {{reviewer: carol, after: {after}}}]\nexpect: {{approved: true, released: {released}}}"
        )
    };
    // Alice approves after a minute.
    for (after, released) in [(659, "2026-01-05T08:10:59Z"), (661, "false")] {
        folder.test(&test(after, released))?;
        let (code, out, _) = folder.run(&["."])?;
        assert_eq!(code, Some(0), "{after}: {out}");
    }
    folder.test(&test(661, "now"))?;
    let (code, out, _) = folder.run(&["."])?;
    assert_eq!(code, Some(1), "{out}");
    let expired = "approved, and expired: no window opened or was passed in time (releaseTimeoutSeconds: 600)";
    assert!(out.contains(expired), "{out}");
    Ok(())
}

#[test]
fn a_policy_that_does_not_compile_fails_every_test_that_does_not_expect_it() -> Result<()> {
    let folder = Folder::new()?;
    folder.write(
        "policy.yaml",
        &POLICY.replace("approvers: [{kind: Group, name: sre}]", "count: 0, approvers: [{kind: Group, name: sre}]"),
    )?;
    folder.test(PASSES)?;
    let (code, out, _) = folder.run(&["."])?;
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("held: expected nothing holds it, found PolicyNotReady: policy p does not compile"), "{out}");
    folder.test("name: nobody is enough\nexpect: {error: \"requirements[sre].count: must be from 1\"}")?;
    let (code, out, _) = folder.run(&["."])?;
    assert_eq!(code, Some(0), "{out}");
    folder.test("name: nobody is enough\nexpect: {error: something else}")?;
    let (code, out, _) = folder.run(&["."])?;
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("error: expected something else, found p: spec.rules[by-sre]"), "{out}");
    Ok(())
}

#[test]
fn input_that_is_unusable_is_named_with_its_place() -> Result<()> {
    for (test, expected) in [
        (
            "name: a\nnamspace: {name: x}\nexpect: {decision: Allow}",
            "p.test.yaml: tests[0].namspace: unknown field `namspace`",
        ),
        ("name: a\nexpect: {decison: Allow}", "tests[0].expect.decison: unknown field `decison`"),
        ("name: a\nexpect: {decision: Maybe}", "tests[0].expect.decision: unknown variant `Maybe`"),
        ("name: a\nexpect: {released: soon}", "tests[0].expect.released: \"soon\" is none of now, false and a time"),
        ("name: a\nexpect: {constraints: {maxCPU: 1}}", "tests[0].expect.constraints.maxCPU: unknown field `maxCPU`"),
        ("name: a\nexpect: {rules: {include: [a/b]}}", "tests[0].expect.rules.include: unknown field `include`"),
        ("name: a\nexpect: {}", "tests[0].expect: is empty, so that the test could not fail"),
        ("name: a\nexpect: {error: x, decision: Allow}", "tests[0].expect: error: stands alone"),
        ("name: a\nexpect: {rules: {}}", "tests[0].expect: rules: names none, so that it could not fail"),
        ("name: a\nexpect: {rules: {includes: [], not: []}}", "tests[0].expect: rules: names none"),
        ("name: a\nexpect: {constraints: {}}", "tests[0].expect: constraints: names no bound"),
        ("name: a\nexpect: {missing: ''}", "tests[0].expect: missing: is blank"),
        ("name: a\nexpect: {held: '  '}", "tests[0].expect: held: is blank"),
        ("name: a\nexpect: {error: ''}", "tests[0].expect: error: is blank"),
        ("name: a\nexpect: {decision: Allow, tags: []}", "tests[0].expect: tags: names none"),
        ("name: a\nexpect: {notTags: []}", "tests[0].expect: notTags: names none"),
        ("name: a\nexpect: {requirements: {sre: 0}}", "tests[0].expect: requirements.sre: takes a count from 1 on"),
        ("name: a\nexpect: {requirements: {sre: {count: 1, approvers: []}}}", "at least one approver"),
        ("name: a\nexpect: {requirements: {sre: {count: 1, groups: [sre]}}}", "unknown field `groups`"),
        (
            "name: a\nexpect: {rules: {not: [p/no-such-rule]}}",
            "tests[0].expect: rules.not: no rule of these policies is called \"p/no-such-rule\"; there are p/by-sre, p/silent",
        ),
        ("name: a\nexpect: {rules: {includes: [q/by-sre]}}", "rules.includes: no rule of these policies is called"),
        ("name: a\nexpect: {rules: [by-sre]}", "rules: no rule of these policies is called \"by-sre\""),
        ("name: a\nexpect: {notTags: [secretz]}", "tests[0].expect: notTags: nothing derives \"secretz\""),
        ("name: a\nexpect: {tags: [prod]}", "tags: nothing derives \"prod\""),
        ("name: a\nexpect: {decision: Allow}", "tests[0] (a): namespace: is missing"),
        (
            "name: a\nnamespace: payments\nexpect: {decision: Allow}",
            "namespace: there is no Namespace payments among objects",
        ),
        ("name: a\nnamespace: {name: x}\nexpect: {decision: Allow}", "requester: is missing"),
        (
            "name: a\nnamespace: {name: x}\njob: remediate\nexpect: {decision: Allow}",
            "job: there is no Job remediate for namespace x among objects",
        ),
        (
            "name: a\nnamespace: {name: x}\njob: a\npod: b\nexpect: {decision: Allow}",
            "one request runs a Job or a Pod, not both",
        ),
        (
            "name: a\nnamespace: {name: x}\nrequester: {username: alice}\nrequest: {riskTags: [Prod]}\nexpect: {decision: Allow}",
            "request: riskTags[0]",
        ),
        ("name: a\nname: b\nexpect: {decision: Allow}", "is not well-formed YAML"),
    ] {
        let folder = Folder::new()?;
        folder.test(test)?;
        let (code, out, error) = folder.run(&["."])?;
        assert_eq!(code, Some(2), "{test}: {out}{error}");
        assert!(error.contains(expected), "expected {expected:?} in {error:?}");
    }
    Ok(())
}

#[test]
fn files_that_are_not_there_or_are_something_else_are_named() -> Result<()> {
    let fixture = |head: &str| format!("{head}\ntests: [{{name: a, expect: {{decision: Allow}}}}]\n");
    let known = "apiVersion: cli.countersign.dev/v1alpha1\nkind: PolicyTest";
    for (text, expected) in [
        (fixture(&format!("{known}\npolicies: [gone.yaml]")), "gone.yaml cannot be read"),
        (fixture(&format!("{known}\npolicies: []")), "policies: names none"),
        (fixture("apiVersion: v1\nkind: PolicyTest\npolicies: [policy.yaml]"), "apiVersion: is \"v1\""),
        (fixture("apiVersion: cli.countersign.dev/v1alpha1\nkind: Test\npolicies: [policy.yaml]"), "kind: is \"Test\""),
        (fixture(&format!("{known}\npolicies: [p.test.yaml]")), "is no ApprovalPolicy of countersign.dev/v1alpha1"),
        (
            fixture(&format!("{known}\npolicies: [policy.yaml]\nobjects: [policy.yaml]")),
            "is nothing that policy looks at",
        ),
        (fixture(&format!("{known}\npolicies: [policy.yaml]\ncolour: blue")), "unknown field `colour`"),
        (format!("{known}\npolicies: [policy.yaml]\ntests: []\n"), "tests: there is none"),
        (String::new(), "p.test.yaml: is empty"),
        ("a: [".into(), "is not well-formed YAML"),
    ] {
        let folder = Folder::new()?;
        folder.write("p.test.yaml", &text)?;
        let (code, out, error) = folder.run(&["."])?;
        assert_eq!(code, Some(2), "{text}: {out}{error}");
        assert!(error.contains(expected), "expected {expected:?} in {error:?}");
    }
    let folder = Folder::new()?;
    for (path, expected) in [(".", "there is no *.test.yaml here"), ("nowhere", "nowhere cannot be read")] {
        let (code, _, error) = folder.run(&[path])?;
        assert_eq!(code, Some(2));
        assert!(error.contains(expected), "expected {expected:?} in {error:?}");
    }
    Ok(())
}

#[test]
fn nothing_in_a_fixture_reaches_the_terminal() -> Result<()> {
    let folder = Folder::new()?;
    folder.test(
        &PASSES
            .replace("sre is asked", "\"\\e[2J\\u202e\"")
            .replace("decision: RequireApproval", "decision: Deny, missing: \"\\e[1m\""),
    )?;
    let (code, out, _) = folder.run(&["."])?;
    assert_eq!(code, Some(1), "{out}");
    assert!(!out.contains(['\u{1b}', '\u{202e}']) && out.contains("\\u{1b}"), "{out:?}");
    Ok(())
}

#[test]
fn new_policies_are_checked_before_a_cluster_is_asked() -> Result<()> {
    let folder = Folder::new()?;
    folder.write("broken.yaml", &POLICY.replace("riskTags: [prod]", "riskTag: [prod]"))?;
    folder.write("twice.yaml", &format!("{POLICY}---{POLICY}"))?;
    folder.write("empty/readme.yaml", "kind: ConfigMap")?;
    for (path, expected) in [
        ("broken.yaml", "broken.yaml: policy p: spec.rules[0].when.riskTag: unknown field `riskTag`"),
        ("twice.yaml", "two policies are named p"),
        ("empty/readme.yaml", "is no ApprovalPolicy of countersign.dev/v1alpha1"),
        ("empty", "there is no ApprovalPolicy here"),
        ("gone", "gone cannot be read"),
        ("policy.yaml", "kubeconfig nowhere"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_countersign"))
            .current_dir(folder.0.path())
            .args(["policy", "replay", "--kubeconfig", "nowhere", "--policies", path])
            .output()?;
        let error = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(2), "{path}: {error}");
        assert!(error.contains(expected), "expected {expected:?} in {error:?}");
    }
    Ok(())
}
