//! Parts of a timestamp, in a time zone.

use crate::policy::expression::item::Item;
use crate::policy::expression::meter::Failure;
use jiff::tz::{Offset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};

/// A part of a timestamp. Some are counted from 0, as CEL says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Part {
    FullYear,
    /// From 0.
    Month,
    /// From 1.
    Date,
    /// From 0.
    DayOfMonth,
    /// From 0, a Sunday.
    DayOfWeek,
    /// From 0.
    DayOfYear,
    Hours,
    Minutes,
    Seconds,
    Milliseconds,
}

/// The methods, by name.
pub(super) const PARTS: [(&str, Part); 10] = [
    ("getFullYear", Part::FullYear),
    ("getMonth", Part::Month),
    ("getDate", Part::Date),
    ("getDayOfMonth", Part::DayOfMonth),
    ("getDayOfWeek", Part::DayOfWeek),
    ("getDayOfYear", Part::DayOfYear),
    ("getHours", Part::Hours),
    ("getMinutes", Part::Minutes),
    ("getSeconds", Part::Seconds),
    ("getMilliseconds", Part::Milliseconds),
];

impl Part {
    /// The part of a timestamp in a zone, or a whole duration in the unit of the part.
    pub(super) fn of<'e>(self, item: &Item<'_>, zone: &TimeZone) -> Result<i64, Failure<'e>> {
        match item {
            Item::Time(time) => Ok(self.of_time(*time, zone)),
            Item::Span(span) => self.of_span(*span).ok_or(Failure::Kinds(self.name(), item.kind(), None)),
            _ => Err(Failure::Kinds(self.name(), item.kind(), None)),
        }
    }

    fn name(self) -> &'static str {
        PARTS.iter().find(|(_, part)| *part == self).map_or("", |(name, _)| name)
    }

    fn of_time(self, time: Timestamp, zone: &TimeZone) -> i64 {
        let local = zone.to_datetime(time);
        match self {
            Self::FullYear => i64::from(local.year()),
            Self::Month => i64::from(local.month()) - 1,
            Self::Date => i64::from(local.day()),
            Self::DayOfMonth => i64::from(local.day()) - 1,
            Self::DayOfWeek => i64::from(local.weekday().to_sunday_zero_offset()),
            Self::DayOfYear => i64::from(local.day_of_year()) - 1,
            Self::Hours => i64::from(local.hour()),
            Self::Minutes => i64::from(local.minute()),
            Self::Seconds => i64::from(local.second()),
            Self::Milliseconds => i64::from(local.subsec_nanosecond() / 1_000_000),
        }
    }

    fn of_span(self, span: SignedDuration) -> Option<i64> {
        match self {
            Self::Hours => Some(span.as_hours()),
            Self::Minutes => Some(span.as_mins()),
            Self::Seconds => Some(span.as_secs()),
            Self::Milliseconds => i64::try_from(span.as_millis()).ok(),
            _ => None,
        }
    }
}

/// A zone by its IANA name, from the database that is built in, or an offset such as `+02:00`.
pub(super) fn zone(name: &str) -> Option<TimeZone> {
    match name.split_once(':') {
        Some((hours, minutes)) => offset(hours, minutes).map(TimeZone::fixed),
        None => TimeZoneDatabase::bundled().get(name).ok(),
    }
}

fn offset(hours: &str, minutes: &str) -> Option<Offset> {
    let digits = |text: &str| text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
    let (sign, hours) = match hours.strip_prefix(['+', '-']) {
        Some(rest) => (if hours.starts_with('-') { -1 } else { 1 }, rest),
        None => (1, hours),
    };
    if !digits(hours) || !digits(minutes) {
        return None;
    }
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    let seconds = sign * (hours * 60 + minutes) * 60;
    (hours <= 23 && minutes <= 59).then(|| Offset::from_seconds(seconds).ok()).flatten()
}

/// A timestamp as RFC 3339 writes it.
pub(super) fn timestamp(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// A duration such as `1h30m`, `-1.5s` or `250ms`.
pub(super) fn duration(text: &str) -> Option<SignedDuration> {
    let (negative, mut rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    if rest == "0" {
        return Some(SignedDuration::ZERO);
    }
    let mut sum = SignedDuration::ZERO;
    while {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        sum = sum.checked_add(component(number, unit)?)?;
        rest = after;
        !rest.is_empty()
    } {}
    if negative { sum.checked_neg() } else { Some(sum) }
}

/// Whole and fractional units, in integers: no rounding error adds up.
fn component(number: &str, unit: &str) -> Option<SignedDuration> {
    let nanos: i128 = match unit {
        "h" => 3_600_000_000_000,
        "m" => 60_000_000_000,
        "s" => 1_000_000_000,
        "ms" => 1_000_000,
        "us" | "µs" => 1_000,
        "ns" => 1,
        _ => return None,
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && part.is_empty()) || part.len() > 18 || part.contains('.') {
        return None;
    }
    let parse = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<i64>().ok().map(i128::from) };
    let scale = 10_i128.checked_pow(u32::try_from(part.len()).ok()?)?;
    let total = parse(whole)? * nanos + parse(part)? * nanos / scale;
    Some(SignedDuration::from_nanos(i64::try_from(total).ok()?))
}
