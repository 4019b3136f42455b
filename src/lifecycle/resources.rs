//! Bounds on CPU and memory: what a release changes in the containers of a suspended Job, and where it cannot.
//!
//! Kubernetes 1.36 lets the resources of the containers and init containers of a suspended Job be changed (KEP-5440, feature
//! gate MutablePodResourcesForSuspendedJobs, alpha and off in 1.35). Those of a Pod, and of a Job on an older cluster, can
//! only be looked at.

use crate::api::{Constraints, Quantity, TargetKind};
use crate::lifecycle::bounds::{Container, containers, pod_spec};
use crate::lifecycle::{Cluster, TargetFacts};
use serde_json::{Value, json};

/// One bound on a resource.
struct Ceiling<'a> {
    /// As `resources` calls it.
    resource: &'static str,
    /// As constraints call it.
    constraint: &'static str,
    most: &'a Quantity,
}

/// `resources.<part>.<resource>` of a container or of a pod spec.
fn amount<'a>(of: &'a Value, part: &str, resource: &str) -> Option<&'a Value> {
    of.get("resources")?.get(part)?.get(resource).filter(|amount| !amount.is_null())
}

/// Whether an amount may be more than the bound: one that cannot be read may.
fn beyond(amount: &Value, most: &Quantity) -> bool {
    let read = amount.as_str().and_then(|text| text.parse::<Quantity>().ok());
    read.is_none_or(|amount| amount.exceeds(most))
}

fn ceilings(constraints: &Constraints) -> impl Iterator<Item = Ceiling<'_>> {
    let cpu = constraints.max_cpu.as_ref().map(|most| Ceiling { resource: "cpu", constraint: "maxCpu", most });
    let memory =
        constraints.max_memory.as_ref().map(|most| Ceiling { resource: "memory", constraint: "maxMemory", most });
    cpu.into_iter().chain(memory)
}

/// What bounds a container: its own limit, else that of its whole Pod.
fn limit<'a>(container: &Container<'a>, pod_spec: &'a Value, resource: &str) -> Option<&'a Value> {
    amount(container.object, "limits", resource).or_else(|| amount(pod_spec, "limits", resource))
}

/// Why a bound on CPU or memory cannot be kept here, if so: which container, which bound, and what to do.
pub(super) fn unenforceable(target: &TargetFacts, constraints: &Constraints, cluster: Cluster) -> Option<String> {
    huge_pages(target, constraints).or_else(|| unchangeable(target, constraints, cluster))
}

/// Huge pages are accounted beside the memory limit, and cannot be overcommitted: a lower number of them is another program.
fn huge_pages(target: &TargetFacts, constraints: &Constraints) -> Option<String> {
    constraints.max_memory.as_ref()?;
    let (pod_spec, noun) = (pod_spec(target), target.noun());
    let each = containers(pod_spec).map(|c| (format!("container {} of {noun}", c.name()), c.object));
    let found = each.chain([(noun.clone(), pod_spec)]).find_map(|(who, of)| Some((who, asked_huge_pages(of)?)));
    let (who, (resource, amount)) = found?;
    Some(format!(
        "{who} asks for {resource} of {amount}, which maxMemory does not bound: huge pages are no part of a memory limit; create it anew without them"
    ))
}

/// The first huge pages that a container or a pod spec asks for.
fn asked_huge_pages(of: &Value) -> Option<(String, String)> {
    let parts = ["limits", "requests"].into_iter().filter_map(|part| of.get("resources")?.get(part)?.as_object());
    let some = |amount: &Value| amount.as_str().and_then(|a| a.parse::<Quantity>().ok()).is_none_or(|a| !a.is_zero());
    let found = parts.flatten().find(|(name, amount)| name.starts_with("hugepages-") && some(amount));
    found.map(|(name, amount)| (name.clone(), amount.as_str().unwrap_or("another form").into()))
}

