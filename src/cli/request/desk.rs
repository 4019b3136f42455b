//! What a call asks of the API server: fixed resource paths, one answer at a time, none for longer than half a minute.

use crate::admission::Caller;
use crate::api::ApprovalRequest;
use crate::cli::explain::JOBS;
use crate::cli::request::exit::{End, Exit};
use crate::cli::request::trouble::{Failure, Next, Trouble};
use anyhow::Context;
use futures::Stream;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, PostParams, WatchEvent, WatchParams};
use kube::core::ObjectList;
use kube::{Client, Config};
use serde_json::Value;
use std::cell::RefCell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// The longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(30);
/// How long the API server keeps a watch, in seconds. Short, so that a connection that died in silence is noticed.
pub const WATCH: u32 = 75;

/// The API server, as one call for one request sees it.
pub struct Desk {
    requests: Api<DynamicObject>,
    jobs: Api<DynamicObject>,
    client: Client,
    server: String,
    name: String,
    /// Whether trouble that may pass is waited out.
    patient: bool,
    trouble: RefCell<Trouble>,
    /// When the call began, on a clock that nobody sets.
    began: Instant,
}

impl Desk {
    /// The desk for the request `name` in `namespace`.
    pub fn new(mut config: Config, namespace: &str, name: &str, patient: bool) -> anyhow::Result<Self> {
        let server = config.cluster_url.to_string();
        // Each answer has its own limit here, and a quiet watch is no trouble.
        config.read_timeout = None;
        let client = Client::try_from(config).context("no client can be made from this kubeconfig")?;
        // Untyped, so that the answer shows all that the server stored.
        let resource = ApiResource::erase::<ApprovalRequest>(&());
        let mut hasher = DefaultHasher::new();
        (namespace, name, std::process::id()).hash(&mut hasher);
        Ok(Self {
            requests: Api::namespaced_with(client.clone(), namespace, &resource),
            jobs: JOBS.api(client.clone(), Some(namespace)),
            client,
            server,
            name: name.into(),
            patient,
            trouble: RefCell::new(Trouble::new(hasher.finish())),
            began: Instant::now(),
        })
    }

    /// How long the call has run.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Asks until there is an answer that stands.
    async fn ask<T>(&self, what: impl AsyncFn() -> kube::Result<T>) -> Result<T, End> {
        loop {
            let failure = match timeout(ANSWER, what()).await {
                Ok(Ok(answer)) => {
                    self.answered();
                    return Ok(answer);
                }
                Ok(Err(error)) => Failure::read(error, &self.server),
                Err(_) => Failure::late(&self.server),
            };
            self.pause_after(&failure).await?;
        }
    }

    /// Says that there is an answer again.
    pub fn answered(&self) {
        let line = self.trouble.borrow_mut().worked(self.elapsed());
        line.iter().for_each(|line| say(line));
    }

    /// Takes in how long a watch lived, and pauses after a short one.
    pub async fn lived(&self, time: Duration) {
        let pause = {
            let mut trouble = self.trouble.borrow_mut();
            if trouble.lived(time) { Duration::ZERO } else { trouble.pause() }
        };
        tokio::time::sleep(pause).await;
    }

    /// Pauses after a failure that may pass; the end otherwise.
    async fn pause_after(&self, failure: &Failure) -> Result<(), End> {
        if !self.patient {
            return Err(End::new(Exit::Failed, failure.text.clone()));
        }
        let next = self.trouble.borrow_mut().failed(failure, self.elapsed());
        match next {
            Next::GiveUp(text) => Err(End::new(Exit::Failed, text)),
            Next::Retry(pause, line) => {
                line.iter().for_each(|line| say(line));
                tokio::time::sleep(pause).await;
                Ok(())
            }
        }
    }

    /// Creates the request. None where one of that name is there.
    pub async fn create_request(&self, manifest: &Value) -> Result<Option<Value>, End> {
        self.create(&self.requests, manifest).await
    }

    /// Creates the Job. None where one of that name is there.
    pub async fn create_job(&self, manifest: &Value) -> Result<Option<Value>, End> {
        self.create(&self.jobs, manifest).await
    }

    async fn create(&self, api: &Api<DynamicObject>, manifest: &Value) -> Result<Option<Value>, End> {
        let object: DynamicObject =
            serde_json::from_value(manifest.clone()).context("the manifest is no Kubernetes object")?;
        let parameters = PostParams { field_manager: Some("countersign-request".into()), ..PostParams::default() };
        let created = self.ask(async || match api.create(&parameters, &object).await {
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(None),
            other => other.map(Some),
        });
        created.await?.map(plain).transpose()
    }

    /// The request as it is stored.
    pub async fn request(&self) -> Result<Option<Value>, End> {
        Ok(self.listed().await?.0)
    }

    /// The request, if there is one, and the version to watch from. A list, since a version of the request itself may be too
    /// old to watch from.
    pub async fn listed(&self) -> Result<(Option<Value>, String), End> {
        let one = ListParams::default().fields(&format!("metadata.name={}", self.name));
        let list: ObjectList<DynamicObject> = self.ask(async || self.requests.list(&one).await).await?;
        let version = list.metadata.resource_version.unwrap_or_default();
        Ok((list.items.into_iter().next().map(plain).transpose()?, version))
    }

    /// The Job of that name.
    pub async fn job(&self, name: &str) -> Result<Option<Value>, End> {
        self.ask(async || self.jobs.get_opt(name).await).await?.map(plain).transpose()
    }

    /// What happens to the request after that version.
    pub async fn watch(
        &self,
        version: &str,
    ) -> Result<impl Stream<Item = kube::Result<WatchEvent<DynamicObject>>> + use<>, Failure> {
        let one = WatchParams::default().timeout(WATCH).fields(&format!("metadata.name={}", self.name));
        match timeout(ANSWER, self.requests.watch(&one, version)).await {
            Ok(watch) => watch.map_err(|error| Failure::read(error, &self.server)),
            Err(_) => Err(Failure::late(&self.server)),
        }
    }

    /// Says of a watch what there is to say, and pauses.
    pub async fn watch_failed(&self, failure: &Failure) -> Result<(), End> {
        self.pause_after(failure).await
    }

    /// What an error of a watch is.
    pub fn failure(&self, error: kube::Error) -> Failure {
        Failure::read(error, &self.server)
    }

    /// Who the caller is, if the API server says so.
    pub async fn whoami(&self) -> Option<Caller> {
        let api: Api<SelfSubjectReview> = Api::all(self.client.clone());
        let (parameters, question) = (PostParams::default(), SelfSubjectReview::default());
        let said = timeout(ANSWER, api.create(&parameters, &question)).await.ok()?.ok()?;
        let user = said.status?.user_info?;
        Some(Caller {
            username: user.username?,
            uid: user.uid,
            groups: user.groups.unwrap_or_default(),
            extra: user.extra.unwrap_or_default(),
        })
    }
}

/// An object without the bookkeeping of the server that drowns everything else.
pub fn plain(mut object: DynamicObject) -> Result<Value, End> {
    object.metadata.managed_fields = None;
    Ok(serde_json::to_value(object).context("the stored object cannot be read")?)
}

/// One line on stderr. Parts of it come from a server.
pub fn say(line: &str) {
    eprintln!("countersign: {}", crate::cli::escape::visible(line));
}
