//! Reviews: who may decide, and what all decisions so far amount to. Pure.

mod eligibility;
mod fold;

pub use eligibility::{
    MOST_POLICIES, asked, covers, eligible, is_requester, named_groups, named_policies, persons, same_person,
};
pub use fold::{CountedReview, Tally, Terms, fold};
