//! How much memory a body would take once it is read, told before it is read. A map of one field takes some hundred times the
//! seven bytes that spell it: eight megabytes of those would take more than an operator may have.

/// The most that is read, in bytes of memory. An honest object of the largest size takes a part of it, and is there twice.
const HEAVIEST: usize = 48 << 20;
/// What a map with anything in it takes at least.
const MAP: usize = 640;
/// What a list with anything in it takes at least.
const LIST: usize = 128;
/// What each further value takes, with what its list or map keeps free, and is moved from as it grows.
const VALUE: usize = 96;

/// A body that would take too much memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "the object, with what it was before, holds more lists, fields and values than admission reads (some 70000 maps or 500000 \
     values): make it smaller"
)]
pub struct TooHeavy;

/// Whether a body can be read. What is no JSON is weighed as if it were.
pub fn check(body: &[u8]) -> Result<(), TooHeavy> {
    // Nothing that is as short as this can be too heavy.
    if body.len() <= HEAVIEST / MAP {
        return Ok(());
    }
    let (mut weight, mut quoted, mut escaped) = (0, false, false);
    for byte in body {
        if quoted {
            quoted = escaped || *byte != b'"';
            escaped = !escaped && *byte == b'\\';
            continue;
        }
        weight += match byte {
            b'{' => MAP,
            b'[' => LIST,
            b',' => VALUE,
            b'"' => {
                quoted = true;
                0
            }
            _ => 0,
        };
    }
    if weight > HEAVIEST { Err(TooHeavy) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_quotes_weighs_nothing() {
        let filled = |piece: &str| format!("[{}]", piece.repeat((2 << 20) / piece.len()));
        for light in
            [filled(r#""{[,{[,""#), filled(r#""\"{{{\\\"{{{","#), filled("     "), format!("\"{}", "{".repeat(4 << 20))]
        {
            assert_eq!(check(light.as_bytes()), Ok(()), "{light:.20}");
        }
        for heavy in ["{},", "{\"\":0},", "[],", "0,", "\"\\\\\",{},", "\"\\\"\",{\"{\":0},"].map(filled) {
            assert_eq!(check(heavy.as_bytes()), Err(TooHeavy), "{heavy:.20}");
        }
    }

    #[test]
    fn the_largest_honest_object_is_read_twice_over() {
        let variable = r#"{"name":"SOME_VARIABLE_NAME","value":"some value of it"},"#;
        let object = variable.repeat((1 << 20) / variable.len());
        assert_eq!(check(format!("[{object}],[{object}]").as_bytes()), Ok(()));
    }
}
