//! What people see: requests and Jobs as a watch tells of them, late like any view.

use futures::StreamExt;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::reflector::{ObjectRef, Store, store::Writer};
use kube::runtime::watcher::Event;
use kube::runtime::{reflector, watcher};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Between two attempts to watch.
const PAUSE: Duration = Duration::from_millis(200);

/// The objects of one kind in all namespaces.
#[derive(Clone)]
pub struct Known {
    store: Store<DynamicObject>,
    resource: ApiResource,
    /// Names of those that have a target, by namespace and target: hundreds look for theirs at a time, among thousands.
    by_target: Arc<Mutex<HashMap<(String, String), String>>>,
}

impl Known {
    /// Watches from now on, and again where it is interrupted.
    pub fn follow(client: Client, resource: &ApiResource) -> Self {
        let writer = Writer::new(resource.clone());
        let store = writer.as_reader();
        let api: Api<DynamicObject> = Api::all_with(client, resource);
        let by_target = Arc::new(Mutex::new(HashMap::new()));
        let seen = reflector(writer, watcher(api, watcher::Config::default()));
        let told = by_target.clone();
        tokio::spawn(seen.for_each(move |event| {
            let failed = event.is_err();
            if let Ok(Event::Apply(object) | Event::InitApply(object)) = event
                && let Some((target, name)) = targeting(&object)
            {
                told.lock().unwrap_or_else(PoisonError::into_inner).insert(target, name);
            }
            // Nobody looks away for longer because the API server was killed before.
            tokio::time::sleep(if failed { PAUSE } else { Duration::ZERO })
        }));
        Self { store, resource: resource.clone(), by_target }
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<DynamicObject>> {
        self.store.get(&ObjectRef::new_with(name, self.resource.clone()).within(namespace))
    }

    /// The one that came last for the target of that name.
    pub fn of_target(&self, namespace: &str, target: &str) -> Option<Arc<DynamicObject>> {
        let target = (namespace.to_string(), target.to_string());
        let name = self.by_target.lock().unwrap_or_else(PoisonError::into_inner).get(&target)?.clone();
        self.get(namespace, &name)
    }

    pub fn count(&self) -> usize {
        self.store.len()
    }
}

/// Namespace and name of what an object targets, and its own name.
fn targeting(object: &DynamicObject) -> Option<((String, String), String)> {
    let target = text(object, "/spec/target/name");
    let (namespace, name) = object.metadata.namespace.clone().zip(object.metadata.name.clone())?;
    (!target.is_empty()).then(|| ((namespace, target.to_string()), name))
}

/// A text in an object's content.
pub fn text<'o>(object: &'o DynamicObject, pointer: &str) -> &'o str {
    object.data.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
