//! What a list told, kept small until it is taken in, and taken in with pauses.

use crate::lifecycle::{Packed, version};
use kube::core::DynamicObject;

/// Objects that are taken in before others have their turn: some milliseconds' worth.
const AT_ONCE: usize = 64;

/// Objects that were listed, those of long lists as text: as trees, thousands of them would take ten times the memory that they
/// are kept in, for a moment, and for good where the allocator keeps it.
#[derive(Default)]
pub(crate) struct Listed(Vec<(i64, Item)>);

enum Item {
    Whole(Box<DynamicObject>),
    Packed(Packed),
}

impl Listed {
    /// Adds an object, as text if it is to wait for the rest of a long list.
    pub(super) fn push(&mut self, object: DynamicObject, pack: bool) {
        let version = version(&object.metadata);
        let item = if pack { Packed::of(&object).map(Item::Packed) } else { None };
        self.0.push((version, item.unwrap_or_else(|| Item::Whole(object.into()))));
    }

    /// The objects, those first that were changed first: whatever a view has taken in of them, it lacks nothing that is older than
    /// the newest in it.
    pub(crate) fn into_objects(mut self) -> impl Iterator<Item = DynamicObject> {
        self.0.sort_by_key(|(version, _)| *version);
        self.0.into_iter().filter_map(|(_, item)| match item {
            Item::Whole(object) => Some(*object),
            Item::Packed(packed) => packed.open(),
        })
    }

    /// Hands the objects over in that order. Others have their turn meanwhile: where thousands are listed anew, as after a restart
    /// of the API server, admission shares the thread that takes them in.
    pub(super) async fn for_each(self, mut take_in: impl FnMut(DynamicObject)) {
        for (n, object) in self.into_objects().enumerate() {
            if n % AT_ONCE == AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
            take_in(object);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::ObjectMeta;
    use serde_json::json;
    use std::cell::Cell;

    fn listed(objects: usize) -> Listed {
        let mut listed = Listed::default();
        for n in 0..objects {
            let metadata = ObjectMeta {
                name: Some(format!("object-{n}")),
                resource_version: Some((n + 1).to_string()),
                ..ObjectMeta::default()
            };
            listed.push(DynamicObject { types: None, metadata, data: json!({"spec": {}}) }, n % 2 == 0);
        }
        listed
    }

    #[tokio::test]
    async fn a_long_list_leaves_others_their_turn_and_loses_nothing() {
        let (taken, turns) = (Cell::new(0), Cell::new(0));
        let taking = listed(1000).for_each(|object| {
            assert_eq!(object.metadata.name, Some(format!("object-{}", taken.get())), "in the order of changes");
            taken.set(taken.get() + 1);
        });
        let other = async {
            while taken.get() < 1000 {
                turns.set(turns.get() + 1);
                assert!(taken.get() <= turns.get() * AT_ONCE, "{} before turn {}", taken.get(), turns.get());
                tokio::task::yield_now().await;
            }
        };
        tokio::join!(taking, other);
        assert_eq!(taken.get(), 1000);
        assert!(turns.get() >= 1000 / AT_ONCE, "{} turns", turns.get());
    }
}
