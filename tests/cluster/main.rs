//! Tests against a real API server with one operator, side by side, a namespace each.

#[path = "../support/mod.rs"]
mod support;

mod bad_input;
mod bad_policy;
mod bounds;
mod deciders;
mod derived;
mod drift;
mod ends;
mod explain;
mod freeze;
mod gate_cron;
mod gate_jobs;
mod gate_pods;
mod gate_ways;
mod refusals;
mod seen;
mod story;
