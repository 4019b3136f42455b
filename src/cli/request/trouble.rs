//! What to do when the API server cannot be asked: how long to pause, what to say, when to give up. Pure.

use crate::cli::client::explained;
use crate::cli::request::progress::spoken;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// The first pause, which doubles up to the last.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);
/// A watch that lived so long shows that the trouble is over.
const STEADY: Duration = Duration::from_secs(10);
/// An API server that starts knows neither tokens nor roles for a moment; after so many refusals they are meant.
const MOST_REFUSALS: u32 = 8;

/// Kinds of trouble. Each is said once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// No answer, or half of one.
    Unreachable,
    /// The webhook does not answer.
    OperatorAway,
    /// The API server answers that it cannot.
    Busy,
    /// The caller is not known, or may not.
    Refused,
    /// The version to watch from is too old: no trouble, where the request is looked at anew.
    Forgotten,
    /// It was judged, and the answer stands.
    Lasting,
}

/// One failure.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    /// Its kind.
    pub kind: Kind,
    /// For a person.
    pub text: String,
}

impl Failure {
    /// What an error of the client is.
    pub fn read(error: kube::Error, server: &str) -> Self {
        let kind = match &error {
            kube::Error::Api(status) => match status.code {
                401 => Kind::Refused,
                403 if !status.message.contains("denied the request") => Kind::Refused,
                500.. if status.message.contains("failed calling webhook") => Kind::OperatorAway,
                410 => Kind::Forgotten,
                408 | 429 | 500.. => Kind::Busy,
                _ => Kind::Lasting,
            },
            kube::Error::SerdeError(_) | kube::Error::BuildRequest(_) => Kind::Lasting,
            _ => Kind::Unreachable,
        };
        let text = match kind {
            Kind::OperatorAway => "the operator does not answer, so nothing was stored".into(),
            _ => format!("{:#}", explained(error, server)),
        };
        Self { kind, text }
    }

    /// No answer in time.
    pub fn late(server: &str) -> Self {
        Self { kind: Kind::Unreachable, text: format!("the API server at {server} does not answer") }
    }
}

/// What to do about a failure.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Next {
    /// Pause, say this if anything, and try again.
    Retry(Duration, Option<String>),
    /// It stands.
    GiveUp(String),
}

/// The trouble so far.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// Keeps calls that fail together from coming back together.
    seed: u64,
    failures: u32,
    refusals: u32,
    /// Since when there is any.
    since: Option<Duration>,
    said: Vec<Kind>,
    recovered: bool,
    worked: bool,
}

