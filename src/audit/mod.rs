//! The audit trail: what happened, provable later, offline, to somebody who trusts nobody.
//!
//! Pure: [`of_request`] and [`allowed`] say what there is to record, [`Refusals`] counts what admission refused, [`Ledger`] knows
//! what is recorded already and what the next record is, [`Signers`] who may sign it, [`chain`] how a record is signed and chained, [`checkpoint`] how the
//! length of the chain is stated, and [`verify()`] whether a trail is whole. Reading and writing records is the controller's
//! and the command line's.

pub mod chain;
pub mod checkpoint;
mod entries;
mod ledger;
mod refusals;
mod signers;
#[cfg(test)]
mod tests_support;
pub mod verify;

pub use chain::{GENESIS, Head, object_name, seal};
pub use checkpoint::Checkpoint;
pub use entries::{Told, allowed, anchored, end, keys, of_request};
pub use ledger::{Ledger, MOST_WAITING};
pub use refusals::{Attempt, Refusals};
pub use signers::{Misfit, Signers};
pub use verify::{Fault, Keys, Report, Trusted, by_name, verify};
