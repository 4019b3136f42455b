//! What an evaluation may cost, and why one ends without an answer.

use crate::policy::expression::item::{Kind, Map};
use std::fmt::{self, Display};

/// Steps of one evaluation. A step takes some 100 ns at worst: all of them 10 ms.
const MAX_STEPS: u64 = 100_000;
/// Steps of all expressions of one policy for one request, together a tenth of a second at worst.
const MAX_STEPS_TOGETHER: u64 = 10 * MAX_STEPS;
/// Bytes that one evaluation may make, all in all.
const MAX_BYTES: usize = 4 << 20;
/// Bytes of a string that are gone over in a step.
const BYTES_READ_PER_STEP: usize = 32;
/// Bytes that are copied in a step.
const BYTES_MADE_PER_STEP: usize = 256;

/// Why there is no answer. It names kinds, and what the expression itself names, never what the object holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Failure<'e> {
    /// It would take too long, or too much memory. Nothing makes up for it.
    TooCostly(&'static str),
    /// A map has no such key; named if the expression does.
    NoField(Option<&'e str>),
    /// Something has no fields at all.
    NoFields(Kind),
    /// A list has no such item.
    NoItem,
    /// An operator or a function does not go with what it is given.
    Kinds(&'static str, Kind, Option<Kind>),
    /// Something else.
    Said(&'static str),
}

impl Failure<'_> {
    /// Whether an operand that decides on its own makes up for it.
    pub(super) fn absorbed(&self) -> bool {
        !matches!(self, Self::TooCostly(_))
    }
}

impl Display for Failure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooCostly(why) => write!(f, "too costly for this object: {why}"),
            Self::NoField(Some(name)) => {
                let short: String = name.chars().take(63).collect();
                write!(f, "there is no field {short:?}; ask with has() first")
            }
            Self::NoField(None) => f.write_str("a map has no such key; ask with \"in\" first"),
            Self::NoFields(kind) => write!(f, "{} has no fields", kind.article()),
            Self::NoItem => f.write_str("a list has no item of that number; ask for its size first"),
            Self::Kinds(what, one, None) => write!(f, "{what} does not go with {}", one.article()),
            Self::Kinds(what, one, Some(other)) => {
                write!(f, "{what} does not go with {} and {}", one.article(), other.article())
            }
            Self::Said(what) => f.write_str(what),
        }
    }
}

/// What is left to the expressions of one policy for one request. Each policy has its own, so that none starves another.
#[derive(Debug)]
pub struct Budget(u64);

impl Default for Budget {
    fn default() -> Self {
        Self(MAX_STEPS_TOGETHER)
    }
}

/// What is left to one evaluation.
#[derive(Debug)]
pub(super) struct Meter {
    granted: u64,
    steps: u64,
    bytes: usize,
}

impl Meter {
    pub(super) fn new(budget: &Budget) -> Self {
        let granted = budget.0.min(MAX_STEPS);
        Self { granted, steps: granted, bytes: MAX_BYTES }
    }

    /// Takes from the budget what was used.
    pub(super) fn settle(&self, budget: &mut Budget) {
        budget.0 = budget.0.saturating_sub(self.granted - self.steps);
    }

    /// Takes steps.
    pub(super) fn take<'e>(&mut self, steps: u64) -> Result<(), Failure<'e>> {
        let left = self.steps.checked_sub(steps);
        // What is left stays at nothing: whoever goes on after all fails at once.
        self.steps = left.unwrap_or(0);
        left.map(drop).ok_or(Failure::TooCostly(match self.granted {
            MAX_STEPS => "it takes too many steps",
            _ => "the expressions of its policy together take too many steps",
        }))
    }

    /// Takes the steps of going over a string of so many bytes.
    pub(super) fn read<'e>(&mut self, bytes: usize) -> Result<(), Failure<'e>> {
        self.take((bytes / BYTES_READ_PER_STEP) as u64)
    }

    /// Takes the steps of looking up a key of so many bytes.
    pub(super) fn search<'e>(&mut self, map: &Map<'_>, bytes: usize) -> Result<(), Failure<'e>> {
        self.take(map.depth())?;
        self.read(bytes.saturating_mul(map.comparisons()))
    }

    /// Takes memory, and the steps to fill it.
    pub(super) fn hold<'e>(&mut self, bytes: usize) -> Result<(), Failure<'e>> {
        self.take((bytes / BYTES_MADE_PER_STEP) as u64)?;
        let left = self.bytes.checked_sub(bytes);
        self.bytes = left.unwrap_or(0);
        left.map(drop).ok_or(Failure::TooCostly("it makes too long a string or list"))
    }
}
