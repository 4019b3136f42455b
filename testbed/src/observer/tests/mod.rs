//! Made logs, one for each way past the gate and for each way through it.

mod follow;

use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::event::OPERATOR;
use super::ledger::{Counts, Ledger, PATIENCE};

const CONTROLLER: &str = "system:serviceaccount:kube-system:job-controller";
const SHARED: &str = "system:kube-controller-manager";
const REPLICAS: &str = "system:serviceaccount:kube-system:replicaset-controller";

/// Made events, in the order of the log.
#[derive(Clone, Default)]
struct Log(Vec<Value>);

fn event(version: u64, user: &str, code: u16, resource: &str, object: Value) -> Value {
    let group = match resource {
        "jobs" => "batch",
        "approvalrequests" => "countersign.dev",
        _ => "",
    };
    let mut object = object;
    object["metadata"]["resourceVersion"] = json!(version.to_string());
    json!({
        "auditID": format!("event-{version}"), "stage": "ResponseComplete", "requestURI": "/apis",
        "verb": if code == 201 { "create" } else { "patch" }, "user": {"username": user, "groups": ["staff"]},
        "objectRef": {"apiGroup": group, "resource": resource, "namespace": "prod"}, "requestObject": {"spec": {}},
        "responseStatus": {"code": code}, "responseObject": object,
    })
}

fn job(suspend: bool, annotations: Value) -> Value {
    json!({"kind": "Job", "metadata": {"name": "run", "uid": "j", "annotations": annotations},
        "spec": {"suspend": suspend, "template": {}}})
}

fn pod(owner: Option<&str>, gates: Value) -> Value {
    let owners: Vec<_> = owner
        .map(|kind| json!({"apiVersion": "batch/v1", "kind": kind, "uid": "j", "controller": true}))
        .into_iter()
        .collect();
    json!({"kind": "Pod", "metadata": {"name": "pod", "uid": "p", "ownerReferences": owners, "annotations": {}},
        "spec": {"schedulingGates": gates}})
}

fn gate() -> Value {
    json!([{"name": "countersign.dev/approval"}])
}

fn receipt(approvers: &[&str]) -> String {
    let payload = json!({"predicate": {"request": {"uid": "r"}, "approvers": approvers}}).to_string();
    json!({"payload": STANDARD.encode(payload)}).to_string()
}

fn released_job(approvers: &[&str]) -> Value {
    let mut job = job(false, json!({"countersign.dev/released": "sha256:01"}));
    job["spec"]["template"]["metadata"] = json!({"annotations": {"countersign.dev/receipt": receipt(approvers)}});
    job
}

fn overridden(by: &str) -> Value {
    json!({"countersign.dev/override-reason": "the pager burns", "countersign.dev/overridden-by": by})
}

impl Log {
    /// The namespace `prod` with these labels.
    fn of(labels: Value) -> Self {
        Self::default().namespace(1, labels)
    }

    fn gated() -> Self {
        Self::of(json!({"countersign.dev/gate": "enforce"}))
    }

    fn namespace(self, version: u64, labels: Value) -> Self {
        let namespace = json!({"kind": "Namespace", "metadata": {"name": "prod", "labels": labels}});
        self.and(event(version, "admin", 200, "namespaces", namespace))
    }

    fn made(self, version: u64, user: &str, resource: &str, object: Value) -> Self {
        self.and(event(version, user, 201, resource, object))
    }

    fn changed(self, version: u64, user: &str, resource: &str, object: Value) -> Self {
        self.and(event(version, user, 200, resource, object))
    }

    fn approved(self, version: u64, user: &str) -> Self {
        let review = json!({"reviewer": {"username": user}, "decision": "Approve"});
        let request = json!({"kind": "ApprovalRequest", "metadata": {"uid": "r"}, "spec": {"reviews": [review]}});
        self.changed(version, user, "approvalrequests", request)
    }

    fn and(mut self, event: Value) -> Self {
        self.0.push(event);
        self
    }

