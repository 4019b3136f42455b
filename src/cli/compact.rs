//! What `countersign request -f` reads: the compact JSON that workflows write, or a full ApprovalRequest as JSON or YAML.

use crate::api::names;
use crate::cli::bounds::{Problem, control_character};
use crate::cli::escape::visible;
use crate::cli::yaml;
use serde::Deserialize;
use serde_json::{Map, Number, Value, json};
use std::io::Read;

/// The longest input that is read.
pub const LONGEST: usize = 256 * 1024;

/// 2^53 - 1: the largest whole number that JSON carries without loss.
const MAX_SAFE: i64 = 9_007_199_254_740_991;

/// Fields of the compact form and of the spec, where they differ.
const SPELLINGS: [(&str, &str); 8] = [
    ("run_id", "runID"),
    ("step_id", "stepID"),
    ("requested_by", "requestedBy"),
    ("risk_tags", "riskTags"),
    ("policy_snapshot", "policySnapshot"),
    ("constraints.max_runtime_sec", "constraints.maxRuntimeSeconds"),
    ("constraints.max_retries", "constraints.maxRetries"),
    ("constraints.max_parallelism", "constraints.maxParallelism"),
];

/// Constraints that the operator itself enforces, by their compact names.
const ENFORCED: [(&str, &str); 3] =
    [("max_runtime_sec", "maxRuntimeSeconds"), ("max_retries", "maxRetries"), ("max_parallelism", "maxParallelism")];

/// Why an input is refused. Everything that stems from the input is escaped.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// Reading failed.
    #[error("the input cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// More than [`LONGEST`].
    #[error("the input is longer than 256 KiB; a request carries a summary, so link to the rest under evidence")]
    TooLong,
    /// Not UTF-8.
    #[error("the input is not UTF-8 text from byte {0} on")]
    NotText(usize),
    /// Not JSON, or not the compact form.
    #[error("the input is refused: {0}")]
    Json(String),
    /// Not YAML.
    #[error("the input is not well-formed YAML: {0}")]
    Yaml(String),
    /// YAML that would cost too much.
    #[error("the input is refused: {0}")]
    Excess(#[from] yaml::Excess),
    /// One field is wrong.
    #[error("{field}: {what}")]
    Field {
        /// The field, as the input spells it.
        field: String,
        /// What is wrong, and what would be right.
        what: String,
    },
}

/// How the input spells its fields.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Form {
    /// Snake case, no envelope; flags too.
    #[default]
    Compact,
    /// A full object.
    Object,
}

impl Form {
    /// The error for a problem in the spec, under the name that the input uses.
    pub fn error(self, problem: &Problem) -> InputError {
        let field = match self {
            Self::Object => format!("spec.{}", problem.path),
            Self::Compact => spelled(&problem.path),
        };
        refused(&field, &problem.what)
    }
}

fn spelled(path: &str) -> String {
    let limit = path.strip_prefix("constraints.limits.").map(|name| format!("constraints.{name}"));
    let renamed = SPELLINGS.iter().find_map(|(compact, field)| {
        let rest = path.strip_prefix(field).filter(|rest| rest.is_empty() || rest.starts_with(['.', '[']))?;
        Some(format!("{compact}{rest}"))
    });
    limit.or(renamed).unwrap_or_else(|| path.into())
}

/// A request as far as the input describes it.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// How its fields are spelled.
    pub form: Form,
    /// `metadata`: name, generateName, namespace, labels and annotations at most.
    pub metadata: Map<String, Value>,
    /// `spec`, in the CRD's spelling, not yet checked against its bounds.
    pub spec: Map<String, Value>,
}

