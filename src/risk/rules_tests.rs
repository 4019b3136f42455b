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
