//! Admission: stamps who asks, creates and reviews, seals reviews, holds what a gate holds, and refuses with an
//! explanation.
//!
//! Verdicts are pure functions of the old object, the new one, the caller and the time ([`request`], [`policy`]), and for
//! Jobs, CronJobs and Pods of policies and namespace labels ([`job`], [`cronjob`], [`pod`]), which [`GateView`] hands over
//! from memory. [`server`] carries them over HTTPS, [`registration`] tells the API server where, and [`certificate`] keeps
//! what it is served under. One question alone goes to the network, and before a verdict: whom the cluster authorizes to
//! approve ([`deciders`]).

mod annotations;
pub mod certificate;
mod creator;
pub mod cronjob;
pub mod deciders;
mod gate;
mod hold;
pub mod job;
mod patch;
pub mod pod;
pub mod policy;
pub mod registration;
pub mod request;
mod review;
mod sent;
pub mod server;
mod standing;
mod text;
pub mod tls;
mod verdict;
mod weight;
mod wire;

pub use gate::GateView;
pub use standing::Context as HoldContext;
pub use verdict::{Answer, Caller, Refusal, Verdict};
pub use weight::TooHeavy;
pub use wire::{AdmissionReview, Context, NotAReview, respond};

#[cfg(test)]
mod tests;
