//! Binding: what exactly was shown, and proof of who said what about it. Pure.
//!
//! Everything here hashes or signs RFC 8785 canonical JSON of *stored* objects, never of typed copies that would drop
//! fields this version does not know.

mod canonical;
mod digest;
mod envelope;
mod inputs;
mod key;
mod key_set;
mod receipt;
mod receipt_check;
mod seal;
mod snapshot;
mod unheld;
mod work;

pub(crate) use canonical::canonical_around;
pub use canonical::{CanonicalError, canonical, digest_text, hash_text, sha256};
pub use digest::{BoundJob, DIGEST_FORMAT, Shown, ask, digest};
pub use inputs::{InputFacts, InputRef, InputState, MAX_INPUTS, bound, references};
pub use key::{KeyError, Keyring, key_name, named_key, verify};
pub use key_set::{KeySet, OutOfOrder, Role};
#[cfg(test)]
pub(crate) use receipt::earlier;
pub use receipt::{NoReceipt, Pass, Receipt, ReceiptJob, ReceiptRequest};
pub use receipt_check::{Expected, Refusal, check as check_receipt};
pub use seal::{UNUSABLE_SEAL, seal, verify_seal};
pub use snapshot::Snapshot;
pub use unheld::{images_without_digest, unheld};
pub use work::{job_hash, pod_work_hash, work_hash};
