//! What `countersign policy test` makes of reviews, of time, and of whose a Job is.

use crate::{Folder, POLICY};
use anyhow::Result;

/// A test of a request by mallory, tagged prod, with these reviews and expectations.
fn reviewed(reviews: &str, expect: &str) -> String {
    format!(
        "name: a\nnamespace: {{name: x}}\nrequester: {{username: mallory}}\nrequest: {{riskTags: [prod]}}\nreviews: {reviews}\nexpect: {expect}\n"
    )
}

/// Runs one test of `policy`, and returns the exit code and what was said.
fn outcome(policy: &str, objects: &str, test: &str) -> Result<(Option<i32>, String)> {
    let folder = Folder::new()?;
    folder.write("policy.yaml", policy)?;
    folder.write("objects.yaml", objects)?;
    folder.test(test)?;
    if !objects.is_empty() {
        let path = folder.0.path().join("p.test.yaml");
        let text = std::fs::read_to_string(&path)?.replace("\ntests:", "\nobjects: [objects.yaml]\ntests:");
        std::fs::write(path, text)?;
    }
    let (code, out, error) = folder.run(&["p.test.yaml"])?;
    Ok((code, out + &error))
}

#[test]
fn reviews_are_heard_in_the_order_of_time_until_the_end() -> Result<()> {
    let by = |who: &str, what: &str, after: u32| {
        format!("{{reviewer: {who}, groups: [sre], decision: {what}, after: {after}}}")
    };
    let frozen = POLICY.replace(
        "    approvals: {req",
        "    freezeWindows: [{name: noon, start: \"0 12 * * *\", durationSeconds: 7200}]\n    approvals: {req",
    );
    for (policy, reviews, expect, fails) in [
        // Nobody takes a denial of what runs.
        (
            POLICY,
            format!("[{}, {}]", by("alice", "Approve", 60), by("bob", "Deny", 3000)),
            "{approved: true, denied: false, released: now}",
            "Deny by bob at 2026-01-07T12:50:00Z, and it had ended before: it was released at 2026-01-07T12:01:00Z",
        ),
        (
            POLICY,
            format!("[{}]", by("bob", "Deny", 300_000)),
            "{approved: false, denied: false}",
            "it had ended before: it expired at 2026-01-07T13:00:00Z",
        ),
        // The order in which they are written down is none.
        (
            POLICY,
            format!("[{}, {}]", by("alice", "Deny", 500), by("alice", "Approve", 60)),
            "{approved: true, denied: false}",
            "Deny by alice at 2026-01-07T12:08:20Z, and it had ended before: it was released",
        ),
        (
            POLICY,
            format!("[{}, {}]", by("bob", "Deny", 60), by("alice", "Approve", 90)),
            "{denied: true}",
            "Approve by alice at 2026-01-07T12:01:30Z, and it had ended before: it was denied at 2026-01-07T12:01:00Z",
        ),
        (POLICY, format!("[{}]", by("alice", "Approve", 3600)), "{approved: true, released: now}", ""),
        (POLICY, format!("[{}]", by("alice", "Approve", 3601)), "{approved: false}", "it expired at"),
        // A denial stops what waits for a window.
        (
            &frozen,
            format!("[{}, {}]", by("bob", "Deny", 3000), by("alice", "Approve", 60)),
            "{approved: false, denied: true, released: false}",
            "",
        ),
        (&frozen, format!("[{}]", by("alice", "Approve", 60)), "{released: 2026-01-07T14:00:00Z}", ""),
    ] {
        let (code, said) = outcome(policy, "", &reviewed(&reviews, expect))?;
        assert_eq!(code, Some(i32::from(!fails.is_empty())), "{reviews}: {said}");
        let told = format!("reviews: expected each comes before the request ends, found {}", "");
        assert!(said.contains(fails) && (fails.is_empty() || said.contains(told.trim_end())), "{reviews}: {said}");
        assert_eq!(said.matches(": expected ").count(), usize::from(!fails.is_empty()), "{reviews}: {said}");
    }
    Ok(())
}

