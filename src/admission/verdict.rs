//! What admission answers.

use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Who makes the request, as the API server authenticated them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Caller {
    /// Username.
    pub username: String,
    /// Uid, where the authenticator gives one.
    pub uid: Option<String>,
    /// All groups.
    pub groups: Vec<String>,
    /// What else the authenticator says. Only an authorizer may rest on it.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Why something is refused: an HTTP status and a text that says what to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// 403 who you are, 409 when you came, 422 what you sent, 503 what is not known yet.
    pub code: u16,
    /// Why, in one CamelCase word, or the rule that denies. It is counted and logged: nothing that a tenant words.
    pub word: Cow<'static, str>,
    /// For the caller.
    pub message: String,
}

/// A verdict. There is no default: a branch that is forgotten does not compile.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Let it pass, changed by these RFC 6902 operations.
    Allow(Vec<Value>),
    /// Refuse it.
    Refuse(Refusal),
}

/// A verdict, and what the caller should know beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The verdict.
    pub verdict: Verdict,
    /// Shown by kubectl as `Warning: …`. The wire cuts and escapes them.
    pub warnings: Vec<String>,
    /// How it passed, in one word.
    pub word: &'static str,
}

impl From<Verdict> for Answer {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, warnings: vec![], word: "Accepted" }
    }
}

impl Refusal {
    fn new(code: u16, message: String) -> Self {
        let refusal = Self { code, word: Cow::Borrowed(""), message };
        let word = refusal.reason();
        refusal.because(word)
    }

    /// The same, with the word for why.
    pub(super) fn because(self, word: &'static str) -> Self {
        Self { word: Cow::Borrowed(word), ..self }
    }

    /// The same, for the rule `policy/name`.
    pub(super) fn by_rule(self, rule: String) -> Self {
        Self { word: Cow::Owned(rule), ..self }
    }

    /// Not for this caller.
    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(403, message.into())
    }

    /// Not at this time, or not any more.
    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::new(409, message.into())
    }

    /// Not in this form.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(422, message.into())
    }

    /// Not before every policy is known. A client that obeys `Retry-After`, as kubectl does, asks again by itself.
    pub(super) fn not_ready() -> Self {
        Self::new(503, "Countersign has not read all policies yet; try again in a moment".into()).because("NotReady")
    }

    /// Not before the authorizer answers.
    pub(super) fn unanswered(policy: &str) -> Self {
        let text = format!("whether you may approve policy {policy} cannot be asked now; try again");
        Self::new(503, text).because("AuthorizerSilent")
    }

    /// Seconds after which asking again may help.
    pub(super) fn retry_after(&self) -> Option<u32> {
        (self.code == 503).then_some(1)
    }

    /// The `reason` that Kubernetes gives the code.
    pub(super) fn reason(&self) -> &'static str {
        match self.code {
            403 => "Forbidden",
            409 => "Conflict",
            503 => "ServiceUnavailable",
            _ => "Invalid",
        }
    }
}

impl From<Result<Vec<Value>, Refusal>> for Verdict {
    fn from(result: Result<Vec<Value>, Refusal>) -> Self {
        match result {
            Ok(operations) => Self::Allow(operations),
            Err(refusal) => Self::Refuse(refusal),
        }
    }
}
