//! `countersign keys show`.

use crate::binding::{Role, key_name};
use crate::cli::escape::visible;
use crate::cli::keys::state::State;
use std::fmt::Write;

/// A line a key, what is wrong, and what comes next.
pub fn told(state: &State) -> String {
    let mut text = format!("{:<18}{:<26}{:<22}{}\n", "KEY", "ROLE", "IN THE AUDIT TRAIL", "OPEN REQUESTS");
    let roles: Vec<_> = state.keys.roles().into_iter().map(|(key, role)| (key_name(&key), role)).collect();
    for (name, role) in &roles {
        let resting = state.resting.get(name).map_or(0, Vec::len);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<18}{:<26}{:<22}{resting}", role_of(*role), known(state, name));
    }
    let signers = &state.trail.signers;
    for stranger in signers.live().keys().filter(|name| !roles.iter().any(|(known, _)| known == *name)) {
        let _ = writeln!(text, "{stranger:<18}{:<26}{:<22}0", "NOT IN THE SECRET", "may sign");
    }
    if let Some(fault) = &state.trail.fault {
        let _ = writeln!(text, "the audit trail is not whole: {}", visible(fault));
    }
    let _ = writeln!(text, "next: {}", next(state, &roles));
    text
}

fn role_of(role: Role) -> &'static str {
    match role {
        Role::Signs => "signs",
        Role::Next => "accepted, will sign",
        Role::Previous => "accepted, signed before",
        Role::Retired => "retired",
    }
}

fn known(state: &State, name: &str) -> &'static str {
    let signers = &state.trail.signers;
    match () {
        () if signers.is_retired(name) => "retired",
        () if signers.may_sign(name) => "may sign",
        () if signers.known().contains_key(name) => "signed before",
        () => "unknown",
    }
}

fn next(state: &State, roles: &[(String, Role)]) -> String {
    let signers = &state.trail.signers;
    let of = |wanted: Role| roles.iter().find(|(_, role)| *role == wanted).map(|(name, _)| name.as_str());
    if let Some(name) = of(Role::Next) {
        return match signers.may_sign(name) {
            true => format!(
                "once every operator was restarted, and workers' key files hold key {name}: countersign keys promote"
            ),
            false => "restart every operator: the first one introduces the added key in the audit trail".into(),
        };
    }
    if let Some(name) = of(Role::Previous) {
        return format!(
            "once every operator was restarted, and no open request rests on key {name}: countersign keys retire"
        );
    }
    let untold = roles.iter().any(|(name, role)| *role == Role::Retired && !signers.is_retired(name));
    match untold {
        true => "restart every operator: the first one retires the key in the audit trail".into(),
        false => "no rotation is under way; countersign keys add begins one".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Signers;
    use crate::binding::KeySet;
    use crate::cli::keys::state::{Resting, Trail};

    fn state(keys: KeySet, fault: Option<&str>) -> State {
        let trail = Trail { signers: Signers::default(), fault: fault.map(String::from) };
        State { keys, trail, resting: Resting::new() }
    }

    #[test]
    fn what_is_shown_tells_what_comes_next_and_no_seed() {
        let first = KeySet::new([1; 32]);
        let added = first.add([2; 32]).unwrap();
        let promoted = added.promote(|_| true).unwrap();
        let retired = promoted.retire().unwrap();
        for (keys, said) in [
            (&first, "next: no rotation is under way; countersign keys add begins one\n"),
            (&added, "next: restart every operator: the first one introduces the added key in the audit trail\n"),
            (&promoted, "countersign keys retire\n"),
            (&retired, "next: restart every operator: the first one retires the key in the audit trail\n"),
        ] {
            let told = told(&state(keys.clone(), None));
            assert!(told.ends_with(said) && told.lines().count() == keys.roles().len() + 2, "{told}");
            for (entry, bytes) in keys.data().into_iter().filter(|(entry, _)| entry != "retired") {
                let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                assert!(!told.contains(&hex), "{entry}");
            }
        }
        let told = told(&state(first, Some("edited:\u{1b}[2J")));
        assert!(told.contains("the audit trail is not whole: edited:\\u{1b}[2J\n"), "{told}");
    }
}