#[test]
fn what_policy_denies_takes_no_review_and_may_say_so() -> Result<()> {
    let denied = POLICY.replace("when: {riskTags: [never-said]}", "when: {riskTags: [prod]}");
    let reviews = "[{reviewer: alice, groups: [sre]}, {reviewer: bob, groups: [sre]}]";
    let (code, said) = outcome(&denied, "", &reviewed(reviews, "{denied: true, approved: false}"))?;
    assert_eq!(code, Some(0), "{said}");
    Ok(())
}

#[test]
fn a_requirement_is_compared_with_whom_it_asks() -> Result<()> {
    let both = POLICY.replace("{kind: Group, name: sre}", "{kind: Group, name: sre}, {kind: User, name: alice}");
    let exact = "{requirements: {sre: {count: 1, approvers: [{kind: Group, name: sre}]}}}";
    for (policy, expect, found) in [
        (POLICY, exact, ""),
        (POLICY, "{requirements: {sre: 1}}", ""),
        (&both, "{requirements: {sre: 1}}", ""),
        (
            &both,
            "{requirements: {sre: {count: 1, approvers: [{kind: User, name: alice}, {kind: Group, name: sre}]}}}",
            "",
        ),
        (&both, exact, "requirements: expected sre: 1 from sre, found sre: 1 from user alice or sre"),
        (
            POLICY,
            "{requirements: {sre: {count: 2, approvers: [{kind: Group, name: sre}]}}}",
            "requirements: expected sre: 2 from sre, found sre: 1 from sre",
        ),
        (POLICY, "{requirements: {}}", "requirements: expected none, found sre: 1 from sre"),
    ] {
        let (code, said) = outcome(policy, "", &reviewed("[]", expect))?;
        assert_eq!(code, Some(i32::from(!found.is_empty())), "{expect}: {said}");
        assert!(said.contains(found), "{expect}: expected {found:?} in {said}");
    }
    Ok(())
}

/// A Job in a gated namespace; `metadata` is what stands in it beside its name.
fn gated(metadata: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Namespace
metadata: {{name: x, labels: {{countersign.dev/gate: enforce}}}}
---
apiVersion: batch/v1
kind: Job
metadata: {{name: j, {metadata}}}
spec: {{suspend: true, template: {{spec: {{restartPolicy: Never, containers: [{{name: m, image: "a:1"}}]}}}}}}
"#
    )
}

#[test]
fn in_a_gated_namespace_only_the_creator_asks() -> Result<()> {
    let policy = POLICY.replace("when: {riskTags: [prod]}", "when: {}");
    let of_bob = gated("annotations: {countersign.dev/created-by: bob}");
    let test = |who: &str, namespace: &str, expect: &str| {
        format!(
            "name: a\nnamespace: {namespace}\nrequester: {{username: {who}}}\njob: j\nreviews: [{{reviewer: alice, groups: [sre]}}]\nexpect: {expect}"
        )
    };
    let (fine, foreign) =
        ("{approved: true, released: now}", "{approved: false, held: \"TargetForeign: it was created by bob\"}");
    for (objects, test) in [
        (&of_bob, test("bob", "x", fine)),
        (&of_bob, test("mallory", "x", foreign)),
        (&of_bob, test("mallory", "{name: x}", fine)),
        // Nobody is written down: the gate stamps whoever creates it.
        (&gated(""), test("mallory", "x", fine)),
    ] {
        let (code, said) = outcome(&policy, objects, &test)?;
        assert_eq!(code, Some(0), "{test}: {said}");
    }
    Ok(())
}

#[test]
fn a_job_of_a_cronjob_is_asked_for_in_its_name() -> Result<()> {
    let policy = POLICY.replace("when: {riskTags: [prod]}", "when: {requestedBy: [\"cronjob/report\"]}");
    let owner = "ownerReferences: [{apiVersion: batch/v1, kind: CronJob, name: report, uid: u, controller: true}]";
    let cron = "requester: {username: \"system:serviceaccount:kube-system:cronjob-controller\"}";
    let alice = "requester: {username: alice}";
    for (requester, expect) in [(cron, "{rules: [p/by-sre]}"), (alice, "{decision: NoMatch}")] {
        let test = format!("name: a\nnamespace: x\n{requester}\njob: j\nexpect: {expect}");
        let (code, said) = outcome(&policy, &gated(owner), &test)?;
        assert_eq!(code, Some(0), "{requester}: {said}");
    }
    Ok(())
}

