//! When what is approved or allowed is released: after its delay, and at a time at which no freeze window holds that nobody
//! passed. Everything here follows from stored facts; the time only tells how far they have come.

use crate::api::{Reviewer, Subject};
use crate::lifecycle::evaluate::{Evaluation, Problem};
use crate::lifecycle::plan::{GRACE, Observed, Plan, Target, seconds};
use crate::lifecycle::{end, message, never_opens, resources, status};
use crate::policy::{JoinedWindow, Window, opening, opening_past};
use crate::review::{Tally, covers};
use jiff::{SignedDuration, Timestamp};

/// The delay and the freeze windows of one request.
struct Schedule<'a> {
    /// Nothing is released before.
    not_before: Option<Timestamp>,
    /// Each window, and since when it is passed.
    windows: Vec<(&'a JoinedWindow, Option<Timestamp>)>,
}

impl<'a> Schedule<'a> {
    fn of(o: &Observed<'_>, e: &'a Evaluation, tally: &Tally, digest: Option<&str>) -> Self {
        let passed = |window: &JoinedWindow| {
            let reviewer = passer(&window.window().may_pass, tally)?;
            let word = o.request.reviews.iter().rev().map(|r| (r.sealed, &r.review));
            let mut word = word.filter(|(sealed, review)| *sealed && Some(review.digest.as_str()) == digest);
            word.find(|(_, review)| review.reviewer == *reviewer).map(|(_, review)| review.time.0)
        };
        let windows = e.outcome.windows.iter().map(|window| (window, passed(window))).collect();
        Self { not_before: not_before(o, e), windows }
    }

    /// The earliest of its release, for something that was approved or allowed at `base`.
    fn ready(&self, base: Timestamp) -> Timestamp {
        self.not_before.map_or(base, |t| t.max(base))
    }

    /// When it could first be released.
    fn first(&self, base: Timestamp) -> Option<Timestamp> {
        let windows: Vec<_> = self.windows.iter().map(|(window, passed)| (window.compiled(), *passed)).collect();
        opening_past(&windows, self.ready(base))
    }

    /// When it can be released, from now on.
    fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let windows: Vec<&Window> = self.closed().map(JoinedWindow::compiled).collect();
        opening(&windows, self.ready(now))
    }

    /// The windows that nobody has passed.
    fn closed(&self) -> impl Iterator<Item = &'a JoinedWindow> {
        self.windows.iter().filter(|(_, passed)| passed.is_none()).map(|(window, _)| *window)
    }
}

/// When the delay of the matching rules is over.
pub(super) fn not_before(o: &Observed<'_>, e: &Evaluation) -> Option<Timestamp> {
    e.outcome.not_before_seconds.map(|n| later(o.request.created, n))
}

/// The first of those who approve that may pass a window.
pub(super) fn passer<'a>(may_pass: &[Subject], tally: &'a Tally) -> Option<&'a Reviewer> {
    tally.approving.iter().find(|reviewer| covers(may_pass, reviewer))
}

/// What keeps a request from ever being released as it is, beside what is evaluated: nobody is asked to review it then.
pub(super) fn obstacle(o: &Observed<'_>, e: &Evaluation) -> Option<Problem> {
    let problem = |reason, message| Some(Problem { reason, message, unbinds: false });
    if let Target::Found(target, _) = &o.target
        && let Some(text) = resources::unenforceable(target, &e.constraints, o.cluster)
    {
        return problem("ConstraintNotEnforceable", text);
    }
    let from = not_before(o, e).map_or(o.now, |t| t.max(o.now));
    never_opens(&e.outcome, from).and_then(|(reason, text)| problem(reason, text))
}

