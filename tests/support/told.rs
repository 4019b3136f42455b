//! What an operator tells over plain HTTP, on `--metrics-bind` or beside admission.

use anyhow::{Context, Result};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, ToSocketAddrs};

/// The whole answer to a GET, head and body. An error where it takes longer than a busy machine explains.
pub async fn said(address: impl ToSocketAddrs, path: &str) -> Result<String> {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut said = String::new();
        stream.read_to_string(&mut said).await?;
        anyhow::Ok(said)
    };
    tokio::time::timeout(Duration::from_secs(10), ask).await?
}

/// Where an operator with that log serves its metrics.
pub fn metrics_address(log: &str) -> Result<String> {
    let line = log.lines().find(|line| line.contains("metrics are served")).context("no metrics in the log")?;
    let (_, address) = line.split_once("address=").context("no address in the line")?;
    Ok(address.split_whitespace().next().unwrap_or_default().to_owned())
}
