//! What is stored, past the API server: for tests of what shows when somebody edits it there.

use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The etcd of a control plane.
#[derive(Clone, Copy, Debug)]
pub struct Storage {
    pub(crate) port: u16,
}

impl Storage {
    /// Everything below a key such as `/registry/countersign.dev/approvalrecords/`: keys and JSON values, in order. Holds
    /// what is stored as JSON, as custom resources are.
    pub async fn list(&self, prefix: &str) -> Result<Vec<(String, Value)>> {
        let mut end = prefix.as_bytes().to_vec();
        *end.last_mut().context("a prefix")? += 1;
        let answer =
            self.call("range", json!({"key": STANDARD.encode(prefix), "range_end": STANDARD.encode(end)})).await?;
        let found = answer["kvs"].as_array().cloned().unwrap_or_default();
        found
            .iter()
            .map(|kv| Ok((String::from_utf8(decoded(&kv["key"])?)?, serde_json::from_slice(&decoded(&kv["value"])?)?)))
            .collect()
    }

    /// Stores a value under a key.
    pub async fn put(&self, key: &str, value: &Value) -> Result<()> {
        let body = json!({"key": STANDARD.encode(key), "value": STANDARD.encode(value.to_string())});
        self.call("put", body).await.map(drop)
    }

    /// Deletes a key.
    pub async fn delete(&self, key: &str) -> Result<()> {
        let answer = self.call("deleterange", json!({"key": STANDARD.encode(key)})).await?;
        ensure!(answer["deleted"] == "1", "{key}: {answer}");
        Ok(())
    }

    /// One call of etcd's JSON gateway.
    async fn call(&self, what: &str, body: Value) -> Result<Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.context("connecting to etcd")?;
        let body = body.to_string();
        // Of HTTP 1.0, so that the answer is not cut into chunks.
        let head = format!(
            "POST /v3/kv/{what} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let text = String::from_utf8_lossy(&answer);
        let (head, body) = text.split_once("\r\n\r\n").context("an HTTP answer")?;
        ensure!(head.lines().next().is_some_and(|line| line.contains(" 200 ")), "etcd {what}: {text}");
        serde_json::from_str(body).with_context(|| format!("etcd {what}"))
    }
}

fn decoded(value: &Value) -> Result<Vec<u8>> {
    Ok(STANDARD.decode(value.as_str().unwrap_or_default())?)
}
