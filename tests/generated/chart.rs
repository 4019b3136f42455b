//! The chart says what the manifests say, and asks for metrics that there are.

use crate::{files, read, stored};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

/// The chart has its own copies, since it can reach nothing outside of itself.
#[test]
fn the_chart_has_the_same_manifests() -> Result<()> {
    let copies = |from: &str, to: &str| -> Result<Vec<(String, String)>> {
        let copy = |path: &PathBuf| {
            let name = path.file_name().context("a name")?.to_string_lossy();
            Ok((format!("{to}/{name}"), fs::read_to_string(path)?))
        };
        files(from, "yaml")?.iter().map(copy).collect()
    };
    for (from, to) in
        [("crds", "crds"), ("deploy/admission", "admission"), ("deploy/admission/holding", "admission/holding")]
    {
        let to = format!("charts/countersign/files/{to}");
        stored(&to, "yaml", &copies(from, &to)?)?;
    }
    let roles = "charts/countersign/files/roles";
    stored(roles, "yaml", &[(format!("{roles}/rbac.yaml"), read("deploy/rbac.yaml")?)])?;
    // One version of everything.
    let chart: Value = serde_yaml::from_str(&read("charts/countersign/Chart.yaml")?)?;
    assert_eq!(
        (&chart["version"], &chart["appVersion"]),
        (&json!(env!("CARGO_PKG_VERSION")), &json!(env!("CARGO_PKG_VERSION")))
    );
    Ok(())
}

/// What alerts and the dashboard ask for is what the operator tells, and the docs name each.
#[test]
fn every_metric_that_is_asked_for_is_there() -> Result<()> {
    let metrics = countersign::telemetry::Metrics::new();
    // What is watched, metrics do not know.
    metrics.work.set_watch_age("Job", std::time::Duration::ZERO);
    let told = metrics.render()?;
    let page = read("docs/operating.md")?;
    for line in told.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().unwrap_or_default();
        ensure!(page.contains(&format!("| `{name}")), "docs/operating.md does not name {name}");
    }
    let mut asked = 0;
    for file in ["alerts.yaml", "dashboard.json"] {
        let text = read(&format!("charts/countersign/files/{file}"))?;
        for word in text.split(|c: char| !c.is_alphanumeric() && c != '_') {
            if word.starts_with("countersign_") {
                let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word);
                ensure!(
                    told.contains(&format!("\n{word}")) || told.contains(&format!("# TYPE {base} histogram")),
                    "{file}: nobody tells {word}"
                );
                asked += 1;
            }
        }
    }
    ensure!(asked > 10, "only {asked} were found");
    Ok(())
}
