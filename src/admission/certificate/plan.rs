//! The next step towards a certificate that lasts, decided from what is stored and registered.
//!
//! What holds after every step: the API server trusts whatever the Secret has served, and whatever a replica may still serve;
//! what it does not trust yet is not served, but where nothing else is.

use crate::admission::certificate::pair::Good;
use crate::admission::certificate::stored::{Next, Stored};
use jiff::{SignedDuration, Timestamp};

/// How long a pair that is to be served is announced before it is: every API server has heard of it by then.
pub const SETTLE: SignedDuration = SignedDuration::from_secs(60);

/// What a leader sees.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// What can be used of what the Secret holds.
    pub stored: &'a Stored,
    /// The authorities that this leader registered last.
    pub registered: Option<&'a str>,
    /// What it serves itself, and so may others.
    pub serving: Option<&'a Good>,
    /// How long a new certificate lasts.
    pub lifetime: SignedDuration,
}

/// What to do next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// Make a pair, and write it as the one that is to follow: [`Stored::with_next`] of this.
    Make(Stored),
    /// Write this.
    Write(Stored),
    /// Have the API server trust these authorities.
    Register(String),
    /// Nothing until then, unless something changes.
    Wait(Timestamp),
}

/// The next step. At its end, look again.
pub fn plan(view: &View<'_>, now: Timestamp) -> Step {
    let stored = trusting(view.stored.clone(), view.serving.filter(|serving| serving.is_good(now)), now);
    if stored.current.is_none() && stored.next.is_none() {
        return Step::Make(stored);
    }
    if stored != *view.stored {
        return Step::Write(stored);
    }
    let bundle = stored.bundle();
    if view.registered != Some(bundle.as_str()) {
        return Step::Register(bundle);
    }
    match (&stored.next, &stored.current) {
        (Some(next), current) => promotion(&stored, next, current.is_some() || view.serving.is_some(), now),
        (None, Some(current)) => renewal(&stored, current, view.lifetime, now),
        // Said above: there is one of the two.
        (None, None) => Step::Wait(now),
    }
}

/// Without authorities that are over, and with the one of what is served.
fn trusting(mut stored: Stored, serving: Option<&Good>, now: Timestamp) -> Stored {
    stored.previous.retain(|one| now < one.until);
    match serving {
        Some(serving) if !stored.trusts(serving) => stored.trusting(serving),
        _ => stored,
    }
}

/// A pair that is announced waits, unless nothing is served meanwhile.
fn promotion(stored: &Stored, next: &Next, served: bool, now: Timestamp) -> Step {
    let settled = |announced| SETTLE <= now.duration_since(announced);
    match next.announced {
        _ if !served => Step::Write(stored.clone().promoted()),
        Some(announced) if settled(announced) => Step::Write(stored.clone().promoted()),
        // One from the future is that of a clock that was wrong.
        Some(announced) if announced <= now => Step::Wait(later(announced, SETTLE)),
        _ => Step::Write(Stored { next: Some(Next { announced: Some(now), ..next.clone() }), ..stored.clone() }),
    }
}

/// A pair is followed by another once less than a third of a lifetime is left.
fn renewal(stored: &Stored, current: &Good, lifetime: SignedDuration, now: Timestamp) -> Step {
    let due = current.until.checked_sub(lifetime / 3).unwrap_or(Timestamp::MIN);
    if due <= now {
        return Step::Make(stored.clone());
    }
    let ends = stored.previous.iter().map(|one| one.until).min();
    Step::Wait(ends.map_or(due, |ends| ends.min(due)))
}

fn later(then: Timestamp, by: SignedDuration) -> Timestamp {
    then.checked_add(by).unwrap_or(Timestamp::MAX)
}
