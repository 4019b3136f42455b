use super::*;
use serde_json::json;

fn powers(rules: Value) -> Powers {
    Powers::of(&rules)
}

fn rule(groups: &[&str], resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": groups, "resources": resources, "verbs": verbs})
}

fn writes(rule: Value) -> Option<String> {
    powers(json!([rule])).writes.map(|power| power.text())
}

fn reads(rule: Value) -> Option<String> {
    powers(json!([rule])).reads.map(|power| power.text())
}

#[test]
fn what_changes_something_is_a_write() {
    let mut named = rule(&["apps"], &["deployments"], &["patch"]);
    named["resourceNames"] = json!(["web", "api", "db"]);
    let mut one = rule(&[""], &["configmaps"], &["update"]);
    one["resourceNames"] = json!(["leader"]);
    let table = [
        (rule(&["apps"], &["deployments"], &["patch"]), "patch deployments.apps"),
        (rule(&[""], &["pods"], &["get", "create", "delete", "list"]), "create, delete pods"),
        (rule(&[""], &["pods"], &["deletecollection"]), "deletecollection pods"),
        (rule(&[""], &["pods/exec"], &["create"]), "create pods/exec"),
        (rule(&[""], &["serviceaccounts/token"], &["create"]), "create serviceaccounts/token"),
        (
            rule(&["authorization.k8s.io"], &["subjectaccessreviews"], &["create"]),
            "create subjectaccessreviews.authorization.k8s.io",
        ),
        (rule(&["authentication.k8s.io"], &["tokenreviews"], &["create"]), "create tokenreviews.authentication.k8s.io"),
        (rule(&["", "apps"], &["pods", "deployments"], &["patch"]), "patch deployments and 3 more"),
        (rule(&["*"], &["*"], &["*"]), "do anything (*)"),
        (rule(&["*", "apps"], &["*", "pods"], &["*", "get"]), "do anything (*)"),
        (rule(&["apps"], &["*"], &["*"]), "do anything (*) to everything (*) in apps"),
        (rule(&[""], &["*"], &["patch"]), "patch everything (*) in the core group"),
        (rule(&["apps"], &["deployments"], &["*"]), "do anything (*) to deployments.apps"),
        (rule(&["*"], &["deployments"], &["patch"]), "patch deployments.*"),
        (
            rule(&["rbac.authorization.k8s.io"], &["clusterroles"], &["escalate"]),
            "escalate clusterroles.rbac.authorization.k8s.io",
        ),
        (rule(&[""], &["users"], &["impersonate"]), "impersonate users"),
        (rule(&["certificates.k8s.io"], &["signers"], &["approve"]), "approve signers.certificates.k8s.io"),
        (rule(&["example.com"], &["widgets"], &["spin"]), "spin widgets.example.com"),
        (rule(&["example.com"], &["widgets"], &["use"]), "use widgets.example.com"),
        (rule(&["countersign.dev"], &["approvalrequests"], &["override"]), "override approvalrequests.countersign.dev"),
        (
            rule(&["countersign.dev"], &["approvalrequests"], &["delete", "create"]),
            "delete approvalrequests.countersign.dev",
        ),
        (
            rule(&["countersign.dev"], &["approvalrequests"], &["*"]),
            "do anything (*) to approvalrequests.countersign.dev",
        ),
        (
            rule(&["countersign.dev"], &["approvalrequests/status"], &["patch"]),
            "patch approvalrequests/status.countersign.dev",
        ),
        (rule(&["countersign.dev"], &["*"], &["create"]), "create everything (*) in countersign.dev"),
        (
            rule(&["countersign.dev"], &["approvalpolicies", "approvalrequests"], &["create"]),
            "create approvalpolicies.countersign.dev",
        ),
        (rule(&["*"], &["selfsubjectaccessreviews"], &["create"]), "create selfsubjectaccessreviews.*"),
        (named, "patch deployments.apps named api (or 2 more names)"),
        (one, "update configmaps named leader"),
        // A connection into a container begins with a GET.
        (rule(&[""], &["pods", "pods/exec"], &["get"]), "get pods/exec"),
        (rule(&[""], &["nodes/proxy"], &["get"]), "get nodes/proxy"),
        (rule(&[""], &["*/exec"], &["get"]), "get */exec"),
        (rule(&["*"], &["*"], &["get", "list", "watch"]), "get pods/exec (by *)"),
    ];
    for (rule, expected) in table {
        assert_eq!(writes(rule.clone()).as_deref(), Some(expected), "{rule}");
    }
}

