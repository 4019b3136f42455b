//! Who wrote what a CronJob runs.

use crate::place::{Place, cron_job, note};
use crate::{Gate, eventually, refused};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

const AUTHORED_BY: &str = "countersign.dev/authored-by";

async fn authors(place: &Place, name: &str) -> Result<String> {
    let stored = place.get(&format!("cronjob/{name}")).await?;
    let author = stored["spec"]["jobTemplate"]["metadata"]["annotations"][AUTHORED_BY].as_str();
    Ok(author.context("an author")?.to_string())
}

fn template(spec: Value) -> Value {
    json!({"spec": {"jobTemplate": spec}})
}

pub async fn the_author_is_who_wrote_the_template(gate: &Gate) -> Result<()> {
    let place = gate.gated("cron-author").await?;
    let (alice, bob, carol, mallory) = (gate.alice()?, gate.bob()?, gate.carol()?, gate.mallory()?);
    let mut forged = cron_job("a");
    forged["spec"]["jobTemplate"]["metadata"] = json!({"annotations": {AUTHORED_BY: "carol"}});
    place.create(&alice, &forged).ok().await?;
    ensure!(authors(&place, "a").await? == "alice");
    let command = json!({"spec": {"backoffLimit": 1}});
    let pods = json!({"spec": {"template": {"metadata": {"labels": {"team": "a"}}}}});
    for (who, patch, expected) in [
        // Somebody else's change of the schedule is theirs, and does not make the template theirs.
        (&bob, json!({"spec": {"schedule": "1 0 29 2 *"}}), "alice\nbob"),
        (&carol, json!({"spec": {"suspend": true}}), "alice\ncarol"),
        // The author's own does not take back that carol had a hand in it.
        (&alice, json!({"spec": {"schedule": "2 0 29 2 *"}}), "alice\ncarol"),
        // Nothing that counts.
        (&mallory, json!({"metadata": {"labels": {"team": "a"}}}), "alice\ncarol"),
        // Each change of the template.
        (&mallory, template(command), "mallory"),
        (&bob, template(pods), "bob"),
        (&mallory, template(json!({"metadata": {"labels": {"team": "a"}}})), "mallory"),
        (&bob, template(json!({"metadata": {"annotations": {"countersign.dev/reason": "nightly"}}})), "bob"),
        (&mallory, template(json!({"metadata": {"annotations": {"countersign.dev/reason": null}}})), "mallory"),
        // Both at once: the template counts.
        (&alice, json!({"spec": {"schedule": "3 0 29 2 *", "jobTemplate": {"spec": {"backoffLimit": 2}}}}), "alice"),
        (&mallory, json!({"spec": {"timeZone": "Europe/Berlin"}}), "alice\nmallory"),
    ] {
        place.merge(who, "cronjob/a", patch.clone()).ok().await?;
        let stored = authors(&place, "a").await?;
        ensure!(stored == expected, "{stored:?}, not {expected:?}, after {patch} by {}", who.name);
    }
    Ok(())
}

pub async fn nobody_writes_or_removes_an_author(gate: &Gate) -> Result<()> {
    let place = gate.gated("cron-forge").await?;
    let (mallory, operator) = (gate.mallory()?, gate.operator().await?);
    place.create(&mallory, &cron_job("a")).ok().await?;
    place.merge(&gate.bob()?, "cronjob/a", json!({"spec": {"suspend": true}})).ok().await?;
    for annotations in
        [json!({AUTHORED_BY: "alice"}), json!({AUTHORED_BY: null}), json!({AUTHORED_BY: ""}), Value::Null]
    {
        let patch = template(json!({"metadata": {"annotations": annotations}}));
        // It succeeds and changes nothing: admission writes what is true.
        place.merge(&mallory, "cronjob/a", patch.clone()).ok().await?;
        place.merge_sub(&mallory, "cronjob/a", "status", patch).run().await?;
        ensure!(authors(&place, "a").await? == "mallory\nbob");
    }
    // A replacement that leaves the annotation out, as a file in Git does.
    let mut stored = place.writable("cronjob/a").await?;
    stored["spec"]["jobTemplate"]["metadata"] = json!({});
    place.kubectl(&mallory, &["replace", "-f", "-"]).stdin(stored.to_string()).ok().await?;
    ensure!(authors(&place, "a").await? == "mallory\nbob");
    stored["spec"]["jobTemplate"]["metadata"] = json!({"annotations": {AUTHORED_BY: "alice"}});
    let apply = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    place.kubectl(&mallory, &apply).stdin(stored.to_string()).ok().await?;
    ensure!(authors(&place, "a").await? == "mallory\nbob");
    // Deleted and made anew, it is the one's who made it.
    place.kubectl(&mallory, &["replace", "--force", "-f", "-"]).stdin(stored.to_string()).ok().await?;
    ensure!(authors(&place, "a").await? == "mallory");
    // The operator writes no CronJobs, so nobody writes them as the operator.
    place
        .kubectl(
            &gate.admin(),
            &[
                "create",
                "rolebinding",
                "operator",
                "--clusterrole=test-everything",
                "--serviceaccount=countersign-system:countersign",
            ],
        )
        .ok()
        .await?;
    place
        .merge(&operator, "cronjob/a", template(json!({"metadata": {"annotations": {AUTHORED_BY: "alice"}}})))
        .run()
        .await?;
    ensure!(authors(&place, "a").await? == "mallory");
    let who = gate.cluster.user("mal\nlory", &["developers"])?;
    let refusal = "You cannot write CronJobs in a gated namespace under this identity";
    refused(place.create(&who, &cron_job("b")), refusal).await?;
    refused(place.merge(&who, "cronjob/a", json!({"spec": {"suspend": false}})), refusal).await?;
    place.merge(&who, "cronjob/a", json!({"metadata": {"labels": {"team": "a"}}})).ok().await?;
    Ok(())
}

