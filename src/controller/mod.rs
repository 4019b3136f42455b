//! The controller: watch, gather facts, apply the plan.
//!
//! Everything it decides is decided by [`crate::lifecycle`]; here stands the I/O. Watches feed one [`Index`]; what changed
//! is queued by request; workers observe, plan and apply. Nothing is read from the API server that the index holds.

mod apply;
mod backoff;
mod config_maps;
mod error;
mod events;
mod index;
mod keys;
mod leader;
mod listed;
pub(crate) mod object;
mod pages;
mod pruner;
mod queue;
mod reconcile;
mod record_pages;
mod recorder;
mod reread;
mod retry_after;
mod run;
mod settings;
mod trouble;
pub(crate) mod watch;
mod watches;

pub(crate) use backoff::backoff;
pub(crate) use error::call;
pub use error::{Class, Error};
pub use index::{HeldObservation, Index, Key, Observation, OpenRequests};
pub use keys::{keys_of, load_or_create, secret};
pub use leader::{Candidate, LEASE as LEADER_LEASE, Leadership, Terms, stand};
pub use reconcile::Controller;
pub use recorder::Sink;
pub use retry_after::keep_retry_after;
pub use run::run;
pub use settings::{Hooks, ReadSecrets, Settings};
pub use watches::Watches;
