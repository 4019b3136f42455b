//! Words of tenants in texts for people.

/// `text` on one line of at most `longest` characters: control characters and invisible ones are escaped, and what is too
/// long ends with `…`.
pub(super) fn one_line(text: &str, longest: usize) -> String {
    // No character of a name gets shorter by escaping, so that what lies beyond is cut off in any case.
    let escaped = escaped(text.chars().take(longest + 1));
    if escaped.chars().count() <= longest {
        return escaped;
    }
    escaped.chars().take(longest.saturating_sub(1)).chain(['…']).collect()
}

/// `text` on one line, however long it is.
pub(super) fn escape(text: &str) -> String {
    escaped(text.chars())
}

fn escaped(text: impl Iterator<Item = char>) -> String {
    let quote = |c: char| matches!(c, '\'' | '"');
    text.map(|c| if quote(c) { c.to_string() } else { c.escape_debug().to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stays_on_one_line_and_within_its_length() {
        assert_eq!(one_line("it's \"fine\"", 20), "it's \"fine\"");
        assert_eq!(one_line("a\nb\u{1b}[2J\u{202e}", 60), "a\\nb\\u{1b}[2J\\u{202e}");
        assert_eq!(one_line("abcdef", 6), "abcdef");
        assert_eq!(one_line("abcdefg", 6), "abcde…");
        assert_eq!(one_line(&"\n".repeat(9), 6), "\\n\\n\\…");
        assert_eq!(escape(&"x\n".repeat(200)).chars().count(), 600);
    }
}
