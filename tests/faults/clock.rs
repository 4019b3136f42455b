//! The operator's clock jumps an hour, forwards and back. It is the one clock that times are compared with, so that what is to
//! end after a while ends early or late; who approved what does not depend on it.

use crate::case::{Case, RUN};
use crate::judge::End;
use crate::support::clock::{Clock, HOUR};
use crate::support::{by_sre, merge};
use crate::*;
use countersign_testbed::{Answer, Countersign, Effect};
use serde_json::{Value, json};

const RESUMES: Duration = Duration::from_secs(5);

/// Rules under which a request waits for so long, and an approval as well.
fn waiting(pending: i64, release: i64) -> Value {
    let mut rules = by_sre();
    rules[0]["pendingTimeoutSeconds"] = json!(pending);
    rules[0]["releaseTimeoutSeconds"] = json!(release);
    rules
}

/// An operator behind a proxy, whose clock can be set.
async fn stand(name: &str) -> Result<(Stand, Clock)> {
    let cluster = cluster().await?;
    let clock = Clock::new(cluster.dir(), name).await?;
    let set = clock.environment().map(|(name, value)| format!("{name}={}", value.display()));
    let program = env!("CARGO_BIN_EXE_countersign");
    let with_clock = Countersign::new("env", &[&set[0], &set[1], program]);
    let proxy = FaultProxy::start_on(RUNTIME.handle(), cluster, &countersign().identity(cluster).await?).await?;
    let operator = with_clock.start_as(cluster, proxy.identity(), &[]).await?;
    Ok((Stand { operator, proxy }, clock))
}

/// Has the operator look at the request, as it does every five minutes.
async fn look(case: &Case) -> Result<()> {
    let seen = json!({"metadata": {"annotations": {"example.com/seen": "now"}}});
    merge(&case.space.api("jobs"), RUN, &seen).await?;
    Ok(())
}

#[tokio::test]
async fn an_hour_ahead_ends_what_was_to_end_and_approves_nothing() -> Result<()> {
    let mut place = alone().await?;
    *place = None;
    let (mut stand, clock) = stand("ahead").await?;
    let short = Case::pending_under("faults-clock-short", waiting(1800, 900)).await?;
    let long = Case::pending_under("faults-clock-long", waiting(3 * HOUR, 900)).await?;
    let reviewed = Case::pending_under("faults-clock-reviewed", waiting(1800, 3 * HOUR)).await?;
    // Approved in time, and not released before the clock jumps.
    let away = Answer { code: 503, content_type: "text/plain", headers: &[], body: "away" };
    for resource in ["jobs", "approvalrequests"] {
        let path = reviewed.path(resource);
        stand.proxy.storm(Fault { method: "PATCH".into(), path, effect: Effect::Answer(away) });
    }
    reviewed.approve().await?;
    clock.set(HOUR)?;
    stand.proxy.calm("");
    reviewed.released(RESUMES).await?;

    look(&short).await?;
    short.space.state(RUN, "Expired").await?;
    ensure!(short.try_to_approve().await.is_err(), "approved after its end");
    look(&long).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    ensure!(long.stored().await?["status"]["state"] == "Pending", "it had two hours left");
    long.approve().await?;
    long.released(RESUMES).await?;
    stand.lives()?;
    for (case, end) in [(short, End::Held), (long, End::Started), (reviewed, End::Started)] {
        case.ends(end).await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_hour_back_ends_nothing_early_and_reviews_count() -> Result<()> {
    let mut place = alone().await?;
    *place = None;
    let (mut stand, clock) = stand("back").await?;
    let before = Case::pending("faults-clock-before").await?;
    clock.set(-HOUR)?;
    let after = Case::pending("faults-clock-after").await?;
    for case in [before, after] {
        look(&case).await?;
        // What the operator reads of it changed nothing that was shown.
        case.approve().await?;
        case.released(RESUMES).await?;
        case.ends(End::Started).await?;
    }
    // And on again: whatever is older than it is, or younger than it may be, is no trouble.
    clock.set(0)?;
    let on = Case::pending("faults-clock-on").await?;
    on.approve().await?;
    on.released(RESUMES).await?;
    stand.lives()?;
    on.ends(End::Started).await
}
