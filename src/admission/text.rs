//! Text that goes back to a caller: on one line, nothing in it that a terminal obeys, and no longer than it may be.

/// Longest admission warning, in bytes: the API server may cut longer ones itself.
const LONGEST_WARNING: usize = 256;

/// Longest refusal, in bytes.
const LONGEST_MESSAGE: usize = 2000;

/// Longest audit annotation, in bytes.
const LONGEST_ANNOTATION: usize = 128;

/// Longest quotation of what somebody wrote, in bytes.
const LONGEST_QUOTE: usize = 100;

/// As an admission warning. The API server drops one with a control character in it without a word.
pub(super) fn warning(text: &str) -> String {
    cut(plain(text), LONGEST_WARNING)
}

/// As an audit annotation.
pub(super) fn annotation(text: &str) -> String {
    cut(plain(text), LONGEST_ANNOTATION)
}

/// As the message of a refusal.
pub(super) fn message(text: &str) -> String {
    cut(plain(text), LONGEST_MESSAGE)
}

/// What somebody wrote, in a message of ours.
pub(super) fn quote(text: &str) -> String {
    format!("\"{}\"", cut(plain(text), LONGEST_QUOTE))
}

/// Spells out whatever has no look of its own, such as control characters and changes of direction.
fn plain(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, c| {
        match c {
            '"' | '\'' | '\\' => shown.push(c),
            c => shown.extend(c.escape_debug()),
        }
        shown
    })
}

fn cut(mut text: String, longest: usize) -> String {
    if text.len() > longest {
        let room = longest - '…'.len_utf8();
        text.truncate((0..=room).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_fits_and_shows_what_is_in_it() {
        assert_eq!(
            warning("held: \u{1b}[2J 'a' \"b\" \\ \u{202e}x\ny"),
            "held: \\u{1b}[2J 'a' \"b\" \\ \\u{202e}x\\ny"
        );
        for text in ["x".repeat(300), "é".repeat(300), "\u{0}".repeat(300)] {
            let shown = warning(&text);
            assert!(shown.len() <= 256 && shown.len() > 250 && shown.ends_with('…'), "{shown}");
            assert!(message(&text.repeat(20)).len() <= 2000);
            assert!(quote(&text).len() <= 102);
        }
        assert_eq!(warning(&"x".repeat(256)).len(), 256);
    }
}
