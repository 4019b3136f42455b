//! When what is approved or allowed is released: after its delay, and at a time at which no freeze window holds that nobody
//! passed. Everything here follows from stored facts; the time only tells how far they have come.

use crate::api::{ApprovalRequestStatus, Reviewer, Subject};
use crate::lifecycle::evaluate::{Evaluation, Problem};
use crate::lifecycle::plan::{GRACE, Grant, Observed, Plan, Target, seconds};
use crate::lifecycle::{bounds, end, message, never_opens, status};
use crate::policy::{JoinedWindow, Window, opening, release_by};
use crate::review::{Tally, covers};
use jiff::{SignedDuration, Timestamp};

/// How long a release waits for the audit trail before it is looked at again.
const UNRECORDED: SignedDuration = SignedDuration::from_secs(5);

/// The delay and the freeze windows of one request.
pub(super) struct Schedule<'a> {
    /// Nothing is released before.
    not_before: Option<Timestamp>,
    /// Each window, and since when it is passed.
    windows: Vec<(&'a JoinedWindow, Option<Timestamp>)>,
}

impl<'a> Schedule<'a> {
    /// The schedule of what `digest` binds.
    pub(super) fn of(
        o: &Observed<'_>,
        status: &ApprovalRequestStatus,
        e: &'a Evaluation,
        tally: &Tally,
        digest: &str,
    ) -> Self {
        let passed = |window: &JoinedWindow| {
            let reviewer = passer(&window.window().may_pass, tally)?;
            let word = o.request.reviews.iter().rev().map(|r| (r.sealed, &r.review));
            let mut word = word.filter(|(sealed, review)| *sealed && review.digest == digest);
            word.find(|(_, review)| review.reviewer == *reviewer).map(|(_, review)| review.time.0)
        };
        let windows = e.outcome.windows.iter().map(|window| (window, passed(window))).collect();
        Self { not_before: not_before(o, status, e), windows }
    }

    /// The earliest of its release, for something that was approved or allowed at `base`.
    fn ready(&self, base: Timestamp) -> Timestamp {
        self.not_before.map_or(base, |t| t.max(base))
    }

    /// Until when something that was approved at `base` must be released.
    pub(super) fn release_by(&self, e: &Evaluation, base: Timestamp) -> Timestamp {
        let windows: Vec<_> = self.windows.iter().map(|(window, passed)| (window.compiled(), *passed)).collect();
        release_by(&windows, self.ready(base), e.outcome.release_timeout_seconds)
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

/// When the delay of the matching rules is over: it runs from the request, from the target, and from the target's last
/// change, whichever came last.
pub(super) fn not_before(o: &Observed<'_>, status: &ApprovalRequestStatus, e: &Evaluation) -> Option<Timestamp> {
    let made = match &o.target {
        Target::Found(target, _) => Some(target.created),
        _ => None,
    };
    let changed = status.changed_at.as_ref().map(|t| t.0);
    let from = [Some(o.request.created), made, changed].into_iter().flatten().max()?;
    e.outcome.not_before_seconds.map(|n| from + seconds(n))
}

/// The first of those who approve that may pass a window.
pub(super) fn passer<'a>(may_pass: &[Subject], tally: &'a Tally) -> Option<&'a Reviewer> {
    tally.approving.iter().find(|reviewer| covers(may_pass, reviewer))
}

/// What keeps a request from ever being released as it is, beside what is evaluated: nobody is asked to review it then.
pub(super) fn obstacle(o: &Observed<'_>, e: &Evaluation) -> Option<Problem> {
    let problem = |reason, message| Some(Problem { reason, message, unbinds: false });
    if let Target::Found(target, _) = &o.target
        && let Some(text) = bounds::unenforceable(target, &e.constraints, o.cluster)
    {
        return problem("ConstraintNotEnforceable", text);
    }
    let from = not_before(o, &o.request.status, e).map_or(o.now, |t| t.max(o.now));
    never_opens(&e.outcome, from).and_then(|(reason, text)| problem(reason, text))
}

/// Releases what is approved, or allowed (then without a release deadline), or waits until it may.
pub(super) fn release_or_expire(
    o: &Observed<'_>,
    next: status::Next,
    evaluation: &Evaluation,
    tally: &Tally,
    grant: Grant,
) -> Plan {
    let digest = next.digest.clone().unwrap_or_default();
    let schedule = Schedule::of(o, &next.status, evaluation, tally, &digest);
    let release_by = grant.release_by;
    if let Some(by) = release_by.filter(|by| o.now >= *by + GRACE) {
        let why = o.refused.map(str::to_string).or_else(|| closed_now(o, &schedule, grant.since));
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
            let text = waiting(o, &schedule, grant, open, evaluation, &digest);
            let mut plan =
                next.approved(o, evaluation, tally, status::Wait { until: open, release_by, refused: false, text });
            plan.next = open.into_iter().chain(expires).min();
            return plan;
        }
    }
    if let Some(unrecorded) = o.unrecorded.filter(|unrecorded| unrecorded.stops(o.now)) {
        let text = format!("{}; the release waits: {}", granted(grant), unrecorded.why);
        let mut plan =
            next.approved(o, evaluation, tally, status::Wait { until: None, release_by, refused: true, text });
        plan.next = Some(o.now + UNRECORDED);
        return plan;
    }
    if let Some(refused) = o.refused {
        let release = end::release(o, evaluation, tally, Some(&digest));
        let text = format!("{}; the release waits, the API server refused it: {refused}", granted(grant));
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

/// The windows that keep it from being released from now, or from when it is ready, until `open`, or at all.
fn keeping<'a>(
    o: &Observed<'_>,
    schedule: &Schedule<'a>,
    base: Timestamp,
    open: Option<Timestamp>,
) -> Vec<&'a JoinedWindow> {
    let from = schedule.ready(base).max(o.now);
    schedule.closed().filter(|w| open.is_none_or(|open| w.compiled().holds_between(from, open))).collect()
}

/// What an approval waits for, and how to pass it. The same text until a window ends, or another opening comes first.
fn waiting(
    o: &Observed<'_>,
    schedule: &Schedule<'_>,
    grant: Grant,
    open: Option<Timestamp>,
    e: &Evaluation,
    digest: &str,
) -> String {
    let keeping = keeping(o, schedule, grant.since, open);
    let why = match (&keeping[..], schedule.not_before) {
        ([], Some(t)) => {
            let from = t - seconds(e.outcome.not_before_seconds.unwrap_or_default());
            let since = match from == o.request.created {
                true => format!("it was asked for at {from}"),
                false => format!("what would run is as it is since {from}"),
            };
            format!("{since}, and policy has it wait until {t}")
        }
        _ => message::windows(&keeping),
    };
    let when = open.map_or(", but not released within a year".into(), |open| format!("; released after {open}"));
    let passable = keeping.iter().any(|window| !window.window().may_pass.is_empty());
    let command = passable.then(|| message::approve_command(o.request, digest, e.outcome.require_comment));
    let command = command.map(|command| format!("; to pass it: {command}")).unwrap_or_default();
    format!("{}{when}: {why}{command}", granted(grant))
}

fn granted(grant: Grant) -> &'static str {
    if grant.release_by.is_none() { "allowed" } else { "approved" }
}

fn closed_now(o: &Observed<'_>, schedule: &Schedule<'_>, base: Timestamp) -> Option<String> {
    let open = schedule.next(o.now);
    open.is_none_or(|open| open > o.now).then(|| message::windows(&keeping(o, schedule, base, open)))
}
