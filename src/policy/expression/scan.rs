//! Bounds on the text of an expression before anything parses it, and where its names stand.

use crate::policy::expression::ExpressionError;
use std::iter::Peekable;
use std::str::CharIndices;

/// Characters of an expression.
pub(super) const MAX_LENGTH: usize = 1024;
/// Brackets within brackets.
pub(super) const MAX_DEPTH: usize = 16;
/// Question marks: each may nest a choice in a choice without a bracket.
pub(super) const MAX_CHOICES: usize = 16;

/// The names of a text that is short and flat enough to parse.
#[derive(Debug)]
pub(super) struct Scan {
    /// Where each begins, in bytes: those outside of quotes.
    names: Vec<usize>,
    start: (usize, usize),
}

impl Scan {
    /// Walks over the text once.
    pub(super) fn of(text: &str) -> Result<Self, ExpressionError> {
        let length = text.chars().take(MAX_LENGTH + 1).count();
        if length > MAX_LENGTH {
            return Err(ExpressionError::new((1, 1), format!("at most {MAX_LENGTH} characters are allowed")));
        }
        Walk { text, rest: text.char_indices().peekable(), line: 1, column: 1 }.names()
    }

    /// Where the expression begins.
    pub(super) fn start(&self) -> (usize, usize) {
        self.start
    }

    /// Where the last name begins that does so before a byte.
    pub(super) fn name_before(&self, byte: usize) -> Option<usize> {
        self.names.iter().copied().take_while(|from| *from < byte).last()
    }

    /// Where a name begins, counted from 0 among those that do so at a byte or after it.
    pub(super) fn name_from(&self, byte: usize, number: usize) -> Option<usize> {
        self.names.iter().copied().filter(|from| *from >= byte).nth(number)
    }
}

/// The way through a text.
struct Walk<'t> {
    text: &'t str,
    rest: Peekable<CharIndices<'t>>,
    line: usize,
    column: usize,
}

impl<'t> Walk<'t> {
    fn names(mut self) -> Result<Scan, ExpressionError> {
        let mut scan = Scan { names: vec![], start: (1, 1) };
        let (mut open, mut choices, mut started) = (vec![], 0, false);
        while let Some(&(from, c)) = self.rest.peek() {
            let at = (self.line, self.column);
            if !c.is_whitespace() && !started {
                (scan.start, started) = (at, true);
            }
            match c {
                '/' if self.text[from..].starts_with("//") => self.skip_while(|c| c != '\n'),
                '"' | '\'' => self.quoted(c, false, at)?,
                'a'..='z' | 'A'..='Z' | '_' => {
                    let text = self.word(from);
                    match self.rest.peek() {
                        Some(&(_, quote @ ('"' | '\''))) if prefixes(text) => {
                            self.quoted(quote, text.contains(['r', 'R']), at)?;
                        }
                        _ => scan.names.push(from),
                    }
                }
                '0'..='9' => self.skip_while(|c| c.is_ascii_alphanumeric()),
                '(' | '[' | '{' if open.len() == MAX_DEPTH => {
                    return Err(ExpressionError::new(at, format!("at most {MAX_DEPTH} brackets may be nested")));
                }
                '(' | '[' | '{' => {
                    open.push((c, at));
                    self.next();
                }
                ')' | ']' | '}' => {
                    if open.pop().is_none_or(|(begun, _)| !closes(begun, c)) {
                        return Err(ExpressionError::new(at, format!("'{c}' closes nothing")));
                    }
                    self.next();
                }
                '?' if choices == MAX_CHOICES => {
                    return Err(ExpressionError::new(at, format!("at most {MAX_CHOICES} choices (?:) are allowed")));
                }
                '?' => {
                    choices += 1;
                    self.next();
                }
                ' ' | '\t' | '\n' | '\r' | '!' | '%'..='/' | ':'..='?' | '|' => _ = self.next(),
                _ => return Err(ExpressionError::new(at, format!("{c:?} has no meaning outside of quotes"))),
            }
        }
        match open.pop() {
            Some((begun, at)) => Err(ExpressionError::new(at, format!("'{begun}' is never closed"))),
            None => Ok(scan),
        }
    }

    fn next(&mut self) -> Option<char> {
        let (_, c) = self.rest.next()?;
        (self.line, self.column) = if c == '\n' { (self.line + 1, 1) } else { (self.line, self.column + 1) };
        Some(c)
    }

    fn skip(&mut self, characters: usize) {
        for _ in 0..characters {
            self.next();
        }
    }

    fn skip_while(&mut self, skipped: impl Fn(char) -> bool) {
        while self.rest.peek().is_some_and(|&(_, c)| skipped(c)) {
            self.next();
        }
    }

    fn word(&mut self, from: usize) -> &'t str {
        self.skip_while(|c| c.is_ascii_alphanumeric() || c == '_');
        let to = self.rest.peek().map_or(self.text.len(), |&(to, _)| to);
        &self.text[from..to]
    }

    /// Steps over a string as the parser would read it: from one quote or three to as many, past escapes unless `raw`.
    fn quoted(&mut self, quote: char, raw: bool, at: (usize, usize)) -> Result<(), ExpressionError> {
        let triple: String = std::iter::repeat_n(quote, 3).collect();
        let ahead = |walk: &mut Self| walk.rest.peek().map_or("", |&(i, _)| &walk.text[i..]);
        let long = ahead(self).starts_with(&triple);
        self.skip(if long { 3 } else { 1 });
        loop {
            if long && ahead(self).starts_with(&triple) {
                self.skip(3);
                return Ok(());
            }
            match self.next() {
                None => return Err(ExpressionError::new(at, "a string is never closed")),
                Some('\\') if !raw => self.skip(1),
                Some(c) if c == quote && !long => return Ok(()),
                Some(_) => {}
            }
        }
    }
}

/// Whether a word before a quote belongs to the string.
fn prefixes(word: &str) -> bool {
    ["r", "b", "rb", "br"].iter().any(|prefix| word.eq_ignore_ascii_case(prefix))
}

fn closes(begun: char, end: char) -> bool {
    matches!((begun, end), ('(', ')') | ('[', ']') | ('{', '}'))
}
