//! The explanation as data. Pure: words in it are as they were written, and the text form escapes them.

use crate::api::ApprovalRequestStatus;
use crate::api::condition::{self, ConditionStatus};
use crate::api::status::TagSource;
use crate::api::{Constraints, FreezeWindow, Subject};
use crate::binding::Snapshot;
use crate::cli::case::Case;
use crate::cli::explain::approvals::Approvals;
use crate::cli::explain::gather::Gathered;
use crate::cli::explain::reviews;
use crate::lifecycle::RequestFacts;
use crate::policy::{DerivedTag, JoinedRequirement, JoinedWindow, Outcome, PolicySet, PolicyTrace, evaluate, explain};
use crate::review::{Terms, fold};
use serde::Serialize;

/// Why a request stands where it stands.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// The request.
    pub request: Asked,
    /// What keeps it from going on, where something does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked: Option<Blocked>,
    /// Its risk tags, as the operator found them.
    pub tags: Vec<Tag>,
    /// Every policy and rule; none where they may not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policies: Option<Vec<PolicyTrace>>,
    /// What the matching rules say together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Joined>,
    /// Who has approved, and who still can.
    pub approvals: Approvals,
    /// Every review.
    pub reviews: Vec<Word>,
    /// Until when.
    pub clocks: Clocks,
    /// What could not be read, and what differs from the operator's own status.
    pub notes: Vec<String>,
}

/// The request itself.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// State, as the operator wrote it.
    pub state: &'static str,
    /// Whether that is final.
    pub over: bool,
    /// Message, as the operator wrote it.
    pub message: String,
    /// The workflow, a claim.
    pub requested_by: String,
    /// Who asked, authenticated.
    pub requester: String,
    /// Why, in the requester's words.
    pub reason: String,
    /// The Job or Pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// A problem that the operator reports.
#[derive(Clone, Debug, Serialize)]
pub struct Blocked {
    /// In one word.
    pub reason: String,
    /// For a person.
    pub message: String,
}

/// A risk tag.
#[derive(Clone, Debug, Serialize)]
pub struct Tag {
    /// The tag.
    pub tag: String,
    /// Declared, Derived or Unheld.
    pub source: String,
    /// What makes it apply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The policy whose classifier derived it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Whether the cluster does not enforce what it rests on.
    pub advisory: bool,
}

/// The outcome: the join of all matching rules, with the requester's own bounds.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Joined {
    /// The decision, or `NoMatch`.
    pub decision: &'static str,
    /// What must be met, in words.
    pub requirements: Vec<String>,
    /// How many denials end it.
    pub denials: i32,
    /// Whether the requester may approve.
    pub self_approval: crate::api::SelfApproval,
    /// Whether an approval takes a comment.
    pub require_comment: bool,
    /// Bounds in force.
    pub constraints: Constraints,
    /// Nothing is released sooner after it was asked, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before_seconds: Option<i64>,
    /// Freeze windows.
    pub freeze_windows: Vec<Frozen>,
    /// How long it may wait for approval, in seconds.
    pub pending_timeout_seconds: i64,
    /// How long an approval may wait, in seconds.
    pub release_timeout_seconds: i64,
    /// Why nothing is approved meanwhile.
    pub held: Vec<String>,
}

/// A freeze window of the matching rules.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Frozen {
    /// The window.
    #[serde(flatten)]
    pub window: FreezeWindow,
    /// Who passed it, as the operator wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passed_by: Option<String>,
}

/// One review.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Word {
    /// Who.
    pub reviewer: String,
    /// Approve or Deny.
    pub decision: String,
    /// When.
    pub time: String,
    /// In their words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether it counts, if its seal holds.
    pub counts: bool,
    /// Why it does not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub why_not: Vec<String>,
}

/// The clocks, as the operator wrote them.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Clocks {
    /// It expires unless it is approved by then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_until: Option<String>,
    /// An approval that could not be used expires then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release_by: Option<String>,
    /// Nothing is released before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
    /// An approved release waits until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_until: Option<String>,
}

/// That there is nothing to explain yet.
const NOT_YET: &str = "the operator has not evaluated this yet, so that nothing can be told of its outcome; see whether it runs (the Deployment countersign, by default in namespace countersign-system)";

