//! What holds at admission in gated namespaces, from the attacker's side. Each case is a function of the gate it attacks,
//! so that every posture runs the same cases. One control plane a posture, one case at a time: some take guards away.

#[path = "../support/mod.rs"]
mod support;

mod cronjobs;
mod holding;
mod jobs;
mod names;
mod namespaces;
mod overrides;
mod place;
mod policies;
mod requests;
mod started;
mod stored;

use anyhow::{Result, ensure};
use countersign_testbed::{ControlPlane, Identity, Kubectl, Operator, Options};
use place::Place;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use support::countersign;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

/// Each case as a test, in one posture.
macro_rules! cases {
    ($posture:ident { $($module:ident: $($case:ident),+;)+ }) => {
        mod $posture {
            $(mod $module { $(
                #[tokio::test]
                async fn $case() -> anyhow::Result<()> {
                    let gate = crate::$posture().await?;
                    crate::$module::$case(&gate).await
                }
            )+ })+
        }
    };
}

// No operator, and no webhook configurations: what the API server holds by itself.
cases!(bare {
    stored: what_is_stored_is_what_is_written, every_expression_type_checks;
    jobs: every_path_makes_the_same_held_job, a_dry_run_shows_the_same_and_leaves_nothing,
        nobody_starts_a_held_job, a_job_replaced_by_force_is_held_anew, other_namespaces_are_left_alone,
        what_the_cluster_itself_does_with_jobs_goes_on;
    names: reserved_names_are_refused_at_creation, claims_are_well_formed, nobody_changes_our_names_later,
        an_identity_that_cannot_be_written_down_is_refused;
    started: bounds_are_tightened_and_never_loosened, everybody_stops_a_job_and_nobody_starts_it_again;
    holding: without_the_hold_an_unheld_job_is_refused, without_the_hold_an_unsigned_cron_job_is_refused,
        without_the_hold_an_override_is_signed_by_hand;
    overrides: an_override_starts_the_job_and_says_who, an_override_is_nothing_else, only_holders_of_the_verb_override,
        an_overridden_job_keeps_its_bounds_and_each_start_its_reason;
    cronjobs: the_author_is_who_wrote_the_template, nobody_writes_or_removes_an_author, a_cron_job_speaks_for_no_request,
        jobs_of_a_cron_job_are_held_and_carry_its_author;
    requests: an_open_request_is_not_deleted, an_ended_request_is, what_cleans_up_deletes_requests,
        a_review_claims_no_grant_that_its_author_does_not_hold;
    policies: nobody_writes_another_as_the_editor;
    namespaces: a_gate_is_not_taken_off_without_ungate, a_gated_namespace_is_not_opened_without_ungate,
        the_gate_says_enforce_or_warn, the_system_is_never_gated, nobody_renames_a_namespace_out_of_the_gate,
        a_gated_namespace_can_be_deleted;
});

// The operator is up, and its webhooks explain what the API server would refuse anyway.
cases!(attended {
    jobs: every_path_makes_the_same_held_job, a_dry_run_shows_the_same_and_leaves_nothing,
        nobody_starts_a_held_job, a_job_replaced_by_force_is_held_anew, other_namespaces_are_left_alone,
        what_the_cluster_itself_does_with_jobs_goes_on;
    names: reserved_names_are_refused_at_creation, claims_are_well_formed, nobody_changes_our_names_later,
        an_identity_that_cannot_be_written_down_is_refused;
    started: bounds_are_tightened_and_never_loosened, everybody_stops_a_job_and_nobody_starts_it_again;
    overrides: an_override_starts_the_job_and_says_who, an_override_is_nothing_else, only_holders_of_the_verb_override;
    cronjobs: the_author_is_who_wrote_the_template, jobs_of_a_cron_job_are_held_and_carry_its_author;
});

// The operator was up, and is dead: its webhooks are registered, and nobody answers.
cases!(stopped {
    jobs: every_path_makes_the_same_held_job, a_dry_run_shows_the_same_and_leaves_nothing,
        nobody_starts_a_held_job, a_job_replaced_by_force_is_held_anew,
        what_the_cluster_itself_does_with_jobs_goes_on;
    names: reserved_names_are_refused_at_creation, claims_are_well_formed, nobody_changes_our_names_later;
    started: bounds_are_tightened_and_never_loosened, everybody_stops_a_job_and_nobody_starts_it_again;
    overrides: an_override_starts_the_job_and_says_who, an_override_is_nothing_else, only_holders_of_the_verb_override,
        an_overridden_job_keeps_its_bounds_and_each_start_its_reason;
    cronjobs: the_author_is_who_wrote_the_template, nobody_writes_or_removes_an_author,
        jobs_of_a_cron_job_are_held_and_carry_its_author;
    namespaces: a_gate_is_not_taken_off_without_ungate, a_gated_namespace_is_not_opened_without_ungate;
});

