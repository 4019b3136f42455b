//! The operator is away.

use crate::support::{Space, by_sre, countersign, installed};
use crate::{ended, reviews, run};
use anyhow::Result;

#[tokio::test]
async fn while_the_operator_is_away_nothing_is_stored_and_that_is_said() -> Result<()> {
    let cluster = installed().await?;
    let operator = countersign().start(&cluster).await?;
    let space = Space::new(&cluster, "away").await?;
    space.policy(by_sre()).await?;
    space.bound("run").await?;
    operator.kill();
    let alice = cluster.user("alice", &["sre"])?;
    let refused = run("approve", &alice, &space, &["run", "--yes"]).await?;
    ended(&refused, 1, "away/run: not approved: the operator does not answer, so nothing was stored")?;
    assert_eq!(reviews(&space, "run").await?, 0);
    let operator = countersign().start(&cluster).await?;
    ended(&run("approve", &alice, &space, &["run", "--yes", "--wait", "20s"]).await?, 0, "released")?;
    operator.kill();
    Ok(())
}
