use super::*;
use jiff::civil::DateTime;
use proptest::prelude::*;
use std::time::Instant;

fn freeze(start: &str, seconds: i64, zone: &str) -> FreezeWindow {
    FreezeWindow {
        name: "freeze".into(),
        start: start.into(),
        duration_seconds: seconds,
        time_zone: zone.into(),
        may_pass: vec![],
    }
}

fn window(start: &str, seconds: i64, zone: &str) -> Window {
    Window::compile(&freeze(start, seconds, zone)).unwrap_or_else(|e| panic!("{start} {seconds} {zone}: {e:?}"))
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The bounds of the window that holds at a time, by asking around it.
fn held(window: &Window, t: &str) -> Option<String> {
    window.holds_until(at(t)).map(|end| end.to_string())
}

#[test]
fn a_window_begins_with_its_start_and_ends_before_its_end() {
    let weekend = window("0 18 * * FRI", 60 * 3600, "UTC");
    for (t, end) in [
        ("2026-11-20T17:59:59.999999999Z", None),
        ("2026-11-20T18:00:00Z", Some("2026-11-23T06:00:00Z")),
        ("2026-11-23T05:59:59.999999999Z", Some("2026-11-23T06:00:00Z")),
        ("2026-11-23T06:00:00Z", None),
    ] {
        assert_eq!(held(&weekend, t).as_deref(), end, "{t}");
    }
    // Of two that overlap, the end of the later one.
    let overlapping = window("0 0,12 * * MON", 18 * 3600, "UTC");
    assert_eq!(held(&overlapping, "2026-11-23T11:00:00Z").as_deref(), Some("2026-11-23T18:00:00Z"));
    assert_eq!(held(&overlapping, "2026-11-23T13:00:00Z").as_deref(), Some("2026-11-24T06:00:00Z"));
    assert_eq!(opening(&[&overlapping], at("2026-11-23T00:00:00Z")), Some(at("2026-11-24T06:00:00Z")));
}

#[test]
fn clocks_that_change_move_the_start_and_never_the_length() {
    // Zone, schedule, seconds, where it begins that day.
    let table = [
        // 02:30 does not exist: 02:00 is 03:00.
        ("Europe/Berlin", "30 2 29 3 *", 3600, "2026-03-29T01:00:00Z"),
        ("Europe/Berlin", "0 2 29 3 *", 3600, "2026-03-29T01:00:00Z"),
        ("Europe/Berlin", "0 3 29 3 *", 3600, "2026-03-29T01:00:00Z"),
        ("Europe/Berlin", "59 1 29 3 *", 3600, "2026-03-29T00:59:00Z"),
        // 02:30 occurs twice: the first.
        ("Europe/Berlin", "30 2 25 10 *", 1800, "2026-10-25T00:30:00Z"),
        ("Europe/Berlin", "0 3 25 10 *", 1800, "2026-10-25T02:00:00Z"),
        ("America/New_York", "30 2 8 3 *", 7200, "2026-03-08T07:00:00Z"),
        ("America/New_York", "30 1 1 11 *", 1800, "2026-11-01T05:30:00Z"),
        // Half an hour: 02:00 is 02:30, and later 02:00 is 01:30.
        ("Australia/Lord_Howe", "15 2 4 10 *", 600, "2026-10-03T15:30:00Z"),
        ("Australia/Lord_Howe", "45 1 5 4 *", 600, "2026-04-04T14:45:00Z"),
        // A minute after midnight, clocks went back into the day before.
        ("America/St_Johns", "0 0 7 11 *", 600, "2010-11-07T02:30:00Z"),
        // The day that Samoa skipped.
        ("Pacific/Apia", "0 12 30 12 *", 3600, "2011-12-30T10:00:00Z"),
        ("UTC", "30 2 29 3 *", 3600, "2026-03-29T02:30:00Z"),
    ];
    for (zone, start, seconds, begins) in table {
        let (window, begins) = (window(start, seconds, zone), at(begins));
        let end = begins + SignedDuration::from_secs(seconds);
        let moment = SignedDuration::from_nanos(1);
        assert_eq!(window.holds_until(begins), Some(end), "{zone} {start}");
        assert_eq!(window.holds_until(begins - moment), None, "{zone} {start}");
        assert_eq!(window.holds_until(end - moment), Some(end), "{zone} {start}");
        assert_eq!(window.holds_until(end), None, "{zone} {start}: not doubled");
    }
    // A day and a night over a change: elapsed time, not clocks.
    let day = window("0 18 * * SAT", 24 * 3600, "Europe/Berlin");
    assert_eq!(held(&day, "2026-03-28T20:00:00Z").as_deref(), Some("2026-03-29T17:00:00Z"), "19:00 on clocks");
    assert_eq!(held(&day, "2026-10-24T20:00:00Z").as_deref(), Some("2026-10-25T16:00:00Z"), "17:00 on clocks");
}

#[test]
fn what_is_no_window_is_refused_with_its_field() {
    let table = [
        (freeze("0 25 * * *", 60, "UTC"), "start", "value must be in range 0..=23; found 25"),
        (freeze("* * * *", 60, "UTC"), "start", "it has 4"),
        (freeze("0 0 * * * *", 60, "UTC"), "start", "seconds, years and time zones do not belong here"),
        (freeze("0 0 * * * Europe/Berlin", 60, "UTC"), "start", "(the zone is timeZone)"),
        (freeze("", 60, "UTC"), "start", "it has 0"),
        (freeze("@daily", 60, "UTC"), "start", "names such as @daily are not taken"),
        (freeze("0 0 L * *", 60, "UTC"), "start", "\"L\" is not taken"),
        (freeze("0 0 15W * *", 60, "UTC"), "start", "\"W\" is not taken"),
        (freeze("0 0 * * 5L", 60, "UTC"), "start", "\"L\" is not taken"),
        (freeze("0 0 * * MON#1", 60, "UTC"), "start", "'#' is not taken"),
        (freeze("0 0 ? * *", 60, "UTC"), "start", "'?' is not taken"),
        (freeze("H 0 * * *", 60, "UTC"), "start", "\"H\" is not taken"),
        (freeze("0 0 * * ½", 60, "UTC"), "start", "'½' is not taken"),
        (freeze("*/0 0 * * *", 60, "UTC"), "start", "step must be greater than 0"),
        (freeze("0 0 * * FRI-SUN", 60, "UTC"), "start", "range must be in ascending order"),
        (freeze("0 0 31 2 *", 60, "UTC"), "start", "names no day that there is"),
        (freeze("0 0 1 1 *", 60, "Europe/Berln"), "timeZone", "\"Europe/Berln\" is no time zone"),
        (freeze("0 0 1 1 *", 60, ""), "timeZone", "is no time zone"),
        (freeze("0 0 1 1 *", 60, "Etc/Unknown"), "timeZone", "is no time zone"),
        (freeze("0 0 1 1 *", 60, "+02:00"), "timeZone", "is no time zone"),
        (freeze("0 0 1 1 *", 60, "../../etc/passwd"), "timeZone", "is no time zone"),
        (freeze("0 0 1 1 *", 59, "UTC"), "durationSeconds", "from 60"),
        (freeze("0 0 1 1 *", 31_536_001, "UTC"), "durationSeconds", "to 31536000"),
        (freeze("0 0 1 1 *", i64::MIN, "UTC"), "durationSeconds", "from 60"),
        (freeze("* * * * *", 3600, "UTC"), "durationSeconds", "it would never open"),
        (freeze("* * * * *", 60, "UTC"), "durationSeconds", "it would never open"),
        (freeze("* * * * *", 31_536_000, "Europe/Berlin"), "durationSeconds", "it would never open"),
        (freeze("0 0 * * *", 86_400, "UTC"), "durationSeconds", "it would never open"),
        // One free day in four years.
        (freeze("0 0 1 1 *", 31_536_000, "UTC"), "durationSeconds", "or not for a year"),
    ];
    for (window, field, problem) in table {
        let refused = Window::compile(&window).map(|_| ()).unwrap_err();
        assert_eq!(refused.0, field, "{window:?}: {}", refused.1);
        assert!(refused.1.contains(problem) && !refused.1.contains('\n'), "{window:?}: {}", refused.1);
    }
}

#[test]
fn what_every_cron_takes_is_taken() {
    for start in
        ["*/15 0-6,22-23 1,15 jan-mar,DEC mon-fri", "5/10 3 * * 7", "0 0 29 2 *", "0\t0  * * 0", "0 0 * * 0-7/2"]
    {
        window(start, 60, "UTC");
    }
    window("0 0 20 12 *", 17 * 86_400, "europe/berlin");
    window("0 0 * * *", 86_340, "Europe/Berlin");
}

#[test]
fn windows_that_leave_no_opening_together_conflict() {
    let (first, second) = (window("0 0 1 1 *", 200 * 86_400, "UTC"), window("0 0 1 7 *", 200 * 86_400, "UTC"));
    assert!(never_opens(&[&first, &second]) && !never_opens(&[&first]) && !never_opens(&[&second]));
    let (odd, even) = (window("1-59/2 * * * *", 60, "UTC"), window("*/2 * * * *", 60, "UTC"));
    assert!(never_opens(&[&odd, &even]), "the one closes when the other opens");
    let (day, night) = (window("0 8 * * *", 10 * 3600, "UTC"), window("0 18 * * *", 14 * 3600, "UTC"));
    assert!(never_opens(&[&day, &night]));
    let shorter = window("0 18 * * *", 14 * 3600 - 60, "UTC");
    assert_eq!(opening(&[&day, &shorter], at("2026-11-20T12:00:00Z")), Some(at("2026-11-21T07:59:00Z")));
    // An hour that clocks show twice begins no window the second time.
    let hourly = window("0 * * * *", 3600, "Europe/Berlin");
    assert_eq!(opening(&[&hourly], at("2026-10-20T12:34:56Z")), Some(at("2026-10-25T01:00:00Z")));
    assert_eq!(opening(&[&hourly], at("2026-03-20T12:34:56Z")), Some(at("2026-10-25T01:00:00Z")));
    let berlin = |start, hours: i64| window(start, hours * 3600, "Europe/Berlin");
    let (day, night) = (berlin("0 8 * * *", 10), berlin("0 18 * * *", 14));
    assert_eq!(opening(&[&day, &night], at("2026-10-24T12:00:00Z")), Some(at("2026-10-25T06:00:00Z")));
}

#[test]
fn a_window_that_is_passed_holds_no_more() {
    let weekend = window("0 18 * * FRI", 60 * 3600, "UTC");
    let friday = at("2026-11-20T20:00:00Z");
    let past = |passed: &str| opening_past(&[(&weekend, Some(at(passed)))], friday).unwrap().to_string();
    assert_eq!(past("2026-11-21T12:00:00Z"), "2026-11-21T12:00:00Z");
    assert_eq!(past("2026-11-20T19:00:00Z"), "2026-11-20T20:00:00Z");
    assert_eq!(past("2026-11-25T12:00:00Z"), "2026-11-23T06:00:00Z", "too late to matter");
}

#[test]
fn whatever_is_asked_costs_little() {
    let year = window("0 0 1 1 *", 360 * 86_400, "Europe/Berlin");
    let busy = window("* 0-22 * * *", 60, "Europe/Berlin");
    let began = Instant::now();
    for i in 0..1_000 {
        let t = at("2026-12-31T12:00:00Z") + SignedDuration::from_secs(i);
        assert_eq!((year.holds_until(t), busy.holds_until(t).is_some()), (None, true));
    }
    assert!(opening(&[&year, &busy], at("2026-01-01T00:00:00Z")).is_some());
    // The hardest that compiles: two that take turns for most of a day, beside many that are asked in vain.
    let mut hard = vec![window("1-59/2 0-14 1 * *", 60, "UTC"), window("*/2 0-14 1 * *", 60, "UTC")];
    hard.extend((0..14).map(|day| window(&format!("0 0 {} 2 *", day + 1), 300 * 86_400, "Europe/Berlin")));
    never_opens(&hard.iter().collect::<Vec<_>>());
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
}

#[test]
fn a_policy_whose_windows_make_no_sense_is_refused_with_the_field() {
    let lunch = serde_json::json!({"name": "lunch", "start": "0 12 * * *", "durationSeconds": 3600});
    let with = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut rule = serde_json::json!({"name": "r", "decision": "Allow", "freezeWindows": [lunch]});
        change(&mut rule);
        crate::policy::compile("prod", &serde_json::json!({"rules": [rule]}), None).map_err(|b| b.error.to_string())
    };
    assert!(with(&|_| {}).is_ok());
    type Change = fn(&mut serde_json::Value);
    let table: [(Change, &str); 8] = [
        (
            |r| r["freezeWindows"][0]["timeZone"] = "Mars".into(),
            "spec.rules[r].freezeWindows[lunch].timeZone: \"Mars\" is no",
        ),
        (
            |r| r["freezeWindows"][0]["start"] = "* * *".into(),
            "spec.rules[r].freezeWindows[lunch].start: \"* * *\" is no",
        ),
        (
            |r| r["freezeWindows"] = serde_json::json!([r["freezeWindows"][0], r["freezeWindows"][0]]),
            "spec.rules[r].freezeWindows: two windows are named \"lunch\"",
        ),
        (
            |r| {
                r["freezeWindows"] = serde_json::json!([
                    {"name": "day", "start": "0 6 * * *", "durationSeconds": 43200},
                    {"name": "night", "start": "0 18 * * *", "durationSeconds": 43200}]);
            },
            "spec.rules[r].freezeWindows: leave no time at which none of them holds",
        ),
        (
            |r| r["freezeWindows"][0]["mayPass"] = serde_json::json!([{"kind": "ServiceAccount", "name": "a"}]),
            "spec.rules[r].freezeWindows[lunch].mayPass[0].namespace: is required",
        ),
        (
            |r| r["freezeWindows"][0]["mayPass"] = serde_json::json!([{"kind": "Authorized", "name": "other"}]),
            "spec.rules[r].freezeWindows[lunch].mayPass[0].name: is \"other\"",
        ),
        (|r| r["notBeforeSeconds"] = 0.into(), "spec.rules[r].notBeforeSeconds: must be from 1"),
        (
            |r| r["decision"] = "Deny".into(),
            "spec.rules[r].freezeWindows: belongs to decision Allow or RequireApproval",
        ),
    ];
    for (change, text) in table {
        let refused = with(&change).map(|_| ()).unwrap_err();
        assert!(refused.starts_with(text), "{refused}");
    }
}

