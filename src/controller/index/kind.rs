//! What is watched, and what is looked at.

use crate::api::{InputKind, TargetKind};
use crate::controller::index::Name;
use crate::controller::queue::{Grouped, Lane};
use crate::risk::RbacKind;

/// Something to look at.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Key {
    /// A request, by namespace and name.
    Request(String, String),
    /// A policy, by name.
    Policy(String),
    /// A Job or Pod in a gated namespace, by namespace, kind and name.
    Target(String, TargetKind, String),
}

impl Key {
    /// Of the request of that name.
    pub(in crate::controller) fn request((namespace, name): &Name) -> Self {
        Self::Request(namespace.clone(), name.clone())
    }
}

impl Grouped for Key {
    /// Its namespace; all policies are one group.
    fn group(&self) -> &str {
        match self {
            Self::Request(namespace, _) | Self::Target(namespace, ..) => namespace,
            Self::Policy(_) => "",
        }
    }
}

/// The kinds that are watched.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::controller) enum Kind {
    Request,
    Policy,
    Namespace,
    Target(TargetKind),
    Input(InputKind),
    Rbac(RbacKind),
    NetworkPolicy,
}

impl Kind {
    /// How soon what a change of this kind concerns is looked at: many requests may rest on one policy, role or namespace.
    pub(in crate::controller) fn lane(self) -> Lane {
        match self {
            Self::Request | Self::Target(_) => Lane::Prompt,
            Self::Policy | Self::Namespace | Self::Input(_) | Self::Rbac(_) | Self::NetworkPolicy => Lane::Steady,
        }
    }

    /// The kind as Kubernetes spells it.
    pub(in crate::controller) fn as_str(self) -> &'static str {
        match self {
            Self::Request => "ApprovalRequest",
            Self::Policy => "ApprovalPolicy",
            Self::Namespace => "Namespace",
            Self::Target(kind) => kind.as_str(),
            Self::Input(kind) => kind.as_str(),
            Self::Rbac(kind) => kind.as_str(),
            Self::NetworkPolicy => "NetworkPolicy",
        }
    }
}
