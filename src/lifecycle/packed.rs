//! Facts at rest: what thousands of pending requests are kept as until one of them is looked at.
//!
//! A tree of small maps takes ten times the memory of its text: each map holds room for eleven entries. What is packed reads as
//! null, which policy takes for a target that nobody has seen, so that whoever forgets to unpack decides nothing.

use crate::lifecycle::target::HeldWork;
use crate::lifecycle::{RequestFacts, TargetFacts};
use serde_json::Value;
use std::sync::Arc;

/// A JSON value as compact text; empty where it is null.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Packed(Box<str>);

impl Packed {
    /// Takes the value out of there, unless it is null.
    fn take(value: &mut Value) -> Option<Self> {
        if value.is_null() {
            return None;
        }
        Some(Self(std::mem::take(value).to_string().into()))
    }

    /// The value.
    pub fn value(&self) -> Value {
        // What was written here is JSON; if it were not, it would be as nothing.
        if self.0.is_empty() { Value::Null } else { serde_json::from_str(&self.0).unwrap_or_default() }
    }
}

impl RequestFacts {
    /// For rest.
    pub fn packed(mut self) -> Self {
        if let Some(ask) = Packed::take(&mut self.ask) {
            self.packed_ask = ask;
        }
        self
    }

    /// To be looked at.
    pub fn unpacked(&self) -> Self {
        let ask = if self.ask.is_null() { self.packed_ask.value() } else { self.ask.clone() };
        Self { ask, packed_ask: Packed::default(), ..self.clone() }
    }
}

impl HeldWork {
    fn packed(self: Arc<Self>) -> Arc<Self> {
        if self.object.is_null() {
            return self;
        }
        let mut work = Arc::unwrap_or_clone(self);
        work.packed = Packed::take(&mut work.object).unwrap_or_default();
        Arc::new(work)
    }

    fn unpacked(self: &Arc<Self>) -> Arc<Self> {
        if !self.object.is_null() {
            return self.clone();
        }
        let (traits, pod_labels) = (self.traits.clone(), self.pod_labels.clone());
        Arc::new(Self { traits, pod_labels, object: self.packed.value(), packed: Packed::default() })
    }
}

impl TargetFacts {
    /// For rest.
    pub fn packed(mut self) -> Self {
        self.work = std::mem::take(&mut self.work).packed();
        self
    }

    /// To be looked at.
    pub fn unpacked(self: &Arc<Self>) -> Arc<Self> {
        if self.work.packed == Packed::default() {
            return self.clone();
        }
        Arc::new(Self { work: self.work.unpacked(), ..Self::clone(self) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_packed_reads_as_nothing_until_it_is_unpacked() {
        let object =
            json!({"kind": "Job", "spec": {"parallelism": 2, "weight": 18446744073709551615u64, "name": "é\u{0}"}});
        let work = Arc::new(HeldWork { object: object.clone(), ..HeldWork::default() });
        let packed = work.packed();
        assert_eq!(packed.object, Value::Null);
        assert_eq!(packed.clone().packed().unpacked().object, object);
        assert_eq!(packed.unpacked().unpacked().object, object);
        assert_eq!(Arc::new(HeldWork::default()).packed().unpacked().object, Value::Null);
    }
}
