//! Freeze windows: when they hold, by the clocks of their time zone.
//!
//! A window begins when its clocks show a time of its schedule. Where clocks are put forward over such a time, it begins
//! with the first instant after the gap; where they are put back and show it twice, with the first. From there it lasts its
//! duration in elapsed time, beginning included, end excluded. Zones come from a database inside the binary, so that every
//! machine and image agrees.

use crate::api::FreezeWindow;
use crate::policy::calendar::Calendar;
use jiff::civil::{Date, date};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};
use std::sync::LazyLock;

/// How far ahead an opening is looked for.
const HORIZON: SignedDuration = SignedDuration::from_hours(366 * 24);
/// How often one window may follow upon another without an opening between them: beyond it there is none, for us.
const MOST_ROUNDS: usize = 1_000;
/// The years whose quarters are tried when windows are compiled, which has no clock: a leap year at both ends.
const TRIED: std::ops::RangeInclusive<i16> = 2024..=2028;
/// Bounds of a duration in seconds: a minute and a year.
const DURATIONS: std::ops::RangeInclusive<i64> = 60..=31_536_000;

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// A freeze window that can be asked.
#[derive(Clone, Debug)]
pub struct Window {
    calendar: Calendar,
    zone: TimeZone,
    duration: SignedDuration,
    /// Whether each time of a day falls into the window of the one before, so that a day need not be walked through.
    dense: bool,
}

/// One of the times at which a window begins: a day, and which of its times.
#[derive(Clone, Copy, Debug)]
struct Start {
    day: Date,
    number: usize,
    at: Timestamp,
}

impl Window {
    /// Compiles a window, or says which field is wrong (`start`, `timeZone`, …) and why.
    pub fn compile(window: &FreezeWindow) -> Result<Self, (&'static str, String)> {
        let calendar = Calendar::parse(&window.start).map_err(|problem| ("start", problem))?;
        let zone = zone(&window.time_zone).map_err(|problem| ("timeZone", problem))?;
        if !DURATIONS.contains(&window.duration_seconds) {
            return Err(("durationSeconds", "must be from 60 (a minute) to 31536000 (a year)".into()));
        }
        let duration = SignedDuration::from_secs(window.duration_seconds);
        let reaches = |pair: &[u16]| i64::from(pair[1] - pair[0]) * 60 <= window.duration_seconds;
        let dense = calendar.times.windows(2).all(reaches);
        let window = Self { calendar, zone, duration, dense };
        if never_opens(&[&window]) {
            let problem = "is as long as its starts lie apart, so that it would never open, or not for a year; shorten it, or let it start less often";
            return Err(("durationSeconds", problem.into()));
        }
        Ok(window)
    }

    /// The end of the window that holds at `t`; none where none does. Of several that overlap, the latest end.
    pub fn holds_until(&self, t: Timestamp) -> Option<Timestamp> {
        let start = self.latest(t, earlier(t, self.duration))?;
        Some(later(start.at, self.duration)).filter(|end| *end > t)
    }

    /// Whether it holds at some time from `from` on and before `to`.
    pub fn holds_between(&self, from: Timestamp, to: Timestamp) -> bool {
        let last = earlier(to, SignedDuration::from_nanos(1));
        let start = self.latest(last, earlier(from, self.duration));
        from < to && start.is_some_and(|start| later(start.at, self.duration) > from)
    }

    /// The end of all the windows that follow upon each other from `t` on, if one holds then. Stops beyond `horizon`.
    fn run_until(&self, t: Timestamp, horizon: Timestamp) -> Option<Timestamp> {
        let mut start = self.latest(t, earlier(t, self.duration))?;
        let mut end = later(start.at, self.duration);
        if end <= t {
            return None;
        }
        while end <= horizon {
            start = match self.through_the_day(start).or_else(|| self.next(start, end)) {
                Some(next) => next,
                None => break,
            };
            end = later(start.at, self.duration);
        }
        Some(end)
    }

    /// The last start of the same day, where those between follow upon each other whatever clocks do: on a day on which
    /// they are put back, times lie further apart than they say.
    fn through_the_day(&self, from: Start) -> Option<Start> {
        let number = self.calendar.times.len() - 1;
        if !self.dense || from.number == number {
            return None;
        }
        let last = self.start(from.day, number)?;
        let said = i64::from(self.calendar.times[number] - self.calendar.times[from.number]) * 60;
        (last.at.duration_since(from.at).as_secs() <= said).then_some(last)
    }

    /// The next start after `from`, if it comes by `end`.
    fn next(&self, from: Start, end: Timestamp) -> Option<Start> {
        let (mut day, mut number) = (from.day, from.number + 1);
        loop {
            if number < self.calendar.times.len() {
                return self.start(day, number).filter(|start| start.at <= end);
            }
            day = day.tomorrow().ok()?;
            while !self.calendar.names(day) {
                // Midnight of a day that is not named tells whether the end is behind us.
                if self.instant(day, 0)? > end {
                    return None;
                }
                day = day.tomorrow().ok()?;
            }
            number = 0;
        }
    }

    /// The latest start by `t`, if there is one not long before `since`. Starts are in order, as instants and on clocks.
    fn latest(&self, t: Timestamp, since: Timestamp) -> Option<Start> {
        // What clocks show twice may lie behind the time they show now, and a start in a gap comes late: by a day at most.
        let slack = |day: Date, by: fn(Date) -> Option<Date>| by(day).unwrap_or(day);
        let oldest = slack(self.zone.to_datetime(since).date(), |day| day.yesterday().ok()?.yesterday().ok());
        let mut day = slack(self.zone.to_datetime(t).date(), |day| day.tomorrow().ok());
        while day >= oldest {
            if self.calendar.names(day) {
                let by = |minute: &u16| self.instant(day, *minute).is_some_and(|at| at <= t);
                let passed = self.calendar.times.partition_point(by);
                if passed > 0 {
                    return self.start(day, passed - 1);
                }
            }
            day = day.yesterday().ok()?;
        }
        None
    }

