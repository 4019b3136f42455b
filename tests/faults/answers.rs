//! The API server, or what stands before it, gives the operator's writes other answers than they deserve, for a while.

use crate::case::{Case, RUN};
use crate::judge::End;
use crate::*;
use countersign_testbed::{Answer, Effect};
use serde_json::Value;

/// How long a storm lasts.
const STORM: Duration = Duration::from_secs(2);
/// Within that time after a storm what was approved is released: the operator waits twice as long after each failure.
const RESUMES: Duration = Duration::from_secs(5);
/// The same where the operator waits for an answer that never comes.
const UNANSWERED: Duration = Duration::from_secs(20);
/// Writes on one request in a storm, at most.
const MOST: usize = 8;

fn answer(code: u16, content_type: &'static str, body: &'static str) -> Effect {
    Effect::Answer(Answer { code, content_type, headers: &[], body })
}

/// Alice approves while every write on the Job and on the request's status comes to that. Returns what the operator said.
async fn storm(name: &str, effect: Effect, most: usize, resumes: Duration) -> Result<String> {
    let stand = beside().await?;
    let case = Case::pending(name).await?;
    for resource in ["jobs", "approvalrequests"] {
        stand.proxy.storm(Fault { method: "PATCH".into(), path: case.path(resource), effect });
    }
    let writes =
        || ["jobs", "approvalrequests"].map(|resource| stand.proxy.count(&case.path(resource))).iter().sum::<usize>();
    let before = writes();
    case.approve().await?;
    tokio::time::sleep(STORM).await;
    let asked = writes() - before;
    ensure!(!case.space.started(RUN).await?, "it was started though every write was refused");
    stand.proxy.calm(&case.part());
    let resumed = case.released(resumes).await?;
    eprintln!("{name}: {asked} writes in {STORM:?}, released {resumed:?} later");
    ensure!((1..=most).contains(&asked), "{asked} writes in {STORM:?}");
    case.ends(End::Started).await?;
    Ok(stand.operator.log())
}

#[tokio::test]
async fn conflicts_without_end_are_tried_more_and_more_rarely() -> Result<()> {
    storm("faults-409", CONFLICT, MOST, RESUMES).await.map(drop)
}

/// As the API server says it where it has too much to do: the time stands in the header, and the body is no Status.
#[tokio::test]
async fn an_api_server_that_asks_for_time_is_given_it() -> Result<()> {
    let busy = Answer {
        code: 429,
        content_type: "text/plain; charset=utf-8",
        headers: &[("Retry-After", "2")],
        body: "Too many requests, please try again later.\n",
    };
    storm("faults-429", Effect::Answer(busy), 2, RESUMES).await.map(drop)
}

#[tokio::test]
async fn an_internal_error_is_tried_again() -> Result<()> {
    let failed = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"etcdserver: request timed out","code":500}"#;
    storm("faults-500", answer(500, "application/json", failed), MOST, RESUMES).await.map(drop)
}

/// As a load balancer without a server says it.
#[tokio::test]
async fn a_page_that_says_unavailable_is_tried_again() -> Result<()> {
    let page = "<html><head><title>503 Service Temporarily Unavailable</title></head><body>nginx</body></html>";
    storm("faults-503", answer(503, "text/html", page), MOST, RESUMES).await.map(drop)
}

#[tokio::test]
async fn a_gateway_that_timed_out_is_tried_again() -> Result<()> {
    storm("faults-504", answer(504, "text/html", "<html>504 Gateway Time-out</html>"), MOST, RESUMES).await.map(drop)
}

