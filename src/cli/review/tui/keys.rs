//! From the bytes of a terminal to keys. Pure: no byte that anybody types or pastes has another effect than a key.

/// Longest escape sequence of a key. What is longer is none.
const LONGEST: usize = 32;
/// Most characters of a text that is pasted; the rest is dropped.
const MOST_PASTED: usize = 4096;
/// What a terminal sends before a pasted text, without the escape.
const PASTE: &[u8] = b"[200~";
/// What it sends after it.
const PASTED: &[u8] = b"\x1b[201~";

/// A key, or a text that was pasted: pasted letters are no keys, so that nothing is decided by them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Key {
    /// A character.
    Char(char),
    /// A letter with the control key.
    Control(char),
    /// Enter.
    Enter,
    /// Escape.
    Escape,
    /// Backspace.
    Backspace,
    /// Arrow up.
    Up,
    /// Arrow down.
    Down,
    /// Page up.
    PageUp,
    /// Page down.
    PageDown,
    /// Home.
    Home,
    /// End.
    End,
    /// A text that was pasted.
    Pasted(String),
    /// Every other key, such as a letter with the alt key.
    Other,
}

/// What was read so far of a key or a pasted text.
#[derive(Debug, Default)]
pub struct Keyboard {
    /// The bytes of a key that is not whole.
    begun: Vec<u8>,
    /// The text that is being pasted.
    pasting: Option<Vec<u8>>,
}

impl Keyboard {
    /// The keys that those bytes complete.
    pub fn read(&mut self, bytes: &[u8]) -> Vec<Key> {
        bytes.iter().filter_map(|byte| self.take(*byte)).collect()
    }

    /// Whether something begun is not whole: a lone escape is the key Escape only once nothing follows it.
    pub fn waits(&self) -> bool {
        !self.begun.is_empty() || self.pasting.is_some()
    }

    /// Nothing follows: what was begun is all there is.
    pub fn give_up(&mut self) -> Option<Key> {
        let begun = std::mem::take(&mut self.begun);
        if let Some(text) = self.pasting.take() {
            return Some(pasted(&text));
        }
        match &*begun {
            [] => None,
            [0x1b] => Some(Key::Escape),
            _ => Some(Key::Other),
        }
    }

    /// Forgets what was begun.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    fn take(&mut self, byte: u8) -> Option<Key> {
        if let Some(text) = &mut self.pasting {
            if text.len() < MOST_PASTED + PASTED.len() {
                text.push(byte);
            } else {
                // Only the end matters now.
                text.remove(MOST_PASTED);
                text.push(byte);
            }
            if !text.ends_with(PASTED) {
                return None;
            }
            let text = self.pasting.take().unwrap_or_default();
            return Some(pasted(&text[..text.len() - PASTED.len()]));
        }
        // A second escape begins anew; the first was a key of its own.
        if byte == 0x1b && !self.begun.is_empty() {
            let before = self.give_up();
            self.begun = vec![byte];
            return before;
        }
        self.begun.push(byte);
        let key = whole(&self.begun)?;
        let begun = std::mem::take(&mut self.begun);
        if begun.strip_prefix(b"\x1b") == Some(PASTE) {
            self.pasting = Some(vec![]);
            return None;
        }
        Some(key)
    }
}

/// The key that the bytes are; none while more belong to it.
fn whole(bytes: &[u8]) -> Option<Key> {
    match bytes {
        [0x1b, rest @ ..] => escaped(rest),
        [b'\r' | b'\n'] => Some(Key::Enter),
        [0x08 | 0x7f] => Some(Key::Backspace),
        [byte @ 0x01..=0x1a] => Some(Key::Control(char::from(byte + b'a' - 1))),
        [0x00..=0x1f] => Some(Key::Other),
        _ => character(bytes),
    }
}

/// What stands after an escape.
fn escaped(rest: &[u8]) -> Option<Key> {
    match rest {
        [] | [b'O'] => None,
        [b'O', last] => Some(named(*last, b"")),
        [b'[', parameters @ .., last] => match last {
            0x40..=0x7e => Some(named(*last, parameters)),
            0x20..=0x3f if rest.len() < LONGEST => None,
            _ => Some(Key::Other),
        },
        [b'['] => None,
        _ => Some(Key::Other),
    }
}

