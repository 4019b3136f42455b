//! No text and no object costs much.

use super::*;
use proptest::prelude::*;
use std::time::{Duration, Instant};

/// Ample for a slow machine under load; each of these takes some milliseconds.
const SOON: Duration = Duration::from_secs(1);

fn soon<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = work();
    assert!(started.elapsed() < SOON, "{what} took {:?}", started.elapsed());
    result
}

fn refusal(text: &str) -> String {
    soon(text, || Expression::compile(text, false)).map(|_| ()).expect_err(text).problem
}

fn many(before: &str, middle: &str, after: &str, times: usize) -> String {
    before.repeat(times) + middle + &after.repeat(times)
}

#[test]
fn text_is_bounded_before_it_is_parsed() {
    assert_eq!(refusal(&" ".repeat(1025)), "at most 1024 characters are allowed");
    assert!(Expression::compile(&format!("'{}' != ''", "é".repeat(1016)), false).is_ok(), "characters, not bytes");
    for (before, middle, after) in [("(", "true", ")"), ("[", "1", "]"), ("{1: ", "1", "}"), ("size(", "1", ")")] {
        assert_eq!(refusal(&many(before, middle, after, 17)), "at most 16 brackets may be nested", "{before}");
    }
    assert!(Expression::compile(&many("(", "true", ")", 16), false).is_ok());
    assert_eq!(refusal(&many("true ? true : ", "true", "", 17)), "at most 16 choices (?:) are allowed");
    assert!(Expression::compile(&many("true ? true : ", "true", "", 16), false).is_ok());
    // Brackets in strings and comments are none.
    assert!(Expression::compile(&format!("'{0}' == \"{0}\" // {0}", "(".repeat(300)), false).is_ok());
    for hidden in [r#"'\'' == "#, r#"r'\' == "#, r#""""""" == "#, "'' == '''''' || ", "\"'\" == '\"' || // '\n"] {
        assert_eq!(
            refusal(&format!("{hidden}{}", many("(", "1", ")", 17))),
            "at most 16 brackets may be nested",
            "{hidden}"
        );
    }
}

#[test]
fn trees_macros_and_patterns_are_bounded() {
    let deep = "at most 64 operators, fields and calls may be nested";
    for text in [
        format!("object.spec{} == 1", ".a".repeat(70)),
        format!("{}1 > 0", "1 + ".repeat(70)),
        format!("{}time.getHours() > 0", "-!".repeat(70)),
        format!("object.spec{} == 1", "[0]".repeat(70)),
    ] {
        assert_eq!(refusal(&text), deep, "{text}");
    }
    assert!(Expression::compile(&format!("object.spec{} == 1", ".a".repeat(50)), false).is_ok());
    let nested = "[1].all(a, [a].all(b, [b].all(c, true)))";
    assert_eq!(refusal(nested), "at most 2 macros (all, exists, map …) may be nested");
    let chained = format!("[1]{}.size() == 1", ".map(a, a)".repeat(9));
    assert_eq!(refusal(&chained), "at most 8 macros (all, exists, map …) are allowed");
    let patterns = ["object.kind.matches('a')"; 5].join(" || ");
    assert_eq!(refusal(&patterns), "at most 4 patterns are allowed");
}

/// What is short and yet hard for one parser or another.
#[test]
fn hard_texts_are_refused_or_compiled_soon() {
    let hard = [
        many("(", "a", ")", 500),
        many("((a)+", "a", ")", 170),
        "(".repeat(1024),
        "[".repeat(1024),
        "{".repeat(1024),
        many("f(", "a", ")", 300),
        many("!-", "1", "", 500),
        many("-!", "a", "", 500),
        "!".repeat(1024),
        "a?b:".repeat(256),
        many("a?", "b", ":c", 250),
        many("a", "", ".a", 500),
        many("a+", "a", "", 500),
        many("a||", "a", "", 300),
        many("a&&b||", "a", "", 150),
        many("a<", "a", "", 500),
        format!("a{}", ".f()".repeat(250)),
        format!("a{}", ".map(b,b)".repeat(110)),
        many("a.all(b,", "b", ")", 90),
        many("a[", "0", "]", 300),
        many("a{a:", "a", "}", 200),
        "a b ".repeat(256),
        "'".repeat(1023),
        "\"\"\"".repeat(341),
        "+".repeat(1024),
        "(a?b[c{d:[-!".repeat(80),
        "r'".repeat(512),
        "1.".repeat(512),
        "0x".repeat(512),
        "1e".repeat(512),
        "\u{0}".repeat(1024),
        "é".repeat(1024),
        ".".repeat(1024),
        "//".repeat(512),
        format!("object.kind.matches('{}')", "(a*)*".repeat(190)),
        format!("object.kind.matches('{}')", "a{1,1000}".repeat(100)),
        format!("object.kind.matches('{}a{}')", "(".repeat(480), ")*".repeat(240)),
        format!("object.kind.matches(r'{}')", r"\pL".repeat(300)),
        format!("object.kind.matches('{}')", "[a-z&&[^b]]".repeat(80)),
        format!("object.kind.matches('(?i){}')", "k".repeat(900)),
        format!("[{}] == []", "[],".repeat(330)),
        format!("{{{}}} == {{}}", "1:1,".repeat(250)),
        ["time.getHours('Europe/Berlin')"; 30].join("+") + ">1",
    ];
    for text in hard {
        let text: String = text.chars().take(1024).collect();
        drop(soon(&text, || Expression::compile(&text, true)));
    }
}

