//! Where in the text something is wrong.

use crate::policy::expression::scan::Scan;
use crate::policy::expression::{ExpressionError, parser};

/// A place in the text, told by a node of the tree.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// The node itself: its operator or bracket, or where it begins.
    Node(u64),
    /// The name before the bracket of a call: its method or macro.
    Before(u64),
    /// The first name after a dot or bracket: a field, or the name that a macro gives to its items.
    After(u64),
    /// The second name from a node on: the field that `has()` asks of it.
    Next(u64),
}

/// What is wrong, and where.
#[derive(Debug)]
pub(super) struct Wrong {
    place: Place,
    problem: String,
}

impl Wrong {
    pub(super) fn new(place: Place, problem: impl Into<String>) -> Self {
        Self { place, problem: problem.into() }
    }

    /// The same in lines and columns; where the expression begins if nobody can tell.
    pub(super) fn locate(self, text: &str, scan: &Scan) -> ExpressionError {
        let at = byte(self.place, text, scan).and_then(|byte| position(text, byte));
        ExpressionError::new(at.unwrap_or(scan.start()), self.problem)
    }
}

/// Where a place begins. The parser tells where its nodes stand only beside an error, so it is given one behind the
/// expression: up to there it numbers the same nodes in the same way.
fn byte(place: Place, text: &str, scan: &Scan) -> Option<usize> {
    let errors = parser().parse(&format!("{text}\n)")).err()?;
    let stands = errors.errors.into_iter().find_map(|error| error.source_info)?;
    let of = |node: u64| stands.offset_for(node).and_then(|(from, _)| usize::try_from(from).ok());
    match place {
        Place::Node(node) => of(node),
        Place::Before(node) => scan.name_before(of(node)?),
        Place::After(node) => scan.name_from(of(node)?, 0),
        Place::Next(node) => scan.name_from(of(node)?, 1),
    }
}

/// Line and column, in characters, from 1.
fn position(text: &str, byte: usize) -> Option<(usize, usize)> {
    let before = text.get(..byte)?;
    let line = before.matches('\n').count() + 1;
    Some((line, before.rsplit('\n').next().unwrap_or_default().chars().count() + 1))
}
