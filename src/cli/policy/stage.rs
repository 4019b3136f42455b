//! Sets a test's stage: from a fixture and its objects to the facts of one request.

use crate::api::{ApprovalRequestSpec, Constraints, Requester, TargetKind, names};
use crate::binding::ask;
use crate::cli::bounds;
use crate::cli::case::{Case, CaseTarget, NAMESPACE_NAME, World};
use crate::cli::policy::documents::{PolicyDocument, documents};
use crate::cli::policy::fixture::{API_VERSION, Ask, Fixture, KIND, NameOr, Person, Source, Test};
use crate::lifecycle::claims::default_requested_by;
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
        let mut suite = Self {
            path: path.into(),
            policies: policies.collect::<Result<_, _>>()?,
            tests: fixture.tests,
            world: World::default(),
            objects: vec![],
        };
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
        ensure!(object.metadata.name.is_some(), "{kind}: metadata.name: is missing");
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
        let (namespace, labels) = match namespace {
            NameOr::Here(here) => (here.name.clone(), here.labels.clone()),
            NameOr::Name(name) => {
                let object = self.object("Namespace", name, None).context("namespace")?;
                (name.clone(), object.metadata.labels.unwrap_or_default())
            }
        };
        let target = self.target(test, &namespace)?;
        let mut case = Case {
            namespace: namespace.clone(),
            labels,
            requester: Requester::default(),
            requested_by: String::new(),
            declared: vec![],
            claims: Value::Null,
            target: target.as_ref().map(|(_, _, target)| target.clone()),
            asked: test.at.unwrap_or(NOON.parse().unwrap_or(Timestamp::UNIX_EPOCH)),
        };
        case.labels.insert(NAMESPACE_NAME.into(), namespace.clone());
        let named = target.as_ref().map(|(kind, name, _)| (*kind, name.as_str()));
        let (offered, stamped) = self.claims(test, named, &mut case).context("request")?;
        let creator = || case.target.as_ref().and_then(|target| target.marks.creator.clone());
        let requester = test.requester.as_ref().map(person).or(stamped).or_else(creator);
        case.requester = requester.context("requester: is missing; say who asks")?;
        Ok(Staged { case, offered })
    }

    fn target(&self, test: &Test, namespace: &str) -> anyhow::Result<Option<(TargetKind, String, CaseTarget)>> {
        let (kind, name) = match (&test.job, &test.pod) {
            (None, None) => return Ok(None),
            (Some(job), None) => (TargetKind::Job, job),
            (None, Some(pod)) => (TargetKind::Pod, pod),
            (Some(_), Some(_)) => bail!("job: one request runs a Job or a Pod, not both"),
        };
        let object = self.object(kind.as_str(), name, Some(namespace)).context(kind.as_str().to_lowercase())?;
        Ok(Some((kind, name.clone(), CaseTarget::of(kind, &object))))
    }

    /// Fills in what is claimed. Returns the bounds that are offered, and the requester that a request's object names.
    fn claims(
        &self,
        test: &Test,
        target: Option<(TargetKind, &str)>,
        case: &mut Case,
    ) -> anyhow::Result<(Constraints, Option<Requester>)> {
        let spec = match (&test.request, target, &case.target) {
            // What the gate asks by itself: with the claims that the Job brings along.
            (None, Some((kind, name)), Some(target)) => {
                if let Some(bad) = &target.marks.bad_claim {
                    bail!("{bad}");
                }
                let claims = &target.marks.claims;
                let by = claims.requested_by.clone().unwrap_or_else(|| default_requested_by(kind.as_str(), name));
                case.claims = claims.document(&by);
                (case.requested_by, case.declared) = (by, claims.risk_tags.clone());
                return Ok((Constraints::default(), None));
            }
            (None, ..) => inline(&Ask::default(), target),
            (Some(NameOr::Here(ask)), ..) => inline(ask, target),
            (Some(NameOr::Name(name)), ..) => {
                let object = self.object("ApprovalRequest", name, Some(&case.namespace))?;
                object.data.get("spec").and_then(Value::as_object).cloned().context("has no spec")?
            }
        };
        let mut asked = spec.clone();
        // What admission wrote into a stored request.
        asked.retain(|field, _| !["requester", "review", "reviews", "cancel"].contains(&field.as_str()));
        bounds::check(&asked).map_err(|problem| anyhow::anyhow!("{}: {}", problem.path, problem.what))?;
        let spec = Value::Object(spec);
        let parsed: ApprovalRequestSpec = serde_path_to_error::deserialize(&spec).map_err(in_path)?;
        case.claims = ask(&spec);
        (case.requested_by, case.declared) = (parsed.requested_by, parsed.risk_tags);
        Ok((parsed.constraints, parsed.requester))
    }
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
fn inline(ask: &Ask, target: Option<(TargetKind, &str)>) -> Map<String, Value> {
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