/// Explains what was gathered.
pub fn account(gathered: &Gathered) -> Account {
    let request = &gathered.request;
    let mut notes = gathered.gaps.clone();
    let derived = derived(&request.status);
    // Without a look at what runs, tags and Job are missing, and with them what denies it.
    let judged = if evaluated(request) { judge(gathered, &derived) } else { None };
    if !evaluated(request) {
        notes.push(NOT_YET.into());
    }
    let outcome = judged.as_ref().map(|(_, outcome)| outcome);
    if let Some(outcome) = outcome {
        notes.extend(disagreement(request, outcome));
    }
    let requirements = requirements(request, outcome);
    let passers = passers(request);
    let terms = terms(request, &requirements, &passers);
    let tally = fold(&request.reviews, &terms);
    if request.status.digest.is_some() && tally.progress != request.status.approvals && !request.status.state.is_final()
    {
        notes.push("status.approvals differs from what its reviews amount to here: the operator has not caught up, or a seal does not hold".into());
    }
    Account {
        request: asked(request),
        blocked: blocked(request),
        tags: tags(request),
        outcome: outcome.map(|outcome| joined(request, outcome)),
        policies: judged.map(|(traces, _)| traces),
        approvals: Approvals::of(&tally, &terms, request.status.state.is_final()),
        reviews: words(request, &terms),
        clocks: clocks(request),
        notes,
    }
}

/// Whether the operator has looked at it once. Nobody else derives tags here.
fn evaluated(request: &RequestFacts) -> bool {
    let status = &request.status;
    status.digest.is_some() || status.state.is_final() || condition::find(&status.conditions, "Evaluated").is_some()
}

/// The derived tags, as the operator found them: no right to read roles is needed for that.
pub fn derived(status: &ApprovalRequestStatus) -> Vec<DerivedTag> {
    let scope = status.scope.iter().filter(|entry| entry.source == TagSource::Derived);
    scope
        .map(|entry| DerivedTag {
            tag: entry.tag.clone(),
            policy: entry.policy.clone(),
            detail: entry.detail.clone().unwrap_or_default(),
            advisory: entry.advisory,
        })
        .collect()
}

fn judge(gathered: &Gathered, derived: &[DerivedTag]) -> Option<(Vec<PolicyTrace>, Outcome)> {
    let policies: &PolicySet = gathered.policies.as_ref()?;
    let case = Case::of(&gathered.request, gathered.labels.clone()?, gathered.target.clone());
    let facts = case.facts(derived);
    Some((explain(policies, &facts), evaluate(policies, &facts)))
}

/// That the operator bound another outcome than the one found here.
fn disagreement(request: &RequestFacts, outcome: &Outcome) -> Option<String> {
    let bound = request.status.policy_snapshot.as_deref()?;
    let here = Snapshot::of(outcome.snapshot()).ok()?;
    (here.hash != bound).then(|| {
        "the outcome here is not the one that the operator bound: policies, namespace or Job changed since, or it has finished and what it ran with is gone".into()
    })
}

/// What reviews are counted against: what was shown, and only without that what policy says now.
pub fn requirements(request: &RequestFacts, outcome: Option<&Outcome>) -> Vec<JoinedRequirement> {
    let stored = || {
        let of = |p: &crate::api::RequirementProgress| JoinedRequirement {
            name: p.requirement.clone(),
            count: p.required,
            approvers: p.approvers.clone(),
        };
        request.status.approvals.iter().map(of).collect()
    };
    match outcome {
        Some(outcome) if request.status.digest.is_none() => outcome.requirements.clone(),
        _ => stored(),
    }
}

/// Who may pass a freeze window.
pub fn passers(request: &RequestFacts) -> Vec<Subject> {
    request.status.freezes.iter().flat_map(|freeze| freeze.window.may_pass.iter().cloned()).collect()
}

