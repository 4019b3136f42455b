//! What a pod spec says of the Pods it makes.

use crate::api::InputKind;
use crate::binding::{images_without_digest, references};
use crate::risk::text::{escape, one_line};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The most entries of one list; where there are more, the last one says how many.
const MOST_SIGNS: usize = 16;
/// The longest entry, in characters.
const LONGEST_SIGN: usize = 120;
/// The longest name of a container, volume or variable in an entry: what the entry is about must not be cut off by it.
const LONGEST_NAME: usize = 28;
/// The longest name of an object.
const LONGEST_OBJECT: usize = 253;
/// Annotation by which a container's AppArmor profile was chosen before there was a field; the container's name follows. The
/// API server still obeys it where a Pod is created.
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
/// The CSI driver that mounts secrets from stores outside the cluster.
const SECRETS_STORE: &str = "secrets-store.csi.k8s.io";
/// What calls a container, or is called, over the network from the node.
const PROBES: [&str; 5] =
    ["/livenessProbe", "/readinessProbe", "/startupProbe", "/lifecycle/postStart", "/lifecycle/preStop"];
/// SELinux types that confine a container, as the Pod Security Standards have them.
const CONFINED: [&str; 5] = ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];

/// Signs of risk in a pod spec. Each list says where, for a person (`container main: …`), and is empty where there is none:
/// at most 16 entries of at most 120 characters, without control characters. Only `images` is whole.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Traits {
    /// Uses of Secrets, and of secrets that the driver of the Secrets Store mounts.
    pub secrets: Vec<String>,
    /// Volumes that a driver fills, which may hand out secrets as well as anything else.
    pub driver_volumes: Vec<String>,
    /// Privileged containers, and those whose confinement is loosened in another way: unmasked `/proc`, seccomp or AppArmor
    /// `Unconfined`, an SELinux type that does not confine, Windows host processes.
    pub privileged: Vec<String>,
    /// Shared parts of the node: its network, processes, IPC, and ports; and probes and hooks by which the node calls a host
    /// of the author's choice.
    pub host_access: Vec<String>,
    /// Whether the network of the node is shared, on which no NetworkPolicy acts.
    pub host_network: bool,
    /// Mounted paths of the node.
    pub host_paths: Vec<String>,
    /// Added capabilities.
    pub added_capabilities: Vec<String>,
    /// Containers that may run as root.
    pub runs_as_root: Vec<String>,
    /// Every image, sorted, without duplicates: of all containers and of image volumes. `(no image)` stands for a container
    /// without one.
    pub images: Vec<String>,
    /// Of those, the ones that are not named by digest.
    pub unpinned: Vec<String>,
    /// The service account it runs as.
    pub service_account: String,
    /// Whether its containers can get at a token of that account. A token in a Secret is a Secret, and told as one.
    pub has_token: bool,
}

impl Traits {
    /// Reads a pod spec, and the annotations of the Pods. Total: what has another form than the API gives it counts as absent.
    pub fn of(pod_spec: &Value, annotations: &Value) -> Self {
        let pod = Pod { spec: pod_spec, security: &pod_spec["securityContext"], annotations };
        Self {
            secrets: bounded(secrets(pod_spec)),
            driver_volumes: bounded(driver_volumes(pod_spec)),
            host_network: pod_spec["hostNetwork"] == true,
            privileged: bounded(pod.of_containers(Pod::privileged)),
            host_access: bounded(pod.host_access()),
            host_paths: bounded(host_paths(pod_spec)),
            added_capabilities: bounded(pod.of_containers(Pod::added_capabilities)),
            runs_as_root: bounded(pod.of_containers(Pod::runs_as_root)),
            images: images(pod_spec),
            unpinned: bounded(images_without_digest(pod_spec)),
            service_account: service_account(pod_spec),
            has_token: has_token(pod_spec),
        }
    }
}

/// The first entries, each on one line.
fn bounded(signs: Vec<String>) -> Vec<String> {
    let more = signs.len().saturating_sub(MOST_SIGNS - 1);
    let take = if signs.len() > MOST_SIGNS { MOST_SIGNS - 1 } else { MOST_SIGNS };
    let rest = (signs.len() > MOST_SIGNS).then(|| format!("{more} more, in the pod spec"));
    signs.into_iter().take(take).map(|sign| one_line(&sign, LONGEST_SIGN)).chain(rest).collect()
}

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

/// A text field; empty where there is none.
fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn short(name: &str) -> String {
    one_line(name, LONGEST_NAME)
}

