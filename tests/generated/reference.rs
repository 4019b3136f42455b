//! docs/reference: a page for each kind of the API, from the schema of its CRD.

use anyhow::{Context, Result};
use serde_json::Value;
use std::fmt::Write;

/// Each page as (path, text), one for each CRD.
pub fn pages(crds: &[Value]) -> Result<Vec<(String, String)>> {
    crds.iter().map(|crd| Ok((format!("docs/reference/{}.md", names(crd, "singular")?), page(crd)?))).collect()
}

fn names<'a>(crd: &'a Value, name: &str) -> Result<&'a str> {
    crd["spec"]["names"][name].as_str().with_context(|| format!("spec.names.{name}"))
}

fn page(crd: &Value) -> Result<String> {
    let version = &crd["spec"]["versions"][0];
    let schema = &version["schema"]["openAPIV3Schema"];
    let mut page = String::from("<!-- Generated from the Rust types in src/api. Do not edit. -->\n\n");
    let kind = names(crd, "kind")?;
    writeln!(page, "# {kind}\n\n{}\n", prose(schema))?;
    writeln!(page, "| | |\n|---|---|")?;
    let group = crd["spec"]["group"].as_str().context("group")?;
    writeln!(page, "| apiVersion | `{group}/{}` |", version["name"].as_str().context("version")?)?;
    writeln!(page, "| kind | `{kind}` |")?;
    writeln!(page, "| scope | {} |", crd["spec"]["scope"].as_str().context("scope")?)?;
    let short = crd["spec"]["names"]["shortNames"].as_array().context("short names")?;
    let short: Vec<_> = short.iter().filter_map(Value::as_str).map(code).collect();
    writeln!(page, "| in kubectl | {}, {} |", code(names(crd, "plural")?), short.join(", "))?;
    let columns = |wide: bool| {
        let all = version["additionalPrinterColumns"].as_array().into_iter().flatten();
        let kept = all.filter(move |column| wide == (column["priority"].as_i64().unwrap_or(0) > 0));
        kept.filter_map(|column| column["name"].as_str()).collect::<Vec<_>>().join(", ")
    };
    writeln!(page, "| columns | {}; with `-o wide` also {} |", columns(false), columns(true))?;
    let selectable = version["selectableFields"].as_array().into_iter().flatten();
    let selectable: Vec<_> = selectable.filter_map(|f| f["jsonPath"].as_str()).map(|p| code(&p[1..])).collect();
    if !selectable.is_empty() {
        writeln!(page, "| field selectors | {} |", selectable.join(", "))?;
    }
    rules(&mut page, schema)?;
    for part in ["spec", "status"] {
        if schema["properties"][part].is_object() {
            section(&mut page, part, &schema["properties"][part])?;
        }
    }
    Ok(page)
}

/// An object under its path: its fields in a table, and the objects below it.
fn section(page: &mut String, path: &str, schema: &Value) -> Result<()> {
    let Some(fields) = schema["properties"].as_object() else { return Ok(()) };
    writeln!(page, "\n## {path}\n\n{}\n", prose(schema))?;
    writeln!(page, "| Field | Type | Required | Default | Limits | Description |\n|---|---|---|---|---|---|")?;
    let required = |name: &str| schema["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
    for (name, field) in fields {
        let required = if required(name) { "yes" } else { "" };
        let default = field.get("default").map(|value| code(&value.to_string())).unwrap_or_default();
        let (kind, limits) = (cell(&kind(field)), cell(&limits(field).join("; ")));
        let name = match below(&format!("{path}.{name}"), field) {
            Some((path, _)) => format!("[`{name}`](#{})", crate::book::slug(&path)),
            None => code(name),
        };
        writeln!(page, "| {name} | {kind} | {required} | {} | {limits} | {} |", cell(&default), cell(&prose(field)))?;
    }
    rules(page, schema)?;
    for (name, field) in fields {
        if let Some((path, object)) = below(&format!("{path}.{name}"), field) {
            section(page, &path, object)?;
        }
    }
    Ok(())
}

/// The object that a field leads to, through lists and maps, with its path.
fn below<'a>(path: &str, field: &'a Value) -> Option<(String, &'a Value)> {
    if field["properties"].is_object() {
        return Some((path.into(), field));
    }
    let parts = [("items", "[]"), ("additionalProperties", "{}")];
    let (part, mark) = parts.into_iter().find(|(part, _)| field[*part].is_object())?;
    below(&format!("{path}{mark}"), &field[part])
}

