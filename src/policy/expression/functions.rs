//! The functions that an expression may call, but for those on time zones and patterns.

use crate::policy::expression::clock;
use crate::policy::expression::item::{Item, Kind};
use crate::policy::expression::meter::{Failure, Meter};
use jiff::Timestamp;

/// A function.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Function {
    Size,
    Contains,
    StartsWith,
    EndsWith,
    ToBool,
    ToInt,
    ToUint,
    ToDouble,
    ToText,
    ToTime,
    ToSpan,
    Dyn,
}

use Function::{Contains, Dyn, EndsWith, Size, StartsWith, ToBool, ToDouble, ToInt, ToSpan, ToText, ToTime, ToUint};

/// The functions, by name.
pub(super) const GLOBALS: [(&str, Function); 9] = [
    ("bool", ToBool),
    ("double", ToDouble),
    ("duration", ToSpan),
    ("dyn", Dyn),
    ("int", ToInt),
    ("size", Size),
    ("string", ToText),
    ("timestamp", ToTime),
    ("uint", ToUint),
];

/// The methods, by name, with how many arguments they take.
pub(super) const METHODS: [(&str, Function, usize); 4] =
    [("contains", Contains, 1), ("endsWith", EndsWith, 1), ("size", Size, 0), ("startsWith", StartsWith, 1)];

impl Function {
    /// What it returns, if it returns at all.
    pub(super) fn result(self) -> Option<Kind> {
        Some(match self {
            Size | ToInt => Kind::Int,
            Contains | StartsWith | EndsWith | ToBool => Kind::Bool,
            ToUint => Kind::Uint,
            ToDouble => Kind::Double,
            ToText => Kind::Text,
            ToTime => Kind::Time,
            ToSpan => Kind::Span,
            Dyn => return None,
        })
    }

    /// Whether it takes an argument of that kind.
    pub(super) fn takes(self, kind: Kind) -> bool {
        match self {
            Size => matches!(kind, Kind::Text | Kind::List | Kind::Map),
            Contains | StartsWith | EndsWith => kind == Kind::Text,
            ToBool => matches!(kind, Kind::Bool | Kind::Text),
            ToInt => kind.is_number() || matches!(kind, Kind::Text | Kind::Time),
            ToUint | ToDouble => kind.is_number() || kind == Kind::Text,
            ToText => !matches!(kind, Kind::Null | Kind::List | Kind::Map),
            ToTime => matches!(kind, Kind::Time | Kind::Int | Kind::Text),
            ToSpan => matches!(kind, Kind::Span | Kind::Text),
            Dyn => true,
        }
    }

    fn name(self) -> &'static str {
        let methods = METHODS.iter().map(|(name, function, _)| (*name, *function));
        let mut all = GLOBALS.iter().copied().chain(methods);
        all.find(|(_, function)| *function == self).map_or("", |(name, _)| name)
    }

    /// Calls it on its arguments, the receiver first.
    pub(super) fn call<'e>(self, args: &[Item<'e>], meter: &mut Meter) -> Result<Item<'e>, Failure<'e>> {
        meter.read(args.iter().map(Item::bytes).sum())?;
        match args {
            [one] => self.convert(one, meter),
            [Item::Text(text), Item::Text(part)] => {
                let (text, part) = (text.as_str(), part.as_str());
                Ok(Item::Bool(match self {
                    Contains => text.contains(part),
                    StartsWith => text.starts_with(part),
                    EndsWith => text.ends_with(part),
                    _ => return Err(Failure::Kinds(self.name(), Kind::Text, Some(Kind::Text))),
                }))
            }
            [one, other] => Err(Failure::Kinds(self.name(), one.kind(), Some(other.kind()))),
            _ => Err(Failure::Said("a function does not take that many arguments")),
        }
    }

    fn convert<'e>(self, one: &Item<'e>, meter: &mut Meter) -> Result<Item<'e>, Failure<'e>> {
        let (read, unread) = match self {
            Size => (size(one), "size() of a string, list or map"),
            ToBool => (to_bool(one), "bool() found neither true nor false"),
            ToInt => (to_int(one), "int() found no whole number, or one that is too large"),
            ToUint => (to_uint(one), "uint() found no whole number from 0, or one that is too large"),
            ToDouble => (to_double(one), "double() found no number"),
            ToText => (to_text(one, meter)?, ""),
            ToTime => (to_time(one), "timestamp() found no time such as \"2026-01-31T00:00:00Z\""),
            ToSpan => (to_span(one), "duration() found no duration such as \"1h30m\""),
            Dyn => (Some(one.clone()), ""),
            Contains | StartsWith | EndsWith => (None, ""),
        };
        read.ok_or(match one.kind() {
            // The kind is right, what it says is not.
            Kind::Text | Kind::Double | Kind::Int | Kind::Uint if !unread.is_empty() && self != Size => {
                Failure::Said(unread)
            }
            kind => Failure::Kinds(self.name(), kind, None),
        })
    }
}

