//! YAML that costs no more than it looks. An alias (`*name`) stands for as much as its author likes, and is copied for each time
//! that it is read: a text of some hundred kilobytes may mean gigabytes. And the parser looks at every open bracket again for
//! each word, so that as many brackets take it a minute.

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor};
use std::fmt::{Formatter, Result as Written};

/// As many values a text may always mean.
const ALWAYS: usize = 10_000;
/// Bytes of text that weigh as much as one value.
const LETTERS: usize = 64;
/// The most `[` and `{` in a text that is no JSON, wherever they stand.
const BRACKETS: usize = 20_000;

/// Why a text is not read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Excess {
    /// Its aliases mean too much.
    #[error("its aliases (`*name`) stand for far more than the text itself; write out what they mean, or use fewer")]
    Aliases,
    /// It may be nested too deeply.
    #[error("it has more than 20000 `[` and `{{`; write it as JSON, with line breaks and hyphens, or in several parts")]
    Brackets,
}

/// Whether a text can be read at a reasonable cost. What is no YAML passes: whoever reads it will say so.
pub fn check(text: &[u8]) -> Result<(), Excess> {
    let brackets = text.iter().filter(|byte| matches!(byte, b'[' | b'{')).count();
    // JSON nests no deeper than its own reader allows.
    if brackets > BRACKETS && !is_json(text) {
        return Err(Excess::Brackets);
    }
    // Without an alias, each value has a byte of its own.
    if !text.contains(&b'*') {
        return Ok(());
    }
    let mut left = Left { values: ALWAYS + text.len(), letters: 0 };
    for document in serde_yaml::Deserializer::from_slice(text) {
        if Count(&mut left).deserialize(document).is_err() {
            break;
        }
    }
    if left.values == 0 { Err(Excess::Aliases) } else { Ok(()) }
}

fn is_json(text: &[u8]) -> bool {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let mut endless = Left { values: usize::MAX, letters: 0 };
    Count(&mut endless).deserialize(&mut reader).is_ok() && reader.end().is_ok()
}

/// How much may still come.
struct Left {
    values: usize,
    letters: usize,
}

impl Left {
    /// Nothing is left once `values` is zero, and it stays so.
    fn take<E: Error>(&mut self, letters: usize) -> Result<(), E> {
        self.letters += letters;
        self.values = self.values.saturating_sub(1 + self.letters / LETTERS);
        self.letters %= LETTERS;
        if self.values == 0 { Err(E::custom(Excess::Aliases)) } else { Ok(()) }
    }
}

/// Counts what there is, and keeps none of it.
struct Count<'l>(&'l mut Left);

impl<'de> DeserializeSeed<'de> for Count<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Count<'_> {
    type Value = ();

    fn expecting(&self, f: &mut Formatter<'_>) -> Written {
        f.write_str("anything")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.0.take(0)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.0.take(0)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.0.take(0)
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<(), E> {
        self.0.take(0)
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<(), E> {
        self.0.take(0)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.0.take(0)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.0.take(0)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.0.take(text.len())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        self.0.take(0)?;
        while list.next_element_seed(Count(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.0.take(0)?;
        while map.next_key_seed(Count(self.0))?.is_some() {
            map.next_value_seed(Count(self.0))?;
        }
        Ok(())
    }

    /// What has a tag of its own.
    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<(), A::Error> {
        let ((), value) = tagged.variant_seed(Count(self.0))?;
        value.newtype_variant_seed(Count(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aliases(letters: usize, times: usize) -> String {
        format!("a: &a {}\nb: [{}]\n", "x".repeat(letters), "*a, ".repeat(times))
    }

    #[test]
    fn what_aliases_stand_for_counts_each_time() {
        for fine in
            [aliases(10, 4_000), aliases(20_000, 40), "a: [1, *b]".into(), "a: *".into(), "*".into(), String::new()]
        {
            assert_eq!(check(fine.as_bytes()), Ok(()), "{fine:.40}");
        }
        let listed = format!("a: &a [{}]\nb: [{}]", "1,".repeat(1_000), "*a,".repeat(1_000));
        for much in [
            aliases(20_000, 4_000),
            listed.clone(),
            format!("--- 1\n---\n{listed}"),
            format!("t: !t\n  {}", listed.replace('\n', "\n  ")),
        ] {
            assert_eq!(check(much.as_bytes()), Err(Excess::Aliases), "{much:.40}");
        }
    }

    /// What the parser itself refuses.
    #[test]
    fn aliases_of_aliases_are_refused_by_one_or_the_other() {
        let nested = |depth: usize| {
            let line = |i: usize| format!("l{}: &l{} [*l{i}, *l{i}, *l{i}, *l{i}, *l{i}]\n", i + 1, i + 1);
            format!("l0: &l0 x\n{}", (0..depth).map(line).collect::<String>())
        };
        assert_eq!(check(nested(3).as_bytes()), Ok(()));
        for depth in [6, 9, 40] {
            let text = nested(depth);
            assert!(
                check(text.as_bytes()).is_err() || serde_yaml::from_str::<serde_yaml::Value>(&text).is_err(),
                "{depth}"
            );
        }
    }

    #[test]
    fn any_text_without_aliases_passes() {
        for text in
            ["[".to_string() + &"0,".repeat(50_000) + "]", "{},".repeat(9_000), "- ".repeat(9_000), "x".repeat(1 << 20)]
        {
            assert_eq!(check(format!("# *\n{text}").as_bytes()), Ok(()));
        }
    }

    #[test]
    fn many_brackets_are_read_where_they_are_json() {
        let json = format!("[{}{{\"a\": [\"{{[*\"]}}]", "{\"a\": [1]},".repeat(30_000));
        assert_eq!(check(json.as_bytes()), Ok(()));
        let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
        let hidden = "[ # ]\n".repeat(30_000);
        for nested in
            [deep, "{a: ".repeat(30_000), "[? ".repeat(30_000), hidden, format!("{json} x"), format!("# x\n{json}")]
        {
            assert_eq!(check(nested.as_bytes()), Err(Excess::Brackets), "{nested:.20}");
        }
    }
}
