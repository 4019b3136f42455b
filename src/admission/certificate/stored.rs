//! What the Secret holds.
//!
//! | Key | |
//! |---|---|
//! | `tls.crt`, `tls.key`, `ca.crt` | the pair that is served, in the names that everybody uses |
//! | `next.crt`, `next.key`, `next-ca.crt` | the pair that is to follow |
//! | `next-announced` | since when the API server trusts it as well |
//! | `previous` | authorities before it that are still trusted, each until its certificate ends |
//!
//! Whoever may write the Secret may write anything: what cannot be used counts as not there, and is written over.

use crate::admission::certificate::pair::{Flaw, Good, authority};
use crate::admission::tls::Serving;
use jiff::Timestamp;
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Keys of the pair that is served: certificate, key, authority.
const CURRENT: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];
/// Keys of the pair that is to follow.
const NEXT: [&str; 3] = ["next.crt", "next.key", "next-ca.crt"];
const ANNOUNCED: &str = "next-announced";
const PREVIOUS: &str = "previous";
/// Most authorities that are remembered; the one that ends first goes first.
const MOST: usize = 8;

/// The Secret's content, as far as it can be used.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Stored {
    /// What is served.
    pub current: Option<Good>,
    /// What is to be served after it.
    pub next: Option<Next>,
    /// Authorities of what was served before.
    pub previous: Vec<Authority>,
}

/// A pair that is to be served.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Next {
    /// The pair.
    pub pair: Good,
    /// Since when the API server is told to trust it.
    pub announced: Option<Timestamp>,
}

/// An authority, and until when its certificate is good.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Authority {
    /// Its certificate, PEM.
    pub authority: String,
    /// Nobody serves under it from then on.
    pub until: Timestamp,
}

impl Stored {
    /// Reads what can be used for that name at that time, and says why the pair that should be served cannot, if so.
    pub fn read(data: &BTreeMap<String, Vec<u8>>, name: &ServerName<'_>, now: Timestamp) -> (Self, Option<Flaw>) {
        let text = |key: &str| data.get(key).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
        let pair = |[certificate, key, authority]: [&str; 3]| {
            let [certificate, key, authority] = [text(certificate), text(key), text(authority)].map(String::from);
            Good::check(&Serving { authority, certificate, key }, name, now)
        };
        let (current, flaw) = match pair(CURRENT) {
            Ok(current) => (Some(current), None),
            Err(flaw) => (None, Some(flaw)),
        };
        let next = pair(NEXT).ok().map(|pair| Next { pair, announced: text(ANNOUNCED).trim().parse().ok() });
        (Self { current, next, previous: authorities(text(PREVIOUS)) }, flaw)
    }

    /// The content to write. What is not there is written empty: some types of Secret demand their keys.
    pub fn data(&self) -> BTreeMap<String, Vec<u8>> {
        let mut data = BTreeMap::new();
        let mut put = |key: &str, text: &str| drop(data.insert(key.to_owned(), text.as_bytes().to_vec()));
        let mut put_pair = |[certificate, key, authority]: [&str; 3], pair: Option<&Good>| {
            let pair = pair.map(|pair| &pair.serving);
            put(certificate, pair.map_or("", |pair| &pair.certificate));
            put(key, pair.map_or("", |pair| &pair.key));
            put(authority, pair.map_or("", |pair| &pair.authority));
        };
        put_pair(CURRENT, self.current.as_ref());
        if let Some(next) = &self.next {
            put_pair(NEXT, Some(&next.pair));
            if let Some(announced) = next.announced {
                put(ANNOUNCED, &announced.to_string());
            }
        }
        if !self.previous.is_empty() {
            put(PREVIOUS, &serde_json::to_string(&self.previous).unwrap_or_default());
        }
        data
    }

    /// Every authority that the API server is to trust, once each, in an order that does not tell their parts: a pair that
    /// moves up changes nothing.
    pub fn bundle(&self) -> String {
        let pairs = self.current.iter().chain(self.next.as_ref().map(|next| &next.pair));
        let all = pairs.map(|pair| &pair.serving.authority).chain(self.previous.iter().map(|one| &one.authority));
        all.map(String::as_str).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// What the webhooks may trust while this is stored: also what they trusted before the next pair was announced. Nothing is
    /// known where nothing is served yet.
    pub fn expectations(&self) -> Vec<String> {
        if self.current.is_none() {
            return vec![];
        }
        let announced = self.next.as_ref().is_none_or(|next| next.announced.is_some());
        let before = (!announced).then(|| Self { next: None, ..self.clone() }.bundle());
        before.into_iter().chain([self.bundle()]).collect()
    }

    /// Whether that pair's authority is among them.
    pub fn trusts(&self, pair: &Good) -> bool {
        let pairs = self.current.iter().chain(self.next.as_ref().map(|next| &next.pair));
        let mut all = pairs.map(|pair| &pair.serving.authority).chain(self.previous.iter().map(|one| &one.authority));
        all.any(|authority| *authority == pair.serving.authority)
    }

    /// Goes on trusting that pair.
    pub fn trusting(mut self, pair: &Good) -> Self {
        let authority = Authority { authority: pair.serving.authority.clone(), until: pair.until };
        self.previous.retain(|one| one.authority != authority.authority);
        self.previous.sort_by_key(|one| one.until);
        let beyond = self.previous.len().saturating_sub(MOST - 1);
        self.previous.drain(..beyond);
        self.previous.push(authority);
        self
    }

    /// With a pair that is to follow.
    pub fn with_next(self, pair: Good) -> Self {
        Self { next: Some(Next { pair, announced: None }), ..self }
    }

    /// The pair that was to follow is served, and the one before it still trusted.
    pub(super) fn promoted(self) -> Self {
        let Some(next) = self.next else { return self };
        let moved = Self { current: Some(next.pair), next: None, previous: self.previous };
        match &self.current {
            Some(before) => moved.trusting(before),
            None => moved,
        }
    }
}

/// Those that can be read. One that cannot would keep the API server from taking any.
fn authorities(text: &str) -> Vec<Authority> {
    let read: Vec<Authority> = serde_json::from_str(text).unwrap_or_default();
    let known = read.into_iter().filter_map(|one| Some(Authority { authority: authority(&one.authority)?, ..one }));
    known.take(MOST).collect()
}
