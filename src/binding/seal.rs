//! The seal on a review: proof that admission saw this reviewer say this about this request.

use crate::binding::{CanonicalError, Keyring, canonical};
use serde_json::{Value, json};

/// What a dry run gets in place of a seal; it verifies under no key.
pub const UNUSABLE_SEAL: &str = "dry-run";

/// The seal for a review of the request `uid`. `review` is the entry as it will be stored; its `seal` is ignored.
pub fn seal(key: &Keyring, uid: &str, review: &Value) -> Result<String, CanonicalError> {
    Ok(key.sign_text(&sealed_bytes(uid, review)?))
}

/// Whether the stored entry carries an accepted key's seal for the request `uid`, over every other field that it has.
pub fn verify_seal(key: &Keyring, uid: &str, review: &Value) -> bool {
    let seal = review.get("seal").and_then(Value::as_str).unwrap_or_default();
    sealed_bytes(uid, review).is_ok_and(|bytes| key.verify_text(&bytes, seal))
}

fn sealed_bytes(uid: &str, review: &Value) -> Result<Vec<u8>, CanonicalError> {
    let mut entry = review.clone();
    if let Some(fields) = entry.as_object_mut() {
        fields.remove("seal");
    }
    canonical(&json!({"type": "countersign.dev/review/v1", "request": uid, "review": entry}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_covers_the_request_and_every_field() {
        let (key, other) = (Keyring::from_seed(&[7; 32]).unwrap(), Keyring::from_seed(&[8; 32]).unwrap());
        let mut review = json!({
            "reviewer": {"username": "alice", "groups": ["sre"]}, "decision": "Approve",
            "digest": "sha256:00", "comment": "seen", "time": "2026-01-01T00:00:00.000000Z"
        });
        review["seal"] = json!(seal(&key, "uid-1", &review).unwrap());
        assert!(verify_seal(&key, "uid-1", &review));
        assert!(!verify_seal(&key, "uid-2", &review), "another request");
        assert!(!verify_seal(&other, "uid-1", &review), "another key");
        for (pointer, value) in [
            ("/reviewer/username", json!("bob")),
            ("/reviewer/groups/0", json!("security")),
            ("/decision", json!("Deny")),
            ("/digest", json!("sha256:01")),
            ("/comment", json!("")),
            ("/time", json!("2026-01-01T00:00:00.000001Z")),
            ("/seal", json!(UNUSABLE_SEAL)),
        ] {
            let mut forged = review.clone();
            *forged.pointer_mut(pointer).unwrap() = value;
            assert!(!verify_seal(&key, "uid-1", &forged), "{pointer}");
        }
        review["extra"] = json!(1);
        assert!(!verify_seal(&key, "uid-1", &review), "a field added later");
    }
}
