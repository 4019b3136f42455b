//! Canonical JSON (RFC 8785) and SHA-256 over it.

use serde::Serialize;
use serde_json::{Number, Value};
use sha2::{Digest, Sha256};

/// 2^53 - 1: the largest whole number that a JSON number carries without loss (RFC 7493, section 2.2).
const MAX_SAFE: f64 = 9_007_199_254_740_991.0;

/// Why a value has no canonical form.
#[derive(Debug, thiserror::Error)]
pub enum CanonicalError {
    /// RFC 8785 writes numbers as doubles: beyond 2^53 - 1, two different numbers would look the same.
    #[error("{path} is {number}, beyond what canonical JSON carries without loss (2^53 - 1)")]
    UnsafeNumber {
        /// Where, as a JSON pointer.
        path: String,
        /// The number.
        number: String,
    },
    /// The serializer failed.
    #[error("canonical JSON: {0}")]
    Serialize(#[from] serde_json::Error),
}

/// The RFC 8785 form of a value. Numbers beyond ±(2^53 - 1) are refused, since they would lose their identity.
pub fn canonical(value: &Value) -> Result<Vec<u8>, CanonicalError> {
    canonical_around(value, value)
}

/// The RFC 8785 form of `whole`, which writes nothing but parts of `value` and text, under keys that it has in order.
pub(crate) fn canonical_around(value: &Value, whole: &impl Serialize) -> Result<Vec<u8>, CanonicalError> {
    let form = form(value);
    if form == Form::Canonical {
        return Ok(serde_json::to_vec(whole)?);
    }
    if form == Form::Unsafe {
        check_numbers(value, &mut String::new())?;
    }
    Ok(serde_json_canonicalizer::to_vec(whole)?)
}

/// How a value is written as JSON without spaces.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Form {
    /// In its RFC 8785 form already, as most are: whole numbers alone, and keys in order, of ASCII, which sorts in UTF-16 as it does
    /// in bytes. To sort and to format it again would take several times as long.
    Canonical,
    /// In another.
    Other,
    /// With a number that is refused.
    Unsafe,
}

fn form(value: &Value) -> Form {
    match value {
        Value::Number(n) if !is_safe(n) => Form::Unsafe,
        Value::Number(n) if n.is_f64() => Form::Other,
        Value::Array(items) => items.iter().map(form).max().unwrap_or(Form::Canonical),
        Value::Object(map) => {
            let ordered = map.keys().zip(map.keys().skip(1)).all(|(one, next)| one < next);
            let keys = if ordered && map.keys().all(|key| key.is_ascii()) { Form::Canonical } else { Form::Other };
            map.values().map(form).max().map_or(keys, |values| values.max(keys))
        }
        _ => Form::Canonical,
    }
}

fn is_safe(number: &Number) -> bool {
    number.as_f64().is_some_and(|f| f.abs() <= MAX_SAFE)
}

/// `sha256:` and 64 hexadecimal digits: the SHA-256 of the canonical form.
pub fn sha256(value: &Value) -> Result<String, CanonicalError> {
    Ok(hash_text(&canonical(value)?))
}

/// `sha256:` and 64 hexadecimal digits: the SHA-256 of these bytes.
pub fn hash_text(bytes: &[u8]) -> String {
    digest_text(&Sha256::digest(bytes))
}

/// A SHA-256 digest, 32 bytes, as `sha256:` and hexadecimal digits.
pub fn digest_text(digest: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(71);
    text.push_str("sha256:");
    for byte in digest {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn check_numbers(value: &Value, path: &mut String) -> Result<(), CanonicalError> {
    let length = path.len();
    match value {
        Value::Number(n) if !is_safe(n) => {
            return Err(CanonicalError::UnsafeNumber { path: path.clone(), number: n.to_string() });
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                path.push_str(&format!("/{i}"));
                check_numbers(item, path)?;
                path.truncate(length);
            }
        }
        Value::Object(map) => {
            for (key, item) in map {
                path.push('/');
                path.push_str(key);
                check_numbers(item, path)?;
                path.truncate(length);
            }
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn the_example_of_rfc_8785_section_3_2_2() {
        let value: Value = serde_json::from_str(
            r#"{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],"string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/","literals":[null,true,false]}"#,
        )
        .unwrap();
        // 1E30 is beyond the safe range and refused here; the rest of the example stands.
        assert!(canonical(&value).unwrap_err().to_string().contains("/numbers/1"));
        let mut value = value;
        value["numbers"][1] = json!(1);
        assert_eq!(
            String::from_utf8(canonical(&value).unwrap()).unwrap(),
            r#"{"literals":[null,true,false],"numbers":[333333333.3333333,1,4.5,0.002,1e-27],"string":"€$\u000f\nA'B\"\\\\\"/"}"#
        );
    }

    #[test]
    fn keys_are_sorted_by_utf_16_code_units() {
        // U+FB33 sorts after the surrogates of U+1F600 in UTF-16, and before it in UTF-8.
        let text = String::from_utf8(canonical(&json!({"\u{fb33}": 1, "\u{1f600}": 2, "1": 3})).unwrap()).unwrap();
        assert_eq!(text, "{\"1\":3,\"\u{1f600}\":2,\"\u{fb33}\":1}");
    }

    #[test]
    fn numbers_that_would_collide_are_refused() {
        assert!(sha256(&json!(9_007_199_254_740_991i64)).is_ok());
        for n in [json!(9_007_199_254_740_992i64), json!(i64::MIN), json!(u64::MAX), json!(1e300)] {
            assert!(sha256(&json!({"a": [n]})).is_err());
        }
    }

    #[test]
    fn most_values_are_written_in_canonical_form_as_they_are() {
        assert_eq!(form(&json!({"a": [1, -2, true, null, "\u{7f}\u{1}é"], "b": {"A": 0, "a": 1}})), Form::Canonical);
        for other in [json!([1.5]), json!({"a": {"é": 1}}), json!([-0.0])] {
            assert_eq!(form(&other), Form::Other, "{other}");
        }
        assert_eq!(form(&json!({"a": [1.5, u64::MAX], "é": 1})), Form::Unsafe);
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(|b| json!(b)),
            (-9_007_199_254_740_991i64..=9_007_199_254_740_991).prop_map(|n| json!(n)),
            (-1e15..1e15f64).prop_map(|n| json!(n)),
            any::<String>().prop_map(|s| json!(s)),
            "[\\x00-\\x7f]{0,8}".prop_map(|s| json!(s)),
        ];
        leaf.prop_recursive(4, 32, 8, |inner| {
            let key = prop_oneof![any::<String>(), "[\\x00-\\x7f]{0,4}"];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
                prop::collection::btree_map(key, inner, 0..8).prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

        /// Whichever way it is written, it is as the library writes it.
        #[test]
        fn it_is_written_as_by_the_library(value in values()) {
            prop_assert_eq!(canonical(&value).unwrap(), serde_json_canonicalizer::to_vec(&value).unwrap());
        }
    }
}
