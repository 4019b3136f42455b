//! What all matching rules say together: a join, so that order never matters and more rules never mean less.

use crate::api::policy::{Approvals, DEFAULT_PENDING_TIMEOUT_SECONDS, DEFAULT_RELEASE_TIMEOUT_SECONDS, Decision};
use crate::api::{Constraints, Exclude, FreezeWindow, OnDenied, Rule, SelfApproval, Subject, SubjectKind};
use crate::policy::{CompiledRule, PolicyError, Window};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The most people that one request can be made to wait for. Its `reviews` hold 64 entries; the rest is kept for denials.
pub const MAX_APPROVALS: i64 = 48;

/// What the username of every service account begins with.
pub(super) const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// A requirement after the join: keyed by its normalised approver set, with the highest count that one rule asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JoinedRequirement {
    /// The first name, in alphabetical order, that a rule gives it.
    pub name: String,
    /// How many distinct people.
    pub count: i32,
    /// Who counts: sorted, without duplicates.
    pub approvers: Vec<Subject>,
}

/// A freeze window, and the rule that sets it.
#[derive(Clone, Debug)]
pub struct JoinedWindow {
    /// The rule.
    pub rule: Arc<CompiledRule>,
    /// Which of its windows.
    pub number: usize,
}

impl JoinedWindow {
    /// The window as the policy has it.
    pub fn window(&self) -> &FreezeWindow {
        &self.rule.rule.freeze_windows[self.number]
    }

    /// The window to ask.
    pub fn compiled(&self) -> &Window {
        &self.rule.windows[self.number]
    }
}

/// Why nothing is approved or allowed for now, though rules say what they say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Doubt {
    /// The policy.
    pub policy: String,
    /// What is the matter, as it goes on after "policy x", without what is wrong in it: for those who may not read it.
    pub what: String,
    /// What is wrong in it.
    pub error: String,
    /// Whether that quotes the policy, and so is for those who may read it.
    pub quotes: bool,
}

impl Doubt {
    pub(super) fn broken(policy: &str, error: &PolicyError) -> Self {
        let what = "does not compile and might apply".into();
        Self { policy: policy.into(), what, error: error.to_string(), quotes: true }
    }

    /// All of it in words, for whoever may read the request.
    pub fn told(&self) -> String {
        let Self { policy, what, error, .. } = self;
        match self.quotes {
            true => format!("policy {policy} {what}, so nothing is approved; ask its owners to repair it"),
            false => format!("policy {policy} {what}, so nothing is approved: {error}"),
        }
    }
}

/// A rule of which nobody can tell whether it matches, since its expression failed, and how. On the safe side: with
/// RequireApproval it matches; with Allow it does not, and with Deny it raises a doubt, but what it bounds is bound.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The rule.
    pub rule: Arc<CompiledRule>,
    /// What went wrong.
    pub error: String,
}

/// What matching found: the rules that match, and beside them, or among them, those that failed.
#[derive(Debug, Default)]
pub(super) struct Matched {
    pub rules: Vec<Arc<CompiledRule>>,
    pub failures: Vec<Failure>,
    pub doubts: Vec<Doubt>,
}

