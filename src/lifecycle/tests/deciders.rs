//! Who decides, and until when.

use super::*;

/// Approved at 590 s of 600, and the release waits until 650. It takes two to deny where `denials` says so.
fn waiting(denials: i64) -> World {
    let mut world = World::new("RequireApproval");
    world.policies[0].1["rules"][0]["approvals"]["denials"] = json!(denials);
    world.settle();
    world.now = at(590);
    world.approve("alice");
    world.refused = Some("quota".into());
    // One look: the next would try the release again, which this world takes.
    let plan = world.plan();
    plan.steps.iter().for_each(|step| world.apply(step));
    assert_eq!((world.status().state, world.running()), (State::Approved, false));
    world.now = at(620);
    world
}

#[test]
fn a_denial_while_the_release_waits_stops_it_after_the_time_for_approvals() {
    let mut world = waiting(1);
    let digest = world.digest();
    world.review("bob", "Deny", &digest);
    world.refused = None;
    world.settle();
    assert_eq!((world.status().state, world.running()), (State::Denied, false));
    assert_eq!(world.status().message, "denied by bob");
}

#[test]
fn what_is_approved_too_late_completes_nothing() {
    // Admission takes no such review of a pending request. Were one there, it would not count.
    let mut world = World::new("RequireApproval");
    world.policies[0].1["rules"][0]["approvals"]["requirements"][0]["count"] = json!(2);
    world.settle();
    world.now = at(30);
    world.approve("alice");
    world.settle();
    let mut late = world.clone();
    late.now = at(600) + SignedDuration::from_millis(400);
    late.approve("bob");
    late.settle();
    assert_eq!((late.status().state, late.running()), (State::Pending, false), "within the grace, and too late");
    late.now = at(601);
    late.settle();
    assert_eq!((late.status().state, late.running()), (State::Expired, false));
    world.now = at(599);
    world.approve("bob");
    world.settle();
    assert_eq!((world.status().state, world.running()), (State::Released, true));
}

#[test]
fn who_withdraws_while_the_release_waits_is_not_replaced_by_somebody_too_late() {
    let mut world = waiting(2);
    let digest = world.digest();
    world.review("alice", "Deny", &digest);
    world.review("bob", "Approve", &digest);
    world.refused = None;
    world.settle();
    assert_eq!((world.status().state, world.running()), (State::Expired, false), "{}", world.status().message);
    let mut undisturbed = waiting(2);
    undisturbed.approve("bob");
    undisturbed.refused = None;
    undisturbed.settle();
    assert_eq!(undisturbed.status().state, State::Released, "a word more does no harm");
}

fn users(names: &[&str]) -> Value {
    names.iter().map(|name| json!({"kind": "User", "name": name})).collect()
}

#[test]
fn where_nobody_is_left_who_may_approve_the_request_says_so() {
    let approvers = "/rules/0/approvals/requirements/0/approvers";
    let mut world = World::new("RequireApproval");
    world.edit_policy(approvers, users(&["triage"]));
    world.settle();
    assert_eq!((world.reason().as_str(), world.status().digest), ("Unsatisfiable", None));
    assert_eq!(
        world.status().message,
        "nobody can approve this: 1 person is needed for sre, and nobody is left; user triage is listed and does not count for this request; ask the platform team, or have another create and ask"
    );
    world.edit_policy(approvers, users(&["triage", "alice"]));
    world.settle();
    assert_eq!((world.status().state, world.running()), (State::Pending, false));
    world.approve("alice");
    world.settle();
    assert!(world.running());
}

/// A gated namespace in which alice's Job waits, and she may approve it herself but for what `exclude` says.
fn own_job(exclude: Value) -> World {
    let mut world = super::gate::gated("RequireApproval");
    world.policies[0].1["rules"][0]["approvals"]["selfApproval"] = json!("Allow");
    world.policies[0].1["rules"][0]["approvals"]["exclude"] = exclude;
    world.settle_gated();
    world
}

#[test]
fn the_creator_may_be_excluded_where_self_approval_is_allowed() {
    let mut allowed = own_job(json!([]));
    allowed.approve("alice");
    allowed.settle_gated();
    assert!(allowed.running(), "{}", allowed.status().message);
    let mut world = own_job(json!(["JobCreator"]));
    assert_eq!(world.status().excluded, ["alice"]);
    world.approve("alice");
    world.settle_gated();
    assert_eq!((world.status().state, world.running()), (State::Pending, false));
    world.approve("bob");
    world.settle_gated();
    assert!(world.running());
}

/// Where nobody writes and guards the names, they exclude nobody; so nothing is approved that rests on them.
#[test]
fn where_nobody_knows_who_made_it_a_rule_that_excludes_them_approves_nothing() {
    let reason = |world: &World| (world.reason(), world.status().digest.is_some());
    for gate in [Gate::Off, Gate::Warn] {
        let mut world = World::new("RequireApproval");
        world.gate = gate;
        let mut unstamped = world.clone();
        unstamped.policies[0].1["rules"][0]["approvals"]["exclude"] = json!(["JobCreator"]);
        unstamped.settle();
        assert_eq!(reason(&unstamped), ("CreatorUnknown".into(), false), "{gate:?}");
        assert_eq!(
            unstamped.status().message,
            "Job job: policy excludes whoever made it, and who that is, is known in a gated namespace alone; gate this one, or have the policy not exclude JobCreator here"
        );
        // Nor does a name count that somebody wrote there to keep bob out.
        world.edit_job(|job| {
            job["metadata"]["annotations"] =
                json!({"countersign.dev/created-by": "bob", "countersign.dev/authored-by": "bob"});
        });
        unstamped.job = world.job.clone();
        unstamped.settle();
        assert_eq!(reason(&unstamped), ("CreatorUnknown".into(), false), "{gate:?}");
        world.settle();
        assert_eq!(world.status().target.unwrap().parties, ["system:serviceaccount:payments:default"], "{gate:?}");
        world.approve("bob");
        world.settle();
        assert!(world.running(), "{gate:?}: {}", world.status().message);
    }
}

