//! NetworkPolicies, as far as egress goes.
//!
//! What is found here is a hint, never a fact: a NetworkPolicy does something only where the cluster's network plugin enforces
//! it; policies add up, so that one more opens what another closed; whoever may edit a namespace may write them, and change
//! them while a Pod runs; and how far a rule reaches can be hidden (a block of addresses with one exception). Network plugins
//! also have policies of their own, which are not looked at.

use crate::api::LabelSelector;
use kube::core::DynamicObject;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

/// Every NetworkPolicy in the cluster that says something of egress.
#[derive(Debug, Default)]
pub struct NetworkPolicies {
    by_namespace: HashMap<String, BTreeMap<String, EgressPolicy>>,
}

#[derive(Debug, Eq, PartialEq)]
struct EgressPolicy {
    /// The Pods it is for.
    selector: LabelSelector,
    /// Whether it lets them go everywhere.
    open: bool,
}

impl NetworkPolicies {
    /// A NetworkPolicy as stored. Returns whether anything changed that egress rests on.
    pub fn set(&mut self, object: &DynamicObject) -> bool {
        let namespace = object.metadata.namespace.clone().unwrap_or_default();
        let name = object.metadata.name.clone().unwrap_or_default();
        let policy = EgressPolicy::read(object.data.get("spec").unwrap_or(&Value::Null));
        let known = self.by_namespace.get(&namespace).and_then(|policies| policies.get(&name));
        if known == policy.as_ref() {
            return false;
        }
        match policy {
            Some(policy) => {
                self.by_namespace.entry(namespace).or_default().insert(name, policy);
            }
            None => return self.remove(&namespace, &name),
        }
        true
    }

    /// A NetworkPolicy is gone. Returns whether it was one that egress rests on.
    pub fn remove(&mut self, namespace: &str, name: &str) -> bool {
        let Some(policies) = self.by_namespace.get_mut(namespace) else { return false };
        let removed = policies.remove(name).is_some();
        if policies.is_empty() {
            self.by_namespace.remove(namespace);
        }
        removed
    }

    /// Namespace and name of everything that is kept.
    pub fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        self.by_namespace
            .iter()
            .flat_map(|(namespace, policies)| policies.keys().map(move |name| (namespace.as_str(), name.as_str())))
    }

    /// Whether none of them restricts the egress of a Pod with these labels: none selects it, or one that does lets it go
    /// everywhere.
    pub fn open_egress(&self, namespace: &str, pod_labels: &BTreeMap<String, String>) -> bool {
        let policies = self.by_namespace.get(namespace).into_iter().flat_map(BTreeMap::values);
        let mut selecting = policies.filter(|policy| policy.selector.matches(pod_labels)).peekable();
        selecting.peek().is_none() || selecting.any(|policy| policy.open)
    }
}

impl EgressPolicy {
    /// None where it says nothing of egress. One that cannot be read is taken for one that opens everything to everybody.
    fn read(spec: &Value) -> Option<Self> {
        let rules = spec.get("egress").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let types: Vec<_> = spec.get("policyTypes").and_then(Value::as_array).into_iter().flatten().collect();
        // Without types, egress rules make it one for egress; an empty list of them does not.
        let concerned = if types.is_empty() { !rules.is_empty() } else { types.iter().any(|kind| **kind == "Egress") };
        let selector = match spec.get("podSelector") {
            None | Some(Value::Null) => Some(LabelSelector::default()),
            Some(selector) => serde_json::from_value(selector.clone()).ok(),
        };
        let open = selector.is_none() || rules.iter().any(lets_everything_out);
        concerned.then(|| Self { selector: selector.unwrap_or_default(), open })
    }
}

/// Whether a rule of `egress` names no peer or every address, and no port or all of them.
fn lets_everything_out(rule: &Value) -> bool {
    let entries = |field: &str| rule.get(field).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let (peers, ports) = (entries("to"), entries("ports"));
    let anywhere = peers.is_empty() || peers.iter().any(|peer| is_everywhere(&peer["ipBlock"]));
    anywhere && (ports.is_empty() || ports.iter().any(is_every_port))
}

/// Whether a block of addresses is all of them, and nothing is taken out of it.
fn is_everywhere(block: &Value) -> bool {
    let all =
        block["cidr"].as_str().and_then(|cidr| cidr.rsplit_once('/')).is_some_and(|(_, bits)| bits.parse() == Ok(0u8));
    all && block["except"].as_array().is_none_or(Vec::is_empty)
}

/// An entry without a number or name stands for every port of its protocol.
fn is_every_port(port: &Value) -> bool {
    let from = &port["port"];
    from.is_null() || (from.as_i64().is_some_and(|n| n <= 1) && port["endPort"].as_i64() >= Some(65535))
}

#[cfg(test)]
#[path = "egress_tests.rs"]
mod tests;