    /// Changes the last event.
    fn with(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(self.0.last_mut().unwrap());
        self
    }

    fn judged(&self) -> (Vec<String>, Counts) {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        for event in &self.0 {
            ledger.add(event, now);
        }
        let found = ledger.judge(now + PATIENCE);
        assert!(!ledger.doubts());
        (found.iter().map(ToString::to_string).collect(), ledger.counts())
    }

    #[track_caller]
    fn passes(&self) -> Counts {
        let (found, counts) = self.judged();
        assert_eq!(found, Vec::<String>::new());
        counts
    }

    #[track_caller]
    fn violates(&self, expected: &[&str]) {
        let (found, _) = self.judged();
        assert_eq!(found.len(), 1, "{found:?}");
        for text in expected {
            assert!(found[0].contains(text), "expected {text:?} in {:?}", found[0]);
        }
    }
}

fn held_job() -> Log {
    Log::gated().made(2, "mallory", "jobs", job(true, json!({})))
}

fn run_by(log: Log, version: u64, user: &str) -> Log {
    log.made(version, user, "pods", pod(Some("Job"), json!([])))
}

#[test]
fn an_approved_job_runs() {
    let log = held_job().approved(3, "alice").changed(4, OPERATOR, "jobs", released_job(&["alice"]));
    let counts = run_by(log, 5, CONTROLLER).passes();
    assert_eq!(counts, Counts { jobs: 1, pods: 1, releases: 1, overrides: 0 });
}

#[test]
fn an_overridden_job_runs() {
    let log = held_job().changed(4, "alice", "jobs", job(false, overridden("alice")));
    assert_eq!(run_by(log, 5, SHARED).passes(), Counts { jobs: 1, pods: 1, releases: 0, overrides: 1 });
}

#[test]
fn a_job_that_nobody_let_go_may_not_run() {
    for user in [CONTROLLER, SHARED] {
        let log = Log::gated().made(2, "mallory", "jobs", job(false, json!({})));
        run_by(log, 3, user).violates(&["Pod prod/pod", "Job run (uid j) had been neither released", "event-3"]);
    }
    run_by(Log::gated(), 3, CONTROLLER).violates(&["its Job (uid j) is not in the log"]);
    Log::gated().made(3, CONTROLLER, "pods", pod(None, json!([]))).violates(&["no Job controls it"]);
}

#[test]
fn what_a_job_carries_at_creation_lets_nothing_go() {
    for job in [released_job(&[]), job(false, overridden("mallory"))] {
        run_by(Log::gated().made(2, "mallory", "jobs", job), 3, CONTROLLER).violates(&["neither released"]);
    }
}

#[test]
fn the_order_of_the_log_is_not_the_order_of_what_was_stored() {
    let release = event(4, OPERATOR, 200, "jobs", released_job(&[]));
    let log = run_by(held_job(), 5, CONTROLLER).and(release);
    log.passes();
    let log = run_by(held_job(), 3, CONTROLLER).changed(4, OPERATOR, "jobs", released_job(&[]));
    log.violates(&["neither released", "event-3"]);
    let made = event(2, "mallory", 201, "jobs", job(true, json!({})));
    Log::gated().changed(4, OPERATOR, "jobs", released_job(&[])).and(made).passes();
}

#[test]
fn a_doubt_waits_for_what_may_still_be_logged_and_then_stands() {
    let (mut ledger, now) = (Ledger::default(), Instant::now());
    for event in &run_by(held_job(), 5, CONTROLLER).0 {
        ledger.add(event, now);
    }
    assert_eq!(ledger.judge(now + PATIENCE - Duration::from_millis(1)), []);
    assert!(ledger.doubts());
    assert_eq!(ledger.judge(now + PATIENCE)[0].events, ["event-5"]);
    assert_eq!(ledger.judge(now + PATIENCE), [], "told once");
}