#[test]
fn a_cron_job_that_nobody_signed_has_no_known_author() {
    let by_schedule = |annotations: Value| {
        let mut world = super::gate::gated("RequireApproval");
        world.policies[0].1["rules"][0]["approvals"]["exclude"] = json!(["JobCreator"]);
        world.edit_job(|job| job["metadata"]["annotations"] = annotations);
        world.settle_gated();
        world
    };
    for controller in ["system:serviceaccount:kube-system:cronjob-controller", "system:kube-controller-manager"] {
        let world = by_schedule(json!({"countersign.dev/created-by": controller}));
        assert_eq!((world.reason().as_str(), world.status().digest), ("CreatorUnknown", None));
        let message = &world.facts().status.message;
        assert!(
            message.contains("its CronJob is older than the gate") && message.contains("change the CronJob's"),
            "{message}"
        );
        let mut signed =
            by_schedule(json!({"countersign.dev/created-by": controller, "countersign.dev/authored-by": "alice"}));
        assert_eq!(
            (signed.reason().as_str(), &*signed.status().excluded),
            ("Bound", &["alice".to_string(), controller.into()][..])
        );
        signed.approve("alice");
        signed.settle_gated();
        assert!(!signed.running());
        signed.approve("bob");
        signed.settle_gated();
        assert!(signed.running());
    }
}

/// There is nobody to exclude where nothing runs.
#[test]
fn a_request_without_a_target_has_no_creator() {
    let mut world = World::new("RequireApproval");
    world.policies[0].1["rules"][0]["approvals"]["exclude"] = json!(["JobCreator"]);
    world.request["spec"].as_object_mut().unwrap().remove("target");
    world.settle();
    world.approve("alice");
    world.settle();
    assert_eq!(world.status().state, State::Released, "{}", world.status().message);
}

#[test]
fn who_makes_a_job_does_not_choose_who_may_deny_it() {
    let mut world = super::gate::gated("RequireApproval");
    world.edit_job(|job| job["metadata"]["annotations"]["countersign.dev/authored-by"] = json!("bob"));
    world.edit_job(|job| job["metadata"]["annotations"]["countersign.dev/created-by"] = json!("mallory"));
    world.settle_gated();
    assert!(world.status().target.unwrap().parties.contains(&"bob".into()));
    world.approve("bob");
    world.settle_gated();
    assert_eq!(
        (world.status().state, world.running()),
        (State::Pending, false),
        "it still takes his approval from him"
    );
    let digest = world.digest();
    world.review("bob", "Deny", &digest);
    world.settle_gated();
    assert_eq!((world.status().state, world.status().message.as_str()), (State::Denied, "denied by bob"));
}

#[test]
fn no_more_policies_are_named_than_the_authorizer_can_be_asked_about() {
    let named = |n: usize| {
        let mut world = World::new("RequireApproval");
        let spec = |name: &str| {
            let mut spec = policy("RequireApproval");
            let approvers = json!([{"kind": "Authorized", "name": name}]);
            spec["rules"][0]["approvals"]["requirements"][0]["approvers"] = approvers;
            spec
        };
        world.policies = (0..n).map(|i| format!("p{i:02}")).map(|name| (name.clone(), spec(&name))).collect();
        world.settle();
        (world.reason(), world.status().message)
    };
    assert_eq!(named(16).0, "Bound");
    let (reason, message) = named(17);
    assert_eq!(reason, "Unsatisfiable");
    assert!(message.contains("are named for 17 policies; at most 16 can be asked about"), "{message}");
}

#[test]
fn without_a_stamped_editor_nothing_is_approved_and_the_message_says_what_to_do() {
    let mut world = World::new("RequireApproval");
    world.policies[0].1["rules"][0]["approvals"]["exclude"] = json!(["PolicyEditor"]);
    world.settle();
    assert_eq!((world.reason().as_str(), world.status().digest), ("PolicyNotReady", None));
    assert_eq!(
        world.status().message,
        "policy production was changed last by somebody who is excluded, and nobody was stamped as that, so nothing is approved: change its spec while admission is there, or delete it and apply it again"
    );
}

#[test]
fn the_command_has_a_place_for_the_comment_that_it_takes() {
    let mut world = World::new("RequireApproval");
    world.settle();
    assert!(!world.status().message.contains("comment"), "{}", world.status().message);
    world.policies[0].1["rules"][0]["approvals"]["requireComment"] = json!(true);
    world.policies_version = world.bump();
    world.settle();
    let (message, digest) = (world.status().message, world.digest());
    let command = format!(
        r#"-p '{{"spec":{{"review":{{"decision":"Approve","digest":"{digest}","comment":"<what you checked>"}}}}}}'"#
    );
    assert!(message.ends_with(&command), "{message}");
}
