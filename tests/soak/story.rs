//! What happens to one request, and what it must come to.

use crate::choice::Choice;
use crate::stage::SPACES;
use jiff::Timestamp;
use kube::api::DynamicObject;
use serde_json::json;

/// What people do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Somebody approves, again where it was bound anew.
    Approve,
    /// Somebody denies, likewise.
    Deny,
    /// Whoever asked takes it back.
    Withdraw,
    /// Nobody answers.
    Ignore,
    /// Policy allows it.
    Allowed,
    /// Policy denies it.
    Forbidden,
    /// The Job is changed while it waits, and then approved.
    EditJob,
    /// The Job is deleted while it waits.
    DeleteJob,
}

const DEEDS: [Deed; 14] = [
    Deed::Approve,
    Deed::Approve,
    Deed::Approve,
    Deed::Approve,
    Deed::Approve,
    Deed::Deny,
    Deed::Deny,
    Deed::Withdraw,
    Deed::Ignore,
    Deed::Allowed,
    Deed::Forbidden,
    Deed::EditJob,
    Deed::EditJob,
    Deed::DeleteJob,
];

/// One request and its Job.
#[derive(Clone, Debug)]
pub struct Story {
    /// Of both, where the request has a name at all.
    pub name: String,
    /// Which of the namespaces.
    pub space: usize,
    pub deed: Deed,
    /// Whether the workflow asks itself; else the gate does, in its place.
    pub asks: bool,
    /// Whether both are deleted once it is over.
    pub deletes: bool,
    /// The name and uid of the request, as they turned out.
    pub request: Option<(String, String)>,
    /// When its Job was started, by what is stored of it; see [`start_of`].
    pub started: Option<Timestamp>,
}

impl Story {
    pub fn choose(number: usize, choice: &mut Choice) -> Self {
        let deed = choice.of(&DEEDS);
        let space = choice.below(SPACES.len() as u64) as usize;
        // Where the gate asks, what policy denies is refused before there is a Job, and nobody but the workflow withdraws.
        let by_gate = SPACES[space].gated && !matches!(deed, Deed::Forbidden | Deed::Withdraw | Deed::DeleteJob);
        let asks = !by_gate || choice.once_in(2);
        Self {
            name: format!("run-{number:05}"),
            space,
            deed,
            asks,
            deletes: choice.once_in(2),
            request: None,
            started: None,
        }
    }

    /// The tags by which policy tells what to do.
    pub fn tags(&self) -> [&'static str; 2] {
        match self.deed {
            Deed::Ignore => ["prod", "brief"],
            Deed::Allowed => ["prod", "safe"],
            Deed::Forbidden => ["prod", "forbidden"],
            _ => ["prod", "write"],
        }
    }

    /// How it ends.
    pub fn end(&self) -> &'static str {
        match self.deed {
            Deed::Approve | Deed::EditJob | Deed::Allowed => "Released",
            Deed::Deny | Deed::Forbidden => "Denied",
            Deed::Withdraw | Deed::DeleteJob => "Cancelled",
            Deed::Ignore => "Expired",
        }
    }

    /// Namespace and name of its Job.
    pub fn job(&self) -> (String, String) {
        (SPACES[self.space].name.to_string(), self.name.clone())
    }

    /// Whether the Job starts.
    pub fn starts(&self) -> bool {
        self.end() == "Released"
    }

    /// Whether there is a request at all.
    pub fn has_request(&self) -> bool {
        self.asks || self.deed != Deed::Allowed
    }
}

/// When a Job that is not held was started, to the second: the API server notes on each object who set what, and when.
pub fn start_of(job: &DynamicObject) -> Option<Timestamp> {
    if job.data["spec"]["suspend"] != json!(false) {
        return None;
    }
    let fields = job.metadata.managed_fields.iter().flatten();
    let mut suspend =
        fields.filter(|set| set.fields_v1.as_ref().is_some_and(|f| f.0["f:spec"]["f:suspend"].is_object()));
    suspend.next()?.time.as_ref().map(|time| time.0)
}
