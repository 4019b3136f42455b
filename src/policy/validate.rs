//! What makes a policy unusable, field by field. The CRD refuses most of this already; a policy may have been stored
//! under an older CRD, or while no webhook was there.

use crate::api::policy::{ApprovalPolicySpec, Approvals, Decision, Requirement};
use crate::api::{
    Classifier, ClassifierWhen, Constraints, LabelSelector, Limit, Operator, Rule, ServiceAccountMay, Subject,
    SubjectKind, When,
};
use crate::policy::outcome::{SERVICE_ACCOUNT, service_account};
use crate::policy::{MAX_APPROVALS, PolicyError, satisfiable};
use std::collections::BTreeSet;

type Checked = Result<(), PolicyError>;

/// The longest that a timeout or a run may take, in seconds.
const ONE_YEAR: i64 = 31_536_000;
/// The most retries that a bound can allow, Pods at a time, and the most that a limit can say: as the API has them.
const MOST_RETRIES: i64 = 1000;
const MOST_PARALLEL: i64 = 100_000;
const MOST_LIMIT: i64 = (1 << 53) - 1;

/// Checks a policy of that name.
pub fn policy(name: &str, spec: &ApprovalPolicySpec) -> Checked {
    if let Some(selector_) = spec.match_.as_ref().and_then(|m| m.namespace_selector.as_ref()) {
        selector("spec.match.namespaceSelector", selector_)?;
    }
    if spec.rules.is_empty() {
        return fail("spec.rules", "a policy needs at least one rule");
    }
    let mut names = BTreeSet::new();
    for rule in &spec.rules {
        if !names.insert(&rule.name) {
            return fail(
                "spec.rules",
                format!("two rules are named {:?}; rule names are unique in a policy", rule.name),
            );
        }
        self::rule(&format!("spec.rules[{}]", rule.name), name, rule)?;
    }
    for (i, classifier) in spec.classifiers.iter().enumerate() {
        self::classifier(&format!("spec.classifiers[{i}]"), classifier)?;
    }
    Ok(())
}

fn rule(at: &str, policy: &str, rule: &Rule) -> Checked {
    let facts_only = !rule.trust_claims;
    if let Some(when) = &rule.when {
        conditions(&format!("{at}.when"), when, facts_only && rule.decision == Decision::Allow)?;
    }
    if let Some(unless) = &rule.unless {
        if *unless == When::default() {
            return fail(
                format!("{at}.unless"),
                "is empty, so the rule would never apply; name a condition or remove it",
            );
        }
        conditions(&format!("{at}.unless"), unless, facts_only)?;
    }
    constraints(&format!("{at}.constraints"), &rule.constraints)?;
    let timeouts = [
        ("pendingTimeoutSeconds", Some(rule.pending_timeout_seconds)),
        ("releaseTimeoutSeconds", Some(rule.release_timeout_seconds)),
        ("notBeforeSeconds", rule.not_before_seconds),
    ];
    for (field, seconds) in timeouts {
        if seconds.is_some_and(|seconds| !(1..=ONE_YEAR).contains(&seconds)) {
            return fail(format!("{at}.{field}"), "must be from 1 to 31536000 (a year)");
        }
    }
    belongs(at, rule)?;
    waits(at, policy, rule)?;
    match (&rule.approvals, rule.decision) {
        (Some(a), Decision::RequireApproval) => approvals(&format!("{at}.approvals"), policy, rule, a),
        (None, Decision::RequireApproval) => {
            fail(format!("{at}.approvals"), "is required with decision RequireApproval")
        }
        (Some(_), _) => fail(format!("{at}.approvals"), "belongs to decision RequireApproval only"),
        (None, _) => Ok(()),
    }
}

/// What a rule of its decision has no use for: whoever wrote it expects something that will not happen.
fn belongs(at: &str, rule: &Rule) -> Checked {
    if rule.decision == Decision::Allow && rule.on_denied.is_some() {
        let problem = "belongs to decision RequireApproval or Deny; an Allow rule denies nothing, so remove it";
        return fail(format!("{at}.onDenied"), problem);
    }
    let required = [
        ("requireImmutableInputs", rule.require_immutable_inputs),
        ("requireImageDigests", rule.require_image_digests),
        ("notBeforeSeconds", rule.not_before_seconds.is_some()),
        ("freezeWindows", !rule.freeze_windows.is_empty()),
    ];
    match required.into_iter().find(|(_, set)| *set && rule.decision == Decision::Deny) {
        Some((field, _)) => fail(
            format!("{at}.{field}"),
            "belongs to decision Allow or RequireApproval; a Deny rule lets nothing run, so remove it",
        ),
        None => Ok(()),
    }
}

