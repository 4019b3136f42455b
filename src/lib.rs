//! Countersign: a human approval gate for high-impact automation on Kubernetes.
//!
//! The rooms, from pure to effectful: [`api`] (types), [`risk`] (what will run, and what it can reach), [`policy`] (which
//! rules match, and what they say together), [`binding`] (hashes, seals, receipts), [`review`] (who may decide, and what all
//! reviews amount to), [`lifecycle`] (from observed facts to the writes to make); then [`controller`] (watch, apply),
//! [`admission`] (pure verdicts, and the server that carries them), [`integrity`] (whether what holds the gate still
//! stands), [`telemetry`] (metrics and readiness) and [`cli`]. The pure ones know no client, clock, environment or runtime.
#![forbid(unsafe_code)]
#![warn(missing_docs)]
// Bad input never ends a process.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::todo,
        clippy::unimplemented,
        clippy::unreachable
    )
)]

pub mod admission;
pub mod api;
pub mod audit;
pub mod binding;
pub mod cli;
pub mod controller;
pub mod integrity;
pub mod lifecycle;
pub mod policy;
pub mod review;
pub mod risk;
pub mod telemetry;
