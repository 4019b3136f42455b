//! How an object is kept: whole while it is looked at, and an outline and compressed text at rest.

use crate::controller::index::Name;
use crate::controller::index::state::At;
use crate::lifecycle::Packed;
use kube::core::DynamicObject;
use std::collections::{BTreeSet, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

/// How many objects are kept whole: those that arrived or were looked at last. One decision takes several looks at the same two
/// objects, within moments.
const AWAKE: usize = 128;
/// Shared values that are looked through at least before those that nobody has any more are let go.
const SWEEP: usize = 64;

/// One object.
pub(super) struct Kept<O, T> {
    /// What is asked of it at rest.
    pub outline: O,
    facts: Option<Arc<T>>,
    object: Object,
}

enum Object {
    Whole(Box<DynamicObject>),
    Packed(Packed),
    /// Hardly anybody will ask for it any more.
    Gone,
}

impl<O, T> Kept<O, T> {
    /// As it arrived.
    pub fn new(outline: O, facts: Arc<T>, object: DynamicObject) -> Self {
        Self { outline, facts: Some(facts), object: Object::Whole(object.into()) }
    }

    /// The facts, where they are kept.
    pub fn awake(&self) -> Option<&Arc<T>> {
        self.facts.as_ref()
    }

    /// The facts, read from the object where they are not kept, which is to cost what one decision costs.
    pub fn facts(&self, read: impl FnOnce(&DynamicObject) -> Option<T>) -> Option<Arc<T>> {
        if let Some(facts) = &self.facts {
            return Some(facts.clone());
        }
        self.object().and_then(|object| read(&object)).map(Arc::new)
    }

    /// A copy of the object; none where it was let go.
    pub fn object(&self) -> Option<DynamicObject> {
        match &self.object {
            Object::Whole(object) => Some(DynamicObject::clone(object)),
            Object::Packed(packed) => packed.open(),
            Object::Gone => None,
        }
    }

    /// Keeps the outline alone from now on.
    pub fn let_go(&mut self) {
        self.object = Object::Gone;
        self.facts = None;
    }

    /// Whether the outline alone is kept.
    pub fn is_gone(&self) -> bool {
        matches!(self.object, Object::Gone)
    }

    /// Keeps this object in its place.
    pub fn replace(&mut self, object: DynamicObject) {
        self.object = Object::Whole(object.into());
    }

    /// Keeps the facts from now on.
    pub fn wake(&mut self, facts: Arc<T>) {
        self.facts = Some(facts);
    }

    /// Keeps the text alone from now on.
    pub fn rest(&mut self) {
        if let Object::Whole(object) = &self.object {
            let Some(packed) = Packed::of(object) else { return };
            self.object = Object::Packed(packed);
        }
        self.facts = None;
    }
}

#[cfg(test)]
impl<O, T> Kept<O, T> {
    /// Has memory go bad where the text of an object at rest is.
    pub fn damage(&mut self) {
        let Object::Packed(packed) = &mut self.object else { panic!("it is not at rest") };
        packed.damage();
    }
}

/// What is kept whole, the oldest first.
#[derive(Default)]
pub(super) struct Awake(VecDeque<(Which, i64)>);

/// An object by its place.
pub(super) enum Which {
    Request(Arc<Name>),
    Target(Arc<At>),
}

impl Awake {
    /// This one is kept whole, in that version. Returns what is to rest for it, if it still is of the version told with it.
    pub fn push(&mut self, which: Which, version: i64) -> Option<(Which, i64)> {
        self.0.push_back((which, version));
        if self.0.len() > AWAKE { self.0.pop_front() } else { None }
    }
}

/// The requests that ask for one target: hardly ever more than one.
pub(super) enum Asking {
    One(Arc<Name>),
    Many(BTreeSet<Arc<Name>>),
}

impl Asking {
    pub fn insert(&mut self, name: Arc<Name>) {
        match self {
            Self::One(one) if *one == name => {}
            Self::One(one) => *self = Self::Many(BTreeSet::from([one.clone(), name])),
            Self::Many(names) => drop(names.insert(name)),
        }
    }

    /// Returns whether none is left.
    pub fn remove(&mut self, name: &Name) -> bool {
        match self {
            Self::One(one) => **one == *name,
            Self::Many(names) => {
                names.remove(name);
                names.is_empty()
            }
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Name>> {
        let (one, many) = match self {
            Self::One(one) => (Some(one), None),
            Self::Many(names) => (None, Some(names)),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}

/// Equal values kept once: thousands of requests come from a few requesters, under a few rules.
#[derive(Debug)]
pub(super) struct Shared<T: ?Sized> {
    values: HashSet<Arc<T>>,
    sweep_at: usize,
}

impl<T: ?Sized> Default for Shared<T> {
    fn default() -> Self {
        Self { values: HashSet::new(), sweep_at: SWEEP }
    }
}

impl<T: Eq + Hash + ?Sized> Shared<T> {
    /// The one that is kept of this value.
    pub fn of(&mut self, value: Arc<T>) -> Arc<T> {
        if let Some(known) = self.values.get(&value) {
            return known.clone();
        }
        if self.values.len() >= self.sweep_at {
            self.values.retain(|known| Arc::strong_count(known) > 1);
            self.sweep_at = SWEEP.max(2 * self.values.len());
        }
        self.values.insert(value.clone());
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> Arc<Name> {
        Arc::new(("a".into(), name.into()))
    }

    #[test]
    fn whoever_asks_is_known_once_and_until_they_are_gone() {
        let mut asking = Asking::One(name("x"));
        asking.insert(name("x"));
        assert!(matches!(asking, Asking::One(_)));
        assert!(!asking.remove(&name("y")), "it never asked");
        asking.insert(name("y"));
        asking.insert(name("y"));
        assert_eq!(asking.iter().map(|name| name.1.as_str()).collect::<Vec<_>>(), ["x", "y"]);
        assert!(!asking.remove(&name("x")) && asking.remove(&name("y")));
    }

    #[test]
    fn equal_values_are_one_and_go_with_the_last_that_has_them() {
        let mut shared: Shared<str> = Shared::default();
        let first = shared.of("first".into());
        assert!(Arc::ptr_eq(&first, &shared.of("first".into())));
        for n in 0..1000 {
            shared.of(n.to_string().into());
        }
        assert!(shared.values.len() <= SWEEP && shared.values.contains("first"));
        let kept: Vec<_> = (0..1000).map(|n| shared.of(n.to_string().into())).collect();
        assert!(shared.values.len() > kept.len());
    }
}
