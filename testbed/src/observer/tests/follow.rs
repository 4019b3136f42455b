//! Following a log, and ending the process.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;
use std::{env, fs, thread};

use serde_json::json;

use super::{Log, pod};
use crate::observer::Observer;
use crate::{AuditLog, Identity};

const OBSERVED: &str = "COUNTERSIGN_TESTBED_OBSERVED";

/// A process of its own that observes `log` and is content, unless the observer ends it.
fn process_that_observes(log: &str) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    fs::write(&path, log).unwrap();
    let this = Command::new(env::current_exe().unwrap())
        .args(["--exact", "observer::tests::follow::a_clean_log_is_observed_in_peace"])
        .env(OBSERVED, path)
        .output();
    this.unwrap()
}

/// An observer of a log that no control plane writes.
fn observer(log: PathBuf, abort: bool) -> Observer {
    let nobody = Identity { name: String::new(), kubeconfig: log.clone(), kubectl: log.clone(), cache: log.clone() };
    Observer::new(AuditLog::new(log, nobody), abort).unwrap()
}

fn lines(log: &Log) -> String {
    log.0.iter().map(|event| format!("{event}\n")).collect()
}

fn past_the_gate() -> Log {
    Log::gated().made(2, "mallory", "pods", pod(None, json!([])))
}

/// By itself, a log in which nothing is wrong ends nobody. Other tests run it in a process of its own, with their log.
#[test]
fn a_clean_log_is_observed_in_peace() {
    let dir = tempfile::tempdir().unwrap();
    let path = env::var_os(OBSERVED).map_or_else(|| dir.path().join("audit.log"), PathBuf::from);
    if !path.exists() {
        fs::write(&path, lines(&Log::gated())).unwrap();
    }
    let observer = observer(path, true);
    thread::sleep(Duration::from_secs(1));
    assert!(observer.violations().is_empty());
}

#[test]
fn a_violation_ends_the_process_and_says_why() {
    let past = process_that_observes(&lines(&past_the_gate()));
    let told = String::from_utf8_lossy(&past.stderr);
    assert_eq!(past.status.code(), Some(101), "{told}");
    assert!(told.contains("PAST THE GATE: Pod prod/pod was created without the scheduling gate"), "{told}");
    assert!(process_that_observes(&lines(&Log::gated())).status.success());
}

#[test]
fn a_log_that_cannot_be_read_ends_the_process_too() {
    let blind = process_that_observes("{\"responseObject\"\n");
    let told = String::from_utf8_lossy(&blind.stderr);
    assert_eq!(blind.status.code(), Some(101), "{told}");
    assert!(told.contains("the observer is blind"), "{told}");
    // The API server may not have written the rest yet.
    assert!(process_that_observes("{\"responseObject\"").status.success());
}

#[test]
fn the_log_is_read_as_it_grows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let observer = observer(path.clone(), false);
    observer.catch_up().unwrap();
    let text = lines(&past_the_gate());
    let (first, rest) = text.split_at(text.len() - 1);
    fs::write(&path, first).unwrap();
    observer.catch_up().unwrap();
    fs::write(&path, [first, rest].concat()).unwrap();
    let told = observer.catch_up().unwrap_err().to_string();
    assert!(told.contains("by mallory (audit events: event-2)"), "{told}");
    assert_eq!((observer.counts().pods, observer.violations().len()), (1, 1));
}
