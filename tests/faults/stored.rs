//! What is stored goes away, or changes its shape: the signing key, the namespace, the CRD.

use crate::case::{Case, RUN};
use crate::judge::{self, End};
use crate::*;
use serde_json::{Value, json};

const HOME: &str = "countersign-system";
const KEY: &str = "countersign-signing-key";
const RESUMES: Duration = Duration::from_secs(10);

/// The key is in memory until a restart, which makes another one: reviews sealed before count no longer, and nothing is released
/// while the audit trail is signed by a key that is gone. With the key back, everything goes on.
#[tokio::test]
async fn a_key_that_is_deleted_is_used_until_a_restart_and_then_nothing_is_released() -> Result<()> {
    let mut place = alone().await?;
    *place = None;
    let cluster = cluster().await?;
    let operator = countersign().start(cluster).await?;
    let (running, restarted) = (Case::pending("faults-key").await?, Case::pending("faults-key-restart").await?);
    let keys = judge::keys(cluster).await?;
    let admin = cluster.admin();
    let mut secret = admin.kubectl(["get", "secret", KEY, "-n", HOME]).json().await?;
    secret["metadata"] = json!({"name": KEY, "namespace": HOME});
    let delete = ["delete", "secret", KEY, "-n", HOME];
    admin.kubectl(delete).ok().await?;

    running.approve().await?;
    running.released(RESUMES).await?;
    operator.kill();
    let outcome = under_another_key(&restarted).await;
    admin.kubectl(delete).ok().await?;
    admin.kubectl(["create", "--filename", "-"]).stdin(secret.to_string()).ok().await?;
    outcome?;
    running.ends_under(&keys, &[(RUN, End::Started)]).await?;

    let mut operator = countersign().start(cluster).await?;
    restarted.approve().await?;
    restarted.released(RESUMES).await?;
    ensure!(!operator.has_ended(), "{}", operator.log());
    drop(operator);
    restarted.ends_under(&keys, &[(RUN, End::Started)]).await
}

async fn under_another_key(case: &Case) -> Result<()> {
    let operator = countersign().start(cluster().await?).await?;
    let log = operator.log();
    ensure!(log.contains("nothing is released any more") && log.contains("--reanchor-audit"), "{log}");
    case.approve().await?;
    let waits = case.space.wait("approvalrequests", RUN, |r| {
        r["status"]["message"].as_str().is_some_and(|message| message.contains("audit trail"))
    });
    waits.await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    ensure!(!case.space.started(RUN).await?, "released under a key that the trail does not know");
    Ok(())
}

/// An older CRD knows less of the status: what the operator writes is stored without that. It must not write it again and again,
/// nor start anything that was not approved; with the newer one, all goes on.
#[tokio::test]
async fn a_crd_that_forgets_fields_is_no_reason_to_write_for_ever() -> Result<()> {
    let mut stand = alone_with_proxy().await?;
    let admin = cluster().await?.admin();
    let mut crd = admin.kubectl(["get", "crd", "approvalrequests.countersign.dev"]).json().await?;
    crd["metadata"].as_object_mut().context("metadata")?.remove("resourceVersion");
    let mut older = crd.clone();
    let status = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties";
    let fields = older.pointer_mut(status).and_then(Value::as_object_mut).context("the status")?;
    for field in ["boundAt", "changedAt", "inputs", "summary"] {
        ensure!(fields.remove(field).is_some(), "there is no {field}");
    }
    let case = Case::pending("faults-crd").await?;
    admin.kubectl(["replace", "--filename", "-"]).stdin(older.to_string()).ok().await?;
    let outcome = under_an_older_crd(&stand).await;
    admin.kubectl(["replace", "--filename", "-"]).stdin(crd.to_string()).ok().await?;
    let older = outcome?;
    for mut case in [case, older] {
        case.is_bound().await?;
        case.approve_as_soon_as_possible(RESUMES).await?;
        let took = case.released(RESUMES).await?;
        eprintln!("{}: released {took:?} after the approval", case.space.namespace);
        case.ends(End::Started).await?;
    }
    stand.lives()
}

async fn under_an_older_crd(stand: &Stand) -> Result<Case> {
    tokio::time::sleep(Duration::from_secs(1)).await;
    stand.proxy.take_asked();
    let case = Case::pending("faults-crd-older").await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let wrote = stand.proxy.count("/approvalrequests/");
    eprintln!("under an older CRD: {wrote} writes of requests in 2 s");
    ensure!(wrote <= 12, "{wrote} writes of requests in 2 s");
    Ok(case)
}
