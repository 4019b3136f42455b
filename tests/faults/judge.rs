//! An observer of its own: from the audit log of the API server and from etcd alone, whether a Job came to run by what is right
//! alone. It asks neither the API server nor the operator.

use anyhow::{Context, Result, bail, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use countersign::binding::{KeySet, Keyring, verify_seal};
use countersign_testbed::{AuditFilter, ControlPlane, Mark};
use serde_json::Value;

const OPERATOR: &str = "system:serviceaccount:countersign-system:countersign";

/// What a Job came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was started.
    Started,
    /// It is held, and never ran.
    Held,
    /// It is gone. Before, it may have been started as is right.
    Gone,
}

/// What is known of a namespace.
pub struct Evidence {
    /// Its Jobs in etcd.
    pub jobs: Vec<Value>,
    /// Its requests in etcd.
    pub requests: Vec<Value>,
    /// What the audit log says of its Jobs and requests.
    pub events: Vec<Value>,
}

/// Fails unless each of these Jobs came to that, and none in that namespace came to run otherwise. Reviews are sealed with these
/// keys.
pub async fn judge(cluster: &ControlPlane, keys: &Keyring, namespace: &str, ends: &[(&str, End)]) -> Result<()> {
    cluster.observer()?.check_now().await?;
    let filter = AuditFilter::new().namespace(namespace).stage("ResponseComplete");
    let stored = async |resource: &str| {
        let found = cluster.storage().list(&format!("/registry/{resource}/{namespace}/")).await?;
        anyhow::Ok(found.into_iter().map(|(_, object)| object).collect::<Vec<_>>())
    };
    let evidence = Evidence {
        jobs: stored("jobs").await?,
        requests: stored("countersign.dev/approvalrequests").await?,
        events: cluster.audit_log().select(Mark::START, &filter)?,
    };
    evidence.verdict(keys, ends).with_context(|| format!("in namespace {namespace}"))
}

/// The keys in etcd.
pub async fn keys(cluster: &ControlPlane) -> Result<Keyring> {
    let found = cluster.storage().list("/registry/secrets/countersign-system/countersign-signing-key").await?;
    let (_, secret) = found.into_iter().next().context("the signing key is not in etcd")?;
    let entries = secret["data"].as_object().context("data")?.iter();
    let entries = entries.map(|(name, value)| Ok((name.clone(), STANDARD.decode(value.as_str().unwrap_or_default())?)));
    let entries = entries.collect::<Result<Vec<_>>>()?;
    let keys = KeySet::read(entries.iter().map(|(name, value)| (name.as_str(), value.as_slice())));
    Ok(keys.map_err(|error| anyhow::anyhow!("{error}"))?.keyring())
}

impl Evidence {
    /// Fails at the first thing that is not right.
    pub fn verdict(&self, keys: &Keyring, ends: &[(&str, End)]) -> Result<()> {
        for job in &self.jobs {
            let name = text(job, "/metadata/name");
            let found = if job["spec"]["suspend"] == true { End::Held } else { End::Started };
            let wanted = ends.iter().find(|(other, _)| *other == name).map(|(_, end)| *end);
            ensure!(wanted.is_none_or(|wanted| wanted == found), "Job {name} is {found:?}, not {wanted:?}");
            match found {
                End::Started => self.rightly_started(keys, job).with_context(|| format!("Job {name} runs"))?,
                _ => ensure!(self.starts(job).is_empty(), "Job {name} was started, and held again"),
            }
        }
        for (name, end) in ends {
            let there = self.jobs.iter().any(|job| text(job, "/metadata/name") == *name);
            ensure!(there != (*end == End::Gone), "Job {name} is there: {there}, and should be {end:?}");
            if !there {
                self.rightly_gone(name).with_context(|| format!("Job {name} is gone"))?;
            }
        }
        let of_nothing = self.requests.iter().find(|request| {
            let released = request.pointer("/status/state") == Some(&"Released".into());
            released && !self.jobs.iter().any(|job| is_for(request, job) && job["spec"]["suspend"] != true)
        });
        ensure!(of_nothing.is_none(), "a request is Released, and its Job does not run: {of_nothing:#?}");
        Ok(())
    }

