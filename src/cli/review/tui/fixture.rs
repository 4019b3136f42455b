//! A screen with requests on it, for the tests of this room.

use crate::admission::Caller;
use crate::cli::review::fixture::{facts, pending};
use crate::cli::review::inbox::Me;
use crate::cli::review::tui::draw::{Frame, draw};
use crate::cli::review::tui::input::{Decision, Effect, Input, List, Request};
use crate::cli::review::tui::keys::Key;
use crate::cli::review::tui::state::{Settings, State};
use jiff::Timestamp;
use ratatui::layout::Size;
use serde_json::{Value, json};

/// The usual size.
pub const USUAL: Size = Size { width: 80, height: 24 };

/// When all of it happens.
pub fn now() -> Timestamp {
    "2026-11-20T17:30:00Z".parse().expect("a time")
}

/// alice of sre.
pub fn me() -> Me {
    let caller = Caller { username: "alice".into(), groups: vec!["sre".into()], ..Caller::default() };
    Me { caller, authorized: vec![] }
}

/// A request that waits for her, changed.
pub fn changed(name: &str, version: i64, change: impl Fn(&mut Value)) -> Request {
    let mut request = pending(name);
    request["metadata"]["resourceVersion"] = json!(version.to_string());
    change(&mut request);
    (facts(&request), request)
}

/// A request that waits for her.
pub fn request(name: &str) -> Request {
    changed(name, 10, |_| {})
}

/// With another digest, and another bound.
pub fn rebound(name: &str, version: i64, digest: &str) -> Request {
    changed(name, version, |request| {
        request["status"]["digest"] = json!(digest);
        request["status"]["constraints"] = json!({"maxRuntimeSeconds": version});
    })
}

/// What would run.
pub fn job() -> Value {
    json!({"metadata": {"name": "job", "uid": "j"}, "spec": {"template": {"spec": {"containers": [
        {"name": "main", "image": "example.com/fix:1.4", "command": ["fix", "--all"]}]}}}})
}

/// A list of those requests.
pub fn list(requests: Vec<Request>) -> Input {
    Input::Listed(List { requests, me: me(), version: 100, ..List::default() })
}

/// The screen after all of that, at the usual time.
pub fn after(state: State, inputs: impl IntoIterator<Item = Input>) -> (State, Vec<Effect>) {
    inputs.into_iter().fold((state, vec![]), |(state, mut effects), input| {
        let (state, more) = state.update(input, now());
        effects.extend(more);
        (state, effects)
    })
}

/// The keys of that text.
pub fn keys(text: &str) -> Vec<Input> {
    let key = |c| match c {
        '\r' => Key::Enter,
        '\u{1b}' => Key::Escape,
        c => Key::Char(c),
    };
    text.chars().map(|c| Input::Key(key(c))).collect()
}

/// Draws it, so that its keys are about what is there.
pub fn seen(state: State, size: Size) -> (State, Frame) {
    let frame = draw(&state, size, now());
    let (state, _) = state.update(Input::Drawn(frame.shown.clone()), now());
    (state, frame)
}

/// Types each key once what it is about is on the screen.
pub fn typed(state: State, text: &str) -> (State, Vec<Effect>) {
    keys(text).into_iter().fold((seen(state, USUAL).0, vec![]), |(state, mut effects), key| {
        let (state, more) = after(state, [key]);
        effects.extend(more);
        (seen(state, USUAL).0, effects)
    })
}

/// The card is read, as it stands in the list now.
pub fn read(state: State) -> State {
    let Some(one) = state.current().cloned() else { return state };
    let (uid, digest) = (one.request.uid, one.request.status.digest);
    after(state, [Input::Looked { uid, digest, target: Some(job()), before: vec![] }]).0
}

/// With those requests, the card of the first read and drawn.
pub fn screen(requests: Vec<Request>) -> State {
    let (state, _) = after(State { settings: settings(), ..State::default() }, [list(requests)]);
    seen(read(state), USUAL).0
}

/// The settings of the tests.
pub fn settings() -> Settings {
    Settings { place: "Namespace payments".into(), nothing: "Nothing waits for you.".into(), ..Settings::default() }
}

/// The decisions among what is to be done.
pub fn decisions(effects: &[Effect]) -> Vec<&Decision> {
    let decided = effects.iter().filter_map(|effect| match effect {
        Effect::Send(decision) => Some(decision),
        _ => None,
    });
    decided.collect()
}

/// The lines of a frame.
pub fn rows(frame: &Frame) -> Vec<String> {
    let width = usize::from(frame.buffer.area.width).max(1);
    let row = |cells: &[ratatui::buffer::Cell]| cells.iter().map(|cell| cell.symbol()).collect::<String>();
    frame.buffer.content.chunks(width).map(|cells| row(cells).trim_end().to_string()).collect()
}
