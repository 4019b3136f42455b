//! Whole inputs, spoilt: something hostile in the place of something else, anywhere in it.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Map, Value, json};
use std::fmt::{Debug, Formatter};
use std::ops::Deref;

/// Stands before a number, and both for what JSON has and [`Value`] does not.
const RAW: char = '\u{e000}';
/// Stands before a key that is there already.
const TWICE: char = '\u{e001}';
/// The most bytes that one place may grow to.
const MOST: usize = 1 << 20;

/// JSON, or what looks like it, that no [`Value`] can hold.
fn raw() -> Vec<String> {
    let mut raw: Vec<String> = [
        "1e999",
        "-1e999",
        "1e-999",
        "-0",
        "-0.0",
        "1E400",
        "18446744073709551616",
        "-9223372036854775809",
        "01",
        "+1",
        ".5",
        "1.",
        "0x10",
        "NaN",
        "Infinity",
        "nul",
        "'x'",
        r#""\ud800""#,
        r#""\udc00\ud800""#,
        r#""\u0000""#,
        r#""\x""#,
        "\"\u{1}\"",
        r#"{"a":1,"a":2}"#,
        r#"{"a":1,}"#,
        "[1,]",
        "//",
        "",
    ]
    .map(String::from)
    .into();
    raw.push("9".repeat(400));
    raw.push(format!("0.{}", "3".repeat(10_000)));
    for deep in [60, 126, 127, 128, 20_000] {
        raw.push(format!("{}{}", "[".repeat(deep), "]".repeat(deep)));
        raw.push(format!("{}1{}", "{\"a\":".repeat(deep), "}".repeat(deep)));
    }
    raw
}

/// What stands where something else should.
fn hostile() -> Vec<Value> {
    let mut hostile = vec![Value::Null, json!(true), json!(false)];
    hostile.extend([0, -1, 1, i64::MIN, i64::MAX, i64::from(i32::MAX) + 1, 1 << 53, 253_402_300_799].map(Value::from));
    hostile.extend([json!(u64::MAX), json!(1.5), json!(-0.0), json!(1e308), json!(5e-324)]);
    let texts = [
        "",
        " ",
        "\0",
        "a\0b",
        "\u{1b}[2J",
        "a\u{202e}b",
        "p\u{430}yments",
        "\u{feff}x",
        "\r\n",
        "é",
        "\u{10ffff}",
        "*",
        "**",
        "?",
        "-",
        ".",
        "..",
        "/",
        "//",
        "~1",
        "../../etc",
        "%s",
        "{{ .Values }}",
        "$(x)",
        "true",
        "null",
        "0",
        "-1",
        "1.5",
        "1e999",
        "9223372036854775808",
        "1Ei",
        "9223372036854775807Ei",
        "1e-999",
        "0.000000000000000000001n",
        "m",
        "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:59.999999999Z",
        "-009999-01-01T00:00:00Z",
        "1970-01-01T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "1969-12-31T23:59:59.999999Z",
        "now",
        "sha256:",
        "sha256:0",
        "Allow",
        "RequireApproval",
        "Deny",
        "Approve",
        "Pending",
        "Approved",
        "Released",
        "Denied",
        "Expired",
        "Cancelled",
        "Job",
        "Pod",
        "User",
        "Group",
        "ServiceAccount",
        "Authorized",
        "enforce",
        "warn",
        "delete",
        "system:masters",
        "system:serviceaccount::",
        "countersign",
        "* * * * *",
        "0 0 31 2 *",
        "*/0 * * * *",
        "59 23 * * 7 UTC",
        "Europe/Nowhere",
        "(a*)*b",
        "true || true",
        "AAAA",
        "====",
        "-----BEGIN CERTIFICATE-----",
        "{\"a\":1}",
        "https://x",
        "javascript:alert(1)",
        "Bearer x",
    ];
    hostile.extend(texts.map(Value::from));
    hostile.extend([json!("x".repeat(300)), json!("\u{0}".repeat(5_000)), json!(format!("sha256:{}", "0".repeat(64)))]);
    hostile.extend([json!([]), json!({}), json!([[]]), json!([null]), json!([{}]), json!([0]), json!([""])]);
    hostile.extend([json!({"": ""}), json!({"a": null}), json!({"\u{0}": {}}), json!({"name": {"name": []}})]);
    hostile
}

