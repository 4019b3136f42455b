//! Jobs and Pods that a gated namespace holds, before and beside their requests.

use super::*;

/// A gated namespace with a Job that alice made, and no request yet.
pub(super) fn gated(decision: &str) -> World {
    let mut world = World::new(decision);
    world.gate = Gate::Enforce;
    world.labels = json!({"env": "prod", "countersign.dev/gate": "enforce"});
    world.request = Value::Null;
    world.policies[0].1["rules"][0].as_object_mut().unwrap().remove("when");
    world.edit_job(|job| {
        job["metadata"]["annotations"] = json!({
            "countersign.dev/created-by": "alice", "countersign.dev/created-by-uid": "",
            "countersign.dev/created-by-groups": "sre\nsystem:authenticated",
        });
    });
    world
}

impl World {
    pub(super) fn gate_plan(&self) -> Plan {
        let key = key();
        let Some(job) = &self.job else { return Plan::idle() };
        let target = TargetFacts::read(TargetKind::Job, &object(job), &key, None);
        let mut requests = self.others.clone();
        if !self.request.is_null() {
            requests.push(Contender::of(&self.facts()));
        }
        let (namespace, policies) = (self.namespace(), self.policy_set());
        plan_gate(&Held {
            target: &target,
            namespace: &namespace,
            policies: &policies,
            requests: &requests,
            inputs: &self.inputs_of(Some(&target)),
            surroundings: &self.surroundings,
            cluster: self.cluster,
            waiting: self.waiting,
            fresh: self.fresh,
            unrecorded: self.unrecorded.as_ref(),
            refused: self.refused.as_deref(),
            key: &key,
            now: self.now,
        })
    }

    /// Applies what the gate and the request want until there is nothing left to write.
    pub(super) fn settle_gated(&mut self) {
        for _ in 0..20 {
            let mut steps = self.gate_plan().steps;
            if steps.is_empty() && !self.request.is_null() {
                steps = self.plan().steps;
            }
            if steps.is_empty() {
                return;
            }
            steps.iter().for_each(|step| self.apply(step));
        }
        panic!("does not settle: {:?}", self.gate_plan());
    }
}

const CRON_JOBS: &str = "system:serviceaccount:kube-system:cronjob-controller";

pub(super) fn annotate(world: &mut World, name: &str, value: &str) {
    world.edit_job(|job| job["metadata"]["annotations"][name] = json!(value));
}

#[test]
fn what_policy_allows_starts_with_one_write_and_no_request() {
    let mut world = gated("Allow");
    let plan = world.gate_plan();
    assert!(matches!(plan.steps[..], [Step::KeepSnapshot(_), Step::Release(_)]), "{plan:?}");
    world.settle_gated();
    assert!(world.running() && world.request.is_null());
    assert_eq!(world.job.as_ref().unwrap()["spec"]["activeDeadlineSeconds"], 900, "bounds hold without a request too");
    assert_eq!(world.gate_plan(), Plan::idle(), "once");
}

#[test]
fn a_start_does_not_cross_the_job_controllers_first_write() {
    let mut world = gated("Allow");
    world.edit_job(|job| job["metadata"]["creationTimestamp"] = json!(at(1).to_string()));
    let plan = world.gate_plan();
    assert!(plan.steps.is_empty() && plan.next.is_some());
    let mut noticed = world.clone();
    noticed.edit_job(|job| job["status"] = json!({"conditions": [{"type": "Suspended", "status": "True"}]}));
    assert_eq!(noticed.gate_plan().steps.len(), 2);
    world.now = at(3);
    assert_eq!(world.gate_plan().steps.len(), 2, "it is not waited for in vain");
}

#[test]
fn nothing_is_allowed_on_old_news_or_while_a_policy_is_broken() {
    let mut world = gated("Allow");
    world.fresh = false;
    assert!(world.gate_plan().steps.is_empty() && world.gate_plan().next.is_some());
    world.fresh = true;
    world.policies.push(("broken".into(), json!({"rules": []})));
    world.settle_gated();
    assert!(!world.running());
    assert_eq!(world.reason(), "PolicyNotReady");
}