#[test]
fn elsewhere_everything_runs() {
    for labels in [json!({}), json!({"countersign.dev/gate": "warn"})] {
        let log = Log::of(labels).made(2, "mallory", "jobs", job(true, json!({})));
        let log = log.changed(3, "mallory", "jobs", job(false, json!({})));
        assert_eq!(run_by(log, 4, CONTROLLER).passes(), Counts::default());
    }
    let mut log = held_job().changed(3, "mallory", "jobs", job(false, json!({})));
    log.0[0]["responseObject"]["metadata"]["name"] = json!("kube-system");
    for event in &mut log.0 {
        event["objectRef"]["namespace"] = json!("kube-system");
    }
    log.passes();
}

#[test]
fn a_job_from_before_the_gate_goes_on() {
    let gate = json!({"countersign.dev/gate": "enforce"});
    let log = Log::of(json!({})).made(2, "bob", "jobs", job(false, json!({}))).namespace(3, gate);
    assert_eq!(run_by(log.clone(), 4, CONTROLLER).passes().pods, 1);
    log.made(4, "bob", "pods", pod(None, json!([]))).violates(&["without the scheduling gate"]);
}

#[test]
fn the_gate_comes_and_goes_through_any_subresource() {
    let loosened = |sub: &'static str| {
        let log = held_job().namespace(3, json!({})).with(|event| event["objectRef"]["subresource"] = json!(sub));
        log.made(4, "bob", "pods", pod(None, json!([])))
    };
    loosened("status").passes();
    loosened("finalize").passes();
}

#[test]
fn a_bare_pod_is_held() {
    assert_eq!(Log::gated().made(2, "bob", "pods", pod(None, gate())).passes().pods, 1);
    let other = json!([{"name": "example.com/other"}]);
    for gates in [json!([]), Value::Null, other] {
        let log = Log::gated().made(2, "mallory", "pods", pod(Some("Job"), gates));
        log.violates(&["Pod prod/pod was created without the scheduling gate", "by mallory", "event-2"]);
    }
    let apply = Log::gated().made(2, "mallory", "pods", pod(None, json!([])));
    apply.with(|event| event["verb"] = json!("patch")).violates(&["by mallory"]);
}

#[test]
fn workload_controllers_pass_where_they_are_allowed() {
    let pod = || pod(Some("ReplicaSet"), json!([]));
    let both = json!({"countersign.dev/gate": "enforce", "countersign.dev/workloads": "allow"});
    for user in [REPLICAS, SHARED] {
        Log::of(both.clone()).made(2, user, "pods", pod()).passes();
        Log::gated().made(2, user, "pods", pod()).violates(&[user]);
    }
    Log::of(both).made(2, "mallory", "pods", pod()).violates(&["by mallory"]);
}

#[test]
fn only_a_node_shows_mirror_pods() {
    let mut mirror = pod(None, json!([]));
    mirror["metadata"]["annotations"]["kubernetes.io/config.mirror"] = json!("hash");
    let log = Log::gated().made(2, "system:node:one", "pods", mirror);
    log.clone().with(|event| event["user"]["groups"] = json!(["system:nodes"])).passes();
    log.violates(&["by system:node:one"]);
}

#[test]
fn only_the_operator_or_an_override_takes_the_gate_off_a_pod() {
    let held = Log::gated().made(2, "bob", "pods", pod(None, gate()));
    let free = |annotations: Value| {
        let mut pod = pod(None, json!([]));
        pod["metadata"]["annotations"] = annotations;
        pod
    };
    let release = json!({"countersign.dev/released": "sha256:01", "countersign.dev/receipt": receipt(&[])});
    assert_eq!(held.clone().changed(3, OPERATOR, "pods", free(release.clone())).passes().releases, 1);
    assert_eq!(held.clone().changed(3, "alice", "pods", free(overridden("alice"))).passes().overrides, 1);
    let expected = ["mallory let Pod prod/pod go", "without a release by the operator", "event-3"];
    for forged in [json!({}), release, overridden("alice")] {
        held.clone().changed(3, "mallory", "pods", free(forged)).violates(&expected);
    }
    held.changed(3, OPERATOR, "pods", free(json!({}))).violates(&["let Pod prod/pod go"]);
}

