//! Ways to a Pod that no approval covers, in a gated namespace, from the attacker's side: bare Pods, workload controllers,
//! steps into a running Pod, changed inputs. No operator runs: what holds here, the API server holds by itself.
//!
//! Each test is a function that takes the cluster, so that it can run against one with an operator as well.

#[path = "../support/mod.rs"]
mod support;

mod arena;
mod controllers;
mod exec;
mod inputs;
mod jobs;
mod pods;
mod policies;
mod running;
mod unheld;

use anyhow::Result;
use arena::{Arena, apply, in_force};
use countersign_testbed::{ControlPlane, Options};
use tokio::sync::{OnceCell, RwLock, RwLockReadGuard};

/// Held for writing by the tests that take a policy away, or a control plane's worth of the machine.
static ALONE: RwLock<()> = RwLock::const_new(());

async fn control_plane() -> Result<&'static ControlPlane> {
    static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
    SHARED.get_or_try_init(|| gated(Options::default())).await
}

async fn gated(options: Options) -> Result<ControlPlane> {
    let cluster = support::bare(options).await?;
    apply(&cluster).await?;
    in_force(&cluster).await?;
    Ok(cluster)
}

/// The control plane, together with the other tests.
async fn shared() -> Result<(&'static ControlPlane, RwLockReadGuard<'static, ()>)> {
    let guard = ALONE.read().await;
    Ok((control_plane().await?, guard))
}

macro_rules! shared_tests {
    ($($module:ident :: $name:ident),* $(,)?) => {$(
        #[tokio::test]
        async fn $name() -> Result<()> {
            let (cluster, _guard) = shared().await?;
            $module::$name(cluster).await
        }
    )*};
}

shared_tests![
    policies::every_field_is_written_out_and_every_expression_type_checks,
    pods::a_pod_is_held_whoever_creates_it_and_however,
    pods::what_admission_stamps_cannot_be_forged,
    pods::a_pod_that_names_its_node_is_refused,
    pods::only_a_node_shows_its_mirror_pods,
    pods::a_dry_run_leaves_nothing,
    pods::a_held_pod_stays_held,
    pods::the_operator_lets_a_held_pod_go,
    pods::an_override_takes_the_verb_and_a_reason_and_nothing_else,
    running::a_running_pod_keeps_its_images_and_our_annotations,
    running::a_binding_smuggles_nothing_onto_a_pod,
    running::what_stops_a_pod_is_open_to_all,
    jobs::a_jobs_pods_run_untouched,
    jobs::cascades_of_every_kind_complete,
    jobs::a_namespace_with_everything_in_it_goes,
    controllers::workload_controllers_are_refused,
    controllers::what_stood_before_the_gate_cannot_change,
    controllers::the_label_lets_them_in_and_nobody_else,
    exec::nobody_steps_into_a_pod,
    exec::the_label_opens_it,
    inputs::a_locked_input_stays_as_it_is,
    inputs::locking_takes_an_immutable_object,
    inputs::a_lock_from_before_the_gate_holds_what_it_can,
    inputs::whoever_may_ungate_may_unlock,
];

/// The operator was up, and is dead: its webhooks are registered, and nobody answers.
mod stopped {
    use super::{
        ControlPlane, OnceCell, Options, Result, controllers, exec, gated, inputs, jobs, pods, running, support,
    };

    async fn control_plane() -> Result<&'static ControlPlane> {
        static STOPPED: OnceCell<ControlPlane> = OnceCell::const_new();
        let start = || async {
            let cluster = gated(Options::default()).await?;
            support::countersign().start(&cluster).await?.kill();
            anyhow::Ok(cluster)
        };
        STOPPED.get_or_try_init(start).await
    }

    macro_rules! tests {
        ($($module:ident :: $name:ident),* $(,)?) => {$(
            #[tokio::test]
            async fn $name() -> Result<()> {
                let _guard = super::ALONE.read().await;
                $module::$name(control_plane().await?).await
            }
        )*};
    }

    tests![
        pods::a_pod_is_held_whoever_creates_it_and_however,
        pods::a_held_pod_stays_held,
        pods::an_override_takes_the_verb_and_a_reason_and_nothing_else,
        running::a_running_pod_keeps_its_images_and_our_annotations,
        jobs::a_jobs_pods_run_untouched,
        controllers::workload_controllers_are_refused,
        exec::nobody_steps_into_a_pod,
        inputs::a_locked_input_stays_as_it_is,
    ];
}

#[tokio::test]
async fn without_the_mutation_nothing_unheld_gets_in() -> Result<()> {
    let _guard = ALONE.write().await;
    let cluster = control_plane().await?;
    unheld::without_the_mutation_nothing_unheld_gets_in(cluster).await
}

/// The other identity of the Job controller: the one that all controllers share.
#[tokio::test]
async fn with_one_identity_for_all_controllers_the_same_holds() -> Result<()> {
    let _guard = ALONE.write().await;
    let extra_kcm_args = vec!["--use-service-account-credentials=false".into()];
    // That identity has no rights of its own, and whoever uses it grants it many. Here everybody has all of them.
    let extra_apiserver_args = vec!["--authorization-mode=AlwaysAllow".into()];
    let cluster = gated(Options { extra_kcm_args, extra_apiserver_args, ..Options::default() }).await?;
    jobs::a_jobs_pods_run_untouched(&cluster).await?;
    jobs::cascades_of_every_kind_complete(&cluster).await?;
    controllers::what_stood_before_the_gate_cannot_change(&cluster).await?;
    controllers::the_label_lets_them_in_and_nobody_else(&cluster).await?;
    jobs::a_namespace_with_everything_in_it_goes(&cluster).await
}

/// A namespace that is gated and says no more.
async fn gated_arena(cluster: &ControlPlane, name: &str) -> Result<Arena> {
    Arena::new(cluster, name, &["countersign.dev/gate=enforce"]).await
}
