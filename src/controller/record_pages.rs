//! The records of the audit trail from the oldest on, some at a time, so that reading it takes the same memory whatever it holds: a
//! record has one entry where little happens, and more than a hundred in a burst.

use crate::controller::error::{Error, call};
use crate::controller::object::Stored;
use kube::api::{Api, ListParams};
use kube::core::DynamicObject;
use serde_json::Value;

/// Fewest and most records asked for at a time.
const LIMITS: (u32, u32) = (4, 64);
/// Entries that are read at a time, about. One takes some 1 kB as text, and ten times as much while it is looked at.
const ENTRIES: usize = 512;

/// What is left to read.
pub(super) struct RecordPages<'a> {
    records: &'a Api<Stored>,
    limit: u32,
    /// Where to go on; the empty text at the beginning, and none at the end.
    next: Option<String>,
}

impl<'a> RecordPages<'a> {
    /// Of all of them.
    pub(super) fn new(records: &'a Api<Stored>) -> Self {
        Self { records, limit: LIMITS.0, next: Some(String::new()) }
    }

    /// The next ones. None where all were read.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Stored>>, Error> {
        let Some(token) = self.next.take() else { return Ok(None) };
        let page = ListParams::default().limit(self.limit);
        let page = if token.is_empty() { page } else { page.continue_token(&token) };
        let list = call("read the audit trail", self.records.list(&page)).await?;
        self.next = list.metadata.continue_.filter(|token| !token.is_empty());
        let entries = |record: &Stored| spec(&record.0).get("entries").and_then(Value::as_array).map_or(0, Vec::len);
        self.limit = next_limit(self.limit, list.items.iter().map(entries).sum());
        Ok(Some(list.items))
    }
}

/// What a record says; null where it says nothing.
pub(super) fn spec(record: &DynamicObject) -> &Value {
    record.data.get("spec").unwrap_or(&Value::Null)
}

/// How many records to ask for after so many had these entries.
fn next_limit(limit: u32, entries: usize) -> u32 {
    let limit = match entries {
        few if few.saturating_mul(2) <= ENTRIES => limit.saturating_mul(2),
        many if many > ENTRIES => limit / 2,
        _ => limit,
    };
    limit.clamp(LIMITS.0, LIMITS.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ApprovalRecord;
    use axum::http::{Request, Response};
    use kube::client::Body;
    use kube::core::ApiResource;
    use serde_json::json;
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    /// A trail of records with so many entries each. Returns how many records were asked for at a time.
    fn trail(entries: Vec<usize>) -> (Api<Stored>, Arc<Mutex<Vec<usize>>>) {
        let asked = Arc::new(Mutex::new(vec![]));
        let limits = asked.clone();
        let answer = move |request: Request<Body>| {
            let query = request.uri().query().unwrap_or_default().to_owned();
            let of = |name: &str| query.split('&').find_map(|part| part.strip_prefix(name)?.parse::<usize>().ok());
            let (limit, from) = (of("limit=").unwrap(), of("continue=").unwrap_or(0));
            limits.lock().unwrap().push(limit);
            let through = entries.len().min(from + limit);
            let items = (from..through).map(|number| {
                json!({"metadata": {"name": format!("record-{number}")}, "spec": {"entries": vec![json!({}); entries[number]]}})
            });
            let token = if through < entries.len() { through.to_string() } else { String::new() };
            let list = json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "ApprovalRecordList",
                "metadata": {"continue": token}, "items": items.collect::<Vec<_>>()});
            async move { Ok::<_, Infallible>(Response::new(Body::from(list.to_string().into_bytes()))) }
        };
        let client = kube::Client::new(tower::service_fn(answer), "default");
        let resource = ApiResource::erase::<ApprovalRecord>(&());
        (crate::controller::object::api(&client, Some("a"), &resource), asked)
    }

    async fn limits(entries: Vec<usize>) -> Vec<usize> {
        let all = entries.len();
        let (records, asked) = trail(entries);
        let (mut pages, mut names) = (RecordPages::new(&records), vec![]);
        while let Some(page) = pages.next().await.unwrap() {
            names.extend(page.into_iter().filter_map(|record| record.0.metadata.name));
        }
        assert_eq!(names, (0..all).map(|number| format!("record-{number}")).collect::<Vec<_>>(), "each once, in order");
        asked.lock().unwrap().clone()
    }

    #[tokio::test]
    async fn large_records_are_read_a_few_at_a_time_and_small_ones_many() {
        assert_eq!(limits(vec![128; 20]).await, [4; 5]);
        assert_eq!(limits(vec![1; 200]).await, [4, 8, 16, 32, 64, 64, 64]);
        let mut turning = vec![1; 124];
        turning.extend([128; 112]);
        assert_eq!(limits(turning).await, [4, 8, 16, 32, 64, 64, 32, 16], "and fewer again after those were large");
        assert_eq!(limits(vec![]).await, [4]);
    }
}