// No MutatingAdmissionPolicies, as before Kubernetes 1.36: the operator's webhooks hold and stamp.
cases!(webhook {
    jobs: every_path_makes_the_same_held_job, a_dry_run_shows_the_same_and_leaves_nothing,
        nobody_starts_a_held_job, a_job_replaced_by_force_is_held_anew, other_namespaces_are_left_alone,
        what_the_cluster_itself_does_with_jobs_goes_on;
    names: reserved_names_are_refused_at_creation, claims_are_well_formed, nobody_changes_our_names_later,
        an_identity_that_cannot_be_written_down_is_refused;
    started: bounds_are_tightened_and_never_loosened, everybody_stops_a_job_and_nobody_starts_it_again;
    cronjobs: the_author_is_who_wrote_the_template, jobs_of_a_cron_job_are_held_and_carry_its_author;
});

/// A control plane to attack. Holding it keeps the other cases of its posture waiting.
pub struct Gate {
    pub cluster: &'static ControlPlane,
    _alone: MutexGuard<'static, ()>,
}

/// A posture: its control plane, with an operator where one is up, for one case at a time.
struct Posture {
    shared: OnceCell<(ControlPlane, Option<Operator>)>,
    alone: Mutex<()>,
}

impl Posture {
    const fn new() -> Self {
        Self { shared: OnceCell::const_new(), alone: Mutex::const_new(()) }
    }

    async fn gate(&'static self, hold: &str, operator: Attendance) -> Result<Gate> {
        let alone = self.alone.lock().await;
        let (cluster, _) = self.shared.get_or_try_init(|| start(hold, operator)).await?;
        let gate = Gate { cluster, _alone: alone };
        gate.until_held().await?;
        Ok(gate)
    }
}

/// Whether there is an operator.
#[derive(PartialEq)]
enum Attendance {
    Never,
    Up,
    Killed,
}

async fn start(hold: &str, attendance: Attendance) -> Result<(ControlPlane, Option<Operator>)> {
    let cluster = ControlPlane::start(Options::default()).await?;
    countersign().install_with(&cluster, &["--hold", hold]).await?;
    cluster.admin().kubectl(["apply", "--filename", "-"]).stdin(ROLES).ok().await?;
    // Before an operator is up: afterwards its webhooks speak first.
    until_guarded(&cluster).await?;
    if attendance == Attendance::Never {
        return Ok((cluster, None));
    }
    let operator = countersign().start_with_admission(&cluster, &["--hold", hold]).await?;
    if attendance == Attendance::Killed {
        operator.kill();
        return Ok((cluster, None));
    }
    Ok((cluster, Some(operator)))
}

/// Neither operator nor webhook configurations.
async fn bare() -> Result<Gate> {
    static POSTURE: Posture = Posture::new();
    POSTURE.gate("policy", Attendance::Never).await
}

/// An operator, and MutatingAdmissionPolicies that hold.
async fn attended() -> Result<Gate> {
    static POSTURE: Posture = Posture::new();
    POSTURE.gate("policy", Attendance::Up).await
}

/// Webhook configurations that lead nowhere.
async fn stopped() -> Result<Gate> {
    static POSTURE: Posture = Posture::new();
    POSTURE.gate("policy", Attendance::Killed).await
}

/// An operator whose webhooks hold.
async fn webhook() -> Result<Gate> {
    static POSTURE: Posture = Posture::new();
    POSTURE.gate("webhook", Attendance::Up).await
}

/// Everybody may do everything to what is gated, so that what stops them is admission, not missing RBAC. No wildcards on
/// our own resources: those imply the verbs `override` and `ungate`, which bob and carol alone hold.
const ROLES: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: test-everything}
rules:
- {apiGroups: [batch], resources: ["*"], verbs: ["*"]}
- {apiGroups: [""], resources: [namespaces, namespaces/status, namespaces/finalize, pods], verbs: ["*"]}
- apiGroups: [countersign.dev]
  resources: [approvalrequests, approvalrequests/status, approvalpolicies, approvalpolicies/status]
  verbs: [create, get, list, watch, update, patch, delete, deletecollection]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: test-everything}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: test-everything}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: Group, name: developers}
