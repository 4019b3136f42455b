//! Files that the programs themselves read, each in a process that may take only so much memory and processor time: it ends
//! with an error, not by a signal and not by a panic.

use crate::limits::config;
use crate::spoil::{Input, spoilt_text};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use std::path::Path;
use std::process::Command;

/// What a program may take.
const KIBIBYTES: usize = 512 << 10;
const SECONDS: usize = 10;

/// How a panic ends a process.
const PANICKED: i32 = 101;

/// The exit code and the errors of our program, in the folder with `file` in it.
fn run(dir: &Path, args: &[&str]) -> (Option<i32>, String) {
    let limited = format!("ulimit -v {KIBIBYTES} -t {SECONDS} && exec \"$0\" \"$@\"");
    let output = Command::new("sh")
        .args(["-c", &limited, env!("CARGO_BIN_EXE_countersign")])
        .args(args)
        .current_dir(dir)
        .env("KUBECONFIG", dir.join("file"))
        .env("HOME", dir)
        .output()
        .expect("it runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

const KUBECONFIG: &str = "apiVersion: v1\nkind: Config\ncurrent-context: one\nclusters:\n- name: one\n  cluster: {server: \"https://127.0.0.1:1\", certificate-authority-data: AAAA}\ncontexts:\n- name: one\n  context: {cluster: one, user: alice, namespace: payments}\nusers:\n- name: alice\n  user: {token: x, client-certificate-data: AAAA}\n";

const POLICY: &str = "apiVersion: countersign.dev/v1alpha1\nkind: ApprovalPolicy\nmetadata: {name: production}\nspec:\n  rules:\n  - name: all\n    decision: Deny\n    reason: no\n";

/// What each program reads as `file`, with a whole one to spoil.
fn programs() -> Vec<(&'static [&'static str], String)> {
    let job = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: a}\nspec: {template: {spec: {containers: []}}}\n";
    let record = r#"{"sequence":1,"last":1,"previous":"genesis","entries":[{"key":"u/1/Reviewed","transition":"Reviewed","time":"2027-01-15T08:00:00Z"}],"keyID":"x","signature":"AAAA"}"#;
    let key = "0123456789abcdef AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";
    vec![
        (&["explain", "run", "--namespace", "payments"], KUBECONFIG.into()),
        (&["request", "--file", "good", "--job", "file", "--kubeconfig", "none"], job.into()),
        (&["audit", "verify", "file", "--keys", "keys"], format!("{record}\n{record}\n")),
        (&["audit", "verify", "good", "--keys", "file"], key.into()),
        (
            &["audit", "verify", "good", "--keys", "keys", "--checkpoint", "file"],
            "origin\n1\nAAAA\n\n\u{2014} origin AAAA\n".into(),
        ),
        (
            &["receipt", "verify", "--receipt", "file", "--keys", "keys"],
            r#"{"payloadType":"a","payload":"AAAA","signatures":[{"keyid":"","sig":"AAAA"}]}"#.into(),
        ),
        (&["policy", "replay", "--policies", "file"], POLICY.into()),
        (
            &["policy", "test", "file"],
            "apiVersion: policy.countersign.dev/v1\nkind: PolicyTest\npolicies: [keys]\ncases: []\n".into(),
        ),
    ]
}

/// What is wrong whatever it is read as.
fn much() -> Vec<String> {
    let aliases =
        |letters: usize, times: usize| format!("a: &a {}\nb: [{}]\n", "x".repeat(letters), "*a, ".repeat(times));
    let listed = format!("a: &a [{}]\nb: [{}]\n", "1, ".repeat(30_000), "*a, ".repeat(30_000));
    vec![
        listed,
        aliases(200_000, 50_000),
        "[".repeat(200_000),
        "{\"a\":".repeat(100_000),
        "- ".repeat(50_000),
        "\u{0}".repeat(100_000),
        "9".repeat(1 << 20),
        "\n\n".repeat(1 << 20),
        "--- {}\n".repeat(50_000),
        String::new(),
    ]
}

#[test]
fn no_file_makes_a_program_panic_or_take_more_than_it_may() {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name: &str, content: &[u8]| std::fs::write(dir.path().join(name), content).expect("it is written");
    write("keys", b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n");
    write("good", br#"{"run_id":"r","step_id":"s","reason":"why","requested_by":"w"}"#);
    for (args, whole) in programs() {
        let mut runner = TestRunner::new(config(600));
        // A process takes as long as a hundred of the others.
        let spoilt: Vec<Input> = (0..runner.config().cases.div_ceil(100))
            .map(|_| spoilt_text(vec![whole.clone()]).new_tree(&mut runner).expect("an input").current())
            .collect();
        for content in much().iter().map(String::as_bytes).chain(spoilt.iter().map(|input| &**input)) {
            write("file", content);
            let (code, errors) = run(dir.path(), args);
            let refused = code.is_some_and(|code| code != PANICKED && code < 128);
            assert!(refused, "{args:?} ended with {code:?}: {errors:.2000}");
            assert!(!errors.contains("panicked"), "{args:?}: {errors:.2000}");
        }
    }
}
