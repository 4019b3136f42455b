//! Risk: what will run, what its service account may do, and how far its network reaches. Pure.
//!
//! [`Traits`] are read off a pod spec, [`Rights`] off the roles and bindings that [`Grants`] holds, and
//! [`NetworkPolicies`] tells whether anything restricts egress. Policies name them in classifiers, and each says why.

mod breadth;
mod egress;
mod grants;
mod rights;
mod rules;
mod text;
mod traits;

pub use egress::NetworkPolicies;
pub use grants::{Grants, RbacKind, Touched};
pub use rights::Rights;
pub use traits::Traits;

/// What will run, and what stands around it, as classifiers see it.
#[derive(Clone, Copy, Debug)]
pub struct Work<'a> {
    /// What its pod spec says.
    pub traits: &'a Traits,
    /// What RBAC lets its service account do.
    pub rights: &'a Rights,
    /// Whether no NetworkPolicy restricts its egress.
    pub open_egress: bool,
}
