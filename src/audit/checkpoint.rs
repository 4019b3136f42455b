//! Signed statements of how far the trail has come, for whoever keeps one: a trail that is shorter, or another, shows.
//!
//! The form is that of a C2SP checkpoint (<https://c2sp.org/tlog-checkpoint>) in a signed note
//! (<https://c2sp.org/signed-note>, Ed25519): origin, size, hash, an empty line, and signatures. Size is the number of
//! entries, and the hash is that of the last record. It is the head of a chain, not the root of a Merkle tree.

use crate::audit::Head;
use crate::binding::{Keyring, digest_text};
use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

/// Type of an Ed25519 signature in a signed note.
const ED25519: u8 = 1;
/// Bytes of a key's id in a signed note.
const ID: usize = 4;
/// Most signatures that are looked at.
const MOST_SIGNATURES: usize = 64;

/// How far the trail of that origin had come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Checkpoint {
    /// Which trail: `countersign.dev/audit/<the first record's hash, in short>`.
    pub origin: String,
    /// The number of entries, and the hash of the last record.
    pub head: Head,
}

/// Why a text is no checkpoint that can be believed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CheckpointError {
    /// Not the form.
    #[error("this is no checkpoint: {0}")]
    Form(&'static str),
    /// Nobody signed it who is trusted.
    #[error("none of the trusted keys signed this checkpoint")]
    Unsigned,
    /// A trusted key is named, and did not sign this.
    #[error("this checkpoint was changed after key {0} signed it")]
    Changed(String),
}

/// The origin of the trail whose first record has that hash.
pub fn origin(first: &str) -> String {
    let hash = first.strip_prefix("sha256:").unwrap_or(first);
    format!("countersign.dev/audit/{}", hash.get(..16).unwrap_or(hash))
}

impl Checkpoint {
    /// As a signed note. None for a chain without records, which has nothing to state.
    pub fn sign(&self, key: &Keyring) -> Option<String> {
        let text = self.text()?;
        let mut signature = key_id(&self.origin, &key.public()).to_vec();
        signature.extend(key.sign(text.as_bytes()));
        Some(format!("{text}\n\u{2014} {} {}\n", self.origin, STANDARD.encode(signature)))
    }

    fn text(&self) -> Option<String> {
        let hash = bytes(self.head.hash.strip_prefix("sha256:")?)?;
        Some(format!("{}\n{}\n{}\n", self.origin, self.head.length, STANDARD.encode(hash)))
    }

    /// Reads a signed note that one of these public keys signed. Signatures of others, such as witnesses, do not count.
    pub fn open(note: &str, keys: &[[u8; 32]]) -> Result<Self, CheckpointError> {
        let (text, signatures) = note.rsplit_once("\n\n").ok_or(CheckpointError::Form("it has no signatures"))?;
        let text = format!("{text}\n");
        let checkpoint = Self::read(&text)?;
        let mut signed = false;
        for line in signatures.lines().take(MOST_SIGNATURES) {
            let (name, signature) = line
                .strip_prefix("\u{2014} ")
                .and_then(|line| line.split_once(' '))
                .ok_or(CheckpointError::Form("a line is no signature"))?;
            let signature =
                STANDARD.decode(signature).map_err(|_| CheckpointError::Form("a signature is not base64"))?;
            let Some((id, signature)) = signature.split_at_checked(ID) else {
                return Err(CheckpointError::Form("a signature is too short"));
            };
            for key in keys.iter().filter(|key| name == checkpoint.origin && key_id(name, key) == id) {
                if !crate::binding::verify(key, text.as_bytes(), signature) {
                    return Err(CheckpointError::Changed(crate::binding::key_name(key)));
                }
                signed = true;
            }
        }
        if signed { Ok(checkpoint) } else { Err(CheckpointError::Unsigned) }
    }

