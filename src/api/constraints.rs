//! Bounds on what is approved. All of them are upper bounds, and the tightest one wins.

use crate::api::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most names of limits that one object holds: a rule, a request, or what is in force for one.
pub const MOST_LIMITS: usize = 32;

/// A bound for the worker to obey, a whole number from 0 to 2^53 - 1 (what JSON carries without loss, RFC 8785).
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Limit(#[schemars(range(min = 0, max = 9007199254740991i64))] pub i64);

/// Upper bounds on the Job that runs. The operator enforces the typed ones when it releases the Job; `limits` are
/// delivered to the worker in the pod template annotation `countersign.dev/constraints`.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Constraints {
    /// The longest run time in seconds; becomes the Job's `activeDeadlineSeconds` unless that is shorter already. What
    /// `terminationGracePeriodSeconds` goes beyond 30 comes off it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31536000))]
    pub max_runtime_seconds: Option<i64>,
    /// The most retries; becomes the Job's `backoffLimit` unless that is lower already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub max_retries: Option<i32>,
    /// The most Pods at a time; becomes the Job's `parallelism` unless that is lower already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100000))]
    pub max_parallelism: Option<i32>,
    /// The most CPU that each container may use; becomes its limit unless that is lower already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_cpu: Option<Quantity>,
    /// The most memory that each container may use; becomes its limit unless that is lower already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_memory: Option<Quantity>,
    /// Further bounds by name, for the worker to obey, such as `maxLinesChanged`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = MOST_LIMITS))]
    #[x_kube(validation = Rule::new("self.all(k, size(k) >= 1 && size(k) <= 63)").message("a limit's name has 1 to 63 characters"))]
    pub limits: BTreeMap<String, Limit>,
}

impl Constraints {
    /// True when nothing is bounded.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The tightest of both, field by field: commutative, associative, idempotent.
    pub fn tightest(&self, other: &Self) -> Self {
        let mut limits = self.limits.clone();
        for (name, limit) in &other.limits {
            limits.entry(name.clone()).and_modify(|mine| *mine = (*mine).min(*limit)).or_insert(*limit);
        }
        Self {
            max_runtime_seconds: least(self.max_runtime_seconds, other.max_runtime_seconds),
            max_retries: least(self.max_retries, other.max_retries),
            max_parallelism: least(self.max_parallelism, other.max_parallelism),
            max_cpu: least(self.max_cpu.clone(), other.max_cpu.clone()),
            max_memory: least(self.max_memory.clone(), other.max_memory.clone()),
            limits,
        }
    }
}

/// The lesser of two optional bounds, where absent means unbounded.
pub fn least<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
