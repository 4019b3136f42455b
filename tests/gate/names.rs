//! Who created a Job, and what its creator says about it.

use crate::place::{job, note};
use crate::{Gate, refused};
use anyhow::{Result, ensure};
use serde_json::{Value, json};

const POD_NAMES: &str = "spec.template.metadata: labels and annotations of countersign.dev/";

fn annotated(name: &str, key: &str, value: &str) -> Value {
    let mut body = job(name);
    body["metadata"]["annotations"] = json!({format!("countersign.dev/{key}"): value});
    body
}

pub async fn reserved_names_are_refused_at_creation(gate: &Gate) -> Result<()> {
    let place = gate.gated("names-reserved").await?;
    let mallory = gate.mallory()?;
    for key in ["released", "closed", "receipt", "constraints", "override-reason", "overridden-by", "anything"] {
        let expected = format!("a new Job cannot carry countersign.dev/{key}");
        refused(place.create(&mallory, &annotated("a", key, "mallory")), &expected).await?;
    }
    let named = json!({"countersign.dev/released": "x"});
    let mut labelled = job("a");
    labelled["metadata"]["labels"] = named.clone();
    refused(place.create(&mallory, &labelled), "a Job carries no label of countersign.dev/").await?;
    // Where a Job has no labels, the API server gives it those of its Pods.
    for (part, expected) in [("labels", "a Job carries no label of countersign.dev/"), ("annotations", POD_NAMES)] {
        let mut body = job("a");
        body["spec"]["template"]["metadata"] = json!({part: named});
        refused(place.create(&mallory, &body), expected).await?;
        body["metadata"]["labels"] = json!({"team": "a"});
        refused(place.create(&mallory, &body), POD_NAMES).await?;
    }
    // The operator makes no Jobs, so it is no exception: whoever holds its token cannot forge an approval so.
    let operator = gate.operator().await?;
    let output = place.create(&operator, &annotated("a", "released", "x")).run().await?;
    ensure!(!output.status.success());
    place.nothing_ran().await
}

pub async fn claims_are_well_formed(gate: &Gate) -> Result<()> {
    let place = gate.gated("names-claims").await?;
    let mallory = gate.mallory()?;
    let many = |count: usize| vec!["tag"; count].join(",");
    let long = |length: usize| "a".repeat(length);
    let bad: [(&str, Vec<String>); 4] = [
        ("request", vec!["".into(), "A".into(), "a_b".into(), "-a".into(), "a..b".into(), "a\n".into(), long(254)]),
        ("reason", vec!["".into(), long(1025)]),
        ("risk-tags", vec!["".into(), "A".into(), "a, b".into(), "a,".into(), "a\nb".into(), long(64), many(33)]),
        ("requested-by", vec!["".into(), "a b".into(), "ä".into(), "a\n".into(), long(254)]),
    ];
    for (key, values) in bad {
        for value in values {
            let expected = format!("metadata.annotations: countersign.dev/{key} must ");
            refused(place.create(&mallory, &annotated("a", key, &value)), &expected).await?;
        }
    }
    let good: [(&str, Vec<String>); 5] = [
        ("request", vec!["a".into(), "run-8f9a.remediate".into(), long(253)]),
        ("reason", vec!["prod write detected".into(), "ä".repeat(1024)]),
        ("risk-tags", vec!["prod".into(), "prod,write,pci-dss_4.0".into(), long(63), many(32)]),
        ("requested-by", vec!["workflow.incident-triage".into(), long(253)]),
        ("authored-by", vec!["alice\nbob".into(), "".into()]),
    ];
    let mut created = 0;
    for (key, values) in good {
        for value in values {
            created += 1;
            place.create(&mallory, &annotated(&format!("good-{created}"), key, &value)).ok().await?;
            let stored = place.get(&format!("job/good-{created}")).await?;
            ensure!(note(&stored, key) == Some(&value), "{stored:#}");
        }
    }
    place.nothing_ran().await
}

