//! What series are told apart by. Each label takes one of few values: those that are named here, or the name of a policy and of
//! its rule, which only whoever writes policies chooses. What a tenant writes never becomes one.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use std::fmt::Write;

/// A label that takes the values that stand here, and no other.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum $name { $($(#[$value_doc])* $value,)* }

        impl $name {
            pub(super) const ALL: &[Self] = &[$(Self::$value,)*];
        }

        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder) -> std::fmt::Result {
                encoder.write_str(match self { $(Self::$value => $text,)* })
            }
        }
    };
}

label! {
    /// What would have become of a Job that a gate which only warns let through.
    Warned {
        /// A policy allows it.
        Allow = "allow",
        /// It would wait for approval.
        RequireApproval = "require_approval",
        /// A policy denies it.
        Deny = "deny",
        /// No rule matches: it would be held.
        NoMatchingPolicy = "no_matching_policy",
    }
}

label! {
    /// Where a request stands, as the API spells it.
    Stands {
        /// It waits for policy or reviewers.
        Pending = "Pending",
        /// It is approved, and its release waits.
        Approved = "Approved",
        /// It is released.
        Released = "Released",
        /// It is denied.
        Denied = "Denied",
        /// It expired.
        Expired = "Expired",
        /// It was withdrawn, or what it was for is gone.
        Cancelled = "Cancelled",
    }
}

impl Stands {
    /// Whether nothing can change any more.
    pub(super) fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Approved)
    }
}

label! {
    /// Why a look at an object came to nothing.
    Failed {
        /// Somebody else wrote first, or the object is gone.
        Conflict = "conflict",
        /// The API server refused.
        Refused = "refused",
        /// The API server could not be reached, or could not answer.
        Unavailable = "unavailable",
    }
}

label! {
    /// What the API server asked admission for.
    Asked {
        /// Whether something may be, and as what.
        Admit = "admit",
        /// What would become of something, in a namespace that only warns.
        Warn = "warn",
        /// Who changes a policy.
        Stamp = "stamp",
    }
}

label! {
    /// What admission answered.
    Answered {
        /// It may be, perhaps changed.
        Allowed = "allowed",
        /// It may not.
        Refused = "refused",
        /// That was no review.
        Malformed = "malformed",
    }
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(super) struct WarnedLabels {
    pub outcome: Warned,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(super) struct StateLabels {
    pub state: Stands,
}

/// Requests by where they stand and what governs them.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(super) struct RequestLabels {
    pub state: Stands,
    pub policy: String,
    pub rule: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(super) struct FailedLabels {
    pub class: Failed,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(super) struct AdmissionLabels {
    pub asked: Asked,
    pub answered: Answered,
}

/// A kind that is watched.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(super) struct KindLabels {
    pub kind: &'static str,
}
