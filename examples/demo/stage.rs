//! Sets the stage: a control plane, Countersign on it, the example policies, and the people of the story.

use crate::node;
use crate::shell::Shell;
use anyhow::{Context, Result};
use countersign_testbed::{ControlPlane, Countersign, Identity, Node, Operator, Options};
use std::time::Instant;

/// Everything that the story needs.
pub struct Stage {
    // Declared first, so that it ends before the API server it talks to.
    _operator: Operator,
    pub shell: Shell,
    pub admin: Identity,
    /// The workflow's service account.
    pub triage: Identity,
    /// Of the group sre.
    pub alice: Identity,
    /// Of the group sre.
    pub bob: Identity,
    /// Of the group security.
    pub carol: Identity,
    /// Of the group developers, which no policy names.
    pub mallory: Identity,
    pub cluster: ControlPlane,
    /// Whether containers really run.
    pub real: bool,
}

impl Stage {
    /// Starts and installs everything.
    pub async fn set(simulated: bool) -> Result<Self> {
        let began = Instant::now();
        say!("Countersign, on a real Kubernetes control plane that lives on this machine until the demo ends.\n");
        say!("1. A control plane with Countersign");
        let node = node::choose(simulated);
        let real = node == Node::Real;
        let options = Options { node, ..Options::default() };
        let cluster = ControlPlane::start(options).await.context("starting a control plane")?;
        if real {
            node::supply(&cluster).await?;
        }
        let shell = Shell::new(&cluster)?;
        let countersign = Countersign::new(shell.command("countersign"), &[]);
        countersign.install(&cluster).await.context("installing Countersign")?;
        // What was refused is in the audit trail soon enough to be looked at.
        let flags = ["--refusals-every=1"];
        let operator = countersign.start_with_admission(&cluster, &flags).await.context("starting the operator")?;
        say!("   CRDs, roles and admission policies are applied, the operator runs beside the API server.");

        let admin = cluster.admin();
        // Of the example policies those that the story is about: others would ask more people.
        let policies = ["health-checks", "never", "production", "schema-changes"];
        let files: String = policies.map(|name| format!(" -f examples/policies/{name}.yaml")).concat();
        shell.quietly(&admin, &format!("kubectl apply{files} -f examples/incident/setup.yaml")).await?;
        shell.quietly(&admin, "kubectl wait apol --all --for=condition=Ready --timeout=30s").await?;
        let stage = Self {
            _operator: operator,
            shell,
            admin,
            triage: cluster.service_account("payments", "triage").await?,
            alice: cluster.user("alice", &["sre"])?,
            bob: cluster.user("bob", &["sre"])?,
            carol: cluster.user("carol", &["security"])?,
            mallory: cluster.user("mallory", &["developers"])?,
            cluster,
            real,
        };
        stage.shell.shows(&stage.alice, "kubectl get apol").await?;
        say!("\n   Ready after {:.1} s.", began.elapsed().as_secs_f64());
        Ok(stage)
    }
}