impl Trouble {
    /// None so far. Pauses differ by `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed, failures: 0, refusals: 0, since: None, said: vec![], recovered: false, worked: false }
    }

    /// Takes in a failure.
    pub fn failed(&mut self, failure: &Failure, at: Duration) -> Next {
        self.refusals = if failure.kind == Kind::Refused { self.refusals + 1 } else { 0 };
        // The first answer of all is meant.
        let meant = !self.worked && self.since.is_none();
        let refused = self.refusals > 0 && (meant || self.refusals > MOST_REFUSALS);
        if failure.kind == Kind::Lasting || refused {
            return Next::GiveUp(failure.text.clone());
        }
        self.since.get_or_insert(at);
        let line = (!self.said.contains(&failure.kind)).then(|| format!("{}; trying again", failure.text));
        if line.is_some() {
            self.said.push(failure.kind);
        }
        Next::Retry(self.pause(), line)
    }

    /// The pause before the next try.
    pub fn pause(&mut self) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        let mut hasher = DefaultHasher::new();
        (self.seed, self.failures).hash(&mut hasher);
        self.failures = self.failures.saturating_add(1);
        // Between half of it and all.
        whole / 2 + whole / 2 * (hasher.finish() % 1000) as u32 / 1000
    }

    /// Takes in an answer. Returns what to say of it.
    pub fn worked(&mut self, at: Duration) -> Option<String> {
        (self.worked, self.refusals) = (true, 0);
        if self.said.is_empty() || self.recovered {
            return None;
        }
        self.recovered = true;
        let since = self.since.map_or(Duration::ZERO, |since| at.saturating_sub(since));
        Some(format!("answered again after {}", spoken(since)))
    }

    /// Takes in how long a watch lived: only one that lives on ends the trouble, so that a flood has no end to say.
    pub fn lived(&mut self, time: Duration) -> bool {
        let steady = time >= STEADY;
        if steady {
            *self = Self { worked: true, ..Self::new(self.seed) };
        }
        steady
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn api(code: u16, message: &str) -> Failure {
        let status = json!({"code": code, "reason": "", "message": message});
        Failure::read(kube::Error::Api(Box::new(serde_json::from_value(status).unwrap())), "https://x")
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_may_pass_is_told_from_what_stands() {
        for (code, message, kind) in [
            (500, "Internal error: failed calling webhook \"requests.countersign.dev\"", Kind::OperatorAway),
            (503, "etcd is away", Kind::Busy),
            (429, "slow down", Kind::Busy),
            (504, "timeout", Kind::Busy),
            (401, "Unauthorized", Kind::Refused),
            (403, "approvalrequests is forbidden", Kind::Refused),
            (403, "admission webhook denied the request: no", Kind::Lasting),
            (422, "invalid", Kind::Lasting),
            (404, "namespaces \"x\" not found", Kind::Lasting),
        ] {
            assert_eq!(api(code, message).kind, kind, "{code} {message}");
        }
    }

    #[test]
    fn pauses_grow_up_to_a_cap_and_differ_between_callers() {
        let pauses = |seed| {
            let mut trouble = Trouble::new(seed);
            (0..40).map(|_| trouble.pause()).collect::<Vec<_>>()
        };
        let first = pauses(1);
        for (n, pause) in first.iter().enumerate() {
            let whole = FIRST.saturating_mul(1 << n.min(16)).min(LONGEST);
            assert!((whole / 2..=whole).contains(pause), "{n}: {pause:?}");
        }
        assert_ne!(first, pauses(2));
        assert_eq!(first, pauses(1));
    }

    #[test]
    fn each_kind_is_said_once_and_so_is_the_recovery_however_often_it_flaps() {
        let mut trouble = Trouble::new(1);
        let mut lines = vec![];
        for n in 0..50 {
            for failure in [api(503, "a"), api(500, "failed calling webhook"), Failure::late("x")] {
                match trouble.failed(&failure, SECOND * n) {
                    Next::Retry(_, line) => lines.extend(line),
                    Next::GiveUp(text) => panic!("{text}"),
                }
            }
            lines.extend(trouble.worked(SECOND * (n + 1)));
            assert!(!trouble.lived(SECOND));
        }
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert_eq!(lines[3], "answered again after 1s");
        assert!(trouble.lived(STEADY));
        assert!(matches!(trouble.failed(&Failure::late("x"), SECOND), Next::Retry(_, Some(_))));
    }

    #[test]
    fn a_refusal_stands_unless_the_api_server_may_have_restarted() {
        let refusal = api(403, "forbidden");
        assert!(matches!(Trouble::new(1).failed(&refusal, SECOND), Next::GiveUp(_)));
        assert!(matches!(Trouble::new(1).failed(&api(422, "invalid"), SECOND), Next::GiveUp(_)));
        let (mut answered, mut unreached) = (Trouble::new(1), Trouble::new(1));
        answered.worked(SECOND);
        // An API server that was away has just started.
        unreached.failed(&Failure::late("x"), SECOND);
        for mut trouble in [answered, unreached] {
            for _ in 0..MOST_REFUSALS {
                assert!(matches!(trouble.failed(&refusal, SECOND), Next::Retry(..)));
            }
            assert!(matches!(trouble.failed(&refusal, SECOND), Next::GiveUp(_)));
        }
    }
}
