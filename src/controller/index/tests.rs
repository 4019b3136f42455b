use super::*;
use crate::risk::RbacKind;
use serde_json::json;

mod trail;

fn index() -> Index {
    Index::new(Arc::new(Keyring::from_seed(&[7; 32]).unwrap()), "home".into(), false, Cluster::default())
}

fn request(version: i64, uid: &str, job: &str, state: &str) -> DynamicObject {
    serde_json::from_value(json!({
        "apiVersion": "countersign.dev/v1alpha1", "kind": "ApprovalRequest",
        "metadata": {"name": "run", "namespace": "a", "uid": uid, "resourceVersion": version.to_string(),
            "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"runID": "r", "stepID": "s", "requestedBy": "w", "reason": "why",
            "target": {"apiVersion": "batch/v1", "kind": "Job", "name": job}},
        "status": {"state": state}
    }))
    .unwrap()
}

fn job(version: i64, name: &str) -> DynamicObject {
    serde_json::from_value(json!({"apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": name, "namespace": "a", "uid": name, "resourceVersion": version.to_string()},
        "spec": {"suspend": true}}))
    .unwrap()
}

/// What is known of a kind.
fn known(index: &Index, kind: Kind) -> HashSet<Name> {
    index.missing(kind, &HashSet::new()).into_iter().collect()
}

fn run() -> Vec<Key> {
    vec![Key::Request("a".into(), "run".into())]
}

#[test]
fn a_change_concerns_the_requests_that_rest_on_it() {
    let index = index();
    assert_eq!(index.set_request(request(1, "u", "job", "Pending")), run());
    assert_eq!(index.set_target(TargetKind::Job, job(2, "job")), run());
    assert_eq!(index.set_target(TargetKind::Job, job(3, "other")), []);
    assert_eq!(index.remove_target(TargetKind::Job, "a", "job", i64::MAX), run());
    assert_eq!(index.remove_policy("p", 4), run());
    index.set_request(request(5, "u", "job", "Released"));
    assert_eq!(index.set_target(TargetKind::Job, job(6, "job")), [], "a finished request rests on nothing");
    assert_eq!(index.remove_policy("p", 7), []);
}

/// A Job that is told of twice at the same time, by the answer to our own write and by the watch. To read the older version takes
/// longer, so that it is written down after the newer one, if it is.
#[test]
fn of_two_versions_that_come_at_once_the_newer_one_stays() {
    let mut large = job(2, "job");
    let env: Vec<_> = (0..20_000).map(|n| json!({"name": format!("e{n}"), "value": "v"})).collect();
    large.data["spec"]["template"] = json!({"spec": {"containers": [{"name": "main", "env": env}]}});
    let at: At = ("a".into(), TargetKind::Job, "job".into());
    for _ in 0..5 {
        let (index, versions) = (index(), [large.clone(), job(3, "job")]);
        let both = std::sync::Barrier::new(versions.len());
        std::thread::scope(|threads| {
            for version in versions {
                threads.spawn(|| {
                    both.wait();
                    index.set_target(TargetKind::Job, version);
                });
            }
        });
        assert_eq!(index.read().targets[&at].outline.version, 3);
    }
}

#[test]
fn a_request_that_goes_before_its_end_is_looked_at_once_more() {
    let index = index();
    index.set_request(request(1, "u", "job", "Pending"));
    assert_eq!(index.remove_request("a", "run", 2), run(), "its timer goes then");
    assert!(index.is_over("a", "run"));
    index.set_request(request(3, "u", "job", "Released"));
    assert_eq!(index.remove_request("a", "run", 4), [], "that of one that ended went then");
    index.set_request(request(6, "v", "job", "Pending"));
    assert_eq!(index.remove_request("a", "run", 5), [], "another of that name came since");
    assert!(!index.is_over("a", "run"));
}