    fn read(text: &str) -> Result<Self, CheckpointError> {
        let mut lines = text.lines();
        let mut next =
            || lines.next().filter(|line| !line.is_empty()).ok_or(CheckpointError::Form("a line is missing"));
        let (origin, length, hash) = (next()?, next()?, next()?);
        let number = length.parse::<i64>().ok().filter(|n| *n >= 0 && n.to_string() == length);
        let number = number.ok_or(CheckpointError::Form("its second line is no length"))?;
        let hash = STANDARD.decode(hash).ok().filter(|hash| hash.len() == 32);
        let hash = hash.ok_or(CheckpointError::Form("its third line is no hash"))?;
        Ok(Self { origin: origin.into(), head: Head { length: number, hash: digest_text(&hash) } })
    }
}

/// SHA-256(name, newline, type, public key), the first four bytes.
fn key_id(name: &str, public: &[u8; 32]) -> [u8; ID] {
    let digest = Sha256::new().chain_update(name).chain_update([b'\n', ED25519]).chain_update(public).finalize();
    let mut id = [0; ID];
    id.copy_from_slice(&digest[..ID]);
    id
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digit = |at: usize| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
    (hex.len() == 64).then(|| (0..64).step_by(2).map(digit).collect()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            origin: origin("sha256:0123456789abcdef00"),
            head: Head { length: 12, hash: format!("sha256:{}", "5a".repeat(32)) },
        }
    }

    #[test]
    fn the_form_is_that_of_c2sp() {
        let key = Keyring::from_seed(&[7; 32]).unwrap();
        let note = checkpoint().sign(&key).unwrap();
        let lines: Vec<_> = note.split('\n').collect();
        assert_eq!(lines[..4], ["countersign.dev/audit/0123456789abcdef", "12", &STANDARD.encode([0x5a; 32]), ""]);
        assert!(lines[4].starts_with("\u{2014} countersign.dev/audit/0123456789abcdef ") && lines[5..] == [""]);
        assert_eq!(Checkpoint::open(&note, &[key.public()]), Ok(checkpoint()));
    }

    /// The example key in the documentation of golang.org/x/mod/sumdb/note.
    #[test]
    fn a_key_id_is_the_one_of_signed_notes() {
        let key = STANDARD.decode("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW").unwrap();
        let public: [u8; 32] = key[1..].try_into().unwrap();
        assert_eq!((key[0], key_id("PeterNeumann", &public)), (ED25519, [0xc7, 0x4f, 0x20, 0xa3]));
    }

    #[test]
    fn only_what_a_trusted_key_signed_is_believed() {
        let (key, other) = (Keyring::from_seed(&[7; 32]).unwrap(), Keyring::from_seed(&[8; 32]).unwrap());
        let note = checkpoint().sign(&key).unwrap();
        assert_eq!(Checkpoint::open(&note, &[other.public()]), Err(CheckpointError::Unsigned));
        let both = [other.public(), key.public()];
        let longer = note.replacen("\n12\n", "\n13\n", 1);
        assert_eq!(Checkpoint::open(&longer, &both), Err(CheckpointError::Changed(key.id().into())));
        // A witness beside us changes nothing, and does not stand for us.
        let witness = other.sign(b"anything");
        let line = format!("\u{2014} witness.example {}\n", STANDARD.encode([&[0; 4][..], &witness].concat()));
        assert_eq!(Checkpoint::open(&format!("{note}{line}"), &both), Ok(checkpoint()));
        let witnessed = format!("{}\n{line}", checkpoint().text().unwrap());
        assert_eq!(Checkpoint::open(&witnessed, &both), Err(CheckpointError::Unsigned));
    }

    #[test]
    fn what_is_no_checkpoint_is_refused_without_a_panic() {
        for bad in [
            "",
            "\n\n",
            "a\n\n\u{2014} a b\n",
            "a\n012\nAAAA\n\n\u{2014} a AAAAAAAA\n",
            "a\n1\nAAAA\n\n\u{2014}",
            "a\n-1\nx\n\n— a AAAA",
        ] {
            assert!(Checkpoint::open(bad, &[[1; 32]]).is_err(), "{bad:?}");
        }
        assert_eq!(
            Checkpoint { origin: "o".into(), head: Head::default() }.sign(&Keyring::from_seed(&[7; 32]).unwrap()),
            None
        );
    }
}
