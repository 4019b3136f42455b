//! Against an independent, slow model: every question that can be asked, put to every binding, as the API server would
//! answer it.

use super::tests::{binding, grants, role};
use super::*;
use proptest::prelude::*;
use serde_json::json;

const NAMESPACES: [&str; 2] = ["a", "b"];
const ACCOUNTS: [&str; 2] = ["x", "y"];
const GROUPS: [&str; 4] = ["", "authorization.k8s.io", "countersign.dev", "other"];
const RESOURCES: [&str; 6] = ["secrets", "pods", "pods/exec", "approvalrequests", "selfsubjectaccessreviews", "other"];
const VERBS: [&str; 8] = ["get", "list", "watch", "create", "patch", "delete", "override", "other"];
/// A question: group, resource and verb.
type Ask = (&'static str, &'static str, &'static str);

fn says<'a>(list: &'a Value, word: &str) -> bool {
    let texts: Vec<&'a str> = list.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    texts.contains(&word) || texts.contains(&"*")
}

fn names_account(subject: &Value, own_namespace: &str, namespace: &str, account: &str) -> bool {
    let groups =
        ["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}"), "system:authenticated".into()];
    let name = subject["name"].as_str().unwrap();
    match subject["kind"].as_str().unwrap() {
        "User" => name == format!("system:serviceaccount:{namespace}:{account}"),
        "Group" => groups.contains(&name.to_string()),
        _ => name == account && subject["namespace"].as_str().unwrap_or(own_namespace) == namespace,
    }
}

/// The rules of every role that the account holds there; an empty namespace asks for the whole cluster.
fn held<'a>(objects: &'a [(RbacKind, DynamicObject)], who: (&str, &str), there: &str) -> Vec<&'a Vec<Value>> {
    let bindings =
        objects.iter().filter(|(kind, _)| matches!(kind, RbacKind::ClusterRoleBinding | RbacKind::RoleBinding));
    let roles = bindings.flat_map(|(kind, binding)| {
        let own = binding.metadata.namespace.clone().unwrap_or_default();
        let holds = *kind == RbacKind::ClusterRoleBinding || own == there;
        let subjects = binding.data["subjects"].as_array().unwrap();
        let named = subjects.iter().any(|subject| names_account(subject, &own, who.0, who.1));
        let reference = binding.data["roleRef"].clone();
        objects.iter().filter(move |(kind, role)| {
            let place = role.metadata.namespace.clone().unwrap_or_default();
            let there = place.is_empty() || (place == own && !own.is_empty());
            holds
                && named
                && kind.as_str() == reference["kind"]
                && there
                && role.metadata.name.as_deref() == reference["name"].as_str()
        })
    });
    roles.map(|(_, role)| role.data["rules"].as_array().unwrap()).collect()
}

fn allows(rules: &[Value], ask: Ask) -> bool {
    rules.iter().any(|r| says(&r["apiGroups"], ask.0) && says(&r["resources"], ask.1) && says(&r["verbs"], ask.2))
}

/// Everything of the sort that the account may do there.
fn everything(
    objects: &[(RbacKind, DynamicObject)],
    who: (&str, &str),
    there: &str,
    sort: fn(&[Value], Ask) -> bool,
) -> BTreeSet<Ask> {
    let roles = held(objects, who, there);
    let asks = GROUPS.iter().flat_map(|g| RESOURCES.iter().flat_map(move |r| VERBS.iter().map(move |v| (*g, *r, *v))));
    asks.filter(|ask| roles.iter().any(|rules| allows(rules, *ask) && sort(rules, *ask))).collect()
}

fn changes(rules: &[Value], ask: Ask) -> bool {
    match ask {
        ("", "pods/exec", "get") => true,
        (_, _, "get" | "list" | "watch") => false,
        ("countersign.dev", "approvalrequests", "create") => false,
        // Who may ask as well withdraws; who may not, reviews.
        ("countersign.dev", "approvalrequests", "patch") => {
            let written = |rule: &&Value| rule["verbs"].as_array().unwrap().iter().any(|verb| verb == "create");
            let creating: Vec<Value> = rules.iter().filter(written).cloned().collect();
            let star = |rule: &Value| rule["verbs"].as_array().unwrap().iter().any(|verb| verb == "*");
            let starred = rules.iter().any(|rule| star(rule) && allows(std::slice::from_ref(rule), ask));
            starred || !allows(&creating, ("countersign.dev", "approvalrequests", "create"))
        }
        ("authorization.k8s.io", "selfsubjectaccessreviews", "create") => false,
        _ => true,
    }
}

fn reads_a_secret(_: &[Value], (group, resource, verb): Ask) -> bool {
    group.is_empty() && resource == "secrets" && matches!(verb, "get" | "list" | "watch")
}

fn words(all: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    let star = prop_oneof![6 => prop::sample::select(all.to_vec()), 1 => Just("*")];
    prop::collection::vec(star, 0..3)
}

fn rules() -> impl Strategy<Value = Value> {
    let rule = (words(&GROUPS), words(&RESOURCES), words(&VERBS))
        .prop_map(|(groups, resources, verbs)| json!({"apiGroups": groups, "resources": resources, "verbs": verbs}));
    prop::collection::vec(rule, 0..3).prop_map(Value::Array)
}

