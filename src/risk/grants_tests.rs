use super::*;
use serde_json::json;

fn object(kind: RbacKind, namespace: &str, name: &str, data: Value) -> DynamicObject {
    let mut object = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind.as_str(),
        "metadata": {"name": name, "resourceVersion": "1"}});
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = json!(namespace);
    }
    object.as_object_mut().unwrap().extend(data.as_object().unwrap().clone());
    serde_json::from_value(object).unwrap()
}

pub(super) fn role(namespace: &str, name: &str, rules: Value) -> (RbacKind, DynamicObject) {
    let kind = if namespace.is_empty() { RbacKind::ClusterRole } else { RbacKind::Role };
    (kind, object(kind, namespace, name, json!({"rules": rules})))
}

fn rule(group: &str, resource: &str, verb: &str) -> Value {
    json!({"apiGroups": [group], "resources": [resource], "verbs": [verb]})
}

pub(super) fn binding(namespace: &str, name: &str, role: (&str, &str), subject: Value) -> (RbacKind, DynamicObject) {
    let kind = if namespace.is_empty() { RbacKind::ClusterRoleBinding } else { RbacKind::RoleBinding };
    let data = json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role.0, "name": role.1}, "subjects": [subject]});
    (kind, object(kind, namespace, name, data))
}

fn account(namespace: &str, name: &str) -> Value {
    json!({"kind": "ServiceAccount", "namespace": namespace, "name": name})
}

pub(super) fn grants(objects: impl IntoIterator<Item = (RbacKind, DynamicObject)>) -> Grants {
    let mut grants = Grants::default();
    for (kind, object) in objects {
        grants.set(kind, &object);
    }
    grants
}

fn patching() -> (RbacKind, DynamicObject) {
    role("", "edit", json!([rule("apps", "deployments", "patch")]))
}

#[test]
fn a_grant_says_what_and_by_which_role_and_binding() {
    let ci = || account("payments", "ci");
    let own = grants([patching(), binding("payments", "ci", ("ClusterRole", "edit"), ci())]).rights("payments", "ci");
    let text = "patch deployments.apps, by ClusterRole edit through RoleBinding ci in payments";
    assert!(own.fingerprint.as_ref().is_some_and(|hash| hash.starts_with("sha256:")));
    assert_eq!(said(own), Rights { writes: Some(text.into()), ..Rights::default() });

    let text = "change something in other namespaces";
    let other = grants([patching(), binding("orders", "ci", ("ClusterRole", "edit"), ci())]).rights("payments", "ci");
    assert_eq!((other.writes.as_deref(), other.cluster_scope.as_deref()), (Some(text), Some(text)));

    let text = "patch deployments.apps, by ClusterRole edit through ClusterRoleBinding all, cluster-wide";
    let wide = grants([patching(), binding("", "all", ("ClusterRole", "edit"), ci())]).rights("payments", "ci");
    assert_eq!((wide.writes.as_deref(), wide.cluster_scope.as_deref()), (Some(text), Some(text)));

    let reader = role("payments", "reader", json!([rule("", "secrets", "get")]));
    let text = "get secrets, by Role reader through RoleBinding r in payments";
    let reads = grants([reader, binding("payments", "r", ("Role", "reader"), ci())]).rights("payments", "ci");
    assert_eq!(said(reads), Rights { reads_secrets: Some(text.into()), ..Rights::default() });
}

/// The words alone.
fn said(rights: Rights) -> Rights {
    Rights { fingerprint: None, ..rights }
}