#[test]
fn what_is_older_than_what_is_known_changes_nothing() {
    let index = index();
    index.set_request(request(5, "u", "job", "Released"));
    assert_eq!(index.set_request(request(4, "u", "job", "Pending")), []);
    assert_eq!(index.observe("a", "run").unwrap().request.status.state, crate::api::State::Released);
    index.remove_request("a", "run", i64::MAX);
    assert_eq!(index.wrote_request(request(6, "u", "job", "Pending")), [], "our own late answer revives nothing");
    assert!(index.observe("a", "run").is_none());
}

#[test]
fn a_request_that_replaced_another_unseen_is_known_by_its_own_target() {
    let index = index();
    index.set_request(request(1, "u1", "job", "Pending"));
    index.set_request(request(2, "u2", "other", "Pending"));
    assert_eq!(index.set_target(TargetKind::Job, job(3, "job")), []);
    assert_eq!(index.set_target(TargetKind::Job, job(4, "other")), run());
}

#[test]
fn a_request_that_cannot_be_read_is_not_observed_but_may_go() {
    let index = index();
    let mut broken = request(1, "u", "job", "Pending");
    broken.data["spec"]["runID"] = json!({"not": "text"});
    assert_eq!(index.set_request(broken.clone()), []);
    assert!(index.observe("a", "run").is_none() && index.letting_go("a", "run").is_none());
    broken.metadata.resource_version = Some("2".into());
    broken.metadata.finalizers = Some(vec!["x".into(), crate::api::names::FINALIZER.into()]);
    broken.metadata.deletion_timestamp = broken.metadata.creation_timestamp.clone();
    assert_eq!(index.set_request(broken), run());
    assert_eq!(index.letting_go("a", "run").unwrap().letting_go, Some(1));
}

#[test]
fn in_a_gated_namespace_what_is_held_is_looked_at_and_a_start_by_others_is_told_once() {
    let index = index();
    let namespace = |version: i64, gate: &str| {
        serde_json::from_value::<DynamicObject>(json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "a", "resourceVersion": version.to_string(), "labels": {"countersign.dev/gate": gate}}}))
        .unwrap()
    };
    let key = Key::Target("a".into(), TargetKind::Job, "job".into());
    let stamped = |version: i64, suspend: bool| {
        let mut job = job(version, "job");
        job.metadata.annotations = Some([("countersign.dev/created-by".to_string(), "alice".to_string())].into());
        job.data["spec"]["suspend"] = json!(suspend);
        job
    };
    assert_eq!(index.set_target(TargetKind::Job, stamped(1, true)), []);
    assert_eq!(index.set_namespace(&namespace(2, "enforce")), vec![key.clone()]);
    assert_eq!(index.set_target(TargetKind::Job, stamped(3, true)), [key]);
    assert_eq!(index.remove_policy("p", 4), [], "there was none");
    assert!(index.take_foreign_starts().is_empty());
    assert_eq!(index.set_target(TargetKind::Job, stamped(5, false)), []);
    assert_eq!(index.take_foreign_starts().len(), 1);
    index.set_target(TargetKind::Job, stamped(6, false));
    assert!(index.take_foreign_starts().is_empty(), "told once");
}

#[test]
fn the_operators_home_and_system_namespaces_are_never_gated() {
    let labels = [("countersign.dev/gate".to_string(), "enforce".to_string())].into();
    for name in ["home", "kube-system", "kube-public", "kube-node-lease"] {
        assert_eq!(Gate::of(name, &labels, "home"), Gate::Off, "{name}");
    }
    assert_eq!(Gate::of("payments", &labels, "home"), Gate::Enforce);
}

#[test]
fn another_editor_of_the_same_policy_is_a_change() {
    let index = index();
    index.set_complete();
    index.set_request(request(1, "u", "job", "Pending"));
    let policy = |version: i64, editor: Option<&str>| -> DynamicObject {
        let mut policy = json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "ApprovalPolicy",
            "metadata": {"name": "p", "resourceVersion": version.to_string(), "labels": {"v": version.to_string()}},
            "spec": {"rules": [{"name": "r", "decision": "Allow"}]}});
        if let Some(editor) = editor {
            policy["metadata"]["annotations"] = json!({"countersign.dev/edited-by": editor});
        }
        serde_json::from_value(policy).unwrap()
    };
    let own = vec![Key::Policy("p".into())];
    let all = [own.clone(), run()].concat();
    for (version, editor, expected) in [
        (2, None, &all),
        (3, None, &own),
        (4, Some("alice"), &all),
        (5, Some("alice"), &own),
        (6, Some("bob"), &all),
        (7, None, &all),
    ] {
        assert_eq!(index.set_policy(&policy(version, editor)), *expected, "{version}");
        let set = crate::admission::GateView::policies(&index).unwrap();
        assert_eq!(set.ready[0].rules[0].editor.as_deref(), editor);
    }
}

