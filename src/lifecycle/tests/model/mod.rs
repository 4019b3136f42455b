//! Every order of events within bounds, run through the functions that run in a cluster: two operators that both believe to
//! lead, each with a view as old as it may be, that crash and lose answers, while people review, edit and withdraw.

mod cluster;
mod mutants;
mod operator;
mod oracle;

use super::*;
use cluster::{Event, Request, Rule, Server, View, Voice};
use mutants::Mutant;
use operator::{Memo, Operator, StatusInfo, Write};
use oracle::Invariant;
use stateright::{Checker, HasDiscoveries, Model, Property};
use std::sync::{Mutex, MutexGuard};

/// How much may happen.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Bounds {
    events: u8,
    faults: u8,
    /// Newest version of request and Job: two operators of which one never hears of the other could go on for ever.
    versions: u8,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Now {
    server: Server,
    operators: [Operator; 2],
    left: Bounds,
    broken: Option<Invariant>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Request,
    Job,
    Policy,
    Clock,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Action {
    Happens(Event),
    /// A watch brings an operator up to date in one kind.
    Watch(usize, Kind),
    /// An operator carries out the next step of its plan, made now if it has none. `answered` tells whether it learns of it.
    Step {
        operator: usize,
        answered: bool,
    },
    /// An operator forgets its plan. What a restart lists anew is what watches bring.
    Crash(usize),
}

struct Cluster {
    bounds: Bounds,
    /// What the policy says at first, and after an edit.
    policies: Vec<(Rule, Rule)>,
    memo: Mutex<Memo>,
}

impl Cluster {
    fn new(bounds: Bounds, policies: &[(Rule, Rule)], mutant: Option<Mutant>) -> Self {
        Self { bounds, policies: policies.to_vec(), memo: Mutex::new(Memo::new(mutant)) }
    }

    fn memo(&self) -> MutexGuard<'_, Memo> {
        self.memo.lock().unwrap()
    }

    fn first(&self, (rule, edited): (Rule, Rule)) -> Now {
        let mut memo = self.memo();
        let request = Request { version: 1, words: vec![], cancel: false, status: None, first: None };
        let view = View {
            request: memo.requests.id(request),
            job: memo.texts.id(job("j0", 1).to_string()),
            targets_version: 1,
            policy: rule,
            policies_version: 1,
            clock: 0,
        };
        let operator = Operator { view: view.clone(), left: vec![] };
        let policy_denied = rule == Rule::Deny;
        let server = Server {
            stored: view,
            edited,
            starts: [0; 2],
            policy_denied,
            stopped: false,
            allowed: false,
            let_pass: false,
        };
        Now { server, operators: [operator.clone(), operator], left: self.bounds, broken: None }
    }
}

impl Now {
    /// Carries out one step. None where there is nothing to do, or nothing comes of it.
    fn step(&mut self, memo: &mut Memo, operator: usize, answered: bool) -> Option<()> {
        let acting = &mut self.operators[operator];
        if acting.left.is_empty() {
            acting.left = memo.plan(&acting.view).to_vec();
        }
        if acting.left.is_empty() {
            return None;
        }
        let write = acting.left.remove(0);
        match memo.write(&mut self.server, &write) {
            Ok(broken) => {
                self.broken = self.broken.or(broken);
                let stored = &self.server.stored;
                match write {
                    _ if !answered => acting.left.clear(),
                    Write::Status { .. } => acting.view.request = stored.request,
                    Write::Release { .. } | Write::Close { .. } => {
                        acting.view.job = stored.job;
                        acting.view.targets_version = stored.targets_version;
                    }
                }
            }
            Err(()) if answered => acting.left.clear(),
            Err(()) => return None,
        }
        Some(())
    }

    fn watch(&mut self, operator: usize, kind: Kind) {
        let (view, stored) = (&mut self.operators[operator].view, &self.server.stored);
        match kind {
            Kind::Request => view.request = stored.request,
            Kind::Job => (view.job, view.targets_version) = (stored.job, stored.targets_version),
            Kind::Policy => (view.policy, view.policies_version) = (stored.policy, stored.policies_version),
            Kind::Clock => view.clock = stored.clock,
        }
    }

    fn judge(&mut self, memo: &mut Memo) {
        let mut broken = self.broken.or_else(|| memo.settle(&self.server).broken);
        for operator in self.operators.iter().filter(|operator| !operator.left.is_empty()) {
            broken = broken.or_else(|| memo.judge_crash(&self.server, &operator.left));
        }
        self.broken = broken;
    }
}

