//! Policy: which rules match a request, and what they say together. Pure.
//!
//! [`compile`] turns a stored policy into a [`CompiledPolicy`] or says which field is wrong; [`evaluate`] matches every
//! rule of every policy against the [`Facts`] of a request and joins what they say into one [`Outcome`].

mod compile;
mod evaluate;
mod glob;
mod outcome;
mod validate;

pub use compile::{BrokenPolicy, CompiledPolicy, CompiledRule, PolicyError, PolicySet, compile};
pub use evaluate::{DerivedTag, Facts, evaluate};
pub use outcome::{JoinedRequirement, MAX_APPROVALS, Outcome};

#[cfg(test)]
mod tests;
