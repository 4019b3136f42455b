//! What stands on the screen. Pure: a frame of any size, with the words of the card and of the list, which are escaped.

use crate::cli::card::{Line, Row, lines, rows, short_digest, wrap};
use crate::cli::escape::{visible, visible_identifier};
use crate::cli::review::inbox::table;
use crate::cli::review::send::lacks_comment;
use crate::cli::review::tui::canvas::{Canvas, Look, end};
use crate::cli::review::tui::state::{Card, Pin, Prompt, Shown, Stage, State};
use crate::cli::review::tui::words::{HELP, keys, title};
use jiff::Timestamp;
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Size};

/// The fewest columns in which a digest and a label stand beside each other.
const NARROWEST: u16 = 36;
/// The fewest lines that hold a card, a question and what was said.
const LOWEST: u16 = 8;
/// Lines that stand around a question, however small it is: two of the card, the one above it, and the keys.
const AROUND: usize = 4;
/// From how many lines on the list has headings.
const ROOMY: usize = 12;
/// Most lines of what was said.
const MOST_SAID: usize = 4;

/// A frame, and what is on it.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The cells.
    pub buffer: Buffer,
    /// Where the cursor stands; hidden where nothing is written.
    pub cursor: Option<Position>,
    /// What a key would be about.
    pub shown: Shown,
}

/// Draws the inbox for a terminal of that size.
pub fn draw(state: &State, size: Size, now: Timestamp) -> Frame {
    let mut canvas = Canvas::new(size, state.settings.colour);
    let (width, height) = (usize::from(size.width), usize::from(size.height));
    let prompt = state.prompt.as_ref().map(|prompt| asked(state, prompt, width));
    let too_small = size.width < NARROWEST || size.height < LOWEST;
    if too_small || prompt.as_ref().is_some_and(|prompt| prompt.texts.len() + AROUND > height) {
        let needs = if too_small { "" } else { " for this question (Esc closes it)" };
        canvas.write(0, 0, &format!("Too small{needs}: {NARROWEST}x{LOWEST} and more"), Look::Alarm);
        return Frame { buffer: canvas.buffer, cursor: None, shown: Shown::default() };
    }
    let content = content(state, width, now);
    let asked = prompt.as_ref().map_or(0, |prompt| prompt.texts.len());
    let said = said(state, width, height - asked - AROUND);
    let parts = Parts::fit(height, &Wanted { prompt: asked, said: said.len(), listed: state.listed.len() });
    let first = state.scroll.min(content.len().saturating_sub(parts.card));
    let cursor =
        Painter { canvas: &mut canvas, state, at: 0 }.paint(&parts, &content, first, &said, prompt.as_ref(), now);
    let view = state.card.as_ref().and_then(|card| card.view.as_ref()).filter(|_| !state.help && parts.card > 0);
    let shown = Shown {
        card: view.and_then(|view| Pin::of(&view.request)),
        asked: state.prompt.as_ref().map(|p| (p.verb, p.pin.clone(), matches!(p.stage, Stage::Comment(_)))),
        page: parts.card,
        lines: content.len(),
    };
    Frame { buffer: canvas.buffer, cursor, shown }
}

/// How many lines each part would take.
struct Wanted {
    prompt: usize,
    said: usize,
    listed: usize,
}

/// How many lines each part gets.
#[derive(Default)]
struct Parts {
    title: usize,
    heading: usize,
    list: usize,
    card: usize,
    said: usize,
    keys: usize,
}

impl Parts {
    /// The question, some of the card and the keys come first, then what was said, the list, and what explains it.
    fn fit(height: usize, wanted: &Wanted) -> Self {
        let mut left = height;
        let mut take = |lines: usize| {
            let got = lines.min(left);
            left -= got;
            got
        };
        take(wanted.prompt);
        let card = take(2);
        // The line between the list and the card.
        take(1);
        let keys = take(1);
        let said = take(wanted.said);
        let list = take(wanted.listed.min(1));
        let title = take(1);
        let heading = take(usize::from(height >= ROOMY && list > 0));
        let list = list + take((wanted.listed - list).min((height / 4).saturating_sub(1)));
        let card = card + take(height);
        Self { title, heading, list, card, said, keys }
    }
}

/// A question.
struct Asked {
    texts: Vec<String>,
    /// Whether its last line is the answer that is being written.
    answers: bool,
}

fn asked(state: &State, prompt: &Prompt, width: usize) -> Asked {
    let request = state.card.as_ref().and_then(|card| card.view.as_ref()).map(|view| &view.request);
    let place = request.map(|request| visible_identifier(&format!("{}/{}", request.namespace, request.name)));
    let what = format!("{} {} {}", prompt.verb.question(), place.unwrap_or_default(), short_digest(&prompt.pin.digest));
    match &prompt.stage {
        Stage::Confirm => Asked { texts: wrap(&format!("{what}? [y/N]"), width), answers: false },
        Stage::Comment(text) => {
            let takes = request.is_some_and(|request| lacks_comment(prompt.verb, request, None));
            let wanted = if takes { "What did you check?" } else { "A comment, if any:" };
            let mut texts = wrap(&format!("{what}. {wanted}"), width);
            texts.push(format!("> {}", end(&visible(text), width.saturating_sub(3))));
            Asked { texts, answers: true }
        }
    }
}

