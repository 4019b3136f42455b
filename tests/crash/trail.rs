//! The audit trail as it is stored, read on from where it was read last.

use anyhow::Result;
use kube::Client;
use kube::api::{Api, DynamicObject};
use kube::core::ApiResource;
use serde_json::Value;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Many look at a time, and one look serves them all.
const STALE: Duration = Duration::from_millis(40);

pub struct Trail {
    records: Api<DynamicObject>,
    read: Mutex<Read>,
}

struct Read {
    /// Number of the next entry.
    next: usize,
    at: Option<Instant>,
    /// By the name of the Job.
    transitions: HashMap<String, Vec<String>>,
}

impl Trail {
    pub fn new(client: Client) -> Self {
        let resource = ApiResource::erase::<countersign::api::ApprovalRecord>(&());
        let read = Read { next: 1, at: None, transitions: HashMap::new() };
        Self { records: Api::namespaced_with(client, "countersign-system", &resource), read: Mutex::new(read) }
    }

    /// What the trail tells of the run of that name, in its order.
    pub async fn transitions(&self, name: &str) -> Result<Vec<String>> {
        let mut read = self.read.lock().await;
        if read.at.is_none_or(|at| at.elapsed() > STALE) {
            // Records are named by their first entry.
            while let Some(record) = self.records.get_opt(&countersign::audit::object_name(read.next as i64)).await? {
                read.take_in(&record.data["spec"]["entries"]);
            }
            read.at = Some(Instant::now());
        }
        Ok(read.transitions.get(name).cloned().unwrap_or_default())
    }
}

impl Read {
    fn take_in(&mut self, entries: &Value) {
        for entry in entries.as_array().into_iter().flatten() {
            self.next += 1;
            let (request, transition) = (&entry["request"]["name"], entry["transition"].as_str().unwrap_or_default());
            let request = request.as_str().unwrap_or_default();
            // The gate's own request has a longer name than its Job.
            let name = request.get(..crate::bench::NAME_LENGTH).unwrap_or(request);
            self.transitions.entry(name.to_owned()).or_default().push(transition.to_owned());
        }
    }
}
