//! What a waiting call says of its request, and when it is over. Pure: the time that passed is an argument.

use crate::cli::request::exit::{End, Exit};
use crate::cli::request::same::{Difference, first_difference};
use crate::cli::review::outcome::without_command;
use serde_json::Value;
use std::time::Duration;

/// The one request that is waited for.
#[derive(Clone, Debug)]
pub struct Progress {
    /// What this call asks, with its name and namespace.
    manifest: Value,
    /// The uid, once it is known.
    uid: Option<String>,
    /// What was said last.
    told: String,
    /// As it was seen last.
    last: Option<Value>,
}

/// What follows from a look at the request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// Nothing new.
    Quiet,
    /// Something to say.
    Line(String),
    /// It is over.
    Over(End),
}

impl Progress {
    /// The request of that manifest, not seen yet.
    pub fn new(manifest: Value) -> Self {
        Self { manifest, uid: None, told: String::new(), last: None }
    }

    /// What is asked, once it is known in full.
    pub fn asks(&mut self, manifest: Value) {
        self.manifest = manifest;
    }

    /// As it was seen last.
    pub fn last(&self) -> Option<&Value> {
        self.last.as_ref()
    }

    /// `NAMESPACE/NAME`.
    pub fn place(&self) -> String {
        let text = |field: &str| self.manifest["metadata"][field].as_str().unwrap_or_default();
        format!("{}/{}", text("namespace"), text("name"))
    }

    /// Takes in the request as it is stored.
    pub fn see(&mut self, object: &Value) -> Step {
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
        if self.uid.as_deref().is_some_and(|known| known != uid) {
            return Step::Over(self.end(Exit::Changed, "it is gone, and another request took its name"));
        }
        if let Some(difference) = first_difference(&self.manifest, object) {
            return Step::Over(changed(&self.place(), &difference));
        }
        self.uid = Some(uid.into());
        self.last = Some(object.clone());
        let text = standing(object);
        let exit = match object["status"]["state"].as_str().unwrap_or_default() {
            "Released" => Exit::Done,
            "Denied" => Exit::Denied,
            "Expired" => Exit::Expired,
            "Cancelled" => Exit::Cancelled,
            _ if text == self.told => return Step::Quiet,
            _ => {
                self.told = text;
                return Step::Line(format!("{}: {}", self.place(), self.told));
            }
        };
        Step::Over(self.end(exit, &text))
    }

    /// Takes in that it is not there; `last` is how it was deleted, where that was seen.
    pub fn gone(&mut self, last: Option<&Value>) -> Step {
        // One that was released first, and then deleted, was released.
        if let Some(object) = last
            && let over @ Step::Over(_) = self.see(object)
        {
            return over;
        }
        Step::Over(self.end(Exit::Cancelled, "the request was deleted before its end was seen"))
    }

    /// What to say while nothing happens.
    pub fn heartbeat(&self, waited: Duration) -> String {
        let told = if self.told.is_empty() { "not stored yet" } else { &self.told };
        format!("{}: still waiting after {}: {told}", self.place(), spoken(waited))
    }

    /// The end by `--timeout`.
    pub fn timed_out(&self, waited: Duration) -> End {
        let text = match self.uid {
            Some(_) => "the request stands; run the same command to go on waiting",
            None => "whether it is stored is not known; run the same command, which finds it or asks anew",
        };
        let told = if self.told.is_empty() { String::new() } else { format!(", {}", self.told) };
        End::new(Exit::StillWaiting, format!("{}: no end after {}{told}; {text}", self.place(), spoken(waited)))
    }

    fn end(&self, exit: Exit, text: &str) -> End {
        End::new(exit, format!("{}: {text}", self.place()))
    }
}

/// The end where something else is stored.
pub fn changed(place: &str, difference: &Difference) -> End {
    let next = "if it is another run or step, give this one a --name";
    End::new(Exit::Changed, format!("{place}: another request has that name: {difference}; {next}"))
}

/// State and message, without the command for reviewers.
fn standing(object: &Value) -> String {
    let text = |field: &str| object["status"][field].as_str().unwrap_or_default();
    let state = Some(text("state")).filter(|state| !state.is_empty()).unwrap_or("Pending");
    match (without_command(text("message")), object.get("status")) {
        ("", None) => format!("{state}: the operator has not looked at it yet"),
        ("", Some(_)) => state.into(),
        (message, _) => format!("{state}: {message}"),
    }
}

