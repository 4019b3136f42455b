//! The whole life of a request without a cluster: a small world that plans are applied to, step by step.

use super::*;
use crate::api::{ApprovalRequestStatus, State, condition};
use crate::binding::{Keyring, seal};
use crate::policy::{PolicySet, compile};
use jiff::{SignedDuration, Timestamp};
use kube::core::DynamicObject;
use proptest::prelude::*;
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
    refused: Option<String>,
    others: Vec<Contender>,
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
            refused: None,
            others: vec![],
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
        let mut set = PolicySet::default();
        for (name, spec) in &self.policies {
            match compile(name, spec) {
                Ok(policy) => set.ready.push(Arc::new(policy)),
                Err(broken) => set.broken.push(Arc::from(broken)),
            }
        }
        let job = self.job.as_ref().map(|job| JobFacts::read(&object(job), &key, None));
        let target = match (&request.spec.target, &job) {
            (None, _) => Target::None,
            (_, None) => Target::Missing,
            (_, Some(job)) => Target::Job(job, claim(&Contender::of(&request), job, &self.others)),
        };
        let namespace = NamespaceFacts {
            labels: serde_json::from_value(self.labels.clone()).unwrap(),
            version: self.namespace_version,
        };
        plan(&Observed {
            request: &request,
            target,
            policies: &set,
            policies_version: self.policies_version,
            jobs_version: self.version,
            namespace: Some(&namespace),
            fresh: self.fresh,
            refused: self.refused.as_deref(),
            key: &key,
            now: self.now,
        })
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::KeepSnapshot(_) => {}
            Step::ReleaseJob(patch) | Step::CloseJob(patch) => {
                let version = self.bump();
                let job = self.job.as_mut().unwrap();
                let guard = patch.operations[0]["value"].clone();
                assert_eq!(guard, job["metadata"]["resourceVersion"], "a Job is only written as it was seen");
                let operations: json_patch::Patch = serde_json::from_value(patch.operations.clone()).unwrap();
                json_patch::patch(job, &operations).unwrap();
                job["metadata"]["resourceVersion"] = json!(version.to_string());
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
        entry["seal"] = json!(seal(&key(), "r1", &entry).unwrap());
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
            "template": {"metadata": {"labels": {"job-name": "job"}}, "spec": {"containers": [{"name": "main", "image": "x"}]}}}})
}

