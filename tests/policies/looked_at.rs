//! Nothing in a folder is silently passed over, and nothing is read otherwise than kubectl reads it.

use crate::{Folder, PASSES, POLICY};
use anyhow::Result;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

fn broken() -> String {
    POLICY.replace("approvers: [{kind: Group", "count: 0, approvers: [{kind: Group").replace("name: p}", "name: other}")
}

#[test]
fn a_policy_that_no_test_names_must_compile_all_the_same() -> Result<()> {
    let folder = Folder::new()?;
    folder.test(PASSES)?;
    folder.write("other.yml", &broken())?;
    let (code, out, _) = folder.run(&[".", "--junit", "out.xml"])?;
    assert_eq!(code, Some(1), "{out}");
    let expected = "broken: ./other.yml: policy other: spec.rules[by-sre].approvals.requirements[sre].count";
    assert!(out.contains(expected) && out.contains("1 passed, 0 failed, 1 broken"), "{out}");
    let xml = fs::read_to_string(folder.0.path().join("out.xml"))?;
    assert!(xml.contains(r#"tests="2" failures="1""#) && xml.contains(r#"<testsuite name="policies""#), "{xml}");
    Ok(())
}

#[test]
fn a_policy_that_the_api_server_would_refuse_is_told() -> Result<()> {
    let folder = Folder::new()?;
    folder.test(&PASSES.replace("rules: [p/by-sre], ", ""))?;
    folder.write("policy.yaml", &POLICY.replace("name: by-sre", "name: By SRE"))?;
    let (code, out, _) = folder.run(&["."])?;
    assert_eq!(code, Some(1), "{out}");
    let expected = "policy p: spec.rules[0].name: must be lower-case letters, digits and `-`";
    assert!(out.contains(expected) && out.contains("the API server refuses it"), "{out}");
    assert!(out.contains("1 passed, 0 failed, 1 broken"), "{out}");
    Ok(())
}

#[test]
fn what_might_be_a_test_or_a_policy_is_not_passed_over() -> Result<()> {
    let fixture = format!(
        "apiVersion: cli.countersign.dev/v1alpha1\nkind: PolicyTest\npolicies: [policy.yaml]\ntests:\n- {}\n",
        "{name: a, expect: {decision: Allow}}"
    );
    for (name, text, expected) in [
        ("q.test.yml", fixture.as_str(), "q.test.yml: a fixture's name ends in .test.yaml; rename it"),
        ("q.test.json", "{}", "q.test.json: a fixture's name ends in .test.yaml; rename it"),
        ("q.yaml", &fixture, "q.yaml: holds a PolicyTest, and its name does not end in .test.yaml; rename it"),
        ("q.yaml", "apiVersion: countersign.dev/v1alpha1\nkind: [", "q.yaml: is not well-formed YAML"),
    ] {
        let folder = Folder::new()?;
        folder.test(PASSES)?;
        folder.write(name, text)?;
        let (code, out, error) = folder.run(&["."])?;
        assert_eq!(code, Some(2), "{name}: {out}{error}");
        assert!(error.contains(expected), "expected {expected:?} in {error:?}");
    }
    let folder = Folder::new()?;
    folder.test(PASSES)?;
    folder.write("templates/chart.yaml", "{{- if .Values.on }}")?;
    let (code, out, error) = folder.run(&["."])?;
    assert_eq!(code, Some(0), "what is nothing of ours is nobody's business: {out}{error}");
    Ok(())
}

#[test]
fn a_linked_folder_is_named_and_a_pipe_is_not_waited_for() -> Result<()> {
    let folder = Folder::new()?;
    folder.test(PASSES)?;
    let elsewhere = Folder::new()?;
    symlink(elsewhere.0.path(), folder.0.path().join("link"))?;
    let (code, out, _) = folder.run(&["."])?;
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("not looked at: ./link: a link to a folder; name it as well"), "{out}");

    for (name, expected) in [("z.test.yaml", Some(2)), ("z.yaml", Some(2))] {
        let folder = Folder::new()?;
        folder.test(PASSES)?;
        assert!(Command::new("mkfifo").arg(folder.0.path().join(name)).status()?.success());
        let (code, _, error) = folder.run(&["."])?;
        assert_eq!(code, expected, "{error}");
        assert!(error.contains(&format!("{name}: is no regular file")), "{error}");
    }
    Ok(())
}

#[test]
fn two_policies_of_one_name_are_refused() -> Result<()> {
    let folder = Folder::new()?;
    folder.test(PASSES)?;
    folder.write("again.yaml", POLICY)?;
    let path = folder.0.path().join("p.test.yaml");
    let text = fs::read_to_string(&path)?;
    for policies in ["[policy.yaml, again.yaml]", "[policy.yaml, policy.yaml]"] {
        fs::write(&path, text.replace("[policy.yaml]", policies))?;
        let (code, out, error) = folder.run(&["."])?;
        assert_eq!(code, Some(2), "{out}{error}");
        assert!(error.contains("policies: two are named p, and a cluster has one of a name"), "{error}");
    }
    Ok(())
}

#[test]
fn yaml_is_read_as_kubectl_reads_it() -> Result<()> {
    let folder = Folder::new()?;
    folder.write(
        "objects.yaml",
        r#"
apiVersion: batch/v1
kind: Job
metadata: {name: j}
common: &common {image: a, envFrom: [{secretRef: {name: db}}]}
spec:
  template: {spec: {restartPolicy: Never, containers: [{<<: *common, name: main, image: b}]}}
"#,
    )?;
    folder.test("name: a\nnamespace: {name: x}\nrequester: {username: mallory}\njob: j\nexpect: {tags: [secrets]}")?;
    let path = folder.0.path().join("p.test.yaml");
    let text = fs::read_to_string(&path)?.replace("\ntests:", "\nobjects: [objects.yaml]\ntests:");
    fs::write(&path, &text)?;
    let (code, out, error) = folder.run(&["."])?;
    assert_eq!(code, Some(0), "{out}{error}");

    for (kind, group) in [
        ("Role", "rbac.authorization.k8s.io"),
        ("RoleBinding", "rbac.authorization.k8s.io"),
        ("NetworkPolicy", "networking.k8s.io"),
    ] {
        folder.write("objects.yaml", &format!("apiVersion: {group}/v1\nkind: {kind}\nmetadata: {{name: r}}\n"))?;
        let (code, out, error) = folder.run(&["."])?;
        assert_eq!(code, Some(2), "{kind}: {out}{error}");
        assert!(error.contains(&format!("{kind} r: metadata.namespace: is missing")), "{error}");
    }
    Ok(())
}

#[test]
fn a_report_of_an_earlier_run_does_not_stay() -> Result<()> {
    let folder = Folder::new()?;
    folder.write("out.xml", "<testsuites/>")?;
    folder.write("p.test.yaml", "x: 1")?;
    let (code, _, error) = folder.run(&[".", "--junit", "out.xml"])?;
    assert_eq!(code, Some(2), "{error}");
    assert!(!folder.0.path().join("out.xml").exists());
    Ok(())
}
