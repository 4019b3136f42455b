//! What a key does. A decision takes three: one that asks, `y` once the question is on the screen, and Enter once the line
//! for the comment is.

use crate::cli::escape::visible;
use crate::cli::review::Verb;
use crate::cli::review::args::LONGEST_COMMENT;
use crate::cli::review::send::lacks_comment;
use crate::cli::review::tui::input::{Decision, Effect, Leave};
use crate::cli::review::tui::keys::Key;
use crate::cli::review::tui::state::{Pin, Prompt, Stage, State};

/// What follows from a key.
pub fn press(state: &mut State, key: Key) -> Vec<Effect> {
    if key == Key::Control('c') {
        return vec![Effect::Leave(Leave::Interrupted)];
    }
    if key == Key::Control('l') {
        return vec![Effect::Redraw];
    }
    if state.help {
        state.help = false;
        return vec![];
    }
    match state.prompt.take() {
        None => command(state, key),
        Some(prompt) => match prompt.stage.clone() {
            Stage::Confirm => confirm(state, prompt, key),
            Stage::Comment(text) => comment(state, prompt, text, key),
        },
    }
}

fn command(state: &mut State, key: Key) -> Vec<Effect> {
    match key {
        Key::Char('j') | Key::Down => go(state, true),
        Key::Char('k') | Key::Up => go(state, false),
        Key::Char('a') => ask(state, Verb::Approve),
        Key::Char('d') => ask(state, Verb::Deny),
        Key::Char('r') => refresh(state),
        Key::Char('?') => {
            state.help = true;
            vec![]
        }
        // Whoever leaves while a review is on its way has to hear that.
        Key::Char('q') if state.sending.is_some() => vec![Effect::Leave(Leave::Interrupted)],
        Key::Char('q') => vec![Effect::Leave(Leave::Done)],
        key => {
            scroll(state, &key);
            vec![]
        }
    }
}

/// Opens the card of the next request, or of the one before.
fn go(state: &mut State, forth: bool) -> Vec<Effect> {
    let last = state.listed.len().saturating_sub(1);
    let to = match (state.position(), forth) {
        (Some(at), true) => (at + 1).min(last),
        (None, true) => state.cursor.min(last),
        (_, false) => state.cursor.saturating_sub(1),
    };
    if state.position() == Some(to) {
        return vec![];
    }
    state.said = None;
    state.open(to)
}

/// Moves the card; whether the key is one that does.
fn scroll(state: &mut State, key: &Key) -> bool {
    let (page, last) = (state.shown.page.saturating_sub(1).max(1), state.shown.lines.saturating_sub(state.shown.page));
    state.scroll = match key {
        Key::PageUp => state.scroll.saturating_sub(page),
        Key::PageDown => state.scroll.saturating_add(page).min(last),
        Key::Home => 0,
        Key::End => last,
        _ => return false,
    };
    true
}

fn refresh(state: &mut State) -> Vec<Effect> {
    if state.reading {
        return vec![];
    }
    state.reading = true;
    state.said = None;
    let look = state.current().map(|one| Effect::Look(Box::new((one.request.clone(), one.stored.clone()))));
    [Effect::List, Effect::Redraw].into_iter().chain(look).collect()
}

/// Asks about the card, if that is what is on the screen.
fn ask(state: &mut State, verb: Verb) -> Vec<Effect> {
    state.said = None;
    if state.sending.is_some() {
        state.warn("a review is on its way; one after the other");
        return vec![];
    }
    let Some(view) = state.card.as_ref().and_then(|card| card.view.as_ref()) else {
        if state.card.is_some() {
            state.warn("the card is still being read");
        }
        return vec![];
    };
    let pin = Pin::of(&view.request);
    if let Some(why) = state.obstacle(verb) {
        state.warn(why);
        return vec![];
    }
    if let Some(pin) = pin.filter(|pin| state.shown.card.as_ref() == Some(pin)) {
        put(state, Prompt { verb, pin, stage: Stage::Confirm });
    }
    vec![]
}

/// Asks something new: nothing on the screen asks it yet.
fn put(state: &mut State, prompt: Prompt) {
    state.shown.asked = None;
    state.prompt = Some(prompt);
}

/// Only a `y` to a question that is on the screen goes on.
fn confirm(state: &mut State, prompt: Prompt, key: Key) -> Vec<Effect> {
    let asked = state.shown.asked == Some((prompt.verb, prompt.pin.clone(), false));
    match key {
        Key::Char('y') if asked => put(state, Prompt { stage: Stage::Comment(String::new()), ..prompt }),
        // Typed before the question was there: no answer to it.
        Key::Char('y') => state.prompt = Some(prompt),
        key if scroll(state, &key) => state.prompt = Some(prompt),
        _ => state.say(format!("Not {}.", prompt.verb.done())),
    }
    vec![]
}

/// The line for the comment.
fn comment(state: &mut State, prompt: Prompt, mut text: String, key: Key) -> Vec<Effect> {
    let asked = state.shown.asked == Some((prompt.verb, prompt.pin.clone(), true));
    match key {
        Key::Enter if asked => return send(state, prompt, text),
        Key::Escape => {
            state.say(format!("Not {}.", prompt.verb.done()));
            return vec![];
        }
        Key::Backspace => drop(text.pop()),
        Key::Control('u') => text.clear(),
        Key::Char(c) => write(state, &mut text, &c.to_string()),
        Key::Pasted(pasted) => write(state, &mut text, &pasted),
        key => drop(scroll(state, &key)),
    }
    state.prompt = Some(Prompt { stage: Stage::Comment(text), ..prompt });
    vec![]
}

/// Adds to a comment what can be seen and kept.
fn write(state: &mut State, text: &mut String, more: &str) {
    let plain = more.chars().filter(|c| visible(c.encode_utf8(&mut [0; 4])) == c.to_string());
    let room = LONGEST_COMMENT.saturating_sub(text.chars().count());
    let (kept, rest): (Vec<_>, Vec<_>) = plain.enumerate().partition(|(i, _)| *i < room);
    text.extend(kept.into_iter().map(|(_, c)| c));
    if !rest.is_empty() {
        state.warn(format!("{LONGEST_COMMENT} characters can be kept; the rest was left out"));
    }
}

fn send(state: &mut State, prompt: Prompt, text: String) -> Vec<Effect> {
    let view = state.card.as_ref().and_then(|card| card.view.as_ref());
    let Some(request) = view.map(|view| &view.request).filter(|request| Pin::of(request).as_ref() == Some(&prompt.pin))
    else {
        return vec![];
    };
    let comment = Some(text.trim().to_string()).filter(|text| !text.is_empty());
    if lacks_comment(prompt.verb, request, comment.as_deref()) {
        state.prompt = Some(Prompt { stage: Stage::Comment(text), ..prompt });
        state.warn("this approval takes a comment: say what you checked");
        return vec![];
    }
    let request = Box::new(request.clone());
    let Prompt { verb, pin, .. } = prompt;
    state.sending = Some((verb, pin.clone()));
    state.say("Sending…");
    vec![Effect::Send(Decision { verb, request, pin, comment })]
}
