//! Verdicts on Jobs that are created.

use crate::admission::tests::{View, ask_at, put, refusal, review_of, rule, settled, view};
use crate::lifecycle::Surroundings;
use crate::risk::Rights;
use serde_json::{Value, json};
use std::sync::Arc;

const JOBS: (&str, &str, &str) = ("batch", "v1", "jobs");
const BY: &str = "/metadata/annotations/countersign.dev~1created-by";

fn job() -> Value {
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "remediate", "namespace": "payments"},
        "spec": {"suspend": false, "template": {"metadata": {}, "spec": {"containers": [{"name": "main"}]}}}})
}

fn claiming(key: &str, value: impl Into<Value>) -> Value {
    put(job(), &format!("/metadata/annotations/countersign.dev~1{key}"), value.into())
}

fn create(user: &str, job: Value) -> Value {
    review_of(JOBS, "CREATE", user, Value::Null, job)
}

fn approve_writes() -> View {
    view(json!([rule("prod-write", "RequireApproval", json!({"riskTags": ["prod", "write"]}))]))
}

fn never() -> View {
    view(json!([rule("never-in-prod", "Deny", json!({"riskTags": ["prod"]}))]))
}

async fn warnings(view: View, job: Value) -> Value {
    settled(view, create("triage", job)).await.0["warnings"].clone()
}

#[tokio::test]
async fn a_job_is_held_and_its_creator_stamped_whatever_it_says() {
    let forged = put(
        put(claiming("created-by", "admin"), "/metadata/annotations/countersign.dev~1created-by-groups", json!("x")),
        "/metadata/annotations/mine",
        json!("stays"),
    );
    let mut bare = job();
    bare["spec"].as_object_mut().unwrap().remove("suspend");
    let null = put(job(), "/metadata/annotations", Value::Null);
    for job in [job(), bare, null, forged] {
        let kept = job.pointer("/metadata/annotations/mine").cloned();
        let (_, held) = settled(approve_writes(), create("mallory", job)).await;
        assert_eq!(held["spec"]["suspend"], true);
        let annotations = &held["metadata"]["annotations"];
        assert_eq!(held.pointer(BY), Some(&json!("mallory")));
        assert_eq!(annotations["countersign.dev/created-by-uid"], "");
        assert_eq!(annotations["countersign.dev/created-by-groups"], "sre\nstaff");
        assert_eq!(annotations.get("mine"), kept.as_ref());
    }
}

#[tokio::test]
async fn what_is_held_and_stamped_already_is_left_alone() {
    let mut asked = create("triage", put(job(), "/spec/suspend", json!(true)));
    asked["request"]["userInfo"] = json!({"username": "triage", "uid": "u7"});
    for (key, value) in [("created-by", "triage"), ("created-by-uid", "u7"), ("created-by-groups", "")] {
        asked["request"]["object"]["metadata"]["annotations"][format!("countersign.dev/{key}")] = json!(value);
    }
    let (response, _) = ask_at("/admit", approve_writes(), asked).await;
    assert_eq!((&response["allowed"], response.get("patch")), (&json!(true), None));
}

#[tokio::test]
async fn a_warning_says_what_a_held_job_waits_for_and_an_allowed_one_has_none() {
    let risky = claiming("risk-tags", "prod,write");
    assert_eq!(
        warnings(approve_writes(), risky.clone()).await,
        json!(["held until approved: rule production/prod-write requires approval; see kubectl get apr -n payments"])
    );
    assert_eq!(
        warnings(approve_writes(), job()).await,
        json!(["held: no policy has a rule for this Job; ask the platform team for one"])
    );
    let allow = view(json!([rule("drills", "Allow", json!({"requesters": [{"kind": "Group", "name": "sre"}]}))]));
    assert_eq!(warnings(allow.clone(), risky.clone()).await, Value::Null);
    let own = claiming("request", "run-8f9a");
    assert_eq!(
        warnings(allow.clone(), own).await,
        json!(["held until request run-8f9a in namespace payments is approved"])
    );
    let broken = view(json!([{"name": "r", "decision": "RequireApproval"}]));
    let found = warnings(broken, risky.clone()).await;
    assert!(found[0].as_str().unwrap().starts_with("held: policy production does not compile"), "{found}");
    // The namespace is younger than the cache: held, and judged when it is seen.
    let unknown = View { labels: None, ..allow };
    let found = warnings(unknown, risky).await;
    assert!(found[0].as_str().unwrap().starts_with("held until approved: namespace payments is new"), "{found}");
}

