//! Values while an expression runs. They borrow from the facts and from the expression, so that a copy is cheap.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A CEL value.
#[derive(Clone, Debug)]
pub(super) enum Item<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Text<'a>),
    List(List<'a>),
    Map(Map<'a>),
    Time(Timestamp),
    Span(SignedDuration),
}

/// A string.
#[derive(Clone, Debug)]
pub(super) enum Text<'a> {
    Given(&'a str),
    Made(Arc<str>),
}

/// A list.
#[derive(Clone, Debug)]
pub(super) enum List<'a> {
    Given(&'a [Value]),
    Strings(&'a [String]),
    Made(Arc<[Item<'a>]>),
}

/// A map.
#[derive(Clone, Debug)]
pub(super) enum Map<'a> {
    Given(&'a serde_json::Map<String, Value>),
    Strings(&'a BTreeMap<String, String>),
    /// Few entries, in their order.
    Made(Arc<[(Item<'a>, Item<'a>)]>),
}

/// What a value is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Null,
    Bool,
    Int,
    Uint,
    Double,
    Text,
    List,
    Map,
    Time,
    Span,
}

impl Kind {
    /// CEL's name for it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::Text => "string",
            Self::List => "list",
            Self::Map => "map",
            Self::Time => "timestamp",
            Self::Span => "duration",
        }
    }

    /// The same in a sentence.
    pub(super) fn article(self) -> String {
        match self {
            Self::Null => "null".into(),
            Self::Int => "an int".into(),
            kind => format!("a {}", kind.name()),
        }
    }
}

impl Kind {
    /// Whether it counts or measures.
    pub(super) fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::Uint | Self::Double)
    }

    /// Whether a map may be asked for one.
    pub(super) fn is_key(self) -> bool {
        self.is_number() || matches!(self, Self::Bool | Self::Text)
    }

    /// Whether one may be less than another.
    pub(super) fn is_ordered(self) -> bool {
        self.is_number() || matches!(self, Self::Bool | Self::Text | Self::Time | Self::Span)
    }
}

impl Text<'_> {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Given(text) => text,
            Self::Made(text) => text,
        }
    }
}

impl<'a> List<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Given(items) => items.len(),
            Self::Strings(items) => items.len(),
            Self::Made(items) => items.len(),
        }
    }

    pub(super) fn get(&self, index: usize) -> Option<Item<'a>> {
        match self {
            Self::Given(items) => items.get(index).map(Item::from),
            Self::Strings(items) => items.get(index).map(|s| Item::from(s.as_str())),
            Self::Made(items) => items.get(index).cloned(),
        }
    }

    pub(super) fn items(self) -> impl Iterator<Item = Item<'a>> {
        (0..self.len()).filter_map(move |index| self.get(index))
    }
}