/// The effective outcome for one request: the join of what all matching rules say. Every field has its own join, each
/// commutative, associative and idempotent, and none of them ever gets weaker by one rule more.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The strictest: Deny over RequireApproval over Allow; none where no rule matches.
    pub decision: Option<Decision>,
    /// Every rule that matched, by policy and rule name.
    pub matches: Vec<Arc<CompiledRule>>,
    /// All of them, to be met by distinct people. Those of one rule with the same approvers add up; of several rules, the
    /// highest sum counts.
    pub requirements: Vec<JoinedRequirement>,
    /// The smallest: this many denials end it.
    pub denials: i32,
    /// A relaxation: Allow only where every matching RequireApproval rule grants it.
    pub self_approval: SelfApproval,
    /// Whether one rule excludes whoever created the Job.
    pub exclude_creator: bool,
    /// The policies, each once, whose last editors are excluded: all that have a matching rule, once one rule asks for it.
    /// Else an editor would loosen one policy, and approve where only another says that editors don't.
    pub exclude_editors: BTreeSet<Arc<str>>,
    /// Who those editors are, sorted.
    pub editors: BTreeSet<Arc<str>>,
    /// Whether one rule wants a comment with every approval.
    pub require_comment: bool,
    /// The tightest of each bound.
    pub constraints: Constraints,
    /// Whether a matching rule wants every input immutable and locked.
    pub require_immutable_inputs: bool,
    /// Whether a matching rule wants every image named by digest.
    pub require_image_digests: bool,
    /// What becomes of the held Job after an end without approval: Hold if a matching rule says so, else Delete if one
    /// says that; none where none says anything (see [`Outcome::after_denial`]).
    pub on_denied: Option<OnDenied>,
    /// The latest: nothing is released sooner than this many seconds after it was asked for.
    pub not_before_seconds: Option<i64>,
    /// All of them, each with its own people who may pass it.
    pub windows: Vec<JoinedWindow>,
    /// The shortest that a rule of the winning decision says, in seconds.
    pub pending_timeout_seconds: i64,
    /// The shortest that a rule of the winning decision says, in seconds.
    pub release_timeout_seconds: i64,
    /// Rules whose expression failed, whether they match or not, in the order of `matches`.
    pub failures: Vec<Failure>,
    /// All of them: while there is one, nothing is approved or allowed.
    pub doubts: Vec<Doubt>,
}

impl Outcome {
    /// Joins what the matching rules say.
    pub(super) fn join(found: Matched) -> Self {
        let Matched { rules: mut matches, mut failures, mut doubts } = found;
        matches.sort_by(|a, b| (&a.policy, &a.rule.name).cmp(&(&b.policy, &b.rule.name)));
        failures.sort_by(|a, b| (&a.rule.policy, &a.rule.rule.name).cmp(&(&b.rule.policy, &b.rule.rule.name)));
        let rules = || matches.iter().map(|m| &m.rule);
        let decision = rules().map(|r| r.decision).max();
        // A rule that only might match decides nothing, and still bounds: else whoever makes it fail would be rid of it.
        let bounding = bounding(&matches, &failures);
        let bounds = || bounding.iter().map(|m| &m.rule);
        let deciding = || bounds().filter(|r| Some(r.decision) == decision);
        let approvals = || rules().filter_map(|r| r.approvals.as_ref());
        let granted = approvals().next().is_some() && approvals().all(|a| a.self_approval == SelfApproval::Allow);
        let excludes_editors = matches.iter().any(|m| m.excludes(Exclude::PolicyEditor));
        let edited: Vec<_> = matches.iter().filter(|_| excludes_editors).collect();
        doubts.extend(failures.iter().filter_map(undecided));
        doubts.extend(edited.iter().filter(|m| m.editor.is_none()).map(|m| nobody_stamped(m)));
        doubts.sort_by(|a, b| (&a.policy, &a.what, &a.error).cmp(&(&b.policy, &b.what, &b.error)));
        doubts.dedup();
        Self {
            decision,
            requirements: requirements(rules()),
            denials: rules().filter_map(denials).min().unwrap_or(1),
            self_approval: if granted { SelfApproval::Allow } else { SelfApproval::Forbid },
            exclude_creator: matches.iter().any(|m| m.excludes(Exclude::JobCreator)),
            exclude_editors: edited.iter().map(|m| m.policy.clone()).collect(),
            editors: edited.iter().filter_map(|m| m.editor.clone()).collect(),
            require_comment: approvals().any(|a| a.require_comment),
            constraints: bounds().fold(Constraints::default(), |all, r| all.tightest(&r.constraints)),
            require_immutable_inputs: bounds().any(|r| r.require_immutable_inputs),
            require_image_digests: bounds().any(|r| r.require_image_digests),
            on_denied: bounds().filter_map(|r| r.on_denied).max(),
            not_before_seconds: bounds().filter_map(|r| r.not_before_seconds).max(),
            windows: bounding.iter().flat_map(windows).collect(),
            pending_timeout_seconds: deciding()
                .map(|r| r.pending_timeout_seconds)
                .min()
                .unwrap_or(DEFAULT_PENDING_TIMEOUT_SECONDS),
            release_timeout_seconds: deciding()
                .map(|r| r.release_timeout_seconds)
                .min()
                .unwrap_or(DEFAULT_RELEASE_TIMEOUT_SECONDS),
            matches,
            failures,
            doubts,
        }
    }

