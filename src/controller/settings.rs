//! What the controller is told at its start.

use crate::api::{InputKind, TargetKind};
use crate::audit::{Refusals, Retention};
use crate::binding::Keyring;
use crate::controller::Index;
use crate::controller::Leadership;
use crate::controller::error::Class;
use crate::controller::index::Kind;
use crate::controller::recorder::Sink;
use crate::controller::watches::Watches;
use crate::lifecycle::{Foreseen, Milestones};
use crate::risk::RbacKind;
use kube::Client;
use std::sync::{Arc, Mutex};

/// The kinds that are always watched.
const KINDS: [Kind; 11] = [
    Kind::Policy,
    Kind::Namespace,
    Kind::Target(TargetKind::Job),
    Kind::Target(TargetKind::Pod),
    Kind::Input(InputKind::ConfigMap),
    Kind::Rbac(RbacKind::ClusterRole),
    Kind::Rbac(RbacKind::ClusterRoleBinding),
    Kind::Rbac(RbacKind::Role),
    Kind::Rbac(RbacKind::RoleBinding),
    Kind::NetworkPolicy,
    Kind::Request,
];

/// How much the operator reads of Secrets that Jobs use. More takes more rights.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ReadSecrets {
    /// Nothing: requests say that what stands in a Secret may change.
    #[default]
    None,
    /// Metadata: any write to a Secret is seen, whatever it changes.
    Metadata,
    /// Content, as a keyed hash.
    Content,
}

/// What [`run`](crate::controller::run) needs.
pub struct Settings {
    /// Asks the API server as the operator.
    pub client: Client,
    /// The operator's namespace.
    pub namespace: String,
    /// Which operator this is, for Events.
    pub instance: String,
    /// What is known; admission may ask the same one.
    pub index: Arc<Index>,
    /// Checks seals, signs receipts.
    pub key: Arc<Keyring>,
    /// How much to read of Secrets.
    pub secrets: ReadSecrets,
    /// What is watched, made for the same.
    pub watches: Arc<Watches>,
    /// Where checkpoints of the audit trail go beside the cluster.
    pub checkpoints: Sink,
    /// Whether to go on with an audit trail that another key signed.
    pub reanchor: bool,
    /// How long the audit trail is kept; for ever where nothing is said.
    pub retention: Option<Retention>,
    /// Whether this operator decides, or only watches meanwhile.
    pub leadership: Leadership,
    /// What admission refused, to be recorded.
    pub refusals: Arc<Mutex<Refusals>>,
    /// Told what concerns more than one request.
    pub hooks: Arc<dyn Hooks>,
}

/// Told what concerns more than one request. Must not block.
pub trait Hooks: Send + Sync {
    /// Somebody started a held Job or Pod past the gate.
    fn started_past_the_gate(&self, kind: TargetKind, namespace: &str, name: &str);
    /// How the audit trail is: whether it can be gone on with, how many entries wait to be written, and how many there are.
    fn trail(&self, intact: bool, waiting: usize, kept: i64);
    /// A Job came to a namespace that only warns: what would have become of it.
    fn warned(&self, foreseen: Foreseen);
    /// This operator ended a request.
    fn ended(&self, milestones: Milestones);
    /// A look at an object came to nothing, and will be repeated.
    fn failed(&self, class: Class);
}

impl ReadSecrets {
    /// The kinds to watch.
    pub(super) fn kinds(self) -> Vec<Kind> {
        let secrets = (self != Self::None).then_some(Kind::Input(InputKind::Secret));
        KINDS.into_iter().chain(secrets).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The operator is ready once each of these was listed, so that a kind that it may not read keeps it from deciding.
    #[test]
    fn all_that_rights_and_egress_rest_on_is_watched_whatever_is_read_of_secrets() {
        for secrets in [ReadSecrets::None, ReadSecrets::Metadata, ReadSecrets::Content] {
            let kinds = secrets.kinds();
            assert!(RbacKind::ALL.iter().all(|kind| kinds.contains(&Kind::Rbac(*kind))), "{secrets:?}");
            assert!(kinds.contains(&Kind::NetworkPolicy), "{secrets:?}");
            assert_eq!(kinds.contains(&Kind::Input(InputKind::Secret)), secrets != ReadSecrets::None);
        }
    }
}
