//! Who leads, decided from what is seen of one Lease. Pure: a [`Mark`] is a reading of a clock that nobody sets, and the times
//! that stand in the Lease, which are some other machine's, decide nothing.
//!
//! The rules are those of client-go's `leaderelection`: a Lease counts as held for as long as it promises, from the moment on
//! at which this candidate saw it written last; its holder leads for less than that, counted from before its last write. So two
//! lead at once only where clocks run at speeds that differ by more than a third.

use std::time::Duration;

/// Time since the process started.
pub type Mark = Duration;

/// Most that a Lease of somebody else is believed to promise: what stands there cannot keep everybody waiting for ever.
const LONGEST: Duration = Duration::from_secs(600);

/// For how long things hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Terms {
    /// How long others wait for a holder that is silent.
    pub lease: Duration,
    /// How long a holder leads without having written it anew. Shorter, so that it has ended before anybody follows.
    pub leads: Duration,
    /// How often a holder writes it.
    pub renew: Duration,
}

impl Terms {
    /// Terms in the proportions that Kubernetes' own components use: 15, 10 and 2 seconds.
    pub fn of(lease: Duration) -> Self {
        Self { lease, leads: lease * 2 / 3, renew: lease * 2 / 15 }
    }
}

/// A Lease as it is stored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Seen {
    /// Its resource version.
    pub version: String,
    /// Who holds it; empty where nobody does.
    pub holder: String,
    /// How long it promises to hold.
    pub lasts: Duration,
}

/// What to do next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Move {
    /// Read the Lease: it is not known.
    Look,
    /// Write it in our name: anew where there is none, and over the version that was seen otherwise.
    Write,
    /// Nothing, until then or until it is seen to change.
    Wait(Mark),
}

/// One candidate.
#[derive(Clone, Debug)]
pub struct Election {
    me: String,
    terms: Terms,
    /// The Lease, and since when it was seen like this; none where it was not looked at. Within, none where there is none.
    seen: Option<(Option<Seen>, Mark)>,
    /// When our last write that succeeded was begun, while the Lease is ours.
    written: Option<Mark>,
    /// Not before then, after a failure.
    rests: Mark,
}

impl Election {
    /// A candidate of that name, which no other has, in this life or an earlier one.
    pub fn new(me: impl Into<String>, terms: Terms) -> Self {
        Self { me: me.into(), terms, seen: None, written: None, rests: Mark::ZERO }
    }

    /// The Lease is there like this, or not at all.
    pub fn see(&mut self, lease: Option<Seen>, now: Mark) {
        if lease.as_ref().is_none_or(|lease| lease.holder != self.me) {
            self.written = None;
        }
        if self.seen.as_ref().is_none_or(|(before, _)| *before != lease) {
            self.seen = Some((lease, now));
        }
    }

    /// Our write, begun at that time, is stored like this.
    pub fn wrote(&mut self, lease: Seen, begun: Mark) {
        self.written = (lease.holder == self.me).then_some(begun);
        self.seen = Some((Some(lease), begun));
    }

    /// Somebody else wrote first: it has to be looked at.
    pub fn lost_sight(&mut self) {
        self.seen = None;
    }

    /// Something did not succeed.
    pub fn failed(&mut self, now: Mark) {
        self.rests = now + self.terms.renew;
    }

    /// The Lease as it was seen last.
    #[cfg(test)]
    pub fn lease(&self) -> Option<&Seen> {
        self.seen.as_ref()?.0.as_ref()
    }

    /// What to do now.
    pub fn next(&self, now: Mark) -> Move {
        if now < self.rests {
            return Move::Wait(self.rests);
        }
        let Some((lease, since)) = &self.seen else { return Move::Look };
        let due = match lease {
            None => now,
            Some(lease) if lease.holder.is_empty() => now,
            Some(lease) if lease.holder == self.me => self.written.map_or(now, |written| written + self.terms.renew),
            Some(lease) => *since + self.terms.lease.max(lease.lasts.min(LONGEST)),
        };
        if due <= now { Move::Write } else { Move::Wait(due) }
    }

    /// Until when we lead, unless the Lease is written anew; none while it is not ours.
    pub fn leads_until(&self) -> Option<Mark> {
        Some(self.written? + self.terms.leads)
    }

    /// Whether we lead.
    #[cfg(test)]
    pub fn leads(&self, now: Mark) -> bool {
        self.leads_until().is_some_and(|until| now < until)
    }

    /// We lead no more, and want the Lease no more. Whether there is one to give back.
    pub fn resign(&mut self) -> bool {
        self.written.take().is_some()
    }
}
