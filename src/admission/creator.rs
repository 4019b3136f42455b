//! Who created a Job or Pod, as annotations that can be read back without ambiguity. Pure.

use crate::admission::{Caller, Refusal};
use crate::api::names;

/// Longest username, in characters.
const LONGEST_USERNAME: usize = 512;

/// Most groups. More would have to be cut, and a cut could hide one that a policy names.
const MOST_GROUPS: usize = 256;

/// Longest group, in characters.
const LONGEST_GROUP: usize = 256;

/// The annotations that name the caller: username, uid (empty where there is none) and groups, one a line. Refuses a
/// caller that they cannot name.
pub(super) fn stamps(caller: &Caller) -> Result<[(&'static str, String); 3], Refusal> {
    encodable_name(&caller.username)?;
    let groups = &caller.groups;
    if groups.len() > MOST_GROUPS {
        return refuse(format!("you are in {} groups, and {MOST_GROUPS} is the most that can be kept", groups.len()));
    }
    if groups.iter().any(|group| group.is_empty() || has_break(group) || group.chars().count() > LONGEST_GROUP) {
        return refuse(format!(
            "one of your groups is empty, longer than {LONGEST_GROUP} characters or contains a line break"
        ));
    }
    Ok([
        (names::CREATED_BY, caller.username.clone()),
        (names::CREATED_BY_UID, caller.uid.clone().unwrap_or_default()),
        (names::CREATED_BY_GROUPS, groups.join("\n")),
    ])
}

/// Refuses a username that does not fit on one line of an annotation.
pub(super) fn encodable_name(username: &str) -> Result<(), Refusal> {
    one_line(username).or_else(refuse)
}

/// Whether a username fits on one line of an annotation, or why not.
pub(super) fn one_line(username: &str) -> Result<(), String> {
    if username.is_empty() {
        return Err("the API server named no caller".into());
    }
    if has_break(username) || username.chars().count() > LONGEST_USERNAME {
        return Err(format!("your username is longer than {LONGEST_USERNAME} characters or contains a line break"));
    }
    Ok(())
}

fn has_break(text: &str) -> bool {
    text.contains(['\n', '\r'])
}

fn refuse<T>(why: impl std::fmt::Display) -> Result<T, Refusal> {
    let text = format!(
        "{why}: who creates what a gate holds must be recorded in full. Use another identity, such as a service account"
    );
    Err(Refusal::forbidden(text).because("CallerUnfit"))
}
