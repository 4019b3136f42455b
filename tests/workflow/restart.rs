//! The Pod is killed, and its successor runs the same command.

use crate::lab;
use anyhow::Result;

#[tokio::test]
async fn a_killed_command_finds_its_request_again() -> Result<()> {
    let lab = lab().await?;
    let desk = lab.desk("killed").await?;
    let mut run = desk.start("a", &[])?;
    run.says("Pending").await?;
    run.kill().await?;
    let uid = desk.uid("approvalrequests", "run-8f9a-a").await?;
    let mut again = desk.start("a", &[])?;
    again.says("killed/run-8f9a-a: found").await?;
    desk.decide("run-8f9a-a", "Approve").await?;
    again.ends(0, "Released").await?;
    assert_eq!((desk.uid("approvalrequests", "run-8f9a-a").await?, desk.requests().await?), (uid, 1));
    // After the end, too.
    desk.start("a", &[])?.ends(0, "Released").await?;
    Ok(())
}

#[tokio::test]
async fn two_of_the_same_command_wait_for_one_request() -> Result<()> {
    let lab = lab().await?;
    let desk = lab.desk("twins").await?;
    let (one, two) = (desk.start("a", &[])?, desk.start("a", &[])?);
    desk.decide("run-8f9a-a", "Approve").await?;
    one.ends(0, "Released").await?;
    two.ends(0, "Released").await?;
    assert_eq!(desk.requests().await?, 1);
    Ok(())
}
