//! Patterns of `matches()`: RE2's syntax, of a size that bounds what each byte costs.

use regex::{Regex, RegexBuilder};

/// Bytes of a compiled pattern. At this size the worst pattern takes some 170 ns for a byte.
const MAX_SIZE: usize = 16 << 10;
/// Bytes that a pattern may use while it matches.
const MAX_CACHE: usize = 64 << 10;
/// Brackets within brackets.
const MAX_NESTED: u32 = 16;

/// The classes that have a name, within a class.
const NAMED: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];

/// Compiles a pattern, or says what is wrong with it.
pub(super) fn compile(pattern: &str) -> Result<Regex, String> {
    let wrong = |said: &str| format!("the pattern of matches() is wrong: {said}");
    let mut builder = RegexBuilder::new(&ascii(pattern).map_err(|said| wrong(&said))?);
    let built = builder.size_limit(MAX_SIZE).dfa_size_limit(MAX_CACHE).nest_limit(MAX_NESTED).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => {
            "the pattern of matches() is too large; make it shorter, or use contains()".into()
        }
        error => wrong(error.to_string().lines().last().unwrap_or_default().trim()),
    })
}

/// The pattern as the crate is to read it, where RE2 and so CEL read it otherwise: classes such as `\w` are of ASCII there,
/// and of Unicode here, a hundred times as large. What means something else here is refused.
fn ascii(pattern: &str) -> Result<String, String> {
    let mut ascii = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '\\' => rest = escape(rest, false, &mut ascii)?,
            '[' => rest = class(rest, &mut ascii)?,
            c => ascii.push(c),
        }
    }
    Ok(ascii)
}

/// Takes what follows a backslash, and returns what is left.
fn escape<'p>(rest: &'p str, in_class: bool, ascii: &mut String) -> Result<&'p str, String> {
    let Some(c) = rest.chars().next() else {
        ascii.push('\\');
        return Ok(rest);
    };
    match c {
        'w' => ascii.push_str("[0-9A-Za-z_]"),
        'W' => ascii.push_str("[^0-9A-Za-z_]"),
        'd' => ascii.push_str("[0-9]"),
        'D' => ascii.push_str("[^0-9]"),
        's' => ascii.push_str("[\\t\\n\\x0C\\r ]"),
        'S' => ascii.push_str("[^\\t\\n\\x0C\\r ]"),
        'b' if !in_class => ascii.push_str("(?-u:\\b)"),
        'B' | '<' | '>' if !in_class => return Err(format!("\\{c} is not taken; only \\b is a boundary of words")),
        other => ascii.extend(['\\', other]),
    }
    Ok(&rest[c.len_utf8()..])
}

/// Takes a class after its bracket, and returns what is left. The crate has classes within classes and operators on them,
/// where RE2 has characters.
fn class<'p>(pattern: &'p str, ascii: &mut String) -> Result<&'p str, String> {
    let literal = |what: &str| Err(format!("{what} in a class is not taken; write \\ before what is a character"));
    ascii.push('[');
    let mut rest = pattern;
    if let Some(after) = rest.strip_prefix('^') {
        ascii.push('^');
        rest = after;
    }
    let mut first = true;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        rest = match c {
            ']' if first => return literal("\"]\" at the beginning"),
            '[' => match named(rest) {
                Some(length) => {
                    ascii.push_str(&rest[..length]);
                    &rest[length..]
                }
                None => return literal("\"[\""),
            },
            '&' | '-' | '~' if after.starts_with(c) => return literal(&format!("\"{c}{c}\"")),
            '-' if !first && (after.starts_with('[') || is_class(after)) => {
                return literal("\"-\" before another class");
            }
            '\\' => escape(after, true, ascii)?,
            c => {
                ascii.push(c);
                after
            }
        };
        if c == ']' {
            return Ok(rest);
        }
        first = false;
    }
    // It is never closed: the crate says so.
    Ok(rest)
}

/// The length of a class such as `[:alpha:]`, if the text begins with one.
fn named(rest: &str) -> Option<usize> {
    let inner = rest.strip_prefix("[:")?;
    let end = inner.find(":]")?;
    let name = inner[..end].trim_start_matches('^');
    NAMED.contains(&name).then_some(end + "[::]".len())
}

/// Whether a text begins with the escape of a class.
fn is_class(text: &str) -> bool {
    text.strip_prefix('\\').is_some_and(|class| class.starts_with(['w', 'W', 'd', 'D', 's', 'S', 'p', 'P']))
}
