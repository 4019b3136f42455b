//! Every change of an example policy fails one of its tests: what a test does not notice, it does not say.

use crate::{examples, runs};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use tempfile::TempDir;

/// A changed policy, and what was changed.
type Mutant = (String, Value);

#[test]
fn every_change_of_an_example_policy_fails_one_of_its_tests() -> Result<()> {
    let folder = TempDir::new()?;
    for sub in ["fixtures", "tests"] {
        fs::create_dir_all(folder.path().join(sub))?;
        for entry in fs::read_dir(examples().join(sub))? {
            let path = entry?.path();
            fs::copy(&path, folder.path().join(sub).join(path.file_name().context("name")?))?;
        }
    }
    let mut work = vec![];
    for entry in fs::read_dir(examples())? {
        let path = entry?.path();
        if let Some(stem) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".yaml")) {
            let policy: serde_yaml::Value = serde_yaml::from_str(&fs::read_to_string(&path)?)?;
            work.push((stem.to_string(), serde_json::to_value(policy)?));
        }
    }
    let found = Mutex::new((0, vec![]));
    let work = Mutex::new(work.into_iter());
    let next = || work.lock().ok().and_then(|mut work| work.next());
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    while let Some((stem, policy)) = next() {
                        let (tried, survivors) = survivors(folder.path(), &stem, &policy)?;
                        let mut found = found.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                        found.0 += tried;
                        found.1.extend(survivors);
                    }
                    Ok(())
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| anyhow::bail!("a thread panicked")))
    })?;
    let (tried, mut survivors) = found.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    survivors.sort();
    ensure!(tried >= 300, "only {tried} changes were tried");
    ensure!(survivors.is_empty(), "no test notices these of {tried} changes:\n{}", survivors.join("\n"));
    Ok(())
}

/// How many mutants of a policy there are, and those that its tests do not notice.
fn survivors(folder: &Path, stem: &str, policy: &Value) -> Result<(usize, Vec<String>)> {
    let file = folder.join(format!("{stem}.yaml"));
    let test = folder.join("tests").join(format!("{stem}.test.yaml"));
    let run = |policy: &Value| -> Result<bool> {
        fs::write(&file, policy.to_string())?;
        runs(&test)
    };
    ensure!(run(policy)?, "{stem}: its tests fail as it is");
    let mutants = mutants(policy);
    let mut survivors = vec![];
    for (what, mutant) in &mutants {
        // That a test names a rule that is gone is an error of the input, and noticed as well.
        if run(mutant).is_ok_and(|passes| passes) {
            survivors.push(format!("{stem}: {what}"));
        }
    }
    fs::write(&file, policy.to_string())?;
    Ok((mutants.len(), survivors))
}

/// Every mutant of a policy.
fn mutants(policy: &Value) -> Vec<Mutant> {
    let mut all = Mutants { policy, all: vec![] };
    all.without("/spec", "match");
    for (i, _) in list(policy, "/spec/classifiers").iter().enumerate() {
        all.without_item("/spec/classifiers", i);
        all.parts(&format!("/spec/classifiers/{i}/when"));
    }
    for (i, rule) in list(policy, "/spec/rules").iter().enumerate() {
        let at = format!("/spec/rules/{i}");
        all.without_item("/spec/rules", i);
        all.decisions(&at, rule);
        for part in ["when", "unless"] {
            all.without(&at, part);
            all.parts(&format!("{at}/{part}"));
            all.requesters(&format!("{at}/{part}/requesters"));
            all.numbers(&format!("{at}/{part}/expression"));
        }
        all.approvals(&format!("{at}/approvals"));
        all.bounds(&format!("{at}/constraints"));
        for field in ["pendingTimeoutSeconds", "releaseTimeoutSeconds", "notBeforeSeconds", "onDenied"] {
            all.without(&at, field);
        }
        all.without(&at, "requireImmutableInputs");
        all.without(&at, "requireImageDigests");
        all.windows(&format!("{at}/freezeWindows"));
    }
    all.all
}

struct Mutants<'a> {
    policy: &'a Value,
    all: Vec<Mutant>,
}

fn list<'a>(value: &'a Value, at: &str) -> &'a [Value] {
    value.pointer(at).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn fields<'a>(value: &'a Value, at: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    value.pointer(at).and_then(Value::as_object).into_iter().flatten()
}