/// What somebody sent, which failures show as text.
#[derive(Clone)]
pub struct Input(Vec<u8>);

impl Deref for Input {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Debug for Input {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let text = String::from_utf8_lossy(&self.0);
        write!(f, "{:?} ({} bytes)", text.chars().take(6_000).collect::<String>(), self.0.len())
    }
}

/// What happens to one place.
#[derive(Clone, Debug)]
enum Damage {
    Put(Index, Value),
    Drop(Index),
    Rename(Index, String),
    /// What stands in one place stands in another as well.
    Copy(Index, Index),
    /// So many times as much of what is there.
    Grow(Index, usize),
    /// The same key again.
    Twice(Index, Value),
}

/// What happens to the text.
#[derive(Clone, Debug)]
enum Scratch {
    None,
    Cut(Index),
    Byte(Index, u8),
}

fn damage() -> impl Strategy<Value = Damage> {
    let value = || {
        let any = prop_oneof![
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,40}".prop_map(Value::from)
        ];
        let raw = (0..raw().len()).prop_map(|number| json!(format!("{RAW}{number}")));
        prop_oneof![16 => select(hostile()), 4 => any, 1 => raw]
    };
    let place = || any::<Index>();
    let name = prop_oneof![
        select(vec!["", "spec", "sp\u{435}c", "Spec", "metadata", "kind", "uid"]).prop_map(String::from),
        ".{0,9}"
    ];
    prop_oneof![
        12 => (place(), value()).prop_map(|(at, value)| Damage::Put(at, value)),
        3 => place().prop_map(Damage::Drop),
        2 => (place(), name).prop_map(|(at, name)| Damage::Rename(at, name)),
        4 => (place(), place()).prop_map(|(from, to)| Damage::Copy(from, to)),
        2 => (place(), select(vec![2, 17, 65, 300, 5_000])).prop_map(|(at, times)| Damage::Grow(at, times)),
        1 => (place(), value()).prop_map(|(at, value)| Damage::Twice(at, value)),
    ]
}

fn scratch() -> impl Strategy<Value = Scratch> {
    let byte = (any::<Index>(), any::<u8>());
    prop_oneof![
        12 => Just(Scratch::None),
        1 => any::<Index>().prop_map(Scratch::Cut),
        1 => byte.prop_map(|(at, byte)| Scratch::Byte(at, byte)),
    ]
}

/// One of those, spoilt in up to five places of its values, and then perhaps in its text.
pub fn spoilt(whole: Vec<Value>) -> impl Strategy<Value = Input> {
    (select(whole), vec(damage(), 1..5), scratch()).prop_map(|(mut value, damages, scratch)| {
        damages.into_iter().for_each(|damage| apply(&mut value, damage));
        Input(scratched(text(&value), &scratch))
    })
}

/// One of those, spoilt where it still is a value.
pub fn spoilt_value(whole: Vec<Value>) -> impl Strategy<Value = Value> {
    (select(whole), vec(damage(), 1..5)).prop_map(|(mut value, damages)| {
        let kept = damages.into_iter().filter(|damage| !matches!(damage, Damage::Twice(..)));
        kept.for_each(|damage| apply(&mut value, damage));
        value
    })
}

/// A text, cut or with another byte in it.
pub fn spoilt_text(whole: Vec<String>) -> impl Strategy<Value = Input> {
    let scratch = (any::<Index>(), any::<u8>(), 0..3u8).prop_map(|(at, byte, how)| match how {
        0 => Scratch::Cut(at),
        _ => Scratch::Byte(at, byte),
    });
    (select(whole), vec(scratch, 1..4))
        .prop_map(|(text, scratches)| Input(scratches.iter().fold(text.into_bytes(), scratched)))
}

