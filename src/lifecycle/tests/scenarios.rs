//! Lives of a request, from the first look to each end.

use super::*;
use crate::risk::Rights;

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
        matches!(&steps[..], [Step::Release(_), Step::WriteStatus(_)]),
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
    assert_eq!(world.job.unwrap()["metadata"]["annotations"]["countersign.dev/closed"], "Denied unbound r1");
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
    assert_eq!(closed, json!(format!("Denied {digest} r1")));
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
fn what_another_version_bound_is_bound_anew_by_a_newer_one_only() {
    let bound = |format: i64| {
        let mut world = World::new("RequireApproval");
        world.settle();
        let digest = format!("sha256:{}", "0".repeat(64));
        world.request["status"]["digest"] = json!(digest);
        world.request["status"]["boundAt"]["format"] = json!(format);
        world.settle();
        (world.digest() == digest, world.reason())
    };
    assert_eq!(bound(crate::binding::DIGEST_FORMAT - 1), (false, "Rebound".into()));
    assert!(bound(crate::binding::DIGEST_FORMAT + 1).0, "an older operator leaves it alone");
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
    assert!(matches!(&world.plan().steps[..], [Step::Release(_)]), "and is tried again");
    world.settle();
    assert_eq!((world.status().state, world.running()), (State::Released, true));
}

#[test]
fn rights_that_are_swapped_behind_the_same_words_bind_anew() {
    let grown = |world: &mut World, fingerprint: &str, words: &str| {
        let rights = Rights { writes: Some(words.into()), fingerprint: Some(fingerprint.into()), ..Rights::default() };
        world.surroundings.rights = Arc::new(rights);
        world.surroundings.version = world.bump();
    };
    let mut world = World::new("RequireApproval");
    grown(&mut world, "sha256:01", "create configmaps and 1 more");
    world.settle();
    let first = world.digest();
    grown(&mut world, "sha256:02", "create configmaps and 1 more");
    world.review("alice", "Approve", &first);
    world.settle();
    assert_eq!(
        (world.status().state, world.status().revision, world.reason().as_str()),
        (State::Pending, 2, "Rebound")
    );
    grown(&mut world, "sha256:02", "create pods/exec and 1 more");
    world.settle();
    assert_eq!(world.status().revision, 3);
    let message = world.status().message;
    assert!(message.starts_with("what it can touch changed; what was approved before is void"), "{message}");
    // Without its token, what the account may do is no matter.
    let mut world = World::new("RequireApproval");
    world.edit_job(|job| job["spec"]["template"]["spec"]["automountServiceAccountToken"] = json!(false));
    grown(&mut world, "sha256:01", "create configmaps");
    world.settle();
    let first = world.digest();
    grown(&mut world, "sha256:02", "create configmaps");
    world.settle();
    assert_eq!(world.digest(), first);
}
