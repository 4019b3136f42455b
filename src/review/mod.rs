//! Reviews: who may decide, and what all decisions so far amount to. Pure.

mod eligibility;
mod fold;

pub use eligibility::{asked, covers, eligible, is_requester, named_groups, named_policies};
pub use fold::{CountedReview, Tally, Terms, fold};
