//! What a Job reads, against what the matching rules demand of it.

use crate::api::names;
use crate::binding::{InputRef, InputState, MAX_INPUTS};
use crate::policy::{CompiledRule, Outcome};

/// The most inputs or images that a message names.
const MOST_NAMED: usize = 5;

/// What in the Job's inputs and images keeps the request from going on: the reason of the condition `Evaluated`, and what
/// to do about it. None where nothing does.
///
/// `guarded` says that the guard of locked inputs is in force in the Job's namespace: the namespace is gated.
///
/// More inputs than can be shown stand in the way of everything: a reviewer would approve what the card leaves out.
pub fn obstacles(
    outcome: &Outcome,
    inputs: &[(InputRef, InputState)],
    images_without_digest: &[String],
    guarded: bool,
) -> Option<(&'static str, String)> {
    if inputs.len() > MAX_INPUTS {
        let n = inputs.len();
        let text = format!(
            "the Job refers to {n} ConfigMaps and Secrets; at most {MAX_INPUTS} can be shown to a reviewer, so create it anew with fewer"
        );
        return Some(("TooManyInputs", text));
    }
    inputs_not_immutable(outcome, inputs, guarded).or_else(|| images_not_pinned(outcome, images_without_digest))
}

fn inputs_not_immutable(
    outcome: &Outcome,
    inputs: &[(InputRef, InputState)],
    guarded: bool,
) -> Option<(&'static str, String)> {
    let open = inputs.iter().filter(|(_, state)| !state.is_held(guarded));
    let open: Vec<_> = open.map(|(reference, state)| describe(reference, state, guarded)).collect();
    if !outcome.require_immutable_inputs || open.is_empty() {
        return None;
    }
    let text = format!(
        "{} wants inputs that nobody can change any more (requireImmutableInputs), and these are not: {}. {}; the request then goes on by itself",
        rules(outcome, |rule| rule.rule.require_immutable_inputs),
        some_of(&open),
        remedy(guarded),
    );
    Some(("InputsNotImmutable", text))
}

/// What would hold them. A label alone does not: only in a gated namespace does admission keep what carries it.
fn remedy(guarded: bool) -> String {
    let (label, gate) =
        (format!("{}: {}", names::INPUT, names::LOCKED), format!("{}: {}", names::GATE, names::ENFORCE));
    match guarded {
        true => format!("Each needs immutable: true and the label {label}"),
        false => format!(
            "Each needs immutable: true and the label {label}, and the namespace the label {gate}, without which nothing in it is kept"
        ),
    }
}

fn images_not_pinned(outcome: &Outcome, images: &[String]) -> Option<(&'static str, String)> {
    if !outcome.require_image_digests || images.is_empty() {
        return None;
    }
    // Quoted, since an image is any text that somebody put into the Job.
    let images: Vec<_> = images.iter().map(|image| format!("{:?}", shortened(image))).collect();
    let text = format!(
        "{} wants images named by digest (requireImageDigests), and these are not: {}. Create the Job anew with image@sha256:… for each",
        rules(outcome, |rule| rule.rule.require_image_digests),
        some_of(&images),
    );
    Some(("ImagesNotPinned", text))
}

/// An input that is not held, and what it lacks.
fn describe(reference: &InputRef, state: &InputState, guarded: bool) -> String {
    let lacks = match state {
        InputState::Absent if reference.optional => "absent, so that anybody may create it later",
        InputState::Absent => "absent",
        InputState::Unknown => "the operator may not read it",
        InputState::Present(facts) => match (facts.is_immutable(guarded), facts.is_locked(guarded)) {
            (_, false) if facts.locked => "labelled, in a namespace that is not gated",
            (false, false) => "neither immutable nor locked",
            (false, true) => "not immutable",
            (true, false) => "not locked",
            (true, true) => "immutable and locked",
        },
    };
    format!("{} {} ({lacks})", reference.kind.as_str(), reference.name)
}

/// The matching rules that demand it, by name.
fn rules(outcome: &Outcome, demands: impl Fn(&CompiledRule) -> bool) -> String {
    let demanding = outcome.matches.iter().filter(|rule| demands(rule));
    let names: Vec<_> = demanding.map(|rule| format!("{}/{}", rule.policy, rule.rule.name)).collect();
    format!("rule {}", some_of(&names))
}

/// The first few, and how many more there are.
fn some_of(texts: &[String]) -> String {
    let named = texts.iter().take(MOST_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match texts.len().saturating_sub(MOST_NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// The start of an image that is longer than the names of images are.
fn shortened(image: &str) -> String {
    match image.char_indices().nth(160) {
        Some((at, _)) => format!("{}…", &image[..at]),
        None => image.into(),
    }
}

#[cfg(test)]
#[path = "inputs_tests.rs"]
mod tests;
