//! The documentation as a book: what is in it, and where its links lead.

use crate::{files, read, root};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

const SUMMARY: &str = "docs/SUMMARY.md";

/// The README and everything under docs/.
pub fn pages() -> Result<Vec<PathBuf>> {
    let mut pages = files("docs", "md")?;
    pages.extend(files("docs/reference", "md")?);
    pages.push(root().join("README.md"));
    Ok(pages)
}

/// What of a page is no fenced block.
pub fn text(page: &str) -> String {
    page.split("\n```").step_by(2).collect::<Vec<_>>().join("\n")
}

/// Where the links of a page lead, as they stand there. What is in code is none.
fn links(page: &str) -> Vec<String> {
    let text: String = text(page).split('`').step_by(2).collect();
    let ends = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    ends.map(|(link, _)| link.to_string()).collect()
}

/// A heading as the anchor that it gets.
pub fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_page_is_in_the_book_once() -> Result<()> {
    let summary = read(SUMMARY)?;
    let chapters: Vec<_> = links(&summary).iter().map(|link| root().join("docs").join(link)).collect();
    let listed: BTreeSet<_> = chapters.iter().cloned().collect();
    ensure!(chapters.len() == listed.len(), "{SUMMARY} has a page twice");
    let elsewhere = [root().join("README.md"), root().join(SUMMARY)];
    let there: BTreeSet<_> = pages()?.into_iter().filter(|page| !elsewhere.contains(page)).collect();
    assert_eq!(listed, there, "{SUMMARY} has other pages than docs/");
    Ok(())
}

#[test]
fn every_link_between_documents_leads_somewhere() -> Result<()> {
    for page in pages()? {
        let text = fs::read_to_string(&page)?;
        for link in links(&text).iter().filter(|link| !link.starts_with("https://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link.as_str(), ""));
            let there = match file {
                "" => page.clone(),
                file => page.parent().context("a page is in a directory")?.join(file),
            };
            ensure!(there.exists(), "{}: nothing at {link}", page.display());
            let headings = if anchor.is_empty() { String::new() } else { fs::read_to_string(&there)? };
            let named = |line: &str| line.starts_with('#') && slug(line) == anchor;
            ensure!(anchor.is_empty() || headings.lines().any(named), "{}: no heading for {link}", page.display());
        }
    }
    Ok(())
}

/// A page of the book leads to pages of the book, and beyond them to files that `.ci/run` puts beside it.
#[test]
fn what_the_book_links_to_outside_of_it_goes_with_it() -> Result<()> {
    let run = read(".ci/run")?;
    let beside = run.lines().find_map(|line| line.trim().strip_prefix("beside=(")?.strip_suffix(')'));
    let beside: Vec<_> = beside.context(".ci/run says what goes beside the book")?.split(' ').collect();
    for page in files("docs", "md")? {
        let text = fs::read_to_string(&page)?;
        for link in links(&text).iter().filter(|link| link.starts_with("../")) {
            let first = link.split('/').nth(1).unwrap_or_default();
            ensure!(beside.contains(&first), "{}: the book comes without {link}", page.display());
        }
    }
    Ok(())
}
