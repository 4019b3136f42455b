//! Reading the inbox.

use crate::cli::escape::visible;
use crate::cli::explain::read_request;
use crate::cli::review::cluster::{OPEN, Page};
use crate::cli::review::inbox::{Columns, Me, Waiting, follow, inbox, object_list, table};
use crate::cli::review::refusal::Refused;
use crate::cli::review::{Exit, Form, Session, tell};
use crate::lifecycle::RequestFacts;
use crate::review::named_policies;
use jiff::Timestamp;
use kube::api::DynamicObject;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{IsTerminal, stdout};

/// What was listed.
pub(in crate::cli::review) struct Listed {
    /// What waits, most urgent first.
    pub waiting: Vec<Waiting>,
    /// How many cannot be read by this version.
    pub unreadable: usize,
    /// Who the caller is.
    pub me: Me,
    /// What could not be asked of the authorizer, safe to show.
    pub unsure: Vec<String>,
    /// The resource version of the list, as a number.
    pub version: i64,
}

/// `kubectl approve` without a name.
pub(in crate::cli::review) async fn run(session: &Session) -> Exit {
    if session.args.watch {
        return follow::run(session).await;
    }
    match read(session, session.args.all_pending).await {
        Ok(listed) => {
            show(session, &listed);
            Exit::Done
        }
        Err(exit) => exit,
    }
}

/// Lists once, and asks who the caller is. What fails is said.
pub(in crate::cli::review) async fn read(session: &Session, all: bool) -> Result<Listed, Exit> {
    match listed(session, all).await {
        Ok(listed) => {
            listed.unsure.iter().for_each(|text| eprintln!("{text}"));
            Ok(listed)
        }
        Err(refused) => {
            eprintln!("kubectl {}: {}", session.verb.command(), refused.text);
            Err(if refused.unanswered { Exit::Failed } else { Exit::Refused })
        }
    }
}

/// Lists once, and asks who the caller is.
pub(in crate::cli::review) async fn listed(session: &Session, all: bool) -> Result<Listed, Refused> {
    let refused = |error| session.cluster.unlisted(error, session.place());
    let (mut requests, mut unreadable, mut token) = (vec![], 0, None);
    let version = loop {
        let page = Page { labels: session.args.selector.as_deref(), which: Some(OPEN), token: token.as_deref() };
        let list = session.cluster.page(session.place(), &page).await.map_err(refused)?;
        for object in list.items {
            match understood(object) {
                Some(request) => requests.push(request),
                None => unreadable += 1,
            }
        }
        token = list.metadata.continue_.filter(|token| !token.is_empty());
        if token.is_none() {
            break list.metadata.resource_version.and_then(|version| version.parse().ok()).unwrap_or(0);
        }
    };
    requests.retain(|(request, _)| !request.status.state.is_final());
    let mut me = Me { caller: session.cluster.whoami().await.map_err(refused)?, authorized: vec![] };
    let policies: BTreeSet<String> = requests.iter().flat_map(|(request, _)| named_policies(&request.status)).collect();
    let mut unsure = vec![];
    for policy in policies {
        unsure.extend(ask(session, &mut me, policy).await);
    }
    Ok(Listed { waiting: inbox(requests, &me, all, Timestamp::now()), unreadable, me, unsure, version })
}

/// A request as this version reads it, and as stored without the server's bookkeeping.
pub(in crate::cli::review) fn understood(mut object: DynamicObject) -> Option<(RequestFacts, Value)> {
    object.metadata.managed_fields = None;
    Some((read_request(&object).ok()?, serde_json::to_value(object).ok()?))
}

/// Asks the authorizer whether the caller may approve a policy. Returns what to say where it did not answer: the list may
/// then lack something.
pub(super) async fn ask(session: &Session, me: &mut Me, policy: String) -> Option<String> {
    match session.cluster.may_approve(&policy).await {
        Some(true) => me.authorized.push(policy),
        Some(false) => {}
        None => {
            return Some(format!(
                "whether you may approve policy {} cannot be asked now; what it decides is listed as not yours",
                visible(&policy)
            ));
        }
    }
    None
}

pub(in crate::cli::review) fn columns(session: &Session) -> Columns {
    Columns {
        namespace: session.args.all_namespaces,
        wide: session.args.output == Some(Form::Wide),
        why: session.args.all_pending,
    }
}

pub(super) fn show(session: &Session, listed: &Listed) {
    let waiting = &listed.waiting;
    match session.args.output {
        Some(Form::Json) => document(serde_json::to_string_pretty(&object_list(waiting)).unwrap_or_default() + "\n"),
        Some(Form::Yaml) => document(serde_yaml::to_string(&object_list(waiting)).unwrap_or_default()),
        Some(Form::Name) => {
            let name = |one: &Waiting| format!("approvalrequest.countersign.dev/{}\n", visible(&one.request.name));
            tell(&waiting.iter().map(name).collect::<String>());
        }
        _ if waiting.is_empty() => eprintln!("{}", nothing(session)),
        _ => tell(&table(waiting, columns(session), Timestamp::now()).0),
    }
    if listed.unreadable > 0 {
        eprintln!("{} request(s) cannot be read by this version of the command", listed.unreadable);
    }
}

/// That nothing waits, and where to look for more.
pub(in crate::cli::review) fn nothing(session: &Session) -> String {
    let place = session.place().map_or("in any namespace".into(), |n| format!("in namespace {}", visible(n)));
    let hint = match (session.args.all_namespaces, session.args.all_pending) {
        (_, true) => return format!("Nothing waits {place}."),
        (false, false) => "-A looks in every namespace, --all-pending shows what is not yours",
        (true, false) => "--all-pending shows what is not yours",
    };
    format!("Nothing waits for you {place}. {hint}.")
}

/// As it is for a program; on a terminal nothing in it may take effect.
fn document(text: String) {
    if !stdout().is_terminal() {
        return tell(&text);
    }
    tell(&text.lines().map(|line| visible(line) + "\n").collect::<String>());
}
