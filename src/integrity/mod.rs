//! The gate watches itself: are the objects that hold it in the API server still what the operator expects?
//!
//! Whoever may write webhook configurations and admission policies can open the gate without a word to the operator: delete
//! one, widen an exception, narrow what is matched, name another authority. Nothing can stop such a person, so it is
//! told: a condition on the operator's Lease, an Event, a metric and a line of `/readyz`.
//!
//! [`compare`] and [`state`] are pure: an object against what is stored, and all of them together. [`Integrity`] does the
//! I/O: watches, no polling; at rest it asks nothing. It never repairs: what changed may be what an administrator wanted.

pub mod compare;
mod kind;
mod lease;
mod run;
pub mod state;

pub use kind::Kind;
pub use lease::{FINDINGS, INTACT, LEASE};
pub use run::{Announces, Integrity, Settings};

#[cfg(test)]
mod tests;