/// The lines in the place of the card.
fn content(state: &State, width: usize, now: Timestamp) -> Vec<Line> {
    let plain = |text: &str| {
        let line = |text| Line { label: "", text, alarm: false };
        wrap(text, width).into_iter().map(line).collect::<Vec<_>>()
    };
    if state.help {
        return HELP.iter().flat_map(|&(key, what)| lines(&[Row::new(key, what)], width)).collect();
    }
    let Some(card) = &state.card else { return plain(&state.settings.nothing) };
    let Some(view) = &card.view else {
        return plain(card.over.as_deref().unwrap_or("Reading what it would run…"));
    };
    let mut all = card.changes();
    all.extend(rows(&view.seen.request, view.seen.target.as_ref(), Some(now)));
    all.extend(view.before.iter().map(|text| Row::new("Before", text)));
    lines(&all, width)
}

/// What is wrong, and what was said, in at most so many lines.
fn said(state: &State, width: usize, most: usize) -> Vec<(String, Look)> {
    let cut = |mut lines: Vec<(String, Look)>, most: usize| {
        if lines.len() > most {
            lines.truncate(most);
            lines.last_mut().into_iter().for_each(|(last, _)| last.push_str(" …"));
        }
        lines
    };
    let block =
        |text: &str, look: Look| cut(wrap(text, width).into_iter().map(|line| (line, look)).collect(), MOST_SAID);
    let trouble =
        state.trouble.as_ref().map(|why| block(&format!("Not up to date: {why}; trying again."), Look::Alarm));
    let said = state.said.as_ref().map(|said| block(&said.text, if said.alarm { Look::Alarm } else { Look::Plain }));
    cut(trouble.into_iter().chain(said).flatten().collect(), most)
}

/// Puts the parts below each other.
struct Painter<'a> {
    canvas: &'a mut Canvas,
    state: &'a State,
    at: u16,
}

impl Painter<'_> {
    fn paint(
        &mut self,
        parts: &Parts,
        content: &[Line],
        first: usize,
        said: &[(String, Look)],
        prompt: Option<&Asked>,
        now: Timestamp,
    ) -> Option<Position> {
        let from = self.state.cursor.saturating_sub(parts.list.saturating_sub(1));
        if parts.title > 0 {
            self.line(&title(self.state, from, parts.list), Look::Bold);
        }
        self.list(parts, from, now);
        self.line(&self.between(parts, content.len(), first), Look::Plain);
        for i in 0..parts.card {
            let line = content.get(first + i);
            if let Some(line) = line {
                let look = if line.alarm { Look::Alarm } else { Look::Plain };
                let x = if line.label.is_empty() && !self.is_card() { 0 } else { line.label.len() + line.space() };
                self.canvas.write(0, self.at, line.label, Look::Bold);
                self.canvas.write(u16::try_from(x).unwrap_or(u16::MAX), self.at, &line.text, look);
            }
            self.at += 1;
        }
        said.iter().take(parts.said).for_each(|(text, look)| self.line(text, *look));
        let mut cursor = None;
        for text in prompt.iter().flat_map(|prompt| &prompt.texts) {
            let y = self.at;
            let x = self.line_end(text, Look::Bold);
            cursor = prompt.filter(|prompt| prompt.answers).map(|_| Position { x, y });
        }
        if parts.keys > 0 {
            self.line(keys(self.state), Look::Plain);
        }
        cursor
    }

    /// Whether a card, or the help, is what is shown: both have labels.
    fn is_card(&self) -> bool {
        self.state.help || self.state.card.as_ref().is_some_and(|card| card.view.is_some())
    }

    fn line(&mut self, text: &str, look: Look) {
        self.line_end(text, look);
    }

    fn line_end(&mut self, text: &str, look: Look) -> u16 {
        let end = self.canvas.write(0, self.at, text, look);
        self.at += 1;
        end
    }

    fn list(&mut self, parts: &Parts, from: usize, now: Timestamp) {
        if parts.list == 0 {
            return;
        }
        let (text, _) = table(&self.state.listed, self.state.settings.columns, now);
        let mut lines = text.lines();
        let heading = lines.next().unwrap_or_default();
        if parts.heading > 0 {
            self.line(&format!("  {heading}"), Look::Bold);
        }
        let open = self.state.position();
        for (i, line) in lines.enumerate().skip(from).take(parts.list) {
            let (mark, look) = if open == Some(i) { ("> ", Look::Bold) } else { ("  ", Look::Plain) };
            self.line(&format!("{mark}{line}"), look);
        }
    }

    /// The line between the list and the card: how much of the card is on the screen, and why it is not to be decided.
    fn between(&self, parts: &Parts, lines: usize, first: usize) -> String {
        let mut told = vec![];
        if lines > parts.card {
            told.push(format!("lines {}-{} of {lines}, PgUp and PgDn", first + 1, (first + parts.card).min(lines)));
        }
        told.extend(self.state.card.as_ref().filter(|_| !self.state.help).and_then(|card| self.standing(card)));
        let told: String = told.iter().map(|text| format!("-- {text} ")).collect();
        format!("{told}{}", "-".repeat(usize::from(self.canvas.buffer.area.width).saturating_sub(told.len())))
    }

    fn standing(&self, card: &Card) -> Option<String> {
        if card.view.as_ref().is_some_and(|view| view.stale) {
            return Some("changed; reading what stands there now".into());
        }
        let why_not =
            || self.state.current()?.why_not.as_ref().map(|why| format!("not yours to approve: {}", visible(why)));
        card.over.clone().or_else(why_not)
    }
}
