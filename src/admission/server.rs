//! The HTTPS server for admission. No verdict waits for I/O.

use crate::admission::{Context, GateView, NotAReview, advise, registration, respond};
use crate::binding::Keyring;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum_server::tls_rustls::RustlsConfig;
use jiff::Timestamp;
use serde_json::Value;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Largest review that is read: two objects of the largest size that etcd takes, and room around them.
const LARGEST: usize = 8 << 20;

/// What the server needs.
#[derive(Clone)]
pub struct Server {
    /// Seals reviews.
    pub key: Arc<Keyring>,
    /// What the operator knows, for verdicts that rest on policy.
    pub view: Arc<dyn GateView>,
    /// Whether the operator knows everything it watches.
    pub ready: Arc<AtomicBool>,
}

/// The routes: `/admit` for reviews, `/admit/warn` for those of namespaces whose gate only warns, `/healthz` and `/readyz` for probes.
pub fn router(server: Server) -> Router {
    Router::new()
        .route(registration::PATH, post(admit))
        .route(&format!("{}{}", registration::PATH, registration::WARN), post(warn))
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .layer(DefaultBodyLimit::max(LARGEST))
        .with_state(server)
}

async fn admit(State(server): State<Server>, body: Bytes) -> Response {
    answer(&server, |context| respond(&body, context))
}

async fn warn(State(server): State<Server>, body: Bytes) -> Response {
    answer(&server, |context| advise(&body, context))
}

fn answer(server: &Server, verdict: impl FnOnce(&Context<'_>) -> Result<Value, NotAReview>) -> Response {
    let context = Context { key: &server.key, view: &*server.view, now: Timestamp::now() };
    match verdict(&context) {
        Ok(review) => ([(header::CONTENT_TYPE, "application/json")], review.to_string()).into_response(),
        Err(_) => (StatusCode::BAD_REQUEST, "not an AdmissionReview").into_response(),
    }
}

async fn ready(State(server): State<Server>) -> (StatusCode, &'static str) {
    match server.ready.load(Ordering::Acquire) {
        true => (StatusCode::OK, "ok"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "the watches have not listed everything yet"),
    }
}

/// Serves on an open listener until it fails.
pub async fn serve(listener: TcpListener, tls: RustlsConfig, server: Server) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    axum_server::from_tcp_rustls(listener, tls)?.serve(router(server).into_make_service()).await
}
