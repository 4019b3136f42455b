//! The certificate that several operators serve admission under, and how it is replaced while they do.
//!
//! It is kept in one Secret ([`stored`]): the pair that is served, the one that is to follow it, and the authorities of
//! those before it. The leader takes one step at a time ([`mod@plan`]): makes the next pair, has the API server trust it beside
//! the current one, waits, and only then has it served. The authority before stays trusted until nobody can serve its leaf
//! any more. The first certificate goes the same way, only that it waits for nobody. Every replica serves what the Secret
//! says ([`served`]), as long as it is good ([`pair`]).
//!
//! No authority's key is ever kept: each signs one certificate, and whoever reads the Secret can make no other.
//!
//! All of it is pure but for the [`keeper`], which watches, writes and registers.

pub mod keeper;
pub mod pair;
pub mod plan;
pub mod served;
pub mod stored;

pub use keeper::{Keeper, Kept, Settings};
pub use pair::{Flaw, Good, name_of};
pub use plan::{SETTLE, Step, View, plan};
pub use served::Served;
pub use stored::{Authority, Next, Stored};

#[cfg(test)]
mod tests;
