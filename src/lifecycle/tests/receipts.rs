//! A crash between the write that starts the Job and the status: the receipt on the Job restores what the status had said.

use super::*;
use crate::binding::{Receipt, earlier};
use crate::lifecycle::tests::time::{frozen, lunch};

const RECEIPT: &str = "/spec/template/metadata/annotations/countersign.dev~1receipt";

fn say(world: &mut World, who: &str, group: &str, decision: &str, digest: &str) {
    let mut entry = json!({"reviewer": {"username": who, "groups": [group]}, "decision": decision, "digest": digest,
        "time": format!("{:.6}", world.now)});
    entry["seal"] = json!(seal(&key(), "r1", &entry).unwrap());
    world.append(entry);
    world.now += SignedDuration::from_secs(1);
}

fn approve(world: &mut World, who: &str, group: &str) {
    let digest = world.digest();
    say(world, who, group, "Approve", &digest);
}

/// The status of a world that is about to release, and of one that crashes between both writes.
fn both(world: &World, meanwhile: impl FnOnce(&mut World)) -> (ApprovalRequestStatus, ApprovalRequestStatus) {
    let (mut well, mut crashed) = (world.clone(), world.clone());
    well.settle();
    let steps = crashed.plan().steps;
    assert!(matches!(steps[..], [Step::Release(_), Step::WriteStatus(_)]), "{steps:?}");
    crashed.apply(&steps[0]);
    meanwhile(&mut crashed);
    crashed.now += SignedDuration::from_secs(5000);
    crashed.settle();
    for world in [&well, &crashed] {
        assert_eq!((world.status().state, world.starts), (State::Released, 1));
    }
    (well.status(), crashed.status())
}

fn equal(well: &ApprovalRequestStatus, crashed: &ApprovalRequestStatus) {
    assert_eq!((&well.approvals, &well.freezes), (&crashed.approvals, &crashed.freezes));
    assert_eq!((&well.message, &well.summary, &well.digest), (&crashed.message, &crashed.summary, &crashed.digest));
}

fn receipt(world: &World) -> Receipt {
    let mut world = world.clone();
    let steps = world.plan().steps;
    world.apply(&steps[0]);
    Receipt::open(&key(), world.job.unwrap().pointer(RECEIPT).unwrap().as_str().unwrap()).unwrap()
}

/// In a window that release-managers may pass, who are no approvers. Alice approved, and carol passes it now.
fn passed() -> World {
    let mut window = lunch();
    window["mayPass"] = json!([{"kind": "Group", "name": "release-managers"}]);
    let night = json!({"name": "night", "start": "0 3 * * *", "durationSeconds": 3600, "mayPass": [{"kind": "User", "name": "carol"}]});
    let mut world = frozen(json!([window, night]));
    world.settle();
    approve(&mut world, "alice", "sre");
    world.settle();
    assert_eq!(world.status().state, State::Approved);
    approve(&mut world, "carol", "release-managers");
    world
}

#[test]
fn who_passed_a_window_stands_in_the_receipt_and_survives_a_crash() {
    let world = passed();
    let receipt = receipt(&world);
    assert_eq!(receipt.approvers, ["alice"]);
    let passes: Vec<_> = receipt.passed.iter().map(|p| (p.window.as_str(), p.by.as_str(), p.held)).collect();
    assert_eq!(passes, [("lunch", "carol", true), ("night", "carol", false)]);
    let (well, crashed) = both(&world, |_| {});
    assert_eq!(well.freezes[0].passed_by.as_deref(), Some("carol"));
    assert_eq!(well.message, "approved by alice; freeze window lunch of rule production/prod-write passed by carol");
    equal(&well, &crashed);
}

#[test]
fn one_person_fills_one_place_after_a_crash_as_well() {
    let mut world = World::new("RequireApproval");
    world.policies[0].1["rules"][0]["approvals"]["requirements"] = json!([
        {"name": "either", "approvers": [{"kind": "Group", "name": "sre"}, {"kind": "Group", "name": "security"}]},
        {"name": "sre", "approvers": [{"kind": "Group", "name": "sre"}]},
    ]);
    world.settle();
    // What she said of what stands no more does not tell who she is now.
    let first = world.digest();
    say(&mut world, "alice", "security", "Approve", &first);
    world.edit_job(|job| job["spec"]["template"]["spec"]["containers"][0]["image"] = json!("other"));
    world.settle();
    approve(&mut world, "alice", "sre");
    approve(&mut world, "carol", "security");
    let (well, crashed) = both(&world, |_| {});
    let by: Vec<_> = well.approvals.iter().map(|p| (p.requirement.as_str(), p.approved_by.join(","))).collect();
    assert_eq!(by, [("either", "carol".to_string()), ("sre", "alice".to_string())]);
    equal(&well, &crashed);
    // Nor does what is said after the release.
    let digest = world.digest();
    let (well, crashed) = both(&world, |world| {
        say(world, "bob", "sre", "Approve", &digest);
        say(world, "carol", "security", "Deny", &digest);
        say(world, "alice", "security", "Approve", &format!("sha256:{}", "0".repeat(64)));
    });
    equal(&well, &crashed);
}

