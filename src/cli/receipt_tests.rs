use super::*;
use crate::binding::{Keyring, Pass, ReceiptJob, ReceiptRequest};
use crate::cli::Args as All;
use clap::Parser;

fn receipt() -> Receipt {
    Receipt {
        request: Some(ReceiptRequest { namespace: "payments".into(), name: "run-8f9a".into(), uid: "r1".into() }),
        job: ReceiptJob::of("Job", "payments", "remediate", "j1", format!("sha256:{}", "0a".repeat(32))),
        digest: "sha256:01".into(),
        policy_snapshot: "sha256:02".into(),
        approvers: vec!["alice".into(), "\u{430}lice".into()],
        passed: vec![],
        constraints: serde_json::from_value(json!({"maxRuntimeSeconds": 900, "limits": {"maxLinesChanged": 500}}))
            .unwrap(),
        time: Timestamp::UNIX_EPOCH,
        valid_until: Timestamp::from_second(900).ok(),
    }
}

#[test]
fn a_program_gets_the_constraints_and_a_person_everything() {
    let mut receipt = receipt();
    assert_eq!(told(&receipt, Form::Json), "{\"limits\":{\"maxLinesChanged\":500},\"maxRuntimeSeconds\":900}\n");
    let (policy, rule, window) = ("production".into(), "prod-write".into(), "weekend".into());
    receipt.passed = vec![Pass { policy, rule, window, by: "carol".into(), held: true }];
    assert_eq!(
        told(&receipt, Form::Text),
        "valid: payments/Job/remediate, uid j1
approved by alice, \\u{430}lice
freeze window production/prod-write/weekend passed by carol
request payments/run-8f9a, uid r1
digest sha256:01
policy snapshot sha256:02
released at 1970-01-01T00:00:00Z
valid until 1970-01-01T00:15:00Z
constraints {\"limits\":{\"maxLinesChanged\":500},\"maxRuntimeSeconds\":900}
"
    );
    let allowed = Receipt { request: None, approvers: vec![], passed: vec![], valid_until: None, ..receipt };
    let text = told(&allowed, Form::Text);
    assert!(text.contains("\nallowed by policy\ndigest ") && text.contains("\nvalid without end\n"), "{text}");
    let unbounded = Receipt { constraints: Default::default(), ..allowed };
    assert_eq!(told(&unbounded, Form::Json), "{}\n", "always JSON for the worker to read");
}

#[test]
fn a_receipt_comes_from_one_place_with_keys_and_nothing_expected_is_empty() {
    let parsed = |args: &str| {
        let args = args.split(' ').map(|arg| if arg == "EMPTY" { "" } else { arg });
        All::try_parse_from(["countersign", "receipt", "verify"].into_iter().chain(args)).map_err(|e| e.to_string())
    };
    for good in [
        "--receipt r --keys k",
        "--receipt - --keys k --job-uid u --digest d",
        "--job j -n payments",
        "--job j --keys k",
    ] {
        assert!(parsed(good).is_ok(), "{good}: {:?}", parsed(good));
    }
    for (bad, said) in [
        ("--keys k", "<--receipt <FILE>|--job <NAME>>"),
        ("--receipt r", "--keys"),
        ("--receipt r --keys k --job j", "cannot be used with"),
        ("--receipt r --keys k -n payments", "cannot be used with"),
        ("--receipt r --keys k --job-uid EMPTY", "it is empty"),
        ("--receipt r --keys k --digest EMPTY", "it is empty"),
    ] {
        let error = parsed(bad).unwrap_err();
        assert!(error.contains(said), "{bad}: {error}");
    }
}

#[tokio::test]
async fn the_exit_code_tells_a_bad_receipt_from_one_that_cannot_be_checked() {
    let dir = tempfile();
    let key = Keyring::from_seed(&[7; 32]).unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(dir.join(name), text).unwrap();
        dir.join(name).display().to_string()
    };
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, key.public());
    let (good, keys) =
        (file("good", &receipt().sign(&key).unwrap()), file("keys", &format!("{} {encoded}\n", key.id())));
    let (empty, bad) =
        (file("empty", ""), file("bad", &receipt().sign(&key).unwrap().replacen("in-toto", "in-tofu", 1)));
    let gone = dir.join("gone").display().to_string();
    let early = "1970-01-01T00:01:00Z";
    for (receipt, keys, at, code) in [
        (&good, &keys, early, ExitCode::SUCCESS),
        (&good, &keys, "1970-01-01T00:15:01Z", ExitCode::FAILURE),
        (&empty, &keys, early, ExitCode::FAILURE),
        (&bad, &keys, early, ExitCode::FAILURE),
        (&gone, &keys, early, ExitCode::from(2)),
        (&good, &gone, early, ExitCode::from(2)),
        (&good, &empty, early, ExitCode::from(2)),
    ] {
        let args = ["countersign", "receipt", "verify", "--receipt", receipt, "--keys", keys, "--at", at];
        let crate::cli::Command::Receipt(args) = All::try_parse_from(args).unwrap().command else { unreachable!() };
        assert_eq!(run(args).await, code, "{receipt} {keys} {at}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

fn tempfile() -> PathBuf {
    let dir = std::env::temp_dir().join(format!("countersign-receipt-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}
