//! The match conditions of the webhooks, in CEL: what the API server decides itself before it asks. All of a webhook's
//! conditions must hold. One that fails counts like a webhook that fails, so each is total.

use crate::admission::pod::{JOB_CONTROLLER, MIRROR, NODES, SHARED, WORKLOAD_CONTROLLERS};
use crate::api::names;

/// A name and a CEL expression.
type Condition = (&'static str, String);

/// The operator's own writes are not sent.
pub(super) fn not_the_operator(operator: &str) -> Condition {
    ("not-the-operator", format!("request.userInfo.username != '{operator}'"))
}

/// A suspended Job is started, and no reason to override comes with it.
pub(super) fn starts_without_override() -> [Condition; 2] {
    let reason = |object: &str| format!("{object}.metadata.?annotations[?'{}'].orValue('')", names::OVERRIDE_REASON);
    let (old, new) = (reason("oldObject"), reason("object"));
    [
        ("starts", "oldObject.spec.?suspend.orValue(false) && !object.spec.?suspend.orValue(false)".into()),
        ("without-override", format!("{new} == '' || {new} == {old}")),
    ]
}

/// A CronJob is created, or more than its metadata and status changes.
pub(super) fn spec_changes() -> Condition {
    ("spec-changes", "request.operation == 'CREATE' || object.spec != oldObject.spec".into())
}

/// Pods that the Job controller makes, and those that a node shows, cost no call.
pub(super) fn not_trusted() -> Vec<Condition> {
    let made_for_a_job = "object.metadata.?ownerReferences.orValue([]).exists(owner, owner.?controller.orValue(false) && owner.apiVersion == 'batch/v1' && owner.kind == 'Job')";
    vec![
        not_by(&[JOB_CONTROLLER]),
        (
            "not-by-the-job-controller-by-another-name",
            format!("request.userInfo.username != '{SHARED}' || !{made_for_a_job}"),
        ),
        not_a_mirror(),
    ]
}

/// The same where the controllers of Deployments and the like are trusted too.
pub(super) fn not_trusted_beside_workloads() -> Vec<Condition> {
    let mut trusted = vec![JOB_CONTROLLER, SHARED];
    trusted.extend(WORKLOAD_CONTROLLERS);
    vec![not_by(&trusted), not_a_mirror()]
}

fn not_by(trusted: &[&str]) -> Condition {
    let names: Vec<String> = trusted.iter().map(|name| format!("'{name}'")).collect();
    ("not-by-a-trusted-controller", format!("!(request.userInfo.username in [{}])", names.join(", ")))
}

fn not_a_mirror() -> Condition {
    (
        "not-a-mirror-pod",
        format!(
            "!('{NODES}' in request.userInfo.?groups.orValue([]) && '{MIRROR}' in object.metadata.?annotations.orValue({{}}))"
        ),
    )
}
