//! The receipt on a released Job: who approved what, signed, made in this one place.
//!
//! A DSSE envelope (<https://github.com/secure-systems-lab/dsse>, protocol v1.0.2): the signature is over the
//! pre-authentication encoding of payload type and payload, so that it can stand for nothing else.

use crate::api::Constraints;
use crate::binding::{CanonicalError, Keyring, canonical};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::json;

const PAYLOAD_TYPE: &str = "application/vnd.countersign.receipt.v1+json";

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
    pub time: jiff::Timestamp,
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

/// The Job a receipt speaks of.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReceiptJob {
    /// Its uid.
    pub uid: String,
    /// `jobHash`.
    pub hash: String,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload_type: String,
    payload: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Deserialize, Serialize)]
struct EnvelopeSignature {
    keyid: String,
    sig: String,
}

impl Receipt {
    /// The signed envelope as one line of JSON.
    pub fn sign(&self, key: &Keyring) -> Result<String, CanonicalError> {
        let payload = canonical(&serde_json::to_value(self)?)?;
        let signature = key.sign(&pre_authentication_encoding(PAYLOAD_TYPE, &payload));
        let envelope = Envelope {
            payload_type: PAYLOAD_TYPE.into(),
            payload: STANDARD.encode(payload),
            signatures: vec![EnvelopeSignature { keyid: key.id().into(), sig: STANDARD.encode(signature) }],
        };
        Ok(json!(envelope).to_string())
    }

    /// What an envelope states, if it carries this key's signature; none for anything else.
    pub fn open(key: &Keyring, envelope: &str) -> Option<Self> {
        let envelope: Envelope = serde_json::from_str(envelope).ok()?;
        let payload = STANDARD.decode(&envelope.payload).ok()?;
        let signed = pre_authentication_encoding(&envelope.payload_type, &payload);
        let ours = |s: &EnvelopeSignature| STANDARD.decode(&s.sig).is_ok_and(|sig| key.verify(&signed, &sig));
        if envelope.payload_type != PAYLOAD_TYPE || !envelope.signatures.iter().any(ours) {
            return None;
        }
        serde_json::from_slice(&payload).ok()
    }
}

/// `"DSSEv1" SP LEN(type) SP type SP LEN(body) SP body`, lengths in ASCII decimal.
fn pre_authentication_encoding(payload_type: &str, body: &[u8]) -> Vec<u8> {
    let mut encoded = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), body.len()).into_bytes();
    encoded.extend_from_slice(body);
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_is_the_one_of_the_dsse_protocol() {
        let expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world";
        assert_eq!(pre_authentication_encoding("http://example.com/HelloWorld", b"hello world"), expected);
    }

    #[test]
    fn only_our_own_signature_opens() {
        let key = Keyring::from_seed(&[7; 32]).unwrap();
        let receipt = Receipt {
            request: Some(ReceiptRequest { namespace: "payments".into(), name: "run".into(), uid: "r1".into() }),
            job: ReceiptJob { uid: "j1".into(), hash: "sha256:00".into() },
            digest: "sha256:01".into(),
            policy_snapshot: "sha256:02".into(),
            approvers: vec!["alice".into()],
            passed: vec![],
            constraints: Constraints { max_runtime_seconds: Some(900), ..Default::default() },
            time: jiff::Timestamp::UNIX_EPOCH,
        };
        let envelope = receipt.sign(&key).unwrap();
        assert_eq!(Receipt::open(&key, &envelope), Some(receipt.clone()));
        assert_eq!(Receipt::open(&Keyring::from_seed(&[8; 32]).unwrap(), &envelope), None);
        let forged = Receipt { approvers: vec!["mallory".into()], ..receipt };
        let other = forged.sign(&Keyring::from_seed(&[8; 32]).unwrap()).unwrap();
        let mut spliced: serde_json::Value = serde_json::from_str(&envelope).unwrap();
        spliced["payload"] = serde_json::from_str::<serde_json::Value>(&other).unwrap()["payload"].clone();
        assert_eq!(Receipt::open(&key, &spliced.to_string()), None);
        assert_eq!(Receipt::open(&key, "{}"), None);
    }

    #[test]
    fn a_receipt_of_an_older_operator_opens_and_none_names_passes_that_there_were_not() {
        let key = Keyring::from_seed(&[7; 32]).unwrap();
        let older = json!({"job": {"uid": "j1", "hash": "sha256:00"}, "digest": "sha256:01", "policySnapshot": "sha256:02",
            "approvers": ["alice"], "constraints": {}, "time": "2026-01-01T00:00:00Z"});
        let mut receipt: Receipt = serde_json::from_value(older.clone()).unwrap();
        assert_eq!(serde_json::to_value(&receipt).unwrap(), older);
        let pass =
            json!({"policy": "production", "rule": "prod-write", "window": "weekend", "by": "carol", "held": true});
        receipt.passed = vec![serde_json::from_value(pass.clone()).unwrap()];
        let opened = Receipt::open(&key, &receipt.sign(&key).unwrap()).unwrap();
        assert_eq!(serde_json::to_value(opened).unwrap()["passed"], json!([pass]));
    }
}
