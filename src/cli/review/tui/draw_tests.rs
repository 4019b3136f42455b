//! What stands on the screen.

use crate::cli::review::fixture::EARLIER;
use crate::cli::review::tui::draw::draw;
use crate::cli::review::tui::fixture::{
    USUAL, after, changed, keys, now, read, rebound, request, rows, screen, seen, settings, typed,
};
use crate::cli::review::tui::input::Input;
use crate::cli::review::tui::keys::Key;
use crate::cli::review::tui::state::State;
use ratatui::layout::Size;
use ratatui::style::{Color, Modifier};
use serde_json::json;

fn drawn(state: &State, width: u16, height: u16) -> Vec<String> {
    rows(&draw(state, Size { width, height }, now()))
}

#[test]
fn list_and_card_stand_on_one_screen() {
    let other = changed("other", 10, |r| r["status"]["pendingUntil"] = json!("2026-11-20T19:00:00Z"));
    let text = drawn(&screen(vec![request("run"), other]), 80, 24);
    assert_eq!(text[0], "Namespace payments: 2 wait for you");
    assert!(text[1].starts_with("  NAME    TIME"), "{text:#?}");
    assert!(text[2].starts_with("> run     30 min left       0/1"), "{text:#?}");
    assert!(text[3].starts_with("  other   1 h 30 min left"), "{text:#?}");
    assert!(text[4].starts_with("-----"), "{text:#?}");
    assert_eq!(text[5], "Request     payments/run  Pending");
    for expected in [
        "Asked by    system:serviceaccount:payments:triage (authenticated)",
        "            main: example.com/fix:1.4 runs fix --all",
        "Expires     2026-11-20T18:00:00Z (30 min left)",
        "Digest      sha256:aaaaaaaaaaaaaaaa",
    ] {
        assert!(text.iter().any(|row| row == expected), "{expected:?}: {text:#?}");
    }
    assert!(text[23].starts_with("a approve  d deny"), "{text:#?}");
}

#[test]
fn the_time_that_is_left_is_that_of_now() {
    let state = screen(vec![request("run")]);
    let later = rows(&draw(&state, USUAL, "2026-11-20T17:59:30Z".parse().expect("a time")));
    assert!(later[2].contains("30 s left") && later.iter().any(|row| row.ends_with("(30 s left)")), "{later:#?}");
}

#[test]
fn a_question_names_what_it_is_about_and_the_comment_is_written_below_it() {
    let (state, _) = typed(screen(vec![request("run")]), "a");
    let text = drawn(&state, 80, 24);
    assert_eq!(text[22], "Approve payments/run sha256:aaaaaaaaaaaaaaaa? [y/N]");
    let (state, _) = typed(state, "ylooks good");
    let frame = draw(&state, USUAL, now());
    let text = rows(&frame);
    assert_eq!(text[21], "Approve payments/run sha256:aaaaaaaaaaaaaaaa. A comment, if any:");
    assert!(text[23].starts_with("Enter: send; Esc: do not"), "{text:#?}");
    assert_eq!((text[22].as_str(), frame.cursor.map(|at| (at.x, at.y))), ("> looks good", Some((12, 22))));
    let (state, _) = after(state, [Input::Key(Key::Pasted("x界".repeat(80)))]);
    let text = rows(&draw(&state, USUAL, now()));
    assert!(text[22].starts_with("> …") && text[22].ends_with('界'), "{text:#?}");
}

#[test]
fn what_changed_stands_at_the_top_and_warns() {
    let (state, _) = after(screen(vec![request("run")]), [Input::Came(Box::new(rebound("run", 11, EARLIER)))]);
    let text = drawn(&state, 80, 24);
    assert!(text[3].starts_with("-- changed; reading what stands there now"), "{text:#?}");
    let mut state = read(state);
    state.settings.colour = true;
    let frame = draw(&state, USUAL, now());
    let text = rows(&frame);
    assert_eq!(text[4], "Changed     sha256:aaaaaaaaaaaaaaaa is now sha256:bbbbbbbbbbbbbbbb:");
    assert_eq!(text[5], "            - Bounds: none");
    assert_eq!(text[6], "            + Bounds: at most: runs 11 s");
    let cell = frame.buffer.cell((12, 4)).expect("a cell");
    assert_eq!((cell.fg, cell.modifier), (Color::Red, Modifier::BOLD));
    state.settings.colour = false;
    let plain = draw(&state, USUAL, now());
    assert!(plain.buffer.content.iter().all(|cell| cell.fg == Color::Reset && cell.modifier.is_empty()));
    assert_eq!(rows(&plain), text, "the words are the same");
}

