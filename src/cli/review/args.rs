//! The command line of `kubectl approve` and `kubectl deny`.

use crate::cli::bounds::object_name;
use crate::cli::manifests::dns_label;
use crate::cli::review::Verb;
use crate::cli::review::connection::{Connection, duration};
use clap::error::ErrorKind;
use clap::{Args as _, FromArgMatches};
use std::ffi::OsString;
use std::time::Duration;

/// Longest comment that the API stores, in characters.
pub const LONGEST_COMMENT: usize = 1024;
/// The fewest digits of a digest that pin it.
const FEWEST_DIGITS: usize = 12;

/// What is decided, and how.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Args {
    /// The requests to decide; without one, what waits for you is listed
    #[arg(value_name = "NAME", value_parser = request_name)]
    pub names: Vec<String>,
    /// Decide everything that waits for you: after one listing and one question, each by the digest that was listed
    #[arg(long, conflicts_with = "names")]
    pub all: bool,
    /// Namespace of the requests [default: the kubeconfig context's]
    #[arg(short, long, value_parser = dns_label)]
    pub namespace: Option<String>,
    /// List, or with --all decide, in every namespace
    #[arg(short = 'A', long, conflicts_with_all = ["names", "namespace"])]
    pub all_namespaces: bool,
    /// List, or with --all decide, only what carries these labels
    #[arg(short = 'l', long, value_name = "LABELS", conflicts_with = "names")]
    pub selector: Option<String>,
    /// Do not ask: for scripts. Pin with --digest what was read elsewhere
    #[arg(short, long)]
    pub yes: bool,
    /// Your words, kept with the decision; some policies want them with every approval
    #[arg(short = 'm', long, value_name = "TEXT", value_parser = comment)]
    pub comment: Option<String>,
    /// Decide only if this is the digest that stands now: `sha256:` and its 64 digits, or at least the first 12 of them
    #[arg(long, value_name = "DIGEST", value_parser = digest)]
    pub digest: Option<String>,
    /// How long to wait for what comes of it; 0 does not wait
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration)]
    pub wait: Duration,
    /// Go on listing what comes to wait for you, and what no longer does
    #[arg(short, long, conflicts_with_all = ["names", "all"])]
    pub watch: bool,
    /// Show the list on a screen, up to date, and decide there: read a card, one key to approve or deny, `y`, a comment
    #[arg(long, conflicts_with_all = ["names", "all", "watch", "output", "yes", "comment", "digest"])]
    pub tui: bool,
    /// How to print the list
    #[arg(short, long, value_name = "FORM", value_enum, conflicts_with_all = ["names", "all"])]
    pub output: Option<Form>,
    /// List everything that waits, and why it is not yours to approve
    #[arg(long, conflicts_with_all = ["names", "all"])]
    pub all_pending: bool,
    /// Which cluster, and as whom.
    #[command(flatten)]
    pub connection: Connection,
}

/// Forms of the list.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    /// With workflow, target, digest and reason
    Wide,
    /// The requests as stored
    Json,
    /// The requests as stored
    Yaml,
    /// Names alone, to decide on with this command
    Name,
}

/// A name, also in the form `approvalrequest.countersign.dev/NAME` that `-o name` prints.
fn request_name(text: &str) -> Result<String, String> {
    let name = match text.split_once('/') {
        Some(("apr" | "approvalrequest" | "approvalrequests" | "approvalrequest.countersign.dev", name)) => name,
        _ => text,
    };
    object_name(name).map(|()| name.into())
}

fn comment(text: &str) -> Result<String, String> {
    match text.chars().count() {
        length if length > LONGEST_COMMENT => Err(format!("has {length} characters; {LONGEST_COMMENT} can be kept")),
        _ => Ok(text.into()),
    }
}

/// A digest or its beginning, in one spelling.
fn digest(text: &str) -> Result<String, String> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text).to_ascii_lowercase();
    let fits = (FEWEST_DIGITS..=64).contains(&digits.len()) && digits.chars().all(|c| c.is_ascii_hexdigit());
    if fits { Ok(format!("sha256:{digits}")) } else { Err("write `sha256:` and at least the first 12 digits".into()) }
}

