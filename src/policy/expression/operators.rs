//! Operators: what goes together, and what comes out.

use crate::policy::expression::item::{Item, Kind, List, Map, Text};
use crate::policy::expression::meter::{Failure, Meter};
use crate::policy::expression::tree::Comparison;
use jiff::{SignedDuration, Timestamp};
use std::cmp::Ordering;

/// How deep two values are compared.
const MAX_DEPTH: usize = 64;

/// Arithmetic. It never mixes kinds of numbers, and never overflows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

impl Arithmetic {
    /// As it is written.
    pub(super) fn sign(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Modulo => "%",
        }
    }

    /// What comes out of two kinds, if they go together.
    pub(super) fn result(self, a: Kind, b: Kind) -> Option<Kind> {
        match (self, a, b) {
            (Self::Add, Kind::Time, Kind::Span) | (Self::Add, Kind::Span, Kind::Time) => Some(Kind::Time),
            (Self::Subtract, Kind::Time, Kind::Span) => Some(Kind::Time),
            (Self::Subtract, Kind::Time, Kind::Time) => Some(Kind::Span),
            (Self::Add | Self::Subtract, Kind::Span, Kind::Span) => Some(Kind::Span),
            (Self::Add, Kind::Text, Kind::Text) | (Self::Add, Kind::List, Kind::List) => Some(a),
            (Self::Modulo, Kind::Double, _) => None,
            (_, Kind::Int | Kind::Uint | Kind::Double, b) if a == b => Some(a),
            _ => None,
        }
    }

    /// Applies it.
    pub(super) fn apply<'e>(self, a: Item<'e>, b: Item<'e>, meter: &mut Meter) -> Result<Item<'e>, Failure<'e>> {
        let kinds = (a.kind(), b.kind());
        match (self, a, b) {
            (_, Item::Int(a), Item::Int(b)) => self.ints(a, b).map(Item::Int),
            (_, Item::Uint(a), Item::Uint(b)) => self.uints(a, b).map(Item::Uint),
            (Self::Add, Item::Double(a), Item::Double(b)) => Ok(Item::Double(a + b)),
            (Self::Subtract, Item::Double(a), Item::Double(b)) => Ok(Item::Double(a - b)),
            (Self::Multiply, Item::Double(a), Item::Double(b)) => Ok(Item::Double(a * b)),
            (Self::Divide, Item::Double(a), Item::Double(b)) => Ok(Item::Double(a / b)),
            (Self::Add, Item::Text(a), Item::Text(b)) => texts(&a, &b, meter),
            (Self::Add, Item::List(a), Item::List(b)) => lists(a, b, meter),
            (Self::Add, Item::Time(time), Item::Span(span)) | (Self::Add, Item::Span(span), Item::Time(time)) => {
                shifted(time, Some(span))
            }
            (Self::Subtract, Item::Time(time), Item::Span(span)) => shifted(time, span.checked_neg()),
            (Self::Subtract, Item::Time(a), Item::Time(b)) => Ok(Item::Span(a.duration_since(b))),
            (Self::Add, Item::Span(a), Item::Span(b)) => span(a.checked_add(b)),
            (Self::Subtract, Item::Span(a), Item::Span(b)) => span(a.checked_sub(b)),
            _ => Err(Failure::Kinds(self.sign(), kinds.0, Some(kinds.1))),
        }
    }

    fn ints<'e>(self, a: i64, b: i64) -> Result<i64, Failure<'e>> {
        match self {
            Self::Add => a.checked_add(b),
            Self::Subtract => a.checked_sub(b),
            Self::Multiply => a.checked_mul(b),
            Self::Divide => a.checked_div(b),
            Self::Modulo => a.checked_rem(b),
        }
        .ok_or(OUT_OF_RANGE)
    }

    fn uints<'e>(self, a: u64, b: u64) -> Result<u64, Failure<'e>> {
        match self {
            Self::Add => a.checked_add(b),
            Self::Subtract => a.checked_sub(b),
            Self::Multiply => a.checked_mul(b),
            Self::Divide => a.checked_div(b),
            Self::Modulo => a.checked_rem(b),
        }
        .ok_or(OUT_OF_RANGE)
    }
}

/// What no number of its kind can hold.
pub(super) const OUT_OF_RANGE: Failure<'static> =
    Failure::Said("a calculation divides by zero, or its result is out of range");