fn apply(value: &mut Value, damage: Damage) {
    let mut places = vec![];
    find(value, &mut String::new(), &mut places);
    let at = |place: &Index| place.get(&places).clone();
    match damage {
        Damage::Put(place, new) => put(value, &at(&place), new),
        Damage::Copy(from, to) => {
            let copied = value.pointer(&at(&from)).cloned().unwrap_or_default();
            put(value, &at(&to), copied);
        }
        Damage::Grow(place, times) => {
            if let Some(there) = value.pointer_mut(&at(&place)) {
                grow(there, times);
            }
        }
        Damage::Drop(place) => with_key(value, &at(&place), |map, key| drop(map.remove(key))),
        Damage::Rename(place, name) => with_key(value, &at(&place), |map, key| {
            if let Some(there) = map.remove(key) {
                map.insert(name, there);
            }
        }),
        Damage::Twice(place, new) => {
            with_key(value, &at(&place), |map, key| drop(map.insert(format!("{TWICE}{key}"), new)))
        }
    }
}

fn find(value: &Value, at: &mut String, places: &mut Vec<String>) {
    places.push(at.clone());
    let length = at.len();
    let mut deeper = |part: &str, inner: &Value| {
        at.push('/');
        at.push_str(part);
        find(inner, at, places);
        at.truncate(length);
    };
    match value {
        Value::Array(list) => list.iter().take(20).enumerate().for_each(|(i, inner)| deeper(&i.to_string(), inner)),
        Value::Object(map) => {
            map.iter().take(50).for_each(|(key, inner)| deeper(&key.replace('~', "~0").replace('/', "~1"), inner));
        }
        _ => {}
    }
}

fn put(value: &mut Value, at: &str, new: Value) {
    if let Some(there) = value.pointer_mut(at) {
        *there = new;
    }
}

/// What stands in a map under a key; in a list, or at the top, nothing happens.
fn with_key(value: &mut Value, at: &str, change: impl FnOnce(&mut Map<String, Value>, &str)) {
    if let Some((above, key)) = at.rsplit_once('/')
        && let Some(Value::Object(map)) = value.pointer_mut(above)
    {
        change(map, &key.replace("~1", "/").replace("~0", "~"));
    }
}

fn grow(value: &mut Value, times: usize) {
    let times = times.min(MOST / (1 + value.to_string().len()));
    match value {
        Value::String(text) => *text = text.repeat(times.max(1)),
        Value::Array(list) => *list = (0..times.max(1)).flat_map(|_| list.clone()).collect(),
        Value::Object(map) => {
            let more = map.clone().into_iter().next();
            map.extend((0..times).filter_map(|i| more.clone().map(|(key, value)| (format!("{key}{i}"), value))));
        }
        other => *other = Value::Array(vec![other.clone(); times]),
    }
}

/// As it goes over the wire.
pub fn text(value: &Value) -> Vec<u8> {
    let mut text = value.to_string();
    for (number, raw) in raw().iter().enumerate() {
        let stands = format!("\"{RAW}{number}\"");
        if text.contains(&stands) {
            text = text.replace(&stands, raw);
        }
    }
    text.replace(TWICE, "").into_bytes()
}

fn scratched(mut text: Vec<u8>, scratch: &Scratch) -> Vec<u8> {
    match scratch {
        Scratch::Cut(at) => text.truncate(at.index(text.len() + 1)),
        Scratch::Byte(at, byte) if !text.is_empty() => {
            let at = at.index(text.len());
            text[at] = *byte;
        }
        Scratch::None | Scratch::Byte(..) => {}
    }
    text
}

#[test]
fn damage_is_done_where_it_is_meant() {
    let whole = json!({"a": {"b/c": [1, 2]}});
    let mut places = vec![];
    find(&whole, &mut String::new(), &mut places);
    assert_eq!(places, ["", "/a", "/a/b~1c", "/a/b~1c/0", "/a/b~1c/1"]);
    let mut value = whole.clone();
    with_key(&mut value, "/a/b~1c", |map, key| drop(map.insert(format!("{TWICE}{key}"), json!(format!("{RAW}0")))));
    assert_eq!(text(&value), br#"{"a":{"b/c":[1,2],"b/c":1e999}}"#);
    grow(&mut value["a"]["b/c"], 3);
    assert_eq!(value["a"]["b/c"], json!([1, 2, 1, 2, 1, 2]));
}
