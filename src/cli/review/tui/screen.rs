//! The screen of the terminal: taken, drawn on, and given back as it was, whatever happens.

use crate::cli::review::tui::draw::Frame;
use ratatui::backend::{Backend, CrosstermBackend};
use ratatui::buffer::Buffer;
use ratatui::crossterm::cursor::{Hide, MoveTo, Show};
use ratatui::crossterm::event::{DisableBracketedPaste, EnableBracketedPaste};
use ratatui::crossterm::style::ResetColor;
use ratatui::crossterm::terminal::{
    Clear, ClearType, DisableLineWrap, EnableLineWrap, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode,
};
use ratatui::crossterm::{execute, queue};
use ratatui::layout::{Position, Size};
use rustix::termios::tcgetwinsize;
use std::io::{Result, Write, stdout};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is taken for the size of a terminal that does not tell it.
const USUAL: Size = Size { width: 80, height: 24 };
/// Whether the screen is taken.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The screen. Dropping it gives it back; a panic gives it back before it is told.
pub struct Screen {
    /// What was drawn last, and where the cursor stood.
    last: Option<(Buffer, Option<Position>)>,
}

impl Screen {
    /// Takes the screen. What was pasted comes marked as such, and a line that is too long stays on its line.
    pub fn take() -> Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                give_back();
                before(panic);
            }));
        });
        enable_raw_mode()?;
        TAKEN.store(true, Ordering::SeqCst);
        let screen = Self { last: None };
        execute!(stdout(), EnterAlternateScreen, EnableBracketedPaste, DisableLineWrap, Hide)?;
        Ok(screen)
    }

    /// How large it is.
    pub fn size(&self) -> Size {
        let size = tcgetwinsize(stdout()).map(|size| Size { width: size.ws_col, height: size.ws_row });
        size.ok().filter(|size| size.width > 0 && size.height > 0).unwrap_or(USUAL)
    }

    /// Draws a frame: of the lines, those that are others than before.
    pub fn show(&mut self, frame: &Frame) -> Result<()> {
        let last = self.last.replace((frame.buffer.clone(), frame.cursor));
        if last.as_ref().is_some_and(|(buffer, cursor)| *buffer == frame.buffer && *cursor == frame.cursor) {
            return Ok(());
        }
        let bytes = painted(last.as_ref().map(|(buffer, _)| buffer), frame)?;
        let mut out = stdout().lock();
        out.write_all(&bytes)?;
        out.flush()
    }

    /// Draws all lines anew the next time.
    pub fn forget(&mut self) {
        self.last = None;
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Gives the screen back, once.
fn give_back() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        // Nobody is left to tell when the terminal is gone.
        let _ = execute!(stdout(), ResetColor, EnableLineWrap, DisableBracketedPaste, Show, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}

/// The bytes that make of the frame before, or of anything, this one. Every word is put in its own place: where a terminal
/// makes a character wider than it is, nothing else moves.
fn painted(last: Option<&Buffer>, frame: &Frame) -> Result<Vec<u8>> {
    let next = &frame.buffer;
    let last = last.filter(|last| last.area == next.area);
    let row = |buffer: &Buffer, y: u16| {
        let width = usize::from(buffer.area.width);
        let from = usize::from(y) * width;
        buffer.content[from..from + width].to_vec()
    };
    let changed = |y: u16| last.is_none_or(|last| row(last, y) != row(next, y));
    let changed: Vec<bool> = (0..next.area.height).map(changed).collect();
    let mut bytes = vec![];
    queue!(bytes, Hide)?;
    if last.is_none() {
        queue!(bytes, Clear(ClearType::All))?;
    }
    for (y, _) in changed.iter().enumerate().filter(|(_, changed)| **changed) {
        queue!(bytes, MoveTo(0, u16::try_from(y).unwrap_or(u16::MAX)), Clear(ClearType::UntilNewLine))?;
    }
    let blank = Buffer::empty(next.area);
    let cells = blank.diff(next);
    let cells = cells.into_iter().filter(|(_, y, _)| changed.get(usize::from(*y)) == Some(&true));
    CrosstermBackend::new(&mut bytes).draw(cells)?;
    if let Some(Position { x, y }) = frame.cursor {
        queue!(bytes, MoveTo(x, y), Show)?;
    }
    Ok(bytes)
}

#[cfg(test)]
#[path = "screen_tests.rs"]
mod tests;
