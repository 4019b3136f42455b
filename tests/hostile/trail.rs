//! Exports of the audit trail, which auditors get from elsewhere, and checkpoints of it.

use crate::cost::within;
use crate::limits::{TRAIL, config};
use crate::spoil::{spoilt, spoilt_text, spoilt_value, text};
use crate::world::{self, key, now};
use base64::{Engine, engine::general_purpose::STANDARD};
use countersign::api::RecordEntry;
use countersign::audit::{Checkpoint, Head, Ledger, Trusted, by_name, chain, seal, verify};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

fn entry(number: usize) -> RecordEntry {
    let entry = json!({"key": format!("u{number}/1/Reviewed"), "transition": "Reviewed", "time": "2027-01-15T08:00:00.000000Z",
        "request": {"namespace": "payments", "name": "request", "uid": format!("u{number}"), "runID": "r", "stepID": "s", "requestedBy": "w"},
        "by": [{"username": "alice", "uid": "u-1", "groups": ["sre"]}], "reason": "Approve", "message": "seen",
        "review": {"decision": "Approve", "comment": "x", "nested": [{"a": 1}]}});
    serde_json::from_value(entry).expect("an entry")
}

/// Some records with some entries each.
fn trail() -> Vec<Value> {
    let (mut head, mut number) = (Head::default(), 0);
    [2usize, 1, 3]
        .map(|entries| {
            let entries = (0..entries).map(|_| {
                number += 1;
                entry(number)
            });
            let spec =
                serde_json::to_value(seal(&head, entries.collect(), &key()).expect("it is signed")).expect("JSON");
            head = Head { length: spec["last"].as_i64().expect("a number"), hash: chain::hash(&spec).expect("JSON") };
            spec
        })
        .into()
}

fn signed(mut spec: Value) -> Value {
    spec["keyID"] = json!(key().id());
    if let Ok(bytes) = chain::signed_bytes(&spec) {
        spec["signature"] = json!(STANDARD.encode(key().sign(&bytes)));
    }
    spec
}

/// Lines as they stand in an export: what is no JSON is null.
fn lines(export: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(export);
    text.lines().map(|line| serde_json::from_str(line).unwrap_or(Value::Null)).collect()
}

/// Whether it is whole.
fn checked(export: &[u8]) -> bool {
    let trusted = Trusted { keys: vec![key().public()], checkpoints: vec![] };
    within(&TRAIL, export.len(), || {
        let records = lines(export);
        let report = verify(&records, &trusted);
        let mut ledger = Ledger::default();
        for record in &records {
            if ledger.learn(record, &by_name(&trusted.keys)).is_err() {
                break;
            }
        }
        if let Some(fault) = &report.fault {
            assert!(fault.to_string().len() <= 2 * export.len() + 1_000);
        }
        report.fault.is_none() && report.records == 3
    })
}

fn export(records: &[Value]) -> Vec<u8> {
    records.iter().flat_map(|record| [text(record), b"\n".to_vec()].concat()).collect()
}

#[test]
fn a_spoilt_export_is_never_whole() {
    let whole = trail();
    assert!(checked(&export(&whole)));
    TestRunner::new(config(800))
        .run(&(0..3usize, spoilt(vec![json!(whole)])), |(_, spoilt)| {
            let Ok(records) = serde_json::from_slice::<Vec<Value>>(&spoilt) else { return Ok(()) };
            prop_assert!(
                records == whole
                    || records.iter().any(Value::is_null)
                    || !checked(&export(&records))
                    || records.starts_with(&whole[..])
            );
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    let texts = vec![String::from_utf8(export(&whole)).expect("text")];
    TestRunner::new(config(800))
        .run(&spoilt_text(texts), |spoilt| {
            prop_assert!(!checked(&spoilt) || lines(&spoilt) == whole);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}

/// By somebody who holds the key.
#[test]
fn whatever_is_signed_is_checked_and_told_within_its_limit() {
    let whole = trail();
    TestRunner::new(config(500))
        .run(&(0..3usize, spoilt_value(whole.clone())), |(at, record)| {
            let mut records = whole.clone();
            records[at] = if record.is_object() { signed(record) } else { record };
            checked(&export(&records));
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    for sequence in [i64::MIN, -1, 0, i64::MAX - 1, i64::MAX] {
        let mut record = whole[0].clone();
        (record["sequence"], record["last"]) = (json!(sequence), json!(sequence.saturating_add(1)));
        let pruned = json!({"through": i64::MAX, "hash": "x", "first": "y"});
        record["entries"][0]["pruned"] = pruned;
        checked(&export(&[signed(record), whole[1].clone()]));
    }
}

#[test]
fn a_spoilt_checkpoint_is_none_or_the_one_that_was_signed() {
    let head = Head { length: 6, hash: chain::hash(&trail()[2]).expect("JSON") };
    let whole = Checkpoint { origin: "countersign.dev/audit/0123456789abcdef".into(), head };
    let note = whole.sign(&key()).expect("it is signed");
    let keys = [key().public()];
    assert_eq!(Checkpoint::open(&note, &keys).as_ref(), Ok(&whole));
    TestRunner::new(config(1_500))
        .run(&spoilt_text(vec![note.clone()]), |spoilt| {
            let spoilt = String::from_utf8_lossy(&spoilt).into_owned();
            if let Ok(read) = within(&TRAIL, spoilt.len(), || Checkpoint::open(&spoilt, &keys)) {
                prop_assert_eq!(&read, &whole);
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    let signature = note.lines().next_back().expect("a line");
    for text in [
        note.clone() + &format!("{signature}\n").repeat(10_000),
        "\n\n".repeat(500_000),
        format!("{}\n\n{note}", "9".repeat(1 << 20)),
    ] {
        let _ = within(&TRAIL, text.len(), || Checkpoint::open(&text, &keys));
    }
}

#[test]
fn a_long_export_costs_no_more_than_its_limit() {
    let whole = trail();
    let twice: Vec<u8> = export(&whole).repeat(300);
    checked(&twice);
    for line in ["{}\n", "[\n", "null\n", "{\"sequence\":1}\n", "{\"entries\":[{\"pruned\":{\"through\":9}}]}\n"] {
        checked(line.repeat((1 << 20) / line.len()).as_bytes());
    }
    let mut index_told = whole[0].clone();
    index_told["entries"] = json!(vec![&whole[0]["entries"][0]; 3_000]);
    checked(&export(&[signed(index_told)]));
    let index = world::index();
    for record in &whole {
        assert!(index.learn_record(record, &by_name(&[key().public()])).is_ok());
    }
    index.tell_of_keys(now());
}