#[test]
fn a_review_is_a_change_and_asking_is_none() {
    let requests = |verbs: &[&str]| rule(&["countersign.dev"], &["approvalrequests"], verbs);
    let text = |rules: Value| powers(rules).writes.map(|power| power.text());
    let review = "patch approvalrequests.countersign.dev";
    assert_eq!(text(json!([requests(&["get", "patch"])])).as_deref(), Some(review));
    assert_eq!(text(json!([requests(&["update"])])).as_deref(), Some("update approvalrequests.countersign.dev"));
    assert_eq!(text(json!([requests(&["create"]), requests(&["patch", "update"])])), None, "a requester's role");
    let mut named = requests(&["create"]);
    named["resourceNames"] = json!(["x"]);
    assert_eq!(text(json!([named, requests(&["patch"])])).as_deref(), Some(review), "by name nobody creates");
    let all = json!([requests(&["create"]), rule(&["*"], &["approvalrequests"], &["patch"])]);
    assert_eq!(text(all).as_deref(), Some("patch approvalrequests.*"));
}

#[test]
fn what_reaches_farthest_is_shown_first() {
    let named = |mut rule: Value, name: &str| {
        rule["resourceNames"] = json!([name]);
        rule
    };
    let text = |rules: &[Value]| powers(json!(rules)).writes.unwrap().text();
    let small = || rule(&[""], &["configmaps"], &["update"]);
    let roles = "rbac.authorization.k8s.io";
    // Each is wider than those behind it.
    let order = [
        (rule(&["*"], &["*"], &["*"]), "do anything (*)"),
        (rule(&[""], &["*"], &["*"]), "do anything (*) to everything (*) in the core group"),
        (rule(&[roles], &["clusterroles"], &["bind"]), "bind clusterroles.rbac.authorization.k8s.io"),
        (
            named(rule(&[roles], &["clusterroles"], &["escalate"]), "cluster-admin"),
            "escalate clusterroles.rbac.authorization.k8s.io named cluster-admin",
        ),
        (rule(&[""], &["*"], &["create"]), "create everything (*) in the core group"),
        (rule(&[""], &["pods/exec"], &["create"]), "create pods/exec"),
        (
            named(rule(&[""], &["serviceaccounts/token"], &["create"]), "root"),
            "create serviceaccounts/token named root",
        ),
        (rule(&["example.com"], &["*"], &["create"]), "create everything (*) in example.com"),
        (rule(&["apps"], &["deployments"], &["*"]), "do anything (*) to deployments.apps"),
        (small(), "update configmaps"),
        (named(rule(&["apps"], &["deployments"], &["*"]), "web"), "do anything (*) to deployments.apps named web"),
    ];
    for (n, (wide, expected)) in order.iter().enumerate() {
        for (narrow, _) in &order[n + 1..] {
            let shown = text(&[narrow.clone(), wide.clone()]);
            assert!(shown == *expected || shown.starts_with(&format!("{expected} and ")), "{shown}, not {expected}");
        }
    }
    for (group, resource, verb) in [
        ("", "pods/attach", "create"),
        ("", "pods/ephemeralcontainers", "patch"),
        ("", "pods/portforward", "create"),
        ("", "nodes/proxy", "create"),
        ("", "pods/proxy", "create"),
        ("", "services/proxy", "create"),
        ("certificates.k8s.io", "certificatesigningrequests/approval", "update"),
        ("certificates.k8s.io", "signers", "approve"),
        (roles, "rolebindings", "create"),
        (roles, "clusterroles", "update"),
        ("countersign.dev", "approvalrequests", "override"),
        ("countersign.dev", "approvalpolicies", "update"),
    ] {
        // Within a rule as between rules.
        let shown = text(&[rule(&["", "apps", group], &["configmaps", "deployments", resource], &["a", verb])]);
        assert!(shown.contains(resource), "{shown}");
        let shown = text(&[small(), rule(&[group], &[resource], &[verb])]);
        assert!(shown.starts_with(&format!("{verb} {resource}")), "{shown}");
    }
    assert_eq!(text(&[rule(&[""], &["configmaps", "*/exec"], &["create"])]), "create */exec and 1 more");
    let many = rule(&[""], &["users"], &["a", "b", "c", "d", "e", "f", "g", "h", "impersonate"]);
    assert!(text(&[many]).starts_with("impersonate, a, b"), "what matters is not cut off");
    // What only sounds like it.
    assert_eq!(
        text(&[rule(&["example.com"], &["widgets"], &["bind"]), small()]),
        "bind widgets.example.com and 1 more"
    );
    assert_eq!(powers(json!([rule(&["example.com"], &["widgets"], &["bind"])])).writes.unwrap().breadth, Breadth::Some);
}

