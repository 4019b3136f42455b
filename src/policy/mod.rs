//! Policy: which rules match a request, and what they say together. Pure.
//!
//! [`compile`] turns a stored policy into a [`CompiledPolicy`] or says which field is wrong; [`evaluate`] matches every
//! rule of every policy against the [`Facts`] of a request and joins what they say into one [`Outcome`].

mod calendar;
mod classify;
mod compare;
mod compile;
mod evaluate;
mod explain;
mod expression;
mod glob;
mod outcome;
mod quorum;
mod satisfiable;
mod validate;
mod window;

pub use classify::classify;
pub use compare::{Difference, compare, decision_name, tags_suffice, weaker};
pub use compile::{BrokenPolicy, CompiledPolicy, CompiledRule, PolicyError, PolicySet, compile};
pub use evaluate::{DerivedTag, Facts, UNSEEN, evaluate};
pub use explain::{PolicyTrace, RuleTrace, Standing, explain};
pub use expression::{Budget, Environment, Expression, ExpressionError};
pub use outcome::{Doubt, Failure, JoinedRequirement, JoinedWindow, MAX_APPROVALS, Outcome};
pub use quorum::{Places, assign};
pub use satisfiable::shortfall;
pub use window::{Passable, Window, opening, opening_past, release_by, released_at};

#[cfg(test)]
mod tests;
