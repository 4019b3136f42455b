//! What a hostile client, file or object may hold: nothing panics, and nothing costs more than [`limits`] says.
//!
//! Most inputs start from a whole one that is then spoilt in a few places ([`spoil`]), since noise dies at the parser. Cases
//! are the same in each run; `PROPTEST_CASES=10000 cargo test -p countersign --test hostile` tries that many others of each.

mod certificates;
mod cost;
mod expressions;
mod kept;
mod limits;
mod policies;
mod programs;
mod receipts;
mod requests;
mod reviews;
mod spoil;
mod stored;
mod trail;
mod world;

#[global_allocator]
static COUNTING: cost::Counting = cost::Counting;
