//! What stands on a gated Job or Pod: who made it, as admission stamped it, and what they say of it.

use crate::api::{Requester, TargetKind, names};
use crate::binding::{InputRef, images_without_digest, references, unheld};
use crate::lifecycle::Gate;
use crate::lifecycle::claims::{BadClaim, Claims};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::DynamicObject;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// `spec.managedBy` of a Job that Kubernetes' own controller runs.
const JOB_CONTROLLER: &str = "kubernetes.io/job-controller";
/// Label by which Kueue takes a Job into a queue, and drives its `suspend`.
const QUEUE: &str = "kueue.x-k8s.io/queue-name";
/// Who makes the Jobs of CronJobs; the second name is the one all controllers share where they have none of their own.
const CRON_JOB_CONTROLLERS: [&str; 2] =
    ["system:serviceaccount:kube-system:cronjob-controller", "system:kube-controller-manager"];
/// Most authors that are kept. Admission stamps two at most; more are a creator's own, and only ever exclude somebody.
const MOST_AUTHORS: usize = 8;
/// Longest username that is kept.
const LONGEST_NAME: usize = 512;

/// Annotations and fields that tell whose a Job or Pod is.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    /// Who created it; none where nobody was stamped. See [`Marks::makers`] for where that can be believed.
    pub creator: Option<Requester>,
    /// Who wrote the CronJob it was made from.
    pub authors: Vec<String>,
    /// What the creator claims.
    pub claims: Claims,
    /// The claim that cannot be read, if there is one: then nothing is allowed on claims that might be missing.
    pub bad_claim: Option<BadClaim>,
    /// The service account it runs as.
    pub service_account: String,
    /// Another controller that starts and stops it.
    pub shared_with: Option<String>,
    /// The CronJob that made it: uid and name. By its creator, since anybody can name an owner: whoever forged one could
    /// use up the places of Jobs that wait, or have Jobs deleted.
    pub cron_job: Option<(String, String)>,
    /// Who started it past the gate.
    pub overridden: Option<Override>,
}

/// What a pod spec reads.
#[derive(Clone, Debug, Default)]
pub struct Reads {
    /// ConfigMaps and Secrets.
    pub inputs: Vec<InputRef>,
    /// Images that are not named by digest.
    pub unpinned: Vec<String>,
    /// What else it reads that nobody can hold: a word and a detail each.
    pub unheld: Vec<(&'static str, String)>,
}

impl Reads {
    /// Everything that a pod spec refers to.
    pub fn of(pod_spec: &Value) -> Self {
        Self { inputs: references(pod_spec), unpinned: images_without_digest(pod_spec), unheld: unheld(pod_spec) }
    }
}

/// Somebody with the verb `override` started it without approval.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Override {
    /// Who.
    pub by: String,
    /// Why, in their words.
    pub reason: String,
}

impl Marks {
    /// Reads the marks of a stored object with that pod spec.
    pub fn read(object: &DynamicObject, pod: Option<&Value>) -> Self {
        let annotations = object.metadata.annotations.as_ref().unwrap_or(const { &BTreeMap::new() });
        let get = |name: &str| annotations.get(name).cloned();
        let claims = read_claims(annotations);
        let account = pod.and_then(|p| p.get("serviceAccountName")).and_then(Value::as_str).filter(|a| !a.is_empty());
        Self {
            creator: creator(annotations),
            authors: get(names::AUTHORED_BY).map(|text| authors(&text)).unwrap_or_default(),
            claims: claims.as_ref().cloned().unwrap_or_default(),
            bad_claim: claims.err(),
            service_account: account.unwrap_or("default").into(),
            shared_with: shared_with(object),
            cron_job: annotations
                .get(names::CREATED_BY)
                .and_then(|by| made_by_cron_job(by, object.metadata.owner_references.as_deref().unwrap_or_default())),
            overridden: get(names::OVERRIDE_REASON)
                .zip(get(names::OVERRIDDEN_BY))
                .map(|(reason, by)| Override { by, reason }),
        }
    }

    /// `requestedBy` of the gate's own request for what carries these marks: what its creator claims; else the CronJob that
    /// made it, or itself.
    pub fn requested_by(&self, kind: TargetKind, name: &str) -> String {
        let cron_job = self.cron_job.as_ref().map(|(_, name)| name.as_str());
        self.claims.asked_by(cron_job, kind.as_str(), name)
    }

    /// Everyone who has a part in what runs: who made it, and the service account that it runs as. Sorted.
    pub fn parties(&self, namespace: &str, gate: Gate) -> Vec<String> {
        let mut parties = self.makers(gate);
        parties.insert(format!("system:serviceaccount:{namespace}:{}", self.service_account));
        parties.into_iter().collect()
    }

    /// Its creator, and the authors of its CronJob. Only in a gated namespace does admission write and guard these names;
    /// elsewhere anybody writes there whom they want to keep from approving.
    pub fn makers(&self, gate: Gate) -> BTreeSet<String> {
        let creator = self.creator.iter().map(|creator| &creator.username);
        let makers = creator.chain(&self.authors).filter(|_| gate == Gate::Enforce);
        makers.cloned().collect()
    }