#[test]
fn a_release_clock_is_not_used_up_by_a_window_and_waits_for_nobody_for_ever() {
    let window = |start: &str, hours: i64| Window::compile(&freeze(start, hours * 3600, "UTC")).unwrap();
    let (night, day) = (window("0 18 * * *", 12), window("0 6 * * *", 12));
    let clock = |hour: i64| at("2026-01-05T00:00:00Z") + SignedDuration::from_hours(hour);
    let hour = 3600;
    let by = |windows: &[Passable<'_>], ready| release_by(windows, ready, hour);
    assert_eq!(by(&[], clock(8)), clock(9));
    assert_eq!(by(&[(&night, None)], clock(8)), clock(9));
    assert_eq!(by(&[(&night, None)], clock(20)), clock(31), "from its end");
    let minute = SignedDuration::from_mins(1);
    assert_eq!(by(&[(&night, None)], clock(17) - minute), clock(18) - minute);
    assert_eq!(by(&[(&night, None)], clock(17)), clock(31), "it would run out in the window");
    assert_eq!(by(&[(&night, Some(clock(17)))], clock(17)), clock(18), "which was passed");
    let closed = |passed: Option<i64>| [(&night, passed.map(clock)), (&day, None)];
    assert_eq!(by(&closed(None), clock(8)), clock(9), "it never opens");

    let released = |windows: &[Passable<'_>], ready, timeout| released_at(windows, clock(ready), timeout);
    assert_eq!(released(&[(&night, None)], 20, Some(hour)), Some(clock(30)));
    assert_eq!(released(&[(&night, Some(clock(22)))], 20, Some(hour)), Some(clock(22)));
    assert_eq!(released(&[(&night, Some(clock(40)))], 20, Some(hour)), Some(clock(30)), "it opened before");
    // The day is left, which ends at 18.
    assert_eq!(released(&closed(Some(8)), 8, Some(hour)), Some(clock(18)));
    let half = clock(8) + SignedDuration::from_mins(30);
    assert_eq!(released_at(&[(&night, Some(half)), (&day, None)], clock(8), Some(hour)), Some(clock(18)));
    assert_eq!(released(&closed(Some(10)), 8, Some(hour)), None, "the clock ran out before somebody passed it");
    assert_eq!(released(&closed(Some(10)), 8, None), Some(clock(18)), "what is allowed has no clock");
    assert_eq!(released(&closed(None), 8, None), None);
    let one_by_one = |second| [(&night, Some(half)), (&day, Some(clock(second)))];
    assert_eq!(released(&one_by_one(9), 8, Some(hour)), Some(clock(9)));
}

/// Every minute from `from` on at which a window begins, by walking through time with an eye on the clock: what it shows for
/// the first time, or jumps over.
fn starts(text: &str, zone: &TimeZone, from: Timestamp, minutes: i64) -> Vec<Timestamp> {
    let mut options = cronexpr::ParseOptions::default();
    options.fallback_timezone_option = cronexpr::FallbackTimezoneOption::UTC;
    let crontab = cronexpr::parse_crontab_with(text, options).unwrap();
    let named = |clock: DateTime| crontab.matches(TimeZone::UTC.to_timestamp(clock).unwrap()).unwrap();
    let minute = SignedDuration::from_mins(1);
    let (mut found, mut shown) = (vec![], zone.to_datetime(from) - minute);
    for i in 0..minutes {
        let t = from + SignedDuration::from_mins(i);
        let clock = zone.to_datetime(t);
        let mut any = false;
        while shown < clock {
            shown += minute;
            any |= named(shown);
        }
        if any {
            found.push(t);
        }
    }
    found
}

const ZONES_TRIED: [&str; 7] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Asia/Kathmandu",
    "America/Santiago",
];

fn schedule() -> impl Strategy<Value = String> {
    let minute = prop_oneof![Just("*".into()), Just("*/20".into()), (0..60u8).prop_map(|m| m.to_string())];
    let hour = prop_oneof![
        Just("*".to_string()),
        Just("*/6".into()),
        Just("1-3".into()),
        (0..24u8).prop_map(|h| h.to_string())
    ];
    let day =
        prop_oneof![3 => Just("*".to_string()), 1 => Just("*/3".into()), 1 => (1..28u8).prop_map(|d| d.to_string())];
    let weekday =
        prop_oneof![3 => Just("*".to_string()), 1 => Just("SAT,SUN".into()), 1 => (0..8u8).prop_map(|d| d.to_string())];
    let month = prop_oneof![4 => Just("*".to_string()), 1 => Just("3,10-11".into())];
    (minute, hour, day, month, weekday).prop_map(|(m, h, d, mo, w)| format!("{m} {h} {d} {mo} {w}"))
}

/// Times near changes of clocks, and others.
fn moment() -> impl Strategy<Value = Timestamp> {
    let changes = [
        "2026-03-29T01:00:00Z",
        "2026-10-25T01:00:00Z",
        "2026-03-08T07:00:00Z",
        "2026-11-01T06:00:00Z",
        "2026-10-03T15:30:00Z",
        "2026-04-04T15:00:00Z",
        "2011-12-30T10:00:00Z",
        "2026-04-05T03:00:00Z",
        "2026-09-06T04:00:00Z",
    ];
    let near = (prop::sample::select(changes.to_vec()), -3000..3000i64);
    let near = near.prop_map(|(change, minutes)| at(change) + SignedDuration::from_mins(minutes));
    prop_oneof![near, (0..2_600_000i64).prop_map(|m| at("2023-01-01T00:00:00Z") + SignedDuration::from_mins(m))]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn it_holds_when_trying_every_minute_says_so(
        start in schedule(), minutes in 1..4_000i64, zone in prop::sample::select(ZONES_TRIED.to_vec()), t in moment(),
    ) {
        let Ok(window) = Window::compile(&freeze(&start, minutes * 60, zone)) else { return Ok(()) };
        let duration = SignedDuration::from_mins(minutes);
        // Two days before the first that matters, so that the clock has shown everything that it will show twice.
        let from = t - duration - SignedDuration::from_hours(48);
        let all = starts(&start, &window.zone, from, minutes + 48 * 60 + 1);
        let latest = all.iter().rfind(|start| **start <= t).map(|start| *start + duration).filter(|end| *end > t);
        prop_assert_eq!(window.holds_until(t), latest, "{} {} {}", start, zone, t);
        let between = all.iter().any(|start| *start < t && *start + duration > t - SignedDuration::from_hours(5));
        prop_assert_eq!(window.holds_between(t - SignedDuration::from_hours(5), t), between);
    }

    #[test]
    fn an_opening_is_the_first_minute_that_none_holds(
        first in (schedule(), 1..3_000i64, prop::sample::select(ZONES_TRIED.to_vec())),
        second in (schedule(), 1..3_000i64, prop::sample::select(ZONES_TRIED.to_vec())),
        t in moment(),
    ) {
        let compile = |(start, minutes, zone): &(String, i64, &str)| Window::compile(&freeze(start, minutes * 60, zone));
        let windows: Vec<_> = [&first, &second].into_iter().filter_map(|w| compile(w).ok()).collect();
        let windows: Vec<_> = windows.iter().collect();
        let minute = SignedDuration::from_mins(1);
        let open = opening(&windows, t);
        if let Some(open) = open {
            prop_assert!(windows.iter().all(|w| w.holds_until(open).is_none()));
            prop_assert_eq!(opening(&windows, open), Some(open));
        }
        // Every minute before it is held, or every one of the next days where there is none.
        let (mut now, end) = (t, open.unwrap_or(t + SignedDuration::from_hours(16)));
        while now < end.min(t + SignedDuration::from_hours(24 * 20)) {
            prop_assert!(windows.iter().any(|w| w.holds_until(now).is_some()), "{} is open", now);
            now += minute;
        }
    }
}