    /// What went wrong with the expression of a rule, if something did.
    pub fn failure(&self, rule: &CompiledRule) -> Option<&str> {
        let same = |f: &&Failure| f.rule.policy == rule.policy && f.rule.rule.name == rule.rule.name;
        self.failures.iter().find(same).map(|f| f.error.as_str())
    }

    /// Whoever may pass at least one of the freeze windows. Sorted, each once.
    pub fn passers(&self) -> Vec<Subject> {
        let all: BTreeSet<&Subject> = self.windows.iter().flat_map(|w| &w.window().may_pass).collect();
        all.into_iter().cloned().collect()
    }

    /// How many approvals all requirements take together.
    pub fn approvals_required(&self) -> i64 {
        self.requirements.iter().map(|r| i64::from(r.count)).sum()
    }

    /// What becomes of the held Job after an end without approval. A Job of a CronJob goes unless a rule wants it held: else
    /// it would stand in the way of every Job to come, where the schedule forbids two at a time.
    pub fn after_denial(&self, of_cron_job: bool) -> OnDenied {
        self.on_denied.unwrap_or(if of_cron_job { OnDenied::Delete } else { OnDenied::Hold })
    }

    /// The outcome as a document: what a policy snapshot holds. Rules stand in it as stored, in full.
    pub fn snapshot(&self) -> Value {
        let rules: Vec<Value> = self.matches.iter().map(|m| json!({"policy": &*m.policy, "rule": m.stored})).collect();
        let requirements: Vec<Value> = self
            .requirements
            .iter()
            .map(|r| json!({"name": r.name, "count": r.count, "approvers": r.approvers}))
            .collect();
        json!({
            "version": 3,
            "decision": self.decision,
            "rules": rules,
            "requirements": requirements,
            "denials": self.denials,
            "selfApproval": self.self_approval,
            "excludeJobCreator": self.exclude_creator,
            "excludeEditorsOf": self.exclude_editors.iter().map(|p| &**p).collect::<Vec<_>>(),
            "requireComment": self.require_comment,
            "constraints": self.constraints,
            "requireImmutableInputs": self.require_immutable_inputs,
            "requireImageDigests": self.require_image_digests,
            "onDenied": self.on_denied,
            "notBeforeSeconds": self.not_before_seconds,
            "freezeWindows": self.windows.iter().map(JoinedWindow::document).collect::<Vec<_>>(),
            "failures": self.failures.iter().filter_map(Failure::document).collect::<Vec<_>>(),
            "pendingTimeoutSeconds": self.pending_timeout_seconds,
            "releaseTimeoutSeconds": self.release_timeout_seconds,
        })
    }
}

impl JoinedWindow {
    fn document(&self) -> Value {
        json!({"policy": &*self.rule.policy, "rule": self.rule.rule.name, "window": self.window()})
    }
}

impl Failure {
    /// Named where it bears on the outcome, and without a text: a word that is put otherwise changes no outcome.
    fn document(&self) -> Option<Value> {
        let rule = &self.rule.rule;
        let bears = rule.decision == Decision::RequireApproval || bears(rule);
        bears.then(|| json!({"policy": &*self.rule.policy, "rule": rule.name}))
    }
}

/// Whether a rule bounds anything, whatever it decides.
fn bears(rule: &Rule) -> bool {
    !rule.constraints.is_empty()
        || rule.require_immutable_inputs
        || rule.require_image_digests
        || rule.on_denied.is_some()
        || rule.not_before_seconds.is_some()
        || !rule.freeze_windows.is_empty()
}

/// The rules that match, and those that might, by policy and name.
fn bounding(matches: &[Arc<CompiledRule>], failures: &[Failure]) -> Vec<Arc<CompiledRule>> {
    let unsure = failures.iter().map(|f| &f.rule).filter(|r| r.rule.decision != Decision::RequireApproval);
    let mut all: Vec<_> = matches.iter().chain(unsure).cloned().collect();
    all.sort_by(|a, b| (&a.policy, &a.rule.name).cmp(&(&b.policy, &b.rule.name)));
    all
}

