use super::*;
use crate::api::ApprovalRequest;
use crate::cli::client::explained;
use crate::cli::compact;
use clap::Parser;
use proptest::prelude::*;

const VERBATIM: &str = r#"{"run_id":"run_8f9a","step_id":"remediate","reason":"prod write detected","policy_snapshot":"7f3d...9c2b","risk_tags":["prod","write"],"constraints":{"max_lines_changed":500,"max_runtime_sec":900},"requested_by":"workflow.incident-triage"}"#;

#[derive(clap::Parser, Debug)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn args(flags: &[&str]) -> Result<Args, String> {
    Line::try_parse_from([&["request"], flags].concat()).map(|line| line.args).map_err(|e| e.to_string())
}

fn composed(flags: &[&str], input: &str) -> Result<Value, String> {
    let draft = if input.is_empty() { Draft::default() } else { compact::parse(input.as_bytes()).unwrap() };
    compose(&args(flags).unwrap(), draft).map_err(|e| format!("{e:#}"))
}

#[test]
fn the_compact_form_verbatim() {
    let manifest = composed(&["-n", "payments", "--target", "job/remediate-8f9a"], VERBATIM).unwrap();
    let expected = json!({
        "apiVersion": "countersign.dev/v1alpha1", "kind": "ApprovalRequest",
        "metadata": {"name": "run-8f9a-remediate", "namespace": "payments"},
        "spec": {
            "runID": "run_8f9a", "stepID": "remediate", "requestedBy": "workflow.incident-triage",
            "reason": "prod write detected", "riskTags": ["prod", "write"], "policySnapshot": "7f3d...9c2b",
            "constraints": {"maxRuntimeSeconds": 900, "limits": {"maxLinesChanged": 500}},
            "target": {"apiVersion": "batch/v1", "kind": "Job", "name": "remediate-8f9a"}
        }
    });
    assert_eq!(manifest, expected);
    let typed: ApprovalRequest = serde_json::from_value(manifest).unwrap();
    assert_eq!(typed.spec.constraints.max_runtime_seconds, Some(900));
}

#[test]
fn flags_alone_suffice_and_win_over_the_input() {
    let flags = ["--run-id", "r1", "--step-id", "s1", "--requested-by", "w", "--reason", "why", "--name", "given"];
    let manifest = composed(&flags, "").unwrap();
    assert_eq!(manifest["spec"], json!({"runID": "r1", "stepID": "s1", "requestedBy": "w", "reason": "why"}));
    assert_eq!(manifest["metadata"], json!({"name": "given"}));
    let more = [
        "--reason",
        "other",
        "--risk-tag",
        "prod",
        "--risk-tag",
        "secrets",
        "--evidence",
        "rate=5xx=12%",
        "--evidence",
        "empty=",
        "--target",
        "job/x",
        "--target-uid",
        "u1",
    ];
    let spec = composed(&more, VERBATIM).unwrap()["spec"].clone();
    assert_eq!((&spec["reason"], &spec["runID"]), (&json!("other"), &json!("run_8f9a")));
    assert_eq!(spec["riskTags"], json!(["prod", "write", "secrets"]));
    assert_eq!(spec["evidence"], json!([{"title": "rate", "text": "5xx=12%"}, {"title": "empty", "text": ""}]));
    assert_eq!(spec["target"]["uid"], "u1");
}

#[test]
fn a_full_object_keeps_its_name_and_namespace() {
    let yaml = "apiVersion: countersign.dev/v1alpha1\nkind: ApprovalRequest\nmetadata: {name: mine, namespace: payments, labels: {a: b}}\nspec: {runID: r, stepID: s, requestedBy: w, reason: why}";
    let manifest = composed(&["-n", "payments"], yaml).unwrap();
    assert_eq!(manifest["metadata"], json!({"name": "mine", "namespace": "payments", "labels": {"a": "b"}}));
    assert!(composed(&["-n", "other"], yaml).unwrap_err().contains("is payments, and --namespace says other"));
    let generated = yaml.replace("name: mine", "generateName: mine-");
    assert_eq!(composed(&[], &generated).unwrap()["metadata"]["name"], Value::Null);
    assert_eq!(composed(&["--name", "n"], &generated).unwrap()["metadata"]["generateName"], Value::Null);
    assert!(composed(&[], &yaml.replace("mine", "-x")).unwrap_err().contains("metadata.name: a name is"));
    assert!(composed(&[], &yaml.replace("runID: r", "runID: ''")).unwrap_err().contains("spec.runID: is too short"));
    assert!(composed(&[], &yaml.replace("runID: r", "runId: r")).unwrap_err().contains("spec.runID: is missing"));
    let both = yaml.replace("runID: r", "runID: r, runId: r");
    assert!(composed(&[], &both).unwrap_err().contains("spec.runId: there is no such field"));
}

