//! What an operator reads and plans, by the functions that run, each result kept by what it was made from.

use super::cluster::{Id, Request, Rule, Table, View, Word, time};
use super::oracle::Meaning;
use super::*;
use std::collections::{BTreeSet, HashMap};

/// One operator.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Operator {
    /// What its watches have brought.
    pub view: View,
    /// What is left of the plan that it carries out.
    pub left: Vec<Write>,
}

/// One step of a plan. A snapshot that is kept changes nothing that is modelled.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Write {
    /// Starts the Job, as the plan's maker saw the request.
    Release {
        patch: Id,
        seen: Id,
    },
    Close {
        patch: Id,
    },
    /// Replaces the status, where the request still has that version.
    Status {
        status: Id,
        guard: u8,
    },
}

/// A stored status, as far as the model looks into it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct StatusInfo {
    pub state: State,
    pub digest: Option<Id>,
    pub uid: Option<String>,
    pub pending_until: Option<Timestamp>,
    pub approved_by: Vec<String>,
}

/// A stored Job, as far as the model looks into it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct JobInfo {
    pub uid: usize,
    pub command: String,
    pub held: bool,
    pub closed: Option<String>,
}

/// Everything that was computed once.
pub(super) struct Memo {
    pub mutant: Option<Mutant>,
    key: Keyring,
    pub texts: Table<String>,
    pub requests: Table<Request>,
    /// What each digest was computed from.
    pub bound: HashMap<Id, BTreeSet<Meaning>>,
    pub settled: HashMap<super::cluster::Server, oracle::Settled>,
    plans: HashMap<View, Arc<Vec<Write>>>,
    statuses: HashMap<Id, Arc<StatusInfo>>,
    jobs: HashMap<Id, Arc<JobInfo>>,
    entries: HashMap<Word, Value>,
    request_facts: HashMap<Id, Arc<RequestFacts>>,
    job_facts: HashMap<Id, Arc<TargetFacts>>,
    policies: HashMap<Rule, Arc<PolicySet>>,
    world: World,
}

impl Memo {
    pub(super) fn new(mutant: Option<Mutant>) -> Self {
        Self {
            mutant,
            key: key(),
            texts: Table::default(),
            requests: Table::default(),
            bound: HashMap::new(),
            settled: HashMap::new(),
            plans: HashMap::new(),
            statuses: HashMap::new(),
            jobs: HashMap::new(),
            entries: HashMap::new(),
            request_facts: HashMap::new(),
            job_facts: HashMap::new(),
            policies: HashMap::new(),
            world: World::new("RequireApproval"),
        }
    }

    pub(super) fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    pub(super) fn status(&mut self, status: Option<Id>) -> Arc<StatusInfo> {
        let Some(id) = status else { return Arc::default() };
        if let Some(known) = self.statuses.get(&id) {
            return known.clone();
        }
        let status: Value = serde_json::from_str(self.texts.get(id)).unwrap();
        let text = |pointer: &str| status.pointer(pointer).and_then(Value::as_str).map(String::from);
        let approvals = status["approvals"].as_array().into_iter().flatten();
        let approved = approvals.flat_map(|a| a["approvedBy"].as_array().into_iter().flatten());
        let info = Arc::new(StatusInfo {
            state: serde_json::from_value(status["state"].clone()).unwrap(),
            digest: text("/digest").map(|digest| self.texts.id(digest)),
            uid: text("/target/uid"),
            pending_until: text("/pendingUntil").map(|t| t.parse().unwrap()),
            approved_by: approved.map(|who| who.as_str().unwrap().into()).collect(),
        });
        self.statuses.insert(id, info.clone());
        info
    }

    pub(super) fn job(&mut self, id: Id) -> Arc<JobInfo> {
        if let Some(known) = self.jobs.get(&id) {
            return known.clone();
        }
        let job: Value = serde_json::from_str(self.texts.get(id)).unwrap();
        let info = Arc::new(JobInfo {
            uid: usize::from(job["metadata"]["uid"] == "j1"),
            command: job["spec"]["template"]["spec"]["containers"][0]["command"].to_string(),
            held: job["spec"]["suspend"] == true,
            closed: job["metadata"]["annotations"]["countersign.dev/closed"].as_str().map(String::from),
        });
        self.jobs.insert(id, info.clone());
        info
    }

    /// The request as it is stored.
    fn request_object(&mut self, id: Id) -> Value {
        let request = self.requests.get(id).clone();
        let mut stored = self.world.request.clone();
        stored["metadata"]["resourceVersion"] = json!(request.version.to_string());
        stored["metadata"]["generation"] = json!(1 + request.words.len() + usize::from(request.cancel));
        if request.cancel {
            stored["spec"]["cancel"] = json!(true);
        }
        if !request.words.is_empty() {
            stored["spec"]["reviews"] = request.words.iter().map(|word| self.entry(word)).collect();
        }
        if let Some(status) = request.status {
            stored["status"] = serde_json::from_str(self.texts.get(status)).unwrap();
        }
        stored
    }

