//! What a Job's Pods read and nobody can bind: said to the reviewer, since it can be another after the review.

use crate::binding::inputs::{containers, is_cluster_ca, list};
use serde_json::Value;
use std::collections::BTreeSet;

/// The most entries; the last one then says how many more there are.
const MOST_ENTRIES: usize = 64;
/// The longest detail, in characters, as the API takes it.
const LONGEST_DETAIL: usize = 256;

/// What of a volume is bound elsewhere: with the Job, as an input, or below as a source of its own.
const HELD_VOLUMES: [&str; 7] = ["name", "configMap", "secret", "emptyDir", "downwardAPI", "projected", "image"];
/// Projected sources that are bound elsewhere, or told with the service account.
const HELD_SOURCES: [&str; 4] = ["configMap", "secret", "downwardAPI", "serviceAccountToken"];
/// What an environment variable takes from the Pod itself, or from what is bound.
const HELD_VARIABLES: [&str; 5] = ["configMapKeyRef", "secretKeyRef", "fieldRef", "resourceFieldRef", "fileKeyRef"];
/// Parts of an `envFrom` entry that are bound.
const HELD_ENVIRONMENTS: [&str; 3] = ["configMapRef", "secretRef", "prefix"];

/// What a pod spec reads that cannot be held, each as a short word in the form of a risk tag, and a detail of at most 256
/// characters without control characters: sorted, without duplicates, at most 64. Total. What this version does not know
/// counts as unheld.
pub fn unheld(pod_spec: &Value) -> Vec<(&'static str, String)> {
    let mut found = Unheld::default();
    found.service_account(pod_spec);
    for image in images_without_digest(pod_spec) {
        found.add("image-tag", format!("{image} can be moved to another image"));
    }
    for volume in list(pod_spec, "volumes") {
        found.volume(volume);
    }
    for container in containers(pod_spec) {
        found.environment(container);
    }
    for claim in list(pod_spec, "resourceClaims") {
        found.add("device-claim", format!("device {}", name(claim, "name")));
    }
    found.sorted()
}

/// Images that are not named by digest, sorted, without duplicates: those of every container and of image volumes. A
/// container without an image counts as well, since whatever sets it later is not what was reviewed.
pub fn images_without_digest(pod_spec: &Value) -> Vec<String> {
    let of_volumes = list(pod_spec, "volumes").filter_map(|v| v.get("image")).map(|image| image.get("reference"));
    let all = containers(pod_spec).map(|container| container.get("image")).chain(of_volumes);
    let texts = all.map(|image| image.and_then(Value::as_str).unwrap_or_default());
    let found: BTreeSet<_> = texts.filter(|image| !has_digest(image)).collect();
    found.into_iter().map(|image| if image.is_empty() { "(no image)".into() } else { image.into() }).collect()
}

/// Whether an image is named by a digest that decides what is pulled: `name[:tag]@sha256:…`.
fn has_digest(image: &str) -> bool {
    let Some((name, digest)) = image.split_once('@') else { return false };
    let hex = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let sound = match digest.split_once(':') {
        Some(("sha256", digits)) => digits.len() == 64 && hex(digits),
        Some(("sha512", digits)) => digits.len() == 128 && hex(digits),
        _ => false,
    };
    !name.is_empty() && sound
}

