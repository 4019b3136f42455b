//! How a record is signed, hashed and chained to the one before it.
//!
//! What is signed is the RFC 8785 canonical JSON of `{"type": "countersign.dev/record/v1", "record": R}`, where R is the
//! record's `spec` as stored, without `signature`. The hash of a record is the SHA-256 of the same bytes.

use crate::api::{ApprovalRecordSpec, RecordEntry};
use crate::binding::{CanonicalError, Keyring, canonical_around, hash_text};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Serialize, Serializer};
use serde_json::Value;

/// `previous` of the first record.
pub const GENESIS: &str = "genesis";
/// What a signature over a record is about, so that it can stand for nothing else.
const TYPE: &str = "countersign.dev/record/v1";

/// How far a chain has come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Head {
    /// Entries so far: the number of the last one.
    pub length: i64,
    /// Hash of the last record; [`GENESIS`] where there is none.
    pub hash: String,
}

impl Default for Head {
    fn default() -> Self {
        Self { length: 0, hash: GENESIS.into() }
    }
}

/// What is signed, its keys in order.
#[derive(Serialize)]
struct Signed<'a> {
    record: Unsigned<'a>,
    #[serde(rename = "type")]
    about: &'static str,
}

/// A record's `spec` without `signature`.
struct Unsigned<'a>(&'a Value);

impl Serialize for Unsigned<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(fields) => serializer.collect_map(fields.iter().filter(|(name, _)| *name != "signature")),
            other => other.serialize(serializer),
        }
    }
}

/// A record that was signed here, and what was computed for that.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// The record.
    pub record: ApprovalRecordSpec,
    /// The same as it is to be stored.
    pub spec: Value,
    /// What is signed and hashed of it.
    pub signed: Vec<u8>,
}

/// The record that takes a chain on from `head` by these entries, signed.
pub fn sealed(head: &Head, entries: Vec<RecordEntry>, key: &Keyring) -> Result<Sealed, CanonicalError> {
    let mut record = ApprovalRecordSpec {
        sequence: head.length + 1,
        last: head.length + i64::try_from(entries.len()).unwrap_or(i64::MAX),
        previous: head.hash.clone(),
        entries,
        key_id: key.id().into(),
        signature: String::new(),
    };
    let mut spec = serde_json::to_value(&record)?;
    let signed = signed_bytes(&spec)?;
    record.signature = STANDARD.encode(key.sign(&signed));
    spec["signature"] = record.signature.as_str().into();
    Ok(Sealed { record, spec, signed })
}

/// The same, as a record alone.
pub fn seal(head: &Head, entries: Vec<RecordEntry>, key: &Keyring) -> Result<ApprovalRecordSpec, CanonicalError> {
    sealed(head, entries, key).map(|sealed| sealed.record)
}

/// What is signed and hashed of a record's `spec`, as stored.
pub fn signed_bytes(spec: &Value) -> Result<Vec<u8>, CanonicalError> {
    canonical_around(spec, &Signed { record: Unsigned(spec), about: TYPE })
}

/// The hash that the next record names.
pub fn hash(spec: &Value) -> Result<String, CanonicalError> {
    Ok(hash_text(&signed_bytes(spec)?))
}

/// The name of the record whose first entry has that number. Names sort as numbers do.
pub fn object_name(sequence: i64) -> String {
    format!("record-{sequence:016}")
}
