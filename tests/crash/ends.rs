//! What is stored at the end of a run, without what differs from run to run: names, uids, times, versions, digests.

use crate::bench::{Bench, Run};
use crate::support::conditions;
use anyhow::Result;
use base64::{Engine, engine::general_purpose::STANDARD};
use regex::Regex;
use serde_json::{Value, json};

const ANNOTATION: &str = "countersign.dev/";

/// The end of a run: request, Job, and what the trail tells.
pub async fn end(bench: &Bench, run: &Run) -> Result<Value> {
    let request = bench.request(run).await.ok();
    let job = bench.job(run).await?;
    // Of a request that is gone, the Job tells.
    let released = job.as_ref().map(|job| &job["metadata"]["annotations"]["countersign.dev/released"]);
    let digest = request.as_ref().map(|request| &request.object["status"]["digest"]).or(released);
    let digest = digest.and_then(|digest| digest.as_str().map(String::from));
    let uid = request.as_ref().map(|request| &request.object["metadata"]["uid"]);
    let uid = uid.and_then(|uid| uid.as_str().map(String::from));
    let name = request.as_ref().map_or(run.name.clone(), |request| request.name.clone());
    let end = json!({
        "request": request.map(|request| of_request(&request.object)),
        "job": job.as_ref().map(of_job),
        "trail": bench.trail.transitions(&run.name).await?,
    });
    let mut text = end.to_string();
    for (own, told) in [(digest, "{digest}"), (uid, "{uid}")] {
        if let Some(own) = own {
            text = text.replace(&own, told);
        }
    }
    text = text.replace(&name, "{request}").replace(&run.name, "{run}");
    let text = Regex::new(r"\d{4}-\d\d-\d\dT[0-9:.]+Z")?.replace_all(&text, "{time}");
    Ok(serde_json::from_str(&text)?)
}

fn of_request(request: &Value) -> Value {
    let status = &request["status"];
    let conditions: Vec<_> = conditions(request).map(|c| json!([c["type"], c["status"], c["reason"]])).collect();
    let reviews = request["spec"]["reviews"].as_array().into_iter().flatten();
    let reviews: Vec<_> = reviews.map(|r| json!([r["reviewer"]["username"], r["decision"], r["digest"]])).collect();
    json!({
        "state": status["state"], "message": status["message"], "conditions": conditions, "reviews": reviews,
        "approvals": status["approvals"], "constraints": status["constraints"], "revision": status["revision"],
        "finalizers": request["metadata"]["finalizers"], "deleted": request["metadata"]["deletionTimestamp"].is_string(),
    })
}

fn of_job(job: &Value) -> Value {
    json!({
        "suspend": job["spec"]["suspend"], "deadline": job["spec"]["activeDeadlineSeconds"],
        "annotations": annotations(&job["metadata"]["annotations"]),
        "template": annotations(&job["spec"]["template"]["metadata"]["annotations"]),
    })
}

/// Our own. Of a receipt, whom and what it names.
fn annotations(all: &Value) -> Value {
    let own = all.as_object().into_iter().flatten().filter(|(key, _)| key.starts_with(ANNOTATION));
    own.map(|(key, value)| (key.clone(), receipt(value).unwrap_or(value.clone())))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn receipt(value: &Value) -> Option<Value> {
    let envelope: Value = serde_json::from_str(value.as_str()?).ok()?;
    let statement: Value = serde_json::from_slice(&STANDARD.decode(envelope["payload"].as_str()?).ok()?).ok()?;
    let predicate = &statement["predicate"];
    Some(
        json!({"approvers": predicate["approvers"], "request": predicate["request"]["name"], "digest": predicate["digest"]}),
    )
}
