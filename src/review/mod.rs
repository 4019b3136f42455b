//! Reviews: who may decide, and what all decisions so far amount to. Pure.

mod eligibility;
mod fold;
mod quorum;

pub use eligibility::{eligible, is_requester, named_groups};
pub use fold::{CountedReview, Tally, Terms, fold};
pub use quorum::assign;
