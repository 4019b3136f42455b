//! The explanation as text. Nearly every word comes from a tenant, so each is escaped here and nowhere else.

use crate::cli::escape::{visible, visible_identifier};
use crate::cli::explain::account::{Account, Frozen, Joined, Word};
use crate::policy::{PolicyTrace, RuleTrace, Standing};

/// The explanation for a person.
pub fn render(account: &Account) -> String {
    let mut page = Page::default();
    heading(&mut page, account);
    policies(&mut page, account);
    if let Some(outcome) = &account.outcome {
        joined(&mut page, outcome);
    }
    approvals(&mut page, account);
    clocks(&mut page, account);
    page.list("Notes", account.notes.iter().map(|note| visible(note)));
    page.0
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn line(&mut self, line: &str) {
        self.0.push_str(line.trim_end());
        self.0.push('\n');
    }

    fn row(&mut self, label: &str, text: &str) {
        if !text.is_empty() {
            self.line(&format!("  {label:<14}{text}"));
        }
    }

    /// A heading and a line for each text; nothing where there is none.
    fn list(&mut self, heading: &str, texts: impl IntoIterator<Item = String>) {
        let texts: Vec<_> = texts.into_iter().collect();
        if !texts.is_empty() {
            self.line(&format!("\n{heading}"));
            texts.iter().for_each(|text| self.line(&format!("  {text}")));
        }
    }
}

fn heading(page: &mut Page, account: &Account) {
    let asked = &account.request;
    let (namespace, name) = (visible_identifier(&asked.namespace), visible_identifier(&asked.name));
    page.line(&format!("{namespace}/{name}: {}", asked.state));
    page.row("message", &visible(&asked.message));
    if let Some(blocked) = &account.blocked {
        page.row("blocked by", &format!("{}: {}", visible_identifier(&blocked.reason), visible(&blocked.message)));
    }
    page.row("asked by", &format!("{} (authenticated)", visible_identifier(&asked.requester)));
    page.row("claims to be", &visible_identifier(&asked.requested_by));
    page.row("claims why", &visible(&asked.reason));
    page.row("target", &asked.target.as_deref().map(visible_identifier).unwrap_or_default());
    page.list(
        "Risk tags, as the operator found them",
        account.tags.iter().map(|tag| {
            let by = tag.policy.as_ref().map(|p| format!(" by policy {}", visible_identifier(p))).unwrap_or_default();
            let detail = tag.detail.as_ref().map(|d| format!(": {}", visible(d))).unwrap_or_default();
            let advisory = if tag.advisory { " (advisory)" } else { "" };
            format!("{} {}{by}{advisory}{detail}", visible_identifier(&tag.tag), tag.source.to_lowercase())
        }),
    );
}

fn policies(page: &mut Page, account: &Account) {
    let Some(policies) = &account.policies else {
        return page.line("\nPolicies\n  not judged here: see the notes");
    };
    page.line("\nPolicies");
    if policies.is_empty() {
        page.line("  there is none; nothing is approved without one");
    }
    for policy in policies {
        page.line(&format!("  {}", policy_line(policy)));
        for rule in &policy.rules {
            rule_lines(rule).iter().for_each(|line| page.line(&format!("    {line}")));
        }
    }
}

/// One policy on a line.
pub fn policy_line(policy: &PolicyTrace) -> String {
    let name = visible_identifier(&policy.policy);
    let error = visible(policy.error.as_deref().unwrap_or_default());
    match policy.standing {
        Standing::Applies => name,
        Standing::Elsewhere => format!("{name}: its match does not select this namespace"),
        Standing::Broken => format!("{name}: does not compile and might apply, so nothing is approved: {error}"),
        Standing::BrokenElsewhere => format!("{name}: does not compile, and does not apply here: {error}"),
    }
}