/// JSON that is no Status, as a service mesh may answer: it says nothing of what the API server thinks of the write.
#[tokio::test]
async fn an_error_in_words_of_somebody_else_is_no_refusal() -> Result<()> {
    let name = "faults-mesh";
    let mesh = answer(503, "application/json", r#"{"error":"no healthy upstream"}"#);
    let said = storm(name, mesh, MOST, RESUMES).await?;
    let of_it: Vec<_> = said.lines().filter(|line| line.contains(name)).collect();
    ensure!(of_it.iter().any(|line| line.contains("failed, trying again")), "{of_it:#?}");
    ensure!(!of_it.iter().any(|line| line.contains("the API server refused it")), "{of_it:#?}");
    Ok(())
}

/// A page in place of an answer, with a code that says that all went well: nothing was written.
#[tokio::test]
async fn a_page_that_says_ok_is_no_answer() -> Result<()> {
    storm("faults-200", answer(200, "text/html", "<html>Sign in</html>"), MOST, RESUMES).await.map(drop)
}

/// The connection is accepted, and nothing comes: each request has a deadline, and the next goes through.
#[tokio::test]
async fn a_write_that_is_never_answered_is_given_up() -> Result<()> {
    storm("faults-hole", Effect::HoldBefore, MOST, UNANSWERED).await.map(drop)
}

/// Each write is stored and the answer to it is cut within its body, once: the Job is not started twice.
#[tokio::test]
async fn an_answer_that_is_cut_short_makes_nothing_happen_twice() -> Result<()> {
    let stand = beside().await?;
    let case = Case::pending("faults-cut").await?;
    for resource in ["jobs", "approvalrequests"] {
        let effect = Effect::Truncate(40);
        stand.proxy.inject(Fault { method: "PATCH".into(), path: case.path(resource), effect });
    }
    let before = stand.proxy.count(&case.part());
    case.approve().await?;
    let took = case.released(RESUMES).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let asked = stand.proxy.count(&case.part()) - before;
    eprintln!("answers cut: released after {took:?}, {asked} requests");
    ensure!(asked <= MOST, "{asked} requests");
    ensure!(!stand.proxy.is_armed(&case.part()), "no request met the fault");
    case.ends(End::Started).await
}

/// A create that conflicts though nothing is there, as with a quota that others use up at the same time: records of the audit
/// trail are named by their number, and a conflict means that somebody else wrote it, but for this.
#[tokio::test]
async fn a_record_that_conflicts_with_nothing_is_tried_more_and_more_rarely() -> Result<()> {
    let stand = beside().await?;
    let case = Case::pending("faults-records").await?;
    let path = "/apis/countersign.dev/v1alpha1/namespaces/countersign-system/approvalrecords";
    stand.proxy.storm(Fault { method: "POST".into(), path: path.into(), effect: CONFLICT });
    let before = stand.proxy.count(path);
    case.approve().await?;
    case.released(RESUMES).await?;
    tokio::time::sleep(STORM).await;
    let asked = stand.proxy.count(path) - before;
    stand.proxy.calm(path);
    eprintln!("records that conflict: {asked} requests in {STORM:?}");
    ensure!((2..=MOST * 2).contains(&asked), "{asked} requests for records in {STORM:?}");
    case.ends(End::Started).await
}

/// What an API server says that has just started and does not know its roles yet.
const NO_ROLES_YET: &str = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"jobs.batch \"run\" is forbidden: User \"system:serviceaccount:countersign-system:countersign\" cannot patch resource \"jobs\" in API group \"batch\": RBAC: clusterrole.rbac.authorization.k8s.io \"countersign\" not found","reason":"Forbidden","code":403}"#;
/// What somebody else's policy says to a note on a Job.
const NO_NOTES: &str = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"admission webhook \"others.example\" denied the request: nobody writes to Jobs","code":403}"#;

/// Alice denies while every write on the Job is refused with that. Whoever calls keeps the stand until all is answered: the storm
/// ends with its proxy.
async fn denied_under(stand: &Stand, name: &str, refusal: &'static str) -> Result<Case> {
    let case = Case::pending(name).await?;
    let effect = answer(403, "application/json", refusal);
    stand.proxy.storm(Fault { method: "PATCH".into(), path: case.path("jobs"), effect });
    case.deny().await?;
    Ok(case)
}

/// What is noted on the Job of the end of its request.
async fn noted(case: &Case) -> Result<Value> {
    Ok(case.space.get("jobs", RUN).await?["metadata"]["annotations"]["countersign.dev/closed"].clone())
}

/// A denial without its note would be forgotten with its request, and the Job could be asked for again.
#[tokio::test]
async fn a_denial_is_noted_on_its_job_though_the_api_server_refuses_that_at_first() -> Result<()> {
    let stand = beside().await?;
    let case = denied_under(&stand, "faults-403", NO_ROLES_YET).await?;
    tokio::time::sleep(STORM).await;
    ensure!(case.stored().await?["status"]["state"] != "Denied", "it ended without its note");
    stand.proxy.calm(&case.part());
    case.comes_to("Denied", RESUMES).await?;
    let note = noted(&case).await?;
    let uid = &case.stored().await?["metadata"]["uid"];
    ensure!(note == format!("Denied {} {}", case.digest, uid.as_str().unwrap_or_default()), "{note}");
    case.ends(End::Held).await
}

/// Nobody waits for good for the end of a request because its Job takes no note.
#[tokio::test]
async fn a_denial_whose_note_is_refused_for_good_ends_its_request_all_the_same() -> Result<()> {
    let stand = beside().await?;
    let case = denied_under(&stand, "faults-403-for-good", NO_NOTES).await?;
    let took = case.comes_to("Denied", Duration::from_secs(60)).await?;
    stand.proxy.calm(&case.part());
    eprintln!("denied after {took:?} without a note");
    ensure!(took > Duration::from_secs(9), "given up after {took:?}");
    ensure!(noted(&case).await?.is_null(), "there is a note");
    ensure!(stand.operator.log().contains("could not be noted on its Job"), "nothing was said of it");
    case.ends(End::Held).await
}
