//! What becomes of requests, and which.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

/// A request as the client sent it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// Its method, such as `PATCH`.
    pub method: String,
    /// Its path, without the query.
    pub path: String,
    /// Whether it opens a watch.
    pub watch: bool,
    /// What was sent with it.
    pub body: Vec<u8>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The API server never hears of it.
    CutBefore,
    /// The API server answers it in full, and the client never hears of that. Of a watch, the answer is that it opens.
    CutAfter,
    /// The API server never hears of it, and the client waits until it ends.
    HoldBefore,
    /// The API server answers it as before a cut, and the client waits until it ends.
    HoldAfter,
    /// It is passed on after a while.
    Delay(Duration),
    /// Meets no watches. The API server answers it at once, and the client gets the answer that much later.
    LateAnswer(Duration),
    /// Meets watches alone. The API server never hears of it, and the client is told that the version which it wants to
    /// watch from is forgotten (410, `Expired`).
    Expired,
    /// The same, where the watch opens, and its only event says so.
    ExpiredEvent,
    /// The API server never hears of it, and the client gets this answer.
    Answer(Answer),
    /// It is answered in full, and the client gets so many bytes of the answer's body before the connection ends.
    Truncate(usize),
    /// Meets watches alone, also those that are open: each event comes twice.
    Twice,
    /// Meets watches alone, also those that are open: each event comes that much later.
    Late(Duration),
    /// Meets watches alone, also those that are open: from then on nothing comes any more, and the connection stays.
    Silent,
    /// Meets watches alone: it opens, and ends at once.
    EndsAtOnce,
}

/// An answer that the API server, or something in front of it, might give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub code: u16,
    /// What kind of text the body is.
    pub content_type: &'static str,
    /// Further headers.
    pub headers: &'static [(&'static str, &'static str)],
    /// The body.
    pub body: &'static str,
}

/// Does that to the next request of this method whose path begins so, once.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The method.
    pub method: String,
    /// How the path begins.
    pub path: String,
    /// What becomes of the request.
    pub effect: Effect,
}

impl Effect {
    /// Whether it meets nothing but watches.
    fn of_watches(self) -> bool {
        matches!(
            self,
            Self::Expired | Self::ExpiredEvent | Self::Twice | Self::Late(_) | Self::Silent | Self::EndsAtOnce
        )
    }

    /// Whether it meets what is open already.
    pub(super) fn of_events(self) -> bool {
        matches!(self, Self::Twice | Self::Late(_) | Self::Silent)
    }
}

impl Fault {
    fn meets(&self, asked: &Asked) -> bool {
        let kind = match self.effect {
            Effect::LateAnswer(_) => !asked.watch,
            effect => asked.watch || !effect.of_watches(),
        };
        kind && self.method == asked.method && asked.path.starts_with(&self.path)
    }
}

/// Tells that an effect took place: with a hold or a delay, that the request is held now. It never does where no request met it.
pub type Happened = oneshot::Receiver<()>;

/// What becomes of the first request that fits.
pub(super) struct Chosen {
    pub(super) fits: Box<dyn FnMut(&Asked) -> bool + Send>,
    pub(super) effect: Effect,
    pub(super) happened: oneshot::Sender<()>,
}

/// What was asked, and what is to become of what will be.
#[derive(Default)]
pub(super) struct State {
    pub(super) asked: Vec<Asked>,
    /// Each meets one request.
    pub(super) armed: Vec<Fault>,
    /// Each meets every request, until it is taken back.
    pub(super) lasting: Vec<Fault>,
    pub(super) chosen: Vec<Chosen>,
    /// The watches that are open, and how to end them.
    pub(super) open: Vec<(Asked, Arc<Notify>)>,
}