/// One rule: whether it matches, and below what is to say of it.
pub fn rule_lines(rule: &RuleTrace) -> Vec<String> {
    let mark = if rule.matched { "✓" } else { "✗" };
    let missed = rule.missed.as_ref().map(|missed| format!(": {}", visible(missed))).unwrap_or_default();
    let mut lines = vec![format!("{mark} {} {:?}{missed}", visible_identifier(&rule.rule), rule.decision)];
    if let Some(failed) = rule.failed.as_ref().filter(|_| rule.matched) {
        lines.push(format!("    its expression failed, so it counts on the safe side: {}", visible(failed)));
    }
    lines.extend(rule.hint.iter().map(|hint| format!("    hint: {}", visible(hint))));
    lines
}

fn joined(page: &mut Page, outcome: &Joined) {
    page.line(&format!("\nOutcome: {}", outcome.decision));
    for requirement in &outcome.requirements {
        page.row("requires", &visible_identifier(requirement));
    }
    if !outcome.requirements.is_empty() {
        page.row("ended by", &format!("{} denial(s)", outcome.denials));
        page.row("self-approval", &format!("{:?}", outcome.self_approval));
        page.row("comment", if outcome.require_comment { "required" } else { "" });
    }
    if !outcome.constraints.is_empty() {
        page.row("bounds", &visible(&serde_json::to_string(&outcome.constraints).unwrap_or_default()));
    }
    if let Some(seconds) = outcome.not_before_seconds {
        page.row("not before", &format!("{seconds} s after it was asked"));
    }
    for Frozen { window, passed_by } in &outcome.freeze_windows {
        let passers = window.may_pass.iter().map(|s| s.describe()).collect::<Vec<_>>().join(" or ");
        let passers = if passers.is_empty() { "nobody".into() } else { passers };
        let passers = match passed_by {
            Some(who) => format!("passed by {who}"),
            None => format!("may be passed by {passers}"),
        };
        let (start, zone, seconds) = (&window.start, &window.time_zone, window.duration_seconds);
        page.row("frozen", &visible_identifier(&format!("{}: {start} ({zone}), {seconds} s; {passers}", window.name)));
    }
    let timeouts = format!(
        "{} s to be approved, then {} s to be used",
        outcome.pending_timeout_seconds, outcome.release_timeout_seconds
    );
    page.row("timeouts", &timeouts);
    outcome.held.iter().for_each(|held| page.row("held", &visible(held)));
}

fn approvals(page: &mut Page, account: &Account) {
    let all = &account.approvals;
    let over = account.request.over;
    page.list(
        "Approvals",
        all.requirements.iter().map(|p| {
            let names = |names: &[String], between: &str| {
                names.iter().map(|name| visible_identifier(name)).collect::<Vec<_>>().join(between)
            };
            let nobody = if over { "nobody" } else { "nobody yet" };
            let by = if p.approved_by.is_empty() { nobody.into() } else { names(&p.approved_by, ", ") };
            let open =
                if p.open_to.is_empty() { String::new() } else { format!("; open to {}", names(&p.open_to, " or ")) };
            format!("{} {}/{}: {by}{open}", visible_identifier(&p.requirement), p.approved_by.len(), p.required)
        }),
    );
    if !all.requirements.is_empty() {
        page.row("missing", &visible_identifier(&all.missing));
        for who in &all.excluded {
            page.row("not counted", &format!("{}, {}", visible_identifier(&who.name), who.why));
        }
    }
    page.list("Reviews (seals are not checked here: that takes the operator's key)", account.reviews.iter().map(word));
}

fn word(word: &Word) -> String {
    let comment = word.comment.as_ref().map(|c| format!(" \"{}\"", visible(c))).unwrap_or_default();
    let counts = if word.counts { "counts".into() } else { format!("does not count: {}", word.why_not.join("; ")) };
    format!("{} {} {}{comment}: {}", visible_identifier(&word.reviewer), word.decision, word.time, visible(&counts))
}

fn clocks(page: &mut Page, account: &Account) {
    let clocks = &account.clocks;
    let rows = [
        (&clocks.pending_until, "expires unless approved by"),
        (&clocks.not_before, "nothing is released before"),
        (&clocks.waits_until, "an approved release waits until"),
        (&clocks.release_by, "the approval expires unused at"),
    ];
    page.list("Time", rows.into_iter().filter_map(|(time, what)| Some(format!("{what} {}", time.as_ref()?))));
}
