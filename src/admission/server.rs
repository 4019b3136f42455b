//! The HTTPS server for admission. No verdict waits for I/O, but for that on a review of a request which names approvers of
//! kind `Authorized`: who those are, the cluster's authorizer knows.

use crate::admission::deciders::Deciders;
use crate::admission::{AdmissionReview, Answer, Context, GateView, NotAReview, Verdict, registration};
use crate::audit::Refusals;
use crate::binding::Keyring;
use crate::telemetry::{Answered, Asked, Readiness, WorkMetrics};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, StatusCode, Version, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use jiff::Timestamp;
use rustls::ServerConfig;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tracing::warn;

/// Largest review that is read: two objects of the largest size that etcd takes, and room around them.
const LARGEST: usize = 8 << 20;

/// What the server needs.
#[derive(Clone)]
pub struct Server {
    /// Seals reviews.
    pub key: Arc<Keyring>,
    /// What the operator knows, for verdicts that rest on policy.
    pub view: Arc<dyn GateView>,
    /// Whom the cluster authorizes to approve.
    pub deciders: Arc<Deciders>,
    /// Whether the operator can do its part.
    pub readiness: Readiness,
    /// Where refusals are counted for the audit trail.
    pub refusals: Arc<Mutex<Refusals>>,
    /// Where it is told how long an answer took.
    pub metrics: WorkMetrics,
}

/// The routes: `/admit` for reviews, `/admit/warn` for those of namespaces whose gate only warns, `/admit/stamp` for policies
/// that are still to be changed, `/healthz` and `/readyz` for probes.
pub fn router(server: Server) -> Router {
    Router::new()
        .route(registration::PATH, post(admit))
        .route(&format!("{}{}", registration::PATH, registration::WARN), post(advise))
        .route(&format!("{}{}", registration::PATH, registration::STAMP), post(stamp))
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .layer(DefaultBodyLimit::max(LARGEST))
        .layer(from_fn_with_state(server.readiness.clone(), farewell))
        .with_state(server)
}

async fn admit(State(server): State<Server>, body: Bytes) -> Response {
    let began = Instant::now();
    let review = match AdmissionReview::read(&body) {
        Ok(review) => review,
        Err(why) => return server.not_a_review(Asked::Admit, began, &why),
    };
    let answer = server.judge(&review).await;
    server.answered(Asked::Admit, began, &review, answer)
}

async fn advise(State(server): State<Server>, body: Bytes) -> Response {
    let began = Instant::now();
    let review = match AdmissionReview::read(&body) {
        Ok(review) => review,
        Err(why) => return server.not_a_review(Asked::Warn, began, &why),
    };
    let answer = review.advise(&server.context(&[]));
    server.answered(Asked::Warn, began, &review, answer)
}

async fn stamp(State(server): State<Server>, body: Bytes) -> Response {
    let began = Instant::now();
    let review = match AdmissionReview::read(&body) {
        Ok(review) => review,
        Err(why) => return server.not_a_review(Asked::Stamp, began, &why),
    };
    let answer = review.stamp();
    server.answered(Asked::Stamp, began, &review, answer)
}

impl Server {
    /// The API server shows whoever asked the text of an answer from 500 on, and of those below no more than the number.
    fn not_a_review(&self, asked: Asked, began: Instant, why: &NotAReview) -> Response {
        self.metrics.answered(asked, Answered::Malformed, began.elapsed());
        match why {
            NotAReview::TooHeavy(why) => (StatusCode::INSUFFICIENT_STORAGE, why.to_string()).into_response(),
            NotAReview::Unreadable(_) => (StatusCode::BAD_REQUEST, "not an AdmissionReview").into_response(),
        }
    }

    fn answered(&self, asked: Asked, began: Instant, review: &AdmissionReview, answer: Answer) -> Response {
        let refused = matches!(answer.verdict, Verdict::Refuse(_));
        if let Verdict::Refuse(refusal) = &answer.verdict
            && let Some(attempt) = review.attempt(refusal)
        {
            self.refusals.lock().unwrap_or_else(PoisonError::into_inner).count(attempt, Timestamp::now());
        }
        let body = review.answer(answer).to_string();
        self.metrics.answered(asked, if refused { Answered::Refused } else { Answered::Allowed }, began.elapsed());
        ([(header::CONTENT_TYPE, "application/json")], body).into_response()
    }

    fn context<'a>(&'a self, authorized: &'a [String]) -> Context<'a> {
        Context { key: &self.key, view: &*self.view, authorized, now: Timestamp::now() }
    }

    /// The verdict, for which the authorizer is asked only where its word can matter: not where even every grant would be
    /// refused, and not for a denial that counts without.
    async fn judge(&self, review: &AdmissionReview) -> Answer {
        let asks = review.asks();
        if asks.is_empty() {
            return review.judge(&self.context(&[]));
        }
        let at_best = review.judge(&self.context(&asks));
        if matches!(at_best.verdict, Verdict::Refuse(_)) {
            return at_best;
        }
        if review.denies() {
            let without = review.judge(&self.context(&[]));
            if matches!(without.verdict, Verdict::Allow(_)) {
                return without;
            }
        }
        match self.deciders.granted(&review.caller(), &asks, review.denies()).await {
            Ok(granted) => review.judge(&self.context(&granted)),
            Err(refusal) => {
                warn!(uid = review.uid(), "a review was refused, since the authorizer did not answer");
                Verdict::Refuse(refusal).into()
            }
        }
    }
}

async fn ready(State(server): State<Server>) -> (StatusCode, String) {
    let (ready, lines) = server.readiness.tell();
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, lines.into_iter().map(|line| format!("{line}\n")).collect())
}

/// Once it is to end, each connection ends with its next answer, so that its client makes the one after elsewhere: to close
/// them all at the end would cut off what was just sent.
async fn farewell(State(readiness): State<Readiness>, request: Request, next: Next) -> Response {
    let version = request.version();
    let mut response = next.run(request).await;
    // HTTP/2 has a way of its own, and forbids this one.
    if readiness.is_ending() && version < Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Serves on an open listener until it fails, or until it is told to end.
pub async fn serve(
    listener: TcpListener,
    tls: ServerConfig,
    server: Server,
    handle: Handle<SocketAddr>,
) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let served = axum_server::from_tcp_rustls(listener, RustlsConfig::from_config(Arc::new(tls)))?;
    served.handle(handle).serve(router(server).into_make_service()).await
}
