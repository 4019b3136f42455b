//! Lists by pages, each object as the text that it came as until somebody takes it in: as trees, those of one page would take ten
//! times the memory.

use crate::controller::error::{Error, call};
use crate::controller::object::Stored;
use kube::api::{Api, ListParams};
use kube::core::{DynamicObject, ListMeta, Request};
use serde::Deserialize;
use serde_json::value::RawValue;

/// What is left to list.
pub(super) struct Pages<'a> {
    api: &'a Api<Stored>,
    /// What is done, in the words of an error.
    operation: &'static str,
    metadata_only: bool,
    /// What to ask for next; none at the end.
    next: Option<ListParams>,
}

/// Some objects of a list.
pub(super) struct Page {
    operation: &'static str,
    objects: Vec<Box<RawValue>>,
    /// The version of the list, as of which all of its pages are.
    pub version: String,
    /// Whether this is the last page.
    pub last: bool,
}

/// A list as the API server writes it.
#[derive(Deserialize)]
struct Listed {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(default)]
    items: Option<Vec<Box<RawValue>>>,
}

impl<'a> Pages<'a> {
    /// Of everything that `params` select. With `metadata_only`, of its metadata.
    pub(super) fn new(api: &'a Api<Stored>, operation: &'static str, params: ListParams, metadata_only: bool) -> Self {
        Self { api, operation, metadata_only, next: Some(params) }
    }

    /// The next page, of so many objects at most. None where all were read.
    pub(super) async fn next(&mut self, limit: u32) -> Result<Option<Page>, Error> {
        let Some(params) = self.next.take() else { return Ok(None) };
        let params = params.limit(limit);
        let listed = call(self.operation, self.ask(&params)).await?;
        let token = listed.metadata.continue_.filter(|token| !token.is_empty());
        let last = token.is_none();
        self.next = token.map(|token| params.continue_token(&token));
        Ok(Some(Page {
            operation: self.operation,
            objects: listed.items.unwrap_or_default(),
            version: listed.metadata.resource_version.unwrap_or_default(),
            last,
        }))
    }

    /// Parsed here: kube's client would log all of a text that it cannot parse.
    async fn ask(&self, params: &ListParams) -> kube::Result<Listed> {
        let request = Request::new(self.api.resource_url());
        let request = if self.metadata_only { request.list_metadata(params) } else { request.list(params) };
        let mut request = request.map_err(kube::Error::BuildRequest)?;
        // Its name in kube's spans.
        request.extensions_mut().insert("list");
        let text = self.api.clone().into_client().request_text(request).await?;
        serde_json::from_str(&text).map_err(kube::Error::SerdeError)
    }
}

impl Page {
    /// How many objects there are.
    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }

    /// Bytes of their text.
    pub(super) fn bytes(&self) -> usize {
        self.objects.iter().map(|text| text.get().len()).sum()
    }

    /// The objects, each read when it is its turn.
    pub(super) fn objects(&self) -> impl Iterator<Item = Result<DynamicObject, Error>> {
        let operation = self.operation;
        self.objects.iter().map(move |text| {
            let read = serde_json::from_str(text.get()).map(|stored: Stored| stored.0);
            read.map_err(|error| Error::Api { operation, source: kube::Error::SerdeError(error) })
        })
    }
}
