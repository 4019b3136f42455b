//! Flags of the operator that say whether it is one of several, of which one leads.

use crate::controller::{Candidate, Leadership, Terms, stand};
use kube::Client;
use prometheus_client::metrics::gauge::Gauge;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Longest wait for the Lease to be given back at the end.
const FAREWELL: Duration = Duration::from_secs(2);

/// Without `--leader-elect`, the operator decides and writes whatever others do.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct LeaderArgs {
    /// Run as one of several operators, of which the one that holds the Lease `countersign` in the operator's namespace
    /// decides and writes. The others watch, and take over where it ends or falls silent.
    #[arg(long, env = "COUNTERSIGN_LEADER_ELECT")]
    leader_elect: bool,

    /// Seconds that the others wait for a leader that is silent. Give all of them the same.
    #[arg(long, env = "COUNTERSIGN_LEASE_SECONDS", default_value = "15", value_name = "SECONDS",
        value_parser = clap::value_parser!(u16).range(3..=600))]
    lease_seconds: u16,
}

/// A candidacy that can be given up.
pub struct Candidacy(Option<oneshot::Sender<oneshot::Sender<()>>>);

impl LeaderArgs {
    /// Stands for election, where that is asked for. `tag` tells this process from every other.
    pub fn stand(
        self,
        tasks: &mut JoinSet<String>,
        client: &Client,
        namespace: &str,
        tag: u64,
    ) -> (Leadership, Candidacy) {
        if !self.leader_elect {
            return (Leadership::always(), Candidacy(None));
        }
        let candidate = Candidate {
            name: format!("{}_{tag:016x}", host()),
            namespace: namespace.into(),
            terms: Terms::of(Duration::from_secs(self.lease_seconds.into())),
        };
        let (leadership, (resign, resigned)) = (Leadership::none(), oneshot::channel());
        let (client, stands) = (client.clone(), leadership.clone());
        tasks.spawn(async move {
            stand(client, candidate, stands, resigned).await;
            "standing for election ended".to_string()
        });
        (leadership, Candidacy(Some(resign)))
    }
}

impl Candidacy {
    /// Leads no more, and gives the Lease back, so that another leads at once.
    pub async fn give_up(self) {
        let Some(resign) = self.0 else { return };
        let (done, gave_back) = oneshot::channel();
        if resign.send(done).is_ok() {
            // In time or not, this process ends.
            let _ = tokio::time::timeout(FAREWELL, gave_back).await;
        }
    }
}

/// Shows whether this operator leads, for ever.
pub async fn show(leadership: &Leadership, gauge: &Gauge) -> String {
    loop {
        leadership.mine().await;
        gauge.set(1);
        leadership.lost().await;
        gauge.set(0);
    }
}

/// The name of the Pod or of the machine, for people who read the Lease.
pub fn host() -> String {
    let told = std::env::var("HOSTNAME").ok().or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok());
    told.map(|name| name.trim().to_string()).filter(|name| !name.is_empty()).unwrap_or_else(|| "countersign".into())
}
