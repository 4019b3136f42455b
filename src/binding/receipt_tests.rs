use super::*;
use base64::{Engine, engine::general_purpose::STANDARD};

fn key() -> Keyring {
    Keyring::from_seed(&[7; 32]).unwrap()
}

pub(in crate::binding) fn receipt() -> Receipt {
    Receipt {
        request: Some(ReceiptRequest { namespace: "payments".into(), name: "run".into(), uid: "r1".into() }),
        job: ReceiptJob::of("Job", "payments", "remediate", "j1", format!("sha256:{}", "0a".repeat(32))),
        digest: "sha256:01".into(),
        policy_snapshot: "sha256:02".into(),
        approvers: vec!["alice".into()],
        passed: vec![],
        constraints: Constraints { max_runtime_seconds: Some(900), ..Default::default() },
        time: Timestamp::UNIX_EPOCH,
        valid_until: Receipt::valid_until(Timestamp::UNIX_EPOCH, Some(900)),
    }
}

type Change = dyn Fn(&mut Value);

fn payload(envelope: &str) -> Vec<u8> {
    let envelope: Value = serde_json::from_str(envelope).unwrap();
    STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap()
}

#[test]
fn a_receipt_is_an_in_toto_statement_and_the_same_release_gives_the_same_bytes() {
    let envelope = receipt().sign(&key()).unwrap();
    assert_eq!(envelope, receipt().sign(&key()).unwrap());
    let outer: Value = serde_json::from_str(&envelope).unwrap();
    assert_eq!(outer["payloadType"], "application/vnd.in-toto+json");
    let signatures = outer["signatures"].as_array().unwrap();
    assert_eq!((signatures.len(), signatures[0]["keyid"].as_str()), (1, Some(key().id())));
    let hash = "0a".repeat(32);
    let expected = format!(
        r#"{{"_type":"https://in-toto.io/Statement/v1","predicate":{{"approvers":["alice"],"constraints":{{"maxRuntimeSeconds":900}},"digest":"sha256:01","job":{{"uid":"j1"}},"policySnapshot":"sha256:02","request":{{"name":"run","namespace":"payments","uid":"r1"}},"time":"1970-01-01T00:00:00Z","validUntil":"1970-01-01T00:15:00Z"}},"predicateType":"https://countersign.dev/receipt/v1","subject":[{{"digest":{{"sha256":"{hash}"}},"name":"payments/Job/remediate"}}]}}"#
    );
    assert_eq!(String::from_utf8(payload(&envelope)).unwrap(), expected, "these fields and no more");
    assert_eq!(Receipt::open(&key(), &envelope), Some(receipt()));
}

#[test]
fn what_there_is_not_is_left_out() {
    let allowed = Receipt { request: None, approvers: vec![], valid_until: None, ..receipt() };
    let envelope = allowed.sign(&key()).unwrap();
    let statement: Value = serde_json::from_slice(&payload(&envelope)).unwrap();
    let fields: Vec<_> = statement["predicate"].as_object().unwrap().keys().collect();
    assert_eq!(fields, ["approvers", "constraints", "digest", "job", "policySnapshot", "time"]);
    assert_eq!(Receipt::open(&key(), &envelope), Some(allowed));
}

#[test]
fn only_our_own_signature_opens() {
    let envelope = receipt().sign(&key()).unwrap();
    let other = Keyring::from_seed(&[8; 32]).unwrap();
    assert_eq!(Receipt::open(&other, &envelope), None);
    let forged = Receipt { approvers: vec!["mallory".into()], ..receipt() }.sign(&other).unwrap();
    assert!(Receipt::open(&other, &forged).is_some());
    let mut spliced: Value = serde_json::from_str(&envelope).unwrap();
    spliced["payload"] = serde_json::from_str::<Value>(&forged).unwrap()["payload"].clone();
    assert_eq!(Receipt::open(&key(), &spliced.to_string()), None);
    assert_eq!(Receipt::open(&key(), "{}"), None);
}

