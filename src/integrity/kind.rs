//! The kinds of object that hold the gate.

use kube::core::{ApiResource, GroupVersionKind};

/// API group and version of all of them.
pub(super) const GROUP_VERSION: (&str, &str) = ("admissionregistration.k8s.io", "v1");

/// A kind of object that tells the API server what to admit.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// Calls a webhook that changes objects.
    MutatingWebhookConfiguration,
    /// Calls a webhook that judges objects.
    ValidatingWebhookConfiguration,
    /// Changes objects, in the API server itself.
    MutatingAdmissionPolicy,
    /// Puts one in force.
    MutatingAdmissionPolicyBinding,
    /// Judges objects, in the API server itself.
    ValidatingAdmissionPolicy,
    /// Puts one in force.
    ValidatingAdmissionPolicyBinding,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::MutatingWebhookConfiguration,
        Self::ValidatingWebhookConfiguration,
        Self::MutatingAdmissionPolicy,
        Self::MutatingAdmissionPolicyBinding,
        Self::ValidatingAdmissionPolicy,
        Self::ValidatingAdmissionPolicyBinding,
    ];

    /// As the API writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::MutatingWebhookConfiguration => "MutatingWebhookConfiguration",
            Self::ValidatingWebhookConfiguration => "ValidatingWebhookConfiguration",
            Self::MutatingAdmissionPolicy => "MutatingAdmissionPolicy",
            Self::MutatingAdmissionPolicyBinding => "MutatingAdmissionPolicyBinding",
            Self::ValidatingAdmissionPolicy => "ValidatingAdmissionPolicy",
            Self::ValidatingAdmissionPolicyBinding => "ValidatingAdmissionPolicyBinding",
        }
    }

    /// The resource's name.
    pub fn plural(self) -> &'static str {
        match self {
            Self::MutatingWebhookConfiguration => "mutatingwebhookconfigurations",
            Self::ValidatingWebhookConfiguration => "validatingwebhookconfigurations",
            Self::MutatingAdmissionPolicy => "mutatingadmissionpolicies",
            Self::MutatingAdmissionPolicyBinding => "mutatingadmissionpolicybindings",
            Self::ValidatingAdmissionPolicy => "validatingadmissionpolicies",
            Self::ValidatingAdmissionPolicyBinding => "validatingadmissionpolicybindings",
        }
    }

    /// The kind of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub(super) fn resource(self) -> ApiResource {
        let (group, version) = GROUP_VERSION;
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, self.name()), self.plural())
    }
}