    /// Why nobody knows who made it, if so, and what to do.
    pub fn unknown_maker(&self, gate: Gate) -> Option<&'static str> {
        let scheduled = || self.creator.as_ref().is_some_and(|c| CRON_JOB_CONTROLLERS.contains(&c.username.as_str()));
        if gate != Gate::Enforce {
            return Some(
                "who that is, is known in a gated namespace alone; gate this one, or have the policy not exclude JobCreator here",
            );
        }
        if self.creator.is_none() {
            return Some("nobody was stamped as that when it was made; create it anew");
        }
        (scheduled() && self.authors.is_empty()).then_some(
            "its CronJob is older than the gate, and nobody was stamped as its author; change the CronJob's jobTemplate, and have it make another",
        )
    }
}

fn read_claims(annotations: &BTreeMap<String, String>) -> Result<Claims, BadClaim> {
    let claimed = [names::REQUEST, names::REASON, names::RISK_TAGS, names::REQUESTED_BY];
    let found =
        claimed.into_iter().filter_map(|key| Some((key.to_string(), Value::from(annotations.get(key)?.as_str()))));
    Claims::read(&Value::Object(found.collect()))
}

fn creator(annotations: &BTreeMap<String, String>) -> Option<Requester> {
    let username = annotations.get(names::CREATED_BY).filter(|name| (1..=LONGEST_NAME).contains(&name.len()))?.clone();
    let uid = annotations.get(names::CREATED_BY_UID).filter(|uid| !uid.is_empty()).cloned();
    let groups = annotations.get(names::CREATED_BY_GROUPS).map(|text| lines(text)).unwrap_or_default();
    Some(Requester { username, uid, groups })
}

fn authors(text: &str) -> Vec<String> {
    lines(text).into_iter().filter(|name| name.len() <= LONGEST_NAME).take(MOST_AUTHORS).collect()
}

fn lines(text: &str) -> Vec<String> {
    text.split('\n').filter(|line| !line.is_empty()).map(String::from).collect()
}

fn shared_with(object: &DynamicObject) -> Option<String> {
    let managed_by = object.data.pointer("/spec/managedBy").and_then(Value::as_str).filter(|by| *by != JOB_CONTROLLER);
    if let Some(by) = managed_by {
        return Some(format!("spec.managedBy gives it to {by}"));
    }
    let queue = object.metadata.labels.as_ref()?.get(QUEUE)?;
    Some(format!("the label {QUEUE} puts it into the queue {queue}"))
}

/// The uid and name of the CronJob that a Job of that creator and these owners was made from. The owner counts only where
/// the controller that makes the Jobs of CronJobs wrote it.
pub fn made_by_cron_job(creator: &str, owners: &[OwnerReference]) -> Option<(String, String)> {
    let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
    let cron = owner.kind == "CronJob" && owner.api_version.starts_with("batch/");
    (cron && CRON_JOB_CONTROLLERS.contains(&creator)).then(|| (owner.uid.clone(), owner.name.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(annotations: Value) -> DynamicObject {
        serde_json::from_value(json!({"apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": "j", "annotations": annotations}}))
        .unwrap()
    }

    #[test]
    fn groups_stand_one_a_line() {
        let marks = Marks::read(
            &object(
                json!({names::CREATED_BY: "alice", names::CREATED_BY_UID: "", names::CREATED_BY_GROUPS: "sre\nsystem:authenticated"}),
            ),
            None,
        );
        let creator = marks.creator.unwrap();
        assert_eq!((creator.username.as_str(), creator.uid), ("alice", None));
        assert_eq!(creator.groups, ["sre", "system:authenticated"]);
        assert!(Marks::read(&object(json!({names::CREATED_BY_GROUPS: "sre"})), None).creator.is_none());
    }

    #[test]
    fn claims_are_read_or_named_as_malformed() {
        let marks = |annotations| Marks::read(&object(annotations), None);
        assert_eq!(marks(json!({names::RISK_TAGS: "write,prod,write"})).claims.risk_tags, ["write", "prod"]);
        for (name, bad) in
            [(names::RISK_TAGS, "Prod"), (names::RISK_TAGS, ""), (names::REQUESTED_BY, "a b"), (names::REASON, "")]
        {
            assert_eq!(marks(json!({name: bad})).bad_claim.map(|b| b.key), Some(name), "{bad:?}");
        }
    }

    #[test]
    fn everyone_with_a_part_in_it_is_a_party() {
        let marks = Marks::read(
            &object(json!({names::CREATED_BY: "bob", names::AUTHORED_BY: "alice\nbob"})),
            Some(&json!({"serviceAccountName": "deployer"})),
        );
        let parties = |gate| marks.parties("payments", gate);
        assert_eq!(parties(Gate::Enforce), ["alice", "bob", "system:serviceaccount:payments:deployer"]);
        for gate in [Gate::Warn, Gate::Off] {
            assert_eq!(parties(gate), ["system:serviceaccount:payments:deployer"], "nobody guards the names there");
        }
    }

    #[test]
    fn another_hand_on_suspend_is_seen() {
        let job = |metadata: Value, spec: Value| {
            let object: DynamicObject = serde_json::from_value(
                json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}),
            )
            .unwrap();
            Marks::read(&object, None).shared_with
        };
        assert!(job(json!({"labels": {QUEUE: "team"}}), json!({})).is_some());
        assert!(job(json!({}), json!({"managedBy": "example.com/other"})).is_some());
        assert_eq!(job(json!({}), json!({"managedBy": JOB_CONTROLLER})), None);
    }
}
