//! Who reaches whom: Services, the API server from a Pod, and the cluster from outside.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

use super::{IMAGE, KUBECTL, cluster, job, pod_spec, restricted};
use countersign_testbed::Identity;

/// A Pod that answers, and a Service in front of it. Returns the address of the Service.
async fn served(admin: &Identity, namespace: &str) -> Result<String> {
    restricted(admin, namespace).await?;
    let labels = json!({"app": "server"});
    let mut spec = pod_spec(IMAGE, &["serve", "8080"]);
    spec["containers"][0]["readinessProbe"] = json!({"httpGet": {"port": 8080}, "periodSeconds": 1});
    let all = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "server", "labels": labels}, "spec": spec},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "server"},
         "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]}},
    ]});
    let within = |args: &[&str]| admin.kubectl(["--namespace", namespace].iter().chain(args).copied());
    within(&["create", "--filename", "-"]).stdin(all.to_string()).ok().await?;
    within(&["wait", "--for=condition=Ready", "pod/server", "--timeout=60s"]).ok().await?;
    let service = within(&["get", "service", "server"]).json().await?;
    Ok(format!("{}:80", service["spec"]["clusterIP"].as_str().context("an address")?))
}

#[tokio::test]
async fn a_service_leads_to_a_pod() -> Result<()> {
    let cluster = cluster().await?;
    let node = cluster.real_node()?;
    let address = served(&cluster.admin(), "served").await?;
    let url = format!("http://{address}/");
    // The kube-proxy learns of it through a watch.
    let answer = node.exec("curl", ["-sS", "--retry", "20", "--retry-delay", "1", "--retry-all-errors", &url]).await?;
    assert_eq!(answer.succeeded()?, "served by a container\n");

    let port = node.forward(&address)?.to_string();
    let outside = std::process::Command::new("curl").args(["-sS", &format!("http://{port}/")]).output()?;
    assert_eq!(String::from_utf8_lossy(&outside.stdout), "served by a container\n", "{outside:?}");
    // Without the way in, nobody outside reaches it.
    let direct = std::process::Command::new("curl").args(["-sS", "--max-time", "2", &url]).output()?;
    assert!(!String::from_utf8_lossy(&direct.stdout).contains("container"), "{direct:?}");
    Ok(())
}

#[tokio::test]
async fn a_pod_reaches_the_api_server_as_its_service_account() -> Result<()> {
    let admin = cluster().await?.admin();
    restricted(&admin, "asking").await?;
    let within = |args: &[&str]| admin.kubectl(["--namespace=asking"].iter().chain(args).copied());
    // The cache of kubectl has no place to be in; it goes on without.
    let asking = pod_spec(KUBECTL, &["auth", "whoami", "--output=jsonpath={.status.userInfo.username}"]);
    within(&["create", "--filename", "-"]).stdin(job("asked", asking)).ok().await?;
    within(&["wait", "--for=condition=Complete", "job/asked", "--timeout=60s"]).ok().await?;
    assert_eq!(within(&["logs", "job/asked"]).ok().await?, "system:serviceaccount:asking:default");
    Ok(())
}

/// The answer must not go past what translated the address.
#[tokio::test]
async fn a_pod_reaches_another_by_its_service() -> Result<()> {
    let admin = cluster().await?.admin();
    let address = served(&admin, "neighbours").await?;
    let within = |args: &[&str]| admin.kubectl(["--namespace=neighbours"].iter().chain(args).copied());
    // Of the programs that there are, kubectl asks for what it is told to. The server's answer ends the Job well.
    let server = format!("--server=http://{address}");
    let mut spec = pod_spec(KUBECTL, &[&server, "get", "--raw", "/"]);
    spec["restartPolicy"] = json!("OnFailure");
    within(&["create", "--filename", "-"]).stdin(job("asked", spec)).ok().await?;
    let began = Instant::now();
    loop {
        let log = within(&["logs", "job/asked"]).run().await?.stdout;
        if log == "served by a container\n" {
            return Ok(());
        }
        let pods: Value = within(&["get", "pods"]).json().await?;
        ensure!(began.elapsed() < Duration::from_secs(60), "{log} {pods:#}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn helm_installs_a_chart() -> Result<()> {
    let cluster = cluster().await?;
    let admin = cluster.admin();
    let chart = tempfile::tempdir()?;
    let write = |path: &str, text: &str| std::fs::write(chart.path().join(path), text);
    std::fs::create_dir(chart.path().join("templates"))?;
    write("Chart.yaml", "apiVersion: v2\nname: noted\nversion: 1.0.0\n")?;
    let template = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: noted}\ndata: {by: '{{ .Release.Name }}'}\n";
    write("templates/noted.yaml", template)?;
    let path = chart.path().to_string_lossy();
    let install = ["install", "trial", &*path, "--namespace", "charts", "--create-namespace"];
    cluster.real_node()?.helm(&admin, install).await?.succeeded()?;
    let noted = admin.kubectl(["get", "configmap", "noted", "--namespace=charts"]).json().await?;
    assert_eq!(noted["data"]["by"], "trial");
    Ok(())
}
