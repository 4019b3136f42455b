//! Whether a receipt holds for a Job, at a time, for whoever has the public keys and nothing else.

use crate::binding::{NoReceipt, Receipt};
use jiff::Timestamp;

/// What a receipt must speak of, beside what it says itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected<'a> {
    /// The Job's or Pod's uid.
    pub job_uid: Option<&'a str>,
    /// The Job or Pod, as `<namespace>/<kind>/<name>`. A receipt of an earlier operator does not name it.
    pub job_name: Option<&'a str>,
    /// The digest that was approved.
    pub digest: Option<&'a str>,
}

/// Why a receipt does not hold.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// It is none, or not signed by whom it should be.
    #[error(transparent)]
    NoReceipt(#[from] NoReceipt),
    /// It speaks of something else.
    #[error("it is for {what}{stated}, not {expected}")]
    Other {
        /// What differs, before its value.
        what: &'static str,
        /// What it says.
        stated: String,
        /// What it should say.
        expected: String,
    },
    /// It may not be used any more.
    #[error("it was valid until {until}; it is {now}")]
    Over {
        /// Until when it was.
        until: Timestamp,
        /// The time of the check.
        now: Timestamp,
    },
}

/// Checks a receipt: that one of the keys signed it, that it speaks of what is expected, and that its time is not over.
pub fn check(keys: &[[u8; 32]], envelope: &str, expected: &Expected<'_>, now: Timestamp) -> Result<Receipt, Refusal> {
    let receipt = Receipt::read(keys, envelope)?;
    let unnamed = receipt.job.name.is_empty();
    same("the Job or Pod with uid ", &receipt.job.uid, expected.job_uid)?;
    same("", &receipt.job.name, expected.job_name.filter(|_| !unnamed))?;
    same("digest ", &receipt.digest, expected.digest)?;
    if let Some(until) = receipt.valid_until.filter(|until| now > *until) {
        return Err(Refusal::Over { until, now });
    }
    Ok(receipt)
}

fn same(what: &'static str, stated: &str, expected: Option<&str>) -> Result<(), Refusal> {
    match expected {
        Some(expected) if expected != stated => {
            Err(Refusal::Other { what, stated: stated.into(), expected: expected.into() })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binding::Keyring;
    use crate::binding::receipt::{PREDICATE_TYPE, STATEMENT_PAYLOAD, STATEMENT_TYPE, earlier};
    use crate::binding::{canonical, envelope::Envelope};
    use serde_json::{Value, json};

    const MADE: Timestamp = Timestamp::UNIX_EPOCH;

    fn key() -> Keyring {
        Keyring::from_seed(&[7; 32]).unwrap()
    }

    fn receipt() -> Receipt {
        crate::binding::receipt::tests::receipt()
    }

    fn checked(envelope: &str, expected: &Expected<'_>, now: Timestamp) -> Result<Receipt, String> {
        check(&[key().public()], envelope, expected, now).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn a_receipt_holds_for_its_own_job_until_its_time_is_over() {
        let envelope = receipt().sign(&key()).unwrap();
        let own = Expected { job_uid: Some("j1"), job_name: Some("payments/Job/remediate"), digest: Some("sha256:01") };
        let until = receipt().valid_until.unwrap();
        for (now, expected) in [(MADE, Expected::default()), (MADE, own), (until, own)] {
            assert_eq!(checked(&envelope, &expected, now), Ok(receipt()));
        }
        for (expected, said) in [
            (Expected { job_uid: Some("j2"), ..own }, "it is for the Job or Pod with uid j1, not j2"),
            (Expected { job_uid: Some(""), ..own }, "it is for the Job or Pod with uid j1, not "),
            (Expected { digest: Some("sha256:02"), ..own }, "it is for digest sha256:01, not sha256:02"),
            (
                Expected { job_name: Some("payments/Job/other"), ..own },
                "it is for payments/Job/remediate, not payments/Job/other",
            ),
        ] {
            assert_eq!(checked(&envelope, &expected, MADE), Err(said.into()));
        }
        let over = until + jiff::SignedDuration::from_nanos(1);
        let said = "it was valid until 1970-01-01T00:15:00Z; it is 1970-01-01T00:15:00.000000001Z";
        assert_eq!(checked(&envelope, &own, over), Err(said.into()));
        let unbounded = Receipt { valid_until: None, ..receipt() }.sign(&key()).unwrap();
        assert!(checked(&unbounded, &own, Timestamp::MAX).is_ok());
    }

    #[test]
    fn what_is_no_receipt_says_why() {
        let envelope = receipt().sign(&key()).unwrap();
        let forged = Receipt { approvers: vec!["mallory".into()], ..receipt() };
        let theirs = forged.sign(&Keyring::from_seed(&[8; 32]).unwrap()).unwrap();
        let mut spliced: Value = serde_json::from_str(&envelope).unwrap();
        spliced["payload"] = serde_json::from_str::<Value>(&theirs).unwrap()["payload"].clone();
        let retyped = envelope.replace("in-toto", "in-tofu");
        for (text, said) in [
            (String::new(), "there is no receipt: Countersign did not release this"),
            ("\n".into(), "there is no receipt: Countersign did not release this"),
            ("{}".into(), "it is not a DSSE envelope: JSON with payloadType, payload and signatures"),
            (theirs, "none of the trusted keys signed it"),
            (spliced.to_string(), "it was changed after it was signed"),
            (retyped, "it was changed after it was signed"),
        ] {
            assert_eq!(checked(&text, &Expected::default(), MADE), Err(said.into()), "{text}");
        }
    }

    #[test]
    fn bounds_that_this_version_does_not_know_are_not_passed_over() {
        let predicate = json!({"job": {"uid": "j1"}, "digest": "sha256:01", "policySnapshot": "sha256:02",
            "approvers": [], "constraints": {"maxRetries": 1}, "time": "2026-01-01T00:00:00Z", "more": 1});
        let mut statement = json!({"_type": STATEMENT_TYPE, "predicateType": PREDICATE_TYPE, "predicate": predicate,
            "subject": [{"name": "payments/Pod/probe", "digest": {"sha256": "0".repeat(64)}}], "more": 1});
        let signed = |s: &Value| Envelope::seal(STATEMENT_PAYLOAD, &canonical(s).unwrap(), &key()).text();
        assert!(checked(&signed(&statement), &Expected::default(), MADE).is_ok(), "other fields are");
        statement["predicate"]["constraints"]["maxNetwork"] = json!("1Gi");
        let said = "it is signed, and is no receipt: this version cannot read its predicate";
        assert_eq!(checked(&signed(&statement), &Expected::default(), MADE), Err(said.into()));
    }

    #[test]
    fn a_receipt_of_an_earlier_operator_holds_for_its_uid() {
        let envelope = earlier::sign(&receipt(), &key());
        let own = Expected { job_uid: Some("j1"), job_name: Some("payments/Job/remediate"), digest: None };
        assert!(checked(&envelope, &own, MADE).is_ok());
        assert!(checked(&envelope, &Expected { job_uid: Some("j2"), ..own }, MADE).is_err());
    }
}
