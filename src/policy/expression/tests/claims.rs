//! What the requester or the creator says is out of reach unless it is trusted.

use super::*;

#[test]
fn naming_a_claim_without_trust_does_not_compile() {
    let of_metadata = "name, labels, annotations are whatever the creator wrote: claims; set trustClaims: true on the rule to use them";
    let claims = "claims are what the requester says; set trustClaims: true on the rule to use them";
    for (text, at, problem) in [
        (r#"claims.reason.contains("hotfix")"#, (1, 1), claims),
        ("true ||\n  size(claims) > 0", (2, 8), claims),
        (r#"claims["reason"] == """#, (1, 1), claims),
        (r#"has(claims.reason)"#, (1, 5), claims),
        (r#"[1].exists(x, claims != null)"#, (1, 15), claims),
        (r#"object.metadata.name == "x""#, (1, 17), of_metadata),
        (r#"has(object.metadata.labels)"#, (1, 21), of_metadata),
        (r#"has(object.metadata.annotations.x)"#, (1, 21), of_metadata),
        (r#"object.metadata["labels"]["x"] == "y""#, (1, 16), of_metadata),
        (r#"object["metadata"]["annotations"].size() > 0"#, (1, 19), of_metadata),
        (r#""x" in object["metadata"].labels"#, (1, 27), of_metadata),
    ] {
        let error = Expression::compile(text, false).unwrap_err();
        assert_eq!(((error.line, error.column), error.problem.as_str()), (at, problem), "{text}");
        assert!(Expression::compile(text, true).is_ok(), "{text}");
    }
}

#[test]
fn other_spellings_of_claims_are_no_names() {
    for text in
        [".claims == null", "`claims` == null", "[1].exists(claims, claims == 1)", "claims{}", "{'a': claims}.a == 1"]
    {
        assert!(Expression::compile(text, false).is_err(), "{text}");
    }
}

/// By ways that cannot be seen before an object is there: keys that are computed, copies, iteration.
#[test]
fn claims_are_not_there_without_trust() {
    let asked = Asked::of(Some(job()));
    for text in [
        r#"object[["metadata"][0]][["labels"][0]]["app"] == "billing""#,
        r#"[object].exists(o, has(o.metadata.labels))"#,
        r#"[object].exists(o, o.metadata.exists(k, k in ["name", "labels", "annotations"]))"#,
        r#"{"o": object}.o.metadata.labels.app == "billing""#,
        r#"(true ? object : null).metadata.annotations.note == "safe""#,
        r#"object.map(k, object[k]).exists(v, dyn(v) == {"app": "billing"})"#,
        r#"object == {"apiVersion": "batch/v1", "kind": "Job", "metadata": object.metadata, "spec": object.spec, "status": {"active": 0}}"#,
        r#"[object].exists(o, has(o.status) || has(o.metadata.uid))"#,
        r#"[object.metadata].exists(m, m.size() != 1)"#,
    ] {
        assert!(!matches!(asked.holds(text, false), Ok(true)), "{text}");
    }
    assert_eq!(asked.holds(r#"[object].exists(o, has(o.metadata.labels))"#, true), Ok(true));
}

#[test]
fn trust_must_be_the_same_on_both_sides() {
    let asked = Asked::of(Some(job()));
    let (trusting, plain) =
        (Expression::compile("claims != null", true).unwrap(), Expression::compile("object != null", false).unwrap());
    let mixed = Err("the expression and its environment disagree about trustClaims".to_owned());
    assert_eq!(trusting.holds(&Environment::new(&asked.facts(), false), &mut Budget::default()), mixed);
    assert_eq!(plain.holds(&Environment::new(&asked.facts(), true), &mut Budget::default()), mixed);
}

/// At admission the object is whole, in the controller it was trimmed to what policy needs.
#[test]
fn whole_and_trimmed_objects_look_the_same() {
    let trim = |object: &Value| {
        let part = |field: &str| object["metadata"].get(field).cloned().unwrap_or_default();
        json!({"apiVersion": object["apiVersion"], "kind": object["kind"], "spec": object["spec"], "metadata": {
            "name": part("name"), "namespace": part("namespace"), "labels": part("labels"), "annotations": part("annotations")}})
    };
    let bare =
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"generateName": "x-"}, "spec": {"a": [1, {}]}});
    let empty =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {}, "name": ""}, "spec": null, "x": 1});
    for object in [job(), bare, empty] {
        let (whole, trimmed) = (Asked::of(Some(object.clone())), Asked::of(Some(trim(&object))));
        for trust in [false, true] {
            let shown = |asked: &Asked| format!("{:?}", Environment::new(&asked.facts(), trust));
            assert_eq!(shown(&whole), shown(&trimmed), "{object}");
        }
        assert_eq!(
            whole.holds(r#"has(object.metadata.labels) && !("x" in object.metadata.annotations)"#, true),
            Ok(true)
        );
        assert_eq!(whole.holds(r#"object.metadata.namespace == "prod""#, false), Ok(true));
    }
}
