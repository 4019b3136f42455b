//! Which bounds hold: what a release sets for them, which of them it cannot keep, and which nobody keeps afterwards.

use crate::api::constraints::MOST_LIMITS;
use crate::api::{Constraints, TargetKind};
use crate::lifecycle::{Cluster, Gate, TargetFacts, resources};
use serde_json::{Value, json};

/// The time to stop that a bound on runtime leaves on top, in seconds: what Kubernetes gives every Pod that names none.
const USUAL_GRACE: i64 = 30;
/// What is said of a bound that the release sets in a namespace that is not gated.
const SET_ONCE: &str = " (set at release, can be changed later)";

/// The pod spec of a held target.
pub(super) fn pod_spec(target: &TargetFacts) -> &Value {
    let pointer = match target.kind {
        TargetKind::Job => "/spec/template/spec",
        TargetKind::Pod => "/spec",
    };
    target.work.object.pointer(pointer).unwrap_or(&Value::Null)
}

/// A container, and where it stands.
pub(super) struct Container<'a> {
    pub list: &'static str,
    pub number: usize,
    pub object: &'a Value,
}

impl Container<'_> {
    pub(super) fn name(&self) -> &str {
        self.object.get("name").and_then(Value::as_str).unwrap_or("without a name")
    }
}

pub(super) fn containers(pod_spec: &Value) -> impl Iterator<Item = Container<'_>> {
    ["initContainers", "containers"].into_iter().flat_map(move |list| {
        let all = pod_spec.get(list).and_then(Value::as_array).into_iter().flatten();
        all.enumerate().map(move |(number, object)| Container { list, number, object })
    })
}

