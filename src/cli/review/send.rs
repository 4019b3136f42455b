//! Giving one review, with all of the digest that was shown.

use crate::api::ReviewDecision;
use crate::cli::explain::read_request;
use crate::cli::review::cluster::Review;
use crate::cli::review::outcome::Given;
use crate::cli::review::refusal::Refused;
use crate::cli::review::{Exit, Phase, Session, Verb};
use crate::lifecycle::RequestFacts;
use serde_json::Value;

/// A review that is stored.
#[derive(Debug)]
pub struct Sent {
    /// The review.
    pub given: Given,
    /// The request, as far as it is known.
    pub request: RequestFacts,
}

/// Why a review was not stored, or may not be.
pub struct NotSent {
    /// For a person.
    pub refused: Refused,
    /// Whether it came at the wrong time: what stands there may be another than what was shown.
    pub conflict: bool,
}

/// Gives the review.
pub async fn send(session: &Session, verb: Verb, shown: &RequestFacts, comment: Option<&str>) -> Result<Sent, NotSent> {
    let (namespace, name) = (&shown.namespace, &shown.name);
    let digest = shown.status.digest.as_deref().unwrap_or_default();
    let decision = verb.decision();
    let before = session.phase.replace(Phase::Sending);
    let answer = session.cluster.review(namespace, name, &Review { decision, digest, comment }).await;
    match answer {
        Ok(stored) => {
            session.phase.set(Phase::Stored);
            let request = read_request(&stored).map_err(|error| NotSent {
                refused: Refused::unanswered(format!("stored, and the answer cannot be read: {error:#}")),
                conflict: false,
            })?;
            Ok(Sent { given: Given::read(decision, digest, &request), request })
        }
        Err(error) => {
            session.phase.set(before);
            let conflict = matches!(&error, kube::Error::Api(status) if status.code == 409);
            let unheard = !matches!(&error, kube::Error::Api(_));
            let mut refused = session.cluster.refused(error, namespace, name);
            if unheard {
                refused
                    .text
                    .push_str("; whether the review was stored is not known: give it again, a word counts once");
            }
            Err(NotSent { refused, conflict })
        }
    }
}

/// Why a request is not up for a decision now: the words of admission, before anything is asked.
pub fn not_up(stored: &Value, request: &RequestFacts) -> Option<String> {
    use crate::api::condition::{self, ConditionStatus};
    let status = &request.status;
    if status.state.is_final() {
        let text = format!("it is {} already ({}); nothing can change that", status.state.as_str(), status.message);
        return Some(text);
    }
    if stored.pointer("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null()) {
        return Some("it is being deleted; the workflow has to ask anew".into());
    }
    let evaluated = condition::find(&status.conditions, "Evaluated").is_some_and(|c| c.status == ConditionStatus::True);
    if evaluated && status.digest.is_some() {
        return None;
    }
    Some(match status.message.as_str() {
        "" => "it cannot be reviewed now: the operator has not evaluated it yet".into(),
        why => format!("it cannot be reviewed now: {why}"),
    })
}

/// Whether the approval takes a comment, and there is none.
pub fn lacks_comment(verb: Verb, request: &RequestFacts, comment: Option<&str>) -> bool {
    let blank = comment.is_none_or(|comment| comment.trim().is_empty());
    verb.decision() == ReviewDecision::Approve && request.status.require_comment && blank
}

/// What to do about that.
pub fn comment_missing() -> Refused {
    Refused::final_word("this approval takes a comment: say with --comment what you checked")
}

/// Says in one line that nothing was decided, and why; the text is safe to show.
pub fn not_decided(session: &Session, namespace: &str, name: &str, refused: &Refused) -> Exit {
    eprintln!("{}", refusal(session.verb, namespace, name, refused));
    if refused.unanswered { Exit::Failed } else { Exit::Refused }
}

/// That nothing was decided, and why, in one line; the text is safe to show.
pub fn refusal(verb: Verb, namespace: &str, name: &str, refused: &Refused) -> String {
    format!("{namespace}/{name}: not {}: {}", verb.done(), refused.text)
}
