//! The ed25519 keys that seal reviews and sign receipts and records.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A seed has another length than 32 bytes.
    #[error("the signing key has {0} bytes, not 32")]
    Length(usize),
    /// A Secret holds something that this version does not know.
    #[error("has an entry {0}, which this version does not know")]
    Unknown(String),
    /// The seed that signs is not there.
    #[error("has no entry seed; delete the Secret to have a new key made (open reviews must then be given anew)")]
    NoSeed,
    /// One entry is no key.
    #[error("its entry {0} has {1} bytes, not 32")]
    Entry(&'static str, usize),
    /// The list of retired keys is not one.
    #[error("its entry retired has {0} bytes, no multiple of 32")]
    Retired(usize),
    /// Entries that are never there together.
    #[error("has both next and previous: one key is replaced at a time")]
    TwoRotations,
    /// A key that stands in two places.
    #[error("holds key {0} twice")]
    Twice(String),
}

/// The keys that an operator holds: one signs, and beside it others are accepted while the signing key is replaced. Read once,
/// at start, so that every change takes a restart. Nothing prints a key.
///
/// Whether a seal or receipt is accepted is decided by these alone, and not by any public key that is found in a cluster.
pub struct Keyring {
    signer: Key,
    /// Accepted already, and signs later.
    next: Option<Key>,
    /// Accepted still, and signed before.
    previous: Option<Key>,
    /// Public halves of keys that are accepted no longer.
    retired: Vec<[u8; 32]>,
}

struct Key {
    key: SigningKey,
    id: String,
}

impl Key {
    fn of(seed: &[u8; 32]) -> Self {
        let key = SigningKey::from_bytes(seed);
        let id = key_name(key.verifying_key().as_bytes());
        Self { key, id }
    }

    fn public(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = |key: &Option<Key>| key.as_ref().map(|key| key.id.clone());
        f.debug_struct("Keyring")
            .field("signer", &self.signer.id)
            .field("next", &name(&self.next))
            .field("previous", &name(&self.previous))
            .finish_non_exhaustive()
    }
}

impl Keyring {
    /// One key alone, from the 32 bytes of an ed25519 seed (RFC 8032, section 5.1.5).
    pub fn from_seed(seed: &[u8]) -> Result<Self, KeyError> {
        let seed: [u8; 32] = seed.try_into().map_err(|_| KeyError::Length(seed.len()))?;
        Ok(Self::of(&seed, None, None, vec![]))
    }

    pub(super) fn of(
        seed: &[u8; 32],
        next: Option<&[u8; 32]>,
        previous: Option<&[u8; 32]>,
        retired: Vec<[u8; 32]>,
    ) -> Self {
        Self { signer: Key::of(seed), next: next.map(Key::of), previous: previous.map(Key::of), retired }
    }

    /// Name of the key that signs: the first 16 hexadecimal digits of the SHA-256 of its public half.
    pub fn id(&self) -> &str {
        &self.signer.id
    }

    /// The public half of the key that signs, 32 bytes.
    pub fn public(&self) -> [u8; 32] {
        self.signer.public()
    }

    /// The public half of the key that will sign next, if one was added.
    pub fn next(&self) -> Option<[u8; 32]> {
        self.next.as_ref().map(Key::public)
    }

    /// The public halves of all keys that are accepted: the one that signs, first, and those beside it.
    pub fn accepted(&self) -> Vec<[u8; 32]> {
        self.all().map(Key::public).collect()
    }

    /// The public halves of keys that are accepted no longer.
    pub fn retired(&self) -> &[[u8; 32]] {
        &self.retired
    }

    fn all(&self) -> impl Iterator<Item = &Key> {
        [Some(&self.signer), self.next.as_ref(), self.previous.as_ref()].into_iter().flatten()
    }

    /// Signature over `message`, 64 bytes. Deterministic (RFC 8032).
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.signer.sign(message)
    }

    /// Signatures over `message` by every key that is accepted, the signer's first: for what is recognized by being made
    /// again, whichever replica made it.
    pub(super) fn sign_by_each(&self, message: &[u8]) -> impl Iterator<Item = [u8; 64]> {
        self.all().map(|key| key.sign(message))
    }

    /// Signature over `message` by the key that has been here longest: the same from replicas before and after a promotion.
    pub fn sign_by_oldest(&self, message: &[u8]) -> [u8; 64] {
        self.previous.as_ref().unwrap_or(&self.signer).sign(message)
    }

    /// `<key id>.<signature>`, the signature in unpadded URL-safe base64.
    pub(super) fn sign_text(&self, message: &[u8]) -> String {
        format!("{}.{}", self.signer.id, URL_SAFE_NO_PAD.encode(self.sign(message)))
    }

    /// Whether `text` is what [`Self::sign_text`] gives for `message`, under the accepted key that it names; refuses weak keys
    /// and malleable signatures.
    pub(super) fn verify_text(&self, message: &[u8], text: &str) -> bool {
        let Some((id, signature)) = text.split_once('.') else { return false };
        let Some(key) = self.all().find(|key| key.id == id) else { return false };
        let signature = URL_SAFE_NO_PAD.decode(signature);
        signature.is_ok_and(|signature| verify_with(&key.key.verifying_key(), message, &signature))
    }
}

/// The public half of the key that is made from a seed.
pub(super) fn key_of(seed: &[u8; 32]) -> [u8; 32] {
    SigningKey::from_bytes(seed).verifying_key().to_bytes()
}

/// The name of the key that a seal says it is by. Proves nothing.
pub fn named_key(seal: &str) -> &str {
    seal.split_once('.').map_or("", |(id, _)| id)
}

/// Whether `signature` is that of the key whose public half is given, over `message`; refuses weak keys and malleable
/// signatures.
pub fn verify(public: &[u8; 32], message: &[u8], signature: &[u8]) -> bool {
    VerifyingKey::from_bytes(public).is_ok_and(|key| verify_with(&key, message, signature))
}

fn verify_with(key: &VerifyingKey, message: &[u8], signature: &[u8]) -> bool {
    Signature::from_slice(signature).is_ok_and(|signature| key.verify_strict(message, &signature).is_ok())
}

/// Name of a public key: the first 16 hexadecimal digits of its SHA-256.
pub fn key_name(public: &[u8; 32]) -> String {
    Sha256::digest(public).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
