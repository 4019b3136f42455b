//! What a tenant may write about a Job at its creation, under our prefix: claims for the gate's own request, or the name
//! of the request that will speak for the Job. Pure.

use crate::api::names;
use serde_json::{Map, Value, json};

/// The prefix of every key of ours.
const PREFIX: &str = "countersign.dev/";

/// Most characters of what somebody wrote that a message repeats.
const QUOTED: usize = 100;

/// Longest name of an object.
const LONGEST_NAME: usize = 253;

/// Longest `requestedBy`, as the API of requests has it.
const LONGEST_REQUESTED_BY: usize = 253;

/// Most risk tags, and the longest, as the API of requests has it.
const MOST_TAGS: usize = 32;
const LONGEST_TAG: usize = 63;

/// Longest reason in characters, as the API of requests has it.
const LONGEST_REASON: usize = 1024;

/// Annotations that a new Job may bring along. What admission stamps is among them: it is overwritten.
pub const ON_A_JOB: [&str; 8] = [
    names::REQUEST,
    names::REASON,
    names::RISK_TAGS,
    names::REQUESTED_BY,
    names::AUTHORED_BY,
    names::CREATED_BY,
    names::CREATED_BY_UID,
    names::CREATED_BY_GROUPS,
];

/// Annotations that a new Pod may bring along, all of them to be overwritten.
pub const ON_A_POD: [&str; 3] = [names::CREATED_BY, names::CREATED_BY_UID, names::CREATED_BY_GROUPS];

/// A claim that cannot be taken.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("annotation {key}: {problem}")]
pub struct BadClaim {
    /// The annotation.
    pub key: &'static str,
    /// What is wrong, and what it takes.
    pub problem: String,
}

/// What the annotations of a Job claim.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Claims {
    /// The request that will target the Job; the gate then makes none of its own.
    pub request: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// Declared risk tags, each once.
    pub risk_tags: Vec<String>,
    /// The workflow's name.
    pub requested_by: Option<String>,
}

impl Claims {
    /// The claims as the spec of a request would have them, asked by that name.
    pub fn document(&self, requested_by: &str) -> Value {
        let mut document = json!({"requestedBy": requested_by, "riskTags": self.risk_tags});
        if let Some(reason) = &self.reason {
            document["reason"] = reason.as_str().into();
        }
        document
    }

    /// `requestedBy` of the gate's own request for what makes these claims: what it claims; else the CronJob that it was
    /// made from, or itself.
    pub fn asked_by(&self, cron_job: Option<&str>, kind: &str, name: &str) -> String {
        self.requested_by.clone().unwrap_or_else(|| match cron_job {
            Some(cron_job) => default_requested_by("cronjob", cron_job),
            None => default_requested_by(kind, name),
        })
    }

    /// Reads the claims among annotations. Anything but a map holds none.
    pub fn read(annotations: &Value) -> Result<Self, BadClaim> {
        let claim = |key: &'static str, problem: &str, good: fn(&str) -> bool| match annotations.get(key) {
            None => Ok(None),
            Some(Value::String(text)) if good(text) => Ok(Some(text.clone())),
            Some(other) => {
                let found = other.as_str().map_or_else(|| quote(&other.to_string()), quote);
                Err(BadClaim { key, problem: format!("{found} {problem}") })
            }
        };
        let tags = claim(
            names::RISK_TAGS,
            "is not a comma-separated list of at most 32 tags, each of 1 to 63 characters out of a-z 0-9 . _ - and beginning and ending with a letter or digit, no spaces",
            are_tags,
        )?;
        let mut risk_tags: Vec<String> = vec![];
        for tag in tags.iter().flat_map(|tags| tags.split(',')) {
            if !risk_tags.iter().any(|t| t == tag) {
                risk_tags.push(tag.into());
            }
        }
        Ok(Self {
            request: claim(names::REQUEST, "is not the name of an ApprovalRequest (a DNS-1123 subdomain)", is_name)?,
            reason: claim(names::REASON, "is not a reason: it takes 1 to 1024 characters", is_reason)?,
            risk_tags,
            requested_by: claim(
                names::REQUESTED_BY,
                "is not a workflow's name: it takes 1 to 253 printable ASCII characters, no spaces",
                is_requested_by,
            )?,
        })
    }
}

/// `requestedBy` of the gate's own request where the object claims none: `job/remediate`.
fn default_requested_by(kind: &str, name: &str) -> String {
    format!("{}/{name}", kind.to_lowercase()).chars().take(LONGEST_REQUESTED_BY).collect()
}

/// Keys under our prefix in a map of labels or annotations.
pub(crate) fn own_keys(map: Option<&Value>) -> impl Iterator<Item = &String> {
    map.and_then(Value::as_object).into_iter().flat_map(Map::keys).filter(|key| key.starts_with(PREFIX))
}

/// What somebody wrote, escaped and shortened.
fn quote(text: &str) -> String {
    format!("{:?}", text.chars().take(QUOTED).collect::<String>())
}

fn are_tags(text: &str) -> bool {
    let tag = |tag: &str| tag.len() <= LONGEST_TAG && is_word(tag, "._-");
    text.split(',').count() <= MOST_TAGS && text.split(',').all(tag)
}

fn is_name(name: &str) -> bool {
    name.len() <= LONGEST_NAME && name.split('.').all(|label| is_word(label, "-"))
}

/// Lower-case letters, digits and what is in `between`, which neither begins nor ends it.
fn is_word(text: &str, between: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(alphanumeric)
        && text.ends_with(alphanumeric)
        && text.chars().all(|c| alphanumeric(c) || between.contains(c))
}

fn is_reason(text: &str) -> bool {
    (1..=LONGEST_REASON).contains(&text.chars().count())
}

fn is_requested_by(text: &str) -> bool {
    (1..=LONGEST_REQUESTED_BY).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}