/// An object of some 1.5 MB, as large as the API server takes.
fn huge() -> Asked {
    let containers: Vec<Value> = (0..2_000).map(|i| json!({"name": format!("c{i}"), "image": "a".repeat(200), "env": [{"name": "A", "value": "b".repeat(100)}]})).collect();
    let numbers: Vec<Value> = (0..100_000).map(Value::from).collect();
    let keys: serde_json::Map<String, Value> = (0..20_000).map(|i| (format!("k{i}"), json!(i))).collect();
    let deep = (0..120).fold(json!(1), |inner, _| json!([inner]));
    Asked::of(Some(
        json!({"kind": "Job", "spec": {"containers": containers, "numbers": numbers, "keys": keys, "deep": deep,
        "text": "ab".repeat(200_000)}}),
    ))
}

#[test]
fn hostile_objects_cost_no_more_than_the_budget() {
    let asked = huge();
    let (steps, memory) = (
        "too costly for this object: it takes too many steps",
        "too costly for this object: it makes too long a string or list",
    );
    for (text, reason) in [
        ("object.spec.numbers.all(n, object.spec.numbers.all(m, n + m >= 0))", steps),
        (
            "object.spec.numbers.map(n, object.spec.numbers).size() > 0 && object.spec.numbers.all(n, n in object.spec.numbers)",
            steps,
        ),
        ("object.spec.numbers.map(n, n).map(n, n) == object.spec.numbers", memory),
        ("object.spec.keys.all(k, object.spec.keys.exists(l, l > k))", steps),
        ("object.spec.keys.all(k, {'a': k, 'b': k, 'c': k}.size() == 3)", steps),
        ("object.spec.numbers == object.spec.numbers && object.spec.containers == object.spec.containers", steps),
        ("[object.spec.text].exists(t, object.spec.numbers.exists(n, t.contains('c')))", steps),
        ("[object.spec.text].exists(t, object.spec.numbers.exists(n, t.size() == n))", steps),
        ("[object.spec.text].exists(t, object.spec.numbers.exists(n, t == t + 'x'))", memory),
        ("object.spec.text.matches('(a|b)*c')", steps),
        (
            "object.spec.text + object.spec.text + object.spec.text + object.spec.text + object.spec.text + object.spec.text == ''",
            memory,
        ),
        ("[1,2,3,4,5,6,7,8,9].map(a, object.spec.text + 'x').size() == 1", memory),
        ("object.spec.containers.all(c, object.spec.containers.all(d, c.image == d.image))", steps),
        (
            "object.spec.deep == object.spec.deep",
            "too costly for this object: it compares values that are nested too deeply",
        ),
        // An operand that decides makes up for errors, not for costs.
        ("object.spec.numbers.all(n, object.spec.numbers.all(m, n + m >= 0)) || true", steps),
        ("object.spec.numbers.all(n, object.spec.numbers.all(m, n + m >= 0)) && false", steps),
        ("[1].exists(a, object.spec.numbers == object.spec.numbers || true)", steps),
    ] {
        assert_eq!(soon(text, || asked.holds(text, false)), Err(reason.to_owned()), "{text}");
    }
    for text in [
        "object.spec.containers.all(c, c.image.startsWith('aaa') && c.name != '')",
        "object.spec.containers.all(c, c.env.all(e, !e.value.contains('secret')))",
        "object.spec.numbers[99999] == 99999 && object.spec.keys['k7'] == 7 && size(object.spec.text) == 400000",
        "!object.spec.text.contains('c') && 'k19999' in object.spec.keys",
    ] {
        assert_eq!(soon(text, || asked.holds(text, false)), Ok(true), "{text}");
    }
}