#[tokio::test]
async fn what_is_allowed_and_has_to_wait_says_for_what() {
    // Two rules, since the windows of one must leave an opening: at any time one of them holds.
    let always = [("0 0 * * *", 43_200), ("0 12 * * *", 43_260)].map(|(start, seconds)| {
        let window = json!({"name": "always", "start": start, "durationSeconds": seconds});
        json!({"name": format!("from-{seconds}"), "decision": "Allow", "freezeWindows": [window]})
    });
    let found = warnings(view(json!(always)), job()).await;
    let expected = "held: it is allowed, and waits for the end of freeze window always of rule production/from-";
    assert!(found[0].as_str().unwrap().starts_with(expected), "{found}");
    let later = view(json!([{"name": "reads", "decision": "Allow", "notBeforeSeconds": 60}]));
    assert_eq!(
        warnings(later, job()).await,
        json!(["held: it is allowed, and starts no sooner than 60 s from now; see kubectl get apr -n payments"])
    );
}

#[tokio::test]
async fn risk_is_derived_from_what_is_created_and_from_what_surrounds_it() {
    let deny = json!([{"name": "writes", "when": {"riskTags": ["write", "secrets"]}, "decision": "Deny"},
        {"name": "rest", "decision": "Allow"}]);
    let rights = Rights { writes: Some("patch deployments.apps, by Role w".into()), ..Rights::default() };
    let surroundings = Surroundings { rights: Arc::new(rights), ..Surroundings::default() };
    let knowing = View { surroundings, ..view(deny.clone()) };
    let mut mounting = job();
    mounting["spec"]["template"]["spec"]["volumes"] = json!([{"name": "db", "secret": {"secretName": "db"}}]);
    assert_eq!(warnings(knowing.clone(), job()).await, Value::Null, "it writes, and uses no Secret");
    assert_eq!(warnings(view(deny), mounting.clone()).await, Value::Null, "it uses a Secret, and may write nothing");
    let (code, message) = refusal(knowing, create("triage", mounting)).await;
    assert!(code == 403 && message.contains("denied by rule production/writes"), "{message}");
}

#[tokio::test]
async fn denied_by_policy_names_the_rule_and_dry_run_is_told_the_same() {
    let expected = "denied by rule production/never-in-prod: prod write detected; nothing was created.";
    let mut asked = create("triage", claiming("risk-tags", "prod"));
    for dry_run in [false, true] {
        asked["request"]["dryRun"] = json!(dry_run);
        let (code, message) = refusal(never(), asked.clone()).await;
        assert!(code == 403 && message.starts_with(expected), "{message}");
    }
    // The claim that the gate's own request will make where the Job makes none.
    let by_name = view(json!([rule("by-name", "Deny", json!({"requestedBy": ["job/remediate*"]}))]));
    let mut generated = create("triage", put(job(), "/metadata/generateName", json!("remediate-")));
    generated["request"]["object"]["metadata"]["name"] = json!("");
    for asked in [create("triage", job()), generated] {
        assert!(refusal(by_name.clone(), asked).await.1.contains("production/by-name"));
    }
    settled(by_name, create("triage", claiming("requested-by", "workflow.incident"))).await;
    let four: Vec<Value> = ["a", "b", "c", "d"].iter().map(|name| rule(name, "Deny", json!({}))).collect();
    let (_, message) = refusal(view(json!(four)), create("triage", job())).await;
    assert!(message.contains("production/c: prod write detected and 1 more; nothing was created"), "{message}");
}

/// What the operator asks for in the name of a CronJob is judged by that name here, too. An owner that anybody but the
/// controller names proves nothing.
#[tokio::test]
async fn a_job_of_a_cron_job_is_judged_by_the_cron_jobs_name() {
    let controllers = ["system:serviceaccount:kube-system:cronjob-controller", "system:kube-controller-manager"];
    let owner =
        json!([{"apiVersion": "batch/v1", "kind": "CronJob", "name": "nightly", "uid": "c", "controller": true}]);
    let of_cron_job = put(job(), "/metadata/ownerReferences", owner);
    let deny = |pattern: &str| view(json!([rule("by-name", "Deny", json!({"requestedBy": [pattern]}))]));
    for controller in controllers {
        let asked = || create(controller, of_cron_job.clone());
        assert!(refusal(deny("cronjob/*"), asked()).await.1.contains("production/by-name"));
        assert!(refusal(deny("cronjob/nightly"), asked()).await.1.contains("production/by-name"));
        settled(deny("job/*"), asked()).await;
        // What it claims comes first, as it does later.
        let claims =
            put(of_cron_job.clone(), "/metadata/annotations/countersign.dev~1requested-by", json!("workflow.x"));
        settled(deny("cronjob/*"), create(controller, claims.clone())).await;
        assert!(refusal(deny("workflow.*"), create(controller, claims)).await.1.contains("production/by-name"));
    }
    settled(deny("cronjob/*"), create("mallory", of_cron_job.clone())).await;
    assert!(refusal(deny("job/remediate"), create("mallory", of_cron_job.clone())).await.1.contains("by-name"));
    let mut loose = of_cron_job;
    loose["metadata"]["ownerReferences"][0]["controller"] = json!(false);
    settled(deny("cronjob/*"), create(controllers[0], loose)).await;
}

