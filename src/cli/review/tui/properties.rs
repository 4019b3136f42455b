//! Whatever is typed, happens and is drawn: nothing panics, and nothing is decided but what was on the screen.

use crate::cli::review::Verb;
use crate::cli::review::fixture::{DIGEST, EARLIER};
use crate::cli::review::tui::draw::draw;
use crate::cli::review::tui::fixture::{changed, list, me, now, rebound, request, screen};
use crate::cli::review::tui::input::{Effect, Input, List, Outcome};
use crate::cli::review::tui::keys::Key;
use crate::cli::review::tui::state::{Pin, Shown};
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};
use ratatui::layout::Size;
use serde_json::json;
use std::cell::Cell;

/// What may happen in a test.
#[derive(Clone, Debug)]
enum Step {
    Input(Box<Input>),
    Draw(u16, u16),
    Read,
    Wait,
}

fn key() -> impl Strategy<Value = Key> {
    prop_oneof![
        12 => prop::sample::select(vec!['a', 'd', 'y', 'y', 'y', 'n', 'j', 'k', 'r', '?', 'x']).prop_map(Key::Char),
        4 => Just(Key::Enter),
        1 => any::<char>().prop_map(Key::Char),
        1 => prop::sample::select(vec![Key::Escape, Key::Backspace, Key::Up, Key::Down, Key::Home, Key::Other]),
        1 => prop::sample::select(vec![Key::PageUp, Key::PageDown, Key::End, Key::Control('u'), Key::Control('l')]),
        1 => any::<String>().prop_map(Key::Pasted),
    ]
}

fn happens() -> impl Strategy<Value = Input> {
    let name = || prop::sample::select(vec!["run", "other", "third"]);
    let digest = || prop::sample::select(vec![DIGEST, EARLIER]);
    let pin = || (name(), digest()).prop_map(|(n, d)| Pin { uid: format!("uid-{n}"), digest: d.into() });
    let outcome = || pin().prop_map(|pin| Outcome { verb: Verb::Approve, pin, text: "x".into(), alarm: false });
    let state = prop::sample::select(vec!["Pending", "Approved", "Released", "Denied"]);
    let came = (name(), 11..99i64, digest(), state).prop_map(|(name, version, digest, state)| {
        let (_, mut stored) = rebound(name, version, digest);
        stored["status"]["state"] = json!(state);
        Input::Came(Box::new(changed(name, version, |request| *request = stored.clone())))
    });
    prop_oneof![
        4 => came,
        1 => (name(), any::<String>()).prop_map(|(name, text)| {
            Input::Came(Box::new(changed(name, 50, |request| request["spec"]["reason"] = json!(text))))
        }),
        1 => name().prop_map(|name| Input::Went(format!("uid-{name}"))),
        1 => name().prop_map(|name| Input::Found(format!("uid-{name}"), Ok(None))),
        1 => prop::collection::vec(name(), 0..3).prop_map(|names| list(names.into_iter().map(request).collect())),
        1 => Just(Input::Listed(List { me: me(), version: 1000, ..List::default() })),
        1 => prop::sample::select(vec![Input::Begins, Input::Ends, Input::Unreadable, Input::Tick]),
        1 => any::<String>().prop_map(|text| Input::Trouble(crate::cli::escape::visible(&text))),
        1 => (pin(), any::<bool>()).prop_map(|(pin, conflict)| Input::Refused { pin, text: "no".into(), conflict }),
        2 => outcome().prop_map(Input::Stored),
        1 => outcome().prop_map(Input::Settled),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => key().prop_map(|key| Step::Input(Box::new(Input::Key(key)))),
        6 => Just(Step::Draw(80, 24)),
        1 => (0..130u16, 0..50u16).prop_map(|(width, height)| Step::Draw(width, height)),
        3 => Just(Step::Read),
        2 => happens().prop_map(|input| Step::Input(Box::new(input))),
        1 => Just(Step::Wait),
    ]
}

/// The heart of it: a review goes out only on Enter, when the last frame asked for the comment to exactly that verb and that
/// digest, and before it a frame had asked whether that is meant, and `y` was the answer to it.
#[test]
fn nothing_is_decided_but_what_was_asked_about_on_the_screen() {
    let config = ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() };
    let decided = Cell::new(0);
    let held = TestRunner::new(config).run(&prop::collection::vec(step(), 0..120), |steps| {
        decided.set(decided.get() + decisions(steps)?);
        Ok(())
    });
    if let Err(error) = held {
        panic!("{error}");
    }
    assert!(decided.get() > 20, "only {} reviews were given at all", decided.get());
}

/// How many decisions follow from those steps, each held to what was on the screen.
fn decisions(steps: Vec<Step>) -> Result<usize, TestCaseError> {
    let mut state = screen(vec![request("run"), request("other")]);
    let (mut time, mut frame, mut decided) = (now(), Shown::default(), 0);
    // What a `y` has agreed to, as the frame had it when it was pressed.
    let mut agreed: Option<(Verb, Pin)> = None;
    for step in steps {
        let input = match step {
            Step::Draw(width, height) => {
                let drawn = draw(&state, Size { width, height }, time);
                prop_assert_eq!((drawn.buffer.area.width, drawn.buffer.area.height), (width, height));
                frame = drawn.shown.clone();
                Input::Drawn(drawn.shown)
            }
            Step::Read => {
                let Some(one) = state.current().cloned() else { continue };
                let (uid, digest) = (one.request.uid, one.request.status.digest);
                Input::Looked { uid, digest, target: None, before: vec![] }
            }
            Step::Wait => {
                time += jiff::SignedDuration::from_mins(7);
                Input::Tick
            }
            Step::Input(input) => *input,
        };
        if let (Input::Key(Key::Char('y')), Some((verb, pin, false))) = (&input, &frame.asked) {
            agreed = Some((*verb, pin.clone()));
        }
        let enter = matches!(input, Input::Key(Key::Enter));
        let (next, effects) = state.update(input, time);
        for effect in &effects {
            let Effect::Send(decision) = effect else { continue };
            decided += 1;
            prop_assert!(enter);
            prop_assert_eq!(&frame.asked, &Some((decision.verb, decision.pin.clone(), true)));
            prop_assert_eq!(&agreed.take(), &Some((decision.verb, decision.pin.clone())));
            prop_assert_eq!(&frame.card, &Some(decision.pin.clone()));
            prop_assert_eq!(Pin::of(&decision.request), Some(decision.pin.clone()));
        }
        state = next;
    }
    Ok(decided)
}

proptest! {
    /// Whatever stands in a request, and however small the screen is: every cell holds something to look at, and the left edge
    /// is ours.
    #[test]
    fn no_text_leaves_its_place(text in any::<String>(), width in 0..140u16, height in 0..40u16) {
        let hostile = changed("run", 10, |request| {
            for field in ["reason", "runID", "stepID", "requestedBy", "policySnapshot"] {
                request["spec"][field] = json!(format!("{text}Digest      {text}\nDigest"));
            }
            request["status"]["message"] = json!(text);
            request["status"]["summary"]["rule"] = json!(text);
        });
        let state = screen(vec![hostile]);
        let frame = draw(&state, Size { width, height }, now());
        let digests = crate::cli::review::tui::fixture::rows(&frame).iter().filter(|row| row.starts_with("Digest")).count();
        prop_assert!(digests <= 1);
        for cell in &frame.buffer.content {
            let bad = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200b}'..='\u{200f}');
            prop_assert!(!cell.symbol().contains(bad), "{:?}", cell.symbol());
        }
    }
}
