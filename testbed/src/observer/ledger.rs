//! Judges a run by its audit log: no Pod of a gated namespace came to run unapproved. Pure; time is an argument.
//!
//! What speaks against a write stays a doubt for a while. A controller answers to what is stored, not to what is logged, so
//! that a Pod may stand in the log before the release that it followed; where each was stored tells the order.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::event::{Cause, Kind, Write};
use super::track::{Track, cause};

/// How long the log may take to show what was stored before.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

const NEVER_GATED: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "countersign-system"];
const JOB_CONTROLLER: &str = "system:serviceaccount:kube-system:job-controller";
/// Every controller where they share one identity.
const SHARED: &str = "system:kube-controller-manager";
const WORKLOADS: [&str; 5] = [
    SHARED,
    "system:serviceaccount:kube-system:replicaset-controller",
    "system:serviceaccount:kube-system:replication-controller",
    "system:serviceaccount:kube-system:daemon-set-controller",
    "system:serviceaccount:kube-system:statefulset-controller",
];

/// What went past the gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What happened, to what, by whom.
    pub text: String,
    /// The `auditID` of each event that shows it.
    pub events: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (audit events: {})", self.text, self.events.join(", "))
    }
}

/// How much the observer has seen in gated namespaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Jobs created.
    pub jobs: usize,
    /// Pods created.
    pub pods: usize,
    /// Jobs and Pods that the operator released.
    pub releases: usize,
    /// Jobs and Pods that somebody let go past the gate, with a reason.
    pub overrides: usize,
}

/// What is known so far.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// By name, then by version.
    namespaces: HashMap<String, BTreeMap<u64, Gate>>,
    /// By uid.
    jobs: HashMap<String, Track>,
    /// By uid.
    pods: HashMap<String, Track>,
    /// Approvals by request uid: where stored, and whose.
    approvals: HashMap<String, Vec<(u64, String)>>,
    doubts: Vec<Doubt>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Gate {
    enforced: bool,
    workloads: bool,
}

#[derive(Debug)]
struct Doubt {
    since: Instant,
    about: About,
}

#[derive(Debug)]
enum About {
    /// A Pod that the Job controller made: was its Job let go before?
    JobPod { pod: String, version: u64, job: Option<String>, event: String },
    /// An object came free: was it let go?
    Freed { kind: Kind, uid: String, version: u64 },
    /// Nothing that may still come can explain it.
    Certain(Violation),
}

impl Ledger {
    /// Takes in one event.
    pub(super) fn add(&mut self, event: &Value, now: Instant) {
        let Some(write) = Write::read(event) else { return };
        let Some((version, _)) = write.version().zip(write.object()) else {
            return self.add_unreadable(&write, now);
        };
        match write.kind {
            Kind::Namespace => self.add_namespace(version, &write),
            Kind::Request if write.holds_own_approval() => {
                let approvals = self.approvals.entry(write.uid().to_owned()).or_default();
                approvals.push((version, write.user().to_owned()));
            }
            Kind::Request => {}
            Kind::Job | Kind::Pod => self.add_work(version, &write, now),
        }
    }

    /// What stands against the run now that it is `now`. Whatever is returned is not returned again.
    pub(super) fn judge(&mut self, now: Instant) -> Vec<Violation> {
        let mut found = Vec::new();
        for doubt in std::mem::take(&mut self.doubts) {
            let Some(violation) = self.violation(&doubt.about) else { continue };
            let certain = matches!(doubt.about, About::Certain(_));
            if !certain && now.duration_since(doubt.since) < PATIENCE {
                self.doubts.push(doubt);
            } else if !found.contains(&violation) {
                found.push(violation);
            }
        }
        found
    }

    /// Whether something may turn out to be a violation.
    pub(super) fn doubts(&self) -> bool {
        !self.doubts.is_empty()
    }

    pub(super) fn counts(&self) -> Counts {
        let gated = |track: &&Track| track.created().is_some_and(|at| self.gate(&track.namespace, at).enforced);
        let freed = |wanted: fn(&Cause) -> bool| {
            let tracks = self.jobs.values().chain(self.pods.values());
            let of = |track: &Track| {
                let counts = |at, steps| wanted(cause(steps)) && self.gate(&track.namespace, at).enforced;
                track.freed().filter(|(at, steps)| counts(*at, steps)).count()
            };
            tracks.map(of).sum()
        };
        Counts {
            jobs: self.jobs.values().filter(gated).count(),
            pods: self.pods.values().filter(gated).count(),
            releases: freed(|cause| matches!(cause, Cause::Release { .. })),
            overrides: freed(|cause| *cause == Cause::Override),
        }
    }

    fn add_namespace(&mut self, version: u64, write: &Write<'_>) {
        let enforced = write.label("countersign.dev/gate") == "enforce" && !NEVER_GATED.contains(&write.name());
        let gate = Gate { enforced, workloads: write.label("countersign.dev/workloads") == "allow" };
        self.namespaces.entry(write.name().to_owned()).or_default().insert(version, gate);
    }