/// The request that a Job names makes its own claims. Only what holds whatever they are is refused early.
#[tokio::test]
async fn a_job_that_names_its_request_is_denied_early_on_facts_alone() {
    let own = put(claiming("request", "run-8f9a"), "/metadata/annotations/countersign.dev~1risk-tags", json!("prod"));
    settled(never(), create("triage", own.clone())).await;
    let by_name = view(json!([rule("by-name", "Deny", json!({"requestedBy": ["job/*"]}))]));
    settled(by_name, create("triage", own.clone())).await;
    let people = view(json!([rule("no-staff", "Deny", json!({"requesters": [{"kind": "Group", "name": "staff"}]}))]));
    assert!(refusal(people, create("triage", own)).await.1.contains("production/no-staff"));
}

#[tokio::test]
async fn nothing_is_decided_before_the_policies_are_read() {
    let (response, _) = ask_at("/admit", View::default(), create("triage", job())).await;
    assert_eq!(
        response["status"],
        json!({"code": 503, "reason": "ServiceUnavailable", "details": {"retryAfterSeconds": 1},
            "message": "Countersign has not read all policies yet; try again in a moment"})
    );
}

#[tokio::test]
async fn names_that_cannot_be_kept_are_refused() {
    let with = |username: &str, groups: Value| {
        let mut asked = create(username, job());
        asked["request"]["userInfo"]["groups"] = groups;
        asked
    };
    let many: Vec<String> = (0..257).map(|i| format!("g{i}")).collect();
    for (asked, expected) in [
        (with("mallory", json!(["staff\nsre"])), "one of your groups is empty, longer than 256 characters or contains"),
        (with("mallory", json!(["staff", ""])), "one of your groups is empty"),
        (with("mallory", json!(["x".repeat(257)])), "longer than 256 characters"),
        (with("mallory", json!(many)), "you are in 257 groups, and 256 is the most"),
        (with("mallory\nalice", json!([])), "your username is longer than 512 characters or contains a line break"),
        (with(&"x".repeat(513), json!([])), "your username is longer than 512"),
        (with("", json!([])), "the API server named no caller"),
    ] {
        let (code, message) = refusal(approve_writes(), asked).await;
        assert!(code == 403 && message.contains(expected), "{message}");
        assert!(message.contains("Use another identity"), "{message}");
    }
    settled(approve_writes(), with(&"é".repeat(512), json!(vec!["é".repeat(256); 256]))).await;
}

#[tokio::test]
async fn claims_that_no_request_could_make_are_refused() {
    for (key, value, expected) in [
        ("reason", json!(""), "annotation countersign.dev/reason: \"\" is not a reason: it takes 1 to 1024 characters"),
        ("reason", json!("x".repeat(1025)), "is not a reason"),
        ("reason", json!(7), "\"7\" is not a reason"),
        ("risk-tags", json!(""), "is not a comma-separated list of at most 32 tags"),
        ("risk-tags", json!("prod, write"), "\"prod, write\" is not a comma-separated list"),
        ("risk-tags", json!("prod,"), "is not a comma-separated list"),
        ("risk-tags", json!("Prod"), "is not a comma-separated list"),
        ("risk-tags", json!("-prod"), "is not a comma-separated list"),
        ("risk-tags", json!("x".repeat(64)), "is not a comma-separated list"),
        ("risk-tags", json!(["x"; 33].join(",")), "is not a comma-separated list"),
        ("requested-by", json!("two words"), "is not a workflow's name"),
        ("requested-by", json!("\u{430}lice"), "is not a workflow's name"),
        ("requested-by", json!("x".repeat(254)), "is not a workflow's name"),
        ("request", json!("Run"), "is not the name of an ApprovalRequest"),
        ("request", json!("a..b"), "is not the name of an ApprovalRequest"),
        ("request", json!("x".repeat(254)), "is not the name of an ApprovalRequest"),
        ("request", json!("a\u{1b}[2J"), "\"a\\u{1b}[2J\" is not the name"),
    ] {
        let (code, message) = refusal(approve_writes(), create("triage", claiming(key, value))).await;
        assert!(code == 422 && message.contains(expected), "{message}");
    }
    for (key, value) in [
        ("reason", "é".repeat(1024)),
        ("risk-tags", "a,a.b_c-d,9".into()),
        ("risk-tags", vec!["x".repeat(63); 32].join(",")),
        ("requested-by", "!~".into()),
        ("request", "run-8f9a.remediate".into()),
    ] {
        settled(approve_writes(), create("triage", claiming(key, value))).await;
    }
}

