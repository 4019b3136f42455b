//! Patterns for names: of workflows, images, service accounts.

use std::str::Chars;

/// Whether `text` matches `pattern`, where `*` is any run of characters (also none) and `?` any one character.
/// Takes time proportional to the product of both lengths at worst: the API bounds patterns, and callers bound `text`.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    // Where to resume: behind the last `*`, and at the first character that it has not swallowed.
    let mut star: Option<(Chars<'_>, Chars<'_>)> = None;
    loop {
        let (mut after, mut rest) = (pattern.clone(), text.clone());
        match (after.next(), rest.next()) {
            (Some('*'), _) => {
                star = Some((after.clone(), text.clone()));
                pattern = after;
            }
            (Some(p), Some(t)) if p == '?' || p == t => (pattern, text) = (after, rest),
            (None, None) => return true,
            (Some(_), None) => return false,
            (_, Some(_)) => {
                let Some((resume, swallowed)) = &mut star else { return false };
                swallowed.next();
                (pattern, text) = (resume.clone(), swallowed.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, text, expected) in [
            ("workflow.*", "workflow.incident-triage", true),
            ("workflow.*", "workflow.", true),
            ("workflow.*", "workflow", false),
            ("*triage", "workflow.incident-triage", true),
            ("*a*b", "xaxbxb", true),
            ("*a*b", "xaxbxc", false),
            ("run_?f9a", "run_8f9a", true),
            ("", "", true),
            ("", "x", false),
            ("***", "", true),
            ("a.c", "abc", false),
            ("?", "é", true),
            ("??", "é", false),
            ("*é?", "aéé", true),
            ("a*", "", false),
            ("*a", "aab", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