/// Every container, of whatever kind, and how a person calls it. A sidecar is an init container.
fn containers(pod_spec: &Value) -> impl Iterator<Item = (String, &Value)> {
    let kinds = [
        ("initContainers", "init container"),
        ("containers", "container"),
        ("ephemeralContainers", "ephemeral container"),
    ];
    kinds.into_iter().flat_map(|(field, noun)| {
        list(pod_spec, field).map(move |container| (format!("{noun} {}", short(text(container, "name"))), container))
    })
}

fn secrets_in(pod_spec: &Value) -> BTreeSet<String> {
    references(pod_spec).into_iter().filter(|input| input.kind == InputKind::Secret).map(|input| input.name).collect()
}

/// Uses of Secrets by containers and by volumes, and not for pulling images, which the kubelet does: no container sees those.
/// What is a reference is decided where inputs are bound; here stands only what each is called, so that nothing goes unsaid.
fn secrets(pod_spec: &Value) -> Vec<String> {
    let mut seen = pod_spec.clone();
    seen.as_object_mut().map(|fields| fields.remove("imagePullSecrets"));
    let mut unsaid = secrets_in(&seen);
    let known = unsaid.clone();
    let mut signs = vec![];
    let mut say = |sign: String, secret: &str| {
        unsaid.remove(secret);
        signs.push(sign);
    };
    for (called, container) in containers(pod_spec) {
        let mut variables: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for variable in list(container, "env") {
            let secret = text(&variable["valueFrom"]["secretKeyRef"], "name");
            variables.entry(secret).or_default().push(text(variable, "name"));
        }
        for (secret, names) in variables.into_iter().filter(|(secret, _)| known.contains(*secret)) {
            let more = if names.len() > 1 { format!(" and {} more", names.len() - 1) } else { String::new() };
            let first = short(names.first().copied().unwrap_or_default());
            say(format!("{called}: env {first}{more} from Secret {secret}"), secret);
        }
        let whole = list(container, "envFrom").map(|source| text(&source["secretRef"], "name"));
        for secret in whole.filter(|secret| known.contains(*secret)) {
            say(format!("{called}: envFrom Secret {secret}"), secret);
        }
    }
    for volume in list(pod_spec, "volumes") {
        let called = short(text(volume, "name"));
        for secret in secrets_in(&json!({"volumes": [volume]})) {
            say(format!("volume {called}: Secret {secret}"), &secret);
        }
        if text(&volume["csi"], "driver") == SECRETS_STORE {
            let class = text(&volume["csi"]["volumeAttributes"], "secretProviderClass");
            say(format!("volume {called}: secrets of SecretProviderClass {class}"), "");
        }
    }
    signs.extend(unsaid.into_iter().map(|secret| format!("Secret {secret}")));
    signs
}

/// Volumes that the spec itself hands to a driver, of which nothing is known but its name.
fn driver_volumes(pod_spec: &Value) -> Vec<String> {
    let mut signs = vec![];
    for volume in list(pod_spec, "volumes") {
        for source in ["csi", "flexVolume"].into_iter().filter(|source| volume[*source].is_object()) {
            let driver = text(&volume[source], "driver");
            signs.push(format!("volume {}: filled by the driver {driver}", short(text(volume, "name"))));
        }
    }
    signs
}

/// A pod spec, and what its security context and annotations set for containers.
struct Pod<'a> {
    spec: &'a Value,
    security: &'a Value,
    annotations: &'a Value,
}