impl State {
    /// Notes a request. Returns what becomes of it, where somebody wants something of it, and whom to tell.
    pub(super) fn note(&mut self, asked: &Asked) -> (Option<Effect>, Option<oneshot::Sender<()>>) {
        self.asked.push(asked.clone());
        self.chosen.retain(|chosen| !chosen.happened.is_closed());
        if let Some(place) = self.chosen.iter_mut().position(|chosen| (chosen.fits)(asked)) {
            let chosen = self.chosen.remove(place);
            return (Some(chosen.effect), Some(chosen.happened));
        }
        if let Some(place) = self.armed.iter().position(|fault| fault.meets(asked)) {
            return (Some(self.armed.remove(place).effect), None);
        }
        let mut lasting = self.lasting.iter().filter(|fault| !fault.effect.of_events());
        (lasting.find(|fault| fault.meets(asked)).map(|fault| fault.effect), None)
    }

    /// What becomes of the events of an open watch now.
    pub(super) fn of_events(&self, watch: &Asked) -> Option<Effect> {
        let mut lasting = self.lasting.iter().filter(|fault| fault.effect.of_events());
        lasting.find(|fault| fault.meets(watch)).map(|fault| fault.effect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &str, path: &str) -> Asked {
        Asked { method: method.into(), path: path.into(), watch: false, body: vec![] }
    }

    fn watch(path: &str) -> Asked {
        Asked { watch: true, ..asked("GET", path) }
    }

    fn fault(method: &str, path: &str, effect: Effect) -> Fault {
        Fault { method: method.into(), path: path.into(), effect }
    }

    #[test]
    fn a_fault_meets_the_first_request_that_it_is_meant_for_and_no_other() {
        let mut state = State::default();
        state.armed.push(fault("POST", "/a", Effect::CutAfter));
        assert_eq!(state.note(&asked("GET", "/a")).0, None);
        assert_eq!(state.note(&asked("POST", "/b")).0, None);
        assert_eq!(state.note(&asked("POST", "/a/b")).0, Some(Effect::CutAfter));
        assert_eq!(state.note(&asked("POST", "/a/b")).0, None);
        state.armed.push(fault("GET", "/a", Effect::Expired));
        assert_eq!(state.note(&asked("GET", "/a")).0, None);
        assert_eq!(state.note(&watch("/a")).0, Some(Effect::Expired));
        assert_eq!(state.asked.len(), 6);
        let late = Effect::LateAnswer(Duration::from_secs(1));
        state.armed.push(fault("GET", "/a", late));
        assert_eq!(state.note(&watch("/a")).0, None);
        assert_eq!(state.note(&asked("GET", "/a")).0, Some(late));
    }

    #[test]
    fn one_that_lasts_meets_every_request_until_it_is_taken_back() {
        let mut state = State::default();
        state.lasting.push(fault("GET", "/a", Effect::HoldBefore));
        state.armed.push(fault("GET", "/a", Effect::CutBefore));
        assert_eq!(state.note(&asked("GET", "/a")).0, Some(Effect::CutBefore), "what meets one goes first");
        assert_eq!(state.note(&asked("GET", "/a")).0, Some(Effect::HoldBefore));
        assert_eq!(state.note(&watch("/a/b")).0, Some(Effect::HoldBefore));
        state.lasting = vec![fault("GET", "/a", Effect::Twice)];
        assert_eq!(state.note(&watch("/a")).0, None, "it is passed on, and its events meet it");
        assert_eq!(state.of_events(&watch("/a")), Some(Effect::Twice));
        assert_eq!(state.of_events(&watch("/b")), None);
    }

    #[test]
    fn an_effect_can_be_kept_for_the_second_request_that_fits() {
        let mut state = State::default();
        let choose = |state: &mut State| {
            let (happened, hears) = oneshot::channel();
            let mut seen = 0;
            let fits = move |asked: &Asked| {
                seen += usize::from(asked.path == "/a");
                seen == 2
            };
            state.chosen.push(Chosen { fits: Box::new(fits), effect: Effect::HoldAfter, happened });
            hears
        };
        let _hears = choose(&mut state);
        let effects = ["/a", "/b", "/a", "/a"].map(|path| state.note(&asked("GET", path)).0);
        assert_eq!(effects, [None, None, Some(Effect::HoldAfter), None]);
        drop(choose(&mut state));
        assert_eq!(["/a", "/a"].map(|path| state.note(&asked("GET", path)).0), [None, None]);
    }
}
