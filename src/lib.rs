//! Countersign: a human approval gate for high-impact automation on Kubernetes.
//!
//! The rooms, from pure to effectful: [`api`] (types), [`policy`] (evaluate), [`binding`] (hashes, seals, receipts).
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod admission;
pub mod api;
pub mod binding;
pub mod cli;
pub mod controller;
pub mod lifecycle;
pub mod policy;
pub mod review;
