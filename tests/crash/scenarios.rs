//! What people do, and what comes of it where nothing fails.

use crate::support::by_sre;
use serde_json::{Value, json};

/// What somebody does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Act {
    /// An administrator makes the policy.
    MakePolicy,
    /// A workflow makes a suspended Job, and asks for it.
    Ask,
    /// A workflow makes a Job that it has not asked for.
    MakeJob,
    /// alice approves what she is shown.
    Approve,
    /// alice denies it.
    Deny,
    /// Nobody does anything.
    Wait,
    /// The workflow withdraws what it asked.
    Withdraw,
    /// An administrator edits the policy.
    EditPolicy,
    /// The workflow deletes its Job.
    DeleteJob,
    /// An administrator deletes the request.
    DeleteRequest,
}

/// What is stored when the operator has done its part of an act.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rest {
    /// The policy is in force.
    InForce,
    /// The request is bound for that time, and the trail tells so.
    Bound(usize),
    /// The request has come to that state, and the trail tells so.
    State(&'static str),
    /// The request is gone.
    Gone,
}

/// A story, told in every run of it.
pub struct Scenario {
    pub name: &'static str,
    /// Acts, and how each comes to rest.
    pub acts: &'static [(Act, Rest)],
    /// Flags of the operator whose start is the scenario, where that is.
    pub starts: Option<&'static [&'static str]>,
    rules: fn(&str) -> Value,
}

const ASK: (Act, Rest) = (Act::Ask, Rest::Bound(1));
const APPROVE: (Act, Rest) = (Act::Approve, Rest::State("Released"));

/// The acts of people while an operator is there.
pub static SCENARIOS: [Scenario; 10] = [
    told("released", &[(Act::MakePolicy, Rest::InForce), ASK, APPROVE], by_alice),
    told("authorized", &[ASK, APPROVE], by_whom_rbac_lets),
    told("denied", &[ASK, (Act::Deny, Rest::State("Denied"))], by_alice),
    told("expired", &[ASK, (Act::Wait, Rest::State("Expired"))], soon),
    told("withdrawn", &[ASK, (Act::Withdraw, Rest::State("Cancelled"))], by_alice),
    told("allowed", &[(Act::Ask, Rest::State("Released"))], allowed),
    told("gated", &[(Act::MakeJob, Rest::Bound(1)), APPROVE], by_alice),
    told("bound-anew", &[ASK, (Act::EditPolicy, Rest::Bound(2)), APPROVE], by_alice),
    told("job-gone", &[ASK, (Act::DeleteJob, Rest::State("Cancelled"))], by_alice),
    told("deleted", &[ASK, APPROVE, (Act::DeleteRequest, Rest::Gone)], by_alice),
];

/// An operator starts, where a request waits that is approved and not released: one that is alone, and one that stands for
/// election. Of the latter, what is about the election.
pub static STARTS: [Scenario; 2] = [
    Scenario { starts: Some(&[]), ..told("start", &[ASK, APPROVE], by_alice) },
    Scenario {
        starts: Some(&["--leader-elect", "--lease-seconds", "3"]),
        ..told("election", &[ASK, APPROVE], by_alice)
    },
];

const fn told(name: &'static str, acts: &'static [(Act, Rest)], rules: fn(&str) -> Value) -> Scenario {
    Scenario { name, acts, rules, starts: None }
}

impl Scenario {
    /// Rules for what carries this tag, and so for one run.
    pub fn rules(&self, tag: &str) -> Value {
        (self.rules)(tag)
    }

    /// Whether the policy is there before anything else.
    pub fn has_policy(&self) -> bool {
        self.acts[0].0 != Act::MakePolicy
    }
}

fn by_alice(tag: &str) -> Value {
    let mut rules = by_sre();
    rules[0]["when"] = json!({"riskTags": [tag]});
    rules
}

/// Whether alice may approve, the operator asks the authorizer, while her patch waits.
fn by_whom_rbac_lets(tag: &str) -> Value {
    let mut rules = by_alice(tag);
    rules[0]["approvals"]["requirements"][0]["approvers"] = json!([{"kind": "Authorized", "name": tag}]);
    rules
}

/// Long enough for an operator that is killed at once to come back.
fn soon(tag: &str) -> Value {
    let mut rules = by_alice(tag);
    rules[0]["pendingTimeoutSeconds"] = json!(5);
    rules
}

fn allowed(tag: &str) -> Value {
    json!([{"name": "trusted", "when": {"riskTags": [tag]}, "decision": "Allow", "trustClaims": true,
        "constraints": {"maxRuntimeSeconds": 900}}])
}
