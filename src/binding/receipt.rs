//! The receipt on a released Job: who approved what, signed, made in this one place.
//!
//! A DSSE envelope around an in-toto Statement v1 (<https://github.com/in-toto/attestation>): its subject is the Job by
//! `jobHash`, its predicate the [`Receipt`]. Written as canonical JSON, so that the same release gives the same bytes.

use crate::api::Constraints;
use crate::binding::envelope::{Distrust, Envelope};
use crate::binding::{CanonicalError, Keyring, canonical};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Payload type of an in-toto statement.
pub(super) const STATEMENT_PAYLOAD: &str = "application/vnd.in-toto+json";
/// `_type` of an in-toto statement.
pub(super) const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// What the predicate is.
pub(super) const PREDICATE_TYPE: &str = "https://countersign.dev/receipt/v1";
/// Payload type of earlier operators, whose payload is the bare receipt: it is on Jobs that they released.
const EARLIER_PAYLOAD: &str = "application/vnd.countersign.receipt.v1+json";

/// What a receipt states.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// The request that was approved; none where policy allowed the Job without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<ReceiptRequest>,
    /// The Job or Pod that was released.
    pub job: ReceiptJob,
    /// What the approvers saw.
    pub digest: String,
    /// The policy outcome it was approved under.
    pub policy_snapshot: String,
    /// Who approved; empty where policy allows without approval.
    pub approvers: Vec<String>,
    /// Who passed which freeze windows; they need not be among those who approved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passed: Vec<Pass>,
    /// The bounds in force.
    pub constraints: Constraints,
    /// When the release was decided (RFC 3339).
    pub time: Timestamp,
    /// Until when it may be used: when a Job that started at once has used up its time. None where that is unbounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Timestamp>,
}

/// A freeze window that somebody passed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pass {
    /// The policy.
    pub policy: String,
    /// Its rule.
    pub rule: String,
    /// The window's name.
    pub window: String,
    /// Who passed it.
    pub by: String,
    /// Whether it held at the time of the release.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
}

/// The request a receipt speaks of.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReceiptRequest {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// The Job a receipt speaks of. What names the subject of the statement does not stand in the predicate again.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReceiptJob {
    /// `<namespace>/<kind>/<name>`; empty in a receipt of an earlier operator.
    #[serde(skip)]
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// `jobHash`.
    #[serde(default, skip_serializing)]
    pub hash: String,
}

impl ReceiptJob {
    /// Of a Job or Pod.
    pub fn of(kind: &str, namespace: &str, name: &str, uid: &str, hash: String) -> Self {
        Self { name: format!("{namespace}/{kind}/{name}"), uid: uid.into(), hash }
    }
}

/// Why an envelope is no receipt.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NoReceipt {
    /// Nothing is there.
    #[error("there is no receipt: Countersign did not release this")]
    Absent,
    /// It is something else.
    #[error("it is not a DSSE envelope: JSON with payloadType, payload and signatures")]
    NoEnvelope,
    /// Signed in the name of a trusted key, and not by it.
    #[error("it was changed after it was signed")]
    Changed,
    /// Signed by somebody else.
    #[error("none of the trusted keys signed it")]
    OtherKey,
    /// The key signed something else.
    #[error("it is signed, and is no receipt: {0}")]
    OtherStatement(&'static str),
}

impl Receipt {
    /// Until when a receipt may be used that was made at `time` for what may run that many seconds.
    pub fn valid_until(time: Timestamp, most_seconds: Option<i64>) -> Option<Timestamp> {
        time.checked_add(SignedDuration::from_secs(most_seconds?)).ok()
    }

    /// The signed envelope as one line of JSON.
    pub fn sign(&self, key: &Keyring) -> Result<String, CanonicalError> {
        let hash = self.job.hash.strip_prefix("sha256:").unwrap_or(&self.job.hash);
        let statement = json!({
            "_type": STATEMENT_TYPE,
            "subject": [{"name": self.job.name, "digest": {"sha256": hash}}],
            "predicateType": PREDICATE_TYPE,
            "predicate": serde_json::to_value(self)?,
        });
        Ok(Envelope::seal(STATEMENT_PAYLOAD, &canonical(&statement)?, key).text())
    }

    /// What an envelope states, if a key that is accepted signed it; none for anything else. Receipts of earlier operators
    /// open as well: without them, what those released would count as started by somebody else.
    pub fn open(key: &Keyring, envelope: &str) -> Option<Self> {
        Self::read(&key.accepted(), envelope).ok()
    }

    /// What an envelope states, if one of the keys signed it.
    pub(super) fn read(keys: &[[u8; 32]], envelope: &str) -> Result<Self, NoReceipt> {
        if envelope.trim().is_empty() {
            return Err(NoReceipt::Absent);
        }
        let envelope = Envelope::parse(envelope).ok_or(NoReceipt::NoEnvelope)?;
        let payload = envelope.open(keys).map_err(|distrust| match distrust {
            Distrust::Changed => NoReceipt::Changed,
            Distrust::OtherKey => NoReceipt::OtherKey,
        })?;
        let other = NoReceipt::OtherStatement;
        match envelope.payload_type.as_str() {
            STATEMENT_PAYLOAD => statement(&payload).map_err(other),
            EARLIER_PAYLOAD => bare(&payload).ok_or(other("its payload cannot be read")),
            _ => Err(other("its payloadType")),
        }
    }
}

/// A statement about exactly one Job. Fields that this version does not know are ignored, as in-toto demands, but for bounds:
/// whoever ignored one would go too far.
fn statement(payload: &[u8]) -> Result<Receipt, &'static str> {
    let statement: Value = serde_json::from_slice(payload).map_err(|_| "its payload is not JSON")?;
    if statement["_type"] != STATEMENT_TYPE {
        return Err("its _type");
    }
    if statement["predicateType"] != PREDICATE_TYPE {
        return Err("its predicateType");
    }
    let [subject] = statement["subject"].as_array().map(Vec::as_slice).unwrap_or_default() else {
        return Err("it does not have exactly one subject");
    };
    let (Some(name), Some(hash)) = (subject["name"].as_str(), subject["digest"]["sha256"].as_str()) else {
        return Err("its subject has no name, or no digest sha256");
    };
    if hash.len() != 64 || !hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err("its subject's digest is not 64 lower-case hexadecimal digits");
    }
    let mut receipt: Receipt =
        serde_json::from_value(statement["predicate"].clone()).map_err(|_| "this version cannot read its predicate")?;
    receipt.job.name = name.into();
    receipt.job.hash = format!("sha256:{hash}");
    Ok(receipt)
}

fn bare(payload: &[u8]) -> Option<Receipt> {
    let receipt: Receipt = serde_json::from_slice(payload).ok()?;
    (!receipt.job.hash.is_empty()).then_some(receipt)
}

#[cfg(test)]
pub(crate) mod earlier {
    use super::*;

    /// The envelope that an earlier operator wrote.
    pub(crate) fn sign(receipt: &Receipt, key: &Keyring) -> String {
        let mut payload = serde_json::to_value(receipt).unwrap();
        payload.as_object_mut().unwrap().remove("validUntil");
        payload["job"]["hash"] = json!(receipt.job.hash);
        Envelope::seal(EARLIER_PAYLOAD, &canonical(&payload).unwrap(), key).text()
    }
}

#[cfg(test)]
#[path = "receipt_tests.rs"]
pub(super) mod tests;
