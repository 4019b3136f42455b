//! What follows from what happens. Pure: time is an argument, and everything else is an effect.

use crate::cli::escape::visible;
use crate::cli::review::Verb;
use crate::cli::review::changes::Seen;
use crate::cli::review::send::not_up;
use crate::cli::review::tui::input::{Effect, Input, Leave, List, Outcome, Request};
use crate::cli::review::tui::press;
use crate::cli::review::tui::state::{Card, Pin, Said, Shown, State, View};
use crate::review::named_policies;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::collections::BTreeSet;

/// How long after a failure the list is asked for again.
const PAUSE: SignedDuration = SignedDuration::from_secs(3);
/// What a reviewer is told whose question was closed.
const CHANGED: &str = "What you were shown has changed, so nothing was stored. Read it again; then a or d asks anew.";

impl State {
    /// What follows from that.
    pub fn update(mut self, input: Input, now: Timestamp) -> (Self, Vec<Effect>) {
        let mut effects = match input {
            Input::Key(key) => press::press(&mut self, key),
            Input::Drawn(shown) => self.drawn(shown),
            Input::Tick => self.tick(now),
            Input::Listed(list) => self.relist(list, now),
            Input::Unlisted(why) => self.unlisted(why),
            Input::Begins => self.begin(),
            Input::Came(request) => self.came(*request, now),
            Input::Unreadable => self.unreadable(),
            Input::Went(uid) => self.went(&uid),
            Input::Ends => self.end(),
            Input::Trouble(why) => self.unlisted(why),
            Input::Authorized(policy, allowed) => self.authorized(policy, allowed, now),
            Input::Looked { uid, digest, target, before } => self.looked(&uid, digest.as_deref(), target, before),
            Input::Found(uid, found) => self.found(&uid, found, now),
            Input::Stored(outcome) => self.stored(outcome),
            Input::Refused { pin, text, conflict } => self.refused(&pin, text, conflict),
            Input::Settled(outcome) => self.settled(outcome),
            Input::Interrupted => vec![Effect::Leave(Leave::Interrupted)],
        };
        self.close_question();
        effects.extend(self.keep_place());
        (self, effects)
    }

    fn drawn(&mut self, shown: Shown) -> Vec<Effect> {
        self.scroll = self.scroll.min(shown.lines.saturating_sub(shown.page));
        self.shown = shown;
        vec![]
    }

    fn tick(&mut self, now: Timestamp) -> Vec<Effect> {
        self.judge(false, now);
        let rested = self.tried.is_none_or(|tried| now.duration_since(tried) >= PAUSE);
        if self.trouble.is_none() || self.reading || !rested {
            return vec![];
        }
        self.tried = Some(now);
        self.reading = true;
        vec![Effect::List]
    }

    fn relist(&mut self, list: List, now: Timestamp) -> Vec<Effect> {
        let over = self.trouble.take().map(|_| Effect::Follow);
        (self.reading, self.tried) = (false, None);
        (self.me, self.unreadable) = (list.me, list.unreadable);
        self.asked = list.requests.iter().flat_map(|(request, _)| named_policies(&request.status)).collect();
        if let Some(text) = list.unsure.first() {
            self.warn(text.clone());
        }
        // What is newer than the list is not known to be gone by it.
        let listed = |uid: &str| list.requests.iter().any(|(request, _)| request.uid == uid);
        let gone = self.listed.iter().chain(&self.others).map(|one| &one.request);
        let gone = gone.filter(|request| request.version <= list.version && !listed(&request.uid));
        let gone: Vec<String> = gone.map(|request| request.uid.clone()).collect();
        let mut effects: Vec<Effect> = gone.iter().flat_map(|uid| self.went(uid)).collect();
        self.judge(true, now);
        for request in list.requests {
            effects.extend(self.came(request, now));
        }
        // Of what is newer than the list, nobody has asked.
        let waiting = self.listed.iter().chain(&self.others).map(|one| &one.request.status);
        let policies: BTreeSet<String> = waiting.flat_map(named_policies).collect();
        effects.extend(policies.into_iter().filter(|policy| self.asked.insert(policy.clone())).map(Effect::Ask));
        effects.extend(over);
        effects
    }

