//! What roles grant, and what was asked of the API server by virtue of it.

use anyhow::{Context, Result};
use countersign_testbed::Identity;
use serde_json::Value;
use std::collections::BTreeSet;

/// One right, or one use of it: a verb on a resource. Cluster-wide without a namespace, on every object without a name.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Right {
    pub namespace: Option<String>,
    pub group: String,
    /// With its subresource, such as `jobs/status`.
    pub resource: String,
    pub verb: String,
    pub name: Option<String>,
}

impl Right {
    /// Whether this one lets somebody do that.
    fn allows(&self, used: &Self) -> bool {
        let covers = |own: &Option<String>, other: &Option<String>| own.is_none() || own == other;
        (&self.group, &self.resource, &self.verb) == (&used.group, &used.resource, &used.verb)
            && covers(&self.namespace, &used.namespace)
            && covers(&self.name, &used.name)
    }
}

/// Everything that bindings give to this user, a service account.
pub async fn granted(admin: &Identity, user: &str) -> Result<BTreeSet<Right>> {
    let list = ["get", "clusterrolebindings,rolebindings", "--all-namespaces"];
    let bindings = admin.kubectl(list).json().await?;
    let mut rights = BTreeSet::new();
    for binding in bindings["items"].as_array().context("bindings")? {
        let subjects = binding["subjects"].as_array().into_iter().flatten();
        let named = |subject: &Value| {
            let text = |field: &str| subject[field].as_str().unwrap_or_default();
            user == format!("system:serviceaccount:{}:{}", text("namespace"), text("name"))
        };
        if subjects.into_iter().any(named) {
            let namespace = binding["metadata"]["namespace"].as_str();
            rights.extend(rules(admin, &binding["roleRef"], namespace).await?);
        }
    }
    Ok(rights)
}

async fn rules(admin: &Identity, role: &Value, namespace: Option<&str>) -> Result<Vec<Right>> {
    let kind = role["kind"].as_str().context("a kind")?;
    let get = ["get", kind, role["name"].as_str().context("a name")?, "--namespace", namespace.unwrap_or("default")];
    let role = admin.kubectl(get).json().await?;
    let mut rights = vec![];
    for rule in role["rules"].as_array().context("rules")? {
        let names = all(rule, "resourceNames").map(Some).collect::<Vec<_>>();
        let names = if names.is_empty() { vec![None] } else { names };
        for group in all(rule, "apiGroups") {
            for resource in all(rule, "resources") {
                for verb in all(rule, "verbs") {
                    rights.extend(names.iter().map(|name| Right {
                        namespace: namespace.map(String::from),
                        group: group.clone(),
                        resource: resource.clone(),
                        verb: verb.clone(),
                        name: name.clone(),
                    }));
                }
            }
        }
    }
    Ok(rights)
}

fn all<'a>(rule: &'a Value, field: &str) -> impl Iterator<Item = String> + use<'a> {
    rule[field].as_array().into_iter().flatten().filter_map(|text| text.as_str().map(String::from))
}

/// What an event of the audit log took, as the API server looked it up. A patch that made its object took two rights.
pub fn taken(event: &Value) -> Vec<Right> {
    let text = |field: &str| event["objectRef"][field].as_str().map(String::from);
    let (Some(resource), Some(verb)) = (text("resource"), event["verb"].as_str()) else { return vec![] };
    let right = Right {
        namespace: text("namespace"),
        group: text("apiGroup").unwrap_or_default(),
        resource: text("subresource").map_or(resource.clone(), |sub| format!("{resource}/{sub}")),
        verb: verb.into(),
        // What an object to be created is called, authorization does not look at.
        name: text("name").filter(|_| verb != "create"),
    };
    let created = verb == "patch" && event["responseStatus"]["code"] == 201;
    let made = created.then(|| Right { verb: "create".into(), ..right.clone() });
    [Some(right), made].into_iter().flatten().collect()
}

/// Which rights nobody needed. Where several allow the same, the narrowest does: one for a name, then one for a namespace.
pub fn unused<'a>(granted: &'a BTreeSet<Right>, used: &BTreeSet<Right>) -> Vec<&'a Right> {
    let width = |right: &Right| (right.namespace.is_none(), right.name.is_none());
    let mut unused: BTreeSet<_> = granted.iter().collect();
    for one in used {
        let allowing: Vec<_> = granted.iter().filter(|right| right.allows(one)).collect();
        let narrowest = allowing.iter().map(|right| width(right)).min();
        unused.retain(|right| !(right.allows(one) && Some(width(right)) == narrowest));
    }
    unused.into_iter().collect()
}

/// What was done though no role allows it.
pub fn ungranted<'a>(granted: &BTreeSet<Right>, used: &'a BTreeSet<Right>) -> Vec<&'a Right> {
    used.iter().filter(|one| !granted.iter().any(|right| right.allows(one))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn get(namespace: Option<&str>, name: Option<&str>) -> Right {
        let [namespace, name] = [namespace, name].map(|text| text.map(String::from));
        Right { namespace, group: String::new(), resource: "secrets".into(), verb: "get".into(), name }
    }

    #[test]
    fn a_wide_right_is_not_used_by_what_a_narrow_one_allows() {
        let [wide, home, key] = [get(None, None), get(Some("home"), None), get(Some("home"), Some("key"))];
        let granted = BTreeSet::from([wide.clone(), home.clone(), key.clone()]);
        let used = |right: &Right| unused(&granted, &BTreeSet::from([right.clone()]));
        assert_eq!(used(&key), [&wide, &home]);
        assert_eq!(used(&get(Some("home"), Some("other"))), [&wide, &key]);
        assert_eq!(used(&get(Some("payments"), Some("key"))), [&home, &key]);
    }

    #[test]
    fn what_no_role_allows_is_found() {
        let granted = BTreeSet::from([get(Some("home"), Some("key"))]);
        let used = BTreeSet::from([get(Some("home"), Some("key")), get(Some("home"), None)]);
        assert_eq!(ungranted(&granted, &used), [&get(Some("home"), None)]);
    }

    #[test]
    fn a_patch_that_makes_its_object_creates_it_by_name() {
        let event = |verb: &str, code: u16| {
            json!({"verb": verb, "responseStatus": {"code": code},
            "objectRef": {"resource": "leases", "apiGroup": "coordination.k8s.io", "namespace": "home", "name": "gate"}})
        };
        let verbs = |event| taken(&event).into_iter().map(|right| (right.verb, right.name)).collect::<Vec<_>>();
        let gate = || Some("gate".to_owned());
        assert_eq!(verbs(event("patch", 200)), [("patch".into(), gate())]);
        assert_eq!(verbs(event("patch", 201)), [("patch".into(), gate()), ("create".into(), gate())]);
        assert_eq!(verbs(event("create", 201)), [("create".into(), None)]);
    }
}