pub async fn nobody_changes_our_names_later(gate: &Gate) -> Result<()> {
    let place = gate.gated("names-later").await?;
    let (mallory, operator) = (gate.mallory()?, gate.operator().await?);
    let mut body = annotated("a", "reason", "prod write detected");
    body["spec"]["backoffLimit"] = json!(0);
    place.create(&gate.alice()?, &body).ok().await?;
    let kept = "labels and annotations of countersign.dev/ are set at creation";
    for patch in [
        json!({"annotations": {"countersign.dev/created-by": "mallory"}}),
        json!({"annotations": {"countersign.dev/created-by": null}}),
        json!({"annotations": {"countersign.dev/reason": "harmless"}}),
        json!({"annotations": {"countersign.dev/request": "other"}}),
        json!({"annotations": {"countersign.dev/released": "sha256:forged"}}),
        json!({"annotations": {"countersign.dev/closed": "Denied unbound"}}),
        json!({"annotations": {"countersign.dev/override-reason": "because"}}),
        json!({"annotations": {"countersign.dev/overridden-by": "bob"}}),
        json!({"annotations": null}),
        json!({"labels": {"countersign.dev/x": "y"}}),
    ] {
        let patch = json!({"metadata": patch});
        refused(place.merge(&mallory, "job/a", patch.clone()), kept).await?;
        refused(place.merge_sub(&mallory, "job/a", "status", patch), kept).await?;
    }
    let mut stored = place.writable("job/a").await?;
    stored["metadata"]["annotations"]["countersign.dev/created-by"] = json!("mallory");
    let path = "/apis/batch/v1/namespaces/names-later/jobs/a/status";
    refused(mallory.kubectl(["replace", "--raw", path, "-f", "-"]).stdin(stored.to_string()), kept).await?;
    let mut body = annotated("a", "created-by", "mallory");
    body["spec"]["suspend"] = json!(true);
    let apply = place.kubectl(&mallory, &["apply", "--server-side", "--force-conflicts", "-f", "-"]);
    refused(apply.stdin(body.to_string()), kept).await?;
    // The Pods of a held Job could carry a forged receipt.
    let forge = |part: &str| json!({"spec": {"template": {"metadata": {part: {"countersign.dev/receipt": "x"}}}}});
    for part in ["labels", "annotations"] {
        refused(place.merge(&mallory, "job/a", forge(part)), POD_NAMES).await?;
    }
    // And afterwards nobody takes away what the operator wrote.
    place.release(&operator, "a", json!({})).await?;
    let undo = json!({"metadata": {"annotations": {"countersign.dev/released": null}}});
    refused(place.merge(&mallory, "job/a", undo), kept).await?;
    place.merge(&mallory, "job/a", json!({"spec": {"suspend": true}})).ok().await?;
    refused(place.merge(&mallory, "job/a", json!({"spec": {"template": {"metadata": {"annotations": null}}}})), "")
        .await?;
    let stored = place.get("job/a").await?;
    ensure!(note(&stored, "created-by") == Some("alice") && note(&stored, "released").is_some(), "{stored:#}");
    Ok(())
}

pub async fn an_identity_that_cannot_be_written_down_is_refused(gate: &Gate) -> Result<()> {
    let place = gate.gated("names-identity").await?;
    let refusal = "You cannot create Jobs in a gated namespace under this identity";
    for (name, groups) in [
        ("mal\nlory", vec!["developers".to_string()]),
        ("mal\rlory", vec!["developers".into()]),
        ("mallory", vec!["developers".into(), "x\nsre".into()]),
        ("mallory", vec!["developers".into(), "g".repeat(257)]),
    ] {
        let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
        let who = gate.cluster.user(name, &groups)?;
        refused(place.create(&who, &job("a")), refusal).await?;
    }
    let many: Vec<String> = (0..257).map(|n| format!("--as-group=group-{n}")).collect();
    let mut args = vec!["create", "-f", "-", "--as=mallory", "--as-group=developers"];
    args.extend(many.iter().map(String::as_str));
    refused(place.kubectl(&gate.admin(), &args).stdin(job("a").to_string()), refusal).await?;
    // A name that only looks like two lines is one.
    let who = gate.cluster.user("mallory\\nalice", &["developers"])?;
    place.create(&who, &job("a")).ok().await?;
    ensure!(note(&place.get("job/a").await?, "created-by") == Some("mallory\\nalice"));
    Ok(())
}
