//! Countersign: a human approval gate for high-impact automation on Kubernetes.
//!
//! The rooms, from pure to effectful: [`api`] (types), [`policy`] (evaluate), [`binding`] (hashes, seals, receipts).
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod api;
pub mod binding;
pub mod lifecycle;
pub mod policy;
pub mod review;