fn object(value: &Value) -> DynamicObject {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn the_main_job() {
    let mut world = World::new("RequireApproval");
    let plan = world.settle();
    assert_eq!(plan.next, Some(at(600) + SignedDuration::from_millis(500)), "it looks again when the time is up");
    let status = world.status();
    assert_eq!((status.state, status.revision), (State::Pending, 1));
    assert_eq!(status.constraints.max_runtime_seconds, Some(900));
    assert!(
        status.message.starts_with("waiting for 1 approval from sre: kubectl patch apr run -n payments"),
        "{}",
        status.message
    );
    assert!(status.message.contains(&world.digest()));
    assert_eq!(status.summary.unwrap().approvals, "0/1");

    world.now = at(30);
    world.approve("alice");
    let steps = world.plan().steps;
    assert!(
        matches!(&steps[..], [Step::ReleaseJob(_), Step::WriteStatus(_)]),
        "one write starts it, one more finishes: {steps:?}"
    );
    world.settle();
    let (job, status) = (world.job.clone().unwrap(), world.status());
    assert_eq!(status.state, State::Released);
    assert_eq!((&job["spec"]["suspend"], &job["spec"]["activeDeadlineSeconds"]), (&json!(false), &json!(900)));
    assert_eq!(job["metadata"]["annotations"]["countersign.dev/released"], json!(status.digest));
    assert_eq!(status.approvals[0].approved_by, ["alice"]);
    assert!(["Approved", "Released"].iter().all(|c| condition::find(&status.conditions, c).is_some()));
}

#[test]
fn without_a_target_the_status_is_the_release() {
    let mut world = World::new("RequireApproval");
    world.request["spec"].as_object_mut().unwrap().remove("target");
    world.settle();
    world.approve("alice");
    assert!(matches!(&world.plan().steps[..], [Step::WriteStatus(status)] if status.state == State::Released));
}

#[test]
fn allow_needs_nobody_and_deny_takes_nobody() {
    let mut world = World::new("Allow");
    // An Allow rule sees facts only; nothing derives tags yet.
    world.policies[0].1["rules"][0].as_object_mut().unwrap().remove("when");
    world.settle();
    assert_eq!((world.status().state, world.running()), (State::Released, true));
    let mut world = World::new("Deny");
    world.settle();
    assert_eq!((world.status().state, world.running()), (State::Denied, false));
    assert_eq!(world.job.unwrap()["metadata"]["annotations"]["countersign.dev/closed"], "Denied unbound");
}

#[test]
fn an_edit_that_matters_makes_reviews_stale_for_good() {
    let mut world = World::new("RequireApproval");
    world.settle();
    let first = world.digest();
    let seconds = "/rules/0/constraints/maxRuntimeSeconds";
    world.edit_policy(seconds, json!(300));
    world.review("alice", "Approve", &first);
    world.settle();
    assert_eq!((world.status().state, world.status().revision, world.running()), (State::Pending, 2, false));
    assert!(world.status().message.contains("the policy outcome changed"), "{}", world.status().message);
    assert!(world.status().message.contains("1 earlier review(s) no longer count"), "{}", world.status().message);
    world.edit_policy(seconds, json!(900));
    world.settle();
    assert_eq!((world.status().revision, world.running()), (3, false));
    assert_ne!(world.digest(), first);
    world.approve("bob");
    world.settle();
    assert_eq!(world.status().state, State::Released);
}

#[test]
fn an_edit_that_does_not_matter_keeps_the_digest() {
    let mut world = World::new("RequireApproval");
    world.settle();
    let first = world.digest();
    let unrelated = json!({"rules": [{"name": "x", "when": {"riskTags": ["other"]}, "decision": "Deny"}]});
    world.policies.push(("unrelated".into(), unrelated));
    world.policies_version = world.bump();
    world.labels["more"] = json!("labels");
    world.namespace_version = world.bump();
    world.edit_job(|job| job["status"] = json!({"conditions": [{"type": "Suspended", "status": "True"}]}));
    assert!(world.plan().steps.is_empty());
    assert_eq!(world.digest(), first);
}

#[test]
fn a_policy_that_goes_and_returns_does_not_revive_an_approval() {
    let mut world = World::new("RequireApproval");
    world.settle();
    let first = world.digest();
    let policies = std::mem::take(&mut world.policies);
    world.policies_version = world.bump();
    world.review("alice", "Approve", &first);
    world.settle();
    assert_eq!((world.reason().as_str(), world.status().digest), ("NoMatchingPolicy", None));
    world.policies = policies;
    world.policies_version = world.bump();
    world.settle();
    assert_eq!((world.status().state, world.status().revision), (State::Pending, 2));
    assert_ne!(world.digest(), first);
}

#[test]
fn an_older_view_neither_binds_anew_nor_takes_an_unseen_job_for_a_deleted_one() {
    let mut world = World::new("RequireApproval");
    let older = world.clone();
    world.edit_policy("/rules/0/constraints/maxRuntimeSeconds", json!(300));
    world.settle();
    let mut view = world.clone();
    (view.policies, view.policies_version) = (older.policies.clone(), older.policies_version);
    assert_eq!(view.plan(), Plan::idle());

    let mut world = World::new("RequireApproval");
    world.edit_job(|_| {});
    world.settle();
    let mut view = world.clone();
    view.job = None;
    view.version = 1;
    assert_eq!(view.plan(), Plan::idle());
    view.version = world.version + 1;
    assert_eq!(view.plan().writes_state(), Some(State::Cancelled));
}

#[test]
fn a_job_that_was_changed_or_made_anew_is_not_released() {
    for change in ["image", "bounds", "annotations"] {
        let mut world = World::new("RequireApproval");
        world.settle();
        world.approve("alice");
        world.edit_job(|job| match change {
            "image" => job["spec"]["template"]["spec"]["containers"][0]["image"] = json!("evil"),
            "bounds" => job["spec"]["backoffLimit"] = json!(50),
            _ => job["spec"]["template"]["metadata"]["annotations"] = json!({"inject": "sidecar"}),
        });
        world.settle();
        assert_eq!(
            (world.status().state, world.status().revision, world.running()),
            (State::Pending, 2, false),
            "{change}"
        );
    }
    let mut world = World::new("RequireApproval");
    world.settle();
    world.approve("alice");
    let version = world.bump();
    world.job = Some(job("j2", version));
    world.settle();
    assert_eq!((world.status().state, world.running()), (State::Cancelled, false));
    assert!(world.status().message.contains("created anew"));
    assert_eq!(world.job.unwrap()["metadata"].get("annotations"), None, "another Job is left alone");
}

#[test]
fn a_longer_deadline_that_the_constraint_cuts_anyway_changes_nothing() {
    let mut world = World::new("RequireApproval");
    world.settle();
    let first = world.digest();
    world.edit_job(|job| job["spec"]["activeDeadlineSeconds"] = json!(90_000));
    world.settle();
    assert_eq!(world.digest(), first);
    world.edit_job(|job| job["spec"]["activeDeadlineSeconds"] = json!(60));
    world.settle();
    assert_ne!(world.digest(), first, "a shorter one is what will be in force, and is shown");
}

#[test]
fn reviewers_who_do_not_count() {
    let mut world = World::new("RequireApproval");
    world.settle();
    let digest = world.digest();
    world.append(json!({"reviewer": {"username": "alice", "groups": ["sre"]}, "decision": "Approve", "digest": digest,
        "time": "1970-01-12T13:46:41.000000Z", "seal": "forged"}));
    world.approve("triage");
    let outsider = json!({"reviewer": {"username": "mallory", "groups": ["developers"]}, "decision": "Approve",
        "digest": digest, "time": "1970-01-12T13:46:41.000000Z"});
    let mut sealed = outsider.clone();
    sealed["seal"] = json!(seal(&key(), "r1", &outsider).unwrap());
    world.append(sealed);
    world.settle();
    assert_eq!((world.status().state, world.running()), (State::Pending, false));
    assert!(world.status().message.contains("not sealed by admission"), "{}", world.status().message);
}

#[test]
fn a_denial_ends_it_even_beside_an_approval() {
    let mut world = World::new("RequireApproval");
    world.settle();
    world.approve("alice");
    let digest = world.digest();
    world.review("bob", "Deny", &digest);
    world.settle();
    assert_eq!((world.status().state, world.running()), (State::Denied, false));
    let closed = world.job.as_ref().unwrap()["metadata"]["annotations"]["countersign.dev/closed"].clone();
    assert_eq!(closed, json!(format!("Denied {digest}")));
}

#[test]
fn both_clocks() {
    let mut world = World::new("RequireApproval");
    world.settle();
    let mut late = world.clone();
    late.now = at(600);
    assert!(late.plan().steps.is_empty(), "not before a review that came in time has arrived");
    late.now = at(601);
    late.settle();
    assert_eq!((late.status().state, late.running()), (State::Expired, false));

    world.now = at(599);
    world.approve("alice");
    let mut unused = world.clone();
    unused.now = at(661);
    unused.settle();
    assert_eq!(
        unused.status().state,
        State::Expired,
        "an approval that nobody used in time expires: {}",
        unused.status().message
    );
    world.now = at(650);
    world.settle();
    assert_eq!(world.status().state, State::Released, "approved in time, released within its own clock");
}

#[test]
fn nothing_is_released_on_old_news() {
    let mut world = World::new("RequireApproval");
    world.settle();
    world.approve("alice");
    world.fresh = false;
    assert_eq!(world.plan(), Plan::until(world.now + SignedDuration::from_secs(1)));
}

#[test]
fn a_release_that_the_api_server_refuses_waits_in_the_open() {
    let mut world = World::new("RequireApproval");
    world.settle();
    world.approve("alice");
    world.refused = Some("quota".into());
    let plan = world.plan();
    assert_eq!(plan.writes_state(), Some(State::Approved));
    plan.steps.iter().for_each(|step| world.apply(step));
    assert!(world.status().message.contains("quota") && world.status().release_by.is_some());
    assert!(matches!(&world.plan().steps[..], [Step::ReleaseJob(_)]), "and is tried again");
    world.settle();
    assert_eq!((world.status().state, world.running()), (State::Released, true));
}

#[test]
fn what_keeps_a_request_waiting_is_named() {
    let evaluate = |change: &dyn Fn(&mut World)| {
        let mut world = World::new("RequireApproval");
        change(&mut world);
        world.settle();
        assert_eq!((world.status().state, world.status().digest.is_some()), (State::Pending, false));
        assert!(!world.status().message.is_empty());
        world.reason()
    };
    let in_job = |edit: fn(&mut Value)| move |w: &mut World| w.edit_job(edit);
    assert_eq!(evaluate(&|w| w.policies.clear()), "NoMatchingPolicy");
    assert_eq!(evaluate(&|w| w.policies.push(("broken".into(), json!({"rules": []})))), "PolicyNotReady");
    assert_eq!(evaluate(&|w| w.job = None), "TargetMissing");
    assert_eq!(evaluate(&in_job(|j| j["spec"]["suspend"] = json!(false))), "TargetRunning");
    assert_eq!(evaluate(&in_job(|j| j["status"] = json!({"startTime": "2026-01-01T00:00:00Z"}))), "TargetStarted");
    assert_eq!(
        evaluate(&in_job(|j| j["status"] = json!({"conditions": [{"type": "Complete", "status": "True"}]}))),
        "TargetFinished"
    );
    assert_eq!(evaluate(&|w| w.request["spec"]["target"]["uid"] = json!("other")), "TargetReplaced");
    assert_eq!(evaluate(&in_job(|j| j["spec"]["template"]["x"] = json!(1u64 << 60))), "Unbindable");
    assert_eq!(evaluate(&|w| drop(w.request["spec"].as_object_mut().unwrap().remove("requester"))), "NoRequester");
    assert_eq!(
        evaluate(&|w| {
            let requirement = |i: i32| json!({"name": format!("r{i}"), "count": 33, "approvers": [{"kind": "Group", "name": format!("g{i}")}]});
            w.policies[0].1["rules"][0]["approvals"]["requirements"] = json!([requirement(1), requirement(2)]);
        }),
        "Unsatisfiable"
    );
}

#[test]
fn a_broken_policy_holds_even_what_was_approved_and_its_repair_keeps_it() {
    let mut world = World::new("RequireApproval");
    world.settle();
    let digest = world.digest();
    world.policies.push(("broken".into(), json!({"rules": []})));
    world.policies_version = world.bump();
    world.approve("alice");
    world.settle();
    assert_eq!(
        (world.status().state, world.reason().as_str(), world.running()),
        (State::Pending, "PolicyNotReady", false)
    );
    world.policies.pop();
    world.policies_version = world.bump();
    world.settle();
    assert_eq!((world.status().state, world.status().digest), (State::Released, Some(digest)));
}

#[test]
fn one_request_owns_a_job() {
    let rival = |state, bound: Option<&str>, created| Contender {
        name: "rival".into(),
        uid: "r0".into(),
        created: at(created),
        state,
        asked_uid: None,
        bound_uid: bound.map(str::to_string),
    };
    let reason = |rival: Contender| {
        let mut world = World::new("RequireApproval");
        world.others = vec![rival];
        world.settle();
        world.reason()
    };
    assert_eq!(reason(rival(State::Pending, None, -5)), "TargetTaken", "the older one comes first");
    assert_eq!(reason(rival(State::Pending, None, 5)), "Bound");
    assert_eq!(reason(rival(State::Pending, Some("j1"), 5)), "TargetTaken", "but whoever is bound stays");
    assert_eq!(reason(rival(State::Denied, Some("j1"), -5)), "TargetTaken", "denied is final for the Job");
    assert_eq!(reason(rival(State::Released, Some("j1"), -5)), "TargetTaken");
    assert_eq!(reason(rival(State::Expired, Some("j1"), -5)), "Bound", "after Expired another may bind");
    assert_eq!(reason(rival(State::Denied, Some("j0"), -5)), "Bound", "that was another Job");
    let mut world = World::new("RequireApproval");
    world.edit_job(|job| job["metadata"]["annotations"] = json!({"countersign.dev/closed": "Denied sha256:00"}));
    world.settle();
    assert_eq!(world.reason(), "TargetTaken", "the note outlives the request");
}

#[test]
fn a_loser_never_writes_on_the_job_of_another() {
    let mut world = World::new("RequireApproval");
    world.others = vec![Contender {
        name: "rival".into(),
        uid: "r0".into(),
        created: at(-5),
        state: State::Pending,
        asked_uid: None,
        bound_uid: Some("j1".into()),
    }];
    let before = world.job.clone();
    world.settle();
    world.now = at(5000);
    world.settle();
    assert_eq!((world.status().state, &world.job), (State::Expired, &before));
}

#[test]
fn withdrawing_deleting_and_the_finalizer() {
    let mut world = World::new("RequireApproval");
    world.settle();
    world.request["spec"]["cancel"] = json!(true);
    world.settle();
    assert_eq!(world.status().state, State::Cancelled);
    assert!(world.plan().steps.is_empty(), "the finalizer stays until deletion is asked for");
    world.request["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(world.plan().steps, [Step::RemoveFinalizer]);

    let mut world = World::new("RequireApproval");
    world.settle();
    world.request["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    world.settle();
    assert_eq!((world.status().state, world.request["metadata"]["finalizers"].clone()), (State::Cancelled, json!([])));
    assert!(world.job.unwrap()["metadata"]["annotations"]["countersign.dev/closed"].is_string());
}

#[test]
fn a_forged_receipt_or_note_changes_nothing() {
    let mut world = World::new("RequireApproval");
    world.settle();
    world.edit_job(|job| {
        job["spec"]["template"]["metadata"]["annotations"] = json!({"countersign.dev/receipt": "{}"});
        job["metadata"]["annotations"] =
            json!({"countersign.dev/released": "sha256:00", "countersign.dev/closed": "Denied x"});
    });
    world.settle();
    assert_eq!((world.status().state, world.status().revision), (State::Pending, 1));
    world.approve("alice");
    world.settle();
    assert_eq!(world.status().state, State::Released);
    assert_eq!(
        world.job.unwrap()["metadata"]["annotations"].get("countersign.dev/closed"),
        None,
        "a release removes the note"
    );
}

#[test]
fn a_receipt_for_another_job_is_not_ours() {
    let mut world = World::new("RequireApproval");
    world.settle();
    world.approve("alice");
    world.settle();
    let receipt = world.job.unwrap()["spec"]["template"]["metadata"]["annotations"]["countersign.dev/receipt"].clone();
    let mut copied = job("j2", 50);
    copied["spec"]["template"]["metadata"]["annotations"] = json!({"countersign.dev/receipt": receipt});
    assert_eq!(JobFacts::read(&object(&copied), &key(), None).receipt, None);
}

/// What may happen to a request between two looks of the operator.
#[derive(Clone, Debug)]
enum Event {
    Approve(&'static str),
    Deny(&'static str),
    Cancel,
    Delete,
    Later(i64),
    EditPolicy(i64),
    EditJob(u8),
    DeleteJob,
    Crash(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => prop::sample::select(vec!["alice", "bob", "triage"]).prop_map(Event::Approve),
        1 => prop::sample::select(vec!["alice", "bob"]).prop_map(Event::Deny),
        1 => Just(Event::Cancel),
        1 => Just(Event::Delete),
        2 => (1..400i64).prop_map(Event::Later),
        2 => (1..3i64).prop_map(|n| Event::EditPolicy(n * 300)),
        2 => any::<u8>().prop_map(Event::EditJob),
        1 => Just(Event::DeleteJob),
        3 => (0..3usize).prop_map(Event::Crash),
    ]
}

fn happen(world: &mut World, event: &Event) {
    let digest = world.status().digest;
    match (event, digest) {
        (Event::Approve(who), Some(digest)) => world.review(who, "Approve", &digest),
        (Event::Deny(who), Some(digest)) => world.review(who, "Deny", &digest),
        (Event::Approve(_) | Event::Deny(_), None) => {}
        (Event::Cancel, _) => world.request["spec"]["cancel"] = json!(true),
        (Event::Delete, _) => world.request["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"),
        (Event::Later(seconds), _) => world.now += SignedDuration::from_secs(*seconds),
        (Event::EditPolicy(seconds), _) => world.edit_policy("/rules/0/constraints/maxRuntimeSeconds", json!(seconds)),
        (Event::EditJob(n), _) if world.job.is_some() && !world.running() => {
            world.edit_job(|job| job["spec"]["template"]["spec"]["containers"][0]["image"] = json!(format!("x{n}")));
        }
        (Event::DeleteJob, _) => {
            world.job = None;
            world.bump();
        }
        (Event::EditJob(_) | Event::Crash(_), _) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever happens, and wherever the operator stops between two writes: ends absorb, a Job is started at most once and
    /// only under a sufficient sealed decision, and no other end stands over a started Job.
    #[test]
    fn ends_absorb_and_the_job_agrees(events in prop::collection::vec(event(), 1..14)) {
        let mut world = World::new("RequireApproval");
        let (mut ended, mut starts): (Option<State>, usize) = (None, 0);
        for event in &events {
            happen(&mut world, event);
            let all = match event { Event::Crash(after) => *after, _ => usize::MAX };
            for _ in 0..6 {
                let plan = world.plan();
                if plan.steps.is_empty() { break }
                for step in plan.steps.iter().take(all) {
                    if matches!(step, Step::ReleaseJob(_)) {
                        starts += 1;
                        let facts = world.facts();
                        let approved = facts.reviews.iter().any(|r| {
                            r.sealed && Some(&r.review.digest) == facts.status.digest.as_ref() && r.review.reviewer.username != "triage"
                        });
                        prop_assert!(approved, "released without a counting approval");
                    }
                    world.apply(step);
                }
                if all != usize::MAX { break }
            }
            let state = world.status().state;
            if let Some(end) = ended {
                prop_assert_eq!(end, state, "an end was left");
            }
            if state.is_final() { ended = Some(state) }
        }
        for _ in 0..3 { world.settle(); }
        prop_assert!(starts <= 1);
        if starts == 1 { prop_assert_eq!(world.status().state, State::Released) }
        if world.status().state == State::Released { prop_assert_eq!(starts, 1) }
        if let Some(end) = ended { prop_assert_eq!(world.status().state, end) }
    }
}