/// `45s`, `5m`, `1h30m`.
pub fn spoken(time: Duration) -> String {
    let (hours, minutes, seconds) = (time.as_secs() / 3600, time.as_secs() / 60 % 60, time.as_secs() % 60);
    let parts = [(hours, "h"), (minutes, "m"), (seconds, "s")];
    let text: String = parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n}{unit}")).collect();
    if text.is_empty() { "0s".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn manifest() -> Value {
        json!({"metadata": {"name": "run", "namespace": "payments"}, "spec": {"runID": "r", "reason": "why"}})
    }

    fn stored(state: &str, message: &str) -> Value {
        let mut object = manifest();
        object["metadata"]["uid"] = json!("1");
        object["status"] = json!({"state": state, "message": message});
        object
    }

    fn over(step: Step) -> End {
        match step {
            Step::Over(end) => end,
            other => panic!("not over: {other:?}"),
        }
    }

    #[test]
    fn each_change_is_one_line_and_a_repetition_none() {
        let mut progress = Progress::new(manifest());
        let mut unseen = stored("", "");
        unseen.as_object_mut().unwrap().remove("status");
        let line = |text: &str| Step::Line(format!("payments/run: {text}"));
        assert_eq!(progress.see(&unseen), line("Pending: the operator has not looked at it yet"));
        let pending = stored("Pending", "waiting for sre: kubectl patch apr run -n payments");
        assert_eq!(progress.see(&pending), line("Pending: waiting for sre"));
        assert_eq!(progress.see(&pending), Step::Quiet);
        assert_eq!(progress.see(&stored("Approved", "")), line("Approved"));
        assert_eq!(progress.heartbeat(Duration::from_secs(60)), "payments/run: still waiting after 1m: Approved");
    }

    #[test]
    fn every_final_state_has_its_exit_code() {
        for (state, exit) in [
            ("Released", Exit::Done),
            ("Denied", Exit::Denied),
            ("Expired", Exit::Expired),
            ("Cancelled", Exit::Cancelled),
        ] {
            let end = over(Progress::new(manifest()).see(&stored(state, "why")));
            assert_eq!(end, End::new(exit, format!("payments/run: {state}: why")));
        }
    }

    #[test]
    fn one_that_is_gone_ends_as_it_was_last() {
        let mut progress = Progress::new(manifest());
        assert_eq!(over(progress.gone(None)).exit, Exit::Cancelled);
        assert_eq!(over(progress.gone(Some(&stored("Pending", "")))).exit, Exit::Cancelled);
        assert_eq!(over(progress.gone(Some(&stored("Released", "")))).exit, Exit::Done);
    }

    #[test]
    fn another_request_is_never_taken_for_the_own_one_even_released() {
        let mut progress = Progress::new(manifest());
        progress.see(&stored("Pending", ""));
        let mut other = stored("Released", "");
        other["metadata"]["uid"] = json!("2");
        assert_eq!(over(progress.see(&other)).exit, Exit::Changed);
        let mut edited = stored("Released", "");
        edited["spec"]["reason"] = json!("other");
        let end = over(progress.see(&edited));
        assert_eq!(end.exit, Exit::Changed);
        assert!(end.text.contains("spec.reason is \"other\" there"), "{}", end.text);
    }

    #[test]
    fn a_timeout_says_how_to_go_on() {
        let mut progress = Progress::new(manifest());
        assert!(progress.timed_out(Duration::from_secs(5)).text.contains("whether it is stored is not known"));
        progress.see(&stored("Pending", "waiting"));
        let end = progress.timed_out(Duration::from_secs(5400));
        let text = "payments/run: no end after 1h30m, Pending: waiting; the request stands; run the same command to go on waiting";
        assert_eq!(end, End::new(Exit::StillWaiting, text));
    }

    #[test]
    fn lengths_of_time_are_short() {
        for (seconds, text) in [(0, "0s"), (45, "45s"), (60, "1m"), (3661, "1h1m1s"), (90_000, "25h")] {
            assert_eq!(spoken(Duration::from_secs(seconds)), text);
        }
    }
}
