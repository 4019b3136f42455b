//! Receipts, as a worker or the operator finds them on a Job.

use crate::cost::within;
use crate::limits::{RECEIPT, config};
use crate::spoil::spoilt;
use crate::world::{key, now};
use base64::{Engine, engine::general_purpose::STANDARD};
use countersign::api::Constraints;
use countersign::binding::{Expected, Keyring, Receipt, ReceiptJob, ReceiptRequest, canonical, check_receipt};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

fn receipt() -> Receipt {
    let request = ReceiptRequest { namespace: "payments".into(), name: "request".into(), uid: "u".into() };
    Receipt {
        request: Some(request),
        job: ReceiptJob::of("Job", "payments", "job", "j", format!("sha256:{}", "0".repeat(64))),
        digest: format!("sha256:{}", "1".repeat(64)),
        policy_snapshot: format!("sha256:{}", "2".repeat(64)),
        approvers: vec!["alice".into()],
        passed: vec![],
        constraints: Constraints { max_runtime_seconds: Some(900), ..Constraints::default() },
        time: now(),
        valid_until: Some(now()),
    }
}

fn envelope() -> Value {
    serde_json::from_str(&receipt().sign(&key()).expect("it is signed")).expect("JSON")
}

/// What the envelope carries.
fn statement() -> Value {
    let payload = STANDARD.decode(envelope()["payload"].as_str().expect("a payload")).expect("base64");
    serde_json::from_slice(&payload).expect("JSON")
}

/// DSSE around any bytes, by a key that is trusted.
fn signed(payload: &[u8], key: &Keyring) -> String {
    let kind = "application/vnd.in-toto+json";
    let mut encoded = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    encoded.extend_from_slice(payload);
    let signature = json!({"keyid": key.id(), "sig": STANDARD.encode(key.sign(&encoded))});
    json!({"payloadType": kind, "payload": STANDARD.encode(payload), "signatures": [signature]}).to_string()
}

fn checked(text: &str) -> Option<Receipt> {
    let key = key();
    let expected = Expected { job_uid: Some("j"), job_name: Some("payments/Job/job"), digest: None };
    within(&RECEIPT, text.len(), || {
        Receipt::open(&key, text);
        match check_receipt(&[key.public()], text, &expected, now()) {
            Ok(receipt) => Some(receipt),
            Err(refusal) => {
                assert!(refusal.to_string().len() <= 2 * text.len() + 500);
                None
            }
        }
    })
}

#[test]
fn a_spoilt_receipt_says_what_was_signed_or_nothing() {
    assert_eq!(checked(&envelope().to_string()), Some(receipt()));
    TestRunner::new(config(800))
        .run(&spoilt(vec![envelope()]), |text| {
            if let Some(said) = checked(&String::from_utf8_lossy(&text)) {
                prop_assert_eq!(said, receipt());
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn whatever_is_signed_is_a_receipt_for_this_job_or_none() {
    let key = key();
    let whole = signed(&canonical(&statement()).expect("JSON"), &key);
    assert_eq!(checked(&whole), Some(receipt()));
    let held = std::cell::Cell::new(0);
    TestRunner::new(config(800))
        .run(&spoilt(vec![statement()]), |payload| {
            if let Some(said) = checked(&signed(&payload, &key)) {
                prop_assert_eq!(
                    (said.job.uid.as_str(), said.valid_until.is_none_or(|until| until >= now())),
                    ("j", true)
                );
                held.set(held.get() + 1);
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(held.get() > 50, "only {} held", held.get());
}

#[test]
fn as_much_as_an_annotation_holds_costs_no_more_than_its_limit() {
    let (whole, key) = (envelope(), key());
    let signature = &whole["signatures"][0];
    let most = 256 << 10;
    let many = |signature: Value| {
        let count = most / signature.to_string().len();
        json!({"payloadType": whole["payloadType"], "payload": whole["payload"], "signatures": vec![signature; count]})
            .to_string()
    };
    for text in [
        many(signature.clone()),
        many(json!({"sig": STANDARD.encode([0; 64])})),
        many(json!({"sig": ""})),
        signed(&"[".repeat(most / 2).into_bytes(), &key),
        signed(&vec![0; most / 2], &key),
        format!("{{\"payload\":\"{}\"", "A".repeat(most)),
        "[".repeat(most),
        " ".repeat(most),
    ] {
        checked(&text);
    }
}
