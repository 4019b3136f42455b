//! `/metrics`, `/healthz` and `/readyz` over plain HTTP. Nothing here changes anything, and nothing is a tenant's secret,
//! yet it names what is wrong with the gate: bind it where only those who watch can reach it.

use crate::telemetry::{Metrics, Readiness};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the server tells.
#[derive(Clone)]
pub struct Telemetry {
    /// The metrics.
    pub metrics: Metrics,
    /// Whether the operator can do its part.
    pub readiness: Readiness,
    /// Further lines of `/readyz`. They explain and do not count: an operator behind a broken gate must go on deciding.
    pub details: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    /// Brings those metrics up to date that tell how things are, not what happened.
    pub refresh: Arc<Mutex<dyn Fn() + Send>>,
}

/// The routes.
pub fn router(telemetry: Telemetry) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(telemetry)
}

async fn metrics(State(telemetry): State<Telemetry>) -> Response {
    // Two that ask at once do not see each other's half.
    let refresh = telemetry.refresh.lock().unwrap_or_else(PoisonError::into_inner);
    refresh();
    match telemetry.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written\n").into_response(),
    }
}

async fn ready(State(telemetry): State<Telemetry>) -> (StatusCode, String) {
    let (ready, lines) = telemetry.readiness.tell();
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let lines = lines.into_iter().chain((telemetry.details)());
    (code, lines.map(|line| format!("{line}\n")).collect())
}

/// Serves on an open listener until it fails.
pub async fn serve(listener: TcpListener, telemetry: Telemetry) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    axum_server::from_tcp(listener)?.serve(router(telemetry).into_make_service()).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt;

    async fn get(ready: bool, path: &str) -> (StatusCode, String) {
        let details = Arc::new(|| vec!["gate: broken: something".to_owned()]);
        let readiness = Readiness::new(vec![("watches", Box::new(move || (ready, "as far as they are".into())))]);
        let metrics = Metrics::new();
        let leader = metrics.leader.clone();
        let refresh = Arc::new(Mutex::new(move || {
            leader.set(7);
        }));
        let telemetry = Telemetry { metrics, readiness, details, refresh };
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router(telemetry).oneshot(request).await.unwrap();
        let (code, body) = (response.status(), to_bytes(response.into_body(), 1 << 20).await.unwrap());
        (code, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_broken_gate_is_told_and_does_not_make_the_operator_unready() {
        let (code, text) = get(true, "/readyz").await;
        assert_eq!(code, StatusCode::OK);
        assert_eq!(text, "watches: as far as they are\ngate: broken: something\n");
        let (code, text) = get(false, "/readyz").await;
        assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
        assert!(text.starts_with("watches: ") && text.contains("gate: broken"), "{text}");
    }

    #[tokio::test]
    async fn metrics_and_health_are_served() {
        let told = get(true, "/metrics").await.1;
        assert!(told.contains("countersign_gate_intact") && told.contains("countersign_leader 7"), "{told}");
        assert_eq!(get(false, "/healthz").await, (StatusCode::OK, "ok\n".into()));
        assert_eq!(get(true, "/admit").await.0, StatusCode::NOT_FOUND);
    }
}