/// How long Pods may take to stop once they are told to.
fn grace(target: &TargetFacts) -> i64 {
    pod_spec(target).get("terminationGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(USUAL_GRACE)
}

/// The `activeDeadlineSeconds` that keeps a bound on runtime. The deadline only begins the end: a process that does not heed
/// it runs on until the grace is over. What of the grace goes beyond the usual comes off the deadline, so that everything is
/// gone once the bound and the usual grace are over. Never less than the API takes: what is left no time is refused.
pub(super) fn deadline(target: &TargetFacts, most: i64) -> i64 {
    (most - (grace(target) - USUAL_GRACE).max(0)).max(1)
}

/// Why a bound cannot be kept for this target, if so: which one, and what to do.
pub(super) fn unenforceable(target: &TargetFacts, constraints: &Constraints, cluster: Cluster) -> Option<String> {
    endless(target, constraints)
        .or_else(|| run_again(target, constraints))
        .or_else(|| resources::unenforceable(target, constraints, cluster))
}

/// More time to stop than to run. The release cannot change it: in a Job's template it is immutable.
fn endless(target: &TargetFacts, constraints: &Constraints) -> Option<String> {
    let (most, grace) = (constraints.max_runtime_seconds?, grace(target));
    let longest = most.max(USUAL_GRACE);
    let whose = match target.kind {
        TargetKind::Job => format!("a Pod of {}", target.noun()),
        TargetKind::Pod => target.noun(),
    };
    (grace > longest).then(|| {
        format!(
            "{whose} may take {grace} s to stop (terminationGracePeriodSeconds), and maxRuntimeSeconds is {most}: it could run on for that long; create it anew with terminationGracePeriodSeconds of at most {longest}"
        )
    })
}

/// Where nothing may be tried again, what would be.
fn run_again(target: &TargetFacts, constraints: &Constraints) -> Option<String> {
    let Uncounted { what, instead } = uncounted_retries(target).filter(|_| constraints.max_retries == Some(0))?;
    Some(format!("{what}, which no backoffLimit counts in time, and maxRetries is 0; create it anew {instead}"))
}

/// Something that runs again and is not counted.
struct Uncounted {
    what: String,
    instead: &'static str,
}

/// What may be tried again that no `backoffLimit` counts, or only once it runs again: containers that the kubelet restarts
/// in place, and failures that a Job ignores.
fn uncounted_retries(target: &TargetFacts) -> Option<Uncounted> {
    let pod_spec = pod_spec(target);
    // What it will run is kept while it is held only.
    if pod_spec.is_null() {
        return None;
    }
    let restarted = containers(pod_spec).find_map(|container| {
        let (how, instead) = restarts(&container, pod_spec)?;
        let what =
            format!("container {} of {} is started again where it fails ({how})", container.name(), target.noun());
        Some(Uncounted { what, instead })
    });
    restarted.or_else(|| {
        let rules = target.work.object.pointer("/spec/podFailurePolicy/rules").and_then(Value::as_array);
        let ignores = rules.into_iter().flatten().any(|rule| rule.get("action") == Some(&json!("Ignore")));
        ignores.then(|| Uncounted {
            what: format!("{} ignores some failures (podFailurePolicy with action Ignore)", target.noun()),
            instead: "without that action",
        })
    })
}

/// What makes the kubelet restart a container, and what would not.
fn restarts(container: &Container<'_>, pod_spec: &Value) -> Option<(String, &'static str)> {
    let rules = container.object.get("restartPolicyRules").and_then(Value::as_array);
    if rules.is_some_and(|rules| !rules.is_empty()) {
        return Some(("restartPolicyRules".into(), "without them"));
    }
    let word = |of: &Value| of.get("restartPolicy").and_then(Value::as_str).map(str::to_string);
    let own = word(container.object);
    // A sidecar runs beside the work, and is not the work.
    if container.list == "initContainers" && own.as_deref() == Some("Always") {
        return None;
    }
    let policy = own.or_else(|| word(pod_spec)).unwrap_or_else(|| "Always".into());
    (policy != "Never").then(|| (format!("restartPolicy {policy}"), "with restartPolicy: Never"))
}

/// Why not all limits can be shown and delivered, if so: a status that holds more of them is not taken.
pub(super) fn too_many_limits(constraints: &Constraints) -> Option<String> {
    let n = constraints.limits.len();
    (n > MOST_LIMITS).then(|| {
        format!(
            "the matching rules and the request have {n} names of limits together (constraints.limits), and at most {MOST_LIMITS} can be in force; ask anew with fewer, or the platform team names fewer"
        )
    })
}

/// The constraints as a status holds them: without the limits that are too many.
pub(super) fn listed(constraints: &Constraints) -> Constraints {
    let limits = constraints.limits.iter().take(MOST_LIMITS).map(|(name, limit)| (name.clone(), *limit));
    Constraints { limits: limits.collect(), ..constraints.clone() }
}

/// The names of the bounds that nothing enforces: for a target, those that are left to the worker; without one, all. Where
/// the gate does not guard what runs, also those that the release sets and whoever may change the Job can change again.
pub(super) fn advisory(
    constraints: &Constraints,
    kind: Option<TargetKind>,
    target: Option<&TargetFacts>,
    gate: Gate,
) -> Vec<String> {
    let uncounted = target.is_some_and(|target| uncounted_retries(target).is_some());
    let typed = [
        ("maxRuntimeSeconds", constraints.max_runtime_seconds.is_some(), false),
        ("maxRetries", constraints.max_retries.is_some(), uncounted),
        ("maxParallelism", constraints.max_parallelism.is_some(), false),
        ("maxCpu", constraints.max_cpu.is_some(), false),
        ("maxMemory", constraints.max_memory.is_some(), false),
    ];
    let typed = typed.into_iter().filter(|(_, bounded, _)| *bounded).filter_map(|(name, _, told)| match gate {
        _ if told || kind.is_none() => Some(name.to_string()),
        Gate::Enforce => None,
        Gate::Off | Gate::Warn => Some(format!("{name}{SET_ONCE}")),
    });
    typed.chain(constraints.limits.keys().take(MOST_LIMITS).map(|name| format!("limits.{name}"))).collect()
}
