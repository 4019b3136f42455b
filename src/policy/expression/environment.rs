//! What an expression sees.

use crate::policy::Facts;
use crate::policy::expression::item::{Item, List, Map};
use crate::policy::expression::meter::Failure;
use crate::policy::expression::tree::Variable;
use serde_json::Value;

/// What an expression sees, made once for all expressions of one evaluation. It borrows: making it copies nothing.
#[derive(Debug)]
pub struct Environment<'a> {
    /// None while it has not been seen.
    object: Option<Item<'a>>,
    namespace: Item<'a>,
    request: Item<'a>,
    time: Item<'a>,
    claims: Option<Item<'a>>,
}

impl<'a> Environment<'a> {
    /// Of facts alone, or of claims as well.
    pub fn new(facts: &Facts<'a>, trust_claims: bool) -> Self {
        let requester = facts.requester;
        let mut user = vec![
            ("username", Item::from(requester.username.as_str())),
            ("groups", Item::List(List::Strings(&requester.groups))),
        ];
        user.extend(requester.uid.as_deref().map(|uid| ("uid", Item::from(uid))));
        let namespace =
            vec![("name", Item::from(facts.namespace)), ("labels", Item::Map(Map::Strings(facts.namespace_labels)))];
        Self {
            object: match facts.object {
                None => Some(Item::Null),
                Some(Value::Null) => None,
                Some(object) => Some(shown(object, facts.namespace, trust_claims)),
            },
            namespace: Map::of(vec![("metadata", Map::of(namespace))]),
            request: Map::of(vec![("userInfo", Map::of(user)), ("namespace", Item::from(facts.namespace))]),
            time: Item::Time(facts.asked),
            claims: trust_claims.then(|| Item::from(facts.claims)),
        }
    }

    /// Whether claims are seen.
    pub(super) fn trusts(&self) -> bool {
        self.claims.is_some()
    }

    /// The value of a variable. Claims that are not trusted have none, nor has an object that has not been seen: whether it
    /// is null cannot be said either.
    pub(super) fn get<'e>(&self, variable: Variable) -> Result<Item<'a>, Failure<'e>> {
        match variable {
            Variable::Object => self.object.clone().ok_or(Failure::Said("the Job or Pod has not been seen")),
            Variable::NamespaceObject => Ok(self.namespace.clone()),
            Variable::Request => Ok(self.request.clone()),
            Variable::Time => Ok(self.time.clone()),
            Variable::Claims => self.claims.clone().ok_or(Failure::Said("claims are not trusted here")),
        }
    }
}

/// The parts of a Job or Pod that expressions see, the same of a whole object and of one that was trimmed. Its name, labels
/// and annotations are whatever its creator wrote, so that they count as claims. Labels and annotations are always maps.
fn shown<'a>(object: &'a Value, namespace: &'a str, trust_claims: bool) -> Item<'a> {
    let text = |field: &str| Item::from(object.get(field).and_then(Value::as_str).unwrap_or_default());
    let mut metadata = vec![("namespace", Item::from(namespace))];
    if trust_claims {
        let given = object.get("metadata");
        let name = given.and_then(|m| m.get("name")).and_then(Value::as_str).filter(|name| !name.is_empty());
        metadata.extend(name.map(|name| ("name", Item::from(name))));
        for field in ["labels", "annotations"] {
            let entries = given.and_then(|m| m.get(field)).and_then(Value::as_object);
            metadata.push((field, entries.map_or_else(|| Map::of(vec![]), |entries| Item::Map(Map::Given(entries)))));
        }
    }
    let mut fields = vec![("apiVersion", text("apiVersion")), ("kind", text("kind")), ("metadata", Map::of(metadata))];
    let spec = object.get("spec").filter(|spec| !spec.is_null());
    fields.extend(spec.map(|spec| ("spec", Item::from(spec))));
    Map::of(fields)
}
