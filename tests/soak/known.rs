//! What people see: requests and Jobs as a watch tells of them, late like any view.

use futures::StreamExt;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::reflector::{ObjectRef, Store, store::Writer};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use serde_json::Value;
use std::sync::Arc;

/// The objects of one kind in all namespaces.
#[derive(Clone)]
pub struct Known {
    store: Store<DynamicObject>,
    resource: ApiResource,
}

impl Known {
    /// Watches from now on, and again where it is interrupted.
    pub fn follow(client: Client, resource: &ApiResource) -> Self {
        let writer = Writer::new(resource.clone());
        let store = writer.as_reader();
        let api: Api<DynamicObject> = Api::all_with(client, resource);
        let seen = reflector(writer, watcher(api, watcher::Config::default())).default_backoff();
        tokio::spawn(seen.for_each(|_| std::future::ready(())));
        Self { store, resource: resource.clone() }
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<DynamicObject>> {
        self.store.get(&ObjectRef::new_with(name, self.resource.clone()).within(namespace))
    }

    /// The first that is as wanted.
    pub fn find(&self, wanted: impl Fn(&DynamicObject) -> bool) -> Option<Arc<DynamicObject>> {
        self.store.find(|object| wanted(object))
    }

    pub fn count(&self) -> usize {
        self.store.len()
    }
}

/// A text in an object's content.
pub fn text<'o>(object: &'o DynamicObject, pointer: &str) -> &'o str {
    object.data.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
