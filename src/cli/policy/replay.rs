//! `countersign policy replay`: what new policies would have said about the requests of a cluster. Reads only.

use crate::api::{TargetKind, names};
use crate::cli::case::{Case, CaseTarget, World};
use crate::cli::client::{Cluster, Connection, Found, Served};
use crate::cli::explain::{JOBS, NAMESPACES, PODS, POLICIES, REQUESTS, derived, read_request};
use crate::cli::policy::changes::{Changes, Comparison};
use crate::cli::policy::documents::{PolicyDocument, policies};
use crate::cli::print;
use crate::lifecycle::RequestFacts;
use crate::policy::{PolicySet, compile};
use anyhow::bail;
use kube::core::DynamicObject;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

/// Who will have changed a new policy, where neither its file nor the stored one says that.
const WHOEVER: &str = "whoever applies it";

/// What surrounds Jobs and Pods.
const SURROUNDINGS: [Served; 5] = [
    Served::new("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles"),
    Served::new("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings"),
    Served::new("rbac.authorization.k8s.io", "v1", "Role", "roles"),
    Served::new("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings"),
    Served::new("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
];

const HELP: &str = "Examples:
  countersign policy replay --policies production.yaml
  countersign policy replay --policies policies/ --replace-all --all --fail-on-weaker
  countersign policy replay --policies production.yaml -o json | jq '.changed[] | select(.weaker)'

Each request is judged twice, as it stands now: under the policies in force, and with the new ones in the place of those of \
the same name. Nothing is written. It needs list, cluster-wide, on approvalrequests, approvalpolicies, namespaces, jobs, \
pods, networkpolicies, and on roles and bindings: what a classifier derives rests on them.

Weaker is what asks less in one respect at least: a lesser decision, an Allow where nothing matched, fewer approvals of the \
same approvers, a looser bound or clock, a freeze window less, a policy that compiles again. What cannot be compared, such as \
other approvers, counts as weaker.

A request whose Job or Pod is gone is judged by the tags in its status. That is blind where a policy has expressions, or \
classifiers that are new, or nobody evaluated the request.

Exit code: 0 done, whatever changed; 1 with --fail-on-weaker where an outcome is weaker, or a request could not be read or \
was judged blindly; 2 nothing could be found out.";

/// Flags of `countersign policy replay`.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = HELP)]
pub struct ReplayArgs {
    /// The new policies: a file, or a folder whose YAML files are searched for ApprovalPolicies
    #[arg(long, value_name = "FILE|DIR")]
    pub policies: PathBuf,
    /// Finished requests too, as far as they are still there; else those that are Pending or Approved
    #[arg(long)]
    pub all: bool,
    /// Take the new policies as all there are; else those of other names stay in force
    #[arg(long)]
    pub replace_all: bool,
    /// Exit with 1 where an outcome gets weaker, or that cannot be told
    #[arg(long)]
    pub fail_on_weaker: bool,
    /// Which cluster, and as whom.
    #[command(flatten)]
    pub connection: Connection,
    /// How to print the changes
    #[arg(short, long, value_enum, default_value_t = Form::Table)]
    pub output: Form,
}

/// Forms of the output.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    /// For a person
    Table,
    /// For a program
    Json,
}

/// A Job or Pod by namespace, kind and name.
type At = (String, TargetKind, String);

/// Compares, and prints what changes. Returns whether all is as it should be.
pub async fn run(args: &ReplayArgs) -> anyhow::Result<bool> {
    // Before any cluster is asked: most mistakes are in the files.
    let new = policies(&args.policies)?;
    compiled(&new, &BTreeMap::new())?;
    let cluster = args.connection.cluster().await?;
    let changes = replay(args, &new, &cluster).await?;
    print(&match args.output {
        Form::Table => changes.table(),
        Form::Json => changes.json()?,
    })?;
    Ok(!args.fail_on_weaker || changes.proves_nothing_weaker())
}

/// Compiles new policies, each as last changed by whom its file names, or else by the one who did so last.
fn compiled(new: &[PolicyDocument], editors: &BTreeMap<String, String>) -> anyhow::Result<PolicySet> {
    let mut set = PolicySet::default();
    for document in new {
        let editor = editors.get(&document.name).map_or(WHOEVER, String::as_str);
        match document.compile(Some(editor)) {
            Ok(policy) => set.ready.push(Arc::new(policy)),
            Err(broken) => bail!("{}: policy {}: {}", document.source.display(), document.name, broken.error),
        }
    }
    Ok(set)
}

async fn replay(args: &ReplayArgs, new: &[PolicyDocument], cluster: &Cluster) -> anyhow::Result<Changes> {
    let (current, editors) = stored_policies(cluster).await?;
    let mut new = compiled(new, &editors)?;
    if !args.replace_all {
        let named: HashSet<_> = new.ready.iter().map(|policy| policy.name.clone()).collect();
        new.ready.extend(current.ready.iter().filter(|policy| !named.contains(&policy.name)).cloned());
        new.broken.extend(current.broken.iter().filter(|policy| !named.contains(&policy.name)).cloned());
    }
    let comparison = Comparison { current, new, world: world(cluster).await? };
    let mut labels: HashMap<String, BTreeMap<String, String>> = HashMap::new();
    list(cluster, NAMESPACES, None, |object| {
        labels.insert(object.metadata.name.unwrap_or_default(), object.metadata.labels.unwrap_or_default());
    })
    .await?;
    let targets = targets(args, cluster).await?;
    // Requests are listed a second time, and none is kept: only what changes is.
    let mut changes = Changes::default();
    list(cluster, REQUESTS, None, |object| match read_request(&object) {
        Ok(request) if chosen(args, &request) => {
            judge(&comparison, &request, labels.get(&request.namespace), &targets, &mut changes);
        }
        Ok(_) => {}
        Err(error) => {
            let name = |part: &Option<String>| part.clone().unwrap_or_default();
            let (namespace, name) = (name(&object.metadata.namespace), name(&object.metadata.name));
            changes.unread.push(format!("{namespace}/{name}: {error:#}"));
        }
    })
    .await?;
    Ok(changes)
}

