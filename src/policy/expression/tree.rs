//! What an expression compiles to: every name resolved, every pattern and time zone ready.

use crate::policy::expression::clock::Part;
use crate::policy::expression::functions::Function;
use crate::policy::expression::item::Kind;
use crate::policy::expression::operators::Arithmetic;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use regex::Regex;

/// Part of an expression.
#[derive(Debug)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Box<str>),
    Time(Timestamp),
    Span(SignedDuration),
    Variable(Variable),
    /// What a macro goes over, the outermost first.
    Local(usize),
    Select(Box<Node>, Box<str>),
    Has(Box<Node>, Box<str>),
    Index(Box<[Node; 2]>),
    List(Vec<Node>),
    Map(Vec<[Node; 2]>),
    Not(Box<Node>),
    Negate(Box<Node>),
    /// `&&` if true, else `||`.
    Both(bool, Box<[Node; 2]>),
    Choose(Box<[Node; 3]>),
    Compare(Comparison, Box<[Node; 2]>),
    Arithmetic(Arithmetic, Box<[Node; 2]>),
    Call(Function, Vec<Node>),
    Matches(Box<Node>, Regex),
    Part(Part, Box<Node>, TimeZone),
    Each(Box<Each>),
}

/// A name that an expression may use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Variable {
    Object,
    NamespaceObject,
    Request,
    Time,
    Claims,
}

/// A comparison that is always true or false.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
}

/// A macro over the items of a list, or the keys of a map.
#[derive(Debug)]
pub(super) struct Each {
    pub over: Node,
    pub what: Macro,
    /// Which [`Node::Local`] it fills.
    pub local: usize,
    /// What an item must satisfy; always there for the first three.
    pub test: Option<Node>,
    /// What an item becomes; only there for `Collect`.
    pub result: Option<Node>,
}

/// What a macro asks of its items.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Macro {
    All,
    Exists,
    ExistsOne,
    /// `map` and `filter`.
    Collect,
}

impl Comparison {
    /// Whether it can say anything of values of these kinds, as far as they are known. Values of different kinds are never
    /// the same: to ask whether they are is a mistake, null aside, which anything may turn out to be.
    pub(super) fn takes(self, a: Option<Kind>, b: Option<Kind>) -> bool {
        let alike = |a: Kind, b: Kind| a == b || (a.is_number() && b.is_number());
        match (self, a, b) {
            (Self::In, _, None | Some(Kind::List)) => true,
            (Self::In, key, Some(Kind::Map)) => key.is_none_or(Kind::is_key),
            (Self::In, ..) => false,
            (Self::Equal | Self::Unequal, Some(a), Some(b)) => alike(a, b) || a == Kind::Null || b == Kind::Null,
            (Self::Equal | Self::Unequal, ..) => true,
            (_, Some(a), Some(b)) => a.is_ordered() && alike(a, b),
            (_, a, b) => a.or(b).is_none_or(Kind::is_ordered),
        }
    }

    /// As it is written.
    pub(super) fn sign(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::Unequal => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::In => "in",
        }
    }
}