/// Reads no more than one byte beyond [`LONGEST`].
pub fn read(input: impl Read) -> Result<Vec<u8>, InputError> {
    let mut bytes = vec![];
    input.take(LONGEST as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > LONGEST { Err(InputError::TooLong) } else { Ok(bytes) }
}

/// Understands an input. `apiVersion` tells a full object from the compact form.
pub fn parse(bytes: &[u8]) -> Result<Draft, InputError> {
    if bytes.len() > LONGEST {
        return Err(InputError::TooLong);
    }
    let text = std::str::from_utf8(bytes).map_err(|e| InputError::NotText(e.valid_up_to()))?;
    let text = text.trim_start_matches('\u{feff}');
    if text.trim_start().starts_with('{') {
        // The YAML value refuses a key that stands there twice, where JSON's own would keep the last.
        let value: serde_yaml::Value = serde_json::from_str(text).map_err(json_error)?;
        return if value.get("apiVersion").is_some() { object(&value) } else { compact(text) };
    }
    yaml::check(text.as_bytes())?;
    let value: serde_yaml::Value = serde_yaml::from_str(text).map_err(|e| InputError::Yaml(visible(&e.to_string())))?;
    if value.get("apiVersion").is_some() {
        return object(&value);
    }
    Err(InputError::Json(
        "it is neither compact JSON, which begins with `{`, nor an ApprovalRequest with apiVersion".into(),
    ))
}

fn json_error(error: serde_json::Error) -> InputError {
    let what = if error.is_data() { "" } else { "malformed JSON: " };
    InputError::Json(format!("{what}{}", visible(&error.to_string())))
}

fn refused(field: &str, what: &str) -> InputError {
    InputError::Field { field: visible(field), what: visible(what) }
}

/// The compact form. What is left out may come by flag, so nothing is required here.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Compact {
    run_id: Option<String>,
    step_id: Option<String>,
    reason: Option<String>,
    policy_snapshot: Option<String>,
    risk_tags: Option<Vec<String>>,
    constraints: Option<Map<String, Value>>,
    requested_by: Option<String>,
}

fn compact(text: &str) -> Result<Draft, InputError> {
    let compact: Compact =
        serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(text)).map_err(|error| match error
            .path()
            .to_string()
        {
            path if path == "." => InputError::Json(visible(&error.inner().to_string())),
            path => refused(&path, &error.inner().to_string()),
        })?;
    let mut spec = Map::new();
    let texts = [
        ("runID", compact.run_id),
        ("stepID", compact.step_id),
        ("reason", compact.reason),
        ("policySnapshot", compact.policy_snapshot),
        ("requestedBy", compact.requested_by),
    ];
    spec.extend(texts.into_iter().filter_map(|(key, text)| Some((key.into(), text?.into()))));
    spec.extend(compact.risk_tags.filter(|tags| !tags.is_empty()).map(|tags| ("riskTags".into(), tags.into())));
    let constraints = constraints(&compact.constraints.unwrap_or_default())?;
    if !constraints.is_empty() {
        spec.insert("constraints".into(), constraints.into());
    }
    Ok(Draft { spec, ..Draft::default() })
}

/// The enforced bounds by name, every other number as a limit for the worker.
fn constraints(given: &Map<String, Value>) -> Result<Map<String, Value>, InputError> {
    let (mut enforced, mut limits) = (Map::new(), Map::new());
    for (name, value) in given {
        let field = format!("constraints.{name}");
        let number = whole(value).map_err(|what| refused(&field, what))?;
        if let Some((_, ours)) = ENFORCED.iter().find(|(compact, _)| compact == name) {
            enforced.insert((*ours).into(), number.into());
            continue;
        }
        let limit = camel_case(name).map_err(|what| refused(&field, &what))?;
        if number > MAX_SAFE {
            return Err(refused(
                &field,
                "is above 9007199254740991 (2^53 - 1), the most that JSON carries without loss",
            ));
        }
        if limits.insert(limit.clone(), number.into()).is_some() {
            return Err(refused(&field, &format!("another constraint is called {limit} as well; give it once")));
        }
    }
    if !limits.is_empty() {
        enforced.insert("limits".into(), limits.into());
    }
    Ok(enforced)
}

fn whole(value: &Value) -> Result<i64, &'static str> {
    let Value::Number(number) = value else { return Err("must be a number") };
    match to_i64(number) {
        Some(n) if n < 0 => Err("is below zero; a constraint is an upper bound of zero or more"),
        Some(n) => Ok(n),
        None if number.as_f64().is_some_and(|f| f.fract() != 0.0) => Err("is not a whole number"),
        None => Err("is too large for any bound"),
    }
}

