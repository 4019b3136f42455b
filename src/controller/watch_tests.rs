use super::*;
use kube::client::Body;
use kube::core::ApiResource;
use serde_json::json;
use std::convert::Infallible;

/// Lists two pages of one object each, and has forgotten every version that a watch asks for.
fn forgetful() -> Api<Stored> {
    let answer = |request: axum::http::Request<Body>| async move {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let page = |name: &str, changed: &str, more: &str| {
            json!({"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "7", "continue": more},
                "items": [{"metadata": {"name": name, "namespace": "a", "resourceVersion": changed}}]})
        };
        let (code, body) = match () {
            () if query.contains("watch=true") => (410, json!({"status": "Failure", "reason": "Expired", "code": 410})),
            () if query.contains("continue=") => (200, page("second", "3", "")),
            () => (200, page("first", "5", "more")),
        };
        let answer = axum::http::Response::builder().status(code).body(Body::from(body.to_string().into_bytes()));
        Ok::<_, Infallible>(answer.unwrap())
    };
    let client = kube::Client::new(tower::service_fn(answer), "default");
    let pods = ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&());
    crate::controller::object::api(&client, None, &pods)
}

#[tokio::test(start_paused = true)]
async fn a_first_list_is_told_by_pages_and_a_later_one_at_once() {
    let told = std::cell::RefCell::new(vec![]);
    let names = |objects: Vec<DynamicObject>| objects.iter().map(|object| name_of(object).1).collect::<Vec<_>>();
    let sink = |change| {
        told.borrow_mut().push(match change {
            Change::Page(objects) => ("page", names(objects), 0),
            Change::All(listed, earlier, _) => ("all", names(listed.into_objects().collect()), earlier.len()),
            _ => unreachable!("the watch tells nothing"),
        });
        std::future::ready(())
    };
    let (scope, pulse) = (Scope { by_page: true, ..Scope::default() }, Pulse::new());
    let following = follow(forgetful(), "Pod", scope, &pulse, sink);
    assert!(tokio::time::timeout(Duration::from_secs(1), following).await.is_err(), "it goes on for ever");
    let told = told.into_inner();
    let named = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let (first, second) = (named(&["first"]), named(&["second"]));
    assert_eq!(told[..3], [("page", first, 0), ("page", second, 0), ("all", vec![], 2)]);
    assert_eq!(told[3], ("all", named(&["second", "first"]), 2), "what was changed first comes first");
}

#[test]
fn the_first_to_end_is_renewed_at_once_and_those_after_it_more_and_more_rarely() {
    let (mut unrest, short) = (Unrest::default(), Duration::from_millis(1));
    let mut rests = |ended: Ended, lasted| unrest.after(&ended, lasted).as_millis();
    assert_eq!(rests(Ended::Resume, LASTING), 0);
    let waits = [Ended::Resume, Ended::Relist, Ended::Relist].map(|ended| rests(ended, short));
    assert_eq!(waits, [200, 400, 800]);
    assert_eq!([(); 2].map(|()| rests(Ended::Failed(Duration::ZERO), short)), [200, 400], "counted apart");
    assert_eq!([(); 3].map(|()| rests(Ended::Resume, short)), [1600, 3200, 5000]);
    assert_eq!(rests(Ended::Failed(Duration::from_secs(30)), LASTING), 30_000, "as long as it is asked to");
    assert_eq!(rests(Ended::Relist, LASTING), 0, "one that lasted begins anew");
}

#[test]
fn a_watch_that_never_spoke_is_not_fresh() {
    let pulse = Pulse::new();
    assert!(!pulse.is_fresh());
    pulse.beat();
    assert!(pulse.is_fresh());
}

/// Opens watches after `delay` each, and never says anything on them.
fn silent(delay: Duration) -> Api<Stored> {
    use axum::body::{Body, Bytes};
    let answer = move |request: axum::http::Request<kube::client::Body>| async move {
        let watches = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        if watches {
            tokio::time::sleep(delay).await;
        }
        let list = r#"{"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "7"}, "items": []}"#;
        let body = match watches {
            true => Body::from_stream(futures::stream::pending::<Result<Bytes, Infallible>>()),
            false => Body::from(list),
        };
        Ok::<_, Infallible>(axum::http::Response::new(body))
    };
    let client = kube::Client::new(tower::service_fn(answer), "default");
    crate::controller::object::api(&client, None, &ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&()))
}

/// Whether a watch that is opened after so long, and never speaks, is fresh at each second of ten minutes.
async fn stays_fresh(delay: Duration) -> bool {
    let pulse = Pulse::new();
    let following = follow(silent(delay), "Pod", Scope::default(), &pulse, |_| std::future::ready(()));
    let looking = async {
        tokio::time::sleep(delay).await;
        for _ in 0..600 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if !pulse.is_fresh() {
                return false;
            }
        }
        true
    };
    tokio::select! {
        () = following => unreachable!("it follows for ever"),
        fresh = looking => fresh,
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_with_nothing_to_tell_is_opened_anew_before_it_counts_as_dead() {
    assert!(stays_fresh(Duration::from_secs(5)).await, "a busy API server takes its time");
    assert!(!stays_fresh(Duration::from_secs(60)).await, "one that is not opened in time says nothing");
}
