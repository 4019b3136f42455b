use super::*;
use serde_json::{Value, json};

/// What a tool that goes by kstatus makes of an object.
#[derive(Debug, Eq, PartialEq)]
enum Kstatus {
    InProgress,
    Failed,
    Current,
}

/// The rules of kstatus for kinds that it does not know, in its order: the generation that was observed, `Reconciling` and
/// `Stalled` in the order of the list, then `Ready`; and an object that says nothing is taken for current.
fn kstatus(generation: i64, status: &Value) -> Kstatus {
    if status["observedGeneration"].as_i64().is_some_and(|observed| observed != generation) {
        return Kstatus::InProgress;
    }
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    for condition in &conditions {
        match (condition["type"].as_str(), condition["status"].as_str()) {
            (Some("Reconciling"), Some("True")) => return Kstatus::InProgress,
            (Some("Stalled"), Some("True")) => return Kstatus::Failed,
            _ => {}
        }
    }
    match conditions.iter().find(|condition| condition["type"] == "Ready") {
        Some(ready) if ready["status"] != "True" => Kstatus::InProgress,
        _ => Kstatus::Current,
    }
}

/// A policy through its edits, as the API server and the operator keep it.
struct Stored(PolicyFacts);

impl Stored {
    /// Just created: the status is the CRD's default.
    fn new() -> Self {
        let status = ApprovalPolicyStatus { observed_generation: Some(-1), ..ApprovalPolicyStatus::default() };
        Self(PolicyFacts {
            name: "p".into(),
            resource_version: "1".into(),
            version: 1,
            generation: Some(1),
            snapshot: None,
            editor: None,
            compiled: Ok(()),
            status,
        })
    }

    fn edit(&mut self, compiled: Result<(), PolicyError>) {
        self.0.generation = self.0.generation.map(|generation| generation + 1);
        self.0.compiled = compiled;
    }

    /// The operator looks at it, at that second.
    fn look(&mut self, second: i64) {
        let now = Timestamp::from_second(second).unwrap();
        self.0.status = plan_policy(&self.0, now).expect("something to write");
        assert_eq!(plan_policy(&self.0, Timestamp::from_second(second + 1).unwrap()), None, "nothing is written twice");
    }

    fn status(&self) -> Value {
        serde_json::to_value(&self.0.status).unwrap()
    }

    fn kstatus(&self) -> Kstatus {
        kstatus(self.0.generation.unwrap(), &self.status())
    }

    /// Type, status, reason and generation of each condition.
    fn conditions(&self) -> Value {
        let of = |c: &Value| json!([c["type"], c["status"], c["reason"], c["observedGeneration"]]);
        self.status()["conditions"].as_array().unwrap().iter().map(of).collect()
    }
}

fn broken() -> Result<(), PolicyError> {
    crate::policy::compile("p", &json!({"rules": []}), None).map(drop).map_err(|broken| broken.error)
}

#[test]
fn kstatus_sees_a_policy_in_progress_until_it_was_looked_at_and_then_what_it_is() {
    let mut policy = Stored::new();
    assert_eq!(policy.kstatus(), Kstatus::InProgress, "nobody looked at it");
    policy.look(10);
    assert_eq!(policy.kstatus(), Kstatus::Current);
    let good = |generation| {
        json!([
            ["Ready", "True", "Compiled", generation],
            ["Reconciling", "False", "Compiled", generation],
            ["Stalled", "False", "Compiled", generation],
        ])
    };
    assert_eq!(policy.conditions(), good(1));

    policy.edit(broken());
    assert_eq!(policy.kstatus(), Kstatus::InProgress, "the old status says nothing of the new generation");
    policy.look(20);
    assert_eq!(policy.kstatus(), Kstatus::Failed);
    assert_eq!(
        policy.conditions(),
        json!([
            ["Ready", "False", "Invalid", 2],
            ["Reconciling", "False", "Invalid", 2],
            ["Stalled", "True", "Invalid", 2],
        ])
    );

    policy.edit(Ok(()));
    assert_eq!(policy.kstatus(), Kstatus::InProgress, "a failure of an older generation is none of the new one");
    policy.look(30);
    assert_eq!(policy.kstatus(), Kstatus::Current);
    assert_eq!(policy.conditions(), good(3));
    let since = |type_: &str| condition::find(&policy.0.status.conditions, type_).unwrap().last_transition_time.0;
    let at = |second| Timestamp::from_second(second).unwrap();
    assert_eq!((since("Ready"), since("Stalled"), since("Reconciling")), (at(30), at(30), at(10)));
}

#[test]
fn a_stalled_policy_says_which_field_what_it_holds_up_and_what_to_do() {
    let mut policy = Stored::new();
    policy.edit(broken());
    policy.look(10);
    let text = |type_: &str| condition::find(&policy.0.status.conditions, type_).unwrap().message.clone();
    assert_eq!(text("Ready"), text("Stalled"));
    for part in
        ["spec.rules: ", "nothing it might cover is approved meanwhile", "Correct it where it is kept, or delete it"]
    {
        assert!(text("Stalled").contains(part), "{part:?} in {:?}", text("Stalled"));
    }
}

#[test]
fn a_status_of_an_older_version_gets_what_it_lacks_and_ready_stays_first() {
    let mut policy = Stored::new();
    let now = Timestamp::from_second(5).unwrap();
    policy.0.status.observed_generation = Some(1);
    condition::set(
        &mut policy.0.status.conditions,
        "Ready",
        ConditionStatus::True,
        "Compiled",
        "in force",
        Some(1),
        now,
    );
    policy.look(10);
    assert_eq!(policy.0.status.conditions[0].last_transition_time.0, now);
    let types: Vec<_> = policy.0.status.conditions.iter().map(|condition| condition.type_.as_str()).collect();
    assert_eq!(types, ["Ready", "Reconciling", "Stalled"]);
}

#[test]
fn a_message_of_any_length_can_be_stored() {
    let mut policy = Stored::new();
    let long = json!({"match": {"namespaceSelector": {"matchLabels": {("é".repeat(3000)): "x"}}}, "rules": [{"name": "r", "decision": "Deny"}]});
    policy.edit(crate::policy::compile("p", &long, None).map(drop).map_err(|broken| broken.error));
    policy.look(10);
    for condition in &policy.0.status.conditions {
        assert!(condition.message.chars().count() <= 2048, "{}: {}", condition.type_, condition.message.len());
    }
    assert_eq!(policy.kstatus(), Kstatus::Failed);
}
