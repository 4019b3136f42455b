//! What `countersign request -f` reads: the compact form, and whole requests as JSON or YAML.

use crate::cost::within;
use crate::limits::{REQUEST, config};
use crate::spoil::{spoilt, spoilt_text};
use crate::world;
use countersign::cli::compact::{self, InputError, LONGEST};
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

fn compact() -> Value {
    json!({"run_id": "run_1", "step_id": "s", "reason": "why", "risk_tags": ["prod", "write"], "policy_snapshot": "sha256:00",
        "constraints": {"max_lines_changed": 500, "max_runtime_sec": 900, "max_retries": 1}, "requested_by": "workflow.x"})
}

fn whole() -> Value {
    let mut request = world::request();
    request.as_object_mut().expect("a map").remove("status");
    request["metadata"] = json!({"name": "a", "namespace": "b", "labels": {"c": "d"}, "annotations": {"e": "f\ng"}});
    request
}

/// YAML as only YAML can be.
fn yaml() -> Vec<String> {
    let plain = serde_yaml_of(&whole());
    vec![
        plain.clone(),
        format!("--- # one\n{plain}"),
        "apiVersion: &a countersign.dev/v1alpha1\nkind: ApprovalRequest\nspec: {<<: {reason: x}, riskTags: [*a, *a], runID: !!str 1}\n".into(),
        "? [a, b]\n: |\n  text\n? {c: d}\n: >-\n  more\napiVersion: 'x'\n".into(),
        "apiVersion: .inf\nkind: 0o17\nspec: ~\n...\n---\n- x\n".into(),
    ]
}

fn serde_yaml_of(value: &Value) -> String {
    serde_yaml::to_string(value).expect("YAML")
}

/// It is understood or refused in few words, which hold nothing that a terminal obeys.
fn read(text: &[u8]) -> bool {
    within(&REQUEST, text.len(), || match compact::parse(text) {
        Ok(draft) => draft.spec.len() + draft.metadata.len() > 0,
        Err(error) => {
            let said = error.to_string();
            let short = said.len() <= 2 * text.len() + 1_000;
            assert!(short && !said.chars().any(|c| c.is_control()), "{said:?}");
            false
        }
    })
}

#[test]
fn a_spoilt_request_is_understood_or_refused_within_its_limit() {
    let understood = std::cell::Cell::new(0);
    TestRunner::new(config(1_500))
        .run(&spoilt(vec![compact(), compact(), whole()]), |text| {
            understood.set(understood.get() + u32::from(read(&text)));
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(understood.get() > 50, "only {} were understood", understood.get());
    TestRunner::new(config(1_000))
        .run(&spoilt_text(yaml()), |text| {
            read(&text);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn what_is_short_and_means_much_is_refused_within_its_limit() {
    let most = LONGEST - 200;
    let twice = |each: &str| {
        let (half, aliases) = (most / 2 / each.len(), most / 2 / 4);
        format!("apiVersion: v\na: &a [{}]\nb: [{}]\n", each.repeat(half), "*a, ".repeat(aliases))
    };
    let laughs: String =
        (0..30).map(|i| format!("l{}: &l{} [{}]\n", i + 1, i + 1, format!("*l{i}, ").repeat(9))).collect();
    let merges = (0..200).map(|i| {
        format!("m{i}: &m{i} {{<<: [{}], k{i}: 1}}\n", (0..i).map(|j| format!("*m{j}, ")).collect::<String>())
    });
    for text in [
        twice("x, "),
        twice("{}, "),
        twice("[[x]], "),
        format!("apiVersion: v\nl0: &l0 x\n{laughs}"),
        format!("apiVersion: v\n{}", merges.collect::<String>()),
        format!("a: &a {}\nb: [{}]\n", "x".repeat(most / 2), "*a, ".repeat(most / 8)),
        format!("apiVersion: v\nspec: {}", "[".repeat(most)),
        format!("apiVersion: v\nspec: {}", "{a: ".repeat(most / 4)),
        format!("apiVersion: v\nspec: {}", "- ".repeat(most / 2)),
        format!("apiVersion: v\n{}", "? ".repeat(most / 2)),
        format!("apiVersion: v\nspec: '{}'", "\\u0000".repeat(most / 6)),
        format!("apiVersion: v\nspec: &a [*a]\n{}", "#\n".repeat(most / 2)),
        format!("{{\"apiVersion\": [{}1]}}", "{\"a\":0},".repeat(most / 8)),
        format!(
            "{{\"constraints\": {{{}\"z\": 1}}}}",
            (0..most / 12).map(|i| format!("\"a{i:x}\":1,")).take(20_000).collect::<String>()
        ),
        format!("{{\"risk_tags\": [{}\"\"]}}", "\"\",".repeat(most / 3)),
        "\u{feff}".repeat(most / 3),
        "%YAML 1.1\n".repeat(most / 10),
        "--- x\n".repeat(most / 6),
        "!!binary |\n x\n".repeat(most / 14),
    ] {
        assert!(text.len() <= LONGEST, "{}", &text[..40]);
        read(text.as_bytes());
    }
    let beyond = vec![b' '; LONGEST + 1];
    assert!(matches!(compact::parse(&beyond), Err(InputError::TooLong)));
    assert!(matches!(compact::read(std::io::repeat(b'x')), Err(InputError::TooLong)), "no more is read");
}
