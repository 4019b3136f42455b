//! For how long the API server asks to be left alone. Where it has too much to do it says so in a header, with a body that is no
//! Status, and the client library drops headers: so the time is moved into a Status, where [`super::Error::wait`] finds it.

use axum::body::{Body, HttpBody};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::response::Parts;
use axum::http::{HeaderValue, Response};
use serde_json::json;

/// The same answer, or a Status in its place that says how long to wait.
pub fn keep_retry_after<B>(response: Response<B>) -> Response<Body>
where
    B: HttpBody<Data = axum::body::Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    let (parts, body) = response.into_parts();
    let body = status(&parts).map_or_else(|| Body::new(body), Body::from);
    Response::from_parts(parts, body)
}

/// A Status, where the answer asks for time and is none itself.
fn status(parts: &Parts) -> Option<String> {
    let fails = parts.status.is_client_error() || parts.status.is_server_error();
    let text = |value: Option<&HeaderValue>| value.and_then(|value| value.to_str().ok()).map(str::to_owned);
    let seconds: u32 = text(parts.headers.get(RETRY_AFTER))?.trim().parse().ok()?;
    // The API server's own Status says it as well.
    let is_status = text(parts.headers.get(CONTENT_TYPE)).is_some_and(|kind| kind.starts_with("application/json"));
    let reason = parts.status.canonical_reason().unwrap_or("an error");
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": parts.status.as_u16(),
        "message": format!("{reason}, to be tried again after {seconds} s"), "details": {"retryAfterSeconds": seconds},
    });
    (fails && !is_status).then(|| status.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn kept(code: u16, headers: &[(&str, &str)]) -> String {
        let mut response = Response::builder().status(code);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        let response = keep_retry_after(response.body(Body::from("as it was")).unwrap());
        assert_eq!(response.status(), code);
        let bytes = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn the_header_of_a_refusal_is_kept_and_all_else_stays_as_it_was() {
        let busy = kept(429, &[("Retry-After", "7"), ("Content-Type", "text/plain; charset=utf-8")]).await;
        let busy: serde_json::Value = serde_json::from_str(&busy).unwrap();
        assert_eq!((&busy["code"], &busy["details"]["retryAfterSeconds"]), (&json!(429), &json!(7)));
        assert!(kept(503, &[("Retry-After", "7")]).await.contains("retryAfterSeconds"));
        for (code, headers) in [
            (429, &[][..]),
            (429, &[("Retry-After", "Fri, 31 Dec 1999 23:59:59 GMT")]),
            (429, &[("Retry-After", "-1")]),
            (429, &[("Retry-After", "7"), ("Content-Type", "application/json")]),
            (200, &[("Retry-After", "7")]),
        ] {
            assert_eq!(kept(code, headers).await, "as it was", "{code} {headers:?}");
        }
    }
}
