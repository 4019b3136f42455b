//! Conditions in the Kubernetes form: a list-map by `type`, with transition times that only move when the status does.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `True`, `False` or `Unknown`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum ConditionStatus {
    /// The condition holds.
    True,
    /// The condition does not hold.
    False,
    /// Whether it holds is not known yet.
    Unknown,
}

/// One condition, in the shape of `metav1.Condition`.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What this condition is about, such as `Approved`.
    #[serde(rename = "type")]
    #[schemars(length(max = 64))]
    pub type_: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// The generation this was judged at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// When `status` last changed.
    pub last_transition_time: Time,
    /// Why, in one CamelCase word.
    #[schemars(length(min = 1, max = 64))]
    pub reason: String,
    /// Why, for a person.
    #[schemars(length(max = 2048))]
    pub message: String,
}

/// Sets a condition in `list`: replaces the one of the same type, and keeps its transition time while `status` stays.
pub fn set(
    list: &mut Vec<Condition>,
    type_: &str,
    status: ConditionStatus,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: jiff::Timestamp,
) {
    let kept = list.iter().find(|c| c.type_ == type_ && c.status == status).map(|c| c.last_transition_time.clone());
    let condition = Condition {
        type_: type_.into(),
        status,
        observed_generation: generation,
        last_transition_time: kept.unwrap_or(Time(now)),
        reason: reason.into(),
        message: message.into(),
    };
    match list.iter_mut().find(|c| c.type_ == type_) {
        Some(slot) => *slot = condition,
        None => list.push(condition),
    }
}

/// The condition of that type, if there is one.
pub fn find<'a>(list: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    list.iter().find(|c| c.type_ == type_)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transition_time_moves_only_with_the_status() {
        let (early, late) = (jiff::Timestamp::from_second(10).unwrap(), jiff::Timestamp::from_second(20).unwrap());
        let mut list = vec![];
        set(&mut list, "Approved", ConditionStatus::False, "Waiting", "a", Some(1), early);
        set(&mut list, "Approved", ConditionStatus::False, "Waiting", "b", Some(2), late);
        assert_eq!((list.len(), list[0].last_transition_time.0), (1, early));
        assert_eq!(list[0].message, "b");
        set(&mut list, "Approved", ConditionStatus::True, "Quorum", "c", Some(2), late);
        assert_eq!((list.len(), list[0].last_transition_time.0), (1, late));
    }
}