- {apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:serviceaccounts"}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: test-override}
rules: [{apiGroups: [countersign.dev], resources: [approvalrequests], verbs: [override]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: test-override}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: test-override}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: bob}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: test-ungate}
rules: [{apiGroups: [countersign.dev], resources: [approvalpolicies], verbs: [ungate]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: test-ungate}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: test-ungate}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: carol}]
"#;

impl Gate {
    pub fn admin(&self) -> Identity {
        self.cluster.admin()
    }

    pub fn alice(&self) -> Result<Identity> {
        self.cluster.user("alice", &["developers"])
    }

    /// Holds the verb `override`.
    pub fn bob(&self) -> Result<Identity> {
        self.cluster.user("bob", &["developers"])
    }

    /// Holds the verb `ungate`.
    pub fn carol(&self) -> Result<Identity> {
        self.cluster.user("carol", &["developers"])
    }

    pub fn mallory(&self) -> Result<Identity> {
        self.cluster.user("mallory", &["developers"])
    }

    /// The operator's identity, in the hand of a case.
    pub async fn operator(&self) -> Result<Identity> {
        self.cluster.service_account("countersign-system", "countersign").await
    }

    /// A gated namespace.
    pub async fn gated(&self, name: &str) -> Result<Place> {
        self.labelled(name, json!({"countersign.dev/gate": "enforce"})).await
    }

    /// A namespace with those labels.
    pub async fn labelled(&self, name: &str, labels: Value) -> Result<Place> {
        let body =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}).to_string();
        self.admin().kubectl(["create", "-f", "-"]).stdin(body).ok().await?;
        Ok(Place { admin: self.admin(), namespace: name.into() })
    }

    /// Waits until every guard refuses, and the holds stamp. Only where no webhook explains first.
    pub async fn until_in_force(&self) -> Result<()> {
        until_guarded(self.cluster).await?;
        self.until_held().await
    }

    /// Waits until Jobs and CronJobs are stamped, by whatever holds.
    async fn until_held(&self) -> Result<()> {
        self.until(&place::job("probe"), |text| text.contains("created-by-uid")).await?;
        self.until(&place::cron_job("probe"), |text| text.contains("authored-by")).await
    }

    /// Waits until a dry run of creating this says what is wanted.
    pub async fn until(&self, body: &Value, wanted: impl Fn(&str) -> bool) -> Result<()> {
        until(self.cluster, body, wanted).await
    }
}

/// Waits until every guard refuses: each takes effect some time after it is stored.
async fn until_guarded(cluster: &ControlPlane) -> Result<()> {
    let body = json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "probe", "labels": {"countersign.dev/gate": "enforce"}}});
    cluster.admin().kubectl(["apply", "-f", "-"]).stdin(body.to_string()).ok().await?;
    let labelled = json!({"countersign.dev/probe": ""});
    let (mut job, mut cron_job) = (place::job("probe"), place::cron_job("probe"));
    job["metadata"]["labels"] = labelled.clone();
    cron_job["spec"]["jobTemplate"]["metadata"] = json!({"labels": labelled});
    let mut namespace = body;
    namespace["metadata"]["labels"]["countersign.dev/gate"] = json!("maybe");
    namespace["metadata"]["name"] = json!("probe-2");
    for (body, policy) in [(job, "jobs"), (cron_job, "cronjobs"), (namespace, "namespaces")] {
        let refused = format!("ValidatingAdmissionPolicy 'countersign-{policy}'");
        until(cluster, &body, |text| text.contains(&refused)).await?;
    }
    Ok(())
}

async fn until(cluster: &ControlPlane, body: &Value, wanted: impl Fn(&str) -> bool) -> Result<()> {
    let mut args = vec!["create", "--dry-run=server", "-o", "json", "-f", "-"];
    if body["kind"] != "Namespace" {
        args.extend(["-n", "probe"]);
    }
    let began = Instant::now();
    loop {
        let output = cluster.admin().kubectl(args.clone()).stdin(body.to_string()).run().await?;
        let said = output.stdout + &output.stderr;
        if wanted(&said) {
            return Ok(());
        }
        ensure!(began.elapsed() < Duration::from_secs(60), "not in force: {said}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The command is refused, and the message says so.
pub async fn refused(command: Kubectl, expected: &str) -> Result<()> {
    let message = command.refused().await?;
    // Where a webhook is up it speaks first, in words of its own.
    let explained = message.contains(".countersign.dev\" denied the request");
    ensure!(explained || message.contains(expected), "expected {expected:?} in {message:?}");
    Ok(())
}

/// Tries until it works, for what the cluster does in its own time.
pub async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let began = Instant::now();
    loop {
        if let Some(value) = attempt().await? {
            return Ok(value);
        }
        ensure!(began.elapsed() < Duration::from_secs(90), "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
