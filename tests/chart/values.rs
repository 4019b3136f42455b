//! What values do, and which are refused.

use crate::{CHART, HOME, helm};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

/// Everything that is optional.
const ALL: [&str; 7] = [
    "--set=traces.endpoint=http://collector.monitoring:4318",
    "--set=serviceMonitor.enabled=true",
    "--set=prometheusRule.enabled=true",
    "--set=dashboard.enabled=true",
    "--set=certificate.certManager.enabled=true",
    "--set=readSecrets=content",
    "--set=audit.keepDays=30",
];

async fn rendered(flags: &[&str]) -> Result<Vec<Value>> {
    let args = [&["template", "countersign", CHART, "--namespace", HOME], flags].concat();
    let text = helm(None, &args).await?.succeeded()?;
    let read = |document| Ok(serde_json::to_value(serde_yaml::Value::deserialize(document)?)?);
    let all = serde_yaml::Deserializer::from_str(&text).map(read).collect::<Result<Vec<Value>>>()?;
    Ok(all.into_iter().filter(|object| !object.is_null()).collect())
}

fn one<'a>(objects: &'a [Value], kind: &str, name: &str) -> Option<&'a Value> {
    objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
}

fn args(objects: &[Value]) -> Result<Vec<String>> {
    let deployment = one(objects, "Deployment", "countersign").context("the Deployment")?;
    let args = deployment.pointer("/spec/template/spec/containers/0/args").and_then(Value::as_array).context("args")?;
    Ok(args.iter().filter_map(|arg| arg.as_str().map(String::from)).collect())
}

#[tokio::test]
async fn helm_has_nothing_to_complain_about() -> Result<()> {
    for flags in [&[][..], &ALL[..]] {
        let said = helm(None, &[&["lint", "--strict", CHART], flags].concat()).await?;
        ensure!(said.status.success(), "{}{}", said.stdout, said.stderr);
        ensure!(!said.stdout.contains("[WARNING]"), "{}", said.stdout);
    }
    Ok(())
}

#[tokio::test]
async fn bad_values_are_refused_by_name() -> Result<()> {
    for (bad, named) in [
        ("replicas=0", "replicas"),
        ("replicas=two", "replicas"),
        ("hold=always", "hold"),
        ("readSecrets=all", "readSecrets"),
        ("image.repository=", "repository"),
        ("image.digest=sha256:123", "digest"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("image.tags=1", "tags"),
        ("certificate.days=0", "days"),
        ("certificate.days=366", "days"),
        ("certificate.certManager.issuerRef.kind=Issuer", "issuerRef"),
        ("leaseSeconds=1", "leaseSeconds"),
        ("traces.endpoint=collector:4318", "endpoint"),
        ("drainSeconds=-1", "drainSeconds"),
        ("networkPolicy.apiServerPorts=6443", "apiServerPorts"),
        ("networkPolicy.apiServerPorts={70000}", "apiServerPorts"),
        ("serviceMonitor.interval=often", "interval"),
        ("extraArgs=--reanchor-audit", "extraArgs"),
        ("keep.crds=maybe", "crds"),
        ("replicaCount=3", "replicaCount"),
    ] {
        let said = helm(None, &["template", "countersign", CHART, "--namespace", HOME, "--set", bad]).await?;
        ensure!(!said.status.success(), "{bad} was taken");
        ensure!(
            said.stderr.contains("don't meet the specifications") && said.stderr.contains(named),
            "{bad}: {}",
            said.stderr
        );
    }
    Ok(())
}

/// The flags that the chart gives are flags that there are, whatever the values.
#[tokio::test]
async fn the_operator_takes_the_flags_that_it_gets() -> Result<()> {
    use clap::Parser;
    for flags in
        [&[][..], &ALL[..], &["--set=hold=webhook", "--set=logJSON=false", "--set=extraArgs={--refusals-every=60}"]]
    {
        let args = args(&rendered(flags).await?)?;
        countersign::cli::Args::try_parse_from(std::iter::once("countersign".to_owned()).chain(args))?;
    }
    Ok(())
}

#[tokio::test]
async fn a_value_reaches_what_it_is_for() -> Result<()> {
    let plain = rendered(&["--set=hold=policy"]).await?;
    ensure!(one(&plain, "ClusterRoleBinding", "countersign-read-secrets").is_none());
    ensure!(one(&plain, "MutatingAdmissionPolicy", "countersign-jobs").is_some(), "no policy holds Jobs");
    ensure!(plain.iter().all(|object| object["kind"] != "Certificate" && object["kind"] != "ServiceMonitor"));
    ensure!(!args(&plain)?.iter().any(|arg| arg.starts_with("--admission-certificate=")));

    let all = rendered(&[&ALL[..], &["--set=hold=webhook"]].concat()).await?;
    ensure!(one(&all, "ClusterRoleBinding", "countersign-read-secrets").is_some());
    ensure!(
        all.iter().all(|object| object["kind"] != "MutatingAdmissionPolicy"),
        "the webhooks hold, and policies too"
    );
    let secret = &one(&all, "Certificate", "countersign-admission").context("a certificate")?["spec"];
    assert_eq!(secret["dnsNames"][0], "countersign.countersign-system.svc");
    let name = secret["secretName"].as_str().context("its Secret")?;
    ensure!(args(&all)?.contains(&format!("--admission-certificate-secret={name}")));
    let may = one(&all, "Role", "countersign-provided-certificate").context("the right to read it")?;
    assert_eq!(may["rules"][0]["resourceNames"][0], name);
    ensure!(args(&all)?.contains(&"--read-secrets=content".to_owned()));

    // No Pod of the chart may do anything that Pod Security calls more than restricted.
    for pod in [
        one(&plain, "Deployment", "countersign").map(|d| &d["spec"]["template"]["spec"]),
        one(&plain, "Pod", "countersign-check").map(|p| &p["spec"]),
    ] {
        let pod = pod.context("a Pod")?;
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"], true);
    }
    Ok(())
}

/// Another home: the rules name the operator that lives there.
#[tokio::test]
async fn another_namespace_is_named_everywhere() -> Result<()> {
    let text =
        helm(None, &["template", "gate", CHART, "--namespace", "123", "--set=hold=policy"]).await?.succeeded()?;
    ensure!(!text.contains("countersign-system"), "the default namespace is left over");
    ensure!(text.contains("system:serviceaccount:123:countersign") && text.contains("namespace: \"123\""));
    ensure!(!text.contains("namespace: 123\n"), "a namespace that is a number");
    Ok(())
}
