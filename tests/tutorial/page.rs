//! The tutorial as a page: what to type, and what it says comes of that.

use anyhow::{Context, Result, bail, ensure};
use regex::Regex;

/// What the page leaves out.
const ANYTHING: &str = "…";

/// Commands to type, and what they print, all of it.
#[derive(Debug, Default, PartialEq)]
pub struct Step {
    /// Where the commands stand on the page.
    pub line: usize,
    pub commands: Vec<String>,
    pub shown: String,
    /// Whether the last command is one that fails.
    pub refused: bool,
}

/// The steps of a page: each is a block of `sh`, with the block of `console` or `text` that follows. Without one, the
/// commands print nothing. `text refused` says that the last command fails.
pub fn steps(page: &str) -> Result<Vec<Step>> {
    let mut steps: Vec<Step> = vec![];
    let mut told = true;
    let mut lines = page.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(kind) = line.strip_prefix("```") else { continue };
        let block: Vec<_> = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
        let mut kinds = kind.split(' ');
        match kinds.next() {
            Some("sh") => {
                let commands = block.iter().map(|line| line.to_string()).collect();
                steps.push(Step { line: number + 2, commands, ..Step::default() });
                told = false;
            }
            Some("console" | "text") => {
                let step = steps.last_mut().filter(|_| !told);
                let step = step.with_context(|| format!("line {}: no command printed this", number + 1))?;
                step.shown = block.join("\n");
                step.refused = kinds.next() == Some("refused");
                told = true;
            }
            _ => bail!("line {}: a block of {kind:?}, which nothing checks", number + 1),
        }
    }
    for step in &steps {
        let whole = |command: &String| !command.is_empty() && !command.ends_with('\\');
        ensure!(step.commands.iter().all(whole), "line {}: a command that does not stand on one line", step.line);
    }
    Ok(steps)
}

/// What the page says is typed after each question that ends with this.
pub fn answers(shown: &str, question: &str) -> Vec<String> {
    let lines = shown.lines().filter_map(|line| line.split_once(question));
    lines.map(|(_, answer)| answer.trim().to_string()).collect()
}

/// Fails where what was printed is not what the page shows. `…` stands for any part of a line, and on a line of its own for
/// any lines.
pub fn compare(shown: &str, printed: &str) -> Result<()> {
    let printed: String = printed.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    let lines: Vec<_> = shown.lines().map(pattern).collect();
    if Regex::new(&format!(r"\A{}\z", lines.concat()))?.is_match(&printed) {
        return Ok(());
    }
    let mut fits = 0;
    while fits < lines.len() && Regex::new(&format!(r"\A{}", lines[..=fits].concat()))?.is_match(&printed) {
        fits += 1;
    }
    let what = shown.lines().nth(fits).map_or("the end".into(), |line| format!("{line:?}"));
    bail!("expected {what} after {fits} line(s) that fit; printed was:\n{printed}")
}

fn pattern(line: &str) -> String {
    if line.trim() == ANYTHING {
        return "(?:.*\n)*?".into();
    }
    let parts: Vec<_> = line.trim_end().split(ANYTHING).map(regex::escape).collect();
    format!("{}\n", parts.join(".*"))
}

#[test]
fn a_page_is_its_commands_with_what_they_print() -> Result<()> {
    let page = "# T\n\n```sh\na --b\nc\n```\n\nSo:\n\n```console\nx\n\ny\n```\n```sh\nd\n```\n```sh\ne\n```\n```text refused\nno\n```\n";
    let step = |line, commands: &[&str], shown: &str, refused| Step {
        line,
        commands: commands.iter().map(|command| command.to_string()).collect(),
        shown: shown.into(),
        refused,
    };
    let expected =
        [step(4, &["a --b", "c"], "x\n\ny", false), step(16, &["d"], "", false), step(19, &["e"], "no", true)];
    assert_eq!(steps(page)?, expected);
    for wrong in ["```text\nx\n```\n", "```yaml\nx\n```\n", "```sh\na \\\n  b\n```\n"] {
        ensure!(steps(wrong).is_err(), "{wrong}");
    }
    Ok(())
}

#[test]
fn what_is_printed_has_to_be_what_is_shown() {
    for (shown, printed) in [
        ("", ""),
        ("a\nb", "a  \nb\n"),
        ("a … c\n…\ne", "a b c\nd\nd\ne\n"),
        ("…\ne", "e\n"),
        ("a[y/N] y", "a[y/N] y\n"),
        ("…", ""),
    ] {
        assert!(compare(shown, printed).is_ok(), "{shown:?} {printed:?}");
    }
    for (shown, printed, expected) in [
        ("", "a\n", "the end after 0"),
        ("a", "", "\"a\" after 0"),
        ("a\nb", "a\nc\n", "\"b\" after 1"),
        ("a … c", "a b\nc\n", "\"a … c\" after 0"),
        ("a\n…\ne", "a\nd\n", "\"e\" after 2"),
        ("a", "a\nb\n", "the end after 1"),
        ("a.c", "abc\n", "\"a.c\" after 0"),
    ] {
        let said = compare(shown, printed).expect_err(shown).to_string();
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn what_stands_behind_a_question_is_what_is_typed() {
    assert_eq!(answers("Card\nApprove? [y/N] y\n…\nDeny? [y/N] n\n", "? [y/N] "), ["y", "n"]);
}