fn subjects() -> impl Strategy<Value = Value> {
    let one = (prop::sample::select(NAMESPACES.to_vec()), prop::sample::select(ACCOUNTS.to_vec()), 0..8u8);
    let one = one.prop_map(|(namespace, name, way)| match way {
        0 => json!({"kind": "Group", "name": "system:authenticated"}),
        1 => json!({"kind": "Group", "name": format!("system:serviceaccounts:{namespace}")}),
        2 => json!({"kind": "User", "name": format!("system:serviceaccount:{namespace}:{name}")}),
        3 => json!({"kind": "User", "name": name}),
        4 => json!({"kind": "ServiceAccount", "name": name}),
        _ => json!({"kind": "ServiceAccount", "name": name, "namespace": namespace}),
    });
    prop::collection::vec(one, 0..3).prop_map(Value::Array)
}

fn objects() -> impl Strategy<Value = Vec<(RbacKind, DynamicObject)>> {
    let place = prop::sample::select(vec!["", "a", "b"]);
    let name = prop::sample::select(vec!["m", "n"]);
    let role_at = (place.clone(), name.clone(), rules()).prop_map(|(place, name, rules)| role(place, name, rules));
    let reference = (prop::sample::select(vec!["Role", "ClusterRole"]), name.clone());
    let bound = (place, name, reference, subjects()).prop_map(|(place, name, reference, subjects)| {
        let (kind, mut object) = binding(place, name, reference, json!({}));
        object.data["subjects"] = subjects;
        (kind, object)
    });
    let all = prop::collection::vec(prop_oneof![role_at, bound], 0..10);
    // One object of each name, as in the API server.
    all.prop_map(|all| {
        let key =
            |(kind, o): &(RbacKind, DynamicObject)| (*kind, o.metadata.namespace.clone(), o.metadata.name.clone());
        let mut seen = BTreeSet::new();
        all.into_iter().filter(|entry| seen.insert(key(entry))).collect()
    })
}

fn everybody() -> impl Iterator<Item = (&'static str, &'static str)> {
    NAMESPACES.into_iter().flat_map(|namespace| ACCOUNTS.into_iter().map(move |name| (namespace, name)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn rights_agree_with_asking_every_question(objects in objects()) {
        let known = grants(objects.clone());
        for who in everybody() {
            let rights = known.rights(who.0, who.1);
            let places = ["a", "b", "", "elsewhere"];
            let there = |sort, far: bool| places.iter().any(|place| (!far || *place != who.0) && !everything(&objects, who, place, sort).is_empty());
            prop_assert_eq!(rights.writes.is_some(), there(changes, false), "{:?} {:?}", who, rights);
            prop_assert_eq!(rights.reads_secrets.is_some(), there(reads_a_secret, false), "{:?} {:?}", who, rights);
            let far = there(changes, true) || there(reads_a_secret, true);
            prop_assert_eq!(rights.cluster_scope.is_some(), far, "{:?} {:?}", who, rights);
        }
    }

    /// What was shown stands for all that it may do: other rights never look the same.
    #[test]
    fn other_rights_have_another_fingerprint(objects in objects(), others in objects()) {
        let (known, other) = (grants(objects.clone()), grants(others.clone()));
        for who in everybody() {
            let near = |objects| [who.0, ""].map(|there| {
                (everything(objects, who, there, changes), everything(objects, who, there, reads_a_secret))
            });
            let (rights, other) = (known.rights(who.0, who.1), other.rights(who.0, who.1));
            prop_assert_eq!(rights.fingerprint.is_none(), rights == Rights::default());
            prop_assert!(near(&objects) == near(&others) || rights.fingerprint != other.fingerprint, "{:?} {:?}", who, rights);
        }
    }

    /// However they got there, with others in between that are gone or replaced.
    #[test]
    fn the_same_grants_give_the_same_words(objects in objects(), others in objects(), order in any::<u64>()) {
        let straight = grants(objects.clone());
        let mut known = grants(others.clone());
        let mut shuffled = objects.clone();
        shuffled.sort_by_key(|(kind, o)| scrambled(&(order, kind.as_str(), &o.metadata.namespace, &o.metadata.name)));
        for (kind, object) in &others {
            let gone = !objects.iter().any(|(k, o)| (k, &o.metadata) == (kind, &object.metadata));
            if gone {
                known.remove(*kind, object.metadata.namespace.as_deref().unwrap_or_default(), object.metadata.name.as_deref().unwrap());
            }
        }
        for (kind, object) in &shuffled {
            known.set(*kind, object);
        }
        for (namespace, name) in everybody() {
            prop_assert_eq!(known.rights(namespace, name), straight.rights(namespace, name));
        }
        prop_assert_eq!(&known.bindings, &straight.bindings);
        prop_assert_eq!(&known.by_role, &straight.by_role);
        prop_assert_eq!(&known.by_subject, &straight.by_subject);
    }

    /// Whose rights change is always told; without that a request would not be looked at again.
    #[test]
    fn nobodys_rights_change_untold(before in objects(), steps in objects(), removed in prop::collection::vec(any::<bool>(), 10)) {
        let mut known = grants(before);
        known.take_touched();
        for ((kind, object), removed) in steps.iter().zip(removed) {
            let had: Vec<_> = everybody().map(|(namespace, name)| known.rights(namespace, name)).collect();
            let changed = match removed {
                true => {
                    known.remove(*kind, object.metadata.namespace.as_deref().unwrap_or_default(), object.metadata.name.as_deref().unwrap());
                    true
                }
                false => known.set(*kind, object),
            };
            let touched = known.take_touched();
            for ((namespace, name), had) in everybody().zip(had) {
                let same = known.rights(namespace, name) == had;
                prop_assert!(same || (changed && touched.concerns(namespace, name)), "{namespace}/{name}");
            }
        }
    }
}

fn scrambled(value: &impl std::hash::Hash) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