#[test]
fn only_the_operator_or_an_override_starts_a_job() {
    for forged in [job(false, json!({})), released_job(&[]), job(false, overridden("alice"))] {
        let log = held_job().changed(3, "mallory", "jobs", forged);
        log.violates(&["mallory let Job prod/run go", "without a release", "event-3"]);
    }
    let blank = json!({"countersign.dev/override-reason": " ", "countersign.dev/overridden-by": "mallory"});
    held_job().changed(3, "mallory", "jobs", job(false, blank)).violates(&["mallory let Job prod/run go"]);
}

#[test]
fn a_released_job_that_was_stopped_stays_stopped() {
    let stopped = held_job().changed(3, OPERATOR, "jobs", released_job(&[])).changed(4, "bob", "jobs", {
        let mut job = released_job(&[]);
        job["spec"]["suspend"] = json!(true);
        job
    });
    stopped.passes();
    stopped.clone().changed(5, "mallory", "jobs", released_job(&[])).violates(&["mallory let Job", "event-5"]);
    // The stop is logged after the start that followed it.
    let mut late = stopped.changed(5, "mallory", "jobs", released_job(&[]));
    late.0.swap(3, 4);
    late.violates(&["mallory let Job", "event-5"]);
}

#[test]
fn a_write_that_changes_nothing_is_not_blamed() {
    let log = held_job().changed(3, "mallory", "jobs", released_job(&[]));
    log.changed(3, OPERATOR, "jobs", released_job(&[])).passes();
}

#[test]
fn a_receipt_names_only_who_approved_before() {
    let release = |log: Log| log.changed(5, OPERATOR, "jobs", released_job(&["alice", "bob"]));
    release(held_job().approved(3, "alice").approved(4, "bob")).passes();
    release(held_job().approved(3, "alice")).violates(&["a receipt that names bob", "uid r", "event-5"]);
    release(held_job().approved(3, "alice").approved(6, "bob")).violates(&["names bob"]);
}

#[test]
fn what_took_no_effect_does_not_count() {
    let dry = |event: &mut Value| event["requestURI"] = json!("/api/v1/pods?fieldManager=x&dryRun=All");
    let refused = |event: &mut Value| event["responseStatus"]["code"] = json!(403);
    let status = |event: &mut Value| event["objectRef"]["subresource"] = json!("status");
    for change in [dry as fn(&mut Value), refused, status] {
        Log::gated().made(2, "mallory", "pods", pod(None, json!([]))).with(change).passes();
        held_job().changed(3, "mallory", "jobs", job(false, json!({}))).with(change).passes();
    }
    let dry_release = held_job().changed(3, OPERATOR, "jobs", released_job(&[])).with(dry);
    run_by(dry_release, 4, CONTROLLER).violates(&["neither released"]);
}

#[test]
fn whoever_is_impersonated_counts() {
    let as_operator = |event: &mut Value| event["impersonatedUser"] = json!({"username": OPERATOR});
    held_job().changed(3, "admin", "jobs", released_job(&[])).with(as_operator).passes();
}

#[test]
fn what_the_log_does_not_show_is_no_pass() {
    let metadata = json!({"kind": "PartialObjectMetadata", "metadata": {"name": "run", "uid": "j"}});
    let log = held_job().changed(3, "mallory", "jobs", metadata.clone());
    log.violates(&["Job prod/run was written", "cannot be judged", "event-3"]);
    log.clone().with(|event| event["requestObject"] = json!([{"op": "remove", "path": "/spec/suspend"}])).violates(&[]);
    log.with(|event| event["requestObject"] = json!({"metadata": {"ownerReferences": []}})).passes();
    Log::gated().made(2, "mallory", "pods", metadata).violates(&["cannot be judged"]);
}
