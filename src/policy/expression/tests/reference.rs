//! The crate's own interpreter as a reference: where it has an answer, ours is the same; where it has none, nor have we.

use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

fn reference(value: &Value) -> cel::Value {
    match value {
        Value::Null => cel::Value::Null,
        Value::Bool(b) => cel::Value::Bool(*b),
        Value::Number(n) => n.as_i64().map_or_else(|| cel::Value::Float(n.as_f64().unwrap()), cel::Value::Int),
        Value::String(s) => s.as_str().into(),
        Value::Array(items) => items.iter().map(reference).collect::<Vec<_>>().into(),
        Value::Object(entries) => {
            entries.iter().map(|(k, v)| (k.clone(), reference(v))).collect::<HashMap<_, _>>().into()
        }
    }
}

/// What the crate says of the same; none where it fails, or does not compile.
fn theirs(text: &str, asked: &Asked) -> Option<bool> {
    let mut context = cel::Context::default();
    context.add_variable_from_value("claims", reference(&asked.claims));
    let time: cel::Value =
        cel::Program::compile(&format!("timestamp('{}')", asked.asked)).ok()?.execute(&context).ok()?;
    context.add_variable_from_value("time", time);
    match cel::Program::compile(text).ok()?.execute(&context).ok()? {
        cel::Value::Bool(b) => Some(b),
        _ => None,
    }
}

/// What we say of it; none where it does not compile, as what can be seen to fail does not.
fn ours(text: &str, asked: &Asked) -> Option<Result<bool, String>> {
    let expression = Expression::compile(text, true).ok()?;
    Some(expression.holds(&Environment::new(&asked.facts(), true), &mut Budget::default()))
}

/// Values of all kinds, and operations on them, few of which go together.
fn any_expression() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "claims",
        "claims.a",
        "claims.b",
        "claims.list",
        "claims.list[0]",
        "claims.map",
        "claims.map.a",
        "claims.text",
        "0",
        "1",
        "-1",
        "7",
        "2u",
        "1.5",
        "1.0",
        "true",
        "false",
        "null",
        "'a'",
        "'ab'",
        "''",
        "[1, 2]",
        "['a']",
        "[]",
        "{'a': 1}",
        "{}",
        "time",
        "duration('90s')",
        "timestamp('2026-03-29T00:00:00Z')",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(3, 12, 3, |inner| {
        let two = (inner.clone(), inner.clone());
        let infix =
            prop::sample::select(vec!["+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "&&", "||", "in"]);
        let methods = vec![
            ".size()",
            ".getHours('Europe/Berlin')",
            ".getDayOfYear()",
            ".getMinutes()",
            ".getDate('-11:00')",
            ".matches('^a?b*$')",
            ".a",
            "[0]",
            "['a']",
        ];
        let globals = vec!["size", "int", "double", "string", "uint", "bool", "!", "-", "timestamp", "duration"];
        prop_oneof![
            (two.clone(), infix).prop_map(|((a, b), sign)| format!("({a} {sign} {b})")),
            (inner.clone(), prop::sample::select(methods)).prop_map(|(a, method)| format!("{a}{method}")),
            (inner.clone(), prop::sample::select(globals)).prop_map(|(a, global)| format!("{global}({a})")),
            (two.clone(), prop::sample::select(vec!["contains", "startsWith", "endsWith"]))
                .prop_map(|((a, b), f)| format!("{a}.{f}({b})")),
            (two.clone(), prop::sample::select(vec!["all", "exists", "exists_one", "map", "filter"]))
                .prop_map(|((a, b), f)| format!("{a}.{f}(x, {b} == x)")),
            (two, inner.clone()).prop_map(|((a, b), c)| format!("({a} ? {b} : {c})")),
            inner.prop_map(|a| format!("has({a}.a)")),
        ]
    })
}

type Text = BoxedStrategy<String>;

fn leaves(of: &'static [&'static str]) -> Text {
    prop::sample::select(of).prop_map(str::to_owned).boxed()
}

/// An expression that is true or false, or fails: of truths, numbers, strings and lists that do go together. `x` and `y` are
/// there within as many macros.
fn truth(depth: u32, macros: usize) -> Text {
    let leaf = leaves(&[
        "true",
        "false",
        "has(claims.map.a)",
        "has(claims.map.b)",
        "claims.yes",
        "claims.a == claims.b",
        "claims.a == claims.list",
    ]);
    if depth == 0 {
        return leaf;
    }
    let below = depth - 1;
    let (truths, numbers, texts, lists) =
        (truth(below, macros), number(below, macros), text(below, macros), list(below, macros));
    let order = || leaves(&["==", "!=", "<", "<=", ">", ">="]);
    let mut ways = vec![
        leaf,
        (truths.clone(), leaves(&["&&", "||", "=="]), truths.clone())
            .prop_map(|(a, s, b)| format!("({a} {s} {b})"))
            .boxed(),
        truths.prop_map(|a| format!("!({a})")).boxed(),
        (numbers.clone(), order(), numbers.clone()).prop_map(|(a, s, b)| format!("({a} {s} {b})")).boxed(),
        (texts.clone(), order(), texts.clone()).prop_map(|(a, s, b)| format!("({a} {s} {b})")).boxed(),
        (texts.clone(), leaves(&["contains", "startsWith", "endsWith"]), texts.clone())
            .prop_map(|(a, f, b)| format!("{a}.{f}({b})"))
            .boxed(),
        texts.prop_map(|a| format!("{a}.matches('^[ab]?b*$')")).boxed(),
        (numbers, lists.clone()).prop_map(|(a, b)| format!("({a} in {b})")).boxed(),
        (lists.clone(), leaves(&["==", "!="]), lists).prop_map(|(a, s, b)| format!("({a} {s} {b})")).boxed(),
    ];
    if macros < 2 {
        let every = (list(below, macros), leaves(&["all", "exists", "exists_one"]), truth(below, macros + 1));
        ways.push(every.prop_map(move |(over, f, test)| format!("{over}.{f}({}, {test})", ["x", "y"][macros])).boxed());
    }
    prop::strategy::Union::new(ways).boxed()
}