    fn add_work(&mut self, version: u64, write: &Write<'_>, now: Instant) {
        let (kind, uid) = (write.kind, write.uid().to_owned());
        let tracks = if kind == Kind::Job { &mut self.jobs } else { &mut self.pods };
        let track = tracks.entry(uid.clone()).or_default();
        track.add(version, write);
        // What was logged later may have been stored earlier, and then the next write is what changed it.
        let suspects = [Some(version), track.after(version)].into_iter().flatten();
        let mut abouts: Vec<_> = suspects.map(|version| About::Freed { kind, uid: uid.clone(), version }).collect();
        if kind == Kind::Pod && write.created {
            abouts.extend(self.new_pod(version, write));
        }
        self.doubts.extend(abouts.into_iter().map(|about| Doubt { since: now, about }));
    }

    /// Whether a new Pod was free to run.
    fn new_pod(&self, version: u64, write: &Write<'_>) -> Option<About> {
        let gate = self.gate(write.namespace(), version);
        let (user, job) = (write.user(), write.job());
        if !gate.enforced || write.held() || write.is_mirror() {
            return None;
        }
        if user == JOB_CONTROLLER || user == SHARED && job.is_some() {
            let (job, event) = (job.map(String::from), write.id().to_owned());
            return Some(About::JobPod { pod: write.uid().to_owned(), version, job, event });
        }
        let allowed = gate.workloads && WORKLOADS.contains(&user);
        (!allowed).then(|| certain(write, "was created without the scheduling gate, in a gated namespace"))
    }

    /// A write whose answer does not show the object, because the caller asked for another form of it.
    fn add_unreadable(&mut self, write: &Write<'_>, now: Instant) {
        let gated = write.kind == Kind::Namespace || self.gate(write.namespace(), u64::MAX).enforced;
        if gated && !write.spares_spec() {
            let about = certain(write, "was written, and the log does not show what was stored: it cannot be judged");
            self.doubts.push(Doubt { since: now, about });
        }
    }

    /// How a namespace was gated when `version` was stored.
    fn gate(&self, namespace: &str, version: u64) -> Gate {
        let known = self.namespaces.get(namespace).and_then(|gates| gates.range(..version).next_back());
        known.map(|(_, gate)| *gate).unwrap_or_default()
    }

    fn violation(&self, about: &About) -> Option<Violation> {
        match about {
            About::Certain(violation) => Some(violation.clone()),
            About::JobPod { pod, version, job, event } => self.job_pod(pod, *version, job.as_deref(), event),
            About::Freed { kind, uid, version } => self.freed(*kind, uid, *version),
        }
    }

    fn job_pod(&self, pod: &str, version: u64, job: Option<&str>, event: &str) -> Option<Violation> {
        let pod = self.pods.get(pod)?;
        let what = match job.map(|uid| (uid, self.jobs.get(uid))) {
            None => "no Job controls it".to_owned(),
            Some((uid, None)) => format!("its Job (uid {uid}) is not in the log"),
            Some((uid, Some(job))) => {
                let gated = job.created().is_none_or(|at| self.gate(&job.namespace, at).enforced);
                if !gated || job.let_go_before(version) {
                    return None;
                }
                format!("its Job {} (uid {uid}) had been neither released nor overridden", job.name)
            }
        };
        let text =
            format!("the Job controller created Pod {}/{} in a gated namespace: {what}", pod.namespace, pod.name);
        Some(Violation { text, events: vec![event.to_owned()] })
    }

    fn freed(&self, kind: Kind, uid: &str, version: u64) -> Option<Violation> {
        let tracks = if kind == Kind::Job { &self.jobs } else { &self.pods };
        let track = tracks.get(uid)?;
        let steps = track.freed_at(version)?;
        if !self.gate(&track.namespace, version).enforced {
            return None;
        }
        let what = match cause(steps) {
            Cause::Override => return None,
            Cause::Neither => "without a release by the operator and without an override".to_owned(),
            Cause::Release { request, approvers } => {
                let missing = approvers.iter().find(|user| !self.approved_before(request, user, version))?;
                format!("by a receipt that names {missing}, who had not approved the request (uid {request})")
            }
        };
        let users: Vec<_> = steps.iter().map(|step| step.user.as_str()).collect();
        let (object, users) = (format!("{kind:?} {}/{}", track.namespace, track.name), users.join(" or "));
        let text = format!("{users} let {object} go, in a gated namespace, {what}");
        Some(Violation { text, events: steps.iter().map(|step| step.event.clone()).collect() })
    }

    fn approved_before(&self, request: &str, user: &str, version: u64) -> bool {
        let approvals = self.approvals.get(request).into_iter().flatten();
        approvals.into_iter().any(|(at, approver)| *at < version && approver == user)
    }
}

fn certain(write: &Write<'_>, what: &str) -> About {
    let Write { kind, .. } = write;
    let text = format!("{kind:?} {}/{} {what}, by {}", write.namespace(), write.name(), write.user());
    About::Certain(Violation { text, events: vec![write.id().to_owned()] })
}