    fn unlisted(&mut self, why: String) -> Vec<Effect> {
        self.reading = false;
        self.trouble = Some(why);
        vec![]
    }

    fn begin(&mut self) -> Vec<Effect> {
        self.again = Some(Default::default());
        vec![]
    }

    fn end(&mut self) -> Vec<Effect> {
        let Some(again) = self.again.take() else { return vec![] };
        let gone = self.listed.iter().chain(&self.others).map(|one| one.request.uid.clone());
        let gone: Vec<String> = gone.filter(|uid| !again.contains(uid)).collect();
        gone.iter().flat_map(|uid| self.went(uid)).collect()
    }

    fn unreadable(&mut self) -> Vec<Effect> {
        // How many there are, only a list says.
        self.unreadable = self.unreadable.max(1);
        vec![]
    }

    fn came(&mut self, (request, stored): Request, now: Timestamp) -> Vec<Effect> {
        if let Some(again) = &mut self.again {
            again.insert(request.uid.clone());
        }
        let mut effects = vec![];
        for policy in named_policies(&request.status) {
            if self.asked.insert(policy.clone()) {
                effects.push(Effect::Ask(policy));
            }
        }
        let uid = request.uid.clone();
        let is_final = request.status.state.is_final().then(|| (request.clone(), stored.clone()));
        self.put(request, stored, now);
        if self.card.as_ref().is_none_or(|card| card.uid != uid) {
            return effects;
        }
        match (self.current().cloned(), is_final) {
            (Some(now), _) => effects.extend(self.renew((now.request, now.stored))),
            (None, Some(last)) => self.finished(last),
            (None, None) => {}
        }
        effects
    }

    /// The card of a request that is another than before, or the same.
    fn renew(&mut self, (request, stored): Request) -> Vec<Effect> {
        let Some(card) = &mut self.card else { return vec![] };
        card.over = None;
        match &mut card.view {
            Some(view) if view.request.status.digest == request.status.digest => {
                (view.request, view.seen.request, view.stale) = (request, stored, false);
                vec![]
            }
            view => {
                if let Some(view) = view {
                    view.stale = true;
                }
                vec![Effect::Look(Box::new((request, stored)))]
            }
        }
    }

    /// The request of the card has come to an end.
    fn finished(&mut self, (request, stored): Request) {
        let Some(card) = &mut self.card else { return };
        card.over = Some(format!("it is {}", request.status.state.as_str()));
        if let Some(view) = &mut card.view {
            (view.request, view.seen.request) = (request, stored);
        }
    }

    fn went(&mut self, uid: &str) -> Vec<Effect> {
        let is_card = self.card.as_ref().is_some_and(|card| card.uid == uid);
        let request = self.current().map(|one| one.request.clone()).filter(|_| is_card);
        self.remove(uid);
        if let Some(request) = request {
            if let Some(card) = &mut self.card {
                card.over = Some("it no longer waits".into());
            }
            let (namespace, name) = (request.namespace, request.name);
            return vec![Effect::Find { uid: uid.into(), namespace, name }];
        }
        vec![]
    }

    fn authorized(&mut self, policy: String, allowed: Option<bool>, now: Timestamp) -> Vec<Effect> {
        match allowed {
            Some(true) => self.me.authorized.push(policy),
            Some(false) => return vec![],
            None => {
                let text = format!(
                    "whether you may approve policy {} cannot be asked now; what it decides is listed as not yours (r asks again)",
                    visible(&policy)
                );
                self.warn(text);
                return vec![];
            }
        }
        self.judge(true, now);
        vec![]
    }

    fn looked(&mut self, uid: &str, digest: Option<&str>, target: Option<Value>, before: Vec<String>) -> Vec<Effect> {
        // Of another card, or of what stood there before: something newer is being read.
        let Some(now) = self.current().filter(|one| one.request.uid == uid).cloned() else { return vec![] };
        let Some(card) = self.card.as_mut().filter(|_| now.request.status.digest.as_deref() == digest) else {
            return vec![];
        };
        let seen = Seen { request: now.stored, target };
        let another = card.view.as_ref().is_some_and(|view| view.request.status.digest != now.request.status.digest);
        card.first.get_or_insert_with(|| seen.clone());
        card.view = Some(View { request: now.request, seen, before, stale: false });
        if another {
            // What has changed stands at the top.
            self.scroll = 0;
        }
        vec![]
    }

