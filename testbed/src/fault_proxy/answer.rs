//! Answers to the client: made up here, or passed on, whole, in part, late or twice.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;
use tokio::time::sleep_until;

use super::fault::{Answer, Effect};
use super::request::read_head;

/// A status as the API server words it, for a watch from a version that it has forgotten.
const EXPIRED: &str = concat!(
    r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","#,
    r#""message":"too old resource version","reason":"Expired","code":410}"#
);

/// What is answered in place of the API server, if that is the effect.
pub(super) fn made_up(effect: Effect) -> Option<String> {
    const JSON: &str = "application/json";
    match effect {
        Effect::Expired => Some(whole(410, JSON, &[], EXPIRED)),
        Effect::ExpiredEvent => Some(whole(200, JSON, &[], &format!("{{\"type\":\"ERROR\",\"object\":{EXPIRED}}}\n"))),
        Effect::EndsAtOnce => Some(whole(200, JSON, &[], "")),
        Effect::Answer(Answer { code, content_type, headers, body }) => Some(whole(code, content_type, headers, body)),
        _ => None,
    }
}

fn whole(code: u16, content_type: &str, headers: &[(&str, &str)], body: &str) -> String {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    format!(
        "HTTP/1.1 {code} Made Up\r\nContent-Type: {content_type}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// The head of an answer, as the client gets it.
struct Head {
    text: String,
    /// Whether the body comes in chunks, so that its end shows.
    chunked: bool,
}

impl Head {
    fn read(head: &str) -> Result<Self> {
        let mut lines = head.trim_end().split("\r\n");
        let (_, status) = lines.next().and_then(|line| line.split_once(' ')).context("a status line")?;
        let (mut text, mut chunked) = (format!("HTTP/1.1 {status}\r\n"), true);
        for line in lines {
            let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
            chunked &= name != "content-length";
            if name != "connection" {
                text.push_str(line);
                text.push_str("\r\n");
            }
        }
        if chunked {
            text.push_str("Transfer-Encoding: chunked\r\n");
        }
        text.push_str("Connection: close\r\n\r\n");
        Ok(Self { text, chunked })
    }
}

/// Passes an answer on, of its body `most` bytes at most: then the connection ends, as one that was cut.
pub(super) async fn pass(
    server: &mut (impl AsyncRead + Unpin),
    client: &mut (impl AsyncWrite + Unpin),
    most: Option<usize>,
) -> Result<()> {
    let Some((head, mut bytes)) = read_head(server).await? else { return Ok(()) };
    let head = Head::read(&head)?;
    client.write_all(head.text.as_bytes()).await?;
    let mut left = most.unwrap_or(usize::MAX);
    loop {
        bytes.truncate(left);
        left -= bytes.len();
        write(client, head.chunked, &bytes).await?;
        if left == 0 {
            return Ok(());
        }
        bytes.clear();
        bytes.reserve(4096);
        if server.read_buf(&mut bytes).await? == 0 {
            break;
        }
    }
    end(client, head.chunked).await
}

async fn write(client: &mut (impl AsyncWrite + Unpin), chunked: bool, bytes: &[u8]) -> Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    match chunked {
        true => {
            let chunk = [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
            client.write_all(&chunk).await?;
        }
        false => client.write_all(bytes).await?,
    }
    Ok(client.flush().await?)
}

async fn end(client: &mut (impl AsyncWrite + Unpin), chunked: bool) -> Result<()> {
    if chunked {
        client.write_all(b"0\r\n\r\n").await?;
    }
    Ok(client.flush().await?)
}

/// Passes a watch on, line by line: each line is an event, and `effect` says what becomes of it when it comes.
pub(super) async fn pass_events(
    server: &mut (impl AsyncRead + Unpin),
    client: &mut (impl AsyncWrite + Unpin),
    effect: impl Fn() -> Option<Effect>,
) -> Result<()> {
    let Some((head, early)) = read_head(server).await? else { return Ok(()) };
    let head = Head::read(&head)?;
    client.write_all(head.text.as_bytes()).await?;
    client.flush().await?;
    let (sender, mut due) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let reading = async move {
        let mut lines = BufReader::new(early.as_slice().chain(server));
        loop {
            let mut line = Vec::new();
            let ended = lines.read_until(b'\n', &mut line).await.is_ok_and(|read| read == 0);
            let (wait, times) = match effect() {
                // What is lost on the way does not come later, and nobody hears of an end.
                Some(Effect::Silent) => std::future::pending().await,
                Some(Effect::Late(wait)) => (wait, 1),
                Some(Effect::Twice) => (Duration::ZERO, 2),
                _ => (Duration::ZERO, 1),
            };
            if ended {
                return;
            }
            for _ in 0..times {
                // Nobody takes it where the client has gone, and then all of this ends.
                let _ = sender.send((Instant::now() + wait, line.clone()));
            }
        }
    };
    let writing = async {
        while let Some((at, line)) = due.recv().await {
            sleep_until(at.into()).await;
            write(client, head.chunked, &line).await?;
        }
        end(client, head.chunked).await
    };
    tokio::join!(reading, writing).1
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{\"a\":1}\n{\"b\":2}\n";
    const HEAD: &str =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";

    fn text(bytes: Vec<u8>) -> String {
        let text = String::from_utf8(bytes).unwrap();
        text.strip_prefix(HEAD).map(String::from).unwrap_or(text)
    }

    #[tokio::test]
    async fn an_answer_is_passed_on_whole_or_ends_where_it_is_cut() {
        let mut client = Vec::new();
        pass(&mut &ANSWER[..], &mut client, None).await.unwrap();
        assert_eq!(text(client), "10\r\n{\"a\":1}\n{\"b\":2}\n\r\n0\r\n\r\n");
        let mut client = Vec::new();
        pass(&mut &ANSWER[..], &mut client, Some(4)).await.unwrap();
        assert_eq!(text(client), "4\r\n{\"a\"\r\n");
        let (mut client, counted) = (Vec::new(), b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc");
        pass(&mut &counted[..], &mut client, Some(2)).await.unwrap();
        assert_eq!(text(client), "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nab");
    }

    #[tokio::test]
    async fn events_come_as_they_are_wanted() {
        let events = async |effect| {
            let mut client = Vec::new();
            pass_events(&mut &ANSWER[..], &mut client, || effect).await.unwrap();
            text(client)
        };
        let (one, two) = ("8\r\n{\"a\":1}\n\r\n", "8\r\n{\"b\":2}\n\r\n");
        assert_eq!(events(None).await, format!("{one}{two}0\r\n\r\n"));
        assert_eq!(events(Some(Effect::Twice)).await, format!("{one}{one}{two}{two}0\r\n\r\n"));
        let began = Instant::now();
        let late = Duration::from_millis(200);
        assert_eq!(events(Some(Effect::Late(late))).await, format!("{one}{two}0\r\n\r\n"));
        assert!(began.elapsed() >= late && began.elapsed() < late * 2, "both wait at the same time");
        let silent = events(Some(Effect::Silent));
        assert!(tokio::time::timeout(Duration::from_millis(100), silent).await.is_err(), "it ended");
    }

    #[test]
    fn an_answer_that_is_made_up_says_what_it_should() {
        let busy = Answer { code: 429, content_type: "text/plain", headers: &[("Retry-After", "1")], body: "busy" };
        let expected = "HTTP/1.1 429 Made Up\r\nContent-Type: text/plain\r\nRetry-After: 1\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy";
        assert_eq!(made_up(Effect::Answer(busy)).as_deref(), Some(expected));
        for (effect, begins) in [(Effect::Expired, "HTTP/1.1 410 "), (Effect::ExpiredEvent, "HTTP/1.1 200 ")] {
            assert!(made_up(effect).is_some_and(|text| text.starts_with(begins) && text.contains("Expired")));
        }
        assert_eq!(made_up(Effect::CutBefore), None);
    }
}
