//! What Jobs and Pods have in common when they are created in a gated namespace. Pure.

use crate::admission::standing::{Context, Standing};
use crate::admission::{Answer, Refusal, Verdict, creator, patch};
use crate::lifecycle::claims::{Claims, own_keys};
use serde_json::Value;

/// A kind that is held.
pub(super) struct Kind {
    /// Its name.
    pub name: &'static str,
    /// Annotations of ours that a new one may bring along.
    pub annotations: &'static [&'static str],
    /// Labels of ours that a new one may bring along.
    pub labels: &'static [&'static str],
}

/// Stamps the creator, and answers what policy says. `operations` are what holds the object.
pub(super) fn create(kind: &Kind, object: &Value, operations: Vec<Value>, context: &Context<'_>) -> Answer {
    let held = || -> Result<(Vec<Value>, Option<String>), Refusal> {
        let (claims, stamps) = readable(kind, object, context)?;
        let policies = context.policies.ok_or_else(Refusal::not_ready)?;
        let warning = match Standing::of(kind.name, object, &claims, context, policies) {
            Standing::Allowed => None,
            Standing::Held(how) => Some(format!("held{how}")),
            Standing::Denied { rule, how } => {
                return Err(Refusal::forbidden(format!(
                    "denied{how}; nothing was created. Have it done in a way that the policy allows, or ask the owners of the policy"
                )).by_rule(rule));
            }
        };
        Ok((operations.into_iter().chain(stamps).collect(), warning))
    };
    match held() {
        Ok((operations, warning)) => {
            let word = if warning.is_some() { "Held" } else { "Allowed" };
            Answer { verdict: Verdict::Allow(operations), warnings: warning.into_iter().collect(), word }
        }
        Err(refusal) => Verdict::Refuse(refusal).into(),
    }
}

/// What [`create`] would say, as warnings: for a namespace whose gate only warns.
pub(super) fn advise(kind: &Kind, object: &Value, context: &Context<'_>) -> Vec<String> {
    let Some(policies) = context.policies else { return vec![] };
    let would = match readable(kind, object, context) {
        Err(refusal) => format!("refused: {}", refusal.message),
        Ok((claims, _)) => match Standing::of(kind.name, object, &claims, context, policies) {
            Standing::Allowed => return vec![],
            Standing::Held(how) => format!("held{how}"),
            Standing::Denied { how, .. } => format!("denied{how}"),
        },
    };
    vec![format!("with the gate enforced, this {} would be {would}", kind.name)]
}

/// The claims and the stamps, or what cannot be taken.
fn readable(kind: &Kind, object: &Value, context: &Context<'_>) -> Result<(Claims, Vec<Value>), Refusal> {
    if !object.get("metadata").is_some_and(Value::is_object) || !object.get("spec").is_some_and(Value::is_object) {
        return Err(Refusal::invalid("metadata or spec is missing").because("Malformed"));
    }
    let stamps = creator::stamps(context.caller)?;
    let stamps: Vec<(&str, &str)> = stamps.iter().map(|(key, value)| (*key, value.as_str())).collect();
    only(object, "/metadata/annotations", kind.annotations)?;
    only(object, "/metadata/labels", kind.labels)?;
    let annotations = object.pointer("/metadata/annotations").unwrap_or(&Value::Null);
    let claims =
        Claims::read(annotations).map_err(|bad| Refusal::invalid(bad.to_string()).because("ClaimsMalformed"))?;
    Ok((claims, patch::entries(object, "/metadata/annotations", &stamps)))
}

/// Refuses keys under our prefix in a map, but for those in `allowed`.
pub(super) fn only(object: &Value, map: &str, allowed: &[&str]) -> Result<(), Refusal> {
    match own_keys(object.pointer(map)).find(|key| !allowed.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => {
            let path = map.trim_start_matches('/').replace('/', ".");
            let key = super::text::quote(key);
            Err(Refusal::forbidden(format!("{path}: {key} is written by Countersign alone; leave it out"))
                .because("ReservedKey"))
        }
    }
}
