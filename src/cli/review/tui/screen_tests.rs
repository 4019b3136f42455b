use super::*;
use crate::cli::review::fixture::EARLIER;
use crate::cli::review::tui::draw::draw;
use crate::cli::review::tui::fixture::{after, changed, keys, now, read, rebound, request, rows, screen, typed};
use crate::cli::review::tui::input::Input;
use crate::cli::review::tui::state::State;
use pty_process::blocking::{Command, open};
use serde_json::json;
use std::io::Read;
use std::num::NonZeroU16;

/// What a terminal makes of the frames of those states, one after the other.
fn shown(states: &[State], size: Size) -> String {
    let lines = |n| NonZeroU16::new(n).expect("a size");
    let mut terminal = vt100::Parser::new(lines(size.height), lines(size.width), 0);
    // Whatever stood there before.
    terminal.process("x".repeat(usize::from(size.width) * usize::from(size.height)).as_bytes());
    let mut last = None;
    for state in states {
        let frame = draw(state, size, now());
        terminal.process(&painted(last.as_ref(), &frame).expect("bytes"));
        last = Some(frame.buffer);
    }
    terminal.screen().contents()
}

#[test]
fn a_terminal_shows_the_frame_that_was_drawn_last_whatever_stood_there() {
    let one = screen(vec![request("run"), request("other")]);
    let (asked, _) = typed(one.clone(), "ayseen");
    let (other, _) = after(one.clone(), keys("j"));
    let (new, _) = after(one.clone(), [Input::Came(Box::new(rebound("other", 11, EARLIER)))]);
    let wide = screen(vec![changed("run", 10, |r| r["spec"]["reason"] = json!("界 e\u{301} über\u{1b}[2J".repeat(9)))]);
    let states = [one, asked, other.clone(), read(other), new, wide];
    for size in [Size::new(80, 24), Size::new(40, 10), Size::new(36, 8), Size::new(9, 3)] {
        for until in 1..=states.len() {
            let expected = draw(&states[until - 1], size, now());
            let found = shown(&states[..until], size);
            // A wide character stands in one cell, and the next is empty.
            let flat = |text: &str| text.lines().map(|line| line.replace(' ', "")).collect::<Vec<_>>().join("\n");
            assert_eq!(flat(found.trim_end()), flat(rows(&expected).join("\n").trim_end()), "{size:?} {until}");
        }
    }
}

#[test]
fn a_frame_that_differs_in_a_line_takes_that_line_alone() {
    let (one, later) = (screen(vec![request("run")]), "2026-11-20T17:31:00Z".parse().expect("a time"));
    let (before, after) = (draw(&one, Size::new(80, 24), now()), draw(&one, Size::new(80, 24), later));
    let whole = painted(None, &after).expect("bytes").len();
    let part = painted(Some(&before.buffer), &after).expect("bytes");
    let text = String::from_utf8(part.clone()).expect("text");
    assert!(text.contains("29") && !text.contains("Request"), "{text:?}");
    assert!(part.len() * 3 < whole, "{} of {whole}", part.len());
}

/// Tells this test, when it runs on a terminal of its own, that it is to panic there.
const ON_A_TERMINAL: &str = "COUNTERSIGN_TEST_ON_A_TERMINAL";

#[test]
fn a_panic_gives_the_screen_back_before_it_is_told() {
    if std::env::var_os(ON_A_TERMINAL).is_some() {
        let _screen = Screen::take().expect("a terminal");
        panic!("on purpose");
    }
    let name = "cli::review::tui::screen::tests::a_panic_gives_the_screen_back_before_it_is_told";
    let (mut pty, pts) = open().expect("a terminal");
    let command = Command::new(std::env::current_exe().expect("this test")).args(["--exact", name, "--nocapture"]);
    let mut child = command.env(ON_A_TERMINAL, "1").spawn(pts).expect("a process");
    let mut bytes = vec![];
    let mut buffer = [0; 4096];
    // A pty whose other side is closed reads as an error.
    while let Ok(read @ 1..) = pty.read(&mut buffer) {
        bytes.extend(&buffer[..read]);
    }
    assert!(!child.wait().expect("an end").success());
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("no {what:?} in {text:?}"));
    assert!(at("\u{1b}[?1049h") < at("\u{1b}[?1049l") && at("\u{1b}[?1049l") < at("on purpose"), "{text:?}");
    assert!(text.contains("\u{1b}[?25h") && text.contains("\u{1b}[?7h") && text.contains("\u{1b}[?2004l"), "{text:?}");
    assert_eq!(text.matches("\u{1b}[?1049l").count(), 1, "once: {text:?}");
}
