//! Requests of the operator, as points at which it may crash.

use countersign_testbed::{Asked, Effect};
use std::collections::BTreeMap;
use std::fmt;

/// Stands for the name of a run in a path.
const RUN: &str = "{run}";

/// A request that the operator makes in every run of a scenario.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Point {
    /// During which act of the scenario.
    pub act: usize,
    method: String,
    /// Its path, with [`RUN`] for what is named after the run.
    path: String,
    watch: bool,
    /// Which of those that are alike, from 1.
    nth: usize,
}

/// What happens there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The operator is killed before the API server hears of the request.
    KilledBefore,
    /// The operator is killed after the API server carried it out, and before the operator hears of that.
    KilledAfter,
    /// The operator goes on, and never hears of the answer.
    Unheard,
}

impl Fault {
    pub const ALL: [Self; 3] = [Self::KilledBefore, Self::KilledAfter, Self::Unheard];

    pub fn effect(self) -> Effect {
        match self {
            Self::KilledBefore => Effect::HoldBefore,
            Self::KilledAfter => Effect::HoldAfter,
            Self::Unheard => Effect::CutAfter,
        }
    }

    pub fn kills(self) -> bool {
        self != Self::Unheard
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { act, method, path, watch, nth } = self;
        let verb = if *watch { "WATCH" } else { method.as_str() };
        write!(f, "act {act}: {verb} {path}")?;
        if *nth > 1 { write!(f, " (time {nth})") } else { Ok(()) }
    }
}

impl Point {
    /// Whether it appends to the audit trail: such a request may speak for several runs, and all wait for it.
    pub fn records(&self) -> bool {
        self.method == "POST" && self.path.ends_with("/approvalrecords")
    }

    /// Whether one like it came before in the same act.
    pub fn is_repeated(&self) -> bool {
        self.nth > 1
    }

    /// Whether it is about who leads.
    pub fn elects(&self) -> bool {
        self.path.contains("/leases")
    }

    /// Tells of each request whether it is this one, in the run of that name. Of `whole`, all that is asked belongs to the run.
    pub fn finder(&self, name: &str, whole: bool) -> impl FnMut(&Asked) -> bool + Send + 'static {
        let (point, name, mut seen) = (self.clone(), name.to_owned(), 0);
        move |asked| {
            let fits = (whole || mentions(asked, &name))
                && asked.method == point.method
                && asked.watch == point.watch
                && plain(&asked.path, &name) == point.path;
            seen += usize::from(fits);
            fits && seen == point.nth
        }
    }
}

/// The points of a run, from what was asked during its acts, in order.
pub fn points(asked: &[(usize, Asked)], name: &str) -> Vec<Point> {
    let mut seen: BTreeMap<Point, usize> = BTreeMap::new();
    let mut points: Vec<Point> = vec![];
    for (act, asked) in asked.iter().filter(|(_, asked)| matters(asked)) {
        let (method, path) = (asked.method.clone(), plain(&asked.path, name));
        let first = Point { act: *act, method, path, watch: asked.watch, nth: 1 };
        let nth = seen.entry(first.clone()).or_default();
        *nth += 1;
        points.push(Point { nth: *nth, ..first });
    }
    // Entries are written together with whatever else there is to record just then: in how many parts, the clock says.
    points.retain(|point| point.nth == 1 || !point.records());
    points
}

/// Events may be shed, and checkpoints come by the clock.
fn matters(asked: &Asked) -> bool {
    !asked.path.contains("/events") && !asked.path.ends_with("/configmaps/countersign-checkpoint")
}

/// Whether a request is about the run of that name: in its path, or in what it sends.
pub fn mentions(asked: &Asked, name: &str) -> bool {
    asked.path.contains(name) || asked.body.windows(name.len()).any(|part| part == name.as_bytes())
}

/// The gate's own request is named after the Job, with a part that nobody can foretell.
fn plain(path: &str, name: &str) -> String {
    let parts = path.split('/').map(|part| match part.strip_prefix(name) {
        Some("") => RUN.to_owned(),
        Some(_) => format!("{RUN}-…"),
        None => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &str, path: &str, body: &str) -> Asked {
        Asked { method: method.into(), path: path.into(), watch: false, body: body.into() }
    }

    #[test]
    fn a_point_is_found_again_in_another_run_and_as_often_as_it_came() {
        let all = ["PATCH /jobs/run-1", "PATCH /requests/run-1-0a/status", "POST /events", "PATCH /jobs/run-1"];
        let all = all.map(|line| line.split_once(' ').map(|(method, path)| (0, asked(method, path, ""))));
        let found = points(&all.map(Option::unwrap), "run-1");
        let shown: Vec<_> = found.iter().map(Point::to_string).collect();
        assert_eq!(
            shown,
            ["act 0: PATCH /jobs/{run}", "act 0: PATCH /requests/{run}-…/status", "act 0: PATCH /jobs/{run} (time 2)"]
        );
        let mut second = found[2].finder("run-2", false);
        let met = ["/jobs/run-2", "/jobs/run-1", "/jobs/run-2", "/jobs/run-2"];
        assert_eq!(met.map(|path| second(&asked("PATCH", path, ""))), [false, false, true, false]);
    }

    #[test]
    fn what_names_the_run_in_its_body_is_about_it() {
        let found = points(&[(1, asked("POST", "/approvalrecords", "a run-1 b"))], "run-1");
        let mut finder = found[0].finder("run-2", false);
        assert!(!finder(&asked("POST", "/approvalrecords", "run-1")));
        assert!(finder(&asked("POST", "/approvalrecords", "run-1 run-2")));
    }
}
