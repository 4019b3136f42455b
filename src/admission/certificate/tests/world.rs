//! A Secret, an API server and replicas, and everything that may happen to them.

use super::{DAY, SignedDuration, Timestamp, at, good};
use crate::admission::certificate::{Good, Next, SETTLE, Step, Stored, View, plan};
use crate::admission::tls::Serving;
use proptest::prelude::*;
use std::sync::OnceLock;

const LIFETIME: SignedDuration = SignedDuration::from_hours(24 * 90);

/// A pair of its own number: what is planned looks at nothing but its authority and its end.
fn pair(number: u32, until: Timestamp) -> Good {
    static KEY: OnceLock<Good> = OnceLock::new();
    let like = KEY.get_or_init(|| good(at(0), DAY)).clone();
    let name = |part: &str| format!("<{part} {number}>");
    let serving = Serving { authority: name("ca"), certificate: name("crt"), key: name("key") };
    Good { serving, until, ..like }
}

struct Replica {
    serving: Option<Good>,
    /// What it registered, while it leads.
    registered: Option<String>,
}

struct World {
    now: Timestamp,
    secret: Stored,
    /// What the API server trusts.
    trusted: String,
    replicas: Vec<Replica>,
    leader: usize,
    made: u32,
    /// Whether somebody else took away what nobody can know of.
    robbed: bool,
}

/// What may happen between two steps.
#[derive(Clone, Debug)]
enum Event {
    Step,
    Pass(i64),
    Delete,
    Spoil,
    SpoilNext,
    Lead(usize),
    Restart(usize),
    /// A replica hears of the Secret.
    Hear(usize),
}

impl World {
    fn new() -> Self {
        let replicas = (0..3).map(|_| Replica { serving: None, registered: None }).collect();
        let secret = Stored::default();
        Self { now: at(0), secret, trusted: String::new(), replicas, leader: 0, made: 0, robbed: false }
    }

    /// What the Secret says to whoever reads it now.
    fn read(&self) -> Stored {
        let current = self.secret.current.clone().filter(|pair| pair.is_good(self.now));
        let next = self.secret.next.clone().filter(|next| next.pair.is_good(self.now));
        Stored { current, next, previous: self.secret.previous.clone() }
    }

    fn hear(&mut self, replica: usize) {
        let now = self.now;
        let read = self.read();
        let replica = &mut self.replicas[replica];
        if let Some(current) = read.current {
            replica.serving = Some(current);
        }
        replica.serving = replica.serving.take().filter(|pair| pair.is_good(now));
    }

    /// One step of the leader, after it heard of the Secret. Whether it wrote or registered.
    fn step(&mut self) -> bool {
        self.hear(self.leader);
        let stored = self.read();
        let leader = &self.replicas[self.leader];
        let view = View {
            stored: &stored,
            registered: leader.registered.as_deref(),
            serving: leader.serving.as_ref(),
            lifetime: LIFETIME,
        };
        match plan(&view, self.now) {
            Step::Make(stored) => {
                self.made += 1;
                let made = pair(self.made, self.now.checked_add(LIFETIME).unwrap());
                self.secret = stored.with_next(made);
            }
            // Whoever writes serves it at once, though the Secret be gone before its watch tells.
            Step::Write(stored) => {
                self.secret = stored;
                self.hear(self.leader);
            }
            Step::Register(bundle) => {
                self.trusted.clone_from(&bundle);
                self.replicas[self.leader].registered = Some(bundle);
            }
            Step::Wait(until) => {
                assert!(self.now < until, "it waits for what is past");
                return false;
            }
        }
        true
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Step => drop(self.step()),
            Event::Pass(seconds) => self.now = self.now.checked_add(SignedDuration::from_secs(seconds)).unwrap(),
            Event::Delete => {
                self.robbed |= self.is_alone();
                self.secret = Stored::default();
            }
            Event::Spoil => {
                self.robbed |= self.is_alone();
                self.secret.current = None;
            }
            Event::SpoilNext => self.secret.next = None,
            Event::Lead(replica) => {
                self.leader = replica;
                self.robbed |=
                    self.replicas[replica].serving.is_none() || (self.secret.current.is_none() && self.is_alone());
                self.replicas[replica].registered = None;
            }
            Event::Restart(replica) => {
                self.replicas[replica] = Replica { serving: None, registered: None };
                self.robbed |= replica == self.leader;
            }
            Event::Hear(replica) => self.hear(replica),
        }
    }

    /// Whether without the Secret the leader does not know what others serve: it serves nothing itself, or something else.
    fn is_alone(&self) -> bool {
        let leads = &self.replicas[self.leader].serving;
        let good = |replica: &&Replica| replica.serving.as_ref().is_some_and(|pair| pair.is_good(self.now));
        leads.is_none() || self.replicas.iter().filter(good).any(|replica| replica.serving != *leads)
    }

    /// Whether the API server takes what each replica shows it.
    fn trusts_all(&self) -> bool {
        let serving = self.replicas.iter().filter_map(|replica| replica.serving.as_ref());
        serving.filter(|pair| pair.is_good(self.now)).all(|pair| self.trusted.contains(&pair.serving.authority))
    }

    /// Steps until there is nothing to do.
    fn settle(&mut self) {
        for _ in 0..10 {
            if !self.step() {
                return;
            }
        }
        panic!("it comes to no rest: {:?}", self.secret);
    }
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => Just(Event::Step),
        3 => (0..3usize).prop_map(Event::Hear),
        2 => (1..90i64).prop_map(Event::Pass),
        2 => (1..40i64).prop_map(|days| Event::Pass(days * DAY.as_secs())),
        1 => Just(Event::Delete),
        1 => Just(Event::Spoil),
        1 => Just(Event::SpoilNext),
        1 => (0..3usize).prop_map(Event::Lead),
        1 => (0..3usize).prop_map(Event::Restart),
    ]
}

