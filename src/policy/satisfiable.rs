//! Whether requirements can be met by distinct people at all, as far as that shows: a Group or whoever is authorized may
//! always be more people; a list of names is not.

use crate::api::policy::Requirement;
use crate::api::{Subject, SubjectKind};
use crate::policy::outcome::normalised;
use crate::policy::{JoinedRequirement, Places, assign};
use std::collections::BTreeSet;

/// Most names that a message lists.
const MOST_NAMES: usize = 8;

/// A requirement that lists its people by name.
struct Listing<'a> {
    name: &'a str,
    count: usize,
    /// Who counts.
    people: BTreeSet<Subject>,
    /// Who is listed and does not count.
    barred: BTreeSet<Subject>,
}

/// Checks the requirements of one rule. The error is what is wrong with them and what to do.
pub(super) fn rule(requirements: &[Requirement]) -> Result<(), String> {
    let listings = listings(requirements.iter().map(|r| (&*r.name, r.count, &*r.approvers)), &|_| false);
    let short = short(&listings);
    if short.is_empty() {
        return Ok(());
    }
    let twice = |person: &&Subject| short.iter().filter(|listing| listing.people.contains(person)).count() > 1;
    let twice: Vec<String> = people(&short).into_iter().filter(twice).map(Subject::describe).collect();
    let several = if short.len() == 2 { "both" } else { "several of them" };
    let why = match twice.as_slice() {
        [] => "nobody could meet it".into(),
        [one] => format!("{one} stands in {several}, and counts once"),
        many => format!("{} stand in {several}, and each counts once", listed(many)),
    };
    Err(format!("{}; {why}. List more people, or lower a count", needed(&short, "named")))
}

/// Why these requirements cannot be met while nobody counts who is `unavailable`: who is missing, as a sentence. None where
/// they can be met, or where nobody knows how many people stand behind a name.
pub fn shortfall(requirements: &[JoinedRequirement], unavailable: &dyn Fn(&Subject) -> bool) -> Option<String> {
    let listings = listings(requirements.iter().map(|r| (&*r.name, r.count, &*r.approvers)), unavailable);
    let short = short(&listings);
    if short.is_empty() {
        return None;
    }
    let barred: BTreeSet<String> = short.iter().flat_map(|l| &l.barred).map(Subject::describe).collect();
    let barred: Vec<String> = barred.into_iter().collect();
    let why = match barred.as_slice() {
        [] => "each counts once".into(),
        [one] => format!("{one} is listed and does not count for this request"),
        many => format!("{} are listed and do not count for this request", listed(many)),
    };
    Some(format!("{}; {why}", needed(&short, "left")))
}

/// The people, each once, where all are named.
pub(super) fn named<'a>(mut subjects: impl Iterator<Item = &'a Subject>) -> Option<BTreeSet<Subject>> {
    subjects.try_fold(BTreeSet::new(), |mut people, subject| {
        people.insert(normalised(subject));
        (!open_ended(subject)).then_some(people)
    })
}

fn open_ended(subject: &Subject) -> bool {
    matches!(subject.kind, SubjectKind::Group | SubjectKind::Authorized)
}

fn listings<'a>(
    requirements: impl Iterator<Item = (&'a str, i32, &'a [Subject])>,
    unavailable: &dyn Fn(&Subject) -> bool,
) -> Vec<Listing<'a>> {
    requirements
        .filter(|(_, _, approvers)| !approvers.iter().any(open_ended))
        .map(|(name, count, approvers)| {
            let (barred, people) = approvers.iter().map(normalised).partition(unavailable);
            Listing { name, count: usize::try_from(count).unwrap_or(0), people, barred }
        })
        .collect()
}

/// Finds requirements that take more people than they list together (Hall 1935): where a place stays open, those that
/// reach it through the people who hold the other places. None where every place can be filled.
fn short<'a>(listings: &'a [Listing<'a>]) -> Vec<&'a Listing<'a>> {
    let all: BTreeSet<&Subject> = listings.iter().flat_map(|l| &l.people).collect();
    let candidates = |l: &Listing<'_>| {
        let named = all.iter().enumerate().filter(|(_, person)| l.people.contains(**person));
        named.map(|(i, _)| i).collect()
    };
    let places: Vec<Places> = listings.iter().map(|l| Places { count: l.count, candidates: candidates(l) }).collect();
    let held = assign(&places, all.len());
    let mut reached: Vec<usize> = (0..places.len()).find(|r| held[*r].len() < places[*r].count).into_iter().collect();
    let mut at = 0;
    while at < reached.len() {
        for person in &places[reached[at]].candidates {
            let holds = held.iter().position(|seats| seats.contains(person));
            let new = holds.filter(|r| !reached.contains(r));
            reached.extend(new);
        }
        at += 1;
    }
    reached.sort_unstable();
    reached.into_iter().map(|r| &listings[r]).collect()
}

fn people<'a>(short: &[&'a Listing<'a>]) -> BTreeSet<&'a Subject> {
    short.iter().flat_map(|l| &l.people).collect()
}

/// `2 people are needed for sre and security, and only user alice is named`.
fn needed(short: &[&Listing<'_>], word: &str) -> String {
    let takes: usize = short.iter().map(|l| l.count).sum();
    let persons = if takes == 1 { "1 person is".into() } else { format!("{takes} people are") };
    let names: Vec<&str> = short.iter().map(|l| l.name).collect();
    let people: Vec<String> = people(short).into_iter().map(Subject::describe).collect();
    let who = match people.len() {
        0 => "nobody is".into(),
        1 => format!("only {} is", people[0]),
        _ => format!("only {} are", listed(&people)),
    };
    format!("{persons} needed for {}, and {who} {word}", listed(&names))
}

/// `a, b and c`, and how many more where there are too many to list.
fn listed<T: AsRef<str>>(names: &[T]) -> String {
    let shown: Vec<&str> = names.iter().take(MOST_NAMES).map(AsRef::as_ref).collect();
    match (shown.as_slice(), names.len() - shown.len()) {
        ([start @ .., last], 0) if !start.is_empty() => format!("{} and {last}", start.join(", ")),
        (all, 0) => all.join(", "),
        (all, more) => format!("{} and {more} more", all.join(", ")),
    }
}

#[cfg(test)]
#[path = "satisfiable_tests.rs"]
mod tests;
