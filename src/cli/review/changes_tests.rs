use super::*;
use crate::cli::review::fixture::{facts, pending};
use serde_json::json;

fn seen(change: impl Fn(&mut Value, &mut Value)) -> Seen {
    let mut request = pending("run");
    let mut job = json!({"metadata": {"name": "job", "uid": "j"}, "spec": {"template": {"spec": {
        "containers": [{"name": "main", "image": "a:1", "env": [{"name": "MODE", "value": "safe"}]}]}}}});
    change(&mut request, &mut job);
    Seen { request, target: Some(job) }
}

#[test]
fn what_is_another_is_told_with_both_sides() {
    let before = seen(|_, _| {});
    let after = seen(|request, job| {
        job["spec"]["template"]["spec"]["containers"][0]["image"] = json!("mallory:1");
        request["status"]["scope"] =
            json!([{"tag": "prod", "source": "Declared"}, {"tag": "host", "source": "Derived"}]);
        request["status"]["digest"] = json!("sha256:other");
    });
    assert_eq!(
        changes(&before, &after),
        [
            "+ Scope: host (Derived)",
            "- Job: main: a:1 runs the image's own command",
            "+ Job: main: mallory:1 runs the image's own command",
        ]
    );
    let mut gone = seen(|_, _| {});
    gone.target = None;
    assert!(changes(&before, &gone).contains(&"+ Job: job (not at hand)".to_string()));
}

#[test]
fn a_change_that_no_card_shows_is_told_as_such() {
    let before = seen(|request, _| request["status"]["jobHash"] = json!("1"));
    let after = seen(|request, job| {
        request["status"]["jobHash"] = json!("2");
        job["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] = json!("unsafe");
    });
    assert!(changes(&before, &after)[0].contains("in a part that the card does not show"));
    let rebound = seen(|request, _| {
        request["status"]["jobHash"] = json!("1");
        request["status"]["revision"] = json!(2);
    });
    assert!(changes(&before, &rebound)[0].starts_with("nothing that the card shows"));
}

#[test]
fn many_and_long_differences_stay_in_bounds() {
    let tags = |n: usize| -> Value {
        (0..n).map(|i| json!({"tag": format!("t{i}"), "source": "Derived", "detail": "x".repeat(400)})).collect()
    };
    let told = changes(&seen(|_, _| {}), &seen(|request, _| request["status"]["scope"] = tags(40)));
    assert_eq!((told.len(), told.last().map(String::as_str)), (MOST + 1, Some("and 25 more")));
    assert!(told[1].contains("more characters)") && told.iter().all(|line| line.chars().count() < 300));
}

#[test]
fn only_the_requesters_own_last_release_is_compared() {
    let released = |name: &str, time: &str, change: &dyn Fn(&mut Value)| {
        let mut request = pending(name);
        request["status"]["state"] = json!("Released");
        let condition = json!({"type": "Released", "status": "True", "reason": "Approved", "message": "", "lastTransitionTime": time});
        request["status"]["conditions"].as_array_mut().expect("conditions").push(condition);
        change(&mut request);
        request
    };
    let all = [
        released("old", "2026-11-18T00:00:00Z", &|_| {}),
        released("last", "2026-11-19T00:00:00Z", &|request| {
            request["status"]["approvals"][0]["required"] = json!(2);
            request["spec"]["reason"] = json!("weekly");
        }),
        released("forged", "2026-11-20T00:00:00Z", &|request| {
            request["spec"]["requester"]["username"] = json!("mallory")
        }),
        released("other-step", "2026-11-20T00:00:00Z", &|request| request["spec"]["stepID"] = json!("t")),
        released("denied", "2026-11-20T00:00:00Z", &|request| request["status"]["state"] = json!("Denied")),
        released("run", "2026-11-20T00:00:00Z", &|_| {}),
    ];
    let facts_of: Vec<_> = all.iter().map(facts).collect();
    let now = pending("run");
    let (time, earlier) = last_released(&facts(&now), facts_of.iter().zip(&all)).expect("an earlier release");
    assert_eq!((time.to_string().as_str(), &earlier["metadata"]["name"]), ("2026-11-19T00:00:00Z", &json!("last")));
    assert_eq!(
        since(earlier, &now),
        ["- Reason: weekly", "+ Reason: why", "- Needs: 2 from sre (Group sre)", "+ Needs: 1 from sre (Group sre)"]
    );
    assert_eq!(since(&now, &now), [""; 0]);
}
