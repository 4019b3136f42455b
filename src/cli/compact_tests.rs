use super::*;
use proptest::prelude::*;

const VERBATIM: &str = r#"{"run_id":"run_8f9a","step_id":"remediate","reason":"prod write detected","policy_snapshot":"7f3d...9c2b","risk_tags":["prod","write"],"constraints":{"max_lines_changed":500,"max_runtime_sec":900},"requested_by":"workflow.incident-triage"}"#;

fn error(input: &str) -> String {
    parse(input.as_bytes()).unwrap_err().to_string()
}

#[test]
fn the_compact_form_becomes_a_spec() {
    let draft = parse(VERBATIM.as_bytes()).unwrap();
    let expected = json!({
        "runID": "run_8f9a", "stepID": "remediate", "requestedBy": "workflow.incident-triage",
        "reason": "prod write detected", "riskTags": ["prod", "write"], "policySnapshot": "7f3d...9c2b",
        "constraints": {"maxRuntimeSeconds": 900, "limits": {"maxLinesChanged": 500}}
    });
    assert_eq!((draft.form, Value::Object(draft.spec)), (Form::Compact, expected));
    assert_eq!(parse(format!("\u{feff} \n{VERBATIM}\n").as_bytes()).unwrap().metadata, Map::new());
}

#[test]
fn constraints_are_whole_numbers_under_their_names() {
    let spec = |constraints: &str| {
        parse(format!(r#"{{"constraints":{constraints}}}"#).as_bytes())
            .map(|d| Value::Object(d.spec)["constraints"].clone())
    };
    for (given, expected) in [
        (r#"{"max_retries":0,"max_parallelism":2}"#, json!({"maxRetries": 0, "maxParallelism": 2})),
        (
            r#"{"max_rows":9e2,"b":9.0,"alreadyCamel":-0.0}"#,
            json!({"limits": {"maxRows": 900, "b": 9, "alreadyCamel": 0}}),
        ),
        (r#"{"a_5_b__c_":9007199254740991}"#, json!({"limits": {"a5BC": 9_007_199_254_740_991i64}})),
        ("{}", Value::Null),
        ("null", Value::Null),
    ] {
        assert_eq!(spec(given).unwrap(), expected);
    }
    for (given, part) in [
        (r#"{"max_rows":-1}"#, "constraints.max_rows: is below zero"),
        (r#"{"max_runtime_sec":-1}"#, "constraints.max_runtime_sec: is below zero"),
        (r#"{"max_rows":1.5}"#, "constraints.max_rows: is not a whole number"),
        (r#"{"max_rows":9007199254740992}"#, "constraints.max_rows: is above 9007199254740991"),
        (r#"{"max_rows":18446744073709551615}"#, "constraints.max_rows: is too large"),
        (r#"{"max_rows":1e300}"#, "constraints.max_rows: is too large"),
        (r#"{"max_rows":"5"}"#, "constraints.max_rows: must be a number"),
        (r#"{"max_rows":5,"maxRows":5}"#, "another constraint is called maxRows"),
        (r#"{"max_rows":5,"max_rows":6}"#, "duplicate entry"),
        (r#"{"max_runtime_seconds":5}"#, "constraints.max_runtime_seconds: is written max_runtime_sec here"),
        (r#"{"maxRuntimeSec":5}"#, "is written max_runtime_sec here"),
        (r#"{"maxRetries":5}"#, "is written max_retries here"),
        (r#"{"5":5}"#, "constraints.5: a constraint's name begins with a letter"),
        (r#"{"a\u001b[2J":5}"#, "constraints.a\\u{1b}[2J: a constraint's name"),
    ] {
        let error = spec(given).unwrap_err().to_string();
        assert!(error.contains(part), "{given}: {error}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    for (input, part) in [
        ("", "neither compact JSON"),
        ("hello", "neither compact JSON"),
        ("[1]", "neither compact JSON"),
        ("a: [", "not well-formed YAML"),
        ("{\n  \"run_id\": }", "malformed JSON: expected value at line 2 column 13"),
        ("{\"run_id\":\"a\"} x", "malformed JSON: trailing characters at line 1 column 16"),
        (r#"{"run_id":7}"#, "run_id: invalid type: integer `7`, expected a string at line 1 column 11"),
        (r#"{"risk_tags":["a",7]}"#, "risk_tags[1]: invalid type"),
        (r#"{"run_idd":"a"}"#, "run_idd: unknown field `run_idd`, expected one of `run_id`"),
        (r#"{"\u001b[31m":"a"}"#, "unknown field `\\u{1b}[31m`"),
        (r#"{"run_id":"a","run_id":"b"}"#, "duplicate entry"),
        (r#"{"apiVersion":"v1","kind":"ApprovalRequest"}"#, "apiVersion: must be countersign.dev/v1alpha1, not \"v1\""),
        ("apiVersion: countersign.dev/v1alpha1\nkind: Job", "kind: must be ApprovalRequest, not \"Job\""),
        ("apiVersion: countersign.dev/v1alpha1\nkind: ApprovalRequest\nstatus: {}", "status: is the operator's"),
        ("apiVersion: countersign.dev/v1alpha1\nkind: ApprovalRequest\nextra: 1", "extra: there is no such field"),
        ("apiVersion: countersign.dev/v1alpha1\nkind: ApprovalRequest\nspec: 1", "spec: must be a set"),
        (
            "apiVersion: countersign.dev/v1alpha1\nkind: ApprovalRequest\nmetadata: {uid: x}",
            "metadata.uid: cannot be given",
        ),
        (
            "apiVersion: countersign.dev/v1alpha1\nkind: ApprovalRequest\nmetadata: {labels: {a: 1}}",
            "metadata.labels[a]: must be text",
        ),
        (
            "apiVersion: countersign.dev/v1alpha1\nkind: ApprovalRequest\nmetadata: {name: \"a\\e\"}",
            "metadata.name: contains the control character \\u{1b}",
        ),
        ("apiVersion: a\napiVersion: b", "duplicate entry"),
    ] {
        let error = error(input);
        assert!(error.contains(part), "{input:?}: {error}");
        assert!(!error.contains(char::is_control), "{error:?}");
    }
    assert!(parse(b"{\"run_id\":\"\xff\"}").unwrap_err().to_string().contains("not UTF-8 text from byte 11"));
}

#[test]
fn a_full_object_is_taken_as_it_is() {
    let yaml = "apiVersion: countersign.dev/v1alpha1\nkind: ApprovalRequest\nmetadata: {name: a, labels: {team: sre}}\nspec: {runID: r}\n";
    let draft = parse(yaml.as_bytes()).unwrap();
    assert_eq!((draft.form, &draft.metadata["name"], &draft.spec["runID"]), (Form::Object, &json!("a"), &json!("r")));
    let json = r#"{"apiVersion":"countersign.dev/v1alpha1","kind":"ApprovalRequest","metadata":{"name":"a"},"spec":{"runID":"r"}}"#;
    assert_eq!(parse(json.as_bytes()).unwrap().spec, draft.spec);
}

#[test]
fn problems_are_told_in_the_spelling_of_the_input() {
    let told = |form: Form, path: &str| form.error(&Problem { path: path.into(), what: "x".into() }).to_string();
    for (path, compact) in [
        ("runID", "run_id: x"),
        ("riskTags[1]", "risk_tags[1]: x"),
        ("constraints.maxRuntimeSeconds", "constraints.max_runtime_sec: x"),
        ("constraints.limits.maxRows", "constraints.maxRows: x"),
        ("evidence[0].title", "evidence[0].title: x"),
    ] {
        assert_eq!(told(Form::Compact, path), compact);
        assert_eq!(told(Form::Object, path), format!("spec.{path}: x"));
    }
}

/// Never ends: a reader that is asked for more than it should fails the test.
struct Endless(usize);
impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0 += buffer.len();
        assert!(self.0 < 4 * LONGEST, "read on and on");
        buffer.fill(b' ');
        Ok(buffer.len())
    }
}

#[test]
fn a_long_input_is_not_read_to_its_end() {
    assert!(matches!(read(Endless(0)), Err(InputError::TooLong)));
    assert_eq!(read(&vec![b' '; LONGEST][..]).unwrap().len(), LONGEST);
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn nothing_that_looks_like_a_request_panics(
        key in "[a-z_\"{}:,\\[\\]0-9\\\\ .-]{0,20}", value in any::<String>(), number in any::<f64>(), yaml in "[-a-z:{}\\[\\] \n&*!|>'\"#?%@,0-9.]{0,60}",
    ) {
        for input in [
            format!("{{{key}:{value}}}"),
            format!("{{\"{key}\":{value:?}}}"),
            json!({"constraints": {&key: number}, "risk_tags": [&value], "run_id": &value}).to_string(),
            format!("apiVersion: countersign.dev/v1alpha1\nkind: ApprovalRequest\nspec: {{{yaml}}}"),
            yaml,
        ] {
            if let Err(error) = parse(input.as_bytes()) {
                prop_assert!(!error.to_string().contains(char::is_control));
            }
        }
    }
}
