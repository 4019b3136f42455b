//! Which points are run, and what came of them.

use crate::bench::Bench;
use crate::points::{Fault, Point};
use crate::rounds::{Case, Learned, Outcome, round};
use crate::scenarios::{SCENARIOS, STARTS, Scenario};
use crate::starts::start;
use anyhow::{Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::env;

/// Runs side by side.
const WIDTH: usize = 12;
/// Attempts at a point whose request is not made in each run.
const ATTEMPTS: usize = 3;

/// What is asked for by `COUNTERSIGN_CRASH`.
pub enum Extent {
    /// A fixed part, for every day.
    Part,
    /// Everything of the scenarios of these names; of all where there is none.
    Whole(Vec<String>),
}

impl Extent {
    pub fn asked() -> Result<Self> {
        let asked = env::var("COUNTERSIGN_CRASH").unwrap_or_default();
        let known: Vec<_> = STARTS.iter().chain(&SCENARIOS).map(|scenario| scenario.name).collect();
        Ok(match asked.as_str() {
            "" => Self::Part,
            "all" => Self::Whole(vec![]),
            names => {
                let names: Vec<_> = names.split(',').map(String::from).collect();
                let unknown = names.iter().find(|name| !known.contains(&name.as_str()));
                ensure!(unknown.is_none(), "COUNTERSIGN_CRASH: no scenario {unknown:?}; there is all, or of {known:?}");
                Self::Whole(names)
            }
        })
    }

    /// Whether anything of that scenario is run.
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::Part => name != "election",
            Self::Whole(names) => names.is_empty() || names.iter().any(|asked| asked == name),
        }
    }

    /// The cases of one scenario.
    pub fn cases(&self, learned: &Learned) -> Vec<Case> {
        let scenario = learned.scenario;
        let mut cases = vec![];
        for (number, point) in learned.points.iter().enumerate() {
            for (turn, fault) in Fault::ALL.into_iter().enumerate() {
                if matches!(self, Self::Whole(_)) || is_daily(scenario, point, number, turn) {
                    cases.push(Case { scenario, point: point.clone(), fault });
                }
            }
        }
        cases
    }
}

/// Whether a case belongs to the daily part: all of the main scenario, all that is a scenario's own, which is its last act, and
/// of the rest one fault at each request, another from one to the next. The trail is left to the main scenario, and what is
/// before a deadline to the whole: these take their time. Of a start, every eighth request.
fn is_daily(scenario: &Scenario, point: &Point, number: usize, turn: usize) -> bool {
    let own = point.act + 1 == scenario.acts.len();
    match scenario.name {
        "released" => true,
        "expired" => own && !point.records(),
        _ if scenario.starts.is_some() => number.is_multiple_of(8) && number / 8 % 3 == turn,
        _ => !point.records() && (own || number % 3 == turn),
    }
}

/// What came of the cases of one scenario.
#[derive(Default)]
pub struct Tally {
    pub runs: usize,
    /// Points that were met.
    pub met: usize,
    /// Points whose request was not made in any attempt.
    pub unmet: usize,
    pub failed: Vec<String>,
}

/// A run: its name, what happened in it, and its scenario.
pub type Named = (String, String, &'static str);

/// Runs all cases of these scenarios.
pub async fn run(
    bench: &Bench,
    extent: &Extent,
    learned: &[Learned],
) -> Result<(BTreeMap<&'static str, Tally>, Vec<Named>)> {
    let mut waits: Vec<Case> = learned.iter().flat_map(|learned| extent.cases(learned)).collect();
    let mut tallies: BTreeMap<_, Tally> = BTreeMap::new();
    for learned in learned {
        tallies.insert(learned.scenario.name, Tally::default());
    }
    let mut named = vec![];
    for attempt in 1..=ATTEMPTS {
        let mut again = vec![];
        for batch in batches(std::mem::take(&mut waits)) {
            for outcome in once(bench, &batch).await {
                let Outcome { case, name, met, end } = outcome;
                let tally = tallies.entry(case.scenario.name).or_default();
                tally.runs += 1;
                let what = format!("{name}: {:?}, {}", case.fault, case.point);
                named.push((name, what.clone(), case.scenario.name));
                let expected = learned.iter().find(|l| l.scenario.name == case.scenario.name).map(|l| &l.end);
                match end {
                    Ok(end) => tally.failed.extend(expected.and_then(|wanted| differs(&what, wanted, &end))),
                    Err(error) => tally.failed.push(format!("{what}: {error:#}")),
                }
                match met {
                    true => tally.met += 1,
                    false if attempt < ATTEMPTS => again.push(case),
                    // A second attempt at what somebody else was faster with is not made in each run.
                    false if case.point.is_repeated() => tally.unmet += 1,
                    false => tally.failed.push(format!("{what}: never met")),
                }
            }
        }
        waits = again;
    }
    Ok((tallies, named))
}

/// What can happen side by side: not starts of the operator, nor what everybody waits for.
fn batches(cases: Vec<Case>) -> Vec<Vec<Case>> {
    let alone = |cases: Vec<Case>| cases.into_iter().map(|case| vec![case]);
    let (starts, told): (Vec<_>, Vec<_>) = cases.into_iter().partition(|case| case.scenario.starts.is_some());
    let (records, own): (Vec<_>, Vec<_>) = told.into_iter().partition(|case| case.point.records());
    // Those that are held at the same act are held at about the same time.
    let mut acts: BTreeMap<(bool, usize), Vec<Case>> = BTreeMap::new();
    for case in own {
        acts.entry((case.fault.kills(), case.point.act)).or_default().push(case);
    }
    let together: Vec<_> = acts.values().flat_map(|cases| cases.chunks(WIDTH).map(<[Case]>::to_vec)).collect();
    alone(starts).chain(together).chain(alone(records)).collect()
}

/// Where an end is another than the one without a fault.
fn differs(what: &str, wanted: &Value, end: &Value) -> Option<String> {
    let mut parts = vec![];
    for (part, value) in wanted.as_object().into_iter().flatten() {
        let found = &end[part];
        match (value.as_object(), found.as_object()) {
            (Some(wanted), Some(found)) => {
                let fields = wanted.iter().filter(|(key, value)| found.get(*key) != Some(*value));
                parts.extend(fields.map(|(key, value)| format!("{part}.{key} is {}, not {value}", found[key])));
            }
            _ if value != found => parts.push(format!("{part} is {found}, not {value}")),
            _ => {}
        }
    }
    (wanted != end).then(|| format!("{what}: {}", parts.join("; ")))
}

async fn once(bench: &Bench, batch: &[Case]) -> Vec<Outcome> {
    match batch {
        [case] if case.scenario.starts.is_some() => vec![start(bench, case).await],
        _ => round(bench, batch).await,
    }
}