fn number(depth: u32, macros: usize) -> Text {
    let leaf = match macros {
        0 => leaves(&[
            "0",
            "1",
            "-1",
            "2u",
            "1.5",
            "claims.n",
            "claims.list[0]",
            "time.getHours('Europe/Berlin')",
            "9223372036854775807",
        ]),
        1 => leaves(&["x", "2", "0", "claims.n"]),
        _ => leaves(&["x", "y", "1"]),
    };
    if depth == 0 {
        return leaf;
    }
    let numbers = number(depth - 1, macros);
    prop_oneof![
        leaf,
        (numbers.clone(), leaves(&["+", "-", "*", "/", "%"]), numbers.clone())
            .prop_map(|(a, s, b)| format!("({a} {s} {b})")),
        (numbers.clone(), leaves(&["int", "double", "-"])).prop_map(|(a, f)| format!("{f}({a})")),
        text(depth - 1, macros).prop_map(|a| format!("size({a})")),
        list(depth - 1, macros).prop_map(|a| format!("{a}.size()")),
        (truth(depth - 1, macros), numbers.clone(), numbers).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
    ]
    .boxed()
}

fn text(depth: u32, macros: usize) -> Text {
    let leaf = leaves(&["'a'", "'ab'", "''", "'b'", "claims.text", "claims['text']"]);
    if depth == 0 {
        return leaf;
    }
    let texts = text(depth - 1, macros);
    let joined = (texts.clone(), texts).prop_map(|(a, b)| format!("({a} + {b})"));
    prop_oneof![leaf, joined, number(0, macros).prop_map(|a| format!("string(int({a}))"))].boxed()
}

fn list(depth: u32, macros: usize) -> Text {
    let leaf = leaves(&["claims.list", "[1, 2]", "[]", "[1.0, 2, 3u]", "claims.none"]);
    if depth == 0 {
        return leaf;
    }
    let (lists, numbers) = (list(depth - 1, macros), number(depth - 1, macros));
    let mut ways = vec![
        leaf,
        (lists.clone(), lists.clone()).prop_map(|(a, b)| format!("({a} + {b})")).boxed(),
        (numbers.clone(), numbers).prop_map(|(a, b)| format!("[{a}, {b}]")).boxed(),
    ];
    if macros < 2 {
        let name = ["x", "y"][macros];
        let mapped = (lists.clone(), number(depth - 1, macros + 1));
        ways.push(mapped.prop_map(move |(over, result)| format!("{over}.map({name}, {result})")).boxed());
        let kept = (lists, truth(depth - 1, macros + 1));
        ways.push(kept.prop_map(move |(over, test)| format!("{over}.filter({name}, {test})")).boxed());
    }
    prop::strategy::Union::new(ways).boxed()
}

fn claims() -> impl Strategy<Value = Value> {
    let leaf = prop::sample::select(vec![
        json!(null),
        json!(true),
        json!(0),
        json!(1),
        json!(-3),
        json!(1.5),
        json!("a"),
        json!("ab"),
        json!("b"),
        json!("12"),
        json!("2026-03-28T23:30:15Z"),
        json!("1h"),
    ]);
    let numbers = prop::collection::vec(-2_i64..5, 0..4);
    (leaf.clone(), leaf.clone(), numbers, leaf, "[abä]{0,4}", -3_i64..10, any::<bool>()).prop_map(
        |(a, b, list, inner, text, n, yes)| json!({"a": a, "b": b, "list": list, "map": {"a": inner}, "text": text, "n": n, "yes": yes}),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn answers_are_those_of_the_reference(text in prop_oneof![1 => any_expression(), 2 => truth(3, 0)], claims in claims()) {
        // The reference rounds whole numbers before it compares them with doubles; ours does not, as its own tests show.
        prop_assume!(!(text.contains("9223372036854775807") && text.contains("double")));
        let asked = Asked { claims, ..Asked::of(None) };
        if let Some(ours) = ours(&text, &asked) {
            prop_assert_eq!(ours.ok(), theirs(&text, &asked), "{}", text);
        }
    }
}

/// That the property above compares something.
#[test]
fn the_reference_answers() {
    let asked = Asked::of(None);
    for text in [
        "claims.riskTags.all(x, x == 'write')",
        "time.getHours('Europe/Berlin') == 0",
        "claims.reason.matches('4711$')",
    ] {
        assert_eq!((theirs(text, &asked), ours(text, &asked)), (Some(true), Some(Ok(true))), "{text}");
    }
}