/// What the stored status says that reviews are counted against.
pub fn terms<'a>(
    request: &'a RequestFacts,
    requirements: &'a [JoinedRequirement],
    passers: &'a [Subject],
) -> Terms<'a> {
    let status = &request.status;
    Terms {
        requirements,
        passers,
        denials: status.denials.unwrap_or(1),
        self_approval: status.self_approval.unwrap_or_default(),
        requester: request.spec.requester.as_ref().unwrap_or(const { &crate::api::Requester::NOBODY }),
        parties: status.target.as_ref().map_or(&[], |target| &target.parties),
        excluded: &status.excluded,
        require_comment: status.require_comment,
        digest: status.digest.as_deref().unwrap_or_default(),
    }
}

fn asked(request: &RequestFacts) -> Asked {
    Asked {
        namespace: request.namespace.clone(),
        name: request.name.clone(),
        state: request.status.state.as_str(),
        over: request.status.state.is_final(),
        message: request.status.message.clone(),
        requested_by: request.spec.requested_by.clone(),
        requester: request.requester().username,
        reason: request.spec.reason.clone(),
        target: request.spec.target.as_ref().map(|t| format!("{} {}", t.kind.as_str(), t.name)),
    }
}

fn blocked(request: &RequestFacts) -> Option<Blocked> {
    let evaluated = condition::find(&request.status.conditions, "Evaluated")?;
    let open = !request.status.state.is_final() && evaluated.status != ConditionStatus::True;
    open.then(|| Blocked { reason: evaluated.reason.clone(), message: evaluated.message.clone() })
}

fn tags(request: &RequestFacts) -> Vec<Tag> {
    let entry = |entry: &crate::api::status::ScopeEntry| Tag {
        tag: entry.tag.clone(),
        source: format!("{:?}", entry.source),
        detail: entry.detail.clone(),
        policy: entry.policy.clone(),
        advisory: entry.advisory,
    };
    request.status.scope.iter().map(entry).collect()
}

fn joined(request: &RequestFacts, outcome: &Outcome) -> Joined {
    let who = |all: &[Subject]| all.iter().map(Subject::describe).collect::<Vec<_>>().join(" or ");
    let requirement = |r: &JoinedRequirement| format!("{}: {} from {}", r.name, r.count, who(&r.approvers));
    Joined {
        decision: crate::policy::decision_name(outcome.decision),
        requirements: outcome.requirements.iter().map(requirement).collect(),
        denials: outcome.denials,
        self_approval: outcome.self_approval,
        require_comment: outcome.require_comment,
        constraints: outcome.constraints.tightest(&request.spec.constraints),
        not_before_seconds: outcome.not_before_seconds,
        freeze_windows: outcome.windows.iter().map(|window| frozen(request, window)).collect(),
        pending_timeout_seconds: outcome.pending_timeout_seconds,
        release_timeout_seconds: outcome.release_timeout_seconds,
        held: outcome.doubts.iter().map(|d| format!("policy {} {}: {}", d.policy, d.what, d.error)).collect(),
    }
}

fn frozen(request: &RequestFacts, joined: &JoinedWindow) -> Frozen {
    let window = joined.window();
    let stored = request.status.freezes.iter().find(|freeze| {
        freeze.policy == *joined.rule.policy
            && freeze.rule == joined.rule.rule.name
            && freeze.window.name == window.name
    });
    Frozen { window: window.clone(), passed_by: stored.and_then(|freeze| freeze.passed_by.clone()) }
}

fn words(request: &RequestFacts, terms: &Terms<'_>) -> Vec<Word> {
    let word = |(at, counted): (usize, &crate::review::CountedReview)| {
        let review = &counted.review;
        let why_not = reviews::standing(&request.reviews, at, terms);
        Word {
            reviewer: review.reviewer.username.clone(),
            decision: format!("{:?}", review.decision),
            time: review.time.0.to_string(),
            comment: review.comment.clone(),
            counts: why_not.is_empty(),
            why_not,
        }
    };
    request.reviews.iter().enumerate().map(word).collect()
}

fn clocks(request: &RequestFacts) -> Clocks {
    let text = |time: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| {
        time.as_ref().map(|time| time.0.to_string())
    };
    let status = &request.status;
    if status.state.is_final() {
        return Clocks::default();
    }
    Clocks {
        pending_until: text(&status.pending_until),
        release_by: text(&status.release_by),
        not_before: text(&status.not_before),
        waits_until: text(&status.waits_until),
    }
}

#[cfg(test)]
#[path = "account_tests.rs"]
mod tests;