/// Freeze windows: names, and who may pass. What a window is made of is compiled.
fn waits(at: &str, policy: &str, rule: &Rule) -> Checked {
    let mut names = BTreeSet::new();
    for window in &rule.freeze_windows {
        if !names.insert(&window.name) {
            let problem = format!("two windows are named {:?}; names are unique in a rule", window.name);
            return fail(format!("{at}.freezeWindows"), problem);
        }
        for (i, who) in window.may_pass.iter().enumerate() {
            approver(&format!("{at}.freezeWindows[{}].mayPass[{i}]", window.name), policy, who)?;
        }
    }
    Ok(())
}

fn conditions(at: &str, when: &When, facts_only: bool) -> Checked {
    if facts_only && !when.requested_by.is_empty() {
        return fail(
            format!("{at}.requestedBy"),
            "is the requester's own claim and cannot loosen the gate; use requesters, or set trustClaims: true",
        );
    }
    for (i, subject_) in when.requesters.iter().enumerate() {
        if subject_.kind == SubjectKind::Authorized {
            return fail(
                format!("{at}.requesters[{i}].kind"),
                "is for approvers; a requester is a User, Group or ServiceAccount",
            );
        }
        subject(&format!("{at}.requesters[{i}]"), subject_)?;
    }
    match &when.namespace_selector {
        Some(s) => selector(&format!("{at}.namespaceSelector"), s),
        None => Ok(()),
    }
}

fn classifier(at: &str, classifier: &Classifier) -> Checked {
    let when = &classifier.when;
    if *when == ClassifierWhen::default() {
        return fail(format!("{at}.when"), "is empty; say what makes the tag apply");
    }
    if when.unrestricted_egress == Some(false) {
        let problem = "is true or absent: network reach is advisory, and shows of nothing that it is safe";
        return fail(format!("{at}.when.unrestrictedEgress"), problem);
    }
    if when.service_account_may == Some(ServiceAccountMay::default()) {
        return fail(format!("{at}.when.serviceAccountMay"), "is empty; name write, readSecrets or clusterScope");
    }
    match &when.namespace_selector {
        Some(s) => selector(&format!("{at}.when.namespaceSelector"), s),
        None => Ok(()),
    }
}

fn approvals(at: &str, policy: &str, rule: &Rule, approvals: &Approvals) -> Checked {
    if approvals.requirements.is_empty() {
        return fail(format!("{at}.requirements"), "needs at least one requirement");
    }
    if !(1..=64).contains(&approvals.denials) {
        return fail(format!("{at}.denials"), "must be from 1 to 64");
    }
    let mut names = BTreeSet::new();
    for requirement in &approvals.requirements {
        if !names.insert(&requirement.name) {
            return fail(format!("{at}.requirements"), format!("two requirements are named {:?}", requirement.name));
        }
        self::requirement(&format!("{at}.requirements[{}]", requirement.name), policy, requirement)?;
    }
    let together: i64 = approvals.requirements.iter().map(|r| i64::from(r.count)).sum();
    if together > MAX_APPROVALS {
        let problem = format!(
            "take {together} people together; at most {MAX_APPROVALS} approvals can be recorded, so lower a count"
        );
        return fail(format!("{at}.requirements"), problem);
    }
    satisfiable::rule(&approvals.requirements).map_err(|e| PolicyError::new(format!("{at}.requirements"), e))?;
    denials(at, rule, approvals)
}

/// Where all who may deny are listed by name, there are enough of them.
fn denials(at: &str, rule: &Rule, approvals: &Approvals) -> Checked {
    let approvers = approvals.requirements.iter().flat_map(|r| &r.approvers);
    let heard = approvers.chain(rule.freeze_windows.iter().flat_map(|w| &w.may_pass));
    match satisfiable::named(heard).map(|people| people.len()) {
        Some(people) if i64::from(approvals.denials) > people as i64 => fail(
            format!("{at}.denials"),
            format!(
                "is {}, and only {people} people may deny; nobody could stop it, so lower it or list more people",
                approvals.denials
            ),
        ),
        _ => Ok(()),
    }
}

fn requirement(at: &str, policy: &str, requirement: &Requirement) -> Checked {
    if requirement.approvers.is_empty() {
        return fail(format!("{at}.approvers"), "names nobody; list at least one User, Group or ServiceAccount");
    }
    if !(1..=64).contains(&requirement.count) {
        return fail(format!("{at}.count"), "must be from 1 to 64");
    }
    for (i, approver) in requirement.approvers.iter().enumerate() {
        self::approver(&format!("{at}.approvers[{i}]"), policy, approver)?;
    }
    let people: BTreeSet<_> = requirement.approvers.iter().collect();
    let open_ended = people.iter().any(|s| matches!(s.kind, SubjectKind::Group | SubjectKind::Authorized));
    if !open_ended && i64::from(requirement.count) > people.len() as i64 {
        return fail(
            format!("{at}.count"),
            format!(
                "is {} but only {} approvers are listed by name; nobody could meet it",
                requirement.count,
                people.len()
            ),
        );
    }
    Ok(())
}

