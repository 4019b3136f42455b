//! Makes text from elsewhere safe to show: what a terminal would obey, or an eye would miss, is spelled out.

use std::fmt::Write;

/// `text` on one line, with everything spelled out as `\u{…}` that moves the cursor, changes the direction of reading,
/// takes no width, or has no look that Unicode defines. A line break shows as `⏎`, a space of another width as a space.
/// Other text stays readable in every script.
pub fn visible(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, c| {
        match c {
            '\n' => shown.push('⏎'),
            '\u{a0}' | '\u{202f}' | '\u{3000}' => shown.push(' '),
            c if is_plain(c) => shown.push(c),
            c => spell(&mut shown, c),
        }
        shown
    })
}

/// A name on one line, with everything but printable ASCII spelled out: in a name, a letter that looks like another is
/// a way to be taken for somebody else.
pub fn visible_identifier(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, c| {
        if matches!(c, ' '..='~') {
            shown.push(c)
        } else {
            spell(&mut shown, c)
        }
        shown
    })
}

fn spell(shown: &mut String, c: char) {
    // Writing to a String cannot fail.
    let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
}

fn is_plain(c: char) -> bool {
    match c {
        ' '..='~' => true,
        // Letters and marks by category, yet blank or joined invisibly to what they follow.
        '\u{34f}'
        | '\u{115f}'
        | '\u{1160}'
        | '\u{17b4}'
        | '\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{2800}'
        | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{ffa0}'
        | '\u{e0000}'..='\u{e0fff}' => false,
        c => is_printable(c),
    }
}

/// The standard library's judgement: not a control, format, surrogate, private, unassigned or separator character. It
/// shows through `escape_debug`, which would also escape a combining mark at the start of a text; hence the letter.
fn is_printable(c: char) -> bool {
    let mut pair = String::from("x");
    pair.push(c);
    pair.escape_debug().nth(1) == Some(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_terminal_obeys_or_an_eye_misses_is_spelled_out() {
        for (text, shown) in [
            ("plain text, with 'quotes' and \\ and \"more\"", "plain text, with 'quotes' and \\ and \"more\""),
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("a\rb\tc\u{7f}\u{85}\u{9b}", "a\\u{d}b\\u{9}c\\u{7f}\\u{85}\\u{9b}"),
            ("one\ntwo", "one⏎two"),
            ("abc\u{202e}fed\u{2066}x\u{2069}", "abc\\u{202e}fed\\u{2066}x\\u{2069}"),
            ("a\u{200b}b\u{200d}c\u{feff}\u{2060}\u{ad}", "a\\u{200b}b\\u{200d}c\\u{feff}\\u{2060}\\u{ad}"),
            ("\u{2028}\u{2029}\u{3164}\u{e0041}\u{fe0f}", "\\u{2028}\\u{2029}\\u{3164}\\u{e0041}\\u{fe0f}"),
            ("\u{e000}\u{10ffff}", "\\u{e000}\\u{10ffff}"),
            ("10\u{a0}% für Zoë, 你好, हिन्दी, e\u{301}", "10 % für Zoë, 你好, हिन्दी, e\u{301}"),
        ] {
            assert_eq!(visible(text), shown);
        }
    }

    #[test]
    fn a_name_that_looks_like_another_does_not() {
        // A Cyrillic а.
        assert_eq!(visible_identifier("\u{430}lice"), "\\u{430}lice");
        assert_eq!(
            visible_identifier("system:serviceaccount:payments:triage"),
            "system:serviceaccount:payments:triage"
        );
        assert_eq!(visible_identifier("bob\n"), "bob\\u{a}");
    }

    proptest! {
        #[test]
        fn nothing_shown_is_a_control_or_a_bidi_character(text in any::<String>()) {
            for shown in [visible(&text), visible_identifier(&text)] {
                let bad = |c: char| {
                    c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{61c}')
                };
                prop_assert!(!shown.contains(bad));
            }
        }
    }
}
