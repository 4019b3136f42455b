//! What may stand in the Secret of the certificate, whoever wrote it: also where others issue it.

use crate::cost::within;
use crate::limits::{CERTIFICATE, config};
use crate::world::now;
use base64::{Engine, engine::general_purpose::STANDARD};
use countersign::admission::certificate::{Stored, name_of};
use countersign::admission::tls::{Serving, self_signed};
use jiff::SignedDuration;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestRunner;
use std::collections::BTreeMap;

/// Most that a Secret holds.
const LARGEST: usize = 1 << 20;

type Data = BTreeMap<String, Vec<u8>>;

fn serving(hours: i64) -> Serving {
    self_signed("countersign.example", now(), SignedDuration::from_hours(hours)).expect("a certificate")
}

fn data(serving: &Serving) -> Data {
    let parts = [("tls.crt", &serving.certificate), ("tls.key", &serving.key), ("ca.crt", &serving.authority)];
    parts.into_iter().map(|(key, text)| (key.into(), text.clone().into_bytes())).collect()
}

/// One in the midst of a rotation.
fn whole() -> Data {
    let (current, next) = (serving(24), serving(48));
    let mut all = data(&current);
    all.extend(
        data(&next).into_iter().map(|(key, text)| (key.replace("tls", "next").replace("ca.crt", "next-ca.crt"), text)),
    );
    all.insert("next-announced".into(), now().to_string().into_bytes());
    let before = serde_json::json!([{"authority": serving(12).authority, "until": now()}]);
    all.insert("previous".into(), before.to_string().into_bytes());
    all
}

/// What is used of it serves the name that it is for, and is what the API server is told to trust.
fn read(data: &Data) -> bool {
    let size = data.values().map(Vec::len).sum();
    let name = name_of("countersign.example").expect("a name");
    let stored = within(&CERTIFICATE, size, || {
        let (stored, flaw) = Stored::read(data, &name, now());
        assert_eq!(stored.current.is_none(), flaw.is_some());
        if let Some(flaw) = flaw {
            assert!(flaw.to_string().len() < 500, "{flaw}");
        }
        stored.expectations();
        stored
    });
    let authorities = stored.bundle().matches("BEGIN CERTIFICATE").count();
    assert!(authorities <= 2 * size / 300 + 1, "{authorities} authorities of {size} bytes");
    stored.current.is_some()
}

/// DER inside of PEM, with other bytes in it: past what the armour would refuse.
fn inside(pem: &[u8], at: &Index, byte: u8) -> Vec<u8> {
    let text = String::from_utf8_lossy(pem);
    let mut lines = text.lines().filter(|line| !line.is_empty());
    let (Some(first), Some(last)) = (lines.next(), lines.next_back()) else { return pem.to_vec() };
    let Ok(mut der) = STANDARD.decode(lines.collect::<String>()) else { return pem.to_vec() };
    if !der.is_empty() {
        let at = at.index(der.len());
        der[at] = byte;
    }
    format!("{first}\n{}\n{last}\n", STANDARD.encode(der)).into_bytes()
}

#[test]
fn a_spoilt_secret_serves_something_whole_or_nothing_within_its_limit() {
    let whole = whole();
    assert!(read(&whole));
    let keys: Vec<String> = whole.keys().cloned().collect();
    let change = (select(keys), 0..7u8, any::<Index>(), any::<u8>(), prop::sample::select(vec![1usize, 2, 40, 700]));
    let served = std::cell::Cell::new(0);
    TestRunner::new(config(400))
        .run(&vec(change, 1..4), |changes| {
            let mut data = whole.clone();
            for (key, how, at, byte, times) in changes {
                let other = at.get(&whole.values().collect::<Vec<_>>()).to_vec();
                let text = data.get_mut(&key).expect("it is there");
                match how {
                    0..=2 => *text = inside(text, &at, byte),
                    3 => text.truncate(at.index(text.len() + 1)),
                    4 => *text = other,
                    5 => *text = [text.as_slice(), &other].concat(),
                    _ => *text = text.repeat(times.min(LARGEST / (1 + text.len()))),
                }
            }
            served.set(served.get() + u32::from(read(&data)));
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(served.get() > 20, "only {} were served", served.get());
}

#[test]
fn as_much_as_a_secret_holds_costs_no_more_than_its_limit() {
    let serving = serving(24);
    let fill = |text: &str| text.repeat(LARGEST / text.len());
    let others: String = (1..40).map(|hours| self::serving(hours).authority).collect();
    for (key, text) in [
        ("ca.crt", fill(&serving.authority)),
        ("ca.crt", fill(&others)),
        ("tls.crt", serving.certificate.clone() + &fill(&serving.authority)),
        ("tls.crt", serving.certificate.clone() + &fill(&others)),
        ("tls.key", fill(&serving.key)),
        ("tls.crt", fill("-----BEGIN CERTIFICATE-----\n")),
        ("ca.crt", fill("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")),
        ("tls.crt", "-----BEGIN CERTIFICATE-----\n".to_string() + &fill("MIIB") + "\n-----END CERTIFICATE-----\n"),
        ("previous", format!("[{}null]", fill("{},"))),
        ("previous", fill("[")),
        (
            "previous",
            format!(
                "[{}{{}}]",
                fill(&format!(
                    "{{\"authority\":{},\"until\":\"2027-01-15T08:00:00Z\"}},",
                    serde_json::json!(serving.authority)
                ))
            ),
        ),
        ("next-announced", fill("9")),
    ] {
        let mut data = data(&serving);
        data.insert(key.into(), text.into_bytes());
        read(&data);
    }
}
