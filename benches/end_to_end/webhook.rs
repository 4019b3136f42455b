//! A webhook that answers yes to everything: what any webhook costs.

use anyhow::{Context, Result};
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum_server::tls_rustls::RustlsConfig;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_testbed::ControlPlane;
use serde::Deserialize;
use serde_json::{Value, json};
use std::net::TcpListener;

/// As much of an AdmissionReview as the answer takes.
#[derive(Deserialize)]
struct Review {
    request: Asked,
}

#[derive(Deserialize)]
struct Asked {
    uid: String,
}

/// The running webhook.
pub struct NoOp {
    url: String,
    authority: String,
}

impl NoOp {
    /// Serves on a free port of loopback until the process ends.
    pub fn serve() -> Result<Self> {
        let certificate = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        let (chain, key) = (certificate.cert.pem(), certificate.signing_key.serialize_pem());
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let url = format!("https://{}/", listener.local_addr()?);
        let authority = chain.clone();
        tokio::spawn(async move {
            let config = RustlsConfig::from_pem(chain.into_bytes(), key.into_bytes()).await?;
            let router = axum::Router::new().fallback(axum::routing::post(answer));
            let server = axum_server::from_tcp_rustls(listener, config)?;
            server.serve(router.into_make_service()).await?;
            anyhow::Ok(())
        });
        Ok(Self { url, authority })
    }

    /// Has it asked about each creation and change of `resource` in `group`, in namespaces that `selector` matches.
    pub async fn register(
        &self,
        cluster: &ControlPlane,
        name: &str,
        [group, version, resource]: [&str; 3],
        selector: Value,
    ) -> Result<()> {
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": name},
            "webhooks": [{
                "name": format!("{name}.example.com"), "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "clientConfig": {"url": self.url, "caBundle": STANDARD.encode(&self.authority)},
                "rules": [{"apiGroups": [group], "apiVersions": [version], "operations": ["CREATE", "UPDATE"],
                    "resources": [resource], "scope": "Namespaced"}],
                "failurePolicy": "Fail", "matchPolicy": "Equivalent", "namespaceSelector": selector, "timeoutSeconds": 5,
            }],
        });
        let apply = cluster.admin().kubectl(["apply", "--filename", "-"]).stdin(configuration.to_string());
        apply.ok().await.context("registering the webhook")?;
        Ok(())
    }
}

async fn answer(body: Bytes) -> impl IntoResponse {
    let Ok(Review { request }) = serde_json::from_slice(&body) else {
        return (StatusCode::BAD_REQUEST, [(CONTENT_TYPE, "text/plain")], String::new());
    };
    let answer = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "response": {"uid": request.uid, "allowed": true}});
    (StatusCode::OK, [(CONTENT_TYPE, "application/json")], answer.to_string())
}