#[test]
fn the_gate_asks_in_the_creators_name_and_the_creator_may_not_approve() {
    let mut world = gated("RequireApproval");
    annotate(&mut world, "countersign.dev/reason", "rotate the keys");
    annotate(&mut world, "countersign.dev/risk-tags", "prod,write");
    annotate(&mut world, "countersign.dev/requested-by", "workflow.keys");
    world.settle_gated();
    let spec = &world.request["spec"];
    assert_eq!(spec["requester"], json!({"username": "alice", "groups": ["sre", "system:authenticated"]}));
    assert_eq!((&spec["reason"], &spec["requestedBy"]), (&json!("rotate the keys"), &json!("workflow.keys")));
    assert_eq!(spec["riskTags"], json!(["prod", "write"]));
    assert_eq!((&spec["target"]["uid"], &spec["target"]["name"]), (&json!("j1"), &json!("job")));
    assert_eq!(world.request["metadata"]["ownerReferences"][0]["uid"], "j1");
    world.approve("alice");
    world.settle_gated();
    assert_eq!((world.status().state, world.running()), (State::Pending, false));
    world.approve("bob");
    world.settle_gated();
    assert_eq!((world.status().state, world.running(), world.starts), (State::Released, true, 1));
}

#[test]
fn a_claim_does_not_make_an_allow() {
    let mut world = gated("Allow");
    world.policies[0].1["rules"][0]["when"] = json!({"riskTags": ["harmless"]});
    annotate(&mut world, "countersign.dev/risk-tags", "harmless");
    world.settle_gated();
    assert_eq!((world.reason().as_str(), world.running()), ("NoMatchingPolicy", false));
}

#[test]
fn the_authors_of_its_cron_job_and_its_own_account_may_not_approve() {
    let mut world = gated("RequireApproval");
    annotate(&mut world, "countersign.dev/authored-by", "carol\nbob");
    world.settle_gated();
    let parties = world.status().target.unwrap().parties;
    assert_eq!(parties, ["alice", "bob", "carol", "system:serviceaccount:payments:default"]);
    for party in parties {
        world.approve(&party);
        world.settle_gated();
        assert!(!world.running(), "{party}");
    }
    world.approve("mallory");
    world.settle_gated();
    assert!(world.running());
}

#[test]
fn a_job_that_names_its_request_waits_for_that_one_of_its_creator() {
    let mut world = gated("RequireApproval");
    annotate(&mut world, "countersign.dev/request", "run");
    assert_eq!(world.gate_plan(), Plan::idle(), "the gate makes none of its own");
    let request = |world: &World, name: &str, who: &str| {
        let mut request = World::new("RequireApproval").request;
        request["metadata"]["name"] = json!(name);
        request["metadata"]["resourceVersion"] = json!((world.version + 1).to_string());
        request["spec"]["requester"] = json!({"username": who});
        request
    };
    for (name, who) in [("run", "mallory"), ("other", "alice")] {
        world.request = request(&world, name, who);
        world.settle_gated();
        assert_eq!((world.reason().as_str(), world.status().digest), ("TargetForeign", None), "{name} {who}");
    }
    world.request = request(&world, "run", "alice");
    world.settle_gated();
    world.approve("bob");
    world.settle_gated();
    assert!(world.running());
}

#[test]
fn a_squatter_neither_owns_the_job_nor_keeps_the_gate_from_asking() {
    let mut world = gated("RequireApproval");
    world.others = vec![Contender {
        kind: Some(TargetKind::Job),
        name: "squatter".into(),
        uid: "r0".into(),
        created: at(-100),
        state: State::Pending,
        asked_uid: None,
        bound_uid: None,
        requester: Some(Arc::new(crate::api::Requester { username: "mallory".into(), ..Default::default() })),
    }];
    world.settle_gated();
    assert!(world.request["metadata"]["name"].as_str().unwrap().starts_with("job-"), "{}", world.request);
    world.approve("bob");
    world.settle_gated();
    assert!(world.running());
}

#[test]
fn a_job_that_is_older_than_the_gate_is_held_and_nobody_is_invented_as_its_creator() {
    let mut world = gated("RequireApproval");
    world.edit_job(|job| job["metadata"]["annotations"] = json!({}));
    let plan = world.gate_plan();
    assert!(plan.steps.is_empty() && plan.note.unwrap().reason == "CreatorUnknown");
}

