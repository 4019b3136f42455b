//! Requests of the client, each the only one of its connection.

use std::io;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::fault::Asked;

/// More than any head takes.
const MOST_HEAD: usize = 64 * 1024;

/// A whole request, as it is passed on.
pub(super) struct Request {
    pub(super) asked: Asked,
    pub(super) bytes: Vec<u8>,
}

/// Reads a request, and has it be the only one of its connection. None where the client leaves first.
pub(super) async fn read(client: &mut (impl AsyncRead + Unpin)) -> Result<Option<Request>> {
    let Some((head, mut body)) = read_head(client).await? else { return Ok(None) };
    let head = Head::read(&head)?;
    let arrived = body.len();
    body.resize(head.length.max(arrived), 0);
    let rest = client.read_exact(&mut body[arrived..]).await;
    rest.map_err(|error| io::Error::new(error.kind(), "the body of a request"))?;
    let bytes = [head.passed_on.as_bytes(), &body].concat();
    Ok(Some(Request { asked: Asked { body, ..head.asked }, bytes }))
}

/// Reads a head of HTTP, with the empty line behind it, and what came after that. None where nothing comes.
pub(super) async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<(String, Vec<u8>)>> {
    let mut bytes = Vec::with_capacity(4096);
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let body = bytes.split_off(end + 4);
            return Ok(Some((String::from_utf8(bytes).context("a head")?, body)));
        }
        if bytes.len() > MOST_HEAD {
            bail!("a head of more than {MOST_HEAD} bytes");
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    }
}

/// The head of a request.
struct Head {
    /// What it asks, without the body.
    asked: Asked,
    /// Of the body, in bytes.
    length: usize,
    passed_on: String,
}

impl Head {
    fn read(head: &str) -> Result<Self> {
        let mut lines = head.trim_end().split("\r\n");
        let first = lines.next().context("a request line")?;
        let mut words = first.split(' ');
        let (method, target) = words.next().zip(words.next()).context("a request line")?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let watch = query.split('&').any(|part| matches!(part, "watch=true" | "watch=1"));
        // Of HTTP 1.0, so that the answer is not cut into chunks, and its connection ends with it.
        let (mut length, mut passed_on) = (0, format!("{method} {target} HTTP/1.0\r\n"));
        for line in lines {
            let (name, value) = line.split_once(':').context("a header")?;
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().context("a length")?,
                "transfer-encoding" => bail!("a body without a length is not passed on"),
                // Whose request it is, the part that speaks TLS proves.
                "connection" | "authorization" => continue,
                _ => {}
            }
            passed_on.push_str(line);
            passed_on.push_str("\r\n");
        }
        passed_on.push_str("\r\n");
        let asked = Asked { method: method.into(), path: path.into(), watch, body: vec![] };
        Ok(Self { asked, length, passed_on })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_and_made_the_last_of_its_connection() {
        let text = "PATCH /apis/batch/v1/jobs/a?x=y HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer t\r\nConnection: keep-alive\r\nContent-Length: 12\r\n\r\n";
        let head = Head::read(text).unwrap();
        let asked = Asked { method: "PATCH".into(), path: "/apis/batch/v1/jobs/a".into(), watch: false, body: vec![] };
        assert_eq!(head.asked, asked);
        assert_eq!(head.length, 12);
        let passed_on = "PATCH /apis/batch/v1/jobs/a?x=y HTTP/1.0\r\nHost: h\r\nContent-Length: 12\r\n\r\n";
        assert_eq!(head.passed_on, passed_on);
        assert_eq!(Head::read("GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap().length, 0);
        assert!(Head::read("GET /a?x=y&watch=true HTTP/1.1\r\n\r\n").unwrap().asked.watch);
        assert!(Head::read("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    }

    #[tokio::test]
    async fn a_request_is_read_with_its_body_and_no_more() {
        let mut bytes = &b"POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"[..];
        let request = read(&mut bytes).await.unwrap().unwrap();
        assert_eq!(request.asked.body, b"abc");
        assert_eq!(request.bytes, b"POST /a HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc");
        assert!(read(&mut &b"POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nab"[..]).await.is_err());
        assert!(read(&mut &b""[..]).await.unwrap().is_none());
    }
}
