//! What is typed at the terminal.

use crate::cli::review::tui::keys::{Key, Keyboard};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::{QueueSelector, tcflush};
use std::io::{Error, ErrorKind, Result, stdin};
use std::time::Duration;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

/// How long the rest of a key may take on its way.
const PATIENCE: Duration = Duration::from_millis(50);

/// The keyboard of the terminal.
#[derive(Default)]
pub struct Typing {
    keyboard: Keyboard,
    /// Waits until there is something to read, and reads nothing: what is thrown away is still all there.
    waiting: Option<JoinHandle<()>>,
}

impl Typing {
    /// The keys that are typed next, as they come. An error is the end: the terminal is gone. Nothing is lost by giving up
    /// the wait.
    pub async fn read(&mut self) -> Result<Vec<Key>> {
        loop {
            let waiting = self.waiting.get_or_insert_with(|| spawn_blocking(wait));
            if !self.keyboard.waits() {
                let _ = waiting.await;
            } else if timeout(PATIENCE, waiting).await.is_err() {
                return Ok(self.keyboard.give_up().into_iter().collect());
            }
            self.waiting = None;
            let Some(bytes) = typed()? else { continue };
            let keys = self.keyboard.read(&bytes);
            if !keys.is_empty() {
                return Ok(keys);
            }
        }
    }

    /// Throws away what was typed and not read: it was typed before what is shown next.
    pub fn forget(&mut self) {
        // Where it cannot be thrown away, what is asked is still asked.
        let _ = tcflush(stdin(), QueueSelector::IFlush);
        self.keyboard.forget();
    }
}

/// Waits until there is something to read. What is wrong is found by whoever reads.
fn wait() {
    let stdin = stdin();
    let _ = poll(&mut [PollFd::new(&stdin, PollFlags::IN)], None);
}

/// The bytes that are there; none where there are none after all. It never waits for them.
fn typed() -> Result<Option<Vec<u8>>> {
    let stdin = stdin();
    match poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&Timespec::default())) {
        Ok(0) | Err(Errno::INTR) => return Ok(None),
        waiting => waiting?,
    };
    let mut bytes = [0; 1024];
    match rustix::io::read(&stdin, &mut bytes) {
        Ok(0) => Err(Error::from(ErrorKind::UnexpectedEof)),
        Ok(read) => Ok(Some(bytes[..read].to_vec())),
        Err(Errno::INTR | Errno::AGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
