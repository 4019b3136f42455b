//! Reads one Job or Pod again whose text the index let go, since it was released and nobody asked for it any more.

use crate::api::TargetKind;
use crate::controller::apply;
use crate::controller::error::Error;
use crate::controller::object;
use crate::controller::pages::Pages;
use kube::Client;
use kube::api::ListParams;
use kube::core::DynamicObject;

/// The object as it is stored now; none where it is gone. As a list of one, since to list is what the operator may do.
pub(super) async fn reread(
    client: &Client,
    (namespace, kind, name): (&str, TargetKind, &str),
) -> Result<Option<DynamicObject>, Error> {
    let api = object::api(client, Some(namespace), &apply::targets(kind));
    let one = ListParams::default().fields(&format!("metadata.name={name}"));
    let page = Pages::new(&api, "read what was released before", one, false).next(1).await?;
    page.and_then(|page| page.objects().next()).transpose()
}