/// Every policy in force or broken, and who last changed each.
async fn stored_policies(cluster: &Cluster) -> anyhow::Result<(PolicySet, BTreeMap<String, String>)> {
    let (mut set, mut editors) = (PolicySet::default(), BTreeMap::new());
    list(cluster, POLICIES, None, |object| {
        let name = object.metadata.name.unwrap_or_default();
        let editor = object.metadata.annotations.as_ref().and_then(|a| a.get(names::EDITED_BY)).cloned();
        match compile(&name, object.data.get("spec").unwrap_or(&Value::Null), editor.as_deref()) {
            Ok(policy) => set.ready.push(Arc::new(policy)),
            Err(broken) => set.broken.push(Arc::from(broken)),
        }
        editors.extend(editor.map(|editor| (name, editor)));
    })
    .await?;
    Ok((set, editors))
}

async fn world(cluster: &Cluster) -> anyhow::Result<World> {
    let mut world = World::default();
    for kind in SURROUNDINGS {
        list(cluster, kind, None, |object| {
            world.take(kind.kind(), &object);
        })
        .await?;
    }
    Ok(world)
}

/// The Jobs and Pods that the chosen requests target, each with its uid.
async fn targets(args: &ReplayArgs, cluster: &Cluster) -> anyhow::Result<HashMap<At, (Option<String>, CaseTarget)>> {
    let mut wanted: HashSet<At> = HashSet::new();
    list(cluster, REQUESTS, None, |object| {
        if let Ok(request) = read_request(&object)
            && chosen(args, &request)
        {
            wanted.extend(target_of(&request));
        }
    })
    .await?;
    let mut found = HashMap::new();
    for (kind, served, labels) in [(TargetKind::Job, JOBS, None), (TargetKind::Pod, PODS, Some(names::HELD))] {
        if !wanted.iter().any(|at| at.1 == kind) {
            continue;
        }
        list(cluster, served, labels, |object| {
            let part = |part: &Option<String>| part.clone().unwrap_or_default();
            let at = (part(&object.metadata.namespace), kind, part(&object.metadata.name));
            if wanted.contains(&at) {
                found.insert(at, (object.metadata.uid.clone(), CaseTarget::of(kind, &object)));
            }
        })
        .await?;
    }
    Ok(found)
}

fn chosen(args: &ReplayArgs, request: &RequestFacts) -> bool {
    args.all || !request.status.state.is_final()
}

fn target_of(request: &RequestFacts) -> Option<At> {
    let target = request.spec.target.as_ref()?;
    Some((request.namespace.clone(), target.kind, target.name.clone()))
}

fn judge(
    comparison: &Comparison,
    request: &RequestFacts,
    labels: Option<&BTreeMap<String, String>>,
    targets: &HashMap<At, (Option<String>, CaseTarget)>,
    changes: &mut Changes,
) {
    let asked = request.spec.target.as_ref();
    let bound = request.status.target.as_ref().map(|t| &t.uid).or(asked.and_then(|t| t.uid.as_ref()));
    let same = |found: &&(Option<String>, CaseTarget)| bound.is_none() || bound == found.0.as_ref();
    let target = target_of(request).and_then(|at| targets.get(&at)).filter(same).map(|(_, target)| target.clone());
    // While it waits for a Job that was never there, the operator judges it without one as well.
    let seen = request.status.target.is_some() || request.status.state.is_final();
    let gone = asked.filter(|_| target.is_none() && seen);
    let without = gone.map(|t| format!("judged by the tags in its status: its {} is gone", t.kind.as_str()));
    let case = Case::of(request, labels.cloned().unwrap_or_default(), target);
    let stored = gone.map(|_| derived(&request.status));
    let blind = request.status.policy_snapshot.is_none() || !comparison.tags_suffice(&case.labels);
    changes.judged += 1;
    changes.without_target += usize::from(without.is_some());
    changes.blind += usize::from(without.is_some() && blind);
    if let Some(mut change) = comparison.change(&case, stored.as_deref()) {
        (change.name, change.without) = (request.name.clone(), without);
        change.state = request.status.state.as_str().into();
        changes.changed.push(change);
    }
}

/// Lists what a replay cannot do without.
async fn list(
    cluster: &Cluster,
    kind: Served,
    labels: Option<&str>,
    each: impl FnMut(DynamicObject),
) -> anyhow::Result<()> {
    match cluster.list(kind, None, labels, each).await? {
        Found::There(()) | Found::Absent => Ok(()),
        Found::Refused(why) => {
            bail!("{why}, and outcomes rest on it; ask the cluster's admin, or run this as somebody who may")
        }
    }
}