impl<'a> Map<'a> {
    /// A map of a few named fields.
    pub(super) fn of(fields: Vec<(&'static str, Item<'a>)>) -> Item<'a> {
        Item::Map(Self::Made(fields.into_iter().map(|(name, item)| (Item::from(name), item)).collect()))
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Given(entries) => entries.len(),
            Self::Strings(entries) => entries.len(),
            Self::Made(entries) => entries.len(),
        }
    }

    /// How many entries a look-up may go through.
    pub(super) fn depth(&self) -> u64 {
        match self {
            Self::Made(entries) => entries.len() as u64,
            _ => 0,
        }
    }

    /// How many keys a look-up may compare with its own.
    pub(super) fn comparisons(&self) -> usize {
        match self {
            Self::Made(entries) => entries.len(),
            _ => self.len().checked_ilog2().map_or(1, |n| n as usize + 1),
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<Item<'a>> {
        match self {
            Self::Given(entries) => entries.get(key).map(Item::from),
            Self::Strings(entries) => entries.get(key).map(|s| Item::from(s.as_str())),
            Self::Made(entries) => {
                let found = entries.iter().find(|(k, _)| matches!(k, Item::Text(text) if text.as_str() == key));
                found.map(|(_, item)| item.clone())
            }
        }
    }

    /// Looks up any key: numbers are the same key whatever their kind.
    pub(super) fn find(&self, key: &Item<'_>) -> Option<Item<'a>> {
        match (key, self) {
            (Item::Text(key), _) => self.get(key.as_str()),
            (_, Self::Made(entries)) => {
                entries.iter().find(|(k, _)| k.compare(key) == Some(Ordering::Equal)).map(|(_, item)| item.clone())
            }
            _ => None,
        }
    }

    pub(super) fn entries(self) -> Box<dyn Iterator<Item = (Item<'a>, Item<'a>)> + 'a> {
        match self {
            Self::Given(entries) => Box::new(entries.iter().map(|(k, v)| (Item::from(k.as_str()), Item::from(v)))),
            Self::Strings(entries) => {
                Box::new(entries.iter().map(|(k, v)| (Item::from(k.as_str()), Item::from(v.as_str()))))
            }
            Self::Made(entries) => Box::new((0..entries.len()).map(move |index| entries[index].clone())),
        }
    }
}

impl Item<'_> {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Null => Kind::Null,
            Self::Bool(_) => Kind::Bool,
            Self::Int(_) => Kind::Int,
            Self::Uint(_) => Kind::Uint,
            Self::Double(_) => Kind::Double,
            Self::Text(_) => Kind::Text,
            Self::List(_) => Kind::List,
            Self::Map(_) => Kind::Map,
            Self::Time(_) => Kind::Time,
            Self::Span(_) => Kind::Span,
        }
    }

    pub(super) fn text(text: String) -> Self {
        Self::Text(Text::Made(text.into()))
    }

    /// Length in bytes, where it is a string.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.as_str().len(),
            _ => 0,
        }
    }

    /// The order of two values of one kind, or of two numbers; none for others, and for what is not a number.
    pub(super) fn compare(&self, other: &Item<'_>) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(a), Item::Bool(b)) => Some(a.cmp(b)),
            (Self::Text(a), Item::Text(b)) => Some(a.as_str().cmp(b.as_str())),
            (Self::Time(a), Item::Time(b)) => Some(a.cmp(b)),
            (Self::Span(a), Item::Span(b)) => Some(a.cmp(b)),
            (Self::Double(a), Item::Double(b)) => a.partial_cmp(b),
            (Self::Double(a), b) => whole_and_double(b.whole()?, *a).map(Ordering::reverse),
            (a, Item::Double(b)) => whole_and_double(a.whole()?, *b),
            (a, b) => Some(a.whole()?.cmp(&b.whole()?)),
        }
    }

    fn whole(&self) -> Option<i128> {
        match self {
            Self::Int(i) => Some(i128::from(*i)),
            Self::Uint(u) => Some(i128::from(*u)),
            _ => None,
        }
    }
}

/// Exact, where a conversion would round.
fn whole_and_double(whole: i128, double: f64) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    // A conversion to i128 saturates far beyond any whole number there is.
    let by_whole = whole.cmp(&(double.trunc() as i128));
    Some(by_whole.then_with(|| 0.0.partial_cmp(&double.fract()).unwrap_or(Ordering::Equal)))
}

impl<'a> From<&'a str> for Item<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Text::Given(text))
    }
}

impl<'a> From<&'a Value> for Item<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(b) => Self::Bool(*b),
            Value::Number(n) => match (n.as_i64(), n.as_u64()) {
                (Some(i), _) => Self::Int(i),
                (None, Some(u)) => Self::Uint(u),
                (None, None) => Self::Double(n.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(s) => Self::from(s.as_str()),
            Value::Array(items) => Self::List(List::Given(items)),
            Value::Object(entries) => Self::Map(Map::Given(entries)),
        }
    }
}