#[test]
fn what_cannot_be_asked_is_refused_by_name() {
    for (flags, input, part) in [
        (&[][..], "", "run_id: is missing; give it here or with --run-id"),
        (
            &[],
            r#"{"run_id":"a","step_id":"b","requested_by":"c"}"#,
            "reason: is missing; give it here or with --reason",
        ),
        (&["--run-id", "a b"], VERBATIM, "run_id: must be printable ASCII without spaces, not `a b`"),
        (&["--reason", "x\u{1b}[2J"], VERBATIM, "reason: contains the control character \\u{1b}"),
        (&["--risk-tag", "Prod"], VERBATIM, "risk_tags[2]: must be lower-case letters"),
        (&["--evidence", "a\nb=c"], VERBATIM, "evidence[0].title: contains the control character \\u{a}"),
    ] {
        let error = composed(flags, input).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
    let too_long = VERBATIM.replace("900", "31536001");
    assert!(
        composed(&[], &too_long).unwrap_err().contains("constraints.max_runtime_sec: is 31536001, at most 31536000")
    );
}

#[test]
fn flags_say_what_they_take() {
    for (flags, part) in [
        (["--target", "deployment/x"], "only a Job can be the target, not `deployment`"),
        (["--target", "payments/job/x"], "a target is in the request's own namespace"),
        (["--target", "job/a/b"], "a target is in the request's own namespace"),
        (["--target", "x"], "write job/NAME"),
        (["--target", "job/X"], "a name is lower-case letters"),
        (["--target-uid", "u"], "--target <job/NAME>"),
        (["--evidence", "no-text"], "write TITLE=TEXT"),
        (["--name", "Run_1"], "a name is lower-case letters"),
        (["-n", "a.b"], "a namespace is lower-case letters"),
        (["--risk", "x"], "unexpected argument"),
    ] {
        let error = args(&flags).unwrap_err();
        assert!(error.contains(part), "{flags:?}: {error}");
    }
}

#[test]
fn a_derived_name_is_readable_and_tells_steps_apart() {
    let name = |run, step| derived_name(run, step).unwrap();
    assert_eq!(name("run_8f9a", "remediate"), "run-8f9a-remediate");
    assert_eq!(name("2024-01", "a"), "2024-01-a");
    let lossy = [
        name("Run", "a"),
        name("run", "a!"),
        name("run", "a."),
        name("run.1", "a"),
        name("run:1", "a"),
        name("_", "_"),
    ];
    for lossy in &lossy {
        let hash = lossy.rsplit_once('-').unwrap().1;
        assert!(hash.len() == 8 && hash.chars().all(|c| c.is_ascii_hexdigit()), "{lossy}");
    }
    assert_eq!(lossy.iter().collect::<std::collections::HashSet<_>>().len(), lossy.len());
    assert!(name("_", "_").starts_with("request-"));
    assert_ne!(name(&"a".repeat(128), &"b".repeat(128)), name(&"a".repeat(128), &format!("{}c", "b".repeat(127))));
}

#[test]
fn a_refusal_is_the_servers_own_and_says_what_to_do() {
    let api = |code: u16, reason: &str, message: &str| {
        let status = json!({"code": code, "reason": reason, "message": message});
        explained(kube::Error::Api(Box::new(serde_json::from_value(status).unwrap())), "https://x").to_string()
    };
    assert_eq!(api(403, "Forbidden", "no"), "the API server refused the request: no");
    assert!(api(409, "AlreadyExists", "\"a\" already exists").contains("already exists; if it is another run or step"));
    assert!(api(404, "NotFound", "the server could not find the requested resource").contains("countersign manifests"));
    assert!(!api(404, "NotFound", "namespaces \"x\" not found").contains("countersign manifests"));
}

proptest! {
    #[test]
    fn a_derived_name_always_names_an_object(run in "[!-~]{1,128}", step in "[!-~]{1,128}") {
        let name = derived_name(&run, &step).unwrap();
        prop_assert_eq!(object_name(&name), Ok(()), "{}", name);
    }

    #[test]
    fn no_input_panics_on_its_way_to_a_manifest(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in any::<String>()) {
        let flags = Args { run_id: Some(text.clone()), reason: Some(text), ..Args::default() };
        for input in [bytes.as_slice(), VERBATIM.as_bytes()] {
            if let Ok(draft) = compact::parse(input) {
                let _ = compose(&flags, draft);
            }
        }
    }
}
