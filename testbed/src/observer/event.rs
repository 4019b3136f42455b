//! Reads audit events: which writes took effect, by whom, and what was stored.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

pub(super) const OPERATOR: &str = "system:serviceaccount:countersign-system:countersign";
const GATE: &str = "countersign.dev/approval";

/// What a write was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Namespace,
    Job,
    Pod,
    Request,
}

/// A write that took effect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Write<'a> {
    pub(super) kind: Kind,
    /// Whether it made the object.
    pub(super) created: bool,
    event: &'a Value,
}

/// Why an object that was held came free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The operator released it, for the request of this uid, approved by these people.
    Release { request: String, approvers: Vec<String> },
    /// Somebody overrode the gate, in their own name and with a reason.
    Override,
    /// Neither.
    Neither,
}

impl<'a> Write<'a> {
    /// None for what changed nothing, or nothing that is judged: reads, refusals, dry runs, other resources.
    pub(super) fn read(event: &'a Value) -> Option<Self> {
        let text = |pointer| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        if text("/stage") != "ResponseComplete" || !matches!(text("/verb"), "create" | "update" | "patch") {
            return None;
        }
        let sub = text("/objectRef/subresource");
        let kind = match (text("/objectRef/apiGroup"), text("/objectRef/resource"), sub) {
            ("", "namespaces", "" | "status" | "finalize") => Kind::Namespace,
            ("batch", "jobs", "") => Kind::Job,
            ("", "pods", "") => Kind::Pod,
            ("countersign.dev", "approvalrequests", "") => Kind::Request,
            _ => return None,
        };
        // An apply makes an object by the verb patch, so the answer is what tells.
        let code = event.pointer("/responseStatus/code").and_then(Value::as_u64)?;
        let bodied = event.get("responseObject").is_some();
        let effective = matches!(code, 200 | 201) && bodied && !is_dry_run(text("/requestURI"));
        effective.then_some(Self { kind, created: code == 201, event })
    }

    pub(super) fn id(&self) -> &'a str {
        self.event["auditID"].as_str().unwrap_or_default()
    }

    /// Whoever the API server took the caller for, who may be impersonated.
    fn caller(&self) -> &'a Value {
        self.event.get("impersonatedUser").unwrap_or(&self.event["user"])
    }

    pub(super) fn user(&self) -> &'a str {
        self.caller()["username"].as_str().unwrap_or_default()
    }

    /// The object as it was stored; none if the caller asked for it in a form that does not say.
    pub(super) fn object(&self) -> Option<&'a Value> {
        let object = &self.event["responseObject"];
        let kind = object["kind"].as_str().unwrap_or_default();
        let whole = match self.kind {
            Kind::Namespace => matches!(kind, "Namespace" | "PartialObjectMetadata"),
            Kind::Job => kind == "Job",
            Kind::Pod => kind == "Pod",
            Kind::Request => kind == "ApprovalRequest",
        };
        (whole && self.version().is_some()).then_some(object)
    }

    /// Whether it left the spec alone, for all that the request says.
    pub(super) fn spares_spec(&self) -> bool {
        !self.created && self.event["requestObject"].as_object().is_some_and(|body| !body.contains_key("spec"))
    }

    /// Where in the order of all writes this one was stored. One etcd holds everything, so versions of different objects
    /// compare; the order of the log itself is only that of the answers.
    pub(super) fn version(&self) -> Option<u64> {
        self.text("/metadata/resourceVersion").parse().ok()
    }

    pub(super) fn uid(&self) -> &'a str {
        self.text("/metadata/uid")
    }

    pub(super) fn name(&self) -> &'a str {
        let stored = self.text("/metadata/name");
        if stored.is_empty() { self.event["objectRef"]["name"].as_str().unwrap_or_default() } else { stored }
    }

    /// Its namespace, or its own name if it is one.
    pub(super) fn namespace(&self) -> &'a str {
        match self.kind {
            Kind::Namespace => self.name(),
            _ => self.event["objectRef"]["namespace"].as_str().unwrap_or_default(),
        }
    }

    pub(super) fn label(&self, key: &str) -> &'a str {
        self.event["responseObject"]["metadata"]["labels"][key].as_str().unwrap_or_default()
    }

    /// Whether a Job is suspended, or a Pod carries the gate.
    pub(super) fn held(&self) -> bool {
        let spec = &self.event["responseObject"]["spec"];
        match self.kind {
            Kind::Job => spec["suspend"] == true,
            _ => list(&spec["schedulingGates"]).any(|gate| gate["name"] == GATE),
        }
    }

    /// What set the object free, if this did. Only a change can: what is created free was never held.
    pub(super) fn cause(&self) -> Cause {
        if self.held() || self.created {
            return Cause::Neither;
        }
        if self.user() == OPERATOR {
            let digest = self.annotation("released");
            let receipt = self.receipt().filter(|_| !digest.is_empty());
            return receipt.map_or(Cause::Neither, |(request, approvers)| Cause::Release { request, approvers });
        }
        let reason = self.annotation("override-reason").trim();
        if !reason.is_empty() && self.annotation("overridden-by") == self.user() {
            Cause::Override
        } else {
            Cause::Neither
        }
    }

    /// The request and the approvers that the receipt on a released object names. What policy allows has neither.
    fn receipt(&self) -> Option<(String, Vec<String>)> {
        let within = match self.kind {
            Kind::Job => "/spec/template/metadata/annotations/countersign.dev~1receipt",
            _ => "/metadata/annotations/countersign.dev~1receipt",
        };
        let envelope: Value = serde_json::from_str(self.text(within)).ok()?;
        let statement: Value = serde_json::from_slice(&STANDARD.decode(envelope["payload"].as_str()?).ok()?).ok()?;
        let receipt = &statement["predicate"];
        let approvers: Vec<String> =
            receipt["approvers"].as_array()?.iter().filter_map(Value::as_str).map(String::from).collect();
        match receipt["request"]["uid"].as_str() {
            None if !approvers.is_empty() => None,
            request => Some((request.unwrap_or_default().to_owned(), approvers)),
        }
    }

    /// Whether the caller's own approval stands in a request.
    pub(super) fn holds_own_approval(&self) -> bool {
        let own = |review: &Value| review["reviewer"]["username"] == self.user() && review["decision"] == "Approve";
        list(&self.event["responseObject"]["spec"]["reviews"]).any(own)
    }

    /// The uid of the Job that controls a Pod.
    pub(super) fn job(&self) -> Option<&'a str> {
        let job =
            |owner: &&Value| owner["controller"] == true && owner["kind"] == "Job" && owner["apiVersion"] == "batch/v1";
        list(&self.event["responseObject"]["metadata"]["ownerReferences"]).find(job)?["uid"].as_str()
    }

    /// Whether a node shows one of its own static Pods.
    pub(super) fn is_mirror(&self) -> bool {
        let node = list(&self.caller()["groups"]).any(|group| group == "system:nodes");
        node && self.event["responseObject"]["metadata"]["annotations"].get("kubernetes.io/config.mirror").is_some()
    }

    fn annotation(&self, name: &str) -> &'a str {
        self.event["responseObject"]["metadata"]["annotations"][format!("countersign.dev/{name}")]
            .as_str()
            .unwrap_or_default()
    }

    fn text(&self, pointer: &str) -> &'a str {
        self.event["responseObject"].pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// One in a spelling that this does not see counts as a write: a false alarm, not a miss.
fn is_dry_run(uri: &str) -> bool {
    let query = uri.split_once('?').map_or("", |(_, query)| query);
    query.split('&').any(|pair| pair.split('=').next() == Some("dryRun"))
}
