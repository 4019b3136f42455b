//! Admission: stamps who asks and who reviews, seals reviews, and refuses with an explanation.
//!
//! Verdicts are pure functions of the old object, the new one, the caller and the time ([`request`], [`policy`]); all they
//! need stands in the stored object. [`server`] carries them over HTTPS, [`registration`] tells the API server where.

pub mod policy;
pub mod registration;
pub mod request;
mod review;
pub mod server;
pub mod tls;
mod verdict;
mod wire;

pub use verdict::{Caller, Refusal, Verdict};
pub use wire::respond;

#[cfg(test)]
mod tests;