#[test]
fn a_denied_job_of_a_cron_job_goes_once_its_end_is_recorded_and_others_stay() {
    let owned = |world: &mut World| {
        annotate(world, "countersign.dev/created-by", CRON_JOBS);
        world.edit_job(|job| {
            job["metadata"]["ownerReferences"] =
                json!([{"apiVersion": "batch/v1", "kind": "CronJob", "name": "nightly", "uid": "c1", "controller": true}]);
        });
    };
    let deny = |world: &mut World| {
        world.settle_gated();
        let digest = world.digest();
        world.review("bob", "Deny", &digest);
        let steps = world.plan().steps;
        world.apply(&steps[0]);
        assert_eq!(world.gate_plan(), Plan::idle(), "not before the end is recorded");
        world.settle_gated();
        assert_eq!(world.status().state, State::Denied);
    };
    let mut world = gated("RequireApproval");
    deny(&mut world);
    assert!(world.job.is_some(), "a Job of nobody's schedule stays");
    let mut world = gated("RequireApproval");
    owned(&mut world);
    deny(&mut world);
    assert!(world.job.is_none());
    let mut world = gated("RequireApproval");
    owned(&mut world);
    world.policies[0].1["rules"][0]["onDenied"] = json!("Hold");
    deny(&mut world);
    assert!(world.job.is_some());
    // A rule that matches what will run still does after the denial.
    let mut world = gated("RequireApproval");
    owned(&mut world);
    world.policies[0].1["rules"][0]["onDenied"] = json!("Hold");
    world.policies[0].1["rules"][0]["when"] = json!({"riskTags": ["secrets"]});
    world.edit_job(|job| {
        job["spec"]["template"]["spec"]["volumes"] = json!([{"name": "v", "secret": {"secretName": "db"}}])
    });
    deny(&mut world);
    assert!(world.job.is_some());
}

#[test]
fn an_override_is_recorded_on_the_request_and_only_in_a_gated_namespace() {
    let overridden = |world: &mut World| {
        world.edit_job(|job| {
            job["metadata"]["annotations"]["countersign.dev/override-reason"] = json!("the site burns");
            job["metadata"]["annotations"]["countersign.dev/overridden-by"] = json!("bob");
            job["spec"]["suspend"] = json!(false);
        });
    };
    let mut world = gated("RequireApproval");
    world.settle_gated();
    overridden(&mut world);
    world.settle_gated();
    let status = world.status();
    assert_eq!((status.state, world.starts), (State::Released, 0));
    assert!(status.message.contains("bob") && status.message.contains("the site burns"), "{}", status.message);
    assert!(condition::find(&status.conditions, "Overridden").is_some());
    assert!(condition::find(&status.conditions, "Approved").is_none(), "nobody approved it");

    let mut unseen = gated("RequireApproval");
    overridden(&mut unseen);
    unseen.edit_job(|job| job["status"] = json!({"conditions": [{"type": "Complete", "status": "True"}]}));
    unseen.settle_gated();
    assert_eq!(unseen.status().state, State::Released, "made while the operator was away");

    let mut open = World::new("RequireApproval");
    open.settle();
    open.edit_job(|job| job["metadata"]["annotations"] = json!({}));
    overridden(&mut open);
    open.settle();
    assert_eq!(open.status().state, State::Pending, "where nobody checks the annotation it proves nothing");
}

#[test]
fn another_hand_on_suspend_is_said_and_not_fought() {
    let mut world = gated("Allow");
    world.edit_job(|job| job["metadata"]["labels"] = json!({"kueue.x-k8s.io/queue-name": "team"}));
    world.settle_gated();
    assert_eq!((world.reason().as_str(), world.running()), ("TargetShared", false));
    world.edit_job(|job| job["metadata"]["labels"] = json!({}));
    world.settle_gated();
    assert!(world.running());
}

#[test]
fn a_schedule_that_nobody_answers_does_not_pile_up_and_a_forged_owner_deletes_nothing() {
    let made_by = |creator: &str| {
        let mut world = gated("RequireApproval");
        annotate(&mut world, "countersign.dev/created-by", creator);
        world.edit_job(|job| {
            job["metadata"]["ownerReferences"] =
                json!([{"apiVersion": "batch/v1", "kind": "CronJob", "name": "nightly", "uid": "c1", "controller": true}]);
        });
        world
    };
    let mut world = made_by(CRON_JOBS);
    world.waiting = MOST_WAITING - 1;
    assert!(matches!(world.gate_plan().steps[..], [Step::Ask(_)]));
    world.waiting = MOST_WAITING;
    assert!(matches!(world.gate_plan().steps[..], [Step::Delete(_)]));
    assert_eq!(world.gate_plan().note.unwrap().reason, "TooManyWaiting");
    let mut forged = made_by("mallory");
    forged.waiting = MOST_WAITING;
    assert!(matches!(forged.gate_plan().steps[..], [Step::Ask(_)]));
}

