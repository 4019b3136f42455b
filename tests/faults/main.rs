//! Faults, one scenario each: something goes wrong while a request waits, alice approves or tries to, and in the end the Job was
//! started once, and by her approval alone. `docs/faults.md` says what each comes to. One control plane for all; one operator
//! behind a proxy for those that harm a namespace alone, and the rest one at a time.

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod apart;
mod case;
mod certificate;
mod clock;
mod control;
mod judge;
mod judge_tests;
mod leader;
mod limits;
mod stored;
mod watches;

use anyhow::{Context, Result, ensure};
use countersign_testbed::{Answer, ControlPlane, Effect, Fault, FaultProxy, Operator, Options};
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use support::{countersign, installed_with};
use tokio::runtime::Runtime;
use tokio::sync::{OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// What outlives a test needs a runtime that does so, too.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));
static STAND: RwLock<Option<Stand>> = RwLock::const_new(None);

/// What the API server says to a write where somebody else is said to have been first.
const CONFLICT: Effect = Effect::Answer(Answer {
    code: 409,
    content_type: "application/json",
    headers: &[],
    body: r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Operation cannot be fulfilled: the object has been modified","reason":"Conflict","code":409}"#,
});

/// The control plane. What it stores is readable in etcd.
async fn cluster() -> Result<&'static ControlPlane> {
    static CLUSTER: OnceCell<ControlPlane> = OnceCell::const_new();
    let readable = vec!["--storage-media-type=application/json".into()];
    let options = Options { extra_apiserver_args: readable, ..Options::default() };
    CLUSTER.get_or_try_init(|| installed_with(options)).await
}

/// An operator behind a proxy.
struct Stand {
    operator: Operator,
    proxy: FaultProxy,
}

impl Stand {
    async fn start(flags: &[&str]) -> Result<Self> {
        let cluster = cluster().await?;
        let identity = countersign().identity(cluster).await?;
        let proxy = FaultProxy::start_on(RUNTIME.handle(), cluster, &identity).await?;
        let operator = countersign().start_as(cluster, proxy.identity(), flags).await?;
        Ok(Self { operator, proxy })
    }

    /// Fails unless the operator lives.
    fn lives(&mut self) -> Result<()> {
        ensure!(!self.operator.has_ended(), "the operator ended:\n{}", self.operator.log());
        Ok(())
    }
}

/// The operator and its proxy, shared with other tests: what harms a namespace alone.
async fn beside() -> Result<RwLockReadGuard<'static, Stand>> {
    loop {
        if let Ok(stand) = RwLockReadGuard::try_map(STAND.read().await, Option::as_ref) {
            return Ok(stand);
        }
        let mut stand = STAND.write().await;
        if stand.is_none() {
            *stand = Some(Stand::start(&[]).await?);
        }
    }
}

/// The control plane for oneself alone, with the operator that runs there, if one does.
async fn alone() -> Result<RwLockWriteGuard<'static, Option<Stand>>> {
    cluster().await?;
    Ok(STAND.write().await)
}

/// The same, with the operator behind its proxy.
async fn alone_with_proxy() -> Result<tokio::sync::RwLockMappedWriteGuard<'static, Stand>> {
    let mut stand = alone().await?;
    let lives = stand.as_mut().is_some_and(|stand| stand.lives().is_ok());
    if !lives {
        *stand = None;
        *stand = Some(Stand::start(&[]).await?);
    }
    let stand = RwLockWriteGuard::try_map(stand, Option::as_mut).ok().context("an operator")?;
    // A test that failed may have left anything.
    stand.proxy.calm("");
    stand.proxy.take_armed();
    Ok(stand)
}