#[derive(Default)]
struct Unheld(BTreeSet<(&'static str, String)>);

impl Unheld {
    fn add(&mut self, word: &'static str, detail: String) {
        self.0.insert((word, one_line(&detail)));
    }

    fn service_account(&mut self, pod_spec: &Value) {
        let named = ["serviceAccountName", "serviceAccount"].into_iter().filter_map(|field| pod_spec.get(field));
        let account = named.filter_map(Value::as_str).find(|name| !name.is_empty()).unwrap_or("default");
        self.add("service-account", format!("what {account} may do, and the pull secrets it adds"));
    }

    fn volume(&mut self, volume: &Value) {
        let called = name(volume, "name");
        for (kind, source) in volume.as_object().into_iter().flatten().filter(|(_, source)| !source.is_null()) {
            match kind.as_str() {
                "projected" => list(source, "sources").for_each(|source| self.projected(called, source)),
                "downwardAPI" => list(source, "items").for_each(|item| self.pod_field(&item["fieldRef"])),
                "persistentVolumeClaim" => {
                    self.add("persistent-volume", format!("content of the claim {}", name(source, "claimName")));
                }
                "ephemeral" => self.add("persistent-volume", format!("what volume {called} is created with")),
                "hostPath" => self.add("host-path", format!("{} of the node", name(source, "path"))),
                "csi" | "flexVolume" => {
                    self.add("driver-volume", format!("volume {called}, filled by {}", name(source, "driver")));
                }
                kind if HELD_VOLUMES.contains(&kind) => {}
                kind => self.add("external-volume", format!("content of volume {called} ({kind})")),
            }
        }
    }

    fn projected(&mut self, volume: &str, source: &Value) {
        if is_cluster_ca(source) {
            self.add("cluster-ca", "the CA that the cluster gives to every Pod".into());
        }
        for (kind, source) in source.as_object().into_iter().flatten().filter(|(_, source)| !source.is_null()) {
            let signer = || name(source, "signerName");
            match kind.as_str() {
                "downwardAPI" => list(source, "items").for_each(|item| self.pod_field(&item["fieldRef"])),
                "clusterTrustBundle" if source["name"].is_string() => {
                    self.add("trust-bundle", format!("certificates of the bundle {}", name(source, "name")));
                }
                "clusterTrustBundle" => self.add("trust-bundle", format!("certificates trusted for {}", signer())),
                "podCertificate" => self.add("pod-certificate", format!("a certificate by {}", signer())),
                kind if HELD_SOURCES.contains(&kind) => {}
                kind => self.add("external-volume", format!("content of volume {volume} ({kind})")),
            }
        }
    }

    fn environment(&mut self, container: &Value) {
        for variable in list(container, "env") {
            let sources = variable.get("valueFrom").and_then(Value::as_object).into_iter().flatten();
            for (kind, source) in sources.filter(|(_, source)| !source.is_null()) {
                match kind.as_str() {
                    "fieldRef" => self.pod_field(source),
                    kind if HELD_VARIABLES.contains(&kind) => {}
                    kind => self.add("external-variable", format!("{} ({kind})", name(variable, "name"))),
                }
            }
        }
        let sources = list(container, "envFrom").filter_map(Value::as_object).flatten();
        for (kind, _) in
            sources.filter(|(kind, source)| !source.is_null() && !HELD_ENVIRONMENTS.contains(&kind.as_str()))
        {
            self.add("external-variable", format!("variables of {} ({kind})", name(container, "name")));
        }
    }

    /// Labels and annotations of a Pod are its template's at first, and whoever may patch Pods can change them. Ours are
    /// kept by admission; names, addresses and the like are no input.
    fn pod_field(&mut self, field: &Value) {
        let path = name(field, "fieldPath");
        let ours = path.starts_with("metadata.annotations['countersign.dev/");
        let open = path.starts_with("metadata.annotations") || path.starts_with("metadata.labels");
        if open && !ours {
            self.add("pod-metadata", format!("{path} of the Pod"));
        }
    }

    fn sorted(self) -> Vec<(&'static str, String)> {
        let more = self.0.len().saturating_sub(MOST_ENTRIES);
        let mut entries: Vec<_> = self.0.into_iter().collect();
        if more > 0 {
            entries.truncate(MOST_ENTRIES - 1);
            entries.push(("unheld", format!("{} more, in the Job's pod template", more + 1)));
        }
        entries
    }
}

/// A text field; `-` where there is none.
fn name<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).filter(|text| !text.is_empty()).unwrap_or("-")
}

/// Escaped, and cut where it is too long: all of these texts come from whoever wrote the Job.
fn one_line(text: &str) -> String {
    let quote = |c: char| matches!(c, '\'' | '"');
    let escape = |c: char| if quote(c) { c.to_string() } else { c.escape_debug().to_string() };
    let escaped: String = text.chars().take(LONGEST_DETAIL + 1).map(escape).collect();
    if escaped.chars().count() <= LONGEST_DETAIL {
        return escaped;
    }
    escaped.chars().take(LONGEST_DETAIL - 1).chain(['…']).collect()
}

#[cfg(test)]
#[path = "unheld_tests.rs"]
mod tests;
