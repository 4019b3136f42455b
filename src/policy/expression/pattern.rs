//! Patterns of `matches()`: RE2's syntax, of a size that bounds what each byte costs.

use regex::{Regex, RegexBuilder};

/// Bytes of a compiled pattern. At this size the worst pattern takes some 170 ns for a byte.
const MAX_SIZE: usize = 16 << 10;
/// Bytes that a pattern may use while it matches.
const MAX_CACHE: usize = 64 << 10;
/// Brackets within brackets.
const MAX_NESTED: u32 = 16;

/// Compiles a pattern, or says what is wrong with it.
pub(super) fn compile(pattern: &str) -> Result<Regex, String> {
    let mut builder = RegexBuilder::new(&ascii(pattern));
    let built = builder.size_limit(MAX_SIZE).dfa_size_limit(MAX_CACHE).nest_limit(MAX_NESTED).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => {
            "the pattern of matches() is too large; make it shorter, or use contains()".into()
        }
        error => {
            let said = error.to_string();
            format!("the pattern of matches() is wrong: {}", said.lines().last().unwrap_or_default().trim())
        }
    })
}

/// In RE2, and so in CEL, these classes are of ASCII. The crate's are of Unicode, and a hundred times as large.
fn ascii(pattern: &str) -> String {
    let mut ascii = String::with_capacity(pattern.len());
    let (mut chars, mut class) = (pattern.chars(), 0_usize);
    while let Some(c) = chars.next() {
        match c {
            '[' => class += 1,
            ']' => class = class.saturating_sub(1),
            _ => {}
        }
        if c != '\\' {
            ascii.push(c);
            continue;
        }
        match chars.next() {
            Some('w') => ascii.push_str("[0-9A-Za-z_]"),
            Some('W') => ascii.push_str("[^0-9A-Za-z_]"),
            Some('d') => ascii.push_str("[0-9]"),
            Some('D') => ascii.push_str("[^0-9]"),
            Some('s') => ascii.push_str("[\\t\\n\\x0C\\r ]"),
            Some('S') => ascii.push_str("[^\\t\\n\\x0C\\r ]"),
            Some('b') if class == 0 => ascii.push_str("(?-u:\\b)"),
            Some(other) => ascii.extend(['\\', other]),
            None => ascii.push('\\'),
        }
    }
    ascii
}