fn named(last: u8, parameters: &[u8]) -> Key {
    let number = parameters.split(|byte| *byte == b';').next().unwrap_or_default();
    match (last, number) {
        (b'A', _) => Key::Up,
        (b'B', _) => Key::Down,
        (b'H', _) | (b'~', b"1" | b"7") => Key::Home,
        (b'F', _) | (b'~', b"4" | b"8") => Key::End,
        (b'~', b"5") => Key::PageUp,
        (b'~', b"6") => Key::PageDown,
        _ => Key::Other,
    }
}

fn character(bytes: &[u8]) -> Option<Key> {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.chars().next().map(Key::Char),
        // More bytes may complete it.
        Err(error) if error.error_len().is_none() && bytes.len() < 4 => None,
        Err(_) => Some(Key::Other),
    }
}

/// A pasted text on one line.
fn pasted(text: &[u8]) -> Key {
    let text = String::from_utf8_lossy(&text[..text.len().min(MOST_PASTED)]).into_owned();
    Key::Pasted(text.replace("\r\n", " ").replace(['\r', '\n', '\t'], " "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(text: &str) -> Vec<Key> {
        let mut keyboard = Keyboard::default();
        let mut keys = keyboard.read(text.as_bytes());
        keys.extend(keyboard.give_up());
        keys
    }

    #[test]
    fn keys_are_what_terminals_send_for_them() {
        for (bytes, expected) in [
            ("a", vec![Key::Char('a')]),
            ("ü界", vec![Key::Char('ü'), Key::Char('界')]),
            ("\r", vec![Key::Enter]),
            ("\n", vec![Key::Enter]),
            ("\u{7f}\u{8}", vec![Key::Backspace, Key::Backspace]),
            ("\u{3}\u{15}", vec![Key::Control('c'), Key::Control('u')]),
            ("\u{0}", vec![Key::Other]),
            ("\u{1b}", vec![Key::Escape]),
            ("\u{1b}\u{1b}", vec![Key::Escape, Key::Escape]),
            ("\u{1b}[A\u{1b}[B\u{1b}OA\u{1b}OB", vec![Key::Up, Key::Down, Key::Up, Key::Down]),
            ("\u{1b}[5~\u{1b}[6~", vec![Key::PageUp, Key::PageDown]),
            ("\u{1b}[H\u{1b}[1~\u{1b}OF\u{1b}[4~", vec![Key::Home, Key::Home, Key::End, Key::End]),
            ("\u{1b}[1;5Aj", vec![Key::Up, Key::Char('j')]),
            ("\u{1b}[Ax", vec![Key::Up, Key::Char('x')]),
        ] {
            assert_eq!(keys(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn what_looks_like_a_key_that_decides_is_none() {
        // With the alt key, in a sequence, in an answer of the terminal, and pasted.
        for bytes in ["\u{1b}a", "\u{1b}y", "\u{1b}Oy", "\u{1b}[1;2y", "\u{1b}[?1;2c", "\u{1b}[200~ay\rq\u{1b}[201~"] {
            let keys = keys(bytes);
            assert_eq!(keys.len(), 1, "{bytes:?}: {keys:?}");
            assert!(matches!(keys[0], Key::Other | Key::Pasted(_)), "{bytes:?}: {keys:?}");
        }
        assert_eq!(keys("\u{1b}[200~one\r\ntwo\u{1b}[201~y"), [Key::Pasted("one two".into()), Key::Char('y')]);
    }

    #[test]
    fn a_paste_of_any_length_ends_where_it_ends() {
        let text = format!("\u{1b}[200~{}\u{1b}[201~j", "x".repeat(100_000));
        let Key::Pasted(found) = &keys(&text)[0] else { panic!("no text") };
        assert!(found.len() <= MOST_PASTED && keys(&text)[1..] == [Key::Char('j')]);
        let mut keyboard = Keyboard::default();
        assert_eq!(keyboard.read(b"\x1b[200~never ended"), []);
        assert!(keyboard.waits());
        assert_eq!(keyboard.give_up(), Some(Key::Pasted("never ended".into())));
        assert!(!keyboard.waits());
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_are_the_same_keys(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0..200usize) {
            let read = |pieces: &[&[u8]]| {
                let mut keyboard = Keyboard::default();
                let mut keys: Vec<Key> = pieces.iter().flat_map(|piece| keyboard.read(piece)).collect();
                keys.extend(keyboard.give_up());
                keys
            };
            let at = at.min(bytes.len());
            prop_assert_eq!(read(&[&bytes]), read(&[&bytes[..at], &bytes[at..]]));
        }
    }
}
