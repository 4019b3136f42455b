//! The life of a request: from observed facts to the writes to make, in order. Pure.
//!
//! [`plan`] is a function of what was observed and of the time; it never sees a client. The controller applies what it
//! returns. Tests and, later, a model checker drive it without a cluster.

mod bounds;
mod claim;
pub mod claims;
mod end;
mod evaluate;
mod facts;
mod gate;
mod inputs;
mod marks;
mod message;
mod milestones;
mod obstacle;
mod packed;
mod plan;
mod policy;
mod release;
mod resources;
mod status;
mod target;
mod target_patch;
mod unrecorded;
mod view;

pub use claim::{Claim, Contender, claim, foreign, tells_of_override};
pub use evaluate::{barred, creator_unknown, excluded};
pub use facts::{BrokenRequest, Cluster, Gate, NamespaceFacts, RequestFacts, Surroundings, forget_details, version};
pub use gate::{Foreseen, Held, MOST_WAITING, plan_gate};
pub use inputs::obstacles;
pub use marks::{Marks, Override, Reads, made_by_cron_job};
pub use message::{COMMENT, missing};
pub use milestones::{Milestones, governing};
pub use obstacle::{never_opens, unsatisfiable};
pub use packed::Packed;
pub use plan::{Deletion, Note, Observed, Plan, Step, Target, TargetPatch, plan};
pub use policy::{PolicyFacts, plan_policy};
pub use target::{HeldWork, TargetFacts, traits};
pub use unrecorded::Unrecorded;

#[cfg(test)]
mod tests;