impl Pod<'_> {
    /// What a look at each container and its security context finds, with the container before it.
    fn of_containers(&self, look: impl Fn(&Self, &Value, &Value) -> Vec<String>) -> Vec<String> {
        let mut signs = vec![];
        for (called, container) in containers(self.spec) {
            let found = look(self, &container["securityContext"], container);
            if !found.is_empty() {
                signs.push(format!("{called}: {}", found.join(", ")));
            }
        }
        signs
    }

    /// A setting of a container: its own, or else the Pod's.
    fn effective<'a>(&'a self, own: &'a Value, field: &str) -> &'a Value {
        match own.get(field) {
            None | Some(Value::Null) => &self.security[field],
            Some(value) => value,
        }
    }

    fn privileged(&self, own: &Value, container: &Value) -> Vec<String> {
        let is = |field: &str, kind: &str| text(self.effective(own, field), "type") == kind;
        let host_process = |windows: &Value| windows["hostProcess"].as_bool();
        let of_pod = || host_process(&self.security["windowsOptions"]);
        let selinux = text(self.effective(own, "seLinuxOptions"), "type");
        let by_annotation = text(self.annotations, &format!("{APP_ARMOR}{}", text(container, "name")));
        let signs = [
            (own["privileged"] == true, "privileged".to_string()),
            (own["procMount"] == "Unmasked", "procMount Unmasked".into()),
            (host_process(&own["windowsOptions"]).or_else(of_pod) == Some(true), "Windows host process".into()),
            (is("seccompProfile", "Unconfined"), "seccomp Unconfined".into()),
            (is("appArmorProfile", "Unconfined"), "AppArmor Unconfined".into()),
            (by_annotation == "unconfined", "AppArmor unconfined by annotation".into()),
            (!CONFINED.contains(&selinux), format!("SELinux type {}", short(selinux))),
        ];
        signs.into_iter().filter(|(found, _)| *found).map(|(_, sign)| sign).collect()
    }

    fn added_capabilities(&self, own: &Value, _: &Value) -> Vec<String> {
        let added = list(&own["capabilities"], "add").filter_map(Value::as_str).filter(|name| !name.is_empty());
        added.map(short).collect()
    }

    /// Without a user in the spec, the image decides, unless the kubelet is told to refuse root.
    fn runs_as_root(&self, own: &Value, _: &Value) -> Vec<String> {
        match self.effective(own, "runAsUser").as_i64() {
            Some(0) => vec!["runAsUser 0".into()],
            Some(_) => vec![],
            None if self.effective(own, "runAsNonRoot") == true => vec![],
            None => vec!["no runAsUser and no runAsNonRoot".into()],
        }
    }

    fn host_access(&self) -> Vec<String> {
        let shared = ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|field| self.spec[*field] == true);
        let mut signs: Vec<String> = shared.map(String::from).collect();
        for (called, container) in containers(self.spec) {
            let ports: Vec<_> = list(container, "ports").filter_map(|port| port["hostPort"].as_i64()).collect();
            let ports: Vec<_> = ports.into_iter().filter(|port| *port != 0).map(|port| port.to_string()).collect();
            if !ports.is_empty() {
                signs.push(format!("{called}: hostPort {}", ports.join(", ")));
            }
            signs.extend(called_hosts(container).into_iter().map(|sign| format!("{called}: {sign}")));
        }
        signs
    }
}

/// Hosts that the kubelet calls for a container, from the node and its network: with another host than the Pod's own it goes
/// where the Pod itself may not.
fn called_hosts(container: &Value) -> Vec<String> {
    let mut signs = vec![];
    for probe in PROBES {
        let action = container.pointer(probe).unwrap_or(&Value::Null);
        let hosts = ["httpGet", "tcpSocket"].map(|way| text(&action[way], "host"));
        for host in hosts.into_iter().filter(|host| !host.is_empty()) {
            let name = probe.rsplit('/').next().unwrap_or(probe);
            signs.push(format!("{name} calls host {}", one_line(host, LONGEST_SIGN / 2)));
        }
    }
    signs
}

fn host_paths(pod_spec: &Value) -> Vec<String> {
    let paths = list(pod_spec, "volumes").filter(|volume| volume["hostPath"].is_object());
    paths.map(|v| format!("volume {}: {}", short(text(v, "name")), text(&v["hostPath"], "path"))).collect()
}

/// Whole, since policies look for what is *not* in a list of registries. Escaping changes no image that can be pulled.
fn images(pod_spec: &Value) -> Vec<String> {
    let of_volumes = list(pod_spec, "volumes").filter_map(|v| v.get("image")).map(|image| text(image, "reference"));
    let all = containers(pod_spec).map(|(_, container)| text(container, "image")).chain(of_volumes);
    let found: BTreeSet<_> = all.collect();
    found.into_iter().map(|image| if image.is_empty() { "(no image)".into() } else { escape(image) }).collect()
}

fn service_account(pod_spec: &Value) -> String {
    let named = ["serviceAccountName", "serviceAccount"].into_iter().map(|field| text(pod_spec, field));
    one_line(named.into_iter().find(|name| !name.is_empty()).unwrap_or("default"), LONGEST_OBJECT)
}

/// A projected token needs no automount. What the service account itself says of automount is not known here, so that
/// nothing but the Pod's own word takes the token away.
fn has_token(pod_spec: &Value) -> bool {
    let sources = list(pod_spec, "volumes").flat_map(|volume| list(&volume["projected"], "sources"));
    pod_spec["automountServiceAccountToken"] != false
        || sources.into_iter().any(|source| source["serviceAccountToken"].is_object())
}

#[cfg(test)]
#[path = "traits_tests.rs"]
mod tests;
