//! The whole life of a request without a cluster: a small world that plans are applied to, step by step.

mod clocks;
mod constraints;
mod deciders;
mod enforced;
mod gate;
mod inputs;
mod milestones;
mod model;
mod properties;
mod receipts;
mod scenarios;
mod targets;
mod time;
mod trail;

use super::*;
use crate::api::{ApprovalRequestStatus, State, TargetKind, condition};
use crate::binding::{InputFacts, InputRef, InputState, Keyring, seal};
use crate::policy::{PolicySet, compile};
use jiff::{SignedDuration, Timestamp};
use kube::core::DynamicObject;
use serde_json::{Value, json};
use std::sync::Arc;

fn key() -> Keyring {
    Keyring::from_seed(&[7; 32]).unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

/// Objects as an API server would hold them, and one operator's view of time.
#[derive(Clone)]
struct World {
    request: Value,
    job: Option<Value>,
    policies: Vec<(String, Value)>,
    labels: Value,
    namespace_version: i64,
    policies_version: i64,
    version: i64,
    now: Timestamp,
    fresh: bool,
    recorded: bool,
    unrecorded: Option<Unrecorded>,
    gate: Gate,
    waiting: usize,
    refused: Option<String>,
    others: Vec<Contender>,
    config_maps: Vec<Value>,
    inputs_version: i64,
    surroundings: Surroundings,
    cluster: Cluster,
    /// How often the Job was started.
    starts: usize,
}

fn policy(decision: &str) -> Value {
    let mut rule = json!({"name": "prod-write", "when": {"riskTags": ["prod"]}, "decision": decision,
        "constraints": {"maxRuntimeSeconds": 900}, "pendingTimeoutSeconds": 600, "releaseTimeoutSeconds": 60});
    if decision == "RequireApproval" {
        rule["approvals"] = json!({"requirements": [{"name": "sre", "approvers": [{"kind": "Group", "name": "sre"}]}]});
    }
    json!({"rules": [rule]})
}

impl World {
    fn new(decision: &str) -> Self {
        Self {
            request: json!({
                "apiVersion": "countersign.dev/v1alpha1", "kind": "ApprovalRequest",
                "metadata": {"name": "run", "namespace": "payments", "uid": "r1", "resourceVersion": "10", "generation": 1,
                    "creationTimestamp": at(0).to_string(), "finalizers": ["countersign.dev/record"]},
                "spec": {"runID": "run_8f9a", "stepID": "remediate", "requestedBy": "workflow.triage", "reason": "why",
                    "riskTags": ["prod"], "requester": {"username": "triage"},
                    "target": {"apiVersion": "batch/v1", "kind": "Job", "name": "job"}}
            }),
            job: Some(job("j1", 5)),
            policies: vec![("production".into(), policy(decision))],
            labels: json!({"env": "prod"}),
            namespace_version: 3,
            policies_version: 4,
            version: 10,
            now: at(1),
            fresh: true,
            recorded: true,
            unrecorded: None,
            gate: Gate::Off,
            waiting: 0,
            refused: None,
            others: vec![],
            config_maps: vec![],
            inputs_version: 2,
            surroundings: Surroundings::default(),
            cluster: Cluster { mutable_resources: true },
            starts: 0,
        }
    }

    fn bump(&mut self) -> i64 {
        self.version += 1;
        self.version
    }

    fn facts(&self) -> RequestFacts {
        RequestFacts::read(&object(&self.request), &key()).unwrap()
    }

    fn plan(&self) -> Plan {
        let (request, key) = (self.facts(), key());
        let set = self.policy_set();
        let job = self.job.as_ref().map(|job| TargetFacts::read(TargetKind::Job, &object(job), &key, None));
        let target = match (&request.spec.target, &job) {
            (None, _) => Target::None,
            (_, None) => Target::Missing,
            (_, Some(job)) => Target::Found(job, claim(&Contender::of(&request), job, &self.others, self.gate)),
        };
        let namespace = self.namespace();
        let inputs = self.inputs_of(job.as_ref());
        plan(&Observed {
            request: &request,
            target,
            policies: &set,
            policies_version: self.policies_version,
            targets_version: self.version,
            inputs: &inputs,
            inputs_version: self.inputs_version,
            surroundings: &self.surroundings,
            cluster: self.cluster,
            namespace: Some(&namespace),
            fresh: self.fresh,
            recorded: self.recorded,
            unrecorded: self.unrecorded.as_ref(),
            refused: self.refused.as_deref(),
            key: &key,
            now: self.now,
        })
    }

    fn inputs_of(&self, target: Option<&TargetFacts>) -> Vec<(InputRef, InputState)> {
        let state = |input: &InputRef| match self.config_maps.iter().find(|map| map["metadata"]["name"] == input.name) {
            Some(map) => {
                let map = object(map);
                InputState::Present(InputFacts::read(input.kind, &map.metadata, &map.data, &key()))
            }
            None => InputState::Absent,
        };
        target.iter().flat_map(|t| &t.reads.inputs).map(|input| (input.clone(), state(input))).collect()
    }

    fn policy_set(&self) -> PolicySet {
        let mut set = PolicySet::default();
        for (name, spec) in &self.policies {
            match compile(name, spec, None) {
                Ok(policy) => set.ready.push(Arc::new(policy)),
                Err(broken) => set.broken.push(Arc::from(broken)),
            }
        }
        set
    }

    fn namespace(&self) -> NamespaceFacts {
        NamespaceFacts {
            labels: Arc::new(serde_json::from_value(self.labels.clone()).unwrap()),
            gate: self.gate,
            deleting: false,
            version: self.namespace_version,
        }
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::KeepSnapshot(_) => {}
            Step::Release(patch) | Step::Close(patch) => {
                self.starts += usize::from(matches!(step, Step::Release(_)));
                let version = self.bump();
                let job = self.job.as_mut().unwrap();
                let guard = patch.operations[0]["value"].clone();
                assert_eq!(guard, job["metadata"]["resourceVersion"], "a Job is only written as it was seen");
                let operations: json_patch::Patch = serde_json::from_value(patch.operations.clone()).unwrap();
                json_patch::patch(job, &operations).unwrap();
                job["metadata"]["resourceVersion"] = json!(version.to_string());
            }
            Step::Ask(request) => {
                let version = self.bump();
                self.request = (**request).clone();
                let metadata = &mut self.request["metadata"];
                metadata["uid"] = json!(format!("r{version}"));
                metadata["resourceVersion"] = json!(version.to_string());
                metadata["creationTimestamp"] = json!(self.now.to_string());
            }
            Step::Delete(deletion) => {
                let job = self.job.take().unwrap();
                assert_eq!(json!(deletion.resource_version), job["metadata"]["resourceVersion"]);
            }
            Step::WriteStatus(status) => {
                self.request["status"] = serde_json::to_value(status).unwrap();
                self.touch();
            }
            Step::RemoveFinalizer => {
                self.request["metadata"]["finalizers"] = json!([]);
                self.touch();
            }
        }
    }

    fn touch(&mut self) {
        let version = self.bump();
        self.request["metadata"]["resourceVersion"] = json!(version.to_string());
    }

    /// Applies plans until there is nothing left to write.
    fn settle(&mut self) -> Plan {
        for _ in 0..10 {
            let plan = self.plan();
            if plan.steps.is_empty() {
                return plan;
            }
            plan.steps.iter().for_each(|step| self.apply(step));
        }
        panic!("does not settle: {:?}", self.plan());
    }

    fn status(&self) -> ApprovalRequestStatus {
        self.facts().status
    }

    fn digest(&self) -> String {
        self.status().digest.unwrap()
    }

    fn review(&mut self, who: &str, decision: &str, digest: &str) {
        let mut entry = json!({"reviewer": {"username": who, "groups": ["sre"]}, "decision": decision, "digest": digest,
            "time": format!("{:.6}", self.now)});
        entry["seal"] = json!(seal(&key(), self.request["metadata"]["uid"].as_str().unwrap(), &entry).unwrap());
        self.append(entry);
    }

    fn append(&mut self, entry: Value) {
        match self.request["spec"]["reviews"].as_array_mut() {
            Some(list) => list.push(entry),
            None => self.request["spec"]["reviews"] = json!([entry]),
        }
        self.touch();
    }

    fn approve(&mut self, who: &str) {
        let digest = self.digest();
        self.review(who, "Approve", &digest);
    }

    fn edit_policy(&mut self, pointer: &str, value: Value) {
        *self.policies[0].1.pointer_mut(pointer).unwrap() = value;
        self.policies_version = self.bump();
    }

    fn edit_job(&mut self, edit: impl FnOnce(&mut Value)) {
        let version = self.bump();
        let job = self.job.as_mut().unwrap();
        edit(job);
        job["metadata"]["resourceVersion"] = json!(version.to_string());
        job["metadata"]["generation"] = json!(version);
    }

    fn running(&self) -> bool {
        self.job.as_ref().is_some_and(|job| job["spec"]["suspend"] == json!(false))
    }

    fn reason(&self) -> String {
        condition::find(&self.status().conditions, "Evaluated").map(|c| c.reason.clone()).unwrap_or_default()
    }
}

fn job(uid: &str, version: i64) -> Value {
    json!({"apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "job", "namespace": "payments", "uid": uid, "resourceVersion": version.to_string(), "generation": 1},
        "spec": {"suspend": true, "backoffLimit": 6, "parallelism": 1,
            "template": {"metadata": {"labels": {"job-name": "job"}}, "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "x"}]}}}})
}

fn object(value: &Value) -> DynamicObject {
    serde_json::from_value(value.clone()).unwrap()
}
