//! The keys in the operator's Secret, and the three steps by which one takes another's place.
//!
//! *Add*: the second key is accepted, and signs nothing yet. *Promote*: it signs, and the first is accepted still. *Retire*: the
//! first is accepted no longer. After each step every operator is restarted, so that none meets a key that it does not know.

use crate::binding::{KeyError, Keyring, key::key_of, key_name};
use std::collections::{BTreeMap, BTreeSet};

/// Entry of the Secret: the seed that signs.
const SEED: &str = "seed";
/// Entry of the Secret: the seed that is accepted and will sign.
const NEXT: &str = "next";
/// Entry of the Secret: the seed that signed before and is accepted still.
const PREVIOUS: &str = "previous";
/// Entry of the Secret: public halves of keys that are accepted no longer, one after the other.
const RETIRED: &str = "retired";

/// An ed25519 seed (RFC 8032, section 5.1.5).
type Seed = [u8; 32];

/// What stands in the Secret. Nothing prints a seed.
#[derive(Clone, Eq, PartialEq)]
pub struct KeySet {
    seed: Seed,
    next: Option<Seed>,
    /// The seed and not the public half alone: what was hashed with it is recognized until it is retired.
    previous: Option<Seed>,
    retired: Vec<[u8; 32]>,
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.roles()).finish()
    }
}

/// What a key of the Secret is there for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// It signs.
    Signs,
    /// It is accepted, and will sign.
    Next,
    /// It signed before, and is accepted still.
    Previous,
    /// It is accepted no longer.
    Retired,
}

/// Why a step cannot be taken now, and what to do.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OutOfOrder {
    /// A key was added already.
    #[error(
        "key {0} was added already and does not sign yet; next: restart every operator, then countersign keys promote"
    )]
    Added(String),
    /// A key was promoted already.
    #[error("key {0} was promoted already; next: restart every operator, then countersign keys retire")]
    Promoted(String),
    /// No key was added.
    #[error("no key was added that could sign; next: countersign keys add")]
    NothingAdded,
    /// No key was promoted.
    #[error("no key signed before that could be retired; next: countersign keys {0}")]
    NothingPromoted(&'static str),
    /// No operator has introduced the key that is to sign.
    #[error(
        "no operator has introduced key {0} in the audit trail, so that records signed by it would not be accepted; next: restart \
         every operator, wait until countersign keys show tells of it there, then countersign keys promote"
    )]
    NotIntroduced(String),
    /// The fresh seed is one that was here.
    #[error("key {0} was here before and never comes back; try again")]
    Seen(String),
}

impl KeySet {
    /// Of a fresh seed alone.
    pub fn new(seed: Seed) -> Self {
        Self { seed, next: None, previous: None, retired: vec![] }
    }

    /// Of the data of a Secret.
    pub fn read<'a>(data: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Result<Self, KeyError> {
        let mut data: BTreeMap<&str, &[u8]> = data.into_iter().collect();
        let mut seed = |entry: &'static str| {
            let bytes = data.remove(entry);
            bytes.map(|b| b.try_into().map_err(|_| KeyError::Entry(entry, b.len()))).transpose()
        };
        let (first, next, previous) = (seed(SEED)?, seed(NEXT)?, seed(PREVIOUS)?);
        let (retired, rest) = data.remove(RETIRED).unwrap_or_default().as_chunks();
        if !rest.is_empty() {
            return Err(KeyError::Retired(retired.len() * 32 + rest.len()));
        }
        if let Some(unknown) = data.into_keys().next() {
            return Err(KeyError::Unknown(unknown.into()));
        }
        let set = Self { seed: first.ok_or(KeyError::NoSeed)?, next, previous, retired: retired.to_vec() };
        if set.next.is_some() && set.previous.is_some() {
            return Err(KeyError::TwoRotations);
        }
        let mut seen = BTreeSet::new();
        match set.roles().into_iter().find(|(key, _)| !seen.insert(*key)) {
            Some((twice, _)) => Err(KeyError::Twice(key_name(&twice))),
            None => Ok(set),
        }
    }

    /// As the data of a Secret.
    pub fn data(&self) -> BTreeMap<String, Vec<u8>> {
        let seeds = [(SEED, Some(self.seed)), (NEXT, self.next), (PREVIOUS, self.previous)];
        let seeds = seeds.into_iter().filter_map(|(entry, seed)| Some((entry, seed?.to_vec())));
        let retired = (!self.retired.is_empty()).then(|| (RETIRED, self.retired.concat()));
        seeds.chain(retired).map(|(entry, bytes)| (entry.into(), bytes)).collect()
    }

    /// The keys as an operator uses them.
    pub fn keyring(&self) -> Keyring {
        Keyring::of(&self.seed, self.next.as_ref(), self.previous.as_ref(), self.retired.clone())
    }

    /// The public half of each key, and what it is there for.
    pub fn roles(&self) -> Vec<([u8; 32], Role)> {
        let seeds = [(Some(self.seed), Role::Signs), (self.next, Role::Next), (self.previous, Role::Previous)];
        let seeds = seeds.into_iter().filter_map(|(seed, role)| Some((key_of(&seed?), role)));
        seeds.chain(self.retired.iter().map(|key| (*key, Role::Retired))).collect()
    }

    /// The name of the key that signed before and is accepted still.
    pub fn previous(&self) -> Option<String> {
        self.previous.as_ref().map(|seed| key_name(&key_of(seed)))
    }

    /// Whether this came of `earlier` by one step: it holds the seed that signed there.
    pub fn continues(&self, earlier: &Self) -> bool {
        self.seed == earlier.seed || self.previous == Some(earlier.seed)
    }

    /// With a key made from `fresh`, that is accepted and signs nothing yet.
    pub fn add(&self, fresh: Seed) -> Result<Self, OutOfOrder> {
        self.must_be_steady()?;
        let key = key_of(&fresh);
        match self.roles().into_iter().any(|(known, _)| known == key) {
            true => Err(OutOfOrder::Seen(key_name(&key))),
            false => Ok(Self { next: Some(fresh), ..self.clone() }),
        }
    }

    fn must_be_steady(&self) -> Result<(), OutOfOrder> {
        match (&self.next, &self.previous) {
            (Some(next), _) => Err(OutOfOrder::Added(key_name(&key_of(next)))),
            (None, Some(_)) => Err(OutOfOrder::Promoted(key_name(&key_of(&self.seed)))),
            (None, None) => Ok(()),
        }
    }

    /// With the added key as the one that signs. `introduced` tells whether the audit trail has introduced a key of that name.
    pub fn promote(&self, introduced: impl Fn(&str) -> bool) -> Result<Self, OutOfOrder> {
        let Some(next) = self.next else { return Err(self.must_be_steady().err().unwrap_or(OutOfOrder::NothingAdded)) };
        let name = key_name(&key_of(&next));
        match introduced(&name) {
            true => Ok(Self { seed: next, next: None, previous: Some(self.seed), retired: self.retired.clone() }),
            false => Err(OutOfOrder::NotIntroduced(name)),
        }
    }

    /// Without the key that signed before: only that it was here is kept.
    pub fn retire(&self) -> Result<Self, OutOfOrder> {
        let Some(previous) = self.previous else {
            return Err(OutOfOrder::NothingPromoted(if self.next.is_some() { "promote" } else { "add" }));
        };
        let retired = self.retired.iter().copied().chain([key_of(&previous)]).collect();
        Ok(Self { seed: self.seed, next: None, previous: None, retired })
    }
}

#[cfg(test)]
#[path = "key_set_tests.rs"]
mod tests;
