//! What is told of the index as a whole, for whoever watches the operator.

use crate::api::State as Stands;
use crate::controller::index::{Index, Key};
use jiff::{SignedDuration, Timestamp};
use std::collections::HashMap;

/// Requests that have not ended.
#[derive(Debug, Default)]
pub struct OpenRequests {
    /// How many there are, by state and by the names of the policy and of the rule that govern them.
    pub counts: HashMap<(Stands, Option<(String, String)>), i64>,
    /// How long the oldest of those has waited that still wait for policy or reviewers; zero where none does.
    pub oldest: SignedDuration,
}

impl Index {
    /// The requests that have not ended, as of `now`.
    pub fn open_requests(&self, now: Timestamp) -> OpenRequests {
        let state = self.read();
        let mut open = OpenRequests::default();
        for (_, outline) in state.outlines() {
            if outline.state.is_final() {
                continue;
            }
            let rule = outline.rule.as_deref().cloned();
            *open.counts.entry((outline.state, rule)).or_default() += 1;
            if outline.state == Stands::Pending {
                open.oldest = open.oldest.max(now.duration_since(outline.created));
            }
        }
        open
    }

    /// The uid of what a key names, where it is known.
    pub(in crate::controller) fn uid(&self, key: &Key) -> Option<String> {
        let state = self.read();
        match key {
            Key::Request(namespace, name) => {
                state.request(&(namespace.clone(), name.clone())).map(|kept| kept.outline.uid.to_string())
            }
            Key::Target(namespace, kind, name) => {
                let at = (namespace.clone(), *kind, name.clone());
                state.targets.get(&at).map(|target| target.outline.uid.to_string())
            }
            Key::Policy(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binding::Keyring;
    use crate::lifecycle::Cluster;
    use serde_json::json;
    use std::sync::Arc;

    #[test]
    fn what_is_open_is_counted_by_what_governs_it() {
        let index =
            Index::new(Arc::new(Keyring::from_seed(&[7; 32]).unwrap()), "home".into(), false, Cluster::default());
        let put = |name: &str, created: &str, state: &str, rule: Option<&str>| {
            let rules = rule.map(|rule| json!({"policy": "prod", "rule": rule, "decision": "RequireApproval"}));
            let object = json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "ApprovalRequest",
                "metadata": {"name": name, "namespace": "a", "uid": name, "resourceVersion": "1", "creationTimestamp": created},
                "spec": {"runID": "r", "stepID": "s", "requestedBy": "w", "reason": "why"},
                "status": {"state": state, "matches": rules.into_iter().collect::<Vec<_>>()}});
            index.set_request(serde_json::from_value(object).unwrap());
        };
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
        assert_eq!(index.open_requests(now).oldest, SignedDuration::ZERO);
        put("one", "2026-01-01T00:59:00Z", "Pending", Some("write"));
        put("two", "2026-01-01T00:58:00Z", "Pending", Some("write"));
        put("three", "2026-01-01T00:50:00Z", "Approved", None);
        put("four", "2026-01-01T00:00:00Z", "Released", Some("write"));
        let open = index.open_requests(now);
        assert_eq!(open.oldest, SignedDuration::from_mins(2), "what is approved or ended waits for nobody");
        let write = Some(("prod".to_owned(), "write".to_owned()));
        assert_eq!(open.counts, [((Stands::Pending, write), 2), ((Stands::Approved, None), 1)].into());
        assert_eq!(index.uid(&Key::Request("a".into(), "two".into())).as_deref(), Some("two"));
        assert_eq!(index.uid(&Key::Request("a".into(), "none".into())), None);
    }
}