#[test]
fn a_binding_names_an_account_in_every_way_that_rbac_knows() {
    let group = |name: &str| json!({"kind": "Group", "name": name, "apiGroup": "rbac.authorization.k8s.io"});
    let user = |name: &str| json!({"kind": "User", "name": name, "apiGroup": "rbac.authorization.k8s.io"});
    let local = json!({"kind": "ServiceAccount", "name": "ci"});
    let table = [
        (account("payments", "ci"), true),
        (local.clone(), true),
        (user("system:serviceaccount:payments:ci"), true),
        (group("system:serviceaccounts"), true),
        (group("system:serviceaccounts:payments"), true),
        (group("system:authenticated"), true),
        (account("orders", "ci"), false),
        (account("payments", "other"), false),
        (user("system:serviceaccount:orders:ci"), false),
        (user("ci"), false),
        (user("system:serviceaccount:payments"), false),
        (user("*"), false),
        (group("system:unauthenticated"), false),
        (group("system:serviceaccounts:orders"), false),
        (group("system:masters"), false),
        (group("system:serviceaccount:payments:ci"), false),
        (json!({"kind": "Robot", "name": "ci", "namespace": "payments"}), false),
        (json!({"name": "ci", "namespace": "payments"}), false),
        (json!("ci"), false),
    ];
    for (subject, matches) in table {
        let known = grants([patching(), binding("payments", "b", ("ClusterRole", "edit"), subject.clone())]);
        assert_eq!(known.rights("payments", "ci").writes.is_some(), matches, "{subject}");
    }
    let wide = grants([patching(), binding("", "b", ("ClusterRole", "edit"), local)]);
    assert_eq!(wide.rights("payments", "ci"), Rights::default(), "without a namespace it is nobody there");
    assert_eq!(wide.rights("", "ci"), Rights::default());
}

#[test]
fn a_role_that_is_not_there_grants_nothing() {
    let ci = || account("payments", "ci");
    let local = |namespace: &str| role(namespace, "edit", json!([rule("", "pods", "create")]));
    let dangling = [
        vec![binding("payments", "b", ("ClusterRole", "edit"), ci())],
        vec![local("payments"), binding("payments", "b", ("ClusterRole", "edit"), ci())],
        vec![patching(), binding("payments", "b", ("Role", "edit"), ci())],
        vec![local("orders"), binding("payments", "b", ("Role", "edit"), ci())],
        vec![patching(), local("payments"), binding("", "b", ("Role", "edit"), ci())],
    ];
    for objects in dangling {
        let names: Vec<_> = objects.iter().map(|(kind, o)| (*kind, o.metadata.namespace.clone())).collect();
        assert_eq!(grants(objects).rights("payments", "ci"), Rights::default(), "{names:?}");
    }
}

#[test]
fn the_widest_grant_is_shown_and_the_others_are_counted() {
    let ci = || account("payments", "ci");
    let mut objects = vec![
        patching(),
        role("", "admin", json!([rule("*", "*", "*")])),
        binding("payments", "b", ("ClusterRole", "edit"), ci()),
        binding("payments", "a", ("ClusterRole", "edit"), ci()),
    ];
    let shown = |objects: &[(RbacKind, DynamicObject)]| grants(objects.to_vec()).rights("payments", "ci");
    let text =
        "patch deployments.apps, by ClusterRole edit through RoleBinding a in payments, and through 1 more binding";
    assert_eq!(shown(&objects).writes.unwrap(), text);
    objects.push(binding("orders", "z", ("ClusterRole", "edit"), ci()));
    let text = "patch deployments.apps, by ClusterRole edit through RoleBinding a in payments, and through 1 more binding, \
        and change something in other namespaces";
    assert_eq!(shown(&objects).writes.unwrap(), text);
    objects.push(binding("payments", "own", ("ClusterRole", "admin"), ci()));
    let text = "do anything (*), by ClusterRole admin through RoleBinding own in payments, and through 2 more bindings, \
        and change something in other namespaces";
    assert_eq!(shown(&objects).writes.unwrap(), text);
    assert!(shown(&objects).reads_secrets.unwrap().contains("RoleBinding own in payments"));
    assert_eq!(shown(&objects).cluster_scope.unwrap(), "change something in other namespaces");
    objects.push(role("", "spy", json!([rule("", "secrets", "list")])));
    objects.push(binding(
        "",
        "spy",
        ("ClusterRole", "spy"),
        json!({"kind": "Group", "name": "system:serviceaccounts"}),
    ));
    let rights = shown(&objects);
    let text =
        "list secrets, by ClusterRole spy through ClusterRoleBinding spy, cluster-wide, and through 1 more binding";
    assert_eq!(rights.reads_secrets.as_deref(), Some(text));
    let text = "list secrets, by ClusterRole spy through ClusterRoleBinding spy, cluster-wide";
    assert_eq!(rights.cluster_scope.as_deref(), Some(text), "every namespace is farther than one other");
}

