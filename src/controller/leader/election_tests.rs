use super::election::{Election, Mark, Move, Seen, Terms};
use proptest::prelude::*;
use std::time::Duration;

fn terms() -> Terms {
    Terms::of(Duration::from_secs(15))
}

fn at(seconds: u64) -> Mark {
    Mark::from_secs(seconds)
}

fn held(by: &str, version: u32) -> Seen {
    Seen { version: version.to_string(), holder: by.into(), lasts: Duration::from_secs(15) }
}

#[test]
fn the_proportions_are_those_of_kubernetes() {
    let terms = terms();
    assert_eq!((terms.lease, terms.leads, terms.renew), (at(15), at(10), at(2)));
}

#[test]
fn a_lease_is_looked_at_then_taken_and_renewed() {
    let mut one = Election::new("a", terms());
    assert_eq!(one.next(at(0)), Move::Look);
    one.see(None, at(0));
    assert_eq!(one.next(at(0)), Move::Write);
    assert!(!one.leads(at(0)));
    one.wrote(held("a", 1), at(0));
    assert!(one.leads(at(9)) && !one.leads(at(10)));
    assert_eq!(one.next(at(1)), Move::Wait(at(2)));
    assert_eq!(one.next(at(2)), Move::Write);
    one.wrote(held("a", 2), at(2));
    // What the watch tells of our own write changes nothing.
    one.see(Some(held("a", 2)), at(3));
    assert!(one.leads(at(11)) && !one.leads(at(12)));
}

#[test]
fn another_is_waited_for_as_long_as_it_writes() {
    let mut one = Election::new("a", terms());
    one.see(Some(held("b", 1)), at(100));
    assert_eq!(one.next(at(100)), Move::Wait(at(115)));
    one.see(Some(held("b", 1)), at(110));
    assert_eq!(one.next(at(110)), Move::Wait(at(115)), "seen again, and the same");
    one.see(Some(held("b", 2)), at(112));
    assert_eq!(one.next(at(115)), Move::Wait(at(127)));
    assert_eq!(one.next(at(127)), Move::Write);
}

#[test]
fn one_that_is_given_back_or_gone_is_taken_at_once() {
    let mut one = Election::new("a", terms());
    one.see(Some(held("b", 1)), at(0));
    one.see(Some(held("", 2)), at(1));
    assert_eq!(one.next(at(1)), Move::Write);
    one.see(Some(held("b", 3)), at(2));
    one.see(None, at(3));
    assert_eq!(one.next(at(3)), Move::Write);
}

#[test]
fn a_promise_is_believed_within_bounds() {
    let mut one = Election::new("a", terms());
    one.see(Some(Seen { lasts: Duration::from_secs(60), ..held("b", 1) }), at(0));
    assert_eq!(one.next(at(0)), Move::Wait(at(60)));
    one.see(Some(Seen { lasts: Duration::MAX, ..held("b", 2) }), at(0));
    assert_eq!(one.next(at(0)), Move::Wait(at(600)));
    one.see(Some(Seen { lasts: Duration::ZERO, ..held("b", 3) }), at(0));
    assert_eq!(one.next(at(0)), Move::Wait(at(15)));
}

#[test]
fn a_holder_that_cannot_write_ends_before_others_begin_and_rests_between_tries() {
    let mut one = Election::new("a", terms());
    one.see(None, at(0));
    one.wrote(held("a", 1), at(0));
    one.failed(at(2));
    assert_eq!(one.next(at(3)), Move::Wait(at(4)));
    assert_eq!(one.next(at(4)), Move::Write);
    assert!(!one.leads(at(10)));
    // Nobody has taken it: it is still ours, and may be written again.
    assert_eq!(one.next(at(20)), Move::Write);
    one.lost_sight();
    assert_eq!(one.next(at(21)), Move::Look);
    one.see(Some(held("b", 2)), at(21));
    assert!(!one.leads(at(21)));
}

#[test]
fn who_resigns_leads_no_more() {
    let mut one = Election::new("a", terms());
    assert!(!one.resign());
    one.see(None, at(0));
    one.wrote(held("a", 1), at(0));
    assert!(one.resign() && !one.leads(at(1)) && !one.resign());
}

/// What happens to one of the candidates, or to time.
#[derive(Clone, Debug)]
enum Turn {
    /// So many milliseconds pass.
    Pass(u64),
    /// It does what is next; its write is stored, or lost, or stored and the answer lost.
    Act(usize, Fate),
    /// The watch tells it what is stored.
    Tell(usize),
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Stored,
    Lost,
    Unheard,
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let fate = prop_oneof![4 => Just(Fate::Stored), 1 => Just(Fate::Lost), 1 => Just(Fate::Unheard)];
    let turn = prop_oneof![
        3 => (1..6000u64).prop_map(Turn::Pass),
        4 => (0..3usize, fate).prop_map(|(who, fate)| Turn::Act(who, fate)),
        2 => (0..3usize).prop_map(Turn::Tell),
    ];
    prop::collection::vec(turn, 1..200)
}

proptest! {
    /// Whatever gets lost and however long anybody sleeps: never do two lead at once, where clocks run alike.
    #[test]
    fn never_do_two_lead_at_once(turns in turns()) {
        let mut candidates: Vec<_> = ["a", "b", "c"].map(|name| Election::new(name, terms())).into();
        let (mut now, mut stored, mut version): (Mark, Option<Seen>, u32) = (at(0), None, 0);
        for turn in turns {
            match turn {
                Turn::Pass(time) => now += Duration::from_millis(time),
                Turn::Tell(who) => candidates[who].see(stored.clone(), now),
                Turn::Act(who, fate) => {
                    let one = &mut candidates[who];
                    match one.next(now) {
                        Move::Wait(_) => {}
                        Move::Look => one.see(stored.clone(), now),
                        Move::Write => {
                            let begun = now;
                            now += Duration::from_millis(200);
                            let same = one.lease().map(|l| &l.version) == stored.as_ref().map(|l| &l.version);
                            match fate {
                                _ if !same => one.lost_sight(),
                                Fate::Lost => one.failed(now),
                                Fate::Stored | Fate::Unheard => {
                                    version += 1;
                                    let lease = held(["a", "b", "c"][who], version);
                                    stored = Some(lease.clone());
                                    match fate {
                                        Fate::Stored => one.wrote(lease, begun),
                                        _ => one.failed(now),
                                    }
                                }
                            }
                        }
                    }
                }
            }
            let leading = candidates.iter().filter(|one| one.leads(now)).count();
            prop_assert!(leading <= 1, "{leading} lead at {now:?}");
        }
    }

    /// Where one is left, and nothing gets lost, it leads soon.
    #[test]
    fn whoever_is_left_leads_within_the_lease(turns in turns()) {
        let mut one = Election::new("a", terms());
        let mut now = at(0);
        for turn in &turns {
            if let Turn::Pass(time) = turn {
                now += Duration::from_millis(*time);
                one.see(Some(held("b", 1)), now);
            }
        }
        let (began, mut stored) = (now, held("b", 1));
        one.see(Some(stored.clone()), now);
        while !one.leads(now) {
            match one.next(now) {
                Move::Look => one.see(Some(stored.clone()), now),
                Move::Wait(until) => now = until,
                Move::Write => {
                    stored = held("a", 2);
                    one.wrote(stored.clone(), now);
                }
            }
            prop_assert!(now <= began + terms().lease, "{now:?}");
        }
    }
}
