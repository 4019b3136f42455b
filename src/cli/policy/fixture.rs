//! What a `*.test.yaml` says. Unknown fields are errors: a misspelled expectation would expect nothing.

use crate::api::{Constraints, Evidence, OnDenied, ReviewDecision, Subject};
use jiff::Timestamp;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{DeserializeOwned, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

/// `apiVersion` of a fixture.
pub const API_VERSION: &str = "cli.countersign.dev/v1alpha1";
/// `kind` of a fixture.
pub const KIND: &str = "PolicyTest";

/// One file of tests.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fixture {
    pub api_version: String,
    pub kind: String,
    /// Policies: files, relative to this one, or documents.
    pub policies: Vec<Source>,
    /// What stands in the cluster: files or documents.
    #[serde(default)]
    pub objects: Vec<Source>,
    pub tests: Vec<Test>,
}

/// A file by its path, or a document that stands here.
pub type Source = NameOr<Value>;

/// One test.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Test {
    pub name: String,
    /// When it is asked.
    pub at: Option<Timestamp>,
    /// The namespace: the name of an object, or name and labels.
    pub namespace: Option<NameOr<NamespaceHere>>,
    pub requester: Option<Person>,
    /// What is asked: the name of an object, or the claims.
    pub request: Option<NameOr<Ask>>,
    /// The Job that will run, by the name of an object.
    pub job: Option<String>,
    /// The Pod that will run, by the name of an object.
    pub pod: Option<String>,
    /// Who last changed the policies, where they do not say it.
    pub policy_editor: Option<String>,
    #[serde(default)]
    pub reviews: Vec<ReviewHere>,
    pub expect: Expect,
}

/// A namespace that is no object.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NamespaceHere {
    pub name: String,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// Who asks.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Person {
    pub username: String,
    pub uid: Option<String>,
    #[serde(default)]
    pub groups: Vec<String>,
}

/// The claims of a request, in the words of its spec.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ask {
    #[serde(rename = "runID")]
    pub run_id: Option<String>,
    #[serde(rename = "stepID")]
    pub step_id: Option<String>,
    pub requested_by: Option<String>,
    pub reason: Option<String>,
    #[serde(default)]
    pub risk_tags: Vec<String>,
    #[serde(default)]
    pub constraints: Constraints,
    #[serde(default)]
    pub evidence: Vec<Evidence>,
}

/// A review: sealed, and of what stands now.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReviewHere {
    pub reviewer: String,
    #[serde(default)]
    pub groups: Vec<String>,
    /// Policies on which the reviewer may `approve`, by the cluster's authorizer.
    #[serde(default)]
    pub authorized: Vec<String>,
    #[serde(default = "approve")]
    pub decision: ReviewDecision,
    pub comment: Option<String>,
    /// Seconds after it was asked.
    #[serde(default = "one_minute")]
    pub after: u32,
}

fn approve() -> ReviewDecision {
    ReviewDecision::Approve
}

fn one_minute() -> u32 {
    60
}

/// What must come of it. What is left out is not looked at.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expect {
    pub decision: Option<DecisionHere>,
    pub rules: Option<Rules>,
    pub tags: Option<Vec<String>>,
    pub not_tags: Option<Vec<String>>,
    pub requirements: Option<BTreeMap<String, Needed>>,
    pub constraints: Option<Constraints>,
    pub require_comment: Option<bool>,
    pub require_immutable_inputs: Option<bool>,
    pub require_image_digests: Option<bool>,
    pub on_denied: Option<OnDenied>,
    pub pending_timeout_seconds: Option<i64>,
    pub release_timeout_seconds: Option<i64>,
    pub approved: Option<bool>,
    pub denied: Option<bool>,
    pub released: Option<Release>,
    /// Part of what is missing.
    pub missing: Option<String>,
    /// Part of why nothing is approved though rules say what they say.
    pub held: Option<String>,
    /// Part of why a policy does not compile.
    pub error: Option<String>,
}

/// A decision, or that no rule matches.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
pub enum DecisionHere {
    Allow,
    RequireApproval,
    Deny,
    NoMatch,
}

/// A requirement: how many people, or how many of whom.
#[derive(Clone, Debug, PartialEq)]
pub enum Needed {
    /// So many.
    Count(i64),
    /// So many of these, and of nobody else.
    From(NeededFrom),
}

/// How many people, of whom.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct NeededFrom {
    pub count: i64,
    pub approvers: Vec<Subject>,
}

/// The rules that match, as `policy/rule`.
#[derive(Clone, Debug, PartialEq)]
pub enum Rules {
    /// These and no others.
    Exactly(Vec<String>),
    /// At least some, and not others.
    Partly(Partly),
}

/// Rules that match, and rules that do not.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Partly {
    #[serde(default)]
    pub includes: Vec<String>,
    #[serde(default)]
    pub not: Vec<String>,
}

/// When what is approved can be released.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Release {
    /// Never.
    Never,
    /// As soon as it is approved.
    Now,
    /// Not before, and then.
    At(Timestamp),
}

/// The name of something, or the thing itself.
#[derive(Clone, Debug)]
pub enum NameOr<T> {
    Name(String),
    Here(T),
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for NameOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);
        impl<'de, T: DeserializeOwned> Visitor<'de> for Either<T> {
            type Value = NameOr<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name, or the thing itself")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
                Ok(NameOr::Name(name.into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(NameOr::Here)
            }
        }
        deserializer.deserialize_any(Either(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Rules {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Rules;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of policy/rule, or includes and not")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Rules, A::Error> {
                Deserialize::deserialize(SeqAccessDeserializer::new(list)).map(Rules::Exactly)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Rules, A::Error> {
                Deserialize::deserialize(MapAccessDeserializer::new(map)).map(Rules::Partly)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl<'de> Deserialize<'de> for Needed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Needed;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a count, or count and approvers")
            }

            fn visit_i64<E: Error>(self, count: i64) -> Result<Needed, E> {
                Ok(Needed::Count(count))
            }

            fn visit_u64<E: Error>(self, count: u64) -> Result<Needed, E> {
                i64::try_from(count).map(Needed::Count).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Needed, A::Error> {
                Deserialize::deserialize(MapAccessDeserializer::new(map)).map(Needed::From)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl<'de> Deserialize<'de> for Release {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        match &value {
            Value::Bool(false) => Ok(Self::Never),
            Value::String(text) if text == "now" => Ok(Self::Now),
            Value::String(text) => text.parse().map(Self::At).map_err(|_| wrong_release(&value)),
            _ => Err(wrong_release(&value)),
        }
    }
}

fn wrong_release<E: Error>(value: &Value) -> E {
    E::custom(format!("{value} is none of now, false and a time such as 2026-11-23T07:00:00Z"))
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("false"),
            Self::Now => f.write_str("now"),
            Self::At(time) => time.fmt(f),
        }
    }
}
