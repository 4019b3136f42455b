//! The commands that the documentation shows are ones that there are, with flags that they take.

use crate::book::{pages, text};
use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use clap::error::ErrorKind;
use countersign::cli::Args;
use countersign::cli::review::{Verb, parse};
use regex::Regex;
use std::ffi::OsString;
use std::fs;
use std::mem::take;

/// The simple commands of a piece of shell, as words: without comments, redirections and what stands in quotes of its own.
fn commands(shell: &str) -> Vec<Vec<String>> {
    let (mut all, mut words, mut word) = (vec![], vec![], None::<String>);
    let mut rest = shell.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\\' => match rest.next() {
                Some(next) if next != '\n' => word.get_or_insert_default().push(next),
                _ => {}
            },
            '\'' | '"' => word.get_or_insert_default().extend(rest.by_ref().take_while(|next| *next != c)),
            '#' if word.is_none() => while rest.next_if(|next| *next != '\n').is_some() {},
            ' ' | '\t' => words.extend(word.take()),
            '\n' | ';' | '|' | '&' | '(' | ')' => {
                words.extend(word.take());
                all.push(take(&mut words));
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    all.push(words);
    all.iter().map(|words| without_redirections(words)).filter(|words| !words.is_empty()).collect()
}

/// Without `> file` and `2>/dev/null`.
fn without_redirections(words: &[String]) -> Vec<String> {
    let mut kept = vec![];
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.trim_start_matches(|c: char| c.is_ascii_digit()) {
            ">" | ">>" | "<" => drop(words.next()),
            redirection if redirection.starts_with(['>', '<']) => {}
            _ => kept.push(word.clone()),
        }
    }
    kept
}

/// With a value for each placeholder: a word in capitals, a variable, and what `…` leaves out.
fn filled_in(word: &str) -> Result<String> {
    let word = Regex::new(r"\$\{?\w+\}?|\b[A-Z][A-Z_]+\b")?.replace_all(word, "placeholder");
    Ok(word.replace('…', &"a".repeat(64)))
}

/// Whether it is a command line of ours, and if so, whether it is one that the command takes.
fn check(words: &[String]) -> Result<bool> {
    let plain: Vec<_> = words.iter().map(String::as_str).collect();
    let review = match plain.as_slice() {
        ["countersign", ..] => None,
        ["kubectl", "approve", ..] => Some(Verb::Approve),
        ["kubectl", "deny", ..] => Some(Verb::Deny),
        _ => return Ok(false),
    };
    let words = words.iter().map(|word| filled_in(word).map(OsString::from)).collect::<Result<Vec<_>>>()?;
    let outcome = match review {
        // kubectl calls its plugin with what stands behind the name.
        Some(verb) => parse(verb, words.into_iter().skip(1)).map(drop),
        None => Args::try_parse_from(words).map(drop),
    };
    match outcome {
        Err(error) if !matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => Err(error.into()),
        _ => Ok(true),
    }
}

#[test]
fn every_command_line_in_the_docs_is_one_that_there_is() -> Result<()> {
    let mut seen = 0;
    for path in pages()? {
        let page = fs::read_to_string(&path)?;
        for block in page.split("```sh\n").skip(1) {
            let (block, _) = block.split_once("\n```").context("a block without an end")?;
            for words in commands(block) {
                let known = check(&words).with_context(|| format!("{}: {}", path.display(), words.join(" ")))?;
                seen += usize::from(known);
            }
        }
    }
    ensure!(seen > 40, "only {seen} command lines were found");
    Ok(())
}

/// In the text a command may be named without all that it takes.
#[test]
fn every_command_that_the_text_names_is_one_that_there_is() -> Result<()> {
    let mut seen = 0;
    for path in pages()? {
        let page = fs::read_to_string(&path)?;
        let text = text(&page);
        let spans = text.split('`').skip(1).step_by(2);
        for words in spans.flat_map(|span| commands(&span.replace('\n', " "))) {
            match check(&words) {
                Ok(known) => seen += usize::from(known),
                Err(error) if is_a_part(&error) => seen += 1,
                Err(error) => bail!("{}: {}: {error}", path.display(), words.join(" ")),
            }
        }
    }
    ensure!(seen > 25, "only {seen} commands were found");
    Ok(())
}

fn is_a_part(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref().map(clap::Error::kind);
    matches!(
        kind,
        Some(
            ErrorKind::MissingRequiredArgument
                | ErrorKind::MissingSubcommand
                | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        )
    )
}

#[test]
fn command_lines_are_taken_apart_as_a_shell_does() {
    let found = commands(
        "constraints=$(countersign receipt verify --job \"$UID\" \\\n  --keys k 2>/dev/null) || exit 1   # so\n\
         countersign manifests | kubectl apply -f - > out\nx -p '{\"a b\": \"c\"}'\n",
    );
    assert_eq!(
        found,
        [
            &["constraints=$"][..],
            &["countersign", "receipt", "verify", "--job", "$UID", "--keys", "k"],
            &["exit", "1"],
            &["countersign", "manifests"],
            &["kubectl", "apply", "-f", "-"],
            &["x", "-p", "{\"a b\": \"c\"}"],
        ]
    );
}

#[test]
fn a_command_line_that_there_is_not_is_found_out() -> Result<()> {
    let words = |line: &str| line.split(' ').map(String::from).collect::<Vec<_>>();
    for wrong in [
        "countersign aprove",
        "countersign manifests --hold never",
        "kubectl approve --all NAME",
        "kubectl deny --json",
    ] {
        ensure!(check(&words(wrong)).is_err(), "{wrong}");
    }
    ensure!(check(&words("kubectl approve NAME -n NAMESPACE --digest sha256:…"))?);
    ensure!(!check(&words("kubectl get apr"))?);
    Ok(())
}
