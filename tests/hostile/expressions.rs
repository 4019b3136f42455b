//! Expressions: words in any order, and what asks for more than it may.

use crate::cost::within;
use crate::limits::{EXPRESSION, config};
use crate::spoil::spoilt_value;
use crate::world;
use countersign::api::Requester;
use countersign::policy::{Budget, Environment, Expression, Facts};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const WHOLE: [&str; 12] = [
    "object.spec.template.spec.containers.all(c, c.image.matches('^(reg|x)+[a-z.]*/.*$'))",
    "object.spec.template.spec.containers.exists(c, c.env.exists(e, has(e.value) && e.value.contains('z')))",
    "claims.riskTags.map(t, t + 'x').filter(t, t.size() > 3).size() == 2",
    "request.userInfo.groups.exists_one(g, g in ['sre', 'ops']) && request.namespace == 'payments'",
    "time.getHours('Europe/Berlin') >= 8 ? time.getDayOfWeek() in [1, 2, 3] : false",
    "int(object.spec.parallelism) * 2 - 1 < 10 || -object.spec.backoffLimit == -3",
    "object.metadata.?labels.?app.orValue('') == 'x'",
    "{'a': 1, 'b': [1, 2u, 3.5]}['a'] == 1 && timestamp('2026-01-01T00:00:00Z') < time",
    "duration('1h') > duration('1m') && string(1.5) == '1.5' && \"a\".startsWith(r'a')",
    "namespaceObject.metadata.labels['env'] == 'prod'",
    "object.spec.template.spec.volumes.all(v, !has(v.hostPath)) || object.kind != 'Job'",
    "[1, 2, 3].all(a, [4, 5, 6].exists(b, a < b)) && [[1], [2]].map(l, l[0]) == [1, 2]",
];

const PIECES: [&str; 40] = [
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "?",
    ".",
    "..",
    "&&",
    "||",
    "!",
    "-",
    "==",
    "<",
    " in ",
    "+",
    "*",
    "/",
    "%",
    "'",
    "\"",
    "'''",
    "r'",
    "\\",
    "0",
    "1e308",
    "9223372036854775807",
    "18446744073709551615u",
    "0x",
    "null",
    "object",
    "x",
    ".all(x,",
    ".map(x,",
    ".matches('(a*)*')",
    "has(",
    "\u{202e}",
];

/// One of those expressions, with pieces put in and parts taken out.
fn spoilt_expression() -> impl Strategy<Value = String> {
    let change = (any::<prop::sample::Index>(), 0..12usize, select(PIECES.to_vec()), 1..60usize);
    (select(WHOLE.to_vec()), vec(change, 0..5)).prop_map(|(text, changes)| {
        changes.into_iter().fold(text.to_string(), |text, (at, gone, piece, times)| {
            let letters: Vec<char> = text.chars().collect();
            let at = at.index(letters.len() + 1);
            let (before, after) = (&letters[..at], &letters[(at + gone).min(letters.len())..]);
            let times = if times > 50 { times * 20 } else { 1 + times / 30 };
            [&before.iter().collect::<String>(), &piece.repeat(times), &after.iter().collect::<String>()]
                .map(String::as_str)
                .concat()
        })
    })
}

#[test]
fn a_spoilt_expression_says_yes_no_or_why_not_within_its_limit() {
    let objects = vec![world::job(), world::pod()];
    let compiled = std::cell::Cell::new(0);
    TestRunner::new(config(3_000))
        .run(&(spoilt_expression(), spoilt_value(objects), any::<bool>()), |(text, object, trust)| {
            let claims = world::request()["spec"].clone();
            let labels = BTreeMap::from([("env".to_string(), "prod".to_string())]);
            let facts = facts(&claims, &labels, &object);
            let said = within(&EXPRESSION, 0, || {
                let expression = Expression::compile(&text, trust).map_err(|error| error.to_string())?;
                compiled.set(compiled.get() + 1);
                let environment = Environment::new(&facts, trust);
                let first = expression.holds(&environment, &mut Budget::default());
                assert_eq!(expression.holds(&environment, &mut Budget::default()), first, "the same each time");
                first
            });
            prop_assert!(said.is_ok() || said.is_err_and(|why| !why.is_empty() && why.chars().count() <= 240));
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(compiled.get() > 300, "only {} compiled", compiled.get());
}

/// Each asks for as much as it can, of an object that holds as much as is stored.
#[test]
fn the_costliest_expressions_end_within_their_limit() {
    let object = json!({"kind": "Job", "spec": {
        "numbers": (0..200_000).collect::<Vec<u32>>(), "text": "ab".repeat(400_000), "empty": vec![""; 100_000],
        "keys": (0..30_000).map(|i| (format!("k{i:06}"), Value::from(i))).collect::<serde_json::Map<_, _>>(),
        "near": vec!["a".repeat(30_000) + "b"; 20]}});
    let (claims, labels) = (Value::Null, BTreeMap::new());
    let facts = facts(&claims, &labels, &object);
    let environment = Environment::new(&facts, false);
    for text in [
        "object.spec.numbers.all(a, object.spec.numbers.all(b, a + b >= 0))",
        "object.spec.numbers.map(a, object.spec.numbers.map(b, [a, b])).size() > 0",
        "object.spec.numbers.filter(a, a >= 0).map(a, string(a)).filter(t, t.contains('9')).size() > 0",
        "object.spec.near.exists(t, t.matches('(a|a|a|a|a|aa)*c'))",
        "object.spec.near.exists(t, t.matches('(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*)[^ab]$'))",
        "object.spec.text.matches('([ab]{0,50}){0,50}c')",
        "object.spec.empty.exists(t, object.spec.text.contains(t + 'abc'))",
        "object.spec.keys.all(k, object.spec.keys.exists(l, k == l))",
        "object.spec.keys == object.spec.keys || object.spec.numbers == object.spec.numbers",
        "object.spec.numbers.map(n, object.spec.text).map(t, t + t).size() > 0",
        "object.spec.numbers.map(n, {'a': [object.spec.numbers, n], 'b': {'c': n}}).size() > 0",
        "[object.spec, object.spec, object.spec].all(a, [object.spec, object.spec].exists(b, a != b))",
        "object.spec.numbers.exists(n, 'abababab' in object.spec.empty)",
        "(object.spec.text + object.spec.text).size() + (object.spec.text + 'x').size() > 0",
    ] {
        let said = within(&EXPRESSION, 0, || {
            let expression = Expression::compile(text, false).map_err(|error| error.to_string())?;
            expression.holds(&environment, &mut Budget::default())
        });
        let why = said.expect_err(text);
        assert!(why.contains("too costly") || why.contains("pattern") || why.contains("too large"), "{text}: {why}");
    }
}

fn facts<'a>(claims: &'a Value, labels: &'a BTreeMap<String, String>, object: &'a Value) -> Facts<'a> {
    const NOBODY: &Requester = &Requester::NOBODY;
    Facts {
        requested_by: "workflow.triage",
        declared_tags: &[],
        claims,
        derived_tags: &[],
        requester: NOBODY,
        namespace: "payments",
        namespace_labels: labels,
        object: Some(object),
        asked: world::now(),
    }
}
