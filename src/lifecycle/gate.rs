//! What becomes of a Job or Pod that a gated namespace holds: started at once, asked for, left alone, or deleted. Pure.

use crate::api::policy::{Decision, OnDenied};
use crate::api::{TargetKind, names};
use crate::binding::{
    BoundJob, InputRef, InputState, Keyring, Receipt, ReceiptJob, Shown, Snapshot, bound, digest, job_hash, sha256,
};
use crate::lifecycle::evaluate::{beyond_release, derived_tags};
use crate::lifecycle::plan::Deletion;
use crate::lifecycle::target_patch::Closed;
use crate::lifecycle::{
    Cluster, Contender, Gate, NamespaceFacts, Note, Plan, Step, Surroundings, TargetFacts, Unrecorded, bounds, message,
    obstacles, target_patch,
};
use crate::policy::{Facts, JoinedWindow, Outcome, PolicySet, evaluate, opening};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// Jobs of one CronJob that may wait at the same time; the next is deleted, so that a schedule nobody answers does not pile
/// up Jobs.
pub const MOST_WAITING: usize = 5;
/// Age up to which a Job in a namespace that only warns is told of.
const NEW: SignedDuration = SignedDuration::from_secs(120);
/// Age by which the Job controller has taken note of a new Job, or is too slow to wait for. Creation times are whole seconds.
const NOTICE: SignedDuration = SignedDuration::from_millis(1250);
/// Longest name of a step that a request takes.
const LONGEST_STEP: usize = 128;

/// A Job or Pod in a gated namespace, and all that the decision on it rests on.
#[derive(Debug)]
pub struct Held<'a> {
    /// The Job or Pod.
    pub target: &'a TargetFacts,
    /// Its namespace.
    pub namespace: &'a NamespaceFacts,
    /// Every policy.
    pub policies: &'a PolicySet,
    /// The requests that target its name.
    pub requests: &'a [Contender],
    /// The ConfigMaps and Secrets that it reads, as they are now.
    pub inputs: &'a [(InputRef, InputState)],
    /// What stands around it.
    pub surroundings: &'a Surroundings,
    /// What the cluster can do.
    pub cluster: Cluster,
    /// Older Jobs of the same CronJob that wait as well.
    pub waiting: usize,
    /// Whether every watch has spoken lately. Nothing is started on old news.
    pub fresh: bool,
    /// Why nothing may be released for the audit trail's sake, if so.
    pub unrecorded: Option<&'a Unrecorded>,
    /// Why the API server refused to start it last time, if it did.
    pub refused: Option<&'a str>,
    /// Signs receipts, and makes names that nobody can take first.
    pub key: &'a Keyring,
    /// The time.
    pub now: Timestamp,
}

/// What would have become of a Job, had the gate been closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Foreseen {
    /// It would have started at once.
    Allow,
    /// It would have waited for approval.
    Hold,
    /// It would never have run.
    Deny,
    /// It would have waited, and no policy has a rule for it.
    NoPolicy,
}

/// Decides what to write next for a Job or Pod that a gated namespace holds. Deterministic.
pub fn plan_gate(o: &Held<'_>) -> Plan {
    let target = o.target;
    if o.namespace.deleting || target.deleting {
        return Plan::idle();
    }
    match o.namespace.gate {
        Gate::Off => return Plan::idle(),
        Gate::Warn => return would(o),
        Gate::Enforce => {}
    }
    if target.receipt.is_some() {
        return Plan::idle();
    }
    if let Some(closed) = &target.closed {
        return after_end(o, closed);
    }
    let mine = o.requests.iter().any(|r| r.bound_to(target) || (speaks(r, o) && !r.state.is_final()));
    if mine || target.marks.claims.request.is_some() {
        return Plan::idle();
    }
    if target.overridden().is_some() {
        // It runs or ran, and no request tells of it yet: the one that is made now will.
        return ask(o);
    }
    if !target.held || target.started || target.finished {
        return Plan::idle();
    }
    hold(o)
}

