//! The rows of a card, and how they are laid out on a terminal.

use crate::cli::escape::visible_identifier;

/// Columns of a card; digests and the command may go beyond.
pub(super) const WIDTH: usize = 80;
/// The fewest columns that a card is laid out for.
const NARROWEST: usize = 32;
/// Columns of the labels.
pub(super) const LABEL: usize = 12;

/// A label and what it says, safe to show.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Row {
    /// The label.
    pub label: &'static str,
    /// The text, escaped.
    pub text: String,
    /// Whether it goes on one line, however long: a digest that is to be copied.
    unbroken: bool,
    /// Whether it warns.
    alarm: bool,
}

impl Row {
    /// A row; `text` is safe to show already.
    pub fn new(label: &'static str, text: &str) -> Self {
        Self { label, text: text.into(), unbroken: false, alarm: false }
    }

    /// A row that warns.
    pub fn alarm(label: &'static str, text: &str) -> Self {
        Self { alarm: true, ..Self::new(label, text) }
    }
}

/// How to show a card.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Whether to mark labels and warnings by colour as well.
    pub colour: bool,
    /// Columns of the terminal.
    pub columns: usize,
}

impl Default for Look {
    fn default() -> Self {
        Self { colour: false, columns: WIDTH }
    }
}

impl Look {
    /// `text` set apart as a label.
    pub fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    /// `text` set apart as a warning.
    pub fn warning(self, text: &str) -> String {
        self.with("1;31", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.colour && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.into() }
    }
}

/// The rows of a card as they are put together.
#[derive(Default)]
pub(super) struct Page {
    pub rows: Vec<Row>,
}

impl Page {
    /// A row; `text` is safe to show already.
    pub fn row(&mut self, label: &'static str, text: &str) {
        self.rows.push(Row::new(label, text));
    }

    /// Rows under one label.
    pub fn rows(&mut self, label: &'static str, texts: impl IntoIterator<Item = String>) {
        texts.into_iter().for_each(|text| self.row(label, &text));
    }

    /// A row that is to be copied in one piece.
    pub fn unbroken(&mut self, label: &'static str, text: &str) {
        self.rows.push(Row { unbroken: true, ..Row::new(label, text) });
    }

    /// A row that warns.
    pub fn alarm(&mut self, label: &'static str, text: &str) {
        self.rows.push(Row::alarm(label, text));
    }
}

/// A line of a card: the label where a row begins, and beside it what fits.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Line {
    /// The label, or nothing where the row above goes on.
    pub label: &'static str,
    /// The text, escaped.
    pub text: String,
    /// Whether it warns.
    pub alarm: bool,
}

impl Line {
    /// Where the text begins, so that nothing but labels stands at the left edge.
    pub fn space(&self) -> usize {
        LABEL - self.label.len()
    }
}

/// The rows as lines: a label once, what it says beside it.
pub fn lines(rows: &[Row], columns: usize) -> Vec<Line> {
    let width = columns.clamp(NARROWEST, WIDTH) - LABEL;
    let (mut lines, mut last) = (vec![], "");
    for row in rows {
        let mut label = if row.label == last { "" } else { row.label };
        last = row.label;
        let texts = if row.unbroken { vec![row.text.clone()] } else { wrap(&row.text, width) };
        for text in texts {
            lines.push(Line { label, text, alarm: row.alarm });
            label = "";
        }
    }
    lines
}

/// The rows as text.
pub fn lay_out(rows: &[Row], look: Look) -> String {
    let line = |line: &Line| {
        let text = if line.alarm { look.warning(&line.text) } else { line.text.clone() };
        let text = format!("{}{:space$}{text}", look.bold(line.label), "", space = line.space());
        format!("{}\n", text.trim_end())
    };
    lines(rows, look.columns).iter().map(line).collect()
}

/// Columns that a character takes, or more: a line that is longer than it seems would go on at the left edge, where labels
/// stand.
fn columns(c: char) -> usize {
    if c < '\u{1100}' { 1 } else { 2 }
}

/// Breaks at spaces, and inside a word only where it is longer than a line.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let (mut lines, mut used) = (vec![String::new()], 0);
    for word in text.split(' ') {
        let length: usize = word.chars().map(columns).sum();
        if used > 0 && used + 1 + length > width {
            lines.push(String::new());
            used = 0;
        }
        let Some(line) = lines.last_mut().filter(|_| used > 0) else {
            used = begin(&mut lines, word, width);
            continue;
        };
        line.push(' ');
        line.push_str(word);
        used += 1 + length;
    }
    lines.retain(|line| !line.is_empty());
    lines
}

/// Puts a word at the beginning of the last line, and on further ones what does not fit. Returns the columns used.
fn begin(lines: &mut Vec<String>, word: &str, width: usize) -> usize {
    let mut used = 0;
    for c in word.chars() {
        if used + columns(c) > width {
            lines.push(String::new());
            used = 0;
        }
        if let Some(line) = lines.last_mut() {
            line.push(c);
        }
        used += columns(c);
    }
    used
}

/// The first digits of a digest: enough to tell it from any that came about by chance.
pub fn short_digest(digest: &str) -> String {
    let digits = digest.strip_prefix("sha256:").unwrap_or(digest);
    visible_identifier(&format!("sha256:{}", digits.chars().take(16).collect::<String>()))
}
