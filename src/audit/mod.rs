//! The audit trail: what happened, provable later, offline, to somebody who trusts nobody.
//!
//! Pure: [`of_request`], [`allowed`] and [`overridden`] say what there is to record, [`Refusals`] counts what admission
//! refused, [`Ledger`] knows what is recorded already and what the next record is, [`Signers`] who may sign it, [`chain`] how a
//! record is signed and chained, [`checkpoint`] how the length of the chain is stated, [`retention`] what of it need not be kept, and [`verify()`]
//! whether a trail is whole. Reading and writing records is the controller's and the command line's.

pub mod chain;
pub mod checkpoint;
mod entries;
mod ledger;
mod refusals;
pub mod retention;
mod signers;
#[cfg(test)]
mod tests_support;
pub mod verify;

pub use chain::{GENESIS, Head, Sealed, object_name, seal};
pub use checkpoint::Checkpoint;
pub use entries::{Overriding, Told, allowed, anchored, end, ended_at, keys, of_request, overridden, override_of};
pub use ledger::{Ledger, MOST_BEHIND, MOST_WAITING};
pub use refusals::{Attempt, Refusals};
pub use retention::{Held, Limits, Retention};
pub use signers::{Misfit, Signers};
pub use verify::{Fault, Keys, Report, Trusted, by_name, verify};
