//! What an answer leaves in the API server's own audit log: which verdict, and why in a word; of a review also its decision
//! and the digest that it names. Nothing that a tenant may word is in it.

use crate::admission::{Answer, Verdict, text};
use serde_json::{Value, json};

/// The annotations of an answer. `review` is what `spec.review` of a request brings, if it brings one.
pub(super) fn annotations(answer: &Answer, review: Option<&Value>) -> Value {
    let (verdict, word) = match &answer.verdict {
        Verdict::Allow(_) => ("accepted", answer.word),
        Verdict::Refuse(refusal) => ("refused", &*refusal.word),
    };
    let mut annotations = json!({"verdict": verdict, "reason": text::annotation(word)});
    let named = |field: &str| review?.get(field)?.as_str();
    if let Some(decision) = named("decision").filter(|decision| matches!(*decision, "Approve" | "Deny")) {
        annotations["decision"] = json!(decision);
    }
    if let Some(digest) = named("digest").filter(|digest| is_digest(digest)) {
        annotations["digest"] = json!(digest);
    }
    annotations
}

/// Whatever else somebody names is no digest, and text of theirs.
fn is_digest(text: &str) -> bool {
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    text.strip_prefix("sha256:").is_some_and(|digits| digits.len() == 64 && digits.chars().all(hex))
}