    fn start(&self, day: Date, number: usize) -> Option<Start> {
        Some(Start { day, number, at: self.instant(day, *self.calendar.times.get(number)?)? })
    }

    /// When clocks first show that minute of the day, or first show more.
    fn instant(&self, day: Date, minute: u16) -> Option<Timestamp> {
        let clock = day.at((minute / 60) as i8, (minute % 60) as i8, 0, 0);
        match self.zone.to_ambiguous_timestamp(clock).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(clock).ok(),
            AmbiguousOffset::Fold { before, .. } => before.to_timestamp(clock).ok(),
            AmbiguousOffset::Gap { before, after } => {
                let (low, high) = (after.to_timestamp(clock).ok()?, before.to_timestamp(clock).ok()?);
                let mut changes = self.zone.following(low).take_while(|change| change.timestamp() <= high);
                Some(changes.find(|change| change.offset() == after).map_or(high, |change| change.timestamp()))
            }
        }
    }
}

/// A window, and from when on it does not hold any more because somebody passed it.
pub type Passable<'a> = (&'a Window, Option<Timestamp>);

/// The first time from `t` on that none of the windows holds; none where there is none within 366 days, or where more than
/// a thousand follow upon each other before.
pub fn opening(windows: &[&Window], t: Timestamp) -> Option<Timestamp> {
    opening_past(&windows.iter().map(|window| (*window, None)).collect::<Vec<_>>(), t)
}

/// The same, where some of them are passed at some time.
pub fn opening_past(windows: &[Passable<'_>], t: Timestamp) -> Option<Timestamp> {
    first_opening(windows, t, &mut { MOST_ROUNDS })
}

/// Until when something must be released that was ready at `ready`: so many seconds after it first could be. Where a window
/// holds then, as long after its end, once: what is approved shortly before a window is not used up by it. Where there is
/// no opening, since nobody passes what they may, the clock starts at once.
pub fn release_by(windows: &[Passable<'_>], ready: Timestamp, timeout: i64) -> Timestamp {
    let timeout = SignedDuration::from_secs(timeout);
    let first = opening_past(windows, ready).unwrap_or(ready);
    let by = later(first, timeout);
    opening_past(windows, by).filter(|open| *open > by).map_or(by, |open| later(open, timeout))
}

/// When something is released that was ready at `ready`; none where its clock, if it has one, runs out first. Nobody counts
/// on a pass before it is given.
pub fn released_at(windows: &[Passable<'_>], ready: Timestamp, timeout: Option<i64>) -> Option<Timestamp> {
    let mut news: Vec<Timestamp> = windows.iter().filter_map(|(_, passed)| *passed).collect();
    news.retain(|passed| *passed > ready);
    news.push(ready);
    news.sort();
    for (i, now) in news.iter().enumerate() {
        let known: Vec<_> = windows.iter().map(|(w, passed)| (*w, passed.filter(|passed| passed <= now))).collect();
        let closed: Vec<_> = known.iter().filter(|(_, passed)| passed.is_none()).map(|(window, _)| *window).collect();
        let by = timeout.map(|timeout| release_by(&known, ready, timeout));
        let open = opening(&closed, *now).filter(|open| by.is_none_or(|by| *open <= by));
        match (open, news.get(i + 1)) {
            (Some(open), next) if next.is_none_or(|next| open <= *next) => return Some(open),
            (_, Some(next)) if by.is_none_or(|by| *next <= by) => {}
            _ => return None,
        }
    }
    None
}

fn first_opening(windows: &[Passable<'_>], from: Timestamp, rounds: &mut usize) -> Option<Timestamp> {
    let (horizon, mut t) = (later(from, HORIZON), from);
    while t <= horizon {
        *rounds = rounds.checked_sub(1)?;
        let before = t;
        for (window, passed) in windows {
            let until = window.run_until(t, horizon).map(|end| passed.map_or(end, |passed| passed.min(end)));
            t = t.max(until.unwrap_or(t));
        }
        if t == before {
            return Some(t);
        }
    }
    None
}

/// Whether windows leave no opening within a year, seen from the first day of one of the quarters that are tried.
pub(super) fn never_opens(windows: &[&Window]) -> bool {
    let windows: Vec<_> = windows.iter().map(|window| (*window, None)).collect();
    // All of them together: what follows upon each other without end costs as much as what ends.
    let mut rounds = 2 * MOST_ROUNDS;
    let quarters = TRIED.flat_map(|year| [1, 4, 7, 10].map(|month| date(year, month, 1)));
    let mut firsts = quarters.filter_map(|day| TimeZone::UTC.to_timestamp(day.at(0, 0, 0, 0)).ok());
    !windows.is_empty() && firsts.any(|t| first_opening(&windows, t, &mut rounds).is_none())
}

fn zone(name: &str) -> Result<TimeZone, String> {
    let known = ZONES.get(name).ok().filter(|zone| !zone.is_unknown());
    known.ok_or_else(|| {
        let name: String = name.chars().take(64).collect();
        format!("{name:?} is no time zone of the IANA database, such as Europe/Berlin or UTC")
    })
}

fn later(t: Timestamp, by: SignedDuration) -> Timestamp {
    t.checked_add(by).unwrap_or(Timestamp::MAX)
}

fn earlier(t: Timestamp, by: SignedDuration) -> Timestamp {
    t.checked_sub(by).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
