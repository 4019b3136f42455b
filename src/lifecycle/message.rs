//! What `status.message` tells a person.

use crate::api::Subject;
use crate::binding::Pass;
use crate::lifecycle::RequestFacts;
use crate::policy::JoinedWindow;
use crate::review::Tally;

/// Longest message that is stored; longer ones are cut.
const LONGEST: usize = 2000;

/// Most freeze windows that a message names, and most of those who may pass one.
const MOST_WINDOWS: usize = 3;

/// What is still missing: `1 more approval from sre, 2 from security`.
pub fn missing(tally: &Tally) -> String {
    let open: Vec<String> = tally
        .progress
        .iter()
        .filter_map(|p| {
            let left = i64::from(p.required) - p.approved_by.len() as i64;
            let more = if p.approved_by.is_empty() { "" } else { " more" };
            let plural = if left == 1 { "" } else { "s" };
            let who: Vec<_> = p.approvers.iter().map(|a| a.describe()).collect();
            (left > 0).then(|| format!("{left}{more} approval{plural} from {}", who.join(" or ")))
        })
        .collect();
    if open.is_empty() { "nothing is missing".into() } else { format!("waiting for {}", open.join(", ")) }
}

/// What stands for the comment in a command that approves, where an approval takes one.
pub const COMMENT: &str = r#","comment":"<what you checked>""#;

/// The command that approves what the digest binds; with a place for a comment where it takes one.
pub fn approve_command(request: &RequestFacts, digest: &str, require_comment: bool) -> String {
    let comment = if require_comment { COMMENT } else { "" };
    format!(
        r#"kubectl patch apr {} -n {} --type=merge -p '{{"spec":{{"review":{{"decision":"Approve","digest":"{digest}"{comment}}}}}}}'"#,
        request.name, request.namespace
    )
}

/// Freeze windows and who passed them: `freeze window weekend of rule prod/prod-write passed by carol`.
pub fn passed(windows: &[&Pass]) -> String {
    let one = |pass: &&Pass| {
        format!("freeze window {} of rule {}/{} passed by {}", pass.window, pass.policy, pass.rule, pass.by)
    };
    let mut told: Vec<_> = windows.iter().take(MOST_WINDOWS).map(one).collect();
    if windows.len() > told.len() {
        told.push(format!("{} more freeze windows passed", windows.len() - told.len()));
    }
    told.join("; ")
}

/// Freeze windows and who may pass them: `freeze window weekend of rule prod/prod-write holds (sre may pass it)`.
pub fn windows(windows: &[&JoinedWindow]) -> String {
    let told = windows.iter().take(MOST_WINDOWS).map(|joined| {
        let window = joined.window();
        let who: Vec<_> = window.may_pass.iter().take(MOST_WINDOWS).map(Subject::describe).collect();
        let more = if window.may_pass.len() > who.len() { " or others" } else { "" };
        let who = if who.is_empty() { "nobody".into() } else { who.join(" or ") };
        let (policy, rule) = (&joined.rule.policy, &joined.rule.rule.name);
        format!("freeze window {} of rule {policy}/{rule} holds ({who}{more} may pass it)", window.name)
    });
    let mut told: Vec<_> = told.collect();
    if windows.len() > told.len() {
        told.push(format!("{} more freeze windows hold", windows.len() - told.len()));
    }
    told.join("; ")
}

/// Reviews that do not count, and why.
pub fn not_counted(tally: &Tally) -> String {
    let mut parts = vec![];
    if tally.stale > 0 {
        parts.push(format!("{} earlier review(s) no longer count", tally.stale));
    }
    if tally.unsealed > 0 {
        let text =
            "review(s) were not sealed by admission, or under a signing key that was retired since, and do not count";
        parts.push(format!("{} {text}; whoever gave one can give it again", tally.unsealed));
    }
    parts.join("; ")
}

/// At most what the API stores, cut at a character.
pub fn cut(mut text: String) -> String {
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}
