//! Has the request stored, and the Job before it; or finds what an earlier call stored.
//!
//! The Job comes first: the request binds it by uid. A call that ends between the two leaves a suspended Job that names its
//! request and that nothing starts; the next call takes it. Where the request is there, no Job is made: what became of it,
//! the request tells.

use crate::cli::request::desk::{Desk, say};
use crate::cli::request::exit::{End, Exit};
use crate::cli::request::job::{self, Planned};
use crate::cli::request::progress::changed;
use crate::cli::request::same;
use serde_json::{Value, json};

/// How often a request may be deleted between two questions.
const MOST_ROUNDS: usize = 5;

/// What is stored now.
pub struct Stored {
    /// What was asked, in full.
    pub manifest: Value,
    /// The request.
    pub request: Value,
}

/// Has the request of that manifest stored.
pub async fn ask(desk: &Desk, manifest: Value, job: Option<&Planned>) -> Result<Stored, End> {
    let mut manifest = manifest;
    for _ in 0..MOST_ROUNDS {
        if let Some(job) = job {
            if let Some(request) = desk.request().await? {
                return found(desk, manifest, request, Some(job)).await;
            }
            let held = hold(desk, job, &place(&manifest, &job.name)).await?;
            manifest["spec"]["target"] = target(&job.name, &held["metadata"]["uid"]);
        }
        if let Some(request) = desk.create_request(&manifest).await? {
            return Ok(Stored { manifest, request });
        }
        if let Some(request) = desk.request().await? {
            return found(desk, manifest, request, job).await;
        }
    }
    Err(End::new(Exit::Failed, format!("{}: is deleted again and again", name_of(&manifest))))
}

/// The Job, created suspended or found as it was created.
async fn hold(desk: &Desk, job: &Planned, place: &str) -> Result<Value, End> {
    for _ in 0..MOST_ROUNDS {
        if let Some(created) = desk.create_job(&job.object).await? {
            say(&format!("{place}: Job created, suspended{}", if job.was_unheld { UNHELD } else { "" }));
            return Ok(created);
        }
        if let Some(there) = desk.job(&job.name).await? {
            same_job(job, &there, place)?;
            say(&format!("{place}: Job found"));
            return Ok(there);
        }
    }
    Err(End::new(Exit::Failed, format!("{place}: the Job is deleted again and again")))
}

/// Said of a Job whose file would have started it.
const UNHELD: &str = "; its file does not say spec.suspend: true, and would have started it at once";

fn same_job(job: &Planned, there: &Value, place: &str) -> Result<(), End> {
    match job::first_difference(job, there) {
        None => Ok(()),
        Some(difference) => {
            let text =
                format!("{place}: another Job has that name: {difference}; delete it, or give this one another name");
            Err(End::new(Exit::Changed, text))
        }
    }
}

/// Takes a request that is there, if it is what this call asks and this caller asked it.
async fn found(desk: &Desk, mut manifest: Value, request: Value, job: Option<&Planned>) -> Result<Stored, End> {
    let name = name_of(&manifest);
    if let Some(job) = job {
        let mut uid = request["spec"]["target"]["uid"].clone();
        if let Some(there) = desk.job(&job.name).await? {
            same_job(job, &there, &place(&manifest, &job.name))?;
            uid = there["metadata"]["uid"].clone();
        }
        manifest["spec"]["target"] = target(&job.name, &uid);
    }
    let mut difference = same::first_difference(&manifest, &request);
    if difference.is_none()
        && let Some(caller) = desk.whoami().await
    {
        difference = same::other_requester(&caller, &request);
    }
    if let Some(difference) = difference {
        return Err(changed(&name, &difference));
    }
    say(&format!("{name}: found"));
    Ok(Stored { manifest, request })
}

fn target(name: &str, uid: &Value) -> Value {
    json!({"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid})
}

fn name_of(manifest: &Value) -> String {
    place(manifest, manifest["metadata"]["name"].as_str().unwrap_or_default())
}

fn place(manifest: &Value, name: &str) -> String {
    format!("{}/{name}", manifest["metadata"]["namespace"].as_str().unwrap_or_default())
}
