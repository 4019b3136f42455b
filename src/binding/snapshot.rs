//! Policy snapshots: kept by content, named by their hash.

use crate::binding::{CanonicalError, sha256};
use serde_json::Value;

/// A policy outcome as a document, and its hash.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// `sha256:…` of the content.
    pub hash: String,
    /// The outcome in full.
    pub content: Value,
}

impl Snapshot {
    /// Hashes a document.
    pub fn of(content: Value) -> Result<Self, CanonicalError> {
        Ok(Self { hash: sha256(&content)?, content })
    }

    /// The document that was read under a name, if it is what that name says.
    pub fn checked(hash: &str, content: Value) -> Option<Self> {
        Self::of(content).ok().filter(|snapshot| snapshot.hash == hash)
    }

    /// Name of the object that keeps this content: `snapshot-` and the hash in hexadecimal.
    pub fn object_name(&self) -> String {
        format!("snapshot-{}", self.hash.trim_start_matches("sha256:"))
    }
}