/// What the gate would have done, had it been closed: told of new Jobs only, and of those alone that it would have held.
/// Who created them is not known here, so a rule that names requesters does not match; the warning at admission knows.
fn would(o: &Held<'_>) -> Plan {
    // What runs already is not looked at again, and nothing is known of its work then.
    if o.now.duration_since(o.target.created) > NEW || o.target.work.object.is_null() {
        return Plan::idle();
    }
    let outcome = outcome(o);
    let rules: Vec<_> = outcome.matches.iter().map(|m| format!("{}/{}", m.policy, m.rule.name)).collect();
    let (noun, rules) = (o.target.noun(), rules.join(", "));
    let (foreseen, note) = match outcome.decision {
        Some(Decision::Allow) if outcome.doubts.is_empty() => (Foreseen::Allow, None),
        Some(Decision::Deny) => {
            (Foreseen::Deny, Some(warning("WouldDeny", format!("the gate would deny {noun} ({rules})"))))
        }
        None => {
            let text = format!("the gate would hold {noun}: no policy has a rule for it");
            (Foreseen::NoPolicy, Some(warning("NoMatchingPolicy", text)))
        }
        _ => {
            let text = format!("the gate would hold {noun} for approval ({rules})");
            (Foreseen::Hold, Some(warning("WouldHold", text)))
        }
    };
    Plan { note, foreseen: Some(foreseen), ..Plan::idle() }
}

/// Whether a request may and would speak for this very target.
fn speaks(request: &Contender, o: &Held<'_>) -> bool {
    let this_one = request.asked_uid.as_ref().is_none_or(|uid| *uid == o.target.uid);
    this_one && request.bound_uid.is_none() && request.may_speak_for(o.target, o.namespace.gate)
}

/// A held target that nobody has asked for yet.
fn hold(o: &Held<'_>) -> Plan {
    let target = o.target;
    if target.marks.creator.is_none() {
        let text = format!(
            "{} is held, and nobody was stamped as its creator, since it is older than the gate: create it anew",
            target.noun()
        );
        return Plan { note: Some(warning("CreatorUnknown", text)), ..Plan::idle() };
    }
    let outcome = outcome(o);
    if o.waiting >= MOST_WAITING && on_denied(&outcome, target) == OnDenied::Delete {
        let text =
            format!("{} is deleted: {} Jobs of its CronJob {}", target.noun(), o.waiting, await_what(o, &outcome));
        return Plan { steps: vec![delete(target)], note: Some(warning("TooManyWaiting", text)), ..Plan::idle() };
    }
    if allowed(o, &outcome) {
        if !o.fresh || o.unrecorded.is_some_and(|unrecorded| unrecorded.stops(o.now)) {
            return Plan::until(o.now + SignedDuration::from_secs(1));
        }
        // A write now would cross the Job controller's first one, fail, and be made again.
        let by = o.target.created + NOTICE;
        if !o.target.noticed && o.now < by {
            return Plan::until(by);
        }
        if let Some(refused) = o.refused {
            let text = format!(
                "policy allows {}, and the API server refused to start it ({refused}); its request tells how that goes on",
                target.noun()
            );
            return Plan { note: Some(warning("ReleaseRefused", text)), ..ask(o) };
        }
        if let Some(plan) = start(o, &outcome) {
            return plan;
        }
    }
    ask(o)
}

/// What the older Jobs of a CronJob wait for, as far as this one shows it, and what helps.
fn await_what(o: &Held<'_>, outcome: &Outcome) -> String {
    let holding: Vec<_> = outcome.windows.iter().filter(|w| w.compiled().holds_until(o.now).is_some()).collect();
    let windows: Vec<_> = outcome.windows.iter().map(JoinedWindow::compiled).collect();
    let open = opening(&windows, o.now).map_or("longer than a year".into(), |open| format!("until {open}"));
    let frozen = format!("{open}: {}", message::windows(&holding));
    let requests = format!("see kubectl get apr -n {}", o.target.namespace);
    match (outcome.decision, holding.is_empty()) {
        (Some(Decision::Allow), false) => {
            format!("are allowed and wait already, {frozen}; suspend the CronJob meanwhile, or let it start less often")
        }
        (Some(Decision::RequireApproval), true) => {
            "wait for approval already; decide on them, or suspend the CronJob".into()
        }
        (Some(Decision::RequireApproval), false) => format!(
            "wait already; decide on them ({requests}), or suspend the CronJob; what is approved waits {frozen}"
        ),
        (_, _) => format!("are held already; their requests say what for ({requests}); suspend the CronJob meanwhile"),
    }
}

