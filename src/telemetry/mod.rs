//! What the operator tells of itself to whoever watches it: metrics and probes, over plain HTTP, and traces.
//!
//! Knows no Kubernetes and none of the other rooms; they hold its handles.

mod metrics;
mod readiness;
mod server;
mod traces;

pub use metrics::{Answered, Asked, Failed, Metrics, RequestMetrics, Rule, Stands, Warned, WorkMetrics};
pub use readiness::{Check, Readiness};
pub use server::{Telemetry, router, serve};
pub use traces::{Attribute, Happened, Post, Span, Trace, Tracer, tracer};
