//! The Secret with the certificate of admission cannot be written. That it is deleted, spoiled and replaced while operators serve is
//! tried in `tests/availability/certificate.rs`.

use crate::case::Case;
use crate::judge::End;
use crate::support::client;
use crate::*;
use countersign::api::names;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::DeleteParams;

const HOME: &str = "countersign-system";
const SECRETS: &str = "/api/v1/namespaces/countersign-system/secrets";
/// How long it cannot be written.
const STORM: Duration = Duration::from_secs(3);
/// Requests for it in that time: each attempt is a write, and a look at who was first.
const MOST: usize = 16;
/// Within that time after the end of it the Secret is there.
const RESUMES: Duration = Duration::from_secs(10);

/// A create that conflicts though nothing is there, as with a quota that others use up at the same time.
#[tokio::test]
async fn a_certificate_that_cannot_be_stored_is_served_on_and_not_tried_in_a_hot_loop() -> Result<()> {
    let mut place = alone().await?;
    *place = None;
    let mut stand = Stand::start(&["--admission-certificate=secret"]).await?;
    let secrets: Api<Secret> = Api::namespaced(client(&cluster().await?.admin()).await?, HOME);
    let case = Case::pending("faults-certificate").await?;
    stand.proxy.storm(Fault { method: "POST".into(), path: SECRETS.into(), effect: CONFLICT });
    let before = stand.proxy.count(SECRETS);
    secrets.delete(names::CERTIFICATE_SECRET, &DeleteParams::default()).await?;
    tokio::time::sleep(STORM).await;
    let asked = stand.proxy.count(SECRETS) - before;
    // What is served does not come from the Secret any more, and is good.
    case.approve().await?;
    case.released(RESUMES).await?;
    stand.proxy.calm("");
    let began = Instant::now();
    while secrets.get_opt(names::CERTIFICATE_SECRET).await?.is_none() {
        ensure!(began.elapsed() < RESUMES, "it was not stored again:\n{}", stand.operator.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    eprintln!("a certificate that cannot be stored: {asked} requests in {STORM:?}, stored {:?} later", began.elapsed());
    stand.lives()?;
    ensure!((3..=MOST).contains(&asked), "{asked} requests in {STORM:?}");
    case.ends(End::Started).await
}