#[test]
fn what_others_grant_in_their_own_namespaces_changes_little() {
    let everybody = || json!({"kind": "Group", "name": "system:serviceaccounts"});
    let ci = || account("payments", "ci");
    let named =
        json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["patch"], "resourceNames": ["leader"]});
    let base = [
        patching(),
        role("", "admin", json!([rule("*", "*", "*")])),
        role("", "narrow", json!([named])),
        binding("payments", "b", ("ClusterRole", "edit"), ci()),
        binding("orders", "z", ("ClusterRole", "edit"), ci()),
    ];
    let with = |more: &[(RbacKind, DynamicObject)]| grants([&base[..], more].concat()).rights("payments", "ci");
    let before = with(&[]);
    for role in ["edit", "narrow"] {
        let same = with(&[
            binding("a", "x", ("ClusterRole", role), everybody()),
            binding("b", "x", ("ClusterRole", role), ci()),
        ]);
        assert_eq!(same, before, "{role}: neither how many there are, nor which, nor where");
    }
    let wider = with(&[binding("a", "x", ("ClusterRole", "admin"), everybody())]);
    assert_ne!(wider.fingerprint, before.fingerprint);
    assert_eq!(wider.cluster_scope.as_deref(), Some("do anything (*) in other namespaces"));
    // What holds everywhere says more than what holds somewhere.
    let wide = with(&[binding("", "x", ("ClusterRole", "edit"), ci())]);
    let text = "patch deployments.apps, by ClusterRole edit through ClusterRoleBinding x, cluster-wide, and through 1 more binding";
    assert_eq!(wide.writes.as_deref(), Some(text));
    // In its own namespace, everything counts.
    assert_ne!(with(&[binding("payments", "x", ("ClusterRole", "narrow"), ci())]).fingerprint, before.fingerprint);
}

#[test]
fn what_is_swapped_behind_the_same_words_is_a_change() {
    let rule = |resources: &[&str], verb: &str| json!({"apiGroups": [""], "resources": resources, "verbs": [verb]});
    let named = |verb: &str, names: &[&str]| json!({"apiGroups": [""], "resources": ["secrets"], "verbs": [verb], "resourceNames": names});
    let table = [
        (rule(&["configmaps", "events"], "create"), rule(&["configmaps", "leases"], "create")),
        (named("update", &["a", "b"]), named("update", &["a", "root-creds"])),
        (named("get", &["a", "b"]), named("get", &["a", "root-creds"])),
    ];
    for (before, after) in table {
        let mut known = grants([
            role("payments", "r", json!([before])),
            binding("payments", "b", ("Role", "r"), account("payments", "ci")),
        ]);
        let had = known.rights("payments", "ci");
        known.take_touched();
        let (kind, object) = role("payments", "r", json!([after]));
        assert!(known.set(kind, &object) && known.take_touched().concerns("payments", "ci"), "{after}");
        let has = known.rights("payments", "ci");
        assert_ne!(has.fingerprint, had.fingerprint, "{after}");
        assert_eq!(said(has), said(had), "the words do not show it: {after}");
    }
}

