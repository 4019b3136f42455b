use super::*;
use serde_json::json;

fn policy(namespace: &str, name: &str, spec: Value) -> DynamicObject {
    serde_json::from_value(json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": namespace, "name": name, "resourceVersion": "1"}, "spec": spec}))
    .unwrap()
}

fn labels() -> BTreeMap<String, String> {
    [("app".to_string(), "worker".to_string())].into()
}

/// Whether a Pod `app: worker` goes where it likes under these policies of its namespace.
fn open(specs: &[Value]) -> bool {
    let mut policies = NetworkPolicies::default();
    for (n, spec) in specs.iter().enumerate() {
        policies.set(&policy("payments", &n.to_string(), spec.clone()));
    }
    policies.open_egress("payments", &labels())
}

#[test]
fn a_policy_restricts_the_egress_of_what_it_selects() {
    let closed = |selector: Value| json!({"podSelector": selector, "policyTypes": ["Egress"], "egress": []});
    let expression = |operator: &str, values: Value| json!({"matchExpressions": [{"key": "app", "operator": operator, "values": values}]});
    let table = [
        (vec![], true),
        (vec![closed(json!({}))], false),
        (vec![json!({"policyTypes": ["Egress"]})], false),
        (vec![closed(json!({"matchLabels": {"app": "worker"}}))], false),
        (vec![closed(json!({"matchLabels": {"app": "other"}}))], true),
        (vec![closed(json!({"matchLabels": {"app": "worker", "tier": "x"}}))], true),
        (vec![closed(expression("In", json!(["worker", "x"])))], false),
        (vec![closed(expression("NotIn", json!(["worker"])))], true),
        (vec![closed(expression("NotIn", json!(["x"])))], false),
        (vec![closed(expression("Exists", json!([])))], false),
        (vec![closed(expression("DoesNotExist", json!([])))], true),
        (vec![json!({"podSelector": {}, "policyTypes": ["Ingress"]})], true),
        (vec![json!({"podSelector": {}, "policyTypes": ["Ingress"], "egress": [{"to": [{"podSelector": {}}]}]})], true),
        (vec![json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})], false),
        (vec![json!({"podSelector": {}, "egress": [{"to": [{"podSelector": {}}]}]})], false),
        (vec![json!({"podSelector": {}, "egress": []})], true),
        (vec![json!({"podSelector": {}})], true),
        // They add up: what one opens is open.
        (vec![closed(json!({})), json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]})], true),
        (
            vec![
                closed(json!({})),
                json!({"podSelector": {"matchLabels": {"app": "x"}}, "policyTypes": ["Egress"], "egress": [{}]}),
            ],
            false,
        ),
        // What cannot be read may open everything.
        (vec![closed(json!({})), closed(json!({"matchExpressions": [{"key": "app", "operator": "Near"}]}))], true),
        (vec![closed(json!("all"))], true),
    ];
    for (specs, expected) in table {
        assert_eq!(open(&specs), expected, "{specs:?}");
    }
}

#[test]
fn a_rule_for_every_address_restricts_nothing() {
    let block = |cidr: &str| json!({"ipBlock": {"cidr": cidr}});
    let table = [
        (json!({}), true),
        (json!({"to": [], "ports": []}), true),
        (json!({"to": [block("0.0.0.0/0")]}), true),
        (json!({"to": [block("::/0")]}), true),
        (json!({"to": [block("10.0.0.0/8"), block("1.2.3.4/0")]}), true),
        (json!({"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": []}}]}), true),
        (json!({"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}]}), false),
        (json!({"to": [block("10.0.0.0/8")]}), false),
        (json!({"to": [{"namespaceSelector": {}}]}), false),
        (json!({"ports": [{"port": 443, "protocol": "TCP"}]}), false),
        (json!({"ports": [{"port": "https"}]}), false),
        (json!({"ports": [{"protocol": "TCP"}]}), true),
        (json!({"ports": [{"port": 1, "endPort": 65535}]}), true),
        (json!({"ports": [{"port": 1024, "endPort": 65535}]}), false),
        (json!({"to": [block("0.0.0.0/0")], "ports": [{"port": 443}]}), false),
        (json!({"to": [block("nonsense")]}), false),
    ];
    for (rule, expected) in table {
        let spec = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [rule]});
        assert_eq!(open(&[spec]), expected, "{rule}");
    }
}

#[test]
fn it_counts_in_its_own_namespace_and_only_while_it_is_there() {
    let mut policies = NetworkPolicies::default();
    let closed = json!({"podSelector": {}, "policyTypes": ["Egress"]});
    assert!(policies.set(&policy("payments", "deny", closed.clone())));
    let mut touched = policy("payments", "deny", closed.clone());
    touched.metadata.annotations = Some([("x".to_string(), "y".to_string())].into());
    touched.metadata.resource_version = Some("2".into());
    assert!(!policies.set(&touched), "metadata is nothing that egress rests on");
    assert!(!policies.open_egress("payments", &labels()) && policies.open_egress("other", &labels()));
    assert_eq!(policies.names().collect::<Vec<_>>(), [("payments", "deny")]);
    assert!(!policies.set(&policy("payments", "ingress", json!({"podSelector": {}, "policyTypes": ["Ingress"]}))));
    assert!(policies.set(&policy("payments", "deny", json!({"podSelector": {}, "policyTypes": ["Ingress"]}))));
    assert!(policies.open_egress("payments", &labels()));
    policies.set(&policy("payments", "deny", closed));
    assert!(!policies.remove("payments", "unknown") && !policies.remove("payments", "ingress"));
    assert!(policies.remove("payments", "deny") && !policies.remove("payments", "deny"));
    assert!(policies.open_egress("payments", &labels()) && policies.names().next().is_none());
}
