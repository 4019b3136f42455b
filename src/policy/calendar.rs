//! The days and minutes that a cron schedule names, by the clocks of whatever zone it is read in.
//!
//! The text is read by the crate `cronexpr`, field by field and in UTC alone: neither it nor `croner` treats the changes of
//! clocks as freeze windows must (the one skips a start that does not exist, the other doubles one that occurs twice), so
//! [`Window`](crate::policy::Window) maps clock times to instants itself.

use cronexpr::{Crontab, FallbackTimezoneOption, ParseOptions, parse_crontab_with};
use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use std::sync::Arc;

/// What the five fields are called.
const FIELDS: &str = "minute, hour, day of month, month, day of week";
/// The days in which a schedule must occur at least once: they hold two leap days.
const REFERENCE: (Date, Date) = (date(2024, 1, 1), date(2028, 12, 31));

/// The clock times that a schedule names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Calendar {
    /// Minutes of the day, ascending; never empty.
    pub times: Arc<[u16]>,
    /// A bit for each day of the month, from 1.
    days: u32,
    /// A bit for each month, from 1.
    months: u16,
    /// A bit for each day of the week, from Monday, 1.
    weekdays: u8,
    /// Whether one of both days is enough, as cron has it where neither begins with `*`.
    either: bool,
}

impl Calendar {
    /// Reads a schedule, or says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: String| format!("{:?} is no schedule in five fields of cron ({FIELDS}): {why}", shown(text));
        let parts: Vec<&str> = text.split_ascii_whitespace().collect();
        plain(text, parts.len()).map_err(wrong)?;
        let [minute, hour, day, month, weekday] = parts[..] else { return Err(wrong("it has another number".into())) };
        let field = |text: String| crontab(&text).map_err(wrong);
        let minutes = field(format!("{minute} * * * *"))?;
        let hours = field(format!("0 {hour} * * *"))?;
        let days = field(format!("0 0 {day} * *"))?;
        let months = field(format!("0 0 * {month} *"))?;
        let weekdays = field(format!("0 0 * * {weekday}"))?;
        // 2024 begins with a Monday, and its January has 31 days.
        let (january, noon) = (date(2024, 1, 1), 0);
        let minutes: Vec<u16> = (0..60).filter(|m| names(&minutes, january, *m)).collect();
        let hours: Vec<u16> = (0..24).filter(|h| names(&hours, january, h * 60)).collect();
        let calendar = Self {
            times: hours.iter().flat_map(|h| minutes.iter().map(move |m| h * 60 + m)).collect(),
            days: (1..=31).filter(|d| names(&days, date(2024, 1, *d), noon)).fold(0, |bits, d| bits | 1 << d),
            months: (1..=12).filter(|m| names(&months, date(2024, *m, 1), noon)).fold(0, |bits, m| bits | 1 << m),
            weekdays: (1..=7).filter(|d| names(&weekdays, date(2024, 1, *d), noon)).fold(0, |bits, d| bits | 1 << d),
            either: !day.starts_with('*') && !weekday.starts_with('*'),
        };
        if calendar.times.is_empty() || !calendar.occurs() {
            return Err(format!("{:?} names no day that there is, at least none from 2024 to 2028", shown(text)));
        }
        Ok(calendar)
    }

    /// Whether it names that day.
    pub(super) fn names(&self, day: Date) -> bool {
        let of_month = self.days >> day.day() & 1 == 1;
        let of_week = self.weekdays >> day.weekday().to_monday_one_offset() & 1 == 1;
        let on = if self.either { of_month || of_week } else { of_month && of_week };
        on && self.months >> day.month() & 1 == 1
    }

    fn occurs(&self) -> bool {
        let mut day = Some(REFERENCE.0);
        while let Some(today) = day.filter(|day| *day <= REFERENCE.1) {
            if self.names(today) {
                return true;
            }
            day = today.tomorrow().ok();
        }
        false
    }
}

/// What is beyond the fields that every cron takes. `cronexpr` knows more (`L`, `W`, `#`), and misses the last days of
/// December by it; a window that does not open there would let through what it is to hold.
fn plain(text: &str, parts: usize) -> Result<(), String> {
    if text.starts_with('@') {
        return Err("names such as @daily are not taken; write the fields".into());
    }
    if let Some(c) = text.chars().find(|c| !c.is_ascii_alphanumeric() && !"*,-/ \t".contains(*c)) {
        return Err(format!("{c:?} is not taken"));
    }
    let names = text.split(|c: char| !c.is_ascii_alphabetic()).filter(|name| !name.is_empty());
    if let Some(name) = names.into_iter().find(|name| name.len() != 3 && parts <= 5) {
        return Err(format!("{name:?} is not taken; names are those of months and days, such as JAN or MON"));
    }
    match parts {
        5 => Ok(()),
        n => Err(format!("it has {n}; seconds, years and time zones do not belong here (the zone is timeZone)")),
    }
}

fn crontab(text: &str) -> Result<Crontab, String> {
    let mut options = ParseOptions::default();
    options.fallback_timezone_option = FallbackTimezoneOption::UTC;
    // It draws an arrow below the text; the words stand behind that.
    parse_crontab_with(text, options).map_err(|e| {
        let said = e.to_string();
        said.lines().last().unwrap_or_default().trim_start_matches([' ', '^']).to_string()
    })
}

/// Whether it occurs at that minute of the day, by the clocks of UTC.
fn names(crontab: &Crontab, day: Date, minute: u16) -> bool {
    let (hour, minute) = ((minute / 60) as i8, (minute % 60) as i8);
    let at = TimeZone::UTC.to_timestamp(day.at(hour, minute, 0, 0)).ok();
    at.is_some_and(|at| crontab.matches(at).unwrap_or(false))
}

/// At most as much of it as the API takes.
fn shown(text: &str) -> String {
    text.chars().take(128).collect()
}