/// What policy says of it, without any request.
fn outcome(o: &Held<'_>) -> Outcome {
    let claims = &o.target.marks.claims;
    let requested_by = o.target.marks.requested_by(o.target.kind, &o.target.name);
    evaluate(
        o.policies,
        &Facts {
            requested_by: &requested_by,
            declared_tags: &claims.risk_tags,
            claims: &claims.document(&requested_by),
            derived_tags: &derived_tags(o.policies, Some(o.target), o.surroundings, o.namespace),
            requester: o.target.marks.creator.as_ref().unwrap_or(const { &crate::api::Requester::NOBODY }),
            namespace: &o.target.namespace,
            namespace_labels: &o.namespace.labels,
            object: Some(&o.target.work.object),
            asked: o.target.created,
        },
    )
}

/// Whether it may start at once: policy allows it, nothing is in doubt, and nothing has to be shown first.
fn allowed(o: &Held<'_>, outcome: &Outcome) -> bool {
    outcome.decision == Some(Decision::Allow)
        && outcome.doubts.is_empty()
        && o.target.marks.bad_claim.is_none()
        && beyond_release(o.target).is_none()
        && obstacles(outcome, o.inputs, &o.target.reads.unpinned, true).is_none()
        && bounds::too_many_limits(&outcome.constraints).is_none()
        && bounds::unenforceable(o.target, &outcome.constraints, o.cluster).is_none()
        && open(o, outcome)
}

/// Whether no delay and no freeze window keeps it. What has to wait is asked for, so that everybody sees what it waits for.
fn open(o: &Held<'_>, outcome: &Outcome) -> bool {
    let delay = SignedDuration::from_secs(outcome.not_before_seconds.unwrap_or_default());
    o.now.duration_since(o.target.created) >= delay
        && outcome.windows.iter().all(|window| window.compiled().holds_until(o.now).is_none())
}

/// Starts it on policy's word: one write, beside keeping a snapshot that is not kept yet.
fn start(o: &Held<'_>, outcome: &Outcome) -> Option<Plan> {
    let target = o.target;
    let snapshot = Snapshot::of(outcome.snapshot()).ok()?;
    let hash = job_hash(&target.uid, target.work_hash.as_ref().ok()?).ok()?;
    let bounds = target_patch::bounded(target, &outcome.constraints);
    let shown = Shown {
        uid: &target.uid,
        revision: 0,
        ask: &Value::Null,
        requester: target.marks.creator.as_ref()?,
        scope: &[],
        rights: None,
        constraints: &outcome.constraints,
        policy_snapshot: &snapshot.hash,
        job: Some(BoundJob { hash: &hash, bounds: &bounds, parties: &[] }),
        inputs: &bound(o.inputs, true, &[]),
        excluded: &[],
    };
    let digest = digest(&shown).ok()?;
    let receipt = Receipt {
        request: None,
        job: ReceiptJob::of(target.kind.as_str(), &target.namespace, &target.name, &target.uid, hash),
        digest: digest.clone(),
        policy_snapshot: snapshot.hash.clone(),
        approvers: vec![],
        passed: vec![],
        constraints: outcome.constraints.clone(),
        time: o.now,
        valid_until: Receipt::valid_until(o.now, bounds.active_deadline_seconds),
    };
    let envelope = receipt.sign(o.key).ok()?;
    let patch = target_patch::release(target, &outcome.constraints, o.cluster, &digest, &envelope);
    let rules: Vec<_> = outcome.matches.iter().map(|m| format!("{}/{}", m.policy, m.rule.name)).collect();
    let note = Note { warning: false, reason: "Allowed".into(), message: format!("allowed by {}", rules.join(", ")) };
    Some(Plan { steps: vec![Step::KeepSnapshot(snapshot), Step::Release(patch)], note: Some(note), ..Plan::idle() })
}