    /// Whether the Job was started once, by the operator, for a request that alice had approved under her seal.
    fn rightly_started(&self, keys: &Keyring, job: &Value) -> Result<()> {
        let [start] = self.starts(job)[..] else { bail!("it was started by {} writes", self.starts(job).len()) };
        let by = text(start, "/user/username");
        ensure!(by == OPERATOR, "it was started by {by}");
        let patches = self.writes("jobs", text(job, "/metadata/name"));
        let patches = patches.filter(|event| text(event, "/user/username") == OPERATOR).count();
        ensure!(patches == 1, "the operator wrote it {patches} times");

        let mut requests = self.requests.iter().filter(|request| is_for(request, job));
        let request = requests.next().context("no request is for it")?;
        ensure!(requests.next().is_none(), "two requests are for it");
        let state = text(request, "/status/state");
        ensure!(state == "Released", "its request is {state}");
        let (digest, uid) = (text(request, "/status/digest"), text(request, "/metadata/uid"));
        let released = text(job, "/metadata/annotations/countersign.dev~1released");
        ensure!(!digest.is_empty() && released == digest, "{released} was released, and {digest} approved");
        let counts = |review: &&Value| {
            let approves = review["reviewer"]["username"] == "alice" && review["decision"] == "Approve";
            approves && review["digest"] == digest && verify_seal(keys, uid, review)
        };
        let reviews = request.pointer("/spec/reviews").and_then(Value::as_array).context("nobody reviewed it")?;
        let review = reviews.iter().find(counts).context("alice did not approve that under a seal")?;

        let name = text(request, "/metadata/name");
        let mut stored = self.writes("approvalrequests", name).filter(|event| {
            let reviews = event.pointer("/responseObject/spec/reviews").and_then(Value::as_array);
            text(event, "/user/username") == "alice" && reviews.is_some_and(|reviews| reviews.contains(review))
        });
        let first = stored.next().context("the log does not show that alice stored it")?;
        ensure!(version(first)? < version(start)?, "alice approved after the start");
        Ok(())
    }

    /// Whether nobody but the operator started a Job that is gone, and not before alice approved. Its request is gone as well.
    fn rightly_gone(&self, name: &str) -> Result<()> {
        for write in self.writes("jobs", name).filter(|write| is_free(write)) {
            let by = text(write, "/user/username");
            ensure!(by == OPERATOR, "it was started by {by}");
            let start = version(write)?;
            let approved = |event: &Value| {
                let reviews = event.pointer("/responseObject/spec/reviews").and_then(Value::as_array);
                let approves = |r: &Value| r["reviewer"]["username"] == "alice" && r["decision"] == "Approve";
                let before = version(event).is_ok_and(|version| version < start);
                before
                    && text(event, "/user/username") == "alice"
                    && reviews.is_some_and(|all| all.iter().any(approves))
            };
            let of_requests = |event: &&Value| event["objectRef"]["resource"] == "approvalrequests";
            ensure!(self.events.iter().filter(of_requests).any(approved), "it was started before alice approved");
        }
        Ok(())
    }

    /// The writes that let the Job go.
    fn starts(&self, job: &Value) -> Vec<&Value> {
        let uid = text(job, "/metadata/uid");
        let of_it = |event: &&Value| text(event, "/responseObject/metadata/uid") == uid;
        let mut writes: Vec<_> = self.writes("jobs", text(job, "/metadata/name")).filter(of_it).collect();
        writes.sort_by_key(|event| version(event).unwrap_or(0));
        let (mut starts, mut held) = (vec![], true);
        for write in writes {
            let free = is_free(write);
            if free && held {
                starts.push(write);
            }
            held = !free;
        }
        starts
    }

    /// The writes of an object that were stored, by anybody, in the order of the log.
    fn writes(&self, resource: &'static str, name: &str) -> impl Iterator<Item = &Value> {
        self.events.iter().filter(move |event| {
            let stored = matches!(event.pointer("/responseStatus/code").and_then(Value::as_u64), Some(200 | 201));
            let of_it =
                event["objectRef"]["resource"] == resource && text(event, "/responseObject/metadata/name") == name;
            let whole = event.pointer("/objectRef/subresource").is_none();
            let writes = matches!(text(event, "/verb"), "create" | "update" | "patch");
            stored && of_it && whole && writes && !text(event, "/requestURI").contains("dryRun")
        })
    }
}

/// Whether a request is for that very Job.
fn is_for(request: &Value, job: &Value) -> bool {
    let bound = text(request, "/status/target/uid");
    !bound.is_empty() && bound == text(job, "/metadata/uid")
}

/// Whether a write left a Job that may run.
fn is_free(write: &Value) -> bool {
    write.pointer("/responseObject/spec/suspend") != Some(&Value::Bool(true))
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Where in the order of all writes this one was stored.
fn version(event: &Value) -> Result<u64> {
    text(event, "/responseObject/metadata/resourceVersion").parse().context("a resource version")
}
