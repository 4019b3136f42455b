//! What does not compile, where, and what the message says.

use super::*;

fn refused(text: &str) -> (usize, usize, String) {
    let error = Expression::compile(text, false).map(|_| ()).expect_err(text);
    (error.line, error.column, error.problem)
}

#[test]
fn errors_say_where_and_what_there_is() {
    for (text, line, column, problem) in [
        ("", 1, 1, "it is not a CEL expression: mismatched input '<EOF>' expecting expression"),
        ("object.spec.x >", 1, 16, "it is not a CEL expression: mismatched input '<EOF>' expecting expression"),
        ("true true", 1, 6, "it is not a CEL expression: mismatched input 'true' expecting <EOF>"),
        ("'é' == 'é' é", 1, 12, "'é' has no meaning outside of quotes"),
        ("'é' == 'é' x", 1, 12, "it is not a CEL expression: mismatched input 'x' expecting <EOF>"),
        ("true &&\n  objekt != null", 2, 3, r#"there is no "objekt"; there is object, namespaceObject, request, time"#),
        ("'objekt' == objekt", 1, 13, r#"there is no "objekt"; there is object, namespaceObject, request, time"#),
        (".object != null", 1, 1, r#"there is no ".object"; there is object, namespaceObject, request, time"#),
        ("x", 1, 1, r#"there is no "x"; there is object, namespaceObject, request, time"#),
        ("[1].all(x, x > 0) && x > 0", 1, 22, r#"there is no "x"; there is object, namespaceObject, request, time"#),
        ("object.status.active == 0", 1, 8, r#"there is no field "status"; there is apiVersion, kind, metadata, spec"#),
        ("object.metadata.uid == ''", 1, 17, r#"there is no field "uid"; there is namespace"#),
        ("request.user == 'alice'", 1, 9, r#"there is no field "user"; there is userInfo, namespace"#),
        ("request.userInfo.name == 'alice'", 1, 18, r#"there is no field "name"; there is username, uid, groups"#),
        ("namespaceObject.labels.x == ''", 1, 17, r#"there is no field "labels"; there is metadata"#),
        ("time.hour == 1", 1, 6, r#"a timestamp has no fields, so no "hour""#),
        (
            "now() > time",
            1,
            1,
            r#"there is no function "now"; there is has, matches, bool, double, duration, dyn, int, size, string, timestamp, uint"#,
        ),
        (
            "'a'.lower() == 'a'",
            1,
            5,
            r#"there is no method "lower"; there is matches, contains, endsWith, size, startsWith, all, exists, exists_one, existsOne, filter, map, getHours …"#,
        ),
        ("size(object, object) == 1", 1, 1, "size() takes one argument"),
        ("'a'.contains('a', 'b')", 1, 5, "contains() takes 1 argument(s), not 2"),
        ("[1].all(x)", 1, 5, "all() takes a name and a condition, as in list.all(x, x > 1)"),
        ("[1].all(1, true)", 1, 9, "it is not a CEL expression: argument must be a simple name"),
        ("has(object)", 1, 5, "it is not a CEL expression: invalid argument to has() macro"),
        ("[1].all(time, true)", 1, 9, r#""time" is a variable; call the items otherwise"#),
        ("object.kind.matches(object.kind)", 1, 13, "the pattern of matches() must be written out as a string"),
        ("object.kind.matches('[')", 1, 13, "the pattern of matches() is wrong: error: unclosed character class"),
        (
            "object.kind.matches('(a{100}){100}')",
            1,
            13,
            "the pattern of matches() is too large; make it shorter, or use contains()",
        ),
        (
            "object.kind.matches('a(?=b)')",
            1,
            13,
            "the pattern of matches() is wrong: error: look-around, including look-ahead and look-behind, is not supported",
        ),
        (
            "time.getHours('Europe/Berlim') == 1",
            1,
            6,
            r#"there is no time zone "Europe/Berlim"; name one as Europe/Berlin or +02:00"#,
        ),
        (
            "time.getHours('+25:00') == 1",
            1,
            6,
            r#"there is no time zone "+25:00"; name one as Europe/Berlin or +02:00"#,
        ),
        ("time.getHours(object.kind) == 1", 1, 6, "the time zone of getHours() must be written out as a string"),
        ("'a'.getHours() == 1", 1, 5, "getHours() is for timestamps, not for a string"),
        ("timestamp('tomorrow') > time", 1, 1, r#""tomorrow" is not a timestamp such as "2026-01-31T00:00:00Z""#),
        ("time - duration('1 day') > time", 1, 8, r#""1 day" is not a duration such as "1h30m""#),
        ("b'a' == b'a'", 1, 1, "bytes are not supported; use a string"),
        ("object{a: 1} == 1", 1, 1, "messages cannot be made; make a map: {\"key\": value}"),
        ("object.?spec == 1", 1, 7, "it is not a CEL expression: unsupported syntax '.?'"),
        ("[?object] == []", 1, 2, "it is not a CEL expression: unsupported syntax '?'"),
        ("object.`spec` == 1", 1, 8, "'`' has no meaning outside of quotes"),
        ("(true", 1, 1, "'(' is never closed"),
        ("(true]", 1, 6, "']' closes nothing"),
        ("true)", 1, 5, "')' closes nothing"),
        ("'abc", 1, 1, "a string is never closed"),
        ("9223372036854775808 > 1", 1, 1, "it is not a CEL expression: invalid int literal"),
    ] {
        assert_eq!(refused(text), (line, column, problem.to_owned()), "{text}");
    }
}

#[test]
fn an_error_points_at_the_part_that_is_wrong_and_not_at_its_namesake() {
    for (text, line, column) in [
        (r#"namespaceObject.metadata.name == "prod" && object.metadata.name == "x""#, 1, 60),
        ("object.kind.matches('a') && object.kind.matches('[')", 1, 41),
        ("matches(object.kind, 'a') && matches(object.kind, '[')", 1, 30),
        ("[1].all(x, x > 0) && x > 0", 1, 22),
        ("[1].all(x, x > 0) && [1].all(time, true)", 1, 30),
        ("time.getHours() == 1 ||\n  time.getHours('x') == 1 ||\n  1 + 'a' == 2", 2, 8),
        ("time.getHours() == 1 ||\n  true &&\n  1 + 'a' == 2", 3, 5),
        ("time.getHours() == 1 ||\n\n  !1", 3, 4),
        ("'é€𝄞' == 'é' && (true ? 'é' + 1 : 'x') == 'é' // 'é' + 1", 1, 29),
        ("'é' == 'é' ||\n'é' == 'é' && objekt", 2, 15),
        ("has(object.spec) && has(object.status)", 1, 32),
        ("has(object.metadata.namespace) && has(object.metadata.metadata)", 1, 55),
        ("has(object.spec.x) && object['spec'].x == object['status'].x", 1, 49),
        ("object . spec == null && object . status == null", 1, 35),
        ("(((object.spec.a == 1))) && ((object.status.a == 1))", 1, 38),
        ("{'a': object.spec, 'b': objekt} == {}", 1, 25),
        ("timestamp('2026-01-01T00:00:00Z') < timestamp('2026')", 1, 37),
        ("true && (object.spec.a ? 1 : 2) && true", 1, 24),
    ] {
        let (l, c, problem) = refused(text);
        assert_eq!((l, c), (line, column), "{text}: {problem}");
    }
}

/// The parser gives the same numbers to the same nodes when it is asked where they stand.
#[test]
fn every_name_is_found_where_it_stands() {
    for text in [
        "object.spec.a == 1 && NAME",
        "[1, 2].map(x, x > 1, x + 1).exists(y, y == 1 || NAME)",
        "has(object.spec.a) ? {'a': [1]}['a'][0] == -1 : !NAME",
        "object.kind.matches('^a?b') || size(object.kind) > 1 && (NAME)",
        "true && true && true || [[1]].all(x, x.exists_one(y, NAME)) // NAME é",
        "'é' + \"é\" == '''é''' || r'\\' == 'x' || NAME in [time]",
    ] {
        let (before, after) = text.split_once("NAME").unwrap();
        let (line, column, problem) = refused(&format!("{before}nowhere{after}"));
        assert!(problem.starts_with("there is no \"nowhere\""), "{text}: {problem}");
        assert_eq!((line, column), (1, before.chars().count() + 1), "{text}");
    }
}

#[test]
fn what_can_be_seen_not_to_be_true_or_false_is_refused() {
    for (text, what) in [
        ("1", "an int"),
        ("'true'", "a string"),
        ("null", "null"),
        ("[true]", "a list"),
        ("{'a': true}", "a map"),
        ("1 + 2", "an int"),
        ("time", "a timestamp"),
        ("time - time", "a duration"),
        ("size(object.spec)", "an int"),
        ("object.spec.x.map(x, x)", "a list"),
        ("time.getHours()", "an int"),
        ("true ? 1 : 2", "an int"),
        ("-1.5", "a double"),
        ("string(object.kind)", "a string"),
        ("2u", "a uint"),
    ] {
        let problem = format!("an expression says true or false, but this is {what}; compare it with something");
        assert_eq!(refused(text), (1, 1, problem), "{text}");
    }
    for (text, problem) in [
        ("'a' && true", "&& needs true or false, not a string"),
        ("!1", "! needs true or false, not an int"),
        ("(1 ? true : false)", "?: needs true or false, not an int"),
        ("1 + 'a' == 2", "+ does not go with an int and a string"),
        ("[1].all(x, 'a')", "a macro's condition needs true or false, not a string"),
    ] {
        assert_eq!(refused(text).2, problem, "{text}");
    }
}

#[test]
fn what_never_goes_together_is_refused() {
    for (text, column, problem) in [
        ("time.getDayOfWeek() == '0'", 21, "== does not go with an int and a string, which are never the same"),
        ("[1] != {}", 5, "!= does not go with a list and a map, which are never the same"),
        ("time > '2026-01-01T00:00:00Z'", 6, "> does not go with a timestamp and a string"),
        ("time < duration('1h')", 6, "< does not go with a timestamp and a duration"),
        ("object.spec.a <= [1]", 15, "<= does not go with a list"),
        ("null >= object.spec.a", 6, ">= does not go with null"),
        ("'a' in 'abc'", 5, "in does not go with a string and a string; ask contains() of a string"),
        ("object.kind in 'Job'", 13, "in does not go with a string; ask contains() of a string"),
        ("[1] in {'a': 1}", 5, "in does not go with a list and a map"),
        ("-true", 1, "- does not go with a bool"),
        ("-(2u) == 1", 1, "- does not go with a uint"),
        ("'abc'[0] == 'a'", 6, "[] does not go with a string and an int"),
        ("[1][true] == 1", 4, "[] does not go with a list and a bool"),
        ("{'a': 1}[null] == 1", 9, "[] does not go with a map and null"),
        ("size(1) > 0", 6, "size() does not go with an int"),
        ("object.kind.contains(1)", 22, "contains() does not go with an int"),
        ("(1).matches('a')", 5, "matches() does not go with an int"),
        ("'abc'.all(x, true)", 7, "a macro does not go with a string"),
        ("int(null) == 1", 5, "int() does not go with null"),
        ("string([1]) == ''", 8, "string() does not go with a list"),
        ("bool(1)", 6, "bool() does not go with an int"),
    ] {
        assert_eq!(refused(text), (1, column, problem.to_owned()), "{text}");
    }
    for text in [
        "1 == 1.5 && 2u > 1 && 1 in [2.5]",
        "null == 1 || null != 'a' || object.spec.a == null",
        "object.spec.a == '1' || object.spec.a < 'x' || object.spec.a in object.spec.b",
        "dyn(1) == '1' || dyn('a') in dyn('abc') || -dyn(true) == 1",
        "time > timestamp('2026-01-01T00:00:00Z') && time - time < duration('1h')",
        "'a' < 'b' && true > false && 1 in {1: 2} && [1] == [2] && {} == {}",
    ] {
        assert!(Expression::compile(text, false).is_ok(), "{text}");
    }
}

#[test]
fn what_is_too_costly_whatever_it_is_asked_about_is_refused() {
    let list = vec!["1"; 180].join(",");
    let problem = |why| format!("it is too costly without any object: {why}; make it simpler");
    let nested = format!("  [{list}].all(a, [{list}].all(b, a + b > 0))");
    assert_eq!(refused(&nested), (1, 3, problem("it takes too many steps")));
    assert_eq!(refused(&format!("object == null || {nested}")), (1, 1, problem("it takes too many steps")));
    let text = "a".repeat(500);
    let long = format!("['{text}'].map(a, {0}).map(a, {0}).map(a, {0}).map(a, {0}).size() == 1", "a+a+a+a+a+a+a+a+a+a");
    assert_eq!(refused(&long), (1, 1, problem("it makes too long a string or list")));
    let single =
        format!("[{list}].all(a, a > 0) && object.spec.containers.all(c, object.spec.containers.all(d, c == d))");
    assert!(Expression::compile(&single, false).is_ok(), "what an object may cost shows with the object");
}

#[test]
fn a_pattern_means_what_it_means_in_re2_or_is_refused() {
    let of = |pattern: &str| Expression::compile(&format!("object.kind.matches(r'{pattern}')"), false);
    let literal = |what: &str| format!("{what} in a class is not taken; write \\ before what is a character");
    for (pattern, said) in [
        (r"[.-\w]+", literal("\"-\" before another class")),
        (r"[a-[:digit:]]", literal("\"-\" before another class")),
        (r"[a-\pL]", literal("\"-\" before another class")),
        ("[a&&b]", literal("\"&&\"")),
        ("[a--b]", literal("\"--\"")),
        ("[--b]", literal("\"--\"")),
        ("[a~~b]", literal("\"~~\"")),
        ("[a[bc]d]", literal("\"[\"")),
        ("[[:none:]]", literal("\"[\"")),
        ("[[:alpha]]", literal("\"[\"")),
        ("[]a]", literal("\"]\" at the beginning")),
        ("[^]a]", literal("\"]\" at the beginning")),
        (r"a\Bb", r"\B is not taken; only \b is a boundary of words".into()),
        (r"\<a", r"\< is not taken; only \b is a boundary of words".into()),
        ("[a", "error: unclosed character class".into()),
    ] {
        let error = of(pattern).map(|_| ()).expect_err(pattern);
        assert_eq!(error.problem, format!("the pattern of matches() is wrong: {said}"), "{pattern}");
    }
    let asked = Asked::of(None);
    for (text, pattern, expected) in [
        ("-a.b", r"^[-.\w]+$", true),
        ("-a.b", r"^[\w.-]+$", true),
        ("é", r"^[^\w]$", true),
        ("&~", r"^[&~]+$", true),
        ("a&&b", r"^[a&b]+$", true),
        ("[]", r"^[\[\]]+$", true),
        ("a-b", r"^[a\-b]+$", true),
        ("a1", r"^[[:alpha:][:^alpha:]]+$", true),
        ("é", r"^[[:alpha:]]$", false),
        ("٣", r"^[\d]$", false),
        ("a b", r"\ba\b", true),
        ("éa", r"\ba\b", true),
    ] {
        let text = format!("'{text}'.matches(r'{pattern}')");
        assert_eq!(asked.holds(&text, false), Ok(expected), "{text}");
    }
}

#[test]
fn time_zones_are_built_in() {
    for zone in [
        "UTC",
        "Europe/Berlin",
        "America/Los_Angeles",
        "Asia/Kathmandu",
        "Pacific/Chatham",
        "+00:00",
        "-11:30",
        "05:45",
    ] {
        assert!(Expression::compile(&format!("time.getHours('{zone}') < 24"), false).is_ok(), "{zone}");
    }
    for zone in ["", "Local", "Berlin", "+2:00", "+02:60", "+24:00", "02:00:00", "+-2:00", "/etc/localtime", "../UTC"] {
        assert!(Expression::compile(&format!("time.getHours('{zone}') < 24"), false).is_err(), "{zone}");
    }
}
