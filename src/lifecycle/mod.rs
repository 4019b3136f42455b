//! The life of a request: from observed facts to the writes to make, in order. Pure.
//!
//! [`plan`] is a function of what was observed and of the time; it never sees a client. The controller applies what it
//! returns. Tests and, later, a model checker drive it without a cluster.

mod claim;
mod end;
mod evaluate;
mod facts;
mod job_patch;
mod message;
mod plan;
mod policy;
mod status;

pub use claim::{Claim, Contender, claim};
pub use facts::{BrokenRequest, JobFacts, NamespaceFacts, RequestFacts, version};
pub use plan::{JobPatch, Note, Observed, Plan, Step, Target, plan};
pub use policy::{PolicyFacts, plan_policy};

#[cfg(test)]
mod tests;