/// A Deny that might have matched: it is not for a failing expression to deny for good, nor to let go.
fn undecided(failure: &Failure) -> Option<Doubt> {
    let Failure { rule, error } = failure;
    (rule.rule.decision == Decision::Deny).then(|| Doubt {
        policy: rule.policy.to_string(),
        what: format!("might deny it: the expression of its rule {} cannot be evaluated", rule.rule.name),
        error: error.clone(),
        quotes: false,
    })
}

/// How many denials end it, by a rule that asks anybody: of those who may pass the window of an Allow, one does.
fn denials(rule: &Rule) -> Option<i32> {
    let passers = || rule.freeze_windows.iter().any(|window| !window.may_pass.is_empty());
    rule.approvals.as_ref().map(|approvals| approvals.denials).or_else(|| passers().then_some(1))
}

fn nobody_stamped(rule: &CompiledRule) -> Doubt {
    Doubt {
        policy: rule.policy.to_string(),
        what: "was changed last by somebody who is excluded, and nobody was stamped as that".into(),
        error: "change its spec while admission is there, or delete it and apply it again".into(),
        quotes: false,
    }
}

fn windows(rule: &Arc<CompiledRule>) -> impl Iterator<Item = JoinedWindow> {
    (0..rule.windows.len()).map(move |number| JoinedWindow { rule: rule.clone(), number })
}

/// By approvers, the name and the count.
type Joining<'a> = BTreeMap<BTreeSet<Subject>, (&'a str, i32)>;

/// Within a rule the counts of the same approvers add up, for all its requirements are to be met; between rules the highest
/// holds, so that a rule said twice asks for nothing more.
fn requirements<'a>(rules: impl Iterator<Item = &'a Rule>) -> Vec<JoinedRequirement> {
    let mut joined = Joining::new();
    for approvals in rules.filter_map(|r| r.approvals.as_ref()) {
        for (approvers, (name, count)) in of_one_rule(approvals) {
            let slot = joined.entry(approvers).or_insert((name, count));
            *slot = (slot.0.min(name), slot.1.max(count));
        }
    }
    let mut all: Vec<_> = joined
        .into_iter()
        .map(|(approvers, (name, count))| JoinedRequirement {
            name: name.into(),
            count,
            approvers: approvers.into_iter().collect(),
        })
        .collect();
    all.sort_by(|a, b| (&a.name, &a.approvers).cmp(&(&b.name, &b.approvers)));
    all
}

fn of_one_rule(approvals: &Approvals) -> Joining<'_> {
    let mut own = Joining::new();
    for requirement in &approvals.requirements {
        let key = requirement.approvers.iter().map(normalised).collect();
        let slot = own.entry(key).or_insert((&requirement.name, 0));
        *slot = (slot.0.min(&requirement.name), slot.1.saturating_add(requirement.count));
    }
    own
}

/// One spelling for one subject: a service account may also be named as the user that it is.
pub(super) fn normalised(subject: &Subject) -> Subject {
    match subject.kind {
        SubjectKind::User => service_account(&subject.name).map(|(namespace, name)| Subject {
            kind: SubjectKind::ServiceAccount,
            name: name.into(),
            namespace: Some(namespace.into()),
        }),
        _ => None,
    }
    .unwrap_or_else(|| subject.clone())
}

/// Namespace and name of the service account with that username, as far as there can be one.
pub(super) fn service_account(username: &str) -> Option<(&str, &str)> {
    let (namespace, name) = username.strip_prefix(SERVICE_ACCOUNT)?.split_once(':')?;
    let label = |part: &str| {
        let edged = !part.starts_with('-') && !part.ends_with('-');
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !part.is_empty() && edged && part.chars().all(plain)
    };
    let sound = label(namespace) && namespace.len() <= 63 && name.split('.').all(label) && name.len() <= 253;
    sound.then_some((namespace, name))
}
