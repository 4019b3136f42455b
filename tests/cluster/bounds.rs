//! Every bound, as the API server has it on the Job that runs.

use crate::support::{Space, by_sre, cluster, job};
use anyhow::{Context, Result};
use countersign_testbed::Identity;
use serde_json::{Value, json};

fn constraints() -> Value {
    json!({"maxRuntimeSeconds": 900, "maxRetries": 2, "maxParallelism": 3, "maxCpu": "500m", "maxMemory": "1Gi",
        "limits": {"maxLinesChanged": 500}})
}

/// The Job as it was released, once it was.
async fn released(space: &Space, alice: &Identity, name: &str, spec: Value, containers: [Value; 2]) -> Result<Value> {
    let mut body = job(name);
    body["spec"].as_object_mut().context("spec")?.extend(spec.as_object().cloned().unwrap_or_default());
    let [init, main] = containers;
    body["spec"]["template"]["spec"]["initContainers"] = json!([
        {"name": "fetch", "image": "localhost/fetch:1", "resources": init},
        {"name": "proxy", "image": "localhost/proxy:1", "restartPolicy": "Always"},
    ]);
    body["spec"]["template"]["spec"]["containers"][0]["resources"] = main;
    let create = space.triage.kubectl(["create", "--filename", "-", "--namespace", &space.namespace]);
    create.stdin(body.to_string()).ok().await?;
    space.request(name, Some(name)).await?;
    let digest = space.digest(name).await?;
    space.review(alice, name, "Approve", &digest).ok().await?;
    let done = space.state(name, "Released").await?;
    // The namespace is not gated: what the release sets can be set anew.
    let typed = ["maxRuntimeSeconds", "maxRetries", "maxParallelism", "maxCpu", "maxMemory"];
    let mut advisory: Vec<_> =
        typed.iter().map(|name| format!("{name} (set at release, can be changed later)")).collect();
    advisory.push("limits.maxLinesChanged".into());
    assert_eq!(done["status"]["advisory"], json!(advisory));
    let job = space.get("jobs", name).await?;
    assert_eq!(job["spec"]["suspend"], false);
    let told = job["spec"]["template"]["metadata"]["annotations"]["countersign.dev/constraints"].as_str();
    assert_eq!(serde_json::from_str::<Value>(told.context("annotation")?)?, constraints());
    Ok(job)
}

#[tokio::test]
async fn every_bound_holds_on_the_job_that_runs() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "bounds").await?;
    let alice = cluster.user("alice", &["sre"])?;
    let mut rules = by_sre();
    rules[0]["constraints"] = constraints();
    space.policy(rules).await?;
    let bounds = |job: &Value| {
        let field = |name: &str| job["spec"][name].clone();
        json!([field("activeDeadlineSeconds"), field("backoffLimit"), field("parallelism")])
    };
    let of =
        |job: &Value, list: &str, number: usize| job["spec"]["template"]["spec"][list][number]["resources"].clone();
    let bound = json!({"cpu": "500m", "memory": "1Gi"});

    // More than what is allowed: tightened, and requests come along.
    let more = json!({"activeDeadlineSeconds": 5000, "backoffLimit": 9, "parallelism": 7, "completions": 7});
    let above = json!({"limits": {"cpu": "4", "memory": "8Gi"}, "requests": {"cpu": "2", "memory": "64Mi"}});
    let job = released(&space, &alice, "more", more, [json!({"requests": {"memory": "2Gi"}}), above]).await?;
    assert_eq!(bounds(&job), json!([900, 2, 3]));
    assert_eq!(of(&job, "containers", 0), json!({"limits": bound, "requests": {"cpu": "500m", "memory": "64Mi"}}));
    assert_eq!(of(&job, "initContainers", 0), json!({"limits": bound, "requests": {"memory": "1Gi"}}));
    assert_eq!(of(&job, "initContainers", 1), json!({"limits": bound}), "sidecars too");

    // Less: kept.
    let less = json!({"activeDeadlineSeconds": 60, "backoffLimit": 1, "parallelism": 1});
    let below = json!({"limits": {"cpu": "100m", "memory": "64Mi"}});
    let job = released(&space, &alice, "less", less, [below.clone(), below.clone()]).await?;
    assert_eq!(bounds(&job), json!([60, 1, 1]));
    assert_eq!((of(&job, "initContainers", 0), of(&job, "containers", 0)), (below.clone(), below.clone()));

    // Indexes have retries of their own; all of them together stay within the bound.
    let indexed = json!({"completionMode": "Indexed", "completions": 5, "parallelism": 5, "backoffLimitPerIndex": 4,
        "maxFailedIndexes": 3});
    let job = released(&space, &alice, "indexed", indexed, [below.clone(), below.clone()]).await?;
    assert_eq!(bounds(&job), json!([900, 2, 3]));
    let own =
        ["completionMode", "completions", "backoffLimitPerIndex", "maxFailedIndexes"].map(|f| job["spec"][f].clone());
    assert_eq!(json!(own), json!(["Indexed", 5, 4, 3]), "what is not bounded stays");

    // Nothing said: set, beside what Kubernetes defaults.
    let job = released(&space, &alice, "nothing", json!({}), [json!({}), json!({})]).await?;
    assert_eq!(bounds(&job), json!([900, 2, 1]));
    assert_eq!(
        (of(&job, "initContainers", 0), of(&job, "containers", 0)),
        (json!({"limits": bound}), json!({"limits": bound}))
    );
    let pods = space.api("pods").list(&kube::api::ListParams::default().labels("job-name=nothing")).await?.items;
    let pod = serde_json::to_value(pods.first().context("a Pod")?)?;
    assert_eq!(pod["spec"]["containers"][0]["resources"]["limits"], bound, "the Pod is made with it");
    Ok(())
}