    fn found(&mut self, uid: &str, found: Result<Option<Box<Request>>, String>, now: Timestamp) -> Vec<Effect> {
        if self.card.as_ref().is_none_or(|card| card.uid != uid) {
            return vec![];
        }
        let gone = |state: &mut Self, why: &str| {
            state.remove(uid);
            if let Some(card) = &mut state.card {
                card.over = Some(why.into());
            }
            vec![]
        };
        match found {
            Err(why) => self.unlisted(why),
            Ok(Some(request)) if request.0.uid != uid => gone(self, "it is deleted, and another has its name"),
            Ok(None) => gone(self, "it is deleted"),
            Ok(Some(request)) if request.0.status.state.is_final() || self.current().is_some() => {
                self.came(*request, now)
            }
            Ok(Some(_)) => vec![],
        }
    }

    fn stored(&mut self, outcome: Outcome) -> Vec<Effect> {
        self.sending = None;
        self.say("Stored. Waiting for what comes of it…");
        self.outcomes.push(outcome);
        vec![]
    }

    fn refused(&mut self, pin: &Pin, text: String, conflict: bool) -> Vec<Effect> {
        self.sending = None;
        self.warn(text);
        let about = self.current().filter(|one| conflict && one.request.uid == pin.uid);
        let find = about.map(|one| Effect::Find {
            uid: pin.uid.clone(),
            namespace: one.request.namespace.clone(),
            name: one.request.name.clone(),
        });
        find.into_iter().collect()
    }

    fn settled(&mut self, outcome: Outcome) -> Vec<Effect> {
        self.said = Some(Said { text: outcome.text.clone(), alarm: outcome.alarm });
        let before = self.outcomes.iter_mut().find(|one| one.pin == outcome.pin && one.verb == outcome.verb);
        match before {
            Some(before) => *before = outcome,
            None => self.outcomes.push(outcome),
        }
        vec![]
    }

    /// Closes a question that is about something else than what stands there.
    fn close_question(&mut self) {
        let Some(prompt) = &self.prompt else { return };
        let stands = self.card.as_ref().and_then(|card| Pin::of(&card.view.as_ref()?.request));
        let why = match stands.as_ref() == Some(&prompt.pin) {
            true => self.obstacle(prompt.verb),
            false => Some(CHANGED.into()),
        };
        if let Some(why) = why {
            self.prompt = None;
            self.warn(why);
        }
    }

    /// Why that cannot be decided about the card now.
    pub fn obstacle(&self, verb: Verb) -> Option<String> {
        let card = self.card.as_ref()?;
        let Some(view) = &card.view else { return Some("the card is still being read".into()) };
        let not = |why: &str| Some(format!("not {}: {}", verb.done(), visible(why)));
        if view.stale {
            return Some(CHANGED.into());
        }
        if let Some(over) = &card.over {
            return not(over);
        }
        if let Some(why) = not_up(&view.seen.request, &view.request) {
            return not(&why);
        }
        let why_not = self.current().and_then(|one| one.why_not.as_deref());
        match verb {
            Verb::Approve => why_not.and_then(not),
            Verb::Deny => None,
        }
    }

    /// Keeps the place in the list, and opens the first card.
    fn keep_place(&mut self) -> Vec<Effect> {
        self.cursor = self.position().unwrap_or(self.cursor).min(self.listed.len().saturating_sub(1));
        if self.card.is_some() { vec![] } else { self.open(self.cursor) }
    }

    /// Opens the card of what stands there in the list; none where nothing is listed.
    pub fn open(&mut self, at: usize) -> Vec<Effect> {
        (self.card, self.scroll, self.prompt) = (None, 0, None);
        let Some(one) = self.listed.get(at) else { return vec![] };
        let (request, stored) = (one.request.clone(), one.stored.clone());
        self.card = Some(Card { uid: request.uid.clone(), first: None, view: None, over: None });
        self.cursor = at;
        vec![Effect::Look(Box::new((request, stored)))]
    }
}
