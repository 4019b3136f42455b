//! CEL expressions in rules: compiled once, bounded, and never with an effect.
//!
//! The crate `cel` parses; [`lower`] then resolves every name, field, function, pattern and time zone into a [`tree`] that
//! [`run`] evaluates under a [`meter`]. The crate's own interpreter is not used: it has no budget, compiles a pattern
//! each time it is matched, and quotes the object in its errors. A property test holds the two to the same answers.
//!
//! Bounds: [`scan`] refuses long or deeply nested text before it is parsed, [`lower`] too many macros or patterns, the
//! meter an evaluation that takes too many steps or too much memory. Nothing is copied out of the object: [`item`]s borrow.

mod calls;
mod clock;
mod environment;
mod functions;
mod item;
mod lower;
mod meter;
mod operators;
mod pattern;
mod place;
mod run;
mod scan;
mod schema;
mod tree;

pub use environment::Environment;
pub use meter::Budget;

use crate::api::Requester;
use crate::policy::expression::item::{Item, Kind};
use crate::policy::expression::meter::Failure;
use crate::policy::expression::run::Run;
use crate::policy::expression::scan::Scan;
use crate::policy::expression::tree::Node;
use crate::policy::{Facts, UNSEEN};
use cel::parser::{ParseErrors, PrattParser};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;

/// How many characters of a problem are told.
const MAX_PROBLEM: usize = 200;

/// A compiled expression.
#[derive(Debug)]
pub struct Expression {
    root: Node,
    trusts: bool,
}

/// Why an expression does not compile.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("line {line}, column {column}: {problem}")]
pub struct ExpressionError {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1, in characters.
    pub column: usize,
    /// What is wrong and what to do, in at most 200 characters.
    pub problem: String,
}

impl ExpressionError {
    fn new((line, column): (usize, usize), problem: impl Into<String>) -> Self {
        Self { line: line.max(1), column: column.max(1), problem: bounded(&problem.into()) }
    }
}

impl Expression {
    /// Compiles an expression. Without `trust_claims` it may not name `claims`, nor the claims in the metadata of `object`.
    ///
    /// # Errors
    /// Where it does not parse, is too long or too deep, names what there is not, compares what never goes together, can be seen not to be
    /// true or false, or costs too much whatever it is asked about.
    pub fn compile(text: &str, trust_claims: bool) -> Result<Self, ExpressionError> {
        let scan = Scan::of(text)?;
        let parsed = parser().parse(text).map_err(|errors| syntax(text, &errors))?;
        let (root, kind) = lower::lower(&parsed, trust_claims).map_err(|wrong| wrong.locate(text, &scan))?;
        match kind {
            None | Some(Kind::Bool) => match costs(&root, trust_claims) {
                None => Ok(Self { root, trusts: trust_claims }),
                Some(why) => Err(ExpressionError::new(
                    scan.start(),
                    format!("it is too costly without any object: {why}; make it simpler"),
                )),
            },
            Some(kind) => Err(ExpressionError::new(
                scan.start(),
                format!("an expression says true or false, but this is {}; compare it with something", kind.article()),
            )),
        }
    }

    /// Whether it is true of these facts, or why that cannot be said. The reason names kinds, and fields that the expression
    /// itself names, never what the object holds; it has at most 200 characters. What it costs is taken from the budget.
    ///
    /// # Errors
    /// Where a field is missing, kinds do not go together, the answer is not true or false, or it would cost too much.
    pub fn holds(&self, environment: &Environment<'_>, budget: &mut Budget) -> Result<bool, String> {
        if self.trusts != environment.trusts() {
            return Err("the expression and its environment disagree about trustClaims".into());
        }
        match Run::of(&self.root, environment, budget) {
            Ok(Item::Bool(holds)) => Ok(holds),
            Ok(other) => Err(format!("the expression is not true or false but {}", other.kind().article())),
            Err(failure) => Err(bounded(&failure.to_string())),
        }
    }
}

/// Why an expression costs too much even of nothing, if so: it would fail for whatever it is asked about.
fn costs(root: &Node, trust_claims: bool) -> Option<&'static str> {
    let facts = Facts {
        requested_by: "",
        declared_tags: &[],
        claims: &Value::Null,
        derived_tags: &[],
        requester: const { &Requester::NOBODY },
        namespace: "",
        namespace_labels: &BTreeMap::new(),
        object: Some(UNSEEN),
        asked: Timestamp::UNIX_EPOCH,
    };
    match Run::of(root, &Environment::new(&facts, trust_claims), &mut Budget::default()) {
        Err(Failure::TooCostly(why)) => Some(why),
        _ => None,
    }
}

fn parser() -> PrattParser {
    PrattParser::new().max_recursion_depth(2 * scan::MAX_DEPTH as u16).error_recovery_limit(1)
}

/// The first thing that the parser says, in our columns: characters, not bytes.
fn syntax(text: &str, errors: &ParseErrors) -> ExpressionError {
    let Some(first) = errors.errors.iter().find(|e| e.pos.0 > 0).or(errors.errors.first()) else {
        return ExpressionError::new((1, 1), "it is not a CEL expression");
    };
    let at = |position: isize| usize::try_from(position).unwrap_or(1).max(1);
    let (line, byte) = (at(first.pos.0), at(first.pos.1));
    let before = text.split('\n').nth(line - 1).unwrap_or_default().char_indices().take_while(|(i, _)| i + 1 < byte);
    let said = first.msg.strip_prefix("Syntax error: ").unwrap_or(&first.msg);
    ExpressionError::new((line, before.count() + 1), format!("it is not a CEL expression: {said}"))
}

/// On one line, and not longer than a status should be.
fn bounded(problem: &str) -> String {
    let line = problem.chars().map(|c| if c.is_control() { ' ' } else { c });
    line.take(MAX_PROBLEM).collect()
}

#[cfg(test)]
#[path = "tests/mod.rs"]
mod tests;