#[test]
fn only_what_rights_rest_on_is_a_change_and_it_concerns_only_whom_it_names() {
    let mut known = Grants::default();
    let (kind, mut edit) = patching();
    assert!(known.set(kind, &edit));
    assert!(known.take_touched().is_empty(), "nobody has it yet");
    let (kind_b, mut bound) = binding("payments", "b", ("ClusterRole", "edit"), account("payments", "ci"));
    assert!(known.set(kind_b, &bound));
    let touched = known.take_touched();
    assert!(
        touched.concerns("payments", "ci") && !touched.concerns("payments", "x") && !touched.concerns("orders", "ci")
    );
    for object in [&mut edit, &mut bound] {
        object.metadata.annotations = Some([("seen".to_string(), "now".to_string())].into());
        object.metadata.resource_version = Some("9".into());
    }
    assert!(!known.set(kind, &edit) && !known.set(kind_b, &bound) && known.take_touched().is_empty());
    edit.data["rules"] = json!([rule("apps", "deployments", "patch"), rule("", "pods", "list")]);
    assert!(!known.set(kind, &edit), "a rule that only reads");
    edit.data["rules"] = json!([rule("apps", "deployments", "delete")]);
    assert!(known.set(kind, &edit) && known.take_touched().concerns("payments", "ci"));
    known.remove(RbacKind::Role, "payments", "edit");
    known.remove(RbacKind::RoleBinding, "orders", "b");
    assert!(known.take_touched().is_empty(), "others of the same names");
    known.remove(kind, "", "edit");
    assert!(known.take_touched().concerns("payments", "ci"));
    known.remove(kind_b, "payments", "b");
    assert!(known.take_touched().concerns("payments", "ci"));
    assert!(RbacKind::ALL.iter().all(|kind| known.names(*kind).next().is_none()));
    assert!(known.by_role.is_empty() && known.by_subject.is_empty(), "nothing is left behind");
}

#[test]
fn what_gives_service_accounts_nothing_is_not_kept() {
    let known = grants([
        role("", "view", json!([rule("", "pods", "list")])),
        patching(),
        binding("", "people", ("ClusterRole", "edit"), json!({"kind": "Group", "name": "sre"})),
        binding("", "ci", ("ClusterRole", "edit"), account("payments", "ci")),
    ]);
    let names = |kind| known.names(kind).collect::<Vec<_>>();
    assert_eq!(names(RbacKind::ClusterRole), [("", "edit")]);
    assert_eq!(names(RbacKind::ClusterRoleBinding), [("", "ci")]);
    assert!(names(RbacKind::Role).is_empty() && names(RbacKind::RoleBinding).is_empty());
}

#[test]
fn words_of_tenants_in_a_grant_stay_short_and_on_one_line() {
    let long = format!("\n\u{1b}[2J{}", "x".repeat(250));
    let mut named = rule(&long, &long, &long);
    named["resourceNames"] = json!([long]);
    let known = grants([
        role("payments", &long, json!([named])),
        binding("payments", &long, ("Role", &long), account("payments", "ci")),
    ]);
    let text = known.rights("payments", "ci").writes.unwrap();
    assert!(text.chars().count() <= 420 && !text.contains(char::is_control), "{text}");
    let everywhere = binding("orders", "x", ("ClusterRole", "edit"), account("payments", "ci"));
    let more = grants([
        role("payments", &long, json!([named])),
        binding("payments", &long, ("Role", &long), account("payments", "ci")),
        binding("payments", "z", ("Role", &long), account("payments", "ci")),
        patching(),
        everywhere,
    ]);
    let text = more.rights("payments", "ci").writes.unwrap();
    let end = ", and through 1 more binding, and change something in other namespaces";
    assert!(text.chars().count() <= 420 && text.ends_with(end), "{text}");
}

/// Five thousand bindings, as in a big cluster.
#[test]
fn rights_cost_microseconds_with_thousands_of_bindings() {
    let mut known = Grants::default();
    for n in 0..2000 {
        let (kind, object) = role("", &format!("role-{n}"), json!([rule("apps", "deployments", "patch")]));
        known.set(kind, &object);
    }
    for n in 0..5000 {
        let (namespace, role) = (format!("ns-{}", n % 500), format!("role-{}", n % 2000));
        let subject = account(&namespace, &format!("ci-{}", n % 7));
        let (kind, object) = binding(&namespace, &format!("b-{n}"), ("ClusterRole", &role), subject);
        known.set(kind, &object);
    }
    let began = std::time::Instant::now();
    for n in 0..1000 {
        let rights = known.rights(&format!("ns-{}", n % 500), &format!("ci-{}", n % 7));
        assert!(rights.writes.is_some());
    }
    let each = began.elapsed() / 1000;
    println!("rights with 5000 bindings: {each:?}");
    assert!(each.as_micros() < 1000, "{each:?}");
}