impl Model for Cluster {
    type State = Now;
    type Action = Action;

    fn init_states(&self) -> Vec<Now> {
        self.policies.iter().map(|policies| self.first(*policies)).collect()
    }

    fn actions(&self, now: &Now, actions: &mut Vec<Action>) {
        if now.broken.is_some() {
            return;
        }
        if now.left.events > 0 {
            actions.extend(self.memo().events(&now.server).into_iter().map(Action::Happens));
        }
        for operator in 0..now.operators.len() {
            let kinds = [Kind::Request, Kind::Job, Kind::Policy, Kind::Clock];
            actions.extend(kinds.map(|kind| Action::Watch(operator, kind)));
            actions.push(Action::Step { operator, answered: true });
            if now.left.faults > 0 {
                actions.push(Action::Step { operator, answered: false });
                actions.push(Action::Crash(operator));
            }
        }
    }

    fn next_state(&self, before: &Now, action: Action) -> Option<Now> {
        let (mut now, mut memo) = (before.clone(), self.memo());
        match action {
            Action::Happens(event) => {
                now.left.events -= 1;
                if memo.is(Mutant::ActedOnUnstored) && matches!(event, Event::Say { .. }) {
                    let mut unstored = now.server.clone();
                    memo.happen(&mut unstored, event)?;
                    now.operators[0].view.request = unstored.stored.request;
                } else {
                    memo.happen(&mut now.server, event)?;
                }
            }
            Action::Watch(operator, kind) => now.watch(operator, kind),
            Action::Step { operator, answered } => {
                now.left.faults -= u8::from(!answered);
                now.step(&mut memo, operator, answered)?;
            }
            Action::Crash(operator) => {
                now.left.faults -= 1;
                if std::mem::take(&mut now.operators[operator].left).is_empty() {
                    return None;
                }
            }
        }
        now.judge(&mut memo);
        // Two operators with each other's views are the same two.
        now.operators.sort();
        (now != *before).then_some(now)
    }

    fn within_boundary(&self, now: &Now) -> bool {
        let stored = &now.server.stored;
        let request = self.memo().requests.get(stored.request).version;
        !now.server.let_pass && request <= self.bounds.versions && stored.targets_version <= self.bounds.versions
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(Invariant::I1.name(), |_, now: &Now| now.broken != Some(Invariant::I1)),
            Property::always(Invariant::I2.name(), |_, now: &Now| now.broken != Some(Invariant::I2)),
            Property::always(Invariant::I3.name(), |_, now: &Now| now.broken != Some(Invariant::I3)),
            Property::always(Invariant::I4.name(), |_, now: &Now| now.broken != Some(Invariant::I4)),
            Property::always(Invariant::I5.name(), |_, now: &Now| now.broken != Some(Invariant::I5)),
            Property::sometimes("released", |model, now| model.stands(now, State::Released)),
            Property::sometimes("denied", |model, now| model.stands(now, State::Denied)),
            Property::sometimes("expired", |model, now| model.stands(now, State::Expired)),
            Property::sometimes("cancelled", |model, now| model.stands(now, State::Cancelled)),
        ]
    }
}

impl Cluster {
    fn stands(&self, now: &Now, state: State) -> bool {
        let mut memo = self.memo();
        let status = memo.requests.get(now.server.stored.request).status;
        memo.status(status).state == state
    }
}

/// From the environment, so that somebody with more time explores more: `COUNTERSIGN_MODEL=events,faults,versions`.
fn bounds() -> Bounds {
    let Ok(text) = std::env::var("COUNTERSIGN_MODEL") else { return Bounds { events: 2, faults: 1, versions: 5 } };
    let numbers: Vec<u8> = text.split(',').map_while(|n| n.parse().ok()).collect();
    let [events, faults, versions] = numbers[..] else { panic!("COUNTERSIGN_MODEL is three numbers, such as 2,2,6") };
    Bounds { events, faults, versions }
}

#[test]
fn no_order_of_events_breaks_an_invariant() {
    let bounds = bounds();
    let policies =
        [(Rule::One, Rule::Two), (Rule::One, Rule::Deny), (Rule::Two, Rule::Allow), (Rule::Silent, Rule::One)];
    let begun = std::time::Instant::now();
    let checker = Cluster::new(bounds, &policies, None).checker().threads(1).spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    println!("{states} unique states, {depth} deep, within {bounds:?}, in {:.1} s", begun.elapsed().as_secs_f64());
    checker.assert_properties();
    assert!(states > 20_000, "{states} states are too few to mean anything");
}