const REQUEST: &str = r#"
---
apiVersion: countersign.dev/v1alpha1
kind: ApprovalRequest
metadata: {name: run, namespace: x, creationTimestamp: "2026-11-21T10:00:00Z"}
spec:
  {runID: r, stepID: s, requestedBy: w, reason: r, requester: {username: mallory}, target: {apiVersion: batch/v1, kind: Job, name: j}}
"#;

#[test]
fn a_stored_request_says_what_it_targets_and_when_it_was_made() -> Result<()> {
    let tagged = POLICY.replace("  rules:", "  classifiers: [{tag: by-tag, when: {imageTags: true}}]\n  rules:");
    let policy = tagged.replace("riskTags: [prod]", "riskTags: [by-tag]");
    let objects = gated("") + REQUEST;
    for (test, code, said) in [
        ("expect: {tags: [by-tag], rules: [p/by-sre]}", 0, ""),
        ("job: j\nexpect: {tags: [by-tag]}", 0, ""),
        (
            "at: 2026-11-21T10:00:00Z\nreviews: [{reviewer: alice, groups: [sre]}]\nexpect: {released: 2026-11-21T10:01:00Z}",
            0,
            "",
        ),
        ("job: other\nexpect: {tags: [by-tag]}", 2, "job: is other, and the request targets Job j; leave it out"),
        ("pod: j\nexpect: {tags: [by-tag]}", 2, "pod: is j, and the request targets Job j"),
        (
            "at: 2026-11-22T10:00:00Z\nexpect: {tags: [by-tag]}",
            2,
            "at: is 2026-11-22T10:00:00Z, and the request was created at",
        ),
    ] {
        let (found, text) = outcome(&policy, &objects, &format!("name: a\nnamespace: x\nrequest: run\n{test}"))?;
        assert_eq!(found, Some(code), "{test}: {text}");
        assert!(text.contains(said), "{test}: {text}");
    }
    Ok(())
}

#[test]
fn what_keeps_the_operator_from_a_release_is_held_here_too() -> Result<()> {
    let window = |start: u8| {
        format!(
            "    freezeWindows: [{{name: w, start: \"0 {start} * * *\", durationSeconds: 50000}}]\n    approvals: {{req"
        )
    };
    let half = |start: u8| POLICY.replace("    approvals: {req", &window(start));
    let folder = Folder::new()?;
    folder.write("policy.yaml", &half(0))?;
    folder.write("q.yaml", &half(12).replace("name: p}", "name: q}"))?;
    folder.test(&reviewed(
        "[{reviewer: alice, groups: [sre]}]",
        "{held: NeverOpens, released: false, approved: false}",
    ))?;
    let path = folder.0.path().join("p.test.yaml");
    let text = std::fs::read_to_string(&path)?.replace("[policy.yaml]", "[policy.yaml, q.yaml]");
    std::fs::write(path, text)?;
    let (code, out, error) = folder.run(&["p.test.yaml"])?;
    assert_eq!(code, Some(0), "{out}{error}");

    let pinned = POLICY.replace("    approvals: {req", "    requireImageDigests: true\n    approvals: {req");
    let pinned = pinned.replace("when: {riskTags: [prod]}", "when: {}");
    let test = |expect: &str| format!("name: a\nnamespace: x\nrequester: {{username: bob}}\njob: j\nexpect: {expect}");
    let (code, said) = outcome(&pinned, &gated(""), &test("{held: \"ImagesNotPinned: rule p/by-sre\"}"))?;
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = outcome(&pinned, &gated(""), &test("{decision: RequireApproval}"))?;
    assert_eq!(code, Some(1), "what holds it must be expected: {said}");
    Ok(())
}