    /// A review as admission stores it, or somebody who goes past admission.
    fn entry(&mut self, word: &Word) -> Value {
        if let Some(known) = self.entries.get(word) {
            return known.clone();
        }
        let group = if word.by == Voice::Outsider { "developers" } else { "sre" };
        let decision = if word.deny { "Deny" } else { "Approve" };
        let mut entry = json!({"reviewer": {"username": word.by.name(), "groups": [group]}, "decision": decision,
            "digest": self.texts.get(word.digest), "time": format!("{:.6}", time(word.clock)), "seal": "c2VhbA=="});
        if word.sealed {
            entry["seal"] = json!(seal(&self.key, "r1", &entry).unwrap());
        }
        self.entries.insert(word.clone(), entry.clone());
        entry
    }

    fn request_facts(&mut self, id: Id) -> Arc<RequestFacts> {
        if let Some(known) = self.request_facts.get(&id) {
            return known.clone();
        }
        let stored = self.request_object(id);
        let mut facts = RequestFacts::read(&object(&stored), &self.key).unwrap();
        if let Some(mutant) = self.mutant {
            mutant.misread_request(&mut facts);
        }
        let facts = Arc::new(facts);
        self.request_facts.insert(id, facts.clone());
        facts
    }

    fn job_facts(&mut self, id: Id) -> Arc<TargetFacts> {
        if let Some(known) = self.job_facts.get(&id) {
            return known.clone();
        }
        let job: Value = serde_json::from_str(self.texts.get(id)).unwrap();
        let mut facts = TargetFacts::read(TargetKind::Job, &object(&job), &self.key, None);
        if let Some(mutant) = self.mutant {
            mutant.misread_job(&mut facts);
        }
        let facts = Arc::new(facts);
        self.job_facts.insert(id, facts.clone());
        facts
    }

    fn policy_set(&mut self, rule: Rule) -> Arc<PolicySet> {
        let set = self.policies.entry(rule).or_insert_with(|| {
            let ready = vec![Arc::new(compile("production", &rule.spec(), None).unwrap())];
            Arc::new(PolicySet { ready, ..PolicySet::default() })
        });
        set.clone()
    }

    /// What an operator with this view writes next.
    pub(super) fn plan(&mut self, view: &View) -> Arc<Vec<Write>> {
        if let Some(known) = self.plans.get(view) {
            return known.clone();
        }
        let request = self.request_facts(view.request);
        let steps = self.steps(view, &request);
        let mut writes: Vec<Write> = steps.iter().filter_map(|step| self.write_of(view, &request, step)).collect();
        self.note_meanings(view, &writes);
        if self.is(Mutant::StatusFirst) {
            writes.reverse();
        }
        let writes = Arc::new(writes);
        self.plans.insert(view.clone(), writes.clone());
        writes
    }

    fn steps(&mut self, view: &View, request: &RequestFacts) -> Vec<Step> {
        let rule = if self.is(Mutant::PolicyUnseen) { Rule::One } else { view.policy };
        let (job, policies) = (self.job_facts(view.job), self.policy_set(rule));
        let policies_version = if self.is(Mutant::EditsUnnoticed) { 1 } else { view.policies_version };
        let namespace = self.world.namespace();
        let now = time(if self.is(Mutant::ClockStopped) { 0 } else { view.clock });
        let whose = claim(&Contender::of(request), &job, &[], Gate::Off);
        plan(&Observed {
            request,
            target: Target::Found(&job, whose),
            policies: &policies,
            policies_version: policies_version.into(),
            targets_version: view.targets_version.into(),
            inputs: &[],
            inputs_version: 1,
            surroundings: &self.world.surroundings,
            cluster: self.world.cluster,
            namespace: Some(&namespace),
            fresh: true,
            recorded: true,
            unrecorded: None,
            refused: None,
            key: &self.key,
            now,
        })
        .steps
    }

    fn write_of(&mut self, view: &View, request: &RequestFacts, step: &Step) -> Option<Write> {
        match step {
            Step::KeepSnapshot(_) => None,
            Step::Release(patch) => {
                Some(Write::Release { patch: self.texts.id(patch.operations.to_string()), seen: view.request })
            }
            Step::Close(patch) => Some(Write::Close { patch: self.texts.id(patch.operations.to_string()) }),
            Step::WriteStatus(status) => {
                let text = serde_json::to_string(status).unwrap();
                Some(Write::Status { status: self.texts.id(text), guard: u8::try_from(request.version).unwrap() })
            }
            other => panic!("nothing here asks for {other:?}"),
        }
    }
}