#[test]
fn the_first_one_is_trusted_before_it_is_served_and_waits_for_nobody() {
    let mut world = World::new();
    assert!(world.step() && world.secret.next.is_some() && world.secret.current.is_none(), "made");
    assert!(world.step() && world.trusted == "<ca 1>", "registered");
    assert!(world.step() && world.secret.next.is_none() && world.secret.current.is_some(), "served");
    assert!(!world.step() && world.trusted == "<ca 1>");
}

#[test]
fn one_is_announced_waits_and_follows_and_the_one_before_is_trusted_until_it_ends() {
    let mut world = World::new();
    world.settle();
    let first = world.secret.current.clone().unwrap();
    world.happen(&Event::Pass(59 * DAY.as_secs()));
    world.settle();
    assert_eq!(world.made, 1, "two thirds are not over");
    world.happen(&Event::Pass(DAY.as_secs()));
    world.settle();
    assert_eq!(world.trusted, "<ca 1><ca 2>");
    assert_eq!(world.secret.current, Some(first.clone()), "the API server may not know yet");
    assert_eq!(world.secret.next.as_ref().unwrap().announced, Some(world.now));
    world.happen(&Event::Pass(SETTLE.as_secs() - 1));
    world.settle();
    assert_eq!(world.secret.current, Some(first));
    world.happen(&Event::Pass(1));
    world.settle();
    assert_eq!(world.secret.current.as_ref().unwrap().serving.authority, "<ca 2>");
    assert_eq!(world.trusted, "<ca 1><ca 2>");
    world.happen(&Event::Pass(30 * DAY.as_secs()));
    world.settle();
    assert_eq!(world.trusted, "<ca 2>", "nobody can serve the first any more");
}

#[test]
fn where_the_secret_is_deleted_what_is_served_stays_trusted_until_another_follows() {
    let mut world = World::new();
    world.settle();
    (0..3).for_each(|replica| world.hear(replica));
    world.happen(&Event::Delete);
    world.settle();
    assert_eq!((world.trusted.as_str(), world.secret.current.is_none()), ("<ca 1><ca 2>", true));
    world.happen(&Event::Pass(SETTLE.as_secs()));
    world.settle();
    assert_eq!(world.secret.current.as_ref().unwrap().serving.authority, "<ca 2>");
    assert!(world.trusts_all());
}

#[test]
fn an_announcement_from_the_future_is_made_anew() {
    let mut world = World::new();
    world.settle();
    let later = world.now.checked_add(365 * DAY).unwrap();
    let next = pair(7, later);
    world.secret.next = Some(Next { pair: next, announced: Some(later) });
    world.settle();
    assert_eq!(world.secret.next.as_ref().unwrap().announced, Some(world.now));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Whatever happens: what any replica serves is trusted, an authority that is trusted belongs to a certificate that was
    /// made here and has not ended at the time it was registered; and in the end everybody serves one that lasts.
    #[test]
    fn the_api_server_trusts_whatever_is_served(events in proptest::collection::vec(event(), 1..60)) {
        let mut world = World::new();
        world.settle();
        for event in &events {
            let before = world.trusted.clone();
            world.happen(event);
            // A leader cannot know what others took from a Secret that is gone, unless it serves the same: it errs towards
            // trusting too little, and the gate is closed to them until they hear of the new one.
            prop_assert!(world.robbed || world.trusts_all(), "{event:?} in {events:?}: {} {:?}", world.trusted, world.secret);
            if before != world.trusted {
                let ended = |one: &&crate::admission::certificate::Authority| one.until <= world.now;
                let expired = world.secret.previous.iter().filter(ended).count();
                prop_assert_eq!(expired, 0, "an authority whose time is over was registered");
            }
        }
        // One that was made long ago and announced only now is followed by another at once.
        for _ in 0..2 {
            world.settle();
            world.happen(&Event::Pass(SETTLE.as_secs()));
        }
        world.settle();
        (0..3).for_each(|replica| world.hear(replica));
        prop_assert!(world.trusts_all());
        let current = world.secret.current.clone();
        prop_assert!(current.is_some() && world.replicas.iter().all(|replica| replica.serving == current));
        prop_assert!(LIFETIME / 3 <= current.unwrap().until.duration_since(world.now));
        world.happen(&Event::Pass(90 * DAY.as_secs()));
        world.settle();
        prop_assert_eq!(world.secret.previous.len(), 0);
    }
}