fn texts<'e>(a: &Text<'_>, b: &Text<'_>, meter: &mut Meter) -> Result<Item<'e>, Failure<'e>> {
    let (a, b) = (a.as_str(), b.as_str());
    // Twice: once to join them, once to share the result.
    meter.hold(2 * (a.len() + b.len()))?;
    Ok(Item::text([a, b].concat()))
}

fn lists<'e>(a: List<'e>, b: List<'e>, meter: &mut Meter) -> Result<Item<'e>, Failure<'e>> {
    meter.hold(2 * (a.len() + b.len()) * size_of::<Item>())?;
    meter.take((a.len() + b.len()) as u64)?;
    Ok(Item::List(List::Made(a.items().chain(b.items()).collect())))
}

fn shifted<'e>(time: Timestamp, by: Option<SignedDuration>) -> Result<Item<'e>, Failure<'e>> {
    by.and_then(|by| time.checked_add(by).ok()).map(Item::Time).ok_or(OUT_OF_RANGE)
}

fn span<'e>(span: Option<SignedDuration>) -> Result<Item<'e>, Failure<'e>> {
    span.map(Item::Span).ok_or(OUT_OF_RANGE)
}

/// Compares two values.
pub(super) fn compare<'e>(
    comparison: Comparison,
    a: &Item<'e>,
    b: &Item<'e>,
    meter: &mut Meter,
) -> Result<bool, Failure<'e>> {
    let ordered = |wanted: fn(Ordering) -> bool, meter: &mut Meter| {
        meter.read(a.bytes().min(b.bytes()))?;
        match a.compare(b) {
            Some(order) => Ok(wanted(order)),
            // Nothing is less or greater than what is not a number.
            None if matches!((a, b), (Item::Double(_), _) | (_, Item::Double(_))) && numbers(a, b) => Ok(false),
            None => Err(Failure::Kinds(comparison.sign(), a.kind(), Some(b.kind()))),
        }
    };
    match comparison {
        Comparison::Equal => equal(a, b, meter, 0),
        Comparison::Unequal => equal(a, b, meter, 0).map(|equal| !equal),
        Comparison::Less => ordered(Ordering::is_lt, meter),
        Comparison::LessOrEqual => ordered(Ordering::is_le, meter),
        Comparison::Greater => ordered(Ordering::is_gt, meter),
        Comparison::GreaterOrEqual => ordered(Ordering::is_ge, meter),
        Comparison::In => within(a, b, meter),
    }
}

fn numbers(a: &Item<'_>, b: &Item<'_>) -> bool {
    a.kind().is_number() && b.kind().is_number()
}

fn within<'e>(a: &Item<'e>, b: &Item<'e>, meter: &mut Meter) -> Result<bool, Failure<'e>> {
    match b {
        Item::List(list) => {
            for item in list.clone().items() {
                if equal(a, &item, meter, 0)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Item::Map(map) if a.kind().is_key() => {
            meter.search(map, a.bytes())?;
            Ok(map.find(a).is_some())
        }
        _ => Err(Failure::Kinds("in", a.kind(), Some(b.kind()))),
    }
}

/// Whether two values are the same; values of different kinds are not, but for numbers. A step for each pair.
fn equal<'e>(a: &Item<'e>, b: &Item<'e>, meter: &mut Meter, depth: usize) -> Result<bool, Failure<'e>> {
    if depth > MAX_DEPTH {
        return Err(Failure::TooCostly("it compares values that are nested too deeply"));
    }
    meter.take(1)?;
    meter.read(a.bytes().min(b.bytes()))?;
    match (a, b) {
        (Item::Null, Item::Null) => Ok(true),
        (Item::List(a), Item::List(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            for (a, b) in a.clone().items().zip(b.clone().items()) {
                if !equal(&a, &b, meter, depth + 1)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        (Item::Map(a), Item::Map(b)) => maps(a, b, meter, depth),
        (a, b) => Ok(a.compare(b) == Some(Ordering::Equal)),
    }
}

fn maps<'e>(a: &Map<'e>, b: &Map<'e>, meter: &mut Meter, depth: usize) -> Result<bool, Failure<'e>> {
    if a.len() != b.len() {
        return Ok(false);
    }
    for (key, value) in a.clone().entries() {
        meter.search(b, key.bytes())?;
        match b.find(&key) {
            Some(other) if equal(&value, &other, meter, depth + 1)? => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}
