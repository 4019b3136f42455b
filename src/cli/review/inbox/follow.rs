//! Following the inbox: a line for each request that comes to wait, or no longer does.

use crate::cli::escape::visible;
use crate::cli::review::cluster::Cluster;
use crate::cli::review::inbox::list::{ask, columns, read, show, understood};
use crate::cli::review::inbox::{Columns, Me, Waiting, Widths, line, standing, table};
use crate::cli::review::{Exit, Session, tell};
use crate::review::named_policies;
use futures::{Stream, TryStreamExt};
use jiff::Timestamp;
use kube::api::DynamicObject;
use kube::runtime::{WatchStreamExt, watcher};
use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;

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
pub(super) async fn run(session: &Session) -> Exit {
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
    let mut changes = pin!(changes(session, &session.cluster, None));
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

/// What happens to the requests of the list, or to those that a field selector picks. It goes on by itself after an error.
pub(in crate::cli::review) fn changes(
    session: &Session,
    cluster: &Cluster,
    which: Option<&str>,
) -> impl Stream<Item = watcher::Result<watcher::Event<DynamicObject>>> + use<> {
    let config = watcher::Config {
        label_selector: session.args.selector.clone(),
        field_selector: which.map(String::from),
        ..watcher::Config::default()
    };
    watcher(cluster.requests(session.place()), config).default_backoff()
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
            if self.asked.insert(policy.clone())
                && let Some(text) = ask(self.session, &mut self.me, policy).await
            {
                eprintln!("{text}");
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
