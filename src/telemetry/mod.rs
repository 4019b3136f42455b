//! What the operator tells of itself to whoever watches it: metrics and probes, over plain HTTP.
//!
//! Knows no Kubernetes and none of the other rooms; they hold its handles.

mod metrics;
mod readiness;
mod server;

pub use metrics::{Metrics, Warned};
pub use readiness::{Check, Readiness};
pub use server::{Telemetry, router, serve};
