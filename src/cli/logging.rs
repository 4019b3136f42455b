//! The log of a command that runs for long: on standard error, for people or for machines.

use std::io::IsTerminal;
use tracing::warn;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Starts the log of this process, at the levels that `RUST_LOG` asks for (`LEVEL`, or `TARGET=LEVEL`, several with commas
/// between them), by default `info`; as JSON, one object a line, or as text.
pub fn start(json: bool) {
    let layer =
        tracing_subscriber::fmt::layer().with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr);
    let layer = if json { layer.json().boxed() } else { layer.boxed() };
    let asked = std::env::var("RUST_LOG").unwrap_or_default();
    let levels = levels(&asked);
    let filter = levels.as_ref().cloned().unwrap_or_else(|_| everything());
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
    if let Err(error) = levels {
        warn!(%error, "RUST_LOG is not read: it takes LEVEL or TARGET=LEVEL, several with commas between them");
    }
}

fn levels(asked: &str) -> Result<Targets, tracing_subscriber::filter::ParseError> {
    if asked.is_empty() { Ok(everything()) } else { asked.parse() }
}

fn everything() -> Targets {
    Targets::new().with_default(LevelFilter::INFO)
}

#[cfg(test)]
mod tests {
    use super::levels;
    use tracing::Level;

    #[test]
    fn what_is_asked_for_is_shown() {
        let shows = |asked, target, level| levels(asked).unwrap().would_enable(target, &level);
        assert!(shows("", "countersign", Level::INFO) && !shows("", "countersign", Level::DEBUG));
        assert!(shows("debug", "countersign", Level::DEBUG));
        assert!(shows("warn,countersign=trace", "countersign::controller", Level::TRACE));
        assert!(!shows("warn,countersign=trace", "kube", Level::INFO));
        assert!(levels("countersign=loud").is_err());
    }
}
