//! The cells of a frame. Nothing reaches them that moves a cursor, and nothing leaves its line.

use ratatui::buffer::{Buffer, CellWidth};
use ratatui::layout::{Rect, Size};
use ratatui::style::{Color, Modifier, Style};

/// How a text stands out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Look {
    /// Not at all.
    Plain,
    /// As a label.
    Bold,
    /// As a warning.
    Alarm,
}

/// Cells to write on.
pub struct Canvas {
    /// The cells.
    pub buffer: Buffer,
    colour: bool,
}

impl Canvas {
    /// An empty one; where no colour is wanted, nothing stands out but by its words.
    pub fn new(size: Size, colour: bool) -> Self {
        Self { buffer: Buffer::empty(Rect::new(0, 0, size.width, size.height)), colour }
    }

    /// Writes on one line, and ends what does not fit with `…`. Returns the column behind it.
    pub fn write(&mut self, x: u16, y: u16, text: &str, look: Look) -> u16 {
        let area = self.buffer.area;
        if x >= area.width || y >= area.height {
            return area.width.saturating_sub(1);
        }
        let text = cut(text, area.width - x);
        self.buffer.set_stringn(x, y, text, usize::from(area.width - x), self.style(look)).0.min(area.width - 1)
    }

    fn style(&self, look: Look) -> Style {
        match look {
            _ if !self.colour => Style::default(),
            Look::Plain => Style::default(),
            Look::Bold => Style::default().add_modifier(Modifier::BOLD),
            Look::Alarm => Style::default().fg(Color::Red).add_modifier(Modifier::BOLD),
        }
    }
}

/// Columns that a character takes. Control characters are not drawn.
fn columns(c: char) -> usize {
    if c.is_control() { 0 } else { usize::from(c.encode_utf8(&mut [0; 4]).cell_width()) }
}

/// What of a text fits in so many columns.
fn cut(text: &str, width: u16) -> String {
    let width = usize::from(width);
    if text.chars().map(columns).sum::<usize>() <= width {
        return text.into();
    }
    let mut used = 0;
    let fits = text.chars().take_while(|c| {
        used += columns(*c);
        used < width
    });
    fits.chain(['…']).collect()
}

/// The end of a text, where it is being written, in so many columns.
pub fn end(text: &str, width: usize) -> String {
    if text.chars().map(columns).sum::<usize>() <= width {
        return text.into();
    }
    let mut used = 0;
    let fits = text.chars().rev().take_while(|c| {
        used += columns(*c);
        used < width
    });
    let last: Vec<char> = fits.collect();
    ['…'].into_iter().chain(last.into_iter().rev()).collect()
}
