//! People and workflows. They try again until it works, as people do, and look at a view that may be old.

use crate::choice::Choice;
use crate::known::text;
use crate::stage::{SPACES, Stage, rules};
use crate::story::{Deed, Story, start_of};
use crate::support::{create, job, merge, policy, request};
use crate::tally::Tally;
use anyhow::{Context, Result, bail, ensure};
use kube::Error;
use kube::api::{Api, DeleteParams, DynamicObject, Preconditions};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// How long one call may take: a webhook that hangs is waited for, and then it is tried again.
const CALL: Duration = Duration::from_secs(15);
/// How long anything may take, with all that goes wrong meanwhile: while a policy is edited every few seconds, a reviewer who
/// looks at an old view reviews what is bound anew by then, again and again.
const PATIENCE: Duration = Duration::from_secs(300);

/// Begins a story, and sees it through.
pub async fn act(stage: Arc<Stage>, tally: Arc<Tally>, mut story: Story, mut choice: Choice) -> Result<Story> {
    let told = format!("{story:?}");
    go_through(&stage, &tally, &mut story, &mut choice).await.with_context(|| told)?;
    Ok(story)
}

async fn go_through(stage: &Stage, tally: &Tally, story: &mut Story, choice: &mut Choice) -> Result<()> {
    let workflow = &stage.workflows[story.space];
    let (jobs, requests) =
        (stage.api(workflow, story.space, "jobs"), stage.api(workflow, story.space, "approvalrequests"));
    made(&jobs, &the_job(story)).await?;
    if story.asks {
        made(&requests, &the_request(story)).await?;
    }
    tally.made.fetch_add(1, Ordering::Relaxed);
    if !story.has_request() {
        seen("its Job starts", || started(stage, story)).await?;
        story.started = start_of(&tried(|| jobs.get(&story.name)).await?);
        tally.ended("started without a request");
        return Ok(());
    }
    let (name, uid) = known(stage, story).await?;
    story.request = Some((name.clone(), uid));
    if choice.once_in(3) {
        tokio::time::sleep(Duration::from_millis(choice.between(0, 3_000))).await;
    }
    if story.deed == Deed::EditJob {
        bound(stage, story, &name).await?;
        let edit = json!({"spec": {"template": {"metadata": {"annotations": {"edited": choice.below(1_000_000).to_string()}}}}});
        tried(|| merge(&jobs, &story.name, &edit)).await?;
    }
    if story.deed == Deed::DeleteJob {
        bound(stage, story, &name).await?;
        gone(&jobs, &story.name).await?;
    }
    end(stage, story, &name, choice).await?;
    tally.ended(story.end());
    over(stage, story, &name).await
}

fn the_job(story: &Story) -> Value {
    let mut job = job(&story.name);
    job["metadata"]["annotations"] = match story.asks {
        true => json!({"countersign.dev/request": story.name}),
        false => json!({"countersign.dev/reason": "soak", "countersign.dev/risk-tags": story.tags().join(","),
            "countersign.dev/requested-by": "workflow.soak"}),
    };
    if !SPACES[story.space].gated {
        job["metadata"]["annotations"] = json!({});
    }
    job
}

fn the_request(story: &Story) -> Value {
    let mut request = request(&story.name, Some(&story.name));
    request["spec"]["riskTags"] = json!(story.tags());
    request
}

/// Name and uid of the request that speaks for the Job.
async fn known(stage: &Stage, story: &Story) -> Result<(String, String)> {
    let namespace = SPACES[story.space].name;
    let find = || {
        let found = match story.asks {
            true => stage.requests.get(namespace, &story.name),
            false => stage.requests.of_target(namespace, &story.name),
        };
        found.and_then(|object| object.metadata.name.clone().zip(object.metadata.uid.clone()))
    };
    seen("its request is there", find).await
}

async fn bound(stage: &Stage, story: &Story, name: &str) -> Result<()> {
    let namespace = SPACES[story.space].name;
    let digest = || stage.requests.get(namespace, name).filter(|object| !text(object, "/status/digest").is_empty());
    seen("it is bound", digest).await.map(drop)
}

fn started(stage: &Stage, story: &Story) -> Option<()> {
    let job = stage.jobs.get(SPACES[story.space].name, &story.name)?;
    (job.data["spec"]["suspend"] == json!(false)).then_some(())
}

