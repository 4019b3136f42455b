//! docs/reference/commands.md: the `--help` of every command.

use clap::CommandFactory;
use countersign::cli::Args;
use countersign::cli::review::{self, Verb};
use std::fmt::Write;

/// Where the page is.
pub const PAGE: &str = "docs/reference/commands.md";

/// Columns of the help, whatever terminal the page is written from.
const COLUMNS: usize = 100;

const HEAD: &str = "<!-- Generated from the command line. Do not edit. -->

# Commands

What `--help` says of `countersign`, and of the plugins [`kubectl approve` and `kubectl deny`](../reviewing.md). Every flag
with an `env` can be given by that variable instead.
";

/// The page.
pub fn page() -> Result<String, std::fmt::Error> {
    let mut page = String::from(HEAD);
    for command in [Args::command(), review::command(Verb::Approve), review::command(Verb::Deny)] {
        let mut command = silent(command.term_width(COLUMNS));
        command.build();
        tell(&mut page, &command)?;
    }
    Ok(page)
}

/// Without the values that variables happen to have where the page is written.
fn silent(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|argument| argument.hide_env_values(true));
    command.mut_subcommands(silent)
}

fn tell(page: &mut String, command: &clap::Command) -> std::fmt::Result {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    writeln!(page, "\n## {name}\n\n```text")?;
    let help = command.clone().render_long_help().to_string();
    help.trim_end().lines().try_for_each(|line| writeln!(page, "{}", line.trim_end()))?;
    writeln!(page, "```")?;
    let told = |command: &&clap::Command| command.get_name() != "help" && !command.is_hide_set();
    command.get_subcommands().filter(told).try_for_each(|command| tell(page, command))
}