#[test]
fn a_statement_about_something_else_is_no_receipt() {
    let signed = |change: &Change| {
        let mut statement: Value = serde_json::from_slice(&payload(&receipt().sign(&key()).unwrap())).unwrap();
        change(&mut statement);
        let envelope = Envelope::seal(STATEMENT_PAYLOAD, &canonical(&statement).unwrap(), &key()).text();
        Receipt::read(&[key().public()], &envelope)
    };
    assert!(signed(&|_| ()).is_ok());
    let second = |s: &mut Value| {
        let subject = s["subject"][0].clone();
        s["subject"].as_array_mut().unwrap().push(subject);
    };
    let cases: [(&Change, &str); 10] = [
        (&|s| s["_type"] = json!("https://in-toto.io/Statement/v0.1"), "its _type"),
        (&|s| s["predicateType"] = json!("https://slsa.dev/provenance/v1"), "its predicateType"),
        (&|s| s["subject"] = json!([]), "it does not have exactly one subject"),
        (&|s| s["subject"] = Value::Null, "it does not have exactly one subject"),
        (&second, "it does not have exactly one subject"),
        (&|s| s["subject"][0]["name"] = Value::Null, "its subject has no name, or no digest sha256"),
        (&|s| s["subject"][0]["digest"] = json!({"md5": "00"}), "its subject has no name, or no digest sha256"),
        (
            &|s| s["subject"][0]["digest"]["sha256"] = json!("0A".repeat(32)),
            "its subject's digest is not 64 lower-case hexadecimal digits",
        ),
        (
            &|s| s["subject"][0]["digest"]["sha256"] = json!("00"),
            "its subject's digest is not 64 lower-case hexadecimal digits",
        ),
        (&|s| s["predicate"] = Value::Null, "this version cannot read its predicate"),
    ];
    for (change, why) in cases {
        assert_eq!(signed(change), Err(NoReceipt::OtherStatement(why)));
    }
    let other = Envelope::seal("text/plain", &payload(&receipt().sign(&key()).unwrap()), &key()).text();
    assert_eq!(Receipt::read(&[key().public()], &other), Err(NoReceipt::OtherStatement("its payloadType")));
}

#[test]
fn a_receipt_of_an_earlier_operator_opens() {
    let envelope = earlier::sign(&receipt(), &key());
    assert!(envelope.contains(r#""payloadType":"application/vnd.countersign.receipt.v1+json""#), "{envelope}");
    let mut expected = Receipt { valid_until: None, ..receipt() };
    expected.job.name = String::new();
    assert_eq!(Receipt::open(&key(), &envelope), Some(expected));
    assert_eq!(Receipt::open(&Keyring::from_seed(&[8; 32]).unwrap(), &envelope), None);
    // Neither payload passes for the other.
    let (new, old) = (payload(&receipt().sign(&key()).unwrap()), payload(&envelope));
    for (payload_type, payload) in [(EARLIER_PAYLOAD, new), (STATEMENT_PAYLOAD, old)] {
        assert_eq!(Receipt::open(&key(), &Envelope::seal(payload_type, &payload, &key()).text()), None);
    }
}

#[test]
fn who_passed_a_window_is_named_and_nobody_where_nobody_did() {
    let pass = json!({"policy": "production", "rule": "prod-write", "window": "weekend", "by": "carol", "held": true});
    let receipt = Receipt { passed: vec![serde_json::from_value(pass.clone()).unwrap()], ..receipt() };
    let opened = Receipt::open(&key(), &receipt.sign(&key()).unwrap()).unwrap();
    assert_eq!(serde_json::to_value(opened).unwrap()["passed"], json!([pass]));
    // An earlier operator named nobody.
    assert_eq!(Receipt::open(&key(), &earlier::sign(&self::receipt(), &key())).unwrap().passed, []);
}

#[test]
fn time_without_end_has_no_end() {
    assert_eq!(Receipt::valid_until(Timestamp::UNIX_EPOCH, None), None);
    assert_eq!(Receipt::valid_until(Timestamp::UNIX_EPOCH, Some(i64::MAX)), None);
    assert_eq!(Receipt::valid_until(Timestamp::UNIX_EPOCH, Some(60)), Timestamp::from_second(60).ok());
}