#[test]
fn a_small_screen_says_what_is_cut() {
    let many: Vec<_> = (0..9).map(|i| request(&format!("run-{i}"))).collect();
    let state = screen(many);
    let text = drawn(&state, 40, 10);
    assert_eq!(text.len(), 10);
    assert_eq!(text[0], "Namespace payments: 9 wait for you (1-2…");
    assert!(text[1].starts_with("> run-0") && text[1].ends_with('…'), "{text:#?}");
    assert!(text[3].starts_with("-- lines 1-5 of "), "{text:#?}");
    assert!(text[4].starts_with("Request     payments/run-0  Pending"), "{text:#?}");
    // Down the list and the card.
    let (state, _) = typed(state, "jjjj");
    let (state, _) = seen(read(state), Size { width: 40, height: 10 });
    let text = drawn(&state, 40, 10);
    assert!(text[2].starts_with("> run-4"), "{text:#?}");
    let (state, _) = after(state, [Input::Key(Key::End)]);
    let text = drawn(&state, 40, 10);
    assert_eq!(text[8], "Digest      sha256:aaaaaaaaaaaaaaaa", "{text:#?}");
    // Too small to decide on: nothing that is asked is about what is on it.
    for (width, height) in [(35, 24), (80, 7), (1, 1), (0, 0), (0, 9), (9, 0)] {
        let frame = draw(&state, Size { width, height }, now());
        assert!(frame.shown.card.is_none() && frame.shown.asked.is_none());
        assert!(height == 0 || width < 9 || rows(&frame)[0].starts_with("Too small"), "{:?}", rows(&frame));
    }
    let long = "n".repeat(250);
    let (state, _) = typed(screen(vec![request(&long)]), "a");
    let frame = draw(&state, Size { width: 40, height: 10 }, now());
    assert!(frame.shown.asked.is_none() && rows(&frame)[0].starts_with("Too small for this question"));
}

#[test]
fn what_is_wrong_and_what_was_said_stand_below_the_card() {
    let (state, _) = after(screen(vec![request("run")]), [Input::Trouble("the API server cannot be reached".into())]);
    let (state, _) = typed(state, "an");
    let text = drawn(&state, 80, 24);
    assert_eq!(text[21], "Not up to date: the API server cannot be reached; trying again.");
    assert_eq!(text[22], "Not approved.");
    let (state, _) = after(state, [Input::Trouble("x ".repeat(500))]);
    let text = drawn(&state, 80, 24);
    assert!(text[21].ends_with('…'), "{text:#?}");
    assert!(text.iter().any(|row| row.starts_with("Request")), "the card keeps its room: {text:#?}");
    let text = drawn(&state, 40, 8);
    assert!(text[1].starts_with("Request") && text[6].ends_with('…') && text[7].starts_with("a approve"), "{text:#?}");
}

#[test]
fn an_empty_list_and_the_keys_are_explained() {
    let text = drawn(&State { settings: settings(), ..State::default() }, 80, 24);
    assert_eq!((text[0].as_str(), text[2].as_str()), ("Namespace payments: nothing waits", "Nothing waits for you."));
    let (state, _) = after(screen(vec![request("run")]), keys("?"));
    let frame = draw(&state, USUAL, now());
    assert!(frame.shown.card.is_none(), "no card, nothing to decide");
    for key in ["j, down", "PgUp, PgDn", "a ", "d ", "r ", "q "] {
        assert!(rows(&frame).iter().any(|row| row.starts_with(key)), "{key}: {:#?}", rows(&frame));
    }
}
