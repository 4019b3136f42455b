//! Whom the cluster's authorizer lets approve: holders of the verb `approve` on an ApprovalPolicy. Asked when a review
//! arrives that it decides about, and only then. What it granted is sealed with the review: a grant that is withdrawn later
//! takes nothing back.

use crate::admission::{Caller, Refusal};
use crate::api::names;
use crate::binding::sha256;
use futures::future::{BoxFuture, join_all};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec, SubjectAccessReviewStatus,
};
use kube::Client;
use kube::api::{Api, PostParams};
use serde_json::json;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long one question may take. The API server waits for admission for five seconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a grant is remembered, and so how long a withdrawn one still counts.
const YES: Duration = Duration::from_secs(10);
/// How long a refusal is remembered, and so how long a new grant may take to count.
const NO: Duration = Duration::from_secs(3);
/// Most answers that are remembered; the oldest goes first.
const MOST: usize = 10_000;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// The API server refused or could not be reached.
    #[error("a SubjectAccessReview failed: {0}")]
    Failed(#[from] kube::Error),
    /// It took too long.
    #[error("a SubjectAccessReview took longer than two seconds")]
    Late,
    /// It came back without a verdict.
    #[error("a SubjectAccessReview came back without a status")]
    Empty,
    /// The authorizer itself failed.
    #[error("a SubjectAccessReview came back with an error: {0}")]
    Troubled(String),
}

/// Who says whether somebody holds the verb `approve` on a policy.
pub trait Authorizer: Send + Sync {
    /// Asks, without memory. An error means that nobody knows.
    fn may_approve<'a>(&'a self, caller: &'a Caller, policy: &'a str) -> BoxFuture<'a, Result<bool, Unanswered>>;
}

/// The cluster's own authorizer, by SubjectAccessReview.
pub struct AccessReviews(pub Client);

impl Authorizer for AccessReviews {
    fn may_approve<'a>(&'a self, caller: &'a Caller, policy: &'a str) -> BoxFuture<'a, Result<bool, Unanswered>> {
        Box::pin(async move {
            let api: Api<SubjectAccessReview> = Api::all(self.0.clone());
            let status = api.create(&PostParams::default(), &question(caller, policy)).await?.status;
            answer(status.ok_or(Unanswered::Empty)?)
        })
    }
}

/// What was said. Not to allow something while it met an error is no refusal: with the error gone, it might be allowed.
fn answer(status: SubjectAccessReviewStatus) -> Result<bool, Unanswered> {
    if status.denied == Some(true) {
        return Ok(false);
    }
    match status.evaluation_error.filter(|error| !status.allowed && !error.is_empty()) {
        Some(error) => Err(Unanswered::Troubled(error)),
        None => Ok(status.allowed),
    }
}

fn question(caller: &Caller, policy: &str) -> SubjectAccessReview {
    let attributes = ResourceAttributes {
        verb: Some(names::APPROVE_VERB.into()),
        group: Some(names::GROUP.into()),
        version: Some("*".into()),
        resource: Some("approvalpolicies".into()),
        name: Some(policy.into()),
        ..ResourceAttributes::default()
    };
    let spec = SubjectAccessReviewSpec {
        user: Some(caller.username.clone()),
        uid: caller.uid.clone(),
        groups: Some(caller.groups.clone()),
        extra: Some(caller.extra.clone()),
        resource_attributes: Some(attributes),
        ..SubjectAccessReviewSpec::default()
    };
    SubjectAccessReview { spec, ..SubjectAccessReview::default() }
}

/// The authorizer, and what it said lately.
pub struct Deciders {
    authorizer: Arc<dyn Authorizer>,
    lately: Mutex<Lately>,
}

impl Deciders {
    /// Asks that authorizer.
    pub fn new(authorizer: Arc<dyn Authorizer>) -> Self {
        Self { authorizer, lately: Mutex::default() }
    }

    /// Those of the policies on which the caller holds the verb `approve`, in their order. Where one grant is enough, a
    /// question without an answer matters only while there is none. Refuses, not for good, where it does.
    pub(super) async fn granted(
        &self,
        caller: &Caller,
        policies: &[String],
        one_is_enough: bool,
    ) -> Result<Vec<String>, Refusal> {
        let answers = join_all(policies.iter().map(|policy| self.may_approve(caller, policy))).await;
        let (mut granted, mut unanswered) = (vec![], None);
        for (policy, answer) in policies.iter().zip(answers) {
            match answer {
                Ok(true) => granted.push(policy.clone()),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(policy, %error, "whether somebody may approve is not known; the review is refused");
                    unanswered.get_or_insert(policy);
                }
            }
        }
        match unanswered {
            Some(policy) if granted.is_empty() || !one_is_enough => Err(Refusal::unanswered(policy)),
            _ => Ok(granted),
        }
    }

    async fn may_approve(&self, caller: &Caller, policy: &str) -> Result<bool, Unanswered> {
        let key = key(caller, policy);
        let known = || self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = key.as_ref().and_then(|key| known().get(key, Instant::now())) {
            return Ok(answer);
        }
        // What it says holds from before it was asked.
        let asked = Instant::now();
        let answer =
            timeout(PATIENCE, self.authorizer.may_approve(caller, policy)).await.map_err(|_| Unanswered::Late)?;
        if let (Ok(answer), Some(key)) = (&answer, key) {
            known().put(key, *answer, asked);
        }
        answer
    }
}

/// One name for the whole identity and the policy, of bounded length. None where there is none: then nothing is remembered.
fn key(caller: &Caller, policy: &str) -> Option<String> {
    let Caller { username, uid, groups, extra } = caller;
    sha256(&json!([username, uid, groups, extra, policy])).ok()
}

/// Answers, each for its time.
#[derive(Default)]
struct Lately {
    answers: HashMap<String, Known>,
    /// In the order in which they came; an answer that was replaced stands here twice.
    order: VecDeque<(String, u64)>,
    count: u64,
}

struct Known {
    answer: bool,
    until: Instant,
    /// Which entry of the order is its own.
    number: u64,
}

impl Lately {
    fn get(&self, key: &str, now: Instant) -> Option<bool> {
        self.answers.get(key).filter(|known| now < known.until).map(|known| known.answer)
    }

    fn put(&mut self, key: String, answer: bool, now: Instant) {
        while self.order.len() >= MOST {
            let Some((oldest, number)) = self.order.pop_front() else { break };
            if self.answers.get(&oldest).is_some_and(|known| known.number == number) {
                self.answers.remove(&oldest);
            }
        }
        self.count += 1;
        let until = now + if answer { YES } else { NO };
        self.order.push_back((key.clone(), self.count));
        self.answers.insert(key, Known { answer, until, number: self.count });
    }
}

#[cfg(test)]
#[path = "deciders_tests.rs"]
mod tests;