/// The command line of a verb.
pub fn command(verb: Verb) -> clap::Command {
    let name = verb.command();
    let command = Args::augment_args(clap::Command::new(name).bin_name(format!("kubectl {name}")));
    let mut usage = format!(
        "kubectl {name} NAME... [--comment TEXT] [--yes [--digest DIGEST]]\n       kubectl {name} --all [-A | -n NAMESPACE] [-l LABELS]\n       kubectl {name} [-A | -n NAMESPACE] [-l LABELS] [--watch] [-o FORM]"
    );
    let mut after = String::from(AFTER);
    if verb == Verb::Approve {
        after.push_str("\nOf --tui it is 0 after q, and 130 after Ctrl-C or while a review is on its way.");
        usage.push_str("\n       kubectl approve --tui [-A | -n NAMESPACE] [-l LABELS] [--all-pending]");
    }
    command
        .mut_arg("tui", |tui| tui.hide(verb == Verb::Deny))
        .version(env!("CARGO_PKG_VERSION"))
        .about(verb.about())
        .override_usage(usage)
        .after_help(after)
}

const AFTER: &str =
    "Without a NAME it lists your inbox: the requests that an approval of yours could move, most urgent first.
With one it shows the card of the request, asks, and sends the digest that it showed: if anything has changed
meanwhile, nothing is stored.

Exit codes:
  0    every review is stored; what came of it is printed.
  1    something failed, or nobody answers: it may work later
  2    the command line is wrong
  3    refused: not your right, not your request, a comment is missing, it is over
  4    what you saw, or pinned with --digest, is not what stands now: read it again
  5    not confirmed, or nobody there to ask (no terminal, and no --yes)
  6    stored, but the request came to another end than you decided
  130  interrupted
With several requests it is the code of the first that did not go well.";

/// Reads a command line; the first word is the program.
pub fn parse(verb: Verb, words: impl IntoIterator<Item = OsString>) -> Result<Args, clap::Error> {
    let mut command = command(verb);
    let matches = command.try_get_matches_from_mut(words)?;
    let args = Args::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    let wrong = |text: &str| Err(command.clone().error(ErrorKind::ArgumentConflict, text));
    if args.tui && verb == Verb::Deny {
        return wrong("--tui is of kubectl approve: on its screen, d denies");
    }
    if args.digest.is_some() && args.names.len() != 1 {
        return wrong("--digest pins one request: name it, and no other");
    }
    if args.watch && !matches!(args.output, None | Some(Form::Wide)) {
        return wrong("--watch tells in lines: it goes with -o wide alone");
    }
    if args.names.is_empty() && !args.all && (args.yes || args.comment.is_some()) {
        return wrong("--yes and --comment are for a decision: name the requests, or say --all");
    }
    Ok(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Args, String> {
        let words = ["kubectl-approve"].iter().chain(words).map(OsString::from);
        parse(Verb::Approve, words).map_err(|error| error.to_string())
    }

    #[test]
    fn the_command_line_is_consistent() {
        command(Verb::Approve).debug_assert();
        command(Verb::Deny).debug_assert();
    }

    #[test]
    fn names_and_digests_are_taken_in_every_usual_form() {
        let args = read(&["approvalrequest.countersign.dev/run", "--digest", "ABCDEF012345"]).expect("args");
        assert_eq!((args.names, args.digest), (vec!["run".to_string()], Some("sha256:abcdef012345".to_string())));
        let full = format!("sha256:{}", "a".repeat(64));
        assert_eq!(read(&["run", "--digest", &full]).expect("args").digest, Some(full));
        for wrong in ["abcdef01234", "sha256:", "xyz456789012", &"a".repeat(65)] {
            assert!(read(&["run", "--digest", wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_screen_is_of_one_command_and_chooses_where_to_look() {
        let args = read(&["--tui", "-A", "-l", "team=blue", "--all-pending"]).expect("args");
        assert!(args.tui && args.all_namespaces && args.all_pending);
        let denied = parse(Verb::Deny, ["kubectl-deny", "--tui"].map(OsString::from)).expect_err("no such screen");
        assert!(denied.to_string().contains("on its screen, d denies"), "{denied}");
        let help = |verb| command(verb).render_long_help().to_string();
        assert!(help(Verb::Approve).contains("--tui") && !help(Verb::Deny).contains("--tui"), "{}", help(Verb::Deny));
    }

    #[test]
    fn what_would_decide_more_than_was_meant_is_no_command() {
        for words in [
            &["a", "b", "--digest", "abcdef012345"][..],
            &["--yes"],
            &["--comment", "x"],
            &["a", "--all"],
            &["a", "-A"],
            &["a", "-l", "x=y"],
            &["a", "-o", "json"],
            &["--all", "--watch"],
            &["--watch", "-o", "json"],
            &["A_b"],
            &["--as-group", "sre", "a"],
            &["--tui", "a"],
            &["--tui", "--all"],
            &["--tui", "--yes"],
            &["--tui", "--watch"],
            &["--tui", "-o", "wide"],
            &["--tui", "--comment", "x"],
        ] {
            assert!(read(words).is_err(), "{words:?}");
        }
        assert!(read(&["a", "--comment", &"x".repeat(1025)]).is_err());
    }
}
