//! The chart as Helm reads it, and as API servers of every supported release take it. Pods only seem to run here: an operator
//! beside the cluster does their work, with nothing but the rights that the chart gave.

#[path = "../support/mod.rs"]
mod support;

mod granted;
mod life;
mod rights;
mod values;

use support::helm::{CHART, helm};

const HOME: &str = "countersign-system";
