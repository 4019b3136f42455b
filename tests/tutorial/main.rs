//! docs/tutorial.md does what it says: every command on it is typed at a terminal, in order, and prints what stands below it.
//!
//! Nothing is replaced but this: the reader sits in this checkout, in place of a clone of it; and what their first hour
//! downloads and builds is there already (the toolchains, crates and Kubernetes programs, and cargo's target directory). The
//! home, the temporary directory and every other variable are the reader's own, and `PATH` has cargo, go and the system's
//! commands alone.

mod page;
mod reader;

use anyhow::{Context, Result, ensure};
use page::{Step, answers, compare, steps};
use reader::{QUESTION, Reader};
use std::collections::VecDeque;
use std::path::Path;

const PAGE: &str = "docs/tutorial.md";

/// All that the steps need is real: it takes cargo and go, and some seconds for the control plane.
#[test]
fn a_reader_who_types_the_tutorial_sees_what_it_shows() -> Result<()> {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR"));
    let steps = steps(&std::fs::read_to_string(checkout.join(PAGE))?)?;
    ensure!(steps.len() > 10, "the tutorial has only {} steps", steps.len());
    let home = tempfile::tempdir()?;
    let mut reader = Reader::sits_down(home.path(), checkout)?;
    steps.iter().try_for_each(|step| follow(&mut reader, step).with_context(|| format!("{PAGE}, line {}", step.line)))
}

fn follow(reader: &mut Reader, step: &Step) -> Result<()> {
    let mut answers: VecDeque<_> = answers(&step.shown, QUESTION).into();
    let mut printed = String::new();
    for (n, command) in step.commands.iter().enumerate() {
        let outcome = reader.types(command, &mut answers)?;
        printed.push_str(&outcome.printed);
        let refused = step.refused && n + 1 == step.commands.len();
        ensure!((outcome.status != 0) == refused, "{command:?} ended with {}:\n{printed}", outcome.status);
    }
    ensure!(answers.is_empty(), "nothing asked for {answers:?}:\n{printed}");
    compare(&step.shown, &printed)
}