fn rbac(version: i64, object: serde_json::Value) -> DynamicObject {
    let mut object: DynamicObject = serde_json::from_value(object).unwrap();
    object.metadata.resource_version = Some(version.to_string());
    object
}

fn may_patch(version: i64) -> DynamicObject {
    rbac(
        version,
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "edit"},
            "rules": [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["patch"]}]}),
    )
}

fn bound_to(version: i64, account: &str) -> DynamicObject {
    rbac(
        version,
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "ci", "namespace": "a"},
            "roleRef": {"kind": "ClusterRole", "name": "edit"}, "subjects": [{"kind": "ServiceAccount", "name": account}]}),
    )
}

fn closing(version: i64, namespace: &str) -> DynamicObject {
    rbac(
        version,
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "deny", "namespace": namespace},
            "spec": {"podSelector": {}, "policyTypes": ["Egress"]}}),
    )
}

#[test]
fn a_change_of_rights_concerns_what_is_held_and_runs_as_that_account() {
    let index = index();
    let (role, binding) = (RbacKind::ClusterRole, RbacKind::RoleBinding);
    let mut job = job(2, "job");
    job.data["spec"]["template"] = json!({"spec": {"serviceAccountName": "ci"}});
    index.set_request(request(1, "u", "job", "Pending"));
    index.set_target(TargetKind::Job, job);
    assert_eq!(index.set_rbac(role, &may_patch(3)), []);
    assert_eq!(index.set_rbac(binding, &bound_to(4, "ci")), [], "nothing is decided before everything is known");
    index.set_complete();
    let around = || index.observe("a", "run").unwrap();
    let writes = || around().surroundings().rights.writes.clone();
    let version = || around().surroundings().version;
    let text = "patch deployments.apps, by ClusterRole edit through RoleBinding ci in a";
    assert_eq!((writes().as_deref(), version()), (Some(text), 4));
    assert_eq!(index.set_rbac(binding, &bound_to(5, "other")), run());
    assert_eq!((writes(), version()), (None, 5));
    assert_eq!(index.set_rbac(binding, &bound_to(6, "third")), [], "others' rights");
    assert_eq!(index.set_rbac(binding, &bound_to(7, "ci")), run());
    assert_eq!(index.set_rbac(role, &may_patch(8)), [], "metadata");
    assert_eq!(version(), 8, "and the view is newer all the same");
    assert_eq!(index.remove_rbac(role, "", "edit", 9), run());
    assert_eq!((writes(), version()), (None, 9));
    index.set_rbac(role, &may_patch(10));
    assert_eq!(known(&index, Kind::Rbac(binding)), HashSet::from([("a".to_string(), "ci".to_string())]));
    assert_eq!(known(&index, Kind::Rbac(role)), HashSet::from([(String::new(), "edit".to_string())]));
    index.set_request(request(11, "u", "job", "Released"));
    assert_eq!(index.remove_rbac(binding, "a", "ci", 12), [], "a finished request rests on nothing");
}