/// The request that the gate makes in the creator's name.
fn ask(o: &Held<'_>) -> Plan {
    let target = o.target;
    let Some(creator) = &target.marks.creator else { return Plan::idle() };
    let claims = &target.marks.claims;
    if let Some(bad) = &target.marks.bad_claim {
        let text = format!("{} is held, and what it claims cannot be read ({bad}): create it anew", target.noun());
        return Plan { note: Some(warning("MalformedClaim", text)), ..Plan::idle() };
    }
    let reason = claims.reason.clone().unwrap_or_else(|| {
        format!("{} was created by {} in the gated namespace {}", target.noun(), creator.username, target.namespace)
    });
    let (kind, api_version) = (target.kind.as_str(), target.kind.api_version());
    let mut spec = json!({
        "runID": target.uid,
        "stepID": target.name.chars().take(LONGEST_STEP).collect::<String>(),
        "requestedBy": target.marks.requested_by(target.kind, &target.name),
        "reason": reason,
        "target": {"apiVersion": api_version, "kind": kind, "name": target.name, "uid": target.uid},
        "requester": creator,
    });
    if !claims.risk_tags.is_empty() {
        spec["riskTags"] = json!(claims.risk_tags);
    }
    let request = json!({
        "apiVersion": names::API_VERSION,
        "kind": "ApprovalRequest",
        "metadata": {
            "name": request_name(target, o.key),
            "namespace": target.namespace,
            "finalizers": [names::FINALIZER],
            "ownerReferences": [{"apiVersion": api_version, "kind": kind, "name": target.name, "uid": target.uid}],
        },
        "spec": spec,
    });
    Plan { steps: vec![Step::Ask(Box::new(request))], ..Plan::idle() }
}

/// The name of the gate's own request: the target's, and a part that only the holder of the key can tell, so that nobody
/// takes the name first. The same for every replica and after a crash, and while another key is promoted; where it is not, since
/// a key was just retired, the second request finds that the first speaks for the target.
fn request_name(target: &TargetFacts, key: &Keyring) -> String {
    let signature = key.sign_by_oldest(format!("countersign.dev/request-name/v1 {}", target.uid).as_bytes());
    let hash = sha256(&json!(signature.to_vec())).unwrap_or_default();
    let suffix: String = hash.trim_start_matches("sha256:").chars().take(10).collect();
    let name: String = target.name.chars().take(200).collect();
    format!("{}-{suffix}", name.trim_end_matches(['.', '-']))
}

/// Its request ended without approval. A CronJob that forbids concurrent Jobs never runs again while this one is there, so
/// the Job goes, once that end is recorded.
fn after_end(o: &Held<'_>, closed: &str) -> Plan {
    let target = o.target;
    if !target.held || on_denied(&outcome(o), target) != OnDenied::Delete {
        return Plan::idle();
    }
    let recorded = |r: &Contender| !r.bound_to(target) || r.state.is_final();
    let asked = o.requests.iter().filter(|r| speaks(r, o)).any(|r| !r.state.is_final());
    if asked || !o.requests.iter().all(recorded) {
        return Plan::idle();
    }
    let state = Closed::read(closed).state;
    let text = format!("{} is deleted: its request ended as {state}, and it will never run", target.noun());
    let note = Note { warning: false, reason: "Deleted".into(), message: text };
    Plan { steps: vec![delete(target)], note: Some(note), ..Plan::idle() }
}

/// What policy wants done with a Job that was not approved; without a word on it, Jobs of CronJobs go and others stay.
fn on_denied(outcome: &Outcome, target: &TargetFacts) -> OnDenied {
    // A bare Pod is nobody's schedule, and holds nothing up.
    if target.kind == TargetKind::Pod {
        return OnDenied::Hold;
    }
    outcome.after_denial(target.marks.cron_job.is_some())
}

fn delete(target: &TargetFacts) -> Step {
    Step::Delete(Deletion {
        namespace: target.namespace.clone(),
        name: target.name.clone(),
        uid: target.uid.clone(),
        resource_version: target.resource_version.clone(),
    })
}

fn warning(reason: &str, message: String) -> Note {
    Note { warning: true, reason: reason.into(), message }
}