/// A Job and a request for it, that Job edited, and what the request says once it is evaluated.
async fn evaluated(space: &Space, name: &str, edit: impl FnOnce(&mut Value), reason: &str) -> Result<Value> {
    let mut body = job(name);
    edit(&mut body["spec"]);
    let create = space.triage.kubectl(["create", "--filename", "-", "--namespace", &space.namespace]);
    create.stdin(body.to_string()).ok().await?;
    space.request(name, Some(name)).await?;
    space.evaluated(name, reason).await
}

#[tokio::test]
async fn a_bound_that_cannot_be_kept_is_said_and_nothing_runs() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "bounds-shared").await?;
    let mut rules = by_sre();
    rules[0]["constraints"] = json!({"maxMemory": "1Gi", "maxRetries": 0, "maxRuntimeSeconds": 900});
    space.policy(rules).await?;
    let pages = json!({"memory": "1Gi", "hugepages-2Mi": "8Gi"});
    let cases: [(&str, Value, &str); 4] = [
        (
            "shared",
            json!({"resources": {"limits": {"memory": "2Gi"}, "requests": {"memory": "64Mi"}}}),
            "container main of Job shared has a memory limit of 2Gi, maxMemory is 1Gi",
        ),
        (
            "pages",
            json!({"containers": [{"name": "main", "image": "localhost/x:1", "resources": {"limits": pages, "requests": pages}}]}),
            "container main of Job pages asks for hugepages-2Mi of 8Gi, which maxMemory does not bound",
        ),
        (
            "again",
            json!({"restartPolicy": "OnFailure"}),
            "container main of Job again is started again where it fails (restartPolicy OnFailure)",
        ),
        (
            "slow",
            json!({"terminationGracePeriodSeconds": 86400}),
            "a Pod of Job slow may take 86400 s to stop (terminationGracePeriodSeconds), and maxRuntimeSeconds is 900",
        ),
    ];
    for (name, pod, text) in cases {
        let edit = |spec: &mut Value| {
            let template = spec["template"]["spec"].as_object_mut();
            template.into_iter().for_each(|spec| spec.extend(pod.as_object().cloned().unwrap_or_default()));
        };
        let held = evaluated(&space, name, edit, "ConstraintNotEnforceable").await?;
        let message = held["status"]["message"].as_str().unwrap_or_default();
        assert!(message.contains(text), "{text:?} in {message:?}");
        assert!(held["status"]["digest"].is_null() && !space.started(name).await?);
    }
    Ok(())
}

#[tokio::test]
async fn a_long_time_to_stop_comes_off_the_deadline() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "bounds-grace").await?;
    space.policy(by_sre()).await?;
    let alice = cluster.user("alice", &["sre"])?;
    let slow = |spec: &mut Value| spec["template"]["spec"]["terminationGracePeriodSeconds"] = json!(330);
    let bound = evaluated(&space, "slow", slow, "Bound").await?;
    assert_eq!(bound["status"]["target"]["bounds"]["activeDeadlineSeconds"], 600, "as it is shown");
    let digest = bound["status"]["digest"].as_str().context("digest")?;
    space.review(&alice, "slow", "Approve", digest).ok().await?;
    space.state("slow", "Released").await?;
    let job = space.get("jobs", "slow").await?;
    assert_eq!((&job["spec"]["suspend"], &job["spec"]["activeDeadlineSeconds"]), (&json!(false), &json!(600)));
    Ok(())
}

/// What cannot be listed in a status must not keep that status from being written.
#[tokio::test]
async fn more_limits_than_a_status_holds_end_in_a_message() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "bounds-limits").await?;
    let limits =
        |from: usize, to: usize| -> Value { (from..to).map(|n| (format!("limit-{n:02}"), json!(n))).collect() };
    let mut rules = by_sre();
    rules[0]["constraints"] = json!({"limits": limits(0, 17)});
    space.named_policy("limits-one", rules.clone()).await?;
    rules[0]["constraints"] = json!({"limits": limits(17, 33)});
    space.named_policy("limits-two", rules).await?;
    let held = evaluated(&space, "run", |_| {}, "TooManyLimits").await?;
    let message = held["status"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("33 names of limits") && message.contains("at most 32"), "{message}");
    assert_eq!(held["status"]["constraints"]["limits"].as_object().map(serde_json::Map::len), Some(32));
    assert!(held["status"]["digest"].is_null() && !space.started("run").await?);
    Ok(())
}
