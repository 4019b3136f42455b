//! The DSSE envelope (<https://github.com/secure-systems-lab/dsse>, protocol v1.0.2): the signature is over the
//! pre-authentication encoding of payload type and payload, so that it can stand for nothing else.

use crate::binding::{Keyring, key_name, verify};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Envelope {
    pub(super) payload_type: String,
    payload: String,
    signatures: Vec<Signature>,
}

#[derive(Deserialize, Serialize)]
struct Signature {
    #[serde(default)]
    keyid: String,
    sig: String,
}

/// What stands in the way of trusting an envelope's payload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Distrust {
    /// It is signed in the name of a key that is trusted, and the signature is not that key's.
    Changed,
    /// No key that is trusted signed it.
    OtherKey,
}

impl Envelope {
    /// Signs a payload.
    pub(super) fn seal(payload_type: &str, payload: &[u8], key: &Keyring) -> Self {
        let signature = key.sign(&pre_authentication_encoding(payload_type, payload));
        Self {
            payload_type: payload_type.into(),
            payload: STANDARD.encode(payload),
            signatures: vec![Signature { keyid: key.id().into(), sig: STANDARD.encode(signature) }],
        }
    }

    /// As one line of JSON.
    pub(super) fn text(&self) -> String {
        json!(self).to_string()
    }

    /// Of its JSON.
    pub(super) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The payload, if one of the keys signed it. `keyid` proves nothing and is not needed; it only tells what is wrong.
    pub(super) fn open(&self, keys: &[[u8; 32]]) -> Result<Vec<u8>, Distrust> {
        let payload = STANDARD.decode(&self.payload).map_err(|_| Distrust::Changed)?;
        let signed = pre_authentication_encoding(&self.payload_type, &payload);
        let trusted = |s: &Signature| {
            STANDARD.decode(&s.sig).is_ok_and(|signature| keys.iter().any(|key| verify(key, &signed, &signature)))
        };
        if self.signatures.iter().any(trusted) {
            return Ok(payload);
        }
        let named = |s: &Signature| keys.iter().any(|key| key_name(key) == s.keyid);
        Err(if self.signatures.iter().any(named) { Distrust::Changed } else { Distrust::OtherKey })
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
    fn a_payload_opens_under_its_own_type_with_the_key_that_signed_it() {
        let (ours, theirs) = (Keyring::from_seed(&[7; 32]).unwrap(), Keyring::from_seed(&[8; 32]).unwrap());
        let mut envelope = Envelope::parse(&Envelope::seal("a", b"body", &ours).text()).unwrap();
        assert_eq!(envelope.open(&[theirs.public(), ours.public()]), Ok(b"body".to_vec()));
        assert_eq!(envelope.open(&[theirs.public()]), Err(Distrust::OtherKey));
        assert_eq!(envelope.open(&[]), Err(Distrust::OtherKey));
        envelope.payload_type = "b".into();
        assert_eq!(envelope.open(&[ours.public()]), Err(Distrust::Changed));
        envelope = Envelope::seal("a", b"body", &ours);
        envelope.payload = "?".into();
        assert_eq!(envelope.open(&[ours.public()]), Err(Distrust::Changed));
        envelope = Envelope::seal("a", b"body", &ours);
        envelope.signatures[0].keyid = String::new();
        assert_eq!(envelope.open(&[ours.public()]), Ok(b"body".to_vec()), "a hint that is missing");
        envelope.signatures.clear();
        assert_eq!(envelope.open(&[ours.public()]), Err(Distrust::OtherKey));
    }
}
