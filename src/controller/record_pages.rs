//! The records of the audit trail from the oldest on, some at a time, so that reading it takes the same memory whatever it holds: a
//! record has one entry where little happens, and more than a hundred in a burst.

use crate::controller::error::Error;
use crate::controller::object::Stored;
use crate::controller::pages::{Page, Pages};
use kube::api::{Api, ListParams};
use kube::core::DynamicObject;
use serde_json::Value;

/// Fewest and most records asked for at a time.
const LIMITS: (u32, u32) = (4, 128);
/// Bytes of text that are read at a time, about: some 2,000 entries.
const BYTES: usize = 2 * 1024 * 1024;

/// What is left to read.
pub(super) struct RecordPages<'a> {
    pages: Pages<'a>,
    limit: u32,
}

impl<'a> RecordPages<'a> {
    /// Of all of them.
    pub(super) fn new(records: &'a Api<Stored>) -> Self {
        let pages = Pages::new(records, "read the audit trail", ListParams::default(), false);
        Self { pages, limit: LIMITS.0 }
    }

    /// The next ones. None where all were read.
    pub(super) async fn next(&mut self) -> Result<Option<Page>, Error> {
        let page = self.pages.next(self.limit).await?;
        self.limit = next_limit(self.limit, page.as_ref().map_or(0, Page::bytes));
        Ok(page)
    }
}

/// What a record says; null where it says nothing.
pub(super) fn spec(record: &DynamicObject) -> &Value {
    record.data.get("spec").unwrap_or(&Value::Null)
}

/// How many records to ask for after so many were of these bytes.
fn next_limit(limit: u32, bytes: usize) -> u32 {
    let limit = match bytes {
        few if few.saturating_mul(2) <= BYTES => limit.saturating_mul(2),
        many if many > BYTES => limit / 2,
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

    /// A trail of records of so many bytes each. Returns how many records were asked for at a time.
    fn trail(bytes: Vec<usize>) -> (Api<Stored>, Arc<Mutex<Vec<usize>>>) {
        let asked = Arc::new(Mutex::new(vec![]));
        let limits = asked.clone();
        let answer = move |request: Request<Body>| {
            let query = request.uri().query().unwrap_or_default().to_owned();
            let of = |name: &str| query.split('&').find_map(|part| part.strip_prefix(name)?.parse::<usize>().ok());
            let (limit, from) = (of("limit=").unwrap(), of("continue=").unwrap_or(0));
            limits.lock().unwrap().push(limit);
            let through = bytes.len().min(from + limit);
            let items = (from..through).map(
                |number| json!({"metadata": {"name": format!("record-{number}")}, "spec": "x".repeat(bytes[number])}),
            );
            let token = if through < bytes.len() { through.to_string() } else { String::new() };
            let list = json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "ApprovalRecordList",
                "metadata": {"continue": token}, "items": items.collect::<Vec<_>>()});
            async move { Ok::<_, Infallible>(Response::new(Body::from(list.to_string().into_bytes()))) }
        };
        let client = kube::Client::new(tower::service_fn(answer), "default");
        let resource = ApiResource::erase::<ApprovalRecord>(&());
        (crate::controller::object::api(&client, Some("a"), &resource), asked)
    }

    async fn limits(bytes: Vec<usize>) -> Vec<usize> {
        let all = bytes.len();
        let (records, asked) = trail(bytes);
        let (mut pages, mut names) = (RecordPages::new(&records), vec![]);
        while let Some(page) = pages.next().await.unwrap() {
            names.extend(page.objects().filter_map(|record| record.unwrap().metadata.name));
        }
        assert_eq!(names, (0..all).map(|number| format!("record-{number}")).collect::<Vec<_>>(), "each once, in order");
        asked.lock().unwrap().clone()
    }

    #[tokio::test]
    async fn large_records_are_read_a_few_at_a_time_and_small_ones_many() {
        let large = 250 * 1024;
        assert_eq!(limits(vec![large; 28]).await, [4, 8, 8, 8]);
        assert_eq!(limits(vec![1000; 500]).await, [4, 8, 16, 32, 64, 128, 128, 128]);
        let mut turning = vec![1000; 252];
        turning.extend([large; 224]);
        let turned = limits(turning).await;
        assert_eq!(turned, [4, 8, 16, 32, 64, 128, 128, 64, 32], "and fewer again after those were large");
        assert_eq!(limits(vec![]).await, [4]);
    }
}
