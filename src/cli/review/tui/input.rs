//! What happens to the inbox on a screen, and what it wants done.

use crate::cli::review::Verb;
use crate::cli::review::inbox::Me;
use crate::cli::review::tui::keys::Key;
use crate::cli::review::tui::state::{Pin, Shown};
use crate::lifecycle::RequestFacts;
use serde_json::Value;

/// A request as this version reads it, and as stored.
pub type Request = (RequestFacts, Value);

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A key was pressed.
    Key(Key),
    /// A frame was drawn, with that on it.
    Drawn(Shown),
    /// Time went on.
    Tick,
    /// The list was read anew.
    Listed(List),
    /// It could not be read; why, safe to show.
    Unlisted(String),
    /// The watch lists all that waits anew.
    Begins,
    /// A request came, or is another than before.
    Came(Box<Request>),
    /// One came that this version cannot read.
    Unreadable,
    /// A request no longer waits.
    Went(String),
    /// The watch has listed all that waits.
    Ends,
    /// The watch failed, and is tried again; why, safe to show.
    Trouble(String),
    /// Whether the caller may approve a policy; none where nobody answered.
    Authorized(String, Option<bool>),
    /// What a request would run, and what is another than in the last release.
    Looked {
        /// What was looked at.
        uid: String,
        /// As which digest.
        digest: Option<String>,
        /// The Job or Pod, where it is at hand.
        target: Option<Value>,
        /// Lines for the card.
        before: Vec<String>,
    },
    /// A request that left the list, as it is stored now; none where it is gone. `Err` where that cannot be read.
    Found(String, Result<Option<Box<Request>>, String>),
    /// The review is stored, and this is all that is known of it.
    Stored(Outcome),
    /// The review is not stored.
    Refused {
        /// What it was about.
        pin: Pin,
        /// Why, safe to show.
        text: String,
        /// Whether what stands there may be another than what was shown.
        conflict: bool,
    },
    /// What came of a review.
    Settled(Outcome),
    /// A signal asks to end, or the terminal is gone.
    Interrupted,
}

/// The list, read anew.
#[derive(Clone, Debug, Default)]
pub struct List {
    /// What waits, mine or not.
    pub requests: Vec<Request>,
    /// How many cannot be read.
    pub unreadable: usize,
    /// Who the caller is.
    pub me: Me,
    /// The resource version of the list, as a number.
    pub version: i64,
    /// What could not be asked, safe to show.
    pub unsure: Vec<String>,
}

/// What came of a review, as far as it is known.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outcome {
    /// Approve or deny.
    pub verb: Verb,
    /// What it was about.
    pub pin: Pin,
    /// In one line, safe to show.
    pub text: String,
    /// Whether that is another end than was decided.
    pub alarm: bool,
}

/// A decision: the only way to give a review.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Approve or deny.
    pub verb: Verb,
    /// The request as it was shown, with the digest that was shown.
    pub request: Box<RequestFacts>,
    /// What it is about.
    pub pin: Pin,
    /// In the reviewer's words.
    pub comment: Option<String>,
}

/// Something to do.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Read the list anew.
    List,
    /// Ask whether the caller may approve that policy.
    Ask(String),
    /// Read what that request would run; what was being read before is of no interest any more.
    Look(Box<Request>),
    /// Read what is stored of a request that left the list.
    Find {
        /// Its uid.
        uid: String,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Give that review.
    Send(Decision),
    /// Begin the watch anew: it may rest for long after an outage that is over.
    Follow,
    /// Draw all of the screen anew.
    Redraw,
    /// End.
    Leave(Leave),
}

/// How it ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Leave {
    /// The reviewer is done.
    Done,
    /// In the middle of something, or by force.
    Interrupted,
}
