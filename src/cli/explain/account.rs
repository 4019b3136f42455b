//! The explanation as data. Pure: words in it are as they were written, and the text form escapes them.

use crate::api::condition::{self, ConditionStatus};
use crate::api::status::TagSource;
use crate::api::{Constraints, FreezeWindow, Subject, SubjectKind};
use crate::binding::Snapshot;
use crate::cli::case::Case;
use crate::cli::explain::gather::Gathered;
use crate::cli::explain::reviews;
use crate::lifecycle::{RequestFacts, missing};
use crate::policy::{DerivedTag, JoinedRequirement, Outcome, PolicySet, PolicyTrace, evaluate, explain};
use crate::review::{Tally, Terms, fold};
use serde::Serialize;
use std::collections::BTreeSet;

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
    pub freeze_windows: Vec<FreezeWindow>,
    /// How long it may wait for approval, in seconds.
    pub pending_timeout_seconds: i64,
    /// How long an approval may wait, in seconds.
    pub release_timeout_seconds: i64,
    /// Why nothing is approved meanwhile.
    pub held: Vec<String>,
}

/// How far the approval has come.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Approvals {
    /// Each requirement.
    pub requirements: Vec<Progress>,
    /// What is missing.
    pub missing: String,
    /// Who cannot approve, and why.
    pub excluded: Vec<String>,
}

/// One requirement.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Its name.
    pub requirement: String,
    /// How many people.
    pub required: i32,
    /// Who has approved.
    pub approved_by: Vec<String>,
    /// Who may still approve; empty where it is met.
    pub open_to: Vec<String>,
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

/// Explains what was gathered.
pub fn account(gathered: &Gathered) -> Account {
    let request = &gathered.request;
    let mut notes = gathered.gaps.clone();
    let derived = derived(request);
    let judged = judge(gathered, &derived);
    let outcome = judged.as_ref().map(|(_, outcome)| outcome);
    if let Some(outcome) = outcome {
        notes.extend(disagreement(request, outcome));
    }
    let requirements = requirements(request, outcome);
    let passers: Vec<Subject> = request.status.freezes.iter().flat_map(|f| f.window.may_pass.iter().cloned()).collect();
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
        approvals: approvals(&tally, &terms),
        reviews: words(request, &terms),
        clocks: clocks(request),
        notes,
    }
}

/// The derived tags, as the operator found them: no right to read roles is needed for that.
fn derived(request: &RequestFacts) -> Vec<DerivedTag> {
    let scope = request.status.scope.iter().filter(|entry| entry.source == TagSource::Derived);
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
fn requirements(request: &RequestFacts, outcome: Option<&Outcome>) -> Vec<JoinedRequirement> {
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

fn terms<'a>(request: &'a RequestFacts, requirements: &'a [JoinedRequirement], passers: &'a [Subject]) -> Terms<'a> {
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
        freeze_windows: outcome.windows.iter().map(|w| w.window().clone()).collect(),
        pending_timeout_seconds: outcome.pending_timeout_seconds,
        release_timeout_seconds: outcome.release_timeout_seconds,
        held: outcome.doubts.iter().map(|d| format!("policy {} {}: {}", d.policy, d.what, d.error)).collect(),
    }
}

fn approvals(tally: &Tally, terms: &Terms<'_>) -> Approvals {
    let progress = tally.progress.iter().map(|p| {
        let met = p.approved_by.len() as i64 >= i64::from(p.required);
        let said = |s: &&Subject| s.kind != SubjectKind::User || !barred(&s.name, tally, terms);
        Progress {
            requirement: p.requirement.clone(),
            required: p.required,
            approved_by: p.approved_by.clone(),
            open_to: p.approvers.iter().filter(|_| !met).filter(said).map(Subject::describe).collect(),
        }
    });
    Approvals {
        requirements: progress.collect(),
        missing: if terms.requirements.is_empty() { String::new() } else { missing(tally) },
        excluded: excluded(terms),
    }
}

/// Whether a person who is named cannot add another approval.
fn barred(name: &String, tally: &Tally, terms: &Terms<'_>) -> bool {
    let own = terms.self_approval == crate::api::SelfApproval::Forbid
        && (*name == terms.requester.username || terms.parties.contains(name));
    own || terms.excluded.contains(name) || tally.approvers.contains(name) || tally.deniers.contains(name)
}

fn excluded(terms: &Terms<'_>) -> Vec<String> {
    let mut found: Vec<String> = vec![];
    if terms.self_approval == crate::api::SelfApproval::Forbid {
        let own: BTreeSet<&String> = terms.parties.iter().filter(|p| **p != terms.requester.username).collect();
        found.push(format!("{}, who asked", terms.requester.username));
        found.extend(own.into_iter().map(|party| format!("{party}, who has a part in what runs")));
    }
    found.extend(terms.excluded.iter().map(|who| format!("{who}, excluded by policy")));
    found
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