/// Does what there is to do until it is over, and looks whether that is the end that it should have.
async fn end(stage: &Stage, story: &Story, name: &str, choice: &mut Choice) -> Result<()> {
    let namespace = SPACES[story.space].name;
    let reviewer = choice.of(&[0, 1]);
    let theirs = stage.api(&stage.reviewers[reviewer], story.space, "approvalrequests");
    let own = stage.api(&stage.workflows[story.space], story.space, "approvalrequests");
    let (began, mut said) = (Instant::now(), String::new());
    let mut answered = String::new();
    while began.elapsed() < PATIENCE {
        let Some(object) = stage.requests.get(namespace, name) else { bail!("the request is gone") };
        let (state, digest) = (text(&object, "/status/state"), text(&object, "/status/digest"));
        if ["Released", "Denied", "Expired", "Cancelled"].contains(&state) {
            ensure!(state == story.end(), "it ended as {state}: {}", text(&object, "/status/message"));
            return Ok(());
        }
        let decision = match story.deed {
            Deed::Approve | Deed::EditJob => Some("Approve"),
            Deed::Deny => Some("Deny"),
            _ => None,
        };
        let done = match decision {
            Some(decision) if !digest.is_empty() && digest != answered => {
                let review = json!({"spec": {"review": {"decision": decision, "digest": digest}}});
                let done = call(merge(&theirs, name, &review)).await;
                if done.is_ok() {
                    answered = digest.to_string();
                }
                done.map(drop)
            }
            None if story.deed == Deed::Withdraw => {
                call(merge(&own, name, &json!({"spec": {"cancel": true}}))).await.map(drop)
            }
            _ => Ok(()),
        };
        if let Err(error) = done {
            said = error.to_string();
        }
        tokio::time::sleep(PAUSE).await;
    }
    bail!(
        "it is not over after {PATIENCE:?}; last said: {said}; {:?}",
        stage.requests.get(namespace, name).map(|o| o.data["status"].clone())
    )
}

/// What is over stays as it is, and may be deleted.
async fn over(stage: &Stage, story: &mut Story, name: &str) -> Result<()> {
    let admin = &stage.spaces[story.space];
    let (requests, jobs) = (admin.api("approvalrequests"), admin.api("jobs"));
    let object = tried(|| requests.get(name)).await?;
    ensure!(
        text(&object, "/status/state") == story.end(),
        "it was {}, and is {}",
        story.end(),
        text(&object, "/status/state")
    );
    if story.deed != Deed::DeleteJob {
        let job = tried(|| jobs.get(&story.name)).await?;
        ensure!(
            (job.data["spec"]["suspend"] == json!(false)) == story.starts(),
            "its Job: {}",
            job.data["spec"]["suspend"]
        );
        story.started = start_of(&job);
    }
    if story.deletes {
        gone(&requests, name).await?;
        gone(&jobs, &story.name).await?;
    }
    Ok(())
}

/// Edits a policy now and then: those that wait are bound anew.
pub async fn edit_policies(stage: Arc<Stage>, tally: Arc<Tally>, mut choice: Choice, until: Instant) -> Result<()> {
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(choice.between(2_000, 6_000))).await;
        let space = choice.below(SPACES.len() as u64) as usize;
        let name = SPACES[space].name;
        let edited = policy(name, name, rules(choice.between(600, 900)));
        let policies = stage.spaces[space].api("approvalpolicies");
        tried(|| merge(&policies, name, &edited)).await?;
        tally.met("policy edited");
    }
    Ok(())
}

/// One call, as long as it may take.
async fn call<T>(doing: impl Future<Output = kube::Result<T>>) -> Result<T> {
    Ok(tokio::time::timeout(CALL, doing).await.context("it took too long")??)
}

/// Again and again until it works.
async fn tried<T, F: Future<Output = kube::Result<T>>>(mut doing: impl FnMut() -> F) -> Result<T> {
    let began = Instant::now();
    loop {
        match call(doing()).await {
            Ok(done) => return Ok(done),
            Err(error) if began.elapsed() > PATIENCE => return Err(error),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Creates it, also where the answer to the first time got lost.
async fn made(api: &Api<DynamicObject>, object: &Value) -> Result<()> {
    tried(|| async {
        match create(api, object).await {
            Err(Error::Api(status)) if status.reason == "AlreadyExists" => Ok(()),
            other => other.map(drop),
        }
    })
    .await
}

/// Deletes it, and waits until it is gone. Another of its name may come: the gate asks anew for a Job that is still held and does
/// not tell how the request before ended.
async fn gone(api: &Api<DynamicObject>, name: &str) -> Result<()> {
    let uid = |object: Option<DynamicObject>| object.and_then(|object| object.metadata.uid);
    let Some(before) = uid(tried(|| api.get_opt(name)).await?) else { return Ok(()) };
    let this_one =
        DeleteParams::background().preconditions(Preconditions { uid: Some(before.clone()), resource_version: None });
    tried(|| async {
        match api.delete(name, &this_one).await {
            Err(Error::Api(status)) if [404, 409].contains(&status.code) => Ok(()),
            other => other.map(drop),
        }
    })
    .await?;
    let began = Instant::now();
    while uid(tried(|| api.get_opt(name)).await?).as_ref() == Some(&before) {
        ensure!(began.elapsed() < PATIENCE, "{name} does not go away");
        tokio::time::sleep(PAUSE * 3).await;
    }
    Ok(())
}

/// Looks until there is something.
async fn seen<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if let Some(found) = look() {
            return Ok(found);
        }
        tokio::time::sleep(PAUSE).await;
    }
    bail!("waited {PATIENCE:?} until {what}")
}