#[tokio::test]
async fn what_countersign_writes_cannot_be_brought_along() {
    for key in ["receipt", "constraints", "released", "closed", "override-reason", "overridden-by", "", "new"] {
        let (code, message) = refusal(approve_writes(), create("mallory", claiming(key, "x"))).await;
        let expected = format!("metadata.annotations: \"countersign.dev/{key}\" is written by Countersign alone");
        assert!(code == 403 && message.starts_with(&expected), "{message}");
    }
    for map in ["/metadata/labels", "/spec/template/metadata/annotations", "/spec/template/metadata/labels"] {
        for key in ["receipt", "held", "reason", "created-by"] {
            let forged = put(job(), &format!("{map}/countersign.dev~1{key}"), json!("x"));
            let (code, message) = refusal(approve_writes(), create("mallory", forged)).await;
            let path = map[1..].replace('/', ".");
            assert!(code == 403 && message.starts_with(&format!("{path}: \"countersign.dev/{key}\"")), "{message}");
        }
    }
    // A CronJob's author comes along with its Jobs.
    settled(approve_writes(), create("triage", claiming("authored-by", "alice"))).await;
    // What only looks like ours.
    let alike = put(job(), "/metadata/labels", json!({"countersign.devel/x": "y", "x.countersign.dev/held": "y"}));
    settled(approve_writes(), create("triage", alike)).await;
}

#[tokio::test]
async fn a_gate_that_warns_refuses_nothing_and_changes_nothing() {
    let long = "é\u{1b}".repeat(600);
    let mut rules = rule("long", "Deny", json!({"riskTags": ["long"]}));
    rules["reason"] = json!("\u{1b}[2Jé".repeat(50));
    for (view, job, expected) in [
        (never(), claiming("risk-tags", "prod"), "would be denied by rule production/never-in-prod: prod write"),
        (
            approve_writes(),
            claiming("risk-tags", "prod,write"),
            "would be held until approved: rule production/prod-write",
        ),
        (approve_writes(), job(), "would be held: no policy has a rule for this Job"),
        (approve_writes(), claiming("reason", long), "would be refused: annotation countersign.dev/reason: \"é\\u{1b}"),
        (approve_writes(), claiming("receipt", "x"), "would be refused: metadata.annotations"),
        (
            approve_writes(),
            put(job(), "/spec/template/metadata/labels/countersign.dev~1held", json!("x")),
            "would be refused: spec.template.metadata.labels",
        ),
        (view(json!([rules])), claiming("risk-tags", "long"), "would be denied by rule production/long: \\u{1b}[2Jé"),
    ] {
        let (response, _) = ask_at("/admit/warn", view, create("triage", job)).await;
        assert_eq!((&response["allowed"], response.get("patch")), (&json!(true), None));
        let warning = response["warnings"][0].as_str().unwrap();
        assert!(warning.starts_with("with the gate enforced, this Job ") && warning.contains(expected), "{warning}");
        assert!(warning.len() <= 256 && !warning.contains(char::is_control), "{warning}");
    }
    let allow = view(json!([rule("drills", "Allow", json!({}))]));
    for (view, asked) in [
        (allow, create("triage", job())),
        (View::default(), create("triage", job())),
        (never(), review_of(("", "v1", "pods"), "CREATE", "triage", Value::Null, job())),
    ] {
        let (response, _) = ask_at("/admit/warn", view, asked).await;
        assert_eq!(response, json!({"uid": "u", "allowed": true}));
    }
}