/// What the API server checks beyond single fields.
fn rules(page: &mut String, schema: &Value) -> Result<()> {
    let rules = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    let messages: Vec<_> = rules.filter_map(|rule| rule["message"].as_str()).collect();
    if !messages.is_empty() {
        writeln!(page, "\nThe API server also checks:\n")?;
    }
    messages.into_iter().try_for_each(|message| Ok(writeln!(page, "- {}", escaped(message))?))
}

fn kind(schema: &Value) -> String {
    let of = |part: &str| kind(&schema[part]);
    match (schema["type"].as_str(), schema["format"].as_str()) {
        (Some("array"), _) => format!("list of {}", of("items")),
        (Some("object"), _) if schema["additionalProperties"].is_object() => {
            format!("map to {}", of("additionalProperties"))
        }
        (Some("string"), Some("date-time")) => "time (RFC 3339)".into(),
        (Some(kind), _) => kind.into(),
        (None, _) => "any".into(),
    }
}

/// Bounds and allowed values, each in a few words.
fn limits(schema: &Value) -> Vec<String> {
    let mut limits = vec![];
    let values = schema["enum"].as_array().into_iter().flatten().filter(|value| !value.is_null());
    let values: Vec<_> = values.map(|value| code(value.as_str().unwrap_or(&value.to_string()))).collect();
    if !values.is_empty() {
        limits.push(format!("one of {}", values.join(", ")));
    }
    limits.extend(range(schema, "minimum", "maximum", ""));
    limits.extend(range(schema, "minLength", "maxLength", "characters"));
    limits.extend(range(schema, "minItems", "maxItems", "items"));
    limits.extend(range(schema, "minProperties", "maxProperties", "entries"));
    limits.extend(schema["pattern"].as_str().map(|pattern| format!("matches {}", code(pattern))));
    let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().filter_map(Value::as_str);
    match schema["x-kubernetes-list-type"].as_str() {
        Some("set") => limits.push("each once".into()),
        Some("map") => limits.push(format!("each {} once", keys.map(code).collect::<Vec<_>>().join(" and "))),
        _ => {}
    }
    for part in ["items", "additionalProperties"] {
        // Of an object, its own table tells.
        if schema[part].is_object() && !schema[part]["properties"].is_object() {
            limits.extend(self::limits(&schema[part]).into_iter().map(|limit| format!("each {limit}")));
        }
    }
    if schema["x-kubernetes-preserve-unknown-fields"] == true {
        limits.push("any fields".into());
    }
    limits
}

fn range(schema: &Value, least: &str, most: &str, what: &str) -> Option<String> {
    let text = match (schema[least].as_f64(), schema[most].as_f64()) {
        (Some(least), Some(most)) if least == most => format!("exactly {least}"),
        (Some(least), Some(most)) => format!("{least} to {most}"),
        (Some(least), None) => format!("at least {least}"),
        (None, Some(most)) => format!("at most {most}"),
        (None, None) => return None,
    };
    Some(format!("{text} {what}").trim_end().into())
}

/// The description as one line of Markdown.
fn prose(schema: &Value) -> String {
    let text = schema["description"].as_str().unwrap_or_default();
    escaped(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Text as Markdown that means itself: outside code, a `<` begins no tag and a `*` no emphasis.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for (n, part) in text.split('`').enumerate() {
        if n > 0 {
            escaped.push('`');
        }
        let in_code = n % 2 == 1;
        escaped.push_str(&if in_code { part.into() } else { part.replace('<', "&lt;").replace('*', "\\*") });
    }
    escaped
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

/// Text in a cell of a table, where a bar ends the cell, in code too.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[test]
fn a_field_is_told_with_its_bounds_and_a_bar_stays_in_its_cell() {
    let field = serde_json::json!({"type": "array", "maxItems": 32, "x-kubernetes-list-type": "set",
        "items": {"type": "string", "minLength": 1, "maxLength": 63, "pattern": "^(a|b)$"}});
    assert_eq!(kind(&field), "list of string");
    assert_eq!(
        cell(&limits(&field).join("; ")),
        "at most 32 items; each once; each 1 to 63 characters; each matches `^(a\\|b)$`"
    );
    assert_eq!(escaped("a <b> and `<c>*`, 2 * 3"), "a &lt;b> and `<c>*`, 2 \\* 3");
}
