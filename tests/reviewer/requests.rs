//! How much a command asks of the API server. carol is nobody else here, so that all she asks is counted.

use crate::support::{Space, by_sre, cluster};
use crate::{ended, run};
use anyhow::Result;
use countersign_testbed::AuditFilter;
use std::collections::BTreeMap;

#[tokio::test]
async fn an_approval_is_two_requests_and_one_more_to_hear_what_came_of_it() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "counted").await?;
    space.policy(by_sre()).await?;
    space.bound("first").await?;
    space.bound("second").await?;
    space.bound("third").await?;
    let carol = cluster.user("carol", &["sre"])?;
    let log = cluster.audit_log();
    let asked = async |args: &[&str], said: &str| -> Result<Vec<String>> {
        let mark = log.settle().await?;
        ended(&run("approve", &carol, &space, args).await?, 0, said)?;
        log.settle().await?;
        let events = log.select(mark, &AuditFilter::new().user("carol"))?;
        // A watch leaves two events of one request.
        let text = |event: &serde_json::Value, pointer: &str| {
            event.pointer(pointer).and_then(|text| text.as_str()).unwrap_or_default().to_string()
        };
        let verb = |event| format!("{} {}", text(event, "/verb"), text(event, "/objectRef/resource"));
        let each: BTreeMap<String, String> = events.iter().map(|e| (text(e, "/auditID"), verb(e))).collect();
        let mut verbs: Vec<String> = each.into_values().collect();
        verbs.sort();
        Ok(verbs)
    };
    let two = ["get approvalrequests", "patch approvalrequests"];
    assert_eq!(asked(&["first", "--yes", "--wait", "0"], "not waited for").await?, two);
    let three = ["get approvalrequests", "patch approvalrequests", "watch approvalrequests"];
    assert_eq!(asked(&["second", "--yes", "--wait", "20s"], "released").await?, three);
    assert_eq!(asked(&[], "third").await?, ["create selfsubjectreviews", "list approvalrequests"]);
    Ok(())
}
