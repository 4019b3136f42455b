//! The webhooks on Jobs, CronJobs and Pods as a real API server registers, calls and obeys them. Admission runs in this
//! process with policies at hand; no operator and no admission policy is there.

mod lab;
mod verdicts;

use anyhow::{Context, Result, ensure};
use countersign::admission::registration::{At, Hold, NAME, configurations, register, serves_mutating_policies};
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use kube::api::Api;
use lab::{job, lab};
use serde_json::{Value, json};

/// What a watchdog compares must not differ by a default that the API server fills in.
#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_stores_what_is_written_in_both_ways_to_hold() -> Result<()> {
    let lab = lab().await?;
    for hold in [Hold::Policy, Hold::Webhook] {
        let endpoint = lab.endpoint(hold);
        register(&lab.client().await?, &endpoint).await?;
        let mutating: Api<MutatingWebhookConfiguration> = Api::all(lab.client().await?);
        let validating: Api<ValidatingWebhookConfiguration> = Api::all(lab.client().await?);
        let stored =
            [serde_json::to_value(mutating.get(NAME).await?)?, serde_json::to_value(validating.get(NAME).await?)?];
        for (stored, written) in stored.iter().zip(configurations(&endpoint)) {
            assert_eq!(stored["webhooks"], written["webhooks"]);
            assert_eq!(stored["metadata"]["labels"], written["metadata"]["labels"]);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_cluster_serves_is_found_by_discovery() -> Result<()> {
    let lab = lab().await?;
    let client = lab.client().await?;
    let minor: u32 = client.apiserver_version().await?.minor.trim_end_matches('+').parse()?;
    assert_eq!(serves_mutating_policies(&client).await?, minor >= 36);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_webhook_blocks_jobs_only_where_it_holds_them() -> Result<()> {
    let lab = lab().await?;
    let namespace = lab.namespace("dead", json!({"countersign.dev/gate": "enforce"})).await?;
    let mut endpoint = lab.endpoint(Hold::Policy);
    endpoint.at = At::Url("https://127.0.0.1:1/admit");
    register(&lab.client().await?, &endpoint).await?;
    // Once this one is neither refused nor held, the registration is known everywhere.
    lab.until(&namespace, |job| job["spec"]["suspend"] == json!(false)).await?;
    lab.create(&namespace, &job("goes-on")).ok().await?;
    endpoint.hold = Hold::Webhook;
    register(&lab.client().await?, &endpoint).await?;
    let refused = lab.refused(&namespace).await?;
    ensure!(refused.contains("failed calling webhook \"jobs.countersign.dev\""), "{refused}");
    lab.reset().await
}

/// The Job's message, before the policies were read and after.
#[tokio::test(flavor = "multi_thread")]
async fn kubectl_waits_by_itself_until_the_policies_are_read() -> Result<()> {
    let lab = lab().await?;
    let namespace = lab.namespace("early", json!({"countersign.dev/gate": "enforce"})).await?;
    let policies = lab.view.forget();
    let waiting = tokio::spawn(lab.create(&namespace, &job("patient")).json());
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    ensure!(!waiting.is_finished(), "{:?}", waiting.await);
    lab.view.learn(policies);
    let created: Value = waiting.await.context("kubectl")??;
    assert_eq!(created["spec"]["suspend"], true);
    Ok(())
}