/// Somebody who may approve, or pass a freeze window, by a rule of that policy.
fn approver(at: &str, policy: &str, approver: &Subject) -> Checked {
    if approver.kind == SubjectKind::Authorized && approver.name != policy {
        let problem = format!("is {:?}; kind Authorized names the policy that it stands in, {policy:?}", approver.name);
        return fail(format!("{at}.name"), problem);
    }
    subject(at, approver)
}

fn constraints(at: &str, constraints: &Constraints) -> Checked {
    let numbers = [
        ("maxRuntimeSeconds", constraints.max_runtime_seconds, 1..=ONE_YEAR, " (a year)"),
        ("maxRetries", constraints.max_retries.map(i64::from), 0..=MOST_RETRIES, ""),
        ("maxParallelism", constraints.max_parallelism.map(i64::from), 1..=MOST_PARALLEL, ""),
    ];
    for (field, number, range, unit) in numbers {
        if let Some(n) = number.filter(|n| !range.contains(n)) {
            let (least, most) = (range.start(), range.end());
            return fail(format!("{at}.{field}"), format!("is {n}; must be from {least} to {most}{unit}"));
        }
    }
    for (field, amount) in [("maxCpu", &constraints.max_cpu), ("maxMemory", &constraints.max_memory)] {
        if let Some(amount) = amount.as_ref().filter(|amount| amount.is_zero()) {
            return fail(format!("{at}.{field}"), format!("is {}; must be more than 0", amount.as_str()));
        }
    }
    match constraints.limits.iter().find(|(_, limit)| !(0..=MOST_LIMIT).contains(&limit.0)) {
        Some((name, Limit(n))) => {
            fail(format!("{at}.limits.{name}"), format!("is {n}; must be from 0 to {MOST_LIMIT}"))
        }
        None => Ok(()),
    }
}

pub(super) fn subject(at: &str, subject: &Subject) -> Checked {
    if subject.name.is_empty() {
        return fail(format!("{at}.name"), "is empty");
    }
    if (subject.kind == SubjectKind::ServiceAccount) != subject.namespace.is_some() {
        return fail(format!("{at}.namespace"), "is required for a ServiceAccount, and only there");
    }
    let pretends = subject.kind == SubjectKind::User && subject.name.starts_with(SERVICE_ACCOUNT);
    if pretends && service_account(&subject.name).is_none() {
        let problem = format!(
            "{:?} is no service account's username; name it as kind ServiceAccount, with namespace and name",
            subject.name
        );
        return fail(format!("{at}.name"), problem);
    }
    Ok(())
}

pub fn selector(at: &str, selector: &LabelSelector) -> Checked {
    for (key, value) in &selector.match_labels {
        label_key(&format!("{at}.matchLabels"), key)?;
        label_value(&format!("{at}.matchLabels[{key}]"), &value.0)?;
    }
    for (i, requirement) in selector.match_expressions.iter().enumerate() {
        let at = format!("{at}.matchExpressions[{i}]");
        label_key(&at, &requirement.key)?;
        for value in &requirement.values {
            label_value(&at, &value.0)?;
        }
        let wants_values = matches!(requirement.operator, Operator::In | Operator::NotIn);
        if wants_values == requirement.values.is_empty() {
            return fail(format!("{at}.values"), "In and NotIn need values; Exists and DoesNotExist take none");
        }
    }
    Ok(())
}

/// A label key: `[prefix/]name`, as Kubernetes takes it.
fn label_key(at: &str, key: &str) -> Checked {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let dns = |p: &str| {
        !p.is_empty()
            && p.len() <= 253
            && p.split('.').all(|part| {
                edged(part) && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
            })
    };
    if prefix.is_some_and(|p| !dns(p)) || name.len() > 63 || !edged(name) || !name.chars().all(label_char) {
        return fail(at, format!("{key:?} is not a label key"));
    }
    Ok(())
}

fn label_value(at: &str, value: &str) -> Checked {
    if value.is_empty() || (value.len() <= 63 && edged(value) && value.chars().all(label_char)) {
        return Ok(());
    }
    fail(at, format!("{value:?} is not a label value"))
}

fn label_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

/// Begins and ends with a letter or digit.
fn edged(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    edge(text.chars().next()) && edge(text.chars().last())
}

fn fail(field: impl Into<String>, problem: impl Into<String>) -> Checked {
    Err(PolicyError::new(field, problem))
}
