//! Completion, in the protocol of kubectl's plugins: `kubectl_complete-approve` is asked with the words so far and prints one
//! candidate a line, and last a directive. kubectl's own completion for bash, zsh and fish then offers them.

use crate::cli::escape::visible_identifier;
use crate::cli::explain::read_request;
use crate::cli::kubeconfig;
use crate::cli::review::args::{Args, command, parse};
use crate::cli::review::cluster::{Cluster, OPEN, Page};
use crate::cli::review::{Verb, tell};
use crate::lifecycle::RequestFacts;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

/// The first word of such a call. No request is called like that.
pub const WORD: &str = "__complete";
/// How long somebody who presses a key is kept waiting.
const PATIENCE: Duration = Duration::from_secs(3);
/// The directive that files are none of the candidates.
const NO_FILES: &str = ":4\n";
/// The directive that the shell offers files.
const FILES: &str = ":0\n";

/// Prints what could stand in the place of the last word. Whatever fails prints nothing: a shell is no place for errors.
pub async fn run(verb: Verb, words: &[OsString]) -> ExitCode {
    let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let (last, before) = words.split_last().map_or(("", &[][..]), |(last, before)| (last.as_str(), before));
    let wanted = wanted(verb, before, last);
    if wanted == Wanted::File {
        tell(FILES);
        return ExitCode::SUCCESS;
    }
    let found = tokio::time::timeout(PATIENCE, candidates(verb, before, wanted)).await.unwrap_or_default();
    let fitting = found.iter().filter(|candidate| candidate.starts_with(last));
    tell(&(fitting.map(|candidate| format!("{candidate}\n")).collect::<String>() + NO_FILES));
    ExitCode::SUCCESS
}

/// What the last word is to be.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Wanted {
    Flag,
    Form(Vec<String>),
    Namespace,
    Context,
    Cluster,
    User,
    File,
    Request,
    Nothing,
}

fn wanted(verb: Verb, before: &[String], last: &str) -> Wanted {
    let command = command(verb);
    if let Some(flag) = before.last().and_then(|word| word.strip_prefix('-')) {
        let name = flag.trim_start_matches('-');
        let is = |arg: &&clap::Arg| match flag.starts_with('-') {
            true => arg.get_long() == Some(name),
            false => arg.get_short().is_some_and(|short| name.ends_with(short)),
        };
        let value = |arg: &&clap::Arg| arg.get_action().takes_values() && !arg.is_positional();
        if let Some(arg) = command.get_arguments().find(|arg| is(arg) && value(arg)) {
            return of_flag(arg);
        }
    }
    if last.starts_with('-') { Wanted::Flag } else { Wanted::Request }
}

fn of_flag(arg: &clap::Arg) -> Wanted {
    match arg.get_long().unwrap_or_default() {
        "namespace" => Wanted::Namespace,
        "context" => Wanted::Context,
        "cluster" => Wanted::Cluster,
        "user" => Wanted::User,
        "kubeconfig" => Wanted::File,
        "output" => Wanted::Form(arg.get_possible_values().iter().map(|value| value.get_name().to_string()).collect()),
        _ => Wanted::Nothing,
    }
}

async fn candidates(verb: Verb, before: &[String], wanted: Wanted) -> Vec<String> {
    match wanted {
        Wanted::Flag => flags(verb),
        Wanted::Form(forms) => forms,
        Wanted::Request | Wanted::Namespace => {
            let everywhere = wanted == Wanted::Namespace;
            // The word before an unfinished flag's value would not parse.
            let words = if everywhere { &before[..before.len() - 1] } else { before };
            let program = std::iter::once(OsString::from(verb.command()));
            let Ok(args) = parse(verb, program.chain(words.iter().map(OsString::from))) else { return vec![] };
            let pending = pending(&args, everywhere).await.unwrap_or_default();
            let taken = &args.names;
            match everywhere {
                true => pending.iter().map(|r| r.namespace.clone()).collect::<BTreeSet<_>>().into_iter().collect(),
                false => pending.iter().filter(|r| !taken.contains(&r.name)).map(described).collect(),
            }
        }
        other => entries(&other),
    }
}

fn flags(verb: Verb) -> Vec<String> {
    let command = command(verb);
    let flag = |arg: &clap::Arg| Some(format!("--{}\t{}", arg.get_long()?, arg.get_help()?));
    command.get_arguments().filter(|arg| !arg.is_hide_set()).filter_map(flag).collect()
}

/// A name, and beside it what it is about.
fn described(request: &RequestFacts) -> String {
    let rule = request.status.summary.as_ref().map(|summary| summary.rule.clone()).unwrap_or_default();
    let told = format!("{rule}, asked by {}", request.requester().username);
    format!("{}\t{}", request.name, visible_identifier(&told))
}

/// The requests that wait, in the namespace that is meant.
async fn pending(args: &Args, everywhere: bool) -> Option<Vec<RequestFacts>> {
    let cluster = Cluster::new(args.connection.config().await.ok()?).ok()?;
    let namespace = args.namespace.as_deref().unwrap_or(&cluster.namespace);
    let list =
        cluster.page((!everywhere).then_some(namespace), &Page { which: Some(OPEN), ..Page::default() }).await.ok()?;
    let requests = list.items.iter().filter_map(|object| read_request(object).ok());
    Some(requests.filter(|request| !request.status.state.is_final()).collect())
}

fn entries(wanted: &Wanted) -> Vec<String> {
    let Ok(Some(config)) = kubeconfig::find(None) else { return vec![] };
    match wanted {
        Wanted::Context => config.contexts.into_iter().map(|context| context.name).collect(),
        Wanted::Cluster => config.clusters.into_iter().map(|cluster| cluster.name).collect(),
        Wanted::User => config.auth_infos.into_iter().map(|user| user.name).collect(),
        _ => vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(String::from).collect()
    }

    #[test]
    fn what_stands_before_says_what_is_wanted() {
        for (before, last, expected) in [
            ("", "", Wanted::Request),
            ("-n payments", "ru", Wanted::Request),
            ("run-1 --yes", "", Wanted::Request),
            ("", "--co", Wanted::Flag),
            ("-n", "", Wanted::Namespace),
            ("--namespace", "pay", Wanted::Namespace),
            ("--kubeconfig", "", Wanted::File),
            ("--context", "", Wanted::Context),
            ("--comment", "", Wanted::Nothing),
        ] {
            assert_eq!(wanted(Verb::Approve, &words(before), last), expected, "{before} | {last}");
        }
        assert_eq!(
            wanted(Verb::Deny, &words("-o"), ""),
            Wanted::Form(["wide", "json", "yaml", "name"].map(String::from).to_vec())
        );
    }
}