#[test]
fn what_changes_nothing_is_none() {
    let table = [
        json!({"nonResourceURLs": ["*"], "verbs": ["*"]}),
        json!(null),
        json!({"apiGroups": "apps", "resources": ["deployments"], "verbs": ["patch"]}),
        rule(&["apps"], &["deployments"], &[]),
        rule(&[], &["deployments"], &["patch"]),
        rule(&["apps"], &[], &["patch"]),
        rule(&["", "apps"], &["pods", "deployments", "pods/log", "secrets"], &["get", "list", "watch"]),
        rule(&["apps"], &["*"], &["get", "list", "watch"]),
        rule(&["*"], &["*"], &["list", "watch"]),
        rule(&[""], &["pods/exec"], &["list", "watch"]),
        rule(&["example.com"], &["pods/exec"], &["get"]),
        rule(&["authorization.k8s.io"], &["selfsubjectaccessreviews", "selfsubjectrulesreviews"], &["create"]),
        rule(&["authentication.k8s.io"], &["selfsubjectreviews"], &["create"]),
        rule(&["countersign.dev"], &["approvalrequests"], &["create", "get", "list", "watch", "update", "patch"]),
        rule(&["countersign.dev"], &["*"], &["get", "list"]),
        rule(&["security.openshift.io"], &["securitycontextconstraints"], &["use"]),
        rule(&["policy"], &["podsecuritypolicies"], &["use"]),
    ];
    for rule in table {
        assert_eq!(writes(rule.clone()), None, "{rule}");
    }
}

#[test]
fn reading_secrets_is_told_apart() {
    let mut named = rule(&[""], &["secrets"], &["get"]);
    named["resourceNames"] = json!(["db"]);
    let table = [
        (rule(&[""], &["secrets"], &["get"]), Some("get secrets")),
        (rule(&["", "apps"], &["secrets", "pods"], &["list", "watch"]), Some("list, watch secrets")),
        (rule(&["*"], &["secrets"], &["watch"]), Some("watch secrets")),
        (rule(&[""], &["*"], &["list"]), Some("list everything (*) in the core group, Secrets among it")),
        (rule(&["*"], &["*"], &["get"]), Some("get everything (*), Secrets among it")),
        (rule(&["*"], &["*"], &["*"]), Some("do anything (*)")),
        (rule(&[""], &["secrets"], &["*"]), Some("do anything (*) to secrets")),
        (named, Some("get secrets named db")),
        (rule(&[""], &["secrets"], &["create", "patch", "delete"]), None),
        (rule(&["apps"], &["secrets", "*"], &["get"]), None),
        (rule(&[""], &["secrets/status", "configmaps", "*/status"], &["get"]), None),
        (rule(&[""], &["Secrets"], &["get"]), None),
    ];
    for (rule, expected) in table {
        assert_eq!(reads(rule.clone()).as_deref(), expected, "{rule}");
    }
}

#[test]
fn the_widest_is_shown_and_the_rest_is_counted_whatever_the_order() {
    let rules = [
        rule(&["apps"], &["deployments"], &["patch"]),
        rule(&[""], &["configmaps"], &["create", "update", "get"]),
        rule(&["rbac.authorization.k8s.io"], &["roles"], &["bind"]),
        rule(&["countersign.dev"], &["approvalrequests"], &["create"]),
    ];
    let text = |rules: &[Value]| powers(json!(rules)).writes.unwrap().text();
    assert_eq!(text(&rules), "bind roles.rbac.authorization.k8s.io and 3 more");
    let mut reversed = rules.to_vec();
    reversed.reverse();
    reversed.push(rules[0].clone());
    assert_eq!(powers(json!(reversed)), powers(json!(rules)));
    assert_eq!(text(&rules[..2]), "create, update configmaps and 1 more");
    assert_eq!(text(&rules[..1]), "patch deployments.apps");
}

#[test]
fn the_hash_stands_for_all_that_they_let_do() {
    let hash = |rules: Value| powers(rules).writes.unwrap().hash;
    let update = |verbs: &[&str]| json!([rule(&[""], &["configmaps", "pods/exec"], verbs)]);
    assert_ne!(hash(update(&["update"])), hash(update(&["update", "get"])), "a get reaches into Pods");
    assert_eq!(hash(update(&["update", "list"])), hash(update(&["list", "update"])));
    let requests = rule(&["countersign.dev"], &["approvalpolicies", "approvalrequests"], &["patch"]);
    let create = rule(&["countersign.dev"], &["approvalrequests"], &["create"]);
    assert_ne!(hash(json!([requests])), hash(json!([requests, create])), "without create it is a review");
}

#[test]
fn hostile_rules_stay_short_and_cost_little() {
    let names = |n: usize| (0..n).map(|i| format!("{i}-\n{}", "x".repeat(60))).collect::<Vec<_>>();
    let huge = json!({"apiGroups": names(3000), "resources": names(3000), "verbs": names(3000)});
    let began = std::time::Instant::now();
    let power = powers(json!([huge])).writes.unwrap();
    assert!(began.elapsed().as_secs() < 2, "27 thousand million triples are not walked through");
    let text = power.text();
    assert!(text.chars().count() < 220 && !text.contains(char::is_control), "{text}");
    assert!(text.contains(" more"), "{text}");
}
