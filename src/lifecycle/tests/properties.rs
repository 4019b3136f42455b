//! What holds whatever happens, and wherever the operator stops between two writes.

use super::*;
use crate::lifecycle::tests::time::frozen;
use crate::policy::opening;
use proptest::prelude::*;

/// What may happen to a request between two looks of the operator.
#[derive(Clone, Debug)]
enum Event {
    Approve(&'static str),
    Deny(&'static str),
    Cancel,
    Delete,
    Later(i64),
    EditPolicy(i64),
    EditJob(u8),
    DeleteJob,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => prop::sample::select(vec!["alice", "bob", "triage"]).prop_map(Event::Approve),
        1 => prop::sample::select(vec!["alice", "bob"]).prop_map(Event::Deny),
        1 => Just(Event::Cancel),
        1 => Just(Event::Delete),
        2 => (1..400i64).prop_map(Event::Later),
        2 => (1..3i64).prop_map(|n| Event::EditPolicy(n * 300)),
        2 => any::<u8>().prop_map(Event::EditJob),
        1 => Just(Event::DeleteJob),
    ]
}

fn happen(world: &mut World, event: &Event) {
    let digest = world.status().digest;
    match (event, digest) {
        (Event::Approve(who), Some(digest)) => world.review(who, "Approve", &digest),
        (Event::Deny(who), Some(digest)) => world.review(who, "Deny", &digest),
        (Event::Approve(_) | Event::Deny(_), None) => {}
        (Event::Cancel, _) => world.request["spec"]["cancel"] = json!(true),
        (Event::Delete, _) => world.request["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"),
        (Event::Later(seconds), _) => world.now += SignedDuration::from_secs(*seconds),
        (Event::EditPolicy(seconds), _) => world.edit_policy("/rules/0/constraints/maxRuntimeSeconds", json!(seconds)),
        (Event::EditJob(n), _) if world.job.is_some() && !world.running() => {
            world.edit_job(|job| job["spec"]["template"]["spec"]["containers"][0]["image"] = json!(format!("x{n}")));
        }
        (Event::DeleteJob, _) => {
            world.job = None;
            world.bump();
        }
        (Event::EditJob(_), _) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever happens, and wherever the operator stops between two writes: ends absorb, a Job is started at most once and
    /// only under a sufficient sealed decision, and no other end stands over a started Job.
    #[test]
    fn ends_absorb_and_the_job_agrees(events in prop::collection::vec((event(), prop::option::of(0..3usize)), 1..14)) {
        let mut world = World::new("RequireApproval");
        let (mut ended, mut noted): (Option<State>, Option<String>) = (None, None);
        // After each event the operator goes on until nothing is left, or it stops after so many writes.
        for (event, stops_after) in &events {
            happen(&mut world, event);
            let all = stops_after.unwrap_or(usize::MAX);
            for _ in 0..6 {
                let plan = world.plan();
                if plan.steps.is_empty() { break }
                for step in plan.steps.iter().take(all) {
                    if matches!(step, Step::Release(_)) {
                        let facts = world.facts();
                        let approved = facts.reviews.iter().any(|r| {
                            r.sealed && Some(&r.review.digest) == facts.status.digest.as_ref() && r.review.reviewer.username != "triage"
                        });
                        prop_assert!(approved, "released without a counting approval");
                    }
                    world.apply(step);
                }
                if all != usize::MAX { break }
            }
            let state = world.status().state;
            if let Some(end) = ended {
                prop_assert_eq!(end, state, "an end was left");
            }
            if state.is_final() { ended = Some(state) }
            noted = noted.or_else(|| note(&world));
        }
        for _ in 0..3 { world.settle(); }
        let starts = world.starts;
        prop_assert!(starts <= 1);
        // A Job that was started and deleted before anyone wrote the status takes its receipt along: then it is Cancelled.
        if starts == 1 && world.job.is_some() { prop_assert_eq!(world.status().state, State::Released) }
        if world.status().state == State::Released { prop_assert_eq!(starts, 1) }
        if let Some(end) = ended { prop_assert_eq!(world.status().state, end) }
        // Whoever writes the Job first, wins: what it says about this binding is how the request ended.
        if let (Some(first), true) = (noted, world.job.is_some()) { prop_assert_eq!(world.status().state.as_str(), first) }
    }
}

/// The end that the Job notes of the request that is there.
fn note(world: &World) -> Option<String> {
    let closed = world.job.as_ref()?["metadata"]["annotations"]["countersign.dev/closed"].as_str()?;
    let words: Vec<&str> = closed.split(' ').collect();
    (world.request["metadata"]["uid"] == words[2]).then(|| words[0].to_string())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever is said when: nothing starts before its delay is over, nor while a window holds that nobody passed.
    #[test]
    fn nothing_starts_while_a_window_holds(
        starts in prop::collection::vec((0..24u8, 1..30i64), 1..4),
        delay in prop::option::of(1..3_000i64),
        events in prop::collection::vec((prop::sample::select(vec!["alice", "bob", "carol", ""]), 1..9_000i64), 1..12),
    ) {
        let windows: Vec<Value> = starts.iter().enumerate().map(|(i, (hour, hours))| {
            let may_pass = if i == 0 { json!([{"kind": "User", "name": "carol"}]) } else { json!([]) };
            json!({"name": format!("w{i}"), "start": format!("0 {hour} * * *"), "durationSeconds": hours * 2_700, "mayPass": may_pass})
        }).collect();
        let mut world = frozen(json!(windows));
        let rule = &mut world.policies[0].1["rules"][0];
        rule["pendingTimeoutSeconds"] = json!(50_000);
        rule["releaseTimeoutSeconds"] = json!(50_000);
        if let Some(delay) = delay { rule["notBeforeSeconds"] = json!(delay) }
        let set = world.policy_set();
        prop_assume!(set.broken.is_empty());
        let compiled: Vec<_> = windows.iter().map(|w| crate::policy::Window::compile(&serde_json::from_value(w.clone()).unwrap()).unwrap()).collect();
        let mut clock = 1;
        for (who, seconds) in events {
            clock += seconds;
            world.now = at(clock);
            if !who.is_empty() && let Some(digest) = world.status().digest { world.review(who, "Approve", &digest) }
            for _ in 0..5 {
                let plan = world.plan();
                let released = plan.steps.iter().any(|s| matches!(s, Step::Release(_)));
                let passed = world.facts().reviews.iter().any(|r| r.review.reviewer.username == "carol");
                let closed: Vec<_> = compiled.iter().enumerate().filter(|(i, w)| !(passed && *i == 0) && w.holds_until(world.now).is_some()).collect();
                prop_assert!(!released || (closed.is_empty() && clock >= delay.unwrap_or(0)), "released at {}", world.now);
                if let (Some(until), State::Approved) = (world.status().waits_until, world.status().state) {
                    prop_assert!(plan.steps.is_empty() || until.0 <= world.now || passed || plan.writes_state() == Some(State::Approved));
                    let left: Vec<_> = compiled.iter().skip(usize::from(passed)).collect();
                    if plan.steps.is_empty() { prop_assert_eq!(opening(&left, world.now.max(at(delay.unwrap_or(0)))), Some(until.0)) }
                }
                if plan.steps.is_empty() { break }
                plan.steps.iter().for_each(|step| world.apply(step));
            }
        }
    }
}
