//! Where it all meets: the terminal, the watch, and what is asked of the API server, one thing after the other.

use crate::cli::review::cluster::{Cluster, OPEN};
use crate::cli::review::decide::before;
use crate::cli::review::inbox::{Listed, changes, listed, understood};
use crate::cli::review::outcome::{Fate, Heard, unknown};
use crate::cli::review::send::{Sent, refusal, send};
use crate::cli::review::settle::{settled, told};
use crate::cli::review::tui::draw::draw;
use crate::cli::review::tui::input::{Decision, Effect, Input, Leave, List, Outcome, Request};
use crate::cli::review::tui::screen::Screen;
use crate::cli::review::tui::state::{Pin, State};
use crate::cli::review::tui::typing::Typing;
use crate::cli::review::{Phase, Session, Verb};
use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use kube::api::DynamicObject;
use kube::runtime::watcher;
use std::io::Result;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

/// Most events of the watch that are taken in before the screen is drawn again.
const MOST_AT_ONCE: usize = 256;

/// Something that was asked for and came: what it says, and what is to be awaited next.
struct Answer<'a> {
    input: Input,
    next: Option<LocalBoxFuture<'a, Answer<'a>>>,
}

/// The inbox, and what it waits for.
pub struct Desk<'a> {
    session: &'a Session,
    state: State,
    /// What was asked for.
    asked: FuturesUnordered<LocalBoxFuture<'a, Answer<'a>>>,
    /// What the card is being read for; a newer one takes its place.
    look: Option<LocalBoxFuture<'a, Input>>,
}

impl<'a> Desk<'a> {
    /// With what was listed.
    pub fn new(session: &'a Session, state: State, listed: Listed) -> Self {
        let mut desk = Self { session, state, asked: FuturesUnordered::new(), look: None };
        desk.take(Input::Listed(list(listed)));
        desk
    }

    /// What came of each review.
    pub fn outcomes(&self) -> impl Iterator<Item = &Outcome> {
        self.state.outcomes.iter()
    }

    /// Takes the screen until the reviewer leaves. An error is one of the terminal.
    pub async fn work(&mut self, feed: &Cluster) -> Result<Leave> {
        let session = self.session;
        let follow = || changes(session, feed, Some(OPEN)).ready_chunks(MOST_AT_ONCE).boxed_local();
        let mut changes = follow();
        let mut signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
        let mut resized = signal(SignalKind::window_change())?;
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut typing = Typing::default();
        let mut screen = Screen::take()?;
        loop {
            self.show(&mut screen, &mut typing)?;
            let inputs = tokio::select! {
                keys = typing.read() => match keys {
                    Ok(keys) => keys.into_iter().map(Input::Key).collect(),
                    Err(_) => vec![Input::Interrupted],
                },
                Some(events) = changes.next() => events.into_iter().filter_map(|event| self.happened(event)).collect(),
                Some(answer) = self.asked.next() => {
                    self.asked.extend(answer.next);
                    vec![answer.input]
                }
                input = looked(&mut self.look) => {
                    self.look = None;
                    vec![input]
                }
                _ = tick.tick() => vec![Input::Tick],
                _ = resized.recv() => {
                    screen.forget();
                    vec![]
                }
                () = any(&mut signals) => vec![Input::Interrupted],
            };
            for input in inputs {
                for effect in self.take(input) {
                    match effect {
                        Effect::Leave(leave) => return Ok(leave),
                        Effect::Redraw => screen.forget(),
                        Effect::Follow => changes = follow(),
                        _ => {}
                    }
                }
            }
        }
    }

    /// Draws. What was typed before a question was there is no answer to it.
    fn show(&mut self, screen: &mut Screen, typing: &mut Typing) -> Result<()> {
        let frame = draw(&self.state, screen.size(), Timestamp::now());
        if frame.shown.asked.is_some() && frame.shown.asked != self.state.shown.asked {
            typing.forget();
        }
        screen.show(&frame)?;
        self.take(Input::Drawn(frame.shown));
        Ok(())
    }

    /// Takes in what happened, and begins what follows from it. Returns what is the screen's to do.
    fn take(&mut self, input: Input) -> Vec<Effect> {
        let (state, effects) = std::mem::take(&mut self.state).update(input, Timestamp::now());
        self.state = state;
        effects.into_iter().filter_map(|effect| self.begin(effect)).collect()
    }

    fn begin(&mut self, effect: Effect) -> Option<Effect> {
        let session = self.session;
        match effect {
            Effect::Leave(_) | Effect::Redraw | Effect::Follow => return Some(effect),
            Effect::Look(request) => self.look = Some(look(session, *request).boxed_local()),
            Effect::List => self.ask(async move {
                match listed(session, true).await {
                    Ok(listed) => Input::Listed(list(listed)),
                    Err(refused) => Input::Unlisted(refused.text),
                }
            }),
            Effect::Ask(policy) => self.ask(async move {
                let allowed = session.cluster.may_approve(&policy).await;
                Input::Authorized(policy, allowed)
            }),
            Effect::Find { uid, namespace, name } => self.ask(find(session, uid, namespace, name)),
            Effect::Send(decision) => self.asked.push(give(session, decision).boxed_local()),
        }
        None
    }