/// `900`, and `900.0` or `9e2` as well: to JSON they are one number.
fn to_i64(number: &Number) -> Option<i64> {
    number.as_i64().or_else(|| {
        let float = number.as_f64().filter(|_| number.is_f64())?;
        (float.fract() == 0.0 && float.abs() <= MAX_SAFE as f64).then_some(float as i64)
    })
}

/// `max_lines_changed` as `maxLinesChanged`.
fn camel_case(name: &str) -> Result<String, String> {
    let known = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.chars().all(known) || name.len() > 63 {
        return Err("a constraint's name begins with a letter and has up to 63 letters, digits and `_`".into());
    }
    let mut camel = String::with_capacity(name.len());
    for part in name.split('_') {
        let (head, tail) = part.split_at(part.len().min(1));
        camel.push_str(&if camel.is_empty() { head.to_string() } else { head.to_ascii_uppercase() });
        camel.push_str(tail);
    }
    // As a limit it would only be told to the worker, where its author expects it to be enforced.
    let meant = |ours: &str| camel.eq_ignore_ascii_case(ours) || format!("{camel}onds").eq_ignore_ascii_case(ours);
    match ENFORCED.iter().find(|(_, ours)| meant(ours)) {
        Some((compact, _)) => Err(format!("is written {compact} here")),
        None => Ok(camel),
    }
}

fn object(value: &serde_yaml::Value) -> Result<Draft, InputError> {
    let value = serde_json::to_value(value).map_err(|e| InputError::Yaml(visible(&e.to_string())))?;
    for (field, expected) in [("apiVersion", names::API_VERSION), ("kind", "ApprovalRequest")] {
        if value[field] != expected {
            return Err(refused(field, &format!("must be {expected}, not {}", value[field])));
        }
    }
    let Value::Object(mut fields) = value else { return Err(refused("apiVersion", "must stand in an object")) };
    let (metadata, spec) = (fields.remove("metadata"), fields.remove("spec"));
    match fields.keys().find(|key| !matches!(key.as_str(), "apiVersion" | "kind")) {
        Some(key) if key == "status" => return Err(refused(key, "is the operator's; leave it out")),
        Some(key) => return Err(refused(key, "there is no such field; known are apiVersion, kind, metadata, spec")),
        None => {}
    }
    let Value::Object(spec) = spec.unwrap_or_else(|| json!({})) else {
        return Err(refused("spec", "must be a set of fields"));
    };
    Ok(Draft { form: Form::Object, metadata: checked_metadata(metadata)?, spec })
}

fn checked_metadata(metadata: Option<Value>) -> Result<Map<String, Value>, InputError> {
    let Value::Object(fields) = metadata.unwrap_or_else(|| json!({})) else {
        return Err(refused("metadata", "must be a set of fields"));
    };
    for (key, value) in &fields {
        let field = format!("metadata.{key}");
        match key.as_str() {
            "name" | "generateName" | "namespace" => plain_text(&field, value)?,
            "labels" | "annotations" => {
                let Value::Object(entries) = value else { return Err(refused(&field, "must be a set of texts")) };
                for (name, text) in entries {
                    let lines = key == "annotations";
                    checked_text(&format!("{field}[{name}]"), text, lines)?;
                    plain_text(&field, &Value::String(name.clone()))?;
                }
            }
            _ => {
                let known = "known are name, generateName, namespace, labels, annotations";
                return Err(refused(&field, &format!("cannot be given, the cluster sets it; {known}")));
            }
        }
    }
    Ok(fields)
}

fn plain_text(field: &str, value: &Value) -> Result<(), InputError> {
    checked_text(field, value, false)
}

fn checked_text(field: &str, value: &Value, lines: bool) -> Result<(), InputError> {
    let Value::String(text) = value else { return Err(refused(field, "must be text")) };
    match control_character(text, lines) {
        Some(c) => {
            Err(refused(field, &format!("contains the control character \\u{{{:x}}}; take it out", u32::from(c))))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
#[path = "compact_tests.rs"]
mod tests;