#[test]
fn a_network_policy_concerns_what_is_held_in_its_namespace() {
    let index = index();
    index.set_request(request(1, "u", "job", "Pending"));
    index.set_target(TargetKind::Job, job(2, "job"));
    index.set_complete();
    let open = || index.observe("a", "run").unwrap().surroundings().open_egress;
    assert!(open());
    assert_eq!(index.set_network_policy(&closing(3, "b")), []);
    assert!(open());
    assert_eq!(index.set_network_policy(&closing(4, "a")), run());
    assert!(!open());
    assert_eq!(index.set_network_policy(&closing(5, "a")), [], "metadata");
    let names = |namespace: &str| (namespace.to_string(), "deny".to_string());
    assert_eq!(known(&index, Kind::NetworkPolicy), HashSet::from([names("a"), names("b")]));
    assert_eq!(index.remove_network_policy("a", "deny", 6), run());
    assert_eq!(index.remove_network_policy("a", "deny", 6), [], "it is none that counted any more");
    assert!(open());
    for version in [9, 7] {
        index.surroundings_at(version);
        index.inputs_at(version);
    }
    let observation = index.observe("a", "run").unwrap();
    let observed = observation.observed(&index.key, true, None, jiff::Timestamp::UNIX_EPOCH);
    assert_eq!((observed.surroundings.version, observed.inputs_version), (9, 9), "a view never gets older");
}

/// Before something of the trail is pruned, everything that had ended by some time is recorded, and what is open is kept.
#[test]
fn what_is_known_of_the_trail_says_what_may_not_be_pruned() {
    let index = index();
    let keys = crate::audit::by_name(&[index.key.public()]);
    let write = || {
        while let Some(record) = index.next_record().unwrap() {
            index.learn_record(&record.spec, &keys).unwrap();
        }
    };
    let time = |text: &str| text.parse::<jiff::Timestamp>().unwrap();
    let (before, after) = (time("2025-12-31T23:59:59Z"), time("2026-01-01T00:00:00Z"));
    index.set_trail_read();
    index.set_request(request(1, "u", "job", "Pending"));
    assert!(!index.kept_trail().is_settled(before), "not everything is known yet");
    index.set_complete();
    let trail = index.kept_trail();
    assert!(trail.is_settled(before) && !trail.is_settled(after), "what waits happened then");
    write();
    let trail = index.kept_trail();
    assert_eq!((trail.first, trail.length, trail.pruned, trail.unfinished), (1, 1, 0, Some(1)));
    assert!(trail.is_settled(after));
    index.set_request(request(2, "u", "job", "Released"));
    assert_eq!(index.kept_trail().unfinished, None, "it has ended");
    let mut broken = request(3, "x", "job", "Released");
    broken.metadata.name = Some("broken".into());
    broken.data["spec"]["runID"] = json!({"not": "text"});
    index.set_request(broken);
    assert!(!index.kept_trail().is_settled(after), "nobody knows what there is to record of that one");
    index.remove_request("a", "broken", i64::MAX);
    assert!(index.kept_trail().is_settled(after));
}

/// A finished request that outlives its records is not recorded anew, whatever an operator that starts knows.
#[test]
fn what_had_ended_when_the_trail_was_pruned_is_not_recorded_again() {
    let ended = |version: i64, uid: &str, time: &str| {
        let mut request = request(version, uid, "job", "Denied");
        request.metadata.name = Some(uid.into());
        request.data["status"]["conditions"] = json!([{"type": "Denied", "status": "True", "reason": "Denied", "message": "no",
            "lastTransitionTime": time}]);
        request
    };
    let index = index();
    let keys = crate::audit::by_name(&[index.key.public()]);
    let until = "2026-01-02T00:00:00Z".parse().unwrap();
    let head = crate::audit::Head { length: 7, hash: "sha256:before".into() };
    let anchor =
        crate::audit::retention::pruned(&head, "sha256:first", &crate::audit::Signers::default(), until, until);
    let record = crate::audit::seal(&head, vec![anchor], &index.key).unwrap();
    index.learn_record(&serde_json::to_value(record).unwrap(), &keys).unwrap();
    assert_eq!(index.check_trail_beginning(), Ok(()));
    index.set_trail_read();
    index.set_request(ended(1, "old", "2026-01-01T12:00:00Z"));
    assert_eq!(index.unrecorded(), 0, "it was recorded before");
    index.set_request(ended(2, "new", "2026-01-02T12:00:00Z"));
    assert_eq!(index.unrecorded(), 2, "asked and denied");
}