#[test]
fn a_start_that_the_api_server_refuses_is_asked_for_and_told() {
    let mut world = gated("Allow");
    world.refused = Some("admission webhook \"quota.example.com\" denied the request: no".into());
    let plan = world.gate_plan();
    assert!(matches!(plan.steps[..], [Step::Ask(_)]), "{plan:?}");
    let note = plan.note.unwrap();
    assert!(note.warning && note.reason == "ReleaseRefused" && note.message.contains("quota.example.com"), "{note:?}");
    world.apply(&plan.steps[0]);
    assert_eq!(world.gate_plan(), Plan::idle(), "from here on it is the request's");
    let plan = world.plan();
    assert_eq!(plan.note.as_ref().map(|n| n.reason.as_str()), Some("ReleaseRefused"));
    plan.steps.iter().for_each(|step| world.apply(step));
    let status = world.status();
    assert_eq!((status.state, world.running()), (State::Approved, false));
    assert!(
        status.message.starts_with("allowed; the release waits, the API server refused it: admission webhook"),
        "{}",
        status.message
    );
    assert!(matches!(world.plan().steps[..], [Step::Release(_)]), "and is tried again");
    world.settle_gated();
    assert_eq!((world.status().state, world.running()), (State::Released, true));
}

#[test]
fn where_jobs_of_a_schedule_wait_for_a_window_nobody_is_told_to_decide_on_them() {
    let text = |decision: &str, windows: Value| {
        let mut world = gated(decision);
        world.policies[0].1["rules"][0]["freezeWindows"] = windows;
        annotate(&mut world, "countersign.dev/created-by", CRON_JOBS);
        world.edit_job(|job| {
            job["metadata"]["ownerReferences"] =
                json!([{"apiVersion": "batch/v1", "kind": "CronJob", "name": "nightly", "uid": "c1", "controller": true}]);
        });
        world.waiting = MOST_WAITING;
        let plan = world.gate_plan();
        assert!(matches!(plan.steps[..], [Step::Delete(_)]), "{plan:?}");
        plan.note.unwrap().message
    };
    let frozen = json!([crate::lifecycle::tests::time::lunch()]);
    let window =
        "until 1970-01-12T15:00:00Z: freeze window lunch of rule production/prod-write holds (user carol may pass it)";
    assert_eq!(
        text("Allow", frozen.clone()),
        format!(
            "Job job is deleted: 5 Jobs of its CronJob are allowed and wait already, {window}; suspend the CronJob meanwhile, or let it start less often"
        )
    );
    let both = text("RequireApproval", frozen);
    assert!(both.contains("decide on them") && both.ends_with(&format!("what is approved waits {window}")), "{both}");
    let none = text("RequireApproval", json!([]));
    assert!(none.ends_with("wait for approval already; decide on them, or suspend the CronJob"), "{none}");
    let held = text("Allow", json!([]));
    assert!(held.contains("their requests say what for (see kubectl get apr -n payments)"), "{held}");
}

/// Each is counted; only what the gate would have held or denied is told.
#[test]
fn a_gate_that_only_warns_says_what_would_have_become_of_each_new_job() {
    for (decision, foreseen, reason) in [
        ("Allow", Foreseen::Allow, None),
        ("RequireApproval", Foreseen::Hold, Some("WouldHold")),
        ("Deny", Foreseen::Deny, Some("WouldDeny")),
    ] {
        let mut world = gated(decision);
        world.gate = Gate::Warn;
        world.edit_job(|job| job["metadata"]["creationTimestamp"] = json!(at(0).to_string()));
        let plan = world.gate_plan();
        assert_eq!((plan.foreseen, plan.note.map(|n| n.reason).as_deref()), (Some(foreseen), reason));
        world.now += SignedDuration::from_secs(600);
        assert_eq!(world.gate_plan(), Plan::idle(), "it is not new");
    }
    let mut world = gated("Allow");
    (world.gate, world.policies) = (Gate::Warn, vec![]);
    world.edit_job(|job| job["metadata"]["creationTimestamp"] = json!(at(0).to_string()));
    let plan = world.gate_plan();
    assert_eq!((plan.foreseen, plan.note.unwrap().reason.as_str()), (Some(Foreseen::NoPolicy), "NoMatchingPolicy"));
}
