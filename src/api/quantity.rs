//! Amounts of a resource, as Kubernetes writes them.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::str::FromStr;

/// The form that is taken in policies and requests: no sign, at most 18 digits before the point and 9 behind it. What the API
/// server stores of Pods has negative exponents as well, and those are read.
pub const PATTERN: &str = "^[0-9]{1,18}(\\.[0-9]{1,9})?([numkMGTPE]|[KMGTPE]i|[eE][0-9]{1,2})?$";
/// Digits behind the point that are told apart.
const NANO: u128 = 1_000_000_000;

/// An amount such as `500m`, `2`, `1.5Gi` or `128e6`: a decimal number and a suffix, as in `resources.limits`
/// (k8s.io/apimachinery/pkg/api/resource). Compared by value, in billionths; written as it was read.
#[derive(Clone, Debug)]
pub struct Quantity {
    text: String,
    nanos: u128,
}

/// A text that is no amount.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("is no quantity such as 500m, 2 or 1.5Gi")]
pub struct NotAQuantity;

impl Quantity {
    /// Whether it is nothing at all.
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is more than the other, by value alone.
    pub fn exceeds(&self, other: &Self) -> bool {
        self.nanos > other.nanos
    }
}

impl FromStr for Quantity {
    type Err = NotAQuantity;

    fn from_str(text: &str) -> Result<Self, NotAQuantity> {
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at(digits);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let number = |part: &str, longest: usize| match part.len() {
            1.. if part.len() <= longest => part.parse::<u128>().map_err(|_| NotAQuantity),
            _ => Err(NotAQuantity),
        };
        let behind = u32::try_from(fraction.len()).map_err(|_| NotAQuantity)?;
        let whole = number(whole, 18)? * NANO;
        let nanos = whole + number(fraction, 9)? * (NANO / 10u128.pow(behind));
        let (times, per) = scale(suffix).ok_or(NotAQuantity)?;
        // Rounded up, as the API server does.
        let nanos = nanos.checked_mul(times).ok_or(NotAQuantity)?.div_ceil(per);
        Ok(Self { text: text.into(), nanos })
    }
}

/// What a suffix multiplies by, and divides by.
fn scale(suffix: &str) -> Option<(u128, u128)> {
    let (binary, decimal) = (|n: u32| (1u128 << (10 * n), 1), |n: u32| (10u128.pow(n), 1));
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            let (negative, digits) = match exponent.strip_prefix('-') {
                Some(digits) => (true, digits),
                None => (false, exponent.strip_prefix('+').unwrap_or(exponent)),
            };
            let plain = (1..=2).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
            let power = digits.parse().ok().filter(|n| plain && *n <= 18)?;
            if negative { (1, 10u128.pow(power)) } else { decimal(power) }
        }
    })
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// By value; two spellings of one value by their text, so that the lesser of two is always the same one.
impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.nanos, &self.text).cmp(&(other.nanos, &other.text))
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|e| serde::de::Error::custom(format!("{text:?} {e}")))
    }
}

impl JsonSchema for Quantity {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "minLength": 1, "maxLength": 32, "pattern": PATTERN})
    }
}

#[cfg(test)]
mod tests {
    use super::Quantity;
    use std::cmp::Ordering;

    fn of(text: &str) -> Quantity {
        text.parse().unwrap()
    }

    #[test]
    fn amounts_compare_by_value() {
        for (less, more) in [("500m", "1"), ("1G", "1Gi"), ("1023Mi", "1Gi"), ("1", "1000000001n"), ("0.5", "501m")] {
            assert_eq!(of(less).cmp(&of(more)), Ordering::Less, "{less} {more}");
            assert!(of(more).exceeds(&of(less)) && !of(less).exceeds(&of(more)), "{less} {more}");
        }
        for (a, b) in
            [("1", "1000m"), ("1000m", "1"), ("1.5Gi", "1536Mi"), ("128e6", "128M"), ("0", "0Ki"), ("1E3", "1k")]
        {
            assert!(!of(a).exceeds(&of(b)) && !of(b).exceeds(&of(a)), "{a} {b}");
        }
    }

    #[test]
    fn exponents_have_a_sign_where_kubernetes_stores_one() {
        for (a, b) in [("1e-1", "100m"), ("100e-3", "0.1"), ("5E-1", "500m"), ("1e+3", "1k"), ("1e-9", "1n")] {
            assert!(!of(a).exceeds(&of(b)) && !of(b).exceeds(&of(a)), "{a} {b}");
        }
        assert!(of("1e-18").exceeds(&of("0")), "rounded up, as the API server does");
        for text in ["1e--1", "1e-", "1e+-1", "1e-19", "1e-100", "1e-1m"] {
            assert!(text.parse::<Quantity>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        let long = "9".repeat(19);
        for text in ["", "-1", "+1", "1.", ".5", "1ki", "1 Gi", "1e", "1e99", "1e19", "1.2.3", "Gi", &long, "½"] {
            assert!(text.parse::<Quantity>().is_err(), "{text:?}");
        }
        assert_eq!(of("1.5Gi").as_str(), "1.5Gi");
    }
}
