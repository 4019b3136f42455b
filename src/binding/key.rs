//! The ed25519 key that seals reviews and signs receipts.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A seed has another length than 32 bytes.
    #[error("the signing key has {0} bytes, not 32")]
    Length(usize),
}

/// The signing key and its name. Nothing prints the key.
pub struct Keyring {
    key: SigningKey,
    id: String,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Keyring {
    /// From the 32 bytes of an ed25519 seed (RFC 8032, section 5.1.5).
    pub fn from_seed(seed: &[u8]) -> Result<Self, KeyError> {
        let seed: [u8; 32] = seed.try_into().map_err(|_| KeyError::Length(seed.len()))?;
        let key = SigningKey::from_bytes(&seed);
        let id = key_name(key.verifying_key().as_bytes());
        Ok(Self { key, id })
    }

    /// Name of the key: the first 16 hexadecimal digits of the SHA-256 of the public key.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The public key, 32 bytes.
    pub fn public(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    /// Signature over `message`, 64 bytes. Deterministic (RFC 8032).
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }

    /// Whether `signature` is this key's over `message`; refuses weak keys and malleable signatures.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        verify_with(&self.key.verifying_key(), message, signature)
    }

    /// `<key id>.<signature>`, the signature in unpadded URL-safe base64.
    pub(super) fn sign_text(&self, message: &[u8]) -> String {
        format!("{}.{}", self.id, URL_SAFE_NO_PAD.encode(self.sign(message)))
    }

    /// Whether `text` is what [`Self::sign_text`] gives for `message`.
    pub(super) fn verify_text(&self, message: &[u8], text: &str) -> bool {
        text.split_once('.')
            .filter(|(id, _)| *id == self.id)
            .and_then(|(_, signature)| URL_SAFE_NO_PAD.decode(signature).ok())
            .is_some_and(|signature| self.verify(message, &signature))
    }
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
