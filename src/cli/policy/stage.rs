//! Sets a test's stage: from a fixture and its objects to the facts of one request.

use crate::api::{ApprovalRequestSpec, Constraints, Requester, TargetKind, names};
use crate::binding::ask;
use crate::cli::bounds;
use crate::cli::case::{Case, CaseTarget, NAMESPACE_NAME, World};
use crate::cli::policy::documents::{PolicyDocument, documents, twice};
use crate::cli::policy::fixture::{API_VERSION, Ask, Fixture, KIND, NameOr, Person, Source, Test};
use crate::cli::policy::names::Names;
use crate::lifecycle::{Gate, Marks, foreign};
use anyhow::{Context, bail, ensure};
use jiff::Timestamp;
use kube::core::DynamicObject;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// When it is asked where a test does not say: Wednesday, 7 January 2026, noon UTC.
const NOON: &str = "2026-01-07T12:00:00Z";

/// Kinds that objects may have.
const KNOWN: [(&str, &str); 9] = [
    ("v1", "Namespace"),
    ("v1", "Pod"),
    ("batch/v1", "Job"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    (names::API_VERSION, "ApprovalRequest"),
];

/// Kinds that act in the namespace that they name, and in no other.
const SOMEWHERE: [&str; 3] = ["Role", "RoleBinding", "NetworkPolicy"];

/// One file of tests, with all that it names.
#[derive(Debug)]
pub struct Suite {
    /// The file.
    pub path: PathBuf,
    /// Its policies.
    pub policies: Vec<PolicyDocument>,
    /// Its tests.
    pub tests: Vec<Test>,
    /// What stands around Jobs and Pods.
    pub world: World,
    objects: Vec<DynamicObject>,
}

/// A request that can be judged.
#[derive(Debug)]
pub struct Staged {
    /// The facts.
    pub case: Case,
    /// Bounds that the requester offers.
    pub offered: Constraints,
    /// Whether the namespace is gated.
    pub gated: bool,
    /// Why the requester cannot speak for what would run, where that is so: in a gated namespace somebody else made it.
    pub foreign: Option<String>,
}

impl Suite {
    /// Reads every suite of a file.
    pub fn read(path: &Path) -> anyhow::Result<Vec<Self>> {
        let found = documents(path)?;
        ensure!(!found.is_empty(), "{}: is empty", path.display());
        found.into_iter().map(|document| Self::of(path, document).with_context(|| path.display().to_string())).collect()
    }

    fn of(path: &Path, document: Value) -> anyhow::Result<Self> {
        let fixture: Fixture = serde_path_to_error::deserialize(&document).map_err(in_path)?;
        ensure!(fixture.api_version == API_VERSION, "apiVersion: is {:?}, not {API_VERSION}", fixture.api_version);
        ensure!(fixture.kind == KIND, "kind: is {:?}, not {KIND}", fixture.kind);
        ensure!(!fixture.policies.is_empty(), "policies: names none");
        ensure!(!fixture.tests.is_empty(), "tests: there is none");
        let mut names = BTreeSet::new();
        for (i, test) in fixture.tests.iter().enumerate() {
            ensure!(names.insert(&test.name), "tests[{i}].name: two tests are named {:?}", test.name);
            test.expect.check().with_context(|| format!("tests[{i}].expect"))?;
        }
        let policies = resolved(path, &fixture.policies).context("policies")?;
        let policies = policies.iter().map(|(source, document)| PolicyDocument::read(source, document));
        let policies = policies.collect::<Result<Vec<_>, _>>()?;
        if let Some(name) = twice(&policies) {
            bail!("policies: two are named {name}, and a cluster has one of a name");
        }
        let known = Names::of(&policies);
        for (i, test) in fixture.tests.iter().enumerate() {
            known.check(&test.expect).with_context(|| format!("tests[{i}].expect"))?;
        }
        let mut suite =
            Self { path: path.into(), policies, tests: fixture.tests, world: World::default(), objects: vec![] };
        for (source, document) in resolved(path, &fixture.objects).context("objects")? {
            suite.add(document).with_context(|| source.display().to_string())?;
        }
        Ok(suite)
    }

    fn add(&mut self, document: Value) -> anyhow::Result<()> {
        let text = |field: &str| document[field].as_str().unwrap_or_default().to_string();
        let (version, kind) = (text("apiVersion"), text("kind"));
        ensure!(
            KNOWN.contains(&(version.as_str(), kind.as_str())),
            "kind {kind:?} of {version:?} is nothing that policy looks at; known are {}",
            KNOWN.map(|(_, kind)| kind).join(", ")
        );
        let object: DynamicObject = serde_path_to_error::deserialize(&document).map_err(in_path)?;
        let name = object.metadata.name.as_deref().with_context(|| format!("{kind}: metadata.name: is missing"))?;
        ensure!(
            !SOMEWHERE.contains(&kind.as_str()) || object.metadata.namespace.is_some(),
            "{kind} {name}: metadata.namespace: is missing, and without it this would hold nowhere"
        );
        if !self.world.take(&kind, &object) {
            self.objects.push(object);
        }
        Ok(())
    }

    fn object(&self, kind: &str, name: &str, namespace: Option<&str>) -> anyhow::Result<DynamicObject> {
        let mut found = self.objects.iter().filter(|object| {
            let here = |own: &String| namespace.is_none_or(|namespace| namespace == own);
            object.types.as_ref().is_some_and(|types| types.kind == kind)
                && object.metadata.name.as_deref() == Some(name)
                && object.metadata.namespace.as_ref().is_none_or(here)
        });
        let place = namespace.map(|n| format!(" for namespace {n}")).unwrap_or_default();
        let object = found.next().with_context(|| format!("there is no {kind} {name}{place} among objects"))?;
        ensure!(found.next().is_none(), "there are two of kind {kind} named {name}{place} among objects");
        let mut object = object.clone();
        object.metadata.namespace = namespace.map(String::from);
        Ok(object)
    }

    /// The facts of a test.
    pub fn stage(&self, test: &Test) -> anyhow::Result<Staged> {
        let namespace = test.namespace.as_ref().context("namespace: is missing")?;
        let (namespace, mut labels) = match namespace {
            NameOr::Here(here) => (here.name.clone(), here.labels.clone()),
            NameOr::Name(name) => {
                let object = self.object("Namespace", name, None).context("namespace")?;
                (name.clone(), object.metadata.labels.unwrap_or_default())
            }
        };
        labels.insert(NAMESPACE_NAME.into(), namespace.clone());
        let gated = Gate::of(&namespace, &labels, names::DEFAULT_NAMESPACE) == Gate::Enforce;
        let request = self.request(test, &namespace).context("request")?;
        let target = self.target(test, request.as_ref(), &namespace)?;
        let asks = test.requester.as_ref().map(person).or_else(|| request.as_ref()?.requester.clone());
        let target = target.map(|(kind, name, object)| {
            let object = if gated { stamped(object, asks.as_ref()) } else { object };
            (kind, name, CaseTarget::of(kind, &object))
        });
        let marks = target.as_ref().map(|(_, _, target)| &target.marks);
        let requester = asks.or_else(|| marks?.creator.clone()).context("requester: is missing; say who asks")?;
        let claims = match &request {
            Some(request) => Claimed::by(request),
            None => Claimed::unasked(target.as_ref())?,
        };
        let name = request.as_ref().and_then(|request| request.name.as_deref());
        let foreign = marks.filter(|_| gated).and_then(|marks| foreign_to(marks, name, &requester));
        let case = Case {
            namespace,
            labels,
            requester,
            requested_by: claims.requested_by,
            declared: claims.declared,
            claims: claims.document,
            asked: asked(test, request.as_ref())?,
            target: target.map(|(_, _, target)| target),
        };
        Ok(Staged { case, offered: claims.offered, gated, foreign })
    }

    /// The request that the test names or writes down; none where it is left to the gate.
    fn request(&self, test: &Test, namespace: &str) -> anyhow::Result<Option<AskedFor>> {
        let (spec, object) = match &test.request {
            None if test.job.is_some() || test.pod.is_some() => return Ok(None),
            None => (inline(&Ask::default(), None), None),
            Some(NameOr::Here(ask)) => (inline(ask, named(test)?), None),
            Some(NameOr::Name(name)) => {
                let object = self.object("ApprovalRequest", name, Some(namespace))?;
                (object.data.get("spec").and_then(Value::as_object).cloned().context("has no spec")?, Some(object))
            }
        };
        let mut asked = spec.clone();
        // What admission wrote into a stored request.
        asked.retain(|field, _| !["requester", "review", "reviews", "cancel"].contains(&field.as_str()));
        bounds::check(&asked).map_err(|problem| anyhow::anyhow!("{}: {}", problem.path, problem.what))?;
        let spec = Value::Object(spec);
        let parsed: ApprovalRequestSpec = serde_path_to_error::deserialize(&spec).map_err(in_path)?;
        let metadata = object.map(|object| object.metadata);
        Ok(Some(AskedFor {
            name: metadata.as_ref().and_then(|metadata| metadata.name.clone()),
            created: metadata.and_then(|metadata| metadata.creation_timestamp).map(|time| time.0),
            requester: parsed.requester.clone(),
            stored: spec,
            spec: parsed,
        }))
    }

    /// What will run: what the test names, or else the request. They must not differ.
    fn target(
        &self,
        test: &Test,
        request: Option<&AskedFor>,
        namespace: &str,
    ) -> anyhow::Result<Option<(TargetKind, String, DynamicObject)>> {
        let targeted = request.map(|request| request.spec.target.as_ref().map(|t| (t.kind, t.name.clone())));
        if let (Some((kind, name)), Some(target)) = (named(test)?, &targeted)
            && target.as_ref() != Some(&(kind, name.clone()))
        {
            let target = target.as_ref().map_or("nothing".into(), |(kind, name)| format!("{} {name}", kind.as_str()));
            bail!("{}: is {name}, and the request targets {target}; leave it out", kind.as_str().to_lowercase());
        }
        let Some((kind, name)) = targeted.unwrap_or(named(test)?) else { return Ok(None) };
        let object = self.object(kind.as_str(), &name, Some(namespace)).context(kind.as_str().to_lowercase())?;
        Ok(Some((kind, name, object)))
    }
}

/// What the test says will run.
fn named(test: &Test) -> anyhow::Result<Option<(TargetKind, String)>> {
    match (&test.job, &test.pod) {
        (None, None) => Ok(None),
        (Some(job), None) => Ok(Some((TargetKind::Job, job.clone()))),
        (None, Some(pod)) => Ok(Some((TargetKind::Pod, pod.clone()))),
        (Some(_), Some(_)) => bail!("job: one request runs a Job or a Pod, not both"),
    }
}

/// A request, before anybody judged it.
struct AskedFor {
    /// Its name, where it is an object.
    name: Option<String>,
    /// When it was created, where its object says that.
    created: Option<Timestamp>,
    /// Who asked, where its object says that.
    requester: Option<Requester>,
    /// Its spec.
    spec: ApprovalRequestSpec,
    /// Its spec as it stands there.
    stored: Value,
}

/// What is claimed.
struct Claimed {
    requested_by: String,
    declared: Vec<String>,
    document: Value,
    offered: Constraints,
}

impl Claimed {
    fn by(request: &AskedFor) -> Self {
        Self {
            requested_by: request.spec.requested_by.clone(),
            declared: request.spec.risk_tags.clone(),
            document: ask(&request.stored),
            offered: request.spec.constraints.clone(),
        }
    }

    /// What the gate asks by itself: with the claims that the Job or Pod brings along.
    fn unasked(target: Option<&(TargetKind, String, CaseTarget)>) -> anyhow::Result<Self> {
        let (kind, name, target) = target.context("request: is missing")?;
        if let Some(bad) = &target.marks.bad_claim {
            bail!("request: {bad}");
        }
        let requested_by = target.marks.requested_by(*kind, name);
        Ok(Self {
            document: target.marks.claims.document(&requested_by),
            declared: target.marks.claims.risk_tags.clone(),
            offered: Constraints::default(),
            requested_by,
        })
    }
}

/// When it is asked: when the request says it was created, and else when the test says. They must not differ.
fn asked(test: &Test, request: Option<&AskedFor>) -> anyhow::Result<Timestamp> {
    let created = request.and_then(|request| request.created);
    match (test.at, created) {
        (Some(at), Some(created)) if at != created => {
            bail!("at: is {at}, and the request was created at {created}; leave it out")
        }
        (at, created) => Ok(at.or(created).unwrap_or(NOON.parse().unwrap_or(Timestamp::UNIX_EPOCH))),
    }
}

/// The object as a gated namespace has it: where it does not say who made it, whoever asks did.
fn stamped(mut object: DynamicObject, asks: Option<&Requester>) -> DynamicObject {
    let annotations = object.metadata.annotations.get_or_insert_default();
    if let Some(asks) = asks.filter(|_| !annotations.contains_key(names::CREATED_BY)) {
        annotations.insert(names::CREATED_BY.into(), asks.username.clone());
        annotations.insert(names::CREATED_BY_UID.into(), asks.uid.clone().unwrap_or_default());
        annotations.insert(names::CREATED_BY_GROUPS.into(), asks.groups.join("\n"));
    }
    object
}

/// Why that requester cannot speak for what carries these marks. A uid counts where both are written down.
fn foreign_to(marks: &Marks, request: Option<&str>, requester: &Requester) -> Option<String> {
    let stamped = marks.creator.as_ref().and_then(|creator| creator.uid.clone());
    let uid = requester.uid.clone().filter(|_| stamped.is_some()).or(stamped);
    let whose = foreign(marks, request, Some(&Requester { uid, ..requester.clone() }))?;
    Some(format!("{whose}; in a gated namespace only the creator's own request is taken"))
}

/// The documents that stand here or in the files that are named, each with the file.
fn resolved(path: &Path, sources: &[Source]) -> anyhow::Result<Vec<(PathBuf, Value)>> {
    let mut found = vec![];
    for source in sources {
        match source {
            NameOr::Here(document) => found.push((path.to_path_buf(), document.clone())),
            NameOr::Name(file) => {
                let file = path.parent().unwrap_or(Path::new("")).join(file);
                let all = documents(&file)?;
                ensure!(!all.is_empty(), "{}: is empty", file.display());
                found.extend(all.into_iter().map(|document| (file.clone(), document)));
            }
        }
    }
    Ok(found)
}

/// The spec of a request with these claims.
fn inline(ask: &Ask, target: Option<(TargetKind, String)>) -> Map<String, Value> {
    let text = |given: &Option<String>, otherwise: &str| given.clone().unwrap_or_else(|| otherwise.into());
    let mut spec = json!({
        "runID": text(&ask.run_id, "run-test"),
        "stepID": text(&ask.step_id, "step-test"),
        "requestedBy": text(&ask.requested_by, "workflow.test"),
        "reason": text(&ask.reason, "a test"),
    });
    if !ask.risk_tags.is_empty() {
        spec["riskTags"] = json!(ask.risk_tags);
    }
    if !ask.constraints.is_empty() {
        spec["constraints"] = json!(ask.constraints);
    }
    if !ask.evidence.is_empty() {
        spec["evidence"] = json!(ask.evidence);
    }
    if let Some((kind, name)) = target {
        spec["target"] = json!({"apiVersion": kind.api_version(), "kind": kind.as_str(), "name": name});
    }
    spec.as_object().cloned().unwrap_or_default()
}

fn person(person: &Person) -> Requester {
    let groups = with_own_groups(&person.username, &person.groups);
    Requester { username: person.username.clone(), uid: person.uid.clone(), groups }
}

/// The groups, and those that the API server itself gives everybody, and every service account.
pub fn with_own_groups(username: &str, groups: &[String]) -> Vec<String> {
    let mut all: BTreeSet<String> = groups.iter().cloned().collect();
    all.insert("system:authenticated".into());
    if let Some((namespace, _)) = username.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'))
    {
        all.extend(["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")]);
    }
    all.into_iter().collect()
}

fn in_path(error: serde_path_to_error::Error<serde_json::Error>) -> anyhow::Error {
    match error.path().to_string().as_str() {
        "." => anyhow::anyhow!("{}", error.inner()),
        path => anyhow::anyhow!("{path}: {}", error.inner()),
    }
}