fn size<'e>(one: &Item<'e>) -> Option<Item<'e>> {
    let size = match one {
        Item::Text(text) => text.as_str().chars().count(),
        Item::List(list) => list.len(),
        Item::Map(map) => map.len(),
        _ => return None,
    };
    i64::try_from(size).ok().map(Item::Int)
}

fn to_bool<'e>(one: &Item<'e>) -> Option<Item<'e>> {
    match one {
        Item::Bool(b) => Some(Item::Bool(*b)),
        Item::Text(text) => match text.as_str() {
            "1" | "t" | "T" | "true" | "True" | "TRUE" => Some(Item::Bool(true)),
            "0" | "f" | "F" | "false" | "False" | "FALSE" => Some(Item::Bool(false)),
            _ => None,
        },
        _ => None,
    }
}

/// Powers of two are exact; what lies between is a whole number of the kind.
const INTS: f64 = 9_223_372_036_854_775_808.0;

fn to_int<'e>(one: &Item<'e>) -> Option<Item<'e>> {
    match one {
        Item::Int(i) => Some(*i),
        Item::Uint(u) => i64::try_from(*u).ok(),
        Item::Double(d) => (*d > -INTS && *d < INTS).then_some(*d as i64),
        Item::Text(text) => text.as_str().parse().ok(),
        Item::Time(time) => Some(time.as_second()),
        _ => None,
    }
    .map(Item::Int)
}

fn to_uint<'e>(one: &Item<'e>) -> Option<Item<'e>> {
    match one {
        Item::Int(i) => u64::try_from(*i).ok(),
        Item::Uint(u) => Some(*u),
        Item::Double(d) => (*d >= 0.0 && *d < 2.0 * INTS).then_some(*d as u64),
        Item::Text(text) => text.as_str().parse().ok(),
        _ => None,
    }
    .map(Item::Uint)
}

fn to_double<'e>(one: &Item<'e>) -> Option<Item<'e>> {
    match one {
        Item::Int(i) => Some(*i as f64),
        Item::Uint(u) => Some(*u as f64),
        Item::Double(d) => Some(*d),
        Item::Text(text) => text.as_str().parse().ok(),
        _ => None,
    }
    .map(Item::Double)
}

fn to_text<'e>(one: &Item<'e>, meter: &mut Meter) -> Result<Option<Item<'e>>, Failure<'e>> {
    let text = match one {
        Item::Text(_) => return Ok(Some(one.clone())),
        Item::Bool(b) => b.to_string(),
        Item::Int(i) => i.to_string(),
        Item::Uint(u) => u.to_string(),
        Item::Double(d) => d.to_string(),
        Item::Time(time) => time.to_string(),
        Item::Span(span) => format!("{}s", span.as_secs_f64()),
        Item::Null | Item::List(_) | Item::Map(_) => return Ok(None),
    };
    meter.hold(text.len())?;
    Ok(Some(Item::text(text)))
}

fn to_time<'e>(one: &Item<'e>) -> Option<Item<'e>> {
    match one {
        Item::Time(time) => Some(*time),
        Item::Int(seconds) => Timestamp::from_second(*seconds).ok(),
        Item::Text(text) => clock::timestamp(text.as_str()),
        _ => None,
    }
    .map(Item::Time)
}

fn to_span<'e>(one: &Item<'e>) -> Option<Item<'e>> {
    match one {
        Item::Span(span) => Some(*span),
        Item::Text(text) => clock::duration(text.as_str()),
        _ => None,
    }
    .map(Item::Span)
}
