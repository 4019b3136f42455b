//! The client of commands that people run: its configuration, its errors, and lists read by pages.

use crate::cli::kubeconfig;
use anyhow::Context;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::config::KubeConfigOptions;
use kube::core::GroupVersionKind;
use kube::{Client, Config};
use std::path::PathBuf;
use std::time::Duration;

/// Objects that are asked for at a time.
const PAGE: u32 = 500;

/// Which cluster, and as whom.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Connection {
    /// Kubeconfig to use [default: KUBECONFIG, then ~/.kube/config, then the Pod's service account]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Kubeconfig context to use
    #[arg(long)]
    pub context: Option<String>,
}

impl Connection {
    /// The configuration that the flags choose. No call takes longer than 30 seconds, and none is repeated.
    pub async fn config(&self) -> anyhow::Result<Config> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let mut config = kubeconfig::config(self.kubeconfig.as_deref(), &options).await?;
        config.read_timeout = Some(Duration::from_secs(30));
        // A repeated create would meet its own first try.
        config.default_retry = false;
        Ok(config)
    }

    /// A cluster to read from.
    pub async fn cluster(&self) -> anyhow::Result<Cluster> {
        let config = self.config().await?;
        let (server, namespace) = (config.cluster_url.to_string(), config.default_namespace.clone());
        let client = Client::try_from(config).context("no client can be made from this kubeconfig")?;
        Ok(Cluster { client, server, namespace })
    }
}

/// A cluster, read with the caller's own rights.
pub struct Cluster {
    client: Client,
    server: String,
    /// The namespace of the kubeconfig's context.
    pub namespace: String,
}

/// A kind that is read, as the API server serves it.
#[derive(Clone, Copy, Debug)]
pub struct Served {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
}

impl Served {
    /// A kind of that group (empty for the core one) and version.
    pub const fn new(group: &'static str, version: &'static str, kind: &'static str, plural: &'static str) -> Self {
        Self { group, version, kind, plural }
    }

    /// Its kind, such as `Job`.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Its name in a URL and in RBAC, such as `jobs.batch`.
    pub fn resource(&self) -> String {
        if self.group.is_empty() { self.plural.into() } else { format!("{}.{}", self.plural, self.group) }
    }

    pub(crate) fn api(&self, client: Client, namespace: Option<&str>) -> Api<DynamicObject> {
        let gvk = GroupVersionKind::gvk(self.group, self.version, self.kind);
        let resource = ApiResource::from_gvk_with_plural(&gvk, self.plural);
        match namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        }
    }
}

/// What reading brought.
pub enum Found<T> {
    /// It is there.
    There(T),
    /// It is not there.
    Absent,
    /// The caller may not read it: the right that is missing, for a person.
    Refused(String),
}

impl Cluster {
    /// The client itself, for what is written.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Where the API server is.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// One object; a cluster-scoped one without a namespace.
    pub async fn get(&self, kind: Served, namespace: Option<&str>, name: &str) -> anyhow::Result<Found<DynamicObject>> {
        match kind.api(self.client.clone(), namespace).get_opt(name).await {
            Ok(Some(object)) => Ok(Found::There(object)),
            Ok(None) => Ok(Found::Absent),
            Err(error) => {
                let place = namespace.map_or_else(String::new, |namespace| format!(" in namespace {namespace}"));
                self.refused(error, &format!("get {} {name}{place}", kind.resource()))
            }
        }
    }

    /// Every object of a kind, in one namespace or in all, by pages: `each` is called with one after the other.
    pub async fn list(
        &self,
        kind: Served,
        namespace: Option<&str>,
        labels: Option<&str>,
        mut each: impl FnMut(DynamicObject),
    ) -> anyhow::Result<Found<()>> {
        let api = kind.api(self.client.clone(), namespace);
        let mut page = ListParams { label_selector: labels.map(String::from), ..ListParams::default() }.limit(PAGE);
        loop {
            let list = match api.list(&page).await {
                Ok(list) => list,
                Err(error) => {
                    let place = namespace.map_or_else(|| "cluster-wide".into(), |n| format!("in namespace {n}"));
                    return self.refused(error, &format!("list {} {place}", kind.resource()));
                }
            };
            list.items.into_iter().for_each(&mut each);
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(Found::There(())),
            }
        }
    }

    /// Writes fields of an object by server-side apply, as `manager`, whoever wrote them before.
    pub async fn apply(
        &self,
        kind: Served,
        namespace: &str,
        manager: &str,
        object: &DynamicObject,
    ) -> anyhow::Result<Found<()>> {
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let params = PatchParams::apply(manager).force();
        match kind.api(self.client.clone(), Some(namespace)).patch(name, &params, &Patch::Apply(object)).await {
            Ok(_) => Ok(Found::There(())),
            Err(error) => self.refused(error, &format!("write {} {name} in namespace {namespace}", kind.resource())),
        }
    }

    fn refused<T>(&self, error: kube::Error, what: &str) -> anyhow::Result<Found<T>> {
        match &error {
            kube::Error::Api(status) if status.code == 403 => Ok(Found::Refused(format!("you may not {what}"))),
            _ => Err(explained(error, &self.server).context(what.to_string())),
        }
    }
}

/// The API server's own words, and what to do where they do not say it.
pub fn explained(error: kube::Error, server: &str) -> anyhow::Error {
    match error {
        kube::Error::Api(status) => {
            let next = match (status.code, status.reason.as_str()) {
                (_, "AlreadyExists") => "; if it is another run or step, give this one a --name",
                (404, _) if !status.message.contains("namespaces") => {
                    "; does the cluster have Countersign? countersign manifests | kubectl apply -f -"
                }
                (410, _) => "; the list changed while it was read: try again",
                _ => "",
            };
            anyhow::anyhow!("the API server refused the request: {}{next}", status.message.trim_end())
        }
        kube::Error::Service(cause) => {
            anyhow::Error::from_boxed(cause).context(format!("the API server at {server} cannot be reached"))
        }
        other => anyhow::Error::new(other).context(format!("asking the API server at {server} failed")),
    }
}
