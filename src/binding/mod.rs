//! Binding: what exactly was shown, and proof of who said what about it. Pure.
//!
//! Everything here hashes or signs RFC 8785 canonical JSON of *stored* objects, never of typed copies that would drop
//! fields this version does not know.

mod canonical;
mod digest;
mod job;
mod key;
mod receipt;
mod seal;
mod snapshot;

pub use canonical::{CanonicalError, canonical, sha256};
pub use digest::{BoundJob, Shown, ask, digest};
pub use job::{job_hash, work_hash};
pub use key::{KeyError, Keyring};
pub use receipt::{Receipt, ReceiptJob, ReceiptRequest};
pub use seal::{UNUSABLE_SEAL, seal, verify_seal};
pub use snapshot::Snapshot;