pub async fn a_cron_job_speaks_for_no_request(gate: &Gate) -> Result<()> {
    let place = gate.gated("cron-names").await?;
    let mallory = gate.mallory()?;
    let with = |part: &str, key: &str, value: &str| {
        let mut body = cron_job("a");
        body["spec"]["jobTemplate"]["metadata"] = json!({part: {format!("countersign.dev/{key}"): value}});
        body
    };
    for key in ["request", "created-by", "created-by-groups", "released", "closed", "override-reason", "overridden-by"]
    {
        let expected = format!("a CronJob in a gated namespace cannot carry countersign.dev/{key}");
        refused(place.create(&mallory, &with("annotations", key, "a")), &expected).await?;
    }
    refused(place.create(&mallory, &with("annotations", "request", "a")), "one request cannot speak for many").await?;
    refused(place.create(&mallory, &with("labels", "held", "a")), "a Job carries no label of countersign.dev/").await?;
    for (key, value) in [("reason", ""), ("risk-tags", "a, b"), ("requested-by", "a b")] {
        refused(place.create(&mallory, &with("annotations", key, value)), &format!("countersign.dev/{key} must "))
            .await?;
    }
    let mut pods = cron_job("a");
    pods["spec"]["jobTemplate"]["spec"]["template"]["metadata"] =
        json!({"annotations": {"countersign.dev/receipt": "x"}});
    let template = "spec.jobTemplate.spec.template.metadata: labels and annotations of countersign.dev/";
    refused(place.create(&mallory, &pods), template).await?;
    place.create(&mallory, &with("annotations", "risk-tags", "prod,write")).ok().await?;
    let later = template_note("countersign.dev/request", "a");
    refused(place.merge(&mallory, "cronjob/a", later), "one request cannot speak for many").await
}

fn template_note(key: &str, value: &str) -> Value {
    template(json!({"metadata": {"annotations": {key: value}}}))
}

pub async fn jobs_of_a_cron_job_are_held_and_carry_its_author(gate: &Gate) -> Result<()> {
    let place = gate.gated("cron-jobs").await?;
    let (alice, mallory) = (gate.alice()?, gate.mallory()?);
    let mut body = cron_job("a");
    body["spec"]["schedule"] = json!("* * * * *");
    // Stopped until mallory starts it: a minute that begins before her change would make a Job of alice's alone.
    body["spec"]["suspend"] = json!(true);
    body["spec"]["jobTemplate"]["spec"]["suspend"] = json!(false);
    place.create(&alice, &body).ok().await?;
    place.merge(&mallory, "cronjob/a", json!({"spec": {"suspend": false}})).ok().await?;
    place.kubectl(&mallory, &["create", "job", "by-hand", "--from=cronjob/a"]).ok().await?;
    let by_hand = place.get("job/by-hand").await?;
    ensure!(by_hand["spec"]["suspend"] == true && note(&by_hand, "created-by") == Some("mallory"), "{by_hand:#}");
    ensure!(note(&by_hand, "authored-by") == Some("alice\nmallory"), "{by_hand:#}");
    let job = eventually("the CronJob controller makes a Job", async || {
        let jobs = place.kubectl(&alice, &["get", "jobs"]).json().await?;
        let items = jobs["items"].as_array().cloned().unwrap_or_default();
        Ok(items.into_iter().find(|job| job["metadata"]["name"] != "by-hand"))
    })
    .await?;
    ensure!(job["spec"]["suspend"] == true, "{job:#}");
    ensure!(note(&job, "created-by") == Some("system:serviceaccount:kube-system:cronjob-controller"), "{job:#}");
    ensure!(note(&job, "authored-by") == Some("alice\nmallory"), "{job:#}");
    eventually("the CronJob controller writes status", async || {
        Ok(place.get("cronjob/a").await?["status"]["active"].is_array().then_some(()))
    })
    .await?;
    ensure!(authors(&place, "a").await? == "alice\nmallory");
    place.nothing_ran().await
}