#[test]
fn what_policy_allowed_at_once_was_evaluated_and_bound_after_a_crash_as_well() {
    let mut well = World::new("Allow");
    well.policies[0].1["rules"][0].as_object_mut().unwrap().remove("when");
    let mut crashed = well.clone();
    well.settle();
    let steps = crashed.plan().steps;
    assert!(matches!(steps[..], [Step::KeepSnapshot(_), Step::Release(_), Step::WriteStatus(_)]), "{steps:?}");
    crashed.apply(&steps[0]);
    crashed.apply(&steps[1]);
    crashed.settle();
    let told = |world: &World| {
        let status = world.status();
        let conditions: Vec<_> = status.conditions.iter().map(|c| (c.type_.clone(), c.reason.clone())).collect();
        (conditions, status.state, status.revision, status.digest, status.message, status.target.map(|t| t.uid))
    };
    assert_eq!(told(&crashed), told(&well));
    assert_eq!(told(&well).0[0], ("Evaluated".to_string(), "Bound".to_string()));
    assert_eq!(crashed.status().bound_time, well.status().bound_time);
}

#[test]
fn a_receipt_that_names_no_passes_takes_none_away() {
    let mut world = passed();
    let mut older = receipt(&world);
    older.passed = vec![];
    let steps = world.plan().steps;
    world.apply(&steps[0]);
    let envelope = older.sign(&key()).unwrap();
    world.edit_job(|job| *job.pointer_mut(RECEIPT).unwrap() = json!(envelope));
    world.request["status"]["freezes"][0]["passedBy"] = json!("carol");
    world.settle();
    let status = world.status();
    assert_eq!((status.state, status.freezes[0].passed_by.as_deref()), (State::Released, Some("carol")));
    assert_eq!(status.message, "approved by alice");
}

/// What an earlier operator released, and crashed before it said so.
#[test]
fn a_receipt_of_an_earlier_operator_finishes_its_request() {
    let mut world = World::new("RequireApproval");
    world.settle();
    world.approve("alice");
    let receipt = receipt(&world);
    let steps = world.plan().steps;
    world.apply(&steps[0]);
    let envelope = earlier::sign(&receipt, &key());
    world.edit_job(|job| *job.pointer_mut(RECEIPT).unwrap() = json!(envelope));
    world.settle();
    let status = world.status();
    assert_eq!((status.state, world.starts), (State::Released, 1));
    assert_eq!((status.digest, status.job_hash), (Some(receipt.digest), Some(receipt.job.hash)));
}

#[test]
fn a_receipt_names_its_job_and_ends_with_the_deadline_that_the_job_has() {
    for (own, most, seconds) in
        [(None, None, None), (None, Some(900), Some(900)), (Some(60), Some(900), Some(60)), (Some(60), None, Some(60))]
    {
        let mut world = World::new("RequireApproval");
        world.policies[0].1["rules"][0]["constraints"] = json!({"maxRuntimeSeconds": most});
        world.edit_job(|job| job["spec"]["activeDeadlineSeconds"] = json!(own));
        world.settle();
        world.approve("alice");
        let receipt = receipt(&world);
        let job = world.job.clone().unwrap();
        let name = format!(
            "{}/Job/{}",
            job["metadata"]["namespace"].as_str().unwrap(),
            job["metadata"]["name"].as_str().unwrap()
        );
        assert_eq!(receipt.job.name, name);
        assert_eq!(
            receipt.valid_until,
            seconds.map(|n| receipt.time + SignedDuration::from_secs(n)),
            "{own:?} {most:?}"
        );
        let steps = world.plan().steps;
        world.apply(&steps[0]);
        assert_eq!(world.job.unwrap()["spec"]["activeDeadlineSeconds"].as_i64(), seconds);
    }
}
