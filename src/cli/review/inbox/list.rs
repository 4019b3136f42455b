//! Reading the inbox, and following it.

use crate::cli::escape::visible;
use crate::cli::explain::read_request;
use crate::cli::review::cluster::{OPEN, Page};
use crate::cli::review::inbox::{Columns, Me, Waiting, Widths, inbox, line, object_list, standing, table};
use crate::cli::review::{Exit, Form, Session, tell};
use crate::lifecycle::RequestFacts;
use crate::review::named_policies;
use futures::TryStreamExt;
use jiff::Timestamp;
use kube::api::DynamicObject;
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal, stdout};
use std::pin::pin;

/// What was listed.
pub(in crate::cli::review) struct Listed {
    /// What waits, most urgent first.
    pub waiting: Vec<Waiting>,
    /// How many cannot be read by this version.
    pub unreadable: usize,
    /// Who the caller is.
    pub me: Me,
}

/// `kubectl approve` without a name.
pub(in crate::cli::review) async fn run(session: &Session) -> Exit {
    if session.args.watch {
        return follow(session).await;
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
    let refused = |error| {
        let refused = session.cluster.unlisted(error, session.place());
        eprintln!("kubectl {}: {}", session.verb.command(), refused.text);
        if refused.unanswered { Exit::Failed } else { Exit::Refused }
    };
    let (mut requests, mut unreadable, mut token) = (vec![], 0, None);
    loop {
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
            break;
        }
    }
    requests.retain(|(request, _)| !request.status.state.is_final());
    let me = whoami(session, requests.iter().map(|(request, _)| request)).await.map_err(refused)?;
    Ok(Listed { waiting: inbox(requests, &me, all, Timestamp::now()), unreadable, me })
}

/// A request as this version reads it, and as stored without the server's bookkeeping.
fn understood(mut object: DynamicObject) -> Option<(RequestFacts, Value)> {
    object.metadata.managed_fields = None;
    Some((read_request(&object).ok()?, serde_json::to_value(object).ok()?))
}

/// Who the caller is; the authorizer is asked only about policies that one of the requests names.
async fn whoami<'a>(session: &Session, requests: impl Iterator<Item = &'a RequestFacts>) -> kube::Result<Me> {
    let mut me = Me { caller: session.cluster.whoami().await?, authorized: vec![] };
    let policies: BTreeSet<String> = requests.flat_map(|request| named_policies(&request.status)).collect();
    for policy in policies {
        ask(session, &mut me, policy).await;
    }
    Ok(me)
}

/// Asks the authorizer about one policy. That it did not answer is said: the list may then lack something.
async fn ask(session: &Session, me: &mut Me, policy: String) {
    match session.cluster.may_approve(&policy).await {
        Some(true) => me.authorized.push(policy),
        Some(false) => {}
        None => eprintln!(
            "whether you may approve policy {} cannot be asked now; what it decides is listed as not yours",
            visible(&policy)
        ),
    }
}

pub(in crate::cli::review) fn columns(session: &Session) -> Columns {
    Columns {
        namespace: session.args.all_namespaces,
        wide: session.args.output == Some(Form::Wide),
        why: session.args.all_pending,
    }
}

fn show(session: &Session, listed: &Listed) {
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

/// Who follows the list, and what of it has been told.
struct Follower<'a> {
    session: &'a Session,
    me: Me,
    /// Policies about which the authorizer was asked.
    asked: BTreeSet<String>,
    /// What each line rested on, by uid.
    told: BTreeMap<String, String>,
    /// Of the table above; none before there is one.
    widths: Option<Widths>,
}

/// Lists, and then tells of every request that comes to wait, or no longer does.
async fn follow(session: &Session) -> Exit {
    let listed = match read(session, session.args.all_pending).await {
        Ok(listed) => listed,
        Err(exit) => return exit,
    };
    show(session, &listed);
    let widths =
        Some(table(&listed.waiting, columns(session), Timestamp::now()).1).filter(|_| !listed.waiting.is_empty());
    let told = listed.waiting.iter().map(|one| (one.request.uid.clone(), rests_on(one))).collect();
    let asked = listed.me.authorized.iter().cloned().collect();
    let mut follower = Follower { session, me: listed.me, asked, told, widths };
    let config = watcher::Config { label_selector: session.args.selector.clone(), ..watcher::Config::default() };
    let mut changes = pin!(watcher(session.cluster.requests(session.place()), config).default_backoff());
    loop {
        match changes.try_next().await {
            Ok(Some(watcher::Event::Apply(object) | watcher::Event::InitApply(object))) => {
                follower.take(object, None).await;
            }
            Ok(Some(watcher::Event::Delete(object))) => follower.take(object, Some("deleted")).await,
            Ok(Some(_)) => {}
            Ok(None) => return Exit::Failed,
            // It goes on by itself; that a right was withdrawn is worth a word.
            Err(error) => eprintln!("{}", visible(&error.to_string())),
        }
    }
}

/// What a line of the list rests on.
fn rests_on(one: &Waiting) -> String {
    let status = &one.request.status;
    let approvals = status.summary.as_ref().map(|summary| &summary.approvals);
    format!("{:?} {approvals:?} {:?} {:?}", status.digest, status.state, one.why_not)
}

impl Follower<'_> {
    /// Tells of a request, if its line is another than before.
    async fn take(&mut self, object: DynamicObject, gone: Option<&str>) {
        let Some((request, stored)) = understood(object) else { return };
        for policy in named_policies(&request.status) {
            if self.asked.insert(policy.clone()) {
                ask(self.session, &mut self.me, policy).await;
            }
        }
        let now = Timestamp::now();
        let over = gone.is_some() || request.status.state.is_final();
        let why_not = match (gone, standing(&request, &stored, &self.me, now)) {
            (Some(gone), _) => Some(gone.to_string()),
            (None, None) => Some(request.status.state.as_str().to_lowercase()),
            (None, Some(standing)) => standing.err(),
        };
        let one = Waiting { request, stored, why_not };
        let columns = columns(self.session);
        if one.why_not.is_none() || (self.session.args.all_pending && !over) {
            let rests_on = rests_on(&one);
            if self.told.insert(one.request.uid.clone(), rests_on.clone()) != Some(rests_on) {
                let text = self.line(&one, columns, now);
                tell(&text);
            }
        } else if self.told.remove(&one.request.uid).is_some() {
            let why = visible(one.why_not.as_deref().unwrap_or_default());
            let text = self.line(&one, columns, now);
            tell(&format!("{}   (no longer: {why})\n", text.trim_end()));
        }
    }

    /// A line in the columns of the table above it; with headings where there is none yet.
    fn line(&mut self, one: &Waiting, columns: Columns, now: Timestamp) -> String {
        if let Some(widths) = &self.widths {
            return line(one, columns, widths, now);
        }
        let (text, widths) = table(std::slice::from_ref(one), columns, now);
        self.widths = Some(widths);
        text
    }
}