/// Where the resources of containers cannot be changed, the first that is not within the bounds already.
fn unchangeable(target: &TargetFacts, constraints: &Constraints, cluster: Cluster) -> Option<String> {
    let pod_spec = pod_spec(target);
    if let Some(unreadable) = unreadable(target, pod_spec, constraints) {
        return Some(unreadable);
    }
    // Requests of containers follow their new limits, and may then be more than the Pod's own.
    let shared = pod_spec.get("resources").and_then(Value::as_object).is_some_and(|own| !own.is_empty());
    let why = match target.kind {
        TargetKind::Pod => "the resources of a held Pod cannot be changed",
        TargetKind::Job if !cluster.mutable_resources => {
            "this cluster does not let the resources of a suspended Job be changed (Kubernetes 1.36 does)"
        }
        TargetKind::Job if shared => {
            "beside resources of the whole Pod (spec.resources) those of containers are not touched"
        }
        TargetKind::Job => return None,
    };
    for container in containers(pod_spec) {
        for Ceiling { resource, constraint, most } in ceilings(constraints) {
            let has = match limit(&container, pod_spec, resource) {
                Some(own) if !beyond(own, most) => continue,
                Some(own) => format!("has a {resource} limit of {}", own.as_str().unwrap_or("another form")),
                None => format!("has no {resource} limit"),
            };
            let (noun, name, most) = (target.noun(), container.name(), most.as_str());
            return Some(format!(
                "container {name} of {noun} {has}, {constraint} is {most}, and {why}; create it anew with resources.limits.{resource} of at most {most} in every container"
            ));
        }
    }
    None
}

/// An amount that a bound is about and that cannot be read: putting the bound in its place might raise it.
fn unreadable(target: &TargetFacts, pod_spec: &Value, constraints: &Constraints) -> Option<String> {
    for Ceiling { resource, constraint, .. } in ceilings(constraints) {
        for part in ["limits", "requests"] {
            let own = |container: Container<'_>| {
                let found = amount(container.object, part, resource)?;
                let sound = found.as_str().is_some_and(|text| text.parse::<Quantity>().is_ok());
                (!sound).then(|| (container.name().to_string(), found.to_string()))
            };
            if let Some((name, amount)) = containers(pod_spec).find_map(own) {
                let noun = target.noun();
                return Some(format!(
                    "container {name} of {noun} has resources.{part}.{resource} of {amount}, which cannot be read, and {constraint} bounds it; create it anew with an amount such as 500m, 2 or 1.5Gi"
                ));
            }
        }
    }
    None
}

/// Sets the limit of each container of a suspended Job to the bound where it is above, or absent, and takes its request
/// along where that would be above the limit. A request that is absent becomes the limit, as Kubernetes has it.
pub(super) fn tighten(operations: &mut Vec<Value>, target: &TargetFacts, constraints: &Constraints) {
    let pod_spec = pod_spec(target);
    for container in containers(pod_spec) {
        let at = format!("/spec/template/spec/{}/{}/resources", container.list, container.number);
        let object = |pointer: &str| container.object.pointer(pointer).is_some_and(Value::is_object);
        let mut missing =
            vec![(!object("/resources"), at.clone()), (!object("/resources/limits"), format!("{at}/limits"))];
        for Ceiling { resource, most, .. } in ceilings(constraints) {
            if limit(&container, pod_spec, resource).is_some_and(|own| !beyond(own, most)) {
                continue;
            }
            let made = missing.drain(..).filter(|(missing, _)| *missing);
            operations.extend(made.map(|(_, path)| json!({"op": "add", "path": path, "value": {}})));
            let mut set = |part: &str| {
                let path = format!("{at}/{part}/{resource}");
                operations.push(json!({"op": "add", "path": path, "value": most.as_str()}));
            };
            set("limits");
            if amount(container.object, "requests", resource).is_some_and(|own| beyond(own, most)) {
                set("requests");
            }
        }
    }
}