/// Releases what is approved (at that time) or allowed (then without a release deadline), or waits until it may.
pub(super) fn release_or_expire(
    o: &Observed<'_>,
    next: status::Next,
    evaluation: &Evaluation,
    tally: &Tally,
    approved_at: Option<Timestamp>,
) -> Plan {
    let schedule = Schedule::of(o, evaluation, tally, next.digest.as_deref());
    let base = approved_at.unwrap_or(o.request.created);
    // The clock of a release starts when it could first happen: a weekend's freeze does not use up an approval. Where that
    // is never, because nobody passes what they may, it starts at once.
    let first = schedule.first(base).unwrap_or_else(|| schedule.ready(base));
    let release_by = approved_at.map(|_| later(first, evaluation.outcome.release_timeout_seconds));
    if let Some(by) = release_by.filter(|by| o.now >= *by + GRACE) {
        let why = o.refused.map(str::to_string).or_else(|| closed_now(o, &schedule, base));
        let why = why.unwrap_or_else(|| "the operator was not able to act in time".into());
        let text = format!("approved, but not released by {by}: {why}; ask anew");
        return end::expired(o, next, evaluation, tally, &text);
    }
    if !o.fresh {
        return Plan::until(o.now + SignedDuration::from_secs(1));
    }
    let expires = release_by.map(|by| by + GRACE);
    match schedule.next(o.now) {
        Some(open) if open <= o.now => {}
        open => {
            let text = waiting(o, &schedule, base, open, tally, next.digest.as_deref());
            let mut plan =
                next.approved(o, evaluation, tally, status::Wait { until: open, release_by, refused: false, text });
            plan.next = open.into_iter().chain(expires).min();
            return plan;
        }
    }
    if let Some(refused) = o.refused {
        let release = end::release(o, evaluation, tally, next.digest.as_deref());
        let text = format!("approved; the release waits, the API server refused it: {refused}");
        let mut plan =
            next.approved(o, evaluation, tally, status::Wait { until: None, release_by, refused: true, text });
        // First say so, then try again: once it succeeds, the receipt on the Job finishes the request.
        if plan.steps.is_empty() {
            plan.steps.extend(release);
        }
        plan.next = expires;
        return plan;
    }
    end::released(o, next, evaluation, tally)
}

/// The windows that keep it from being released between `ready` and `open`, or at all.
fn keeping<'a>(schedule: &Schedule<'a>, base: Timestamp, open: Option<Timestamp>) -> Vec<&'a JoinedWindow> {
    let ready = schedule.ready(base);
    schedule.closed().filter(|w| open.is_none_or(|open| w.compiled().holds_between(ready, open))).collect()
}

/// What an approval waits for, and how to pass it. The same text until another opening comes first.
fn waiting(
    o: &Observed<'_>,
    schedule: &Schedule<'_>,
    base: Timestamp,
    open: Option<Timestamp>,
    tally: &Tally,
    digest: Option<&str>,
) -> String {
    let granted = if tally.approvers.is_empty() { "allowed" } else { "approved" };
    let keeping = keeping(schedule, base, open);
    let why = match (&keeping[..], schedule.not_before) {
        ([], Some(t)) => format!("it was asked for at {}, and policy has it wait until {t}", o.request.created),
        _ => message::windows(&keeping),
    };
    let when = open.map_or(", but not released within a year".into(), |open| format!("; released after {open}"));
    let passable = keeping.iter().any(|window| !window.window().may_pass.is_empty());
    let command = digest.filter(|_| passable).map(|digest| message::approve_command(o.request, digest));
    let command = command.map(|command| format!("; to pass it: {command}")).unwrap_or_default();
    format!("{granted}{when}: {why}{command}")
}

fn closed_now(o: &Observed<'_>, schedule: &Schedule<'_>, base: Timestamp) -> Option<String> {
    let open = schedule.next(o.now);
    open.is_none_or(|open| open > o.now).then(|| message::windows(&keeping(schedule, base, open)))
}

/// Seconds later, or the end of time.
fn later(t: Timestamp, by: i64) -> Timestamp {
    t.checked_add(seconds(by)).unwrap_or(Timestamp::MAX)
}