impl Mutants<'_> {
    /// The policy after a change at some place, if that is there.
    fn change(&mut self, what: impl Into<String>, at: &str, change: impl FnOnce(&mut Value)) {
        let mut mutant = self.policy.clone();
        if let Some(value) = mutant.pointer_mut(at) {
            change(value);
            if mutant != *self.policy {
                self.all.push((what.into(), mutant));
            }
        }
    }

    fn set(&mut self, at: &str, field: &str, value: Value) {
        self.change(format!("{at}/{field} = {value}"), at, |it| it[field] = value);
    }

    fn without(&mut self, at: &str, field: &str) {
        if self.policy.pointer(at).is_some_and(|it| it.get(field).is_some()) {
            self.change(format!("without {at}/{field}"), at, |it| remove(it, field));
        }
    }

    fn without_item(&mut self, at: &str, i: usize) {
        let what = format!("without {at}/{i}: {}", list(self.policy, at)[i]);
        // The last one stands for the whole.
        if list(self.policy, at).len() > 1 {
            self.change(what, at, |it| {
                if let Some(items) = it.as_array_mut() {
                    items.remove(i);
                }
            });
        } else if let Some((parent, field)) = at.rsplit_once('/').filter(|(_, field)| *field != "rules") {
            self.without(parent, field);
        }
    }

    /// Each part dropped where there are several, each member of a list dropped, each yes or no turned round.
    fn parts(&mut self, at: &str) {
        let parts: Vec<_> = fields(self.policy, at).map(|(name, value)| (name.clone(), value.clone())).collect();
        for (name, value) in &parts {
            if parts.len() > 1 {
                self.without(at, name);
            }
            match value {
                Value::Bool(value) => self.set(at, name, json!(!value)),
                Value::Array(items) if items.len() > 1 => {
                    (0..items.len()).for_each(|i| self.without_item(&format!("{at}/{name}"), i));
                }
                Value::Object(inner) if inner.values().all(Value::is_boolean) => self.parts(&format!("{at}/{name}")),
                _ => {}
            }
            if name == "riskTags" && value.as_array().is_some_and(|tags| tags.len() > 1) {
                let tags = value.clone();
                self.change(format!("{at}: any of {tags}"), at, |it| {
                    it["anyRiskTags"] = tags;
                    remove(it, "riskTags");
                });
            }
        }
    }

    fn decisions(&mut self, at: &str, rule: &Value) {
        for decision in ["Allow", "RequireApproval", "Deny"].into_iter().filter(|d| rule["decision"] != *d) {
            self.change(format!("{at}/decision = {decision}"), at, |rule| {
                rule["decision"] = json!(decision);
                let Some(fields) = rule.as_object_mut() else { return };
                let misplaced: &[&str] = match decision {
                    "Allow" => &["approvals", "onDenied"],
                    "Deny" => &[
                        "approvals",
                        "notBeforeSeconds",
                        "freezeWindows",
                        "requireImmutableInputs",
                        "requireImageDigests",
                    ],
                    _ => &[],
                };
                fields.retain(|name, _| !misplaced.contains(&name.as_str()));
                if decision == "RequireApproval" {
                    let nobody = json!([{"name": "sre", "approvers": [{"kind": "Group", "name": "sre"}]}]);
                    fields.insert("approvals".into(), json!({"requirements": nobody}));
                }
                if decision == "Allow" && fields.get("when").is_some_and(|when| when.get("requestedBy").is_some()) {
                    fields.insert("trustClaims".into(), json!(true));
                }
            });
        }
    }

    /// Wider: everybody in the place of each, and all service accounts, or those of the namespace.
    fn requesters(&mut self, at: &str) {
        for (i, requester) in list(self.policy, at).iter().enumerate() {
            let mut wider = vec!["system:authenticated".to_string()];
            if let Some(namespace) = requester["namespace"].as_str() {
                wider.extend(["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")]);
            } else if requester["name"].as_str().is_some_and(|name| name.starts_with("system:serviceaccounts:")) {
                wider.push("system:serviceaccounts".into());
            }
            for group in wider {
                self.change(format!("{at}/{i} = {group}"), at, |it| it[i] = json!({"kind": "Group", "name": group}));
            }
        }
    }

    /// Each number in an expression, one up and one down.
    fn numbers(&mut self, at: &str) {
        let Some(text) = self.policy.pointer(at).and_then(Value::as_str) else { return };
        let digits = |c: char| c.is_ascii_digit();
        let mut from = 0;
        while let Some(start) = text[from..].find(digits).map(|found| from + found) {
            let end = text[start..].find(|c| !digits(c)).map_or(text.len(), |found| start + found);
            let number: i64 = text[start..end].parse().unwrap_or_default();
            for other in [number - 1, number + 1] {
                let changed = format!("{}{other}{}", &text[..start], &text[end..]);
                self.change(format!("{at}: {other} for {number}"), at, |it| *it = json!(changed));
            }
            from = end;
        }
    }

    fn approvals(&mut self, at: &str) {
        let Some(approvals) = self.policy.pointer(at) else { return };
        for (i, requirement) in list(approvals, "/requirements").iter().enumerate() {
            let here = format!("{at}/requirements/{i}");
            if list(approvals, "/requirements").len() > 1 {
                self.without_item(&format!("{at}/requirements"), i);
            }
            self.set(&here, "count", json!(requirement["count"].as_i64().unwrap_or(1) + 1));
            if requirement["count"].as_i64().unwrap_or(1) > 1 {
                self.set(&here, "count", json!(1));
            }
            let approvers = list(requirement, "/approvers");
            for a in 0..approvers.len() {
                let others = json!({"kind": "Group", "name": "others"});
                self.change(format!("{here}: others for {}", approvers[a]), &here, |it| it["approvers"][a] = others);
            }
            let everybody = json!({"kind": "Group", "name": "system:authenticated"});
            let more: Vec<_> = approvers.iter().cloned().chain([everybody]).collect();
            self.set(&here, "approvers", json!(more));
        }
        let turned = if approvals["selfApproval"] == "Allow" { "Forbid" } else { "Allow" };
        self.set(at, "selfApproval", json!(turned));
        self.set(at, "denials", json!(2));
        self.set(at, "requireComment", json!(approvals["requireComment"] != true));
        for i in 0..list(approvals, "/exclude").len() {
            self.without_item(&format!("{at}/exclude"), i);
        }
    }

    fn bounds(&mut self, at: &str) {
        let bounds: Vec<_> = fields(self.policy, at).map(|(name, value)| (name.clone(), value.clone())).collect();
        for (name, value) in bounds {
            self.without(at, &name);
            match &value {
                Value::Object(limits) => {
                    limits.keys().for_each(|limit| self.without(&format!("{at}/{name}"), limit));
                }
                Value::Number(bound) => self.set(at, &name, json!(bound.as_i64().unwrap_or_default() * 2 + 1)),
                _ => {}
            }
        }
    }

    fn windows(&mut self, at: &str) {
        for (i, window) in list(self.policy, at).iter().enumerate() {
            let here = format!("{at}/{i}");
            self.without_item(at, i);
            self.without(&here, "mayPass");
            self.set(&here, "timeZone", json!("UTC"));
            self.set(&here, "durationSeconds", json!(window["durationSeconds"].as_i64().unwrap_or_default() - 3600));
            let sre = json!({"kind": "Group", "name": "sre"});
            let more: Vec<_> = list(window, "/mayPass").iter().cloned().chain([sre]).collect();
            self.set(&here, "mayPass", json!(more));
        }
    }
}

fn remove(value: &mut Value, field: &str) {
    if let Some(fields) = value.as_object_mut() {
        fields.remove(field);
    }
}

#[test]
fn mutants_differ_from_the_policy_and_from_each_other() -> Result<()> {
    let text = fs::read_to_string(examples().join("freeze.yaml"))?;
    let policy: Value = serde_json::to_value(serde_yaml::from_str::<serde_yaml::Value>(&text)?)?;
    let all = mutants(&policy);
    let distinct: BTreeSet<_> = all.iter().map(|(_, mutant)| mutant.to_string()).collect();
    assert!(all.len() >= 20 && distinct.len() == all.len() && !distinct.contains(&policy.to_string()));
    Ok(())
}