    fn ask(&self, input: impl Future<Output = Input> + 'a) {
        self.asked.push(async move { Answer { input: input.await, next: None } }.boxed_local());
    }

    /// What an event of the watch says.
    fn happened(&self, event: watcher::Result<watcher::Event<DynamicObject>>) -> Option<Input> {
        let trouble = |error| Some(Input::Trouble(self.session.cluster.unlisted(error, self.session.place()).text));
        match event {
            Ok(watcher::Event::Init) => Some(Input::Begins),
            Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object)) => {
                Some(understood(object).map_or(Input::Unreadable, |request| Input::Came(Box::new(request))))
            }
            Ok(watcher::Event::Delete(object)) => object.metadata.uid.map(Input::Went),
            Ok(watcher::Event::InitDone) => Some(Input::Ends),
            // The version to go on from is too old: it lists anew by itself.
            Err(watcher::Error::WatchError(status)) if status.code == 410 => None,
            Err(watcher::Error::WatchError(status)) => trouble(kube::Error::Api(status)),
            Err(
                watcher::Error::InitialListFailed(error)
                | watcher::Error::WatchStartFailed(error)
                | watcher::Error::WatchFailed(error),
            ) => trouble(error),
            Err(error @ watcher::Error::NoResourceVersion) => Some(Input::Trouble(error.to_string())),
        }
    }
}

/// Waits for what the card is being read for; for ever, where it is not.
async fn looked(look: &mut Option<LocalBoxFuture<'_, Input>>) -> Input {
    match look {
        Some(look) => look.await,
        None => std::future::pending().await,
    }
}

/// Waits for one of those signals. Where one cannot be heard, it does what it does to any other process.
async fn any(signals: &mut [Result<tokio::signal::unix::Signal>]) {
    let heard = signals.iter_mut().flatten().map(|signal| Box::pin(signal.recv()));
    let heard: Vec<_> = heard.collect();
    if heard.is_empty() {
        std::future::pending::<()>().await;
    }
    futures::future::select_all(heard).await;
}

fn list(listed: Listed) -> List {
    let requests = listed.waiting.into_iter().map(|one| (one.request, one.stored)).collect();
    let Listed { unreadable, me, unsure, version, .. } = listed;
    List { requests, unreadable, me, version, unsure }
}

/// What the request would run, and what is another than last time: what a card has beside the request.
async fn look(session: &Session, (request, stored): Request) -> Input {
    let (target, before) = tokio::join!(session.cluster.target(&stored), before(session, &request, &stored));
    Input::Looked { uid: request.uid, digest: request.status.digest, target, before }
}

async fn find(session: &Session, uid: String, namespace: String, name: String) -> Input {
    let found = session.cluster.requests(Some(&namespace)).get_opt(&name).await;
    let found = found.map_err(|error| session.cluster.refused(error, &namespace, &name).text);
    let found = match found {
        Ok(Some(object)) => understood(object)
            .map(|request| Some(Box::new(request)))
            .ok_or_else(|| "it cannot be read by this version of the command".to_string()),
        Ok(None) => Ok(None),
        Err(why) => Err(why),
    };
    Input::Found(uid, found)
}

/// Gives a review, and then waits for what comes of it.
async fn give(session: &Session, decision: Decision) -> Answer<'_> {
    let Decision { verb, request, pin, comment } = decision;
    match send(session, verb, &request, comment.as_deref()).await {
        Ok(sent) => {
            let unknown = unknown(&sent.request, Duration::ZERO);
            let input = Input::Stored(outcome(verb, &pin, &sent, &unknown));
            Answer { input, next: Some(hear(session, verb, pin, sent).boxed_local()) }
        }
        Err(not_sent) => {
            let text = refusal(verb, &request.namespace, &request.name, &not_sent.refused);
            Answer { input: Input::Refused { pin, text, conflict: not_sent.conflict }, next: None }
        }
    }
}

async fn hear(session: &Session, verb: Verb, pin: Pin, sent: Sent) -> Answer<'_> {
    let heard = settled(session, vec![sent]).await.into_iter().next();
    if session.phase.get() == Phase::Stored {
        session.phase.set(Phase::Reading);
    }
    let input = heard.map_or(Input::Tick, |(sent, heard)| Input::Settled(outcome(verb, &pin, &sent, &heard)));
    Answer { input, next: None }
}

fn outcome(verb: Verb, pin: &Pin, sent: &Sent, heard: &Heard) -> Outcome {
    let alarm = matches!(heard.fate, Fate::Void | Fate::OtherEnd);
    Outcome { verb, pin: pin.clone(), text: told(verb, sent, heard), alarm }
}