/// Keys that are the same up to their last byte.
#[test]
fn long_keys_are_paid_for_by_each_comparison() {
    let keys: Vec<String> = ('a'..='i').map(|end| format!("{}{end}", "k".repeat(100_000))).collect();
    let entries: serde_json::Map<String, Value> = keys.iter().map(|key| (key.clone(), json!(1))).collect();
    let asked = Asked::of(Some(json!({"kind": "Job", "spec": {"keys": keys, "map": entries.clone(), "same": entries,
        "numbers": (0..10_000).collect::<Vec<i32>>()}})));
    let literal = (0..9).map(|i| format!("object.spec.keys[{i}]: 1")).collect::<Vec<_>>().join(", ");
    for each in [
        format!("{{{literal}}}.size() == 9"),
        "object.spec.keys[8] in object.spec.map".into(),
        "object.spec.map[object.spec.keys[8]] == 1".into(),
        "object.spec.map == object.spec.same".into(),
        format!("{{{literal}}}[object.spec.keys[8]] == 1"),
    ] {
        let text = format!("object.spec.numbers.all(n, {each})");
        let expected = Err("too costly for this object: it takes too many steps".to_owned());
        assert_eq!(soon(&text, || asked.holds(&text, false)), expected, "{text}");
    }
    assert_eq!(asked.holds("object.spec.keys[8] in object.spec.map", false), Ok(true));
}

#[test]
fn making_an_environment_copies_nothing() {
    let asked = huge();
    soon("a thousand environments", || (0..1_000).for_each(|_| drop(Environment::new(&asked.facts(), true))));
}

/// JSON of any form.
fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        "(a|b|name|spec|image)".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec(("(a|b|name|spec|metadata|labels|kind|items)", inner), 0..6)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

/// Tokens of CEL in any order: most do not compile, and those that do go anywhere.
fn garbage() -> impl Strategy<Value = String> {
    let tokens = vec![
        "object",
        "request",
        "time",
        "claims",
        "namespaceObject",
        ".spec",
        ".metadata",
        ".labels",
        ".a",
        ".b",
        "[0]",
        "['a']",
        "x",
        "1",
        "2u",
        "1.5",
        "'a'",
        "\"b\"",
        "true",
        "null",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ":",
        ",",
        "?",
        "&&",
        "||",
        "!",
        "-",
        "+",
        "*",
        "/",
        "%",
        "==",
        "!=",
        "<",
        ">=",
        " in ",
        ".size()",
        ".contains(",
        ".matches('a')",
        ".all(x,",
        ".exists(x,",
        ".map(x,",
        ".filter(x,",
        "has(",
        "size(",
        "int(",
        "string(",
        "timestamp(",
        ".getHours()",
        "'\\",
        "'''",
        "r'",
        "//",
        "\n",
        "é",
        "`",
        "@result",
        "duration('1h')",
        ".name",
        ".image",
        "..",
        "0x",
    ];
    prop::collection::vec(prop::sample::select(tokens), 0..40).prop_map(|tokens| tokens.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn compiling_is_total(text in ".{0,1100}", garbage in garbage(), trust in any::<bool>()) {
        for text in [text, garbage] {
            let compiled = soon(&text, || Expression::compile(&text, trust));
            if let Err(error) = compiled {
                prop_assert!(error.line >= 1 && error.column >= 1 && error.problem.chars().count() <= 200);
                prop_assert!(error.line <= text.lines().count().max(1) + 1, "{}", error);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn evaluating_is_total(object in json_value(), claims in json_value(), garbage in prop::collection::vec(garbage(), 8)) {
        let asked = Asked { claims, ..Asked::of(Some(object)) };
        let environment = Environment::new(&asked.facts(), true);
        let fixed = [
            "object.spec.a == claims.b", "object.spec.exists(x, x == claims)", "claims.all(x, claims.exists(y, x == y))", "claims.map(x, string(x)) == [object.kind]",
            "claims + claims == claims", "-claims < claims * claims", "object.metadata.labels.all(k, object.metadata.labels[k].size() > 0)", "int(claims) == uint(claims)",
            "timestamp(claims) - time == duration(claims)", "{claims: 1}[claims] == 1", "[claims][claims] in claims", "claims.getHours() == 1 ? claims : !claims",
        ];
        for text in garbage.iter().map(String::as_str).chain(fixed) {
            if let Ok(expression) = Expression::compile(text, true)
                && let Err(reason) = soon(text, || expression.holds(&environment, &mut Budget::default()))
            {
                prop_assert!(reason.chars().count() <= 200 && !reason.is_empty());
            }
        }
    }
}
