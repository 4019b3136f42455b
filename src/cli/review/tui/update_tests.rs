//! What keys and changes do, and above all what they do not.

use crate::api::ReviewDecision;
use crate::cli::review::Verb;
use crate::cli::review::fixture::{DIGEST, EARLIER, review};
use crate::cli::review::tui::fixture::{
    USUAL, after, changed, decisions, job, keys, list, me, now, read, rebound, request, screen, seen, typed,
};
use crate::cli::review::tui::input::{Effect, Input, Leave, List, Outcome};
use crate::cli::review::tui::keys::Key;
use crate::cli::review::tui::state::{Pin, Stage, State};
use serde_json::{Value, json};

fn names(state: &State) -> Vec<&str> {
    state.listed.iter().map(|one| one.request.name.as_str()).collect()
}

fn card(state: &State) -> &str {
    state.card.as_ref().map_or("", |card| &card.uid)
}

fn said(state: &State) -> &str {
    state.said.as_ref().map_or("", |said| &said.text)
}

#[test]
fn a_decision_takes_a_key_that_asks_a_yes_and_enter() {
    for (key, verb, decision) in
        [("a", Verb::Approve, ReviewDecision::Approve), ("d", Verb::Deny, ReviewDecision::Deny)]
    {
        let (state, effects) = typed(screen(vec![request("run")]), &format!("{key}yseen it\r"));
        let sent = decisions(&effects);
        assert_eq!(sent.len(), 1);
        assert_eq!(
            (sent[0].verb, sent[0].verb.decision(), sent[0].comment.as_deref()),
            (verb, decision, Some("seen it"))
        );
        assert_eq!(sent[0].pin, Pin { uid: "uid-run".into(), digest: DIGEST.into() });
        assert_eq!(sent[0].request.status.digest.as_deref(), Some(DIGEST));
        assert!(state.prompt.is_none() && state.sending.is_some());
    }
    for text in ["a", "ay", "aY\r", "an\r", "a\r", "a\r\r", "y\r", "ya\r", "aay\r", "adyy\r", "ay\u{1b}\r", "?ay"] {
        let (_, effects) = typed(screen(vec![request("run")]), text);
        assert_eq!(decisions(&effects).len(), 0, "{text:?}");
    }
}

#[test]
fn what_was_typed_before_it_was_on_the_screen_decides_nothing() {
    // All at once, after the card was drawn.
    let (state, effects) = after(screen(vec![request("run")]), keys("ay\rseen\r"));
    assert_eq!(decisions(&effects).len(), 0);
    assert_eq!(state.prompt.map(|prompt| prompt.stage), None, "Enter is no yes");
    // Before the card of the next request was.
    let state = screen(vec![request("a"), request("b")]);
    let (state, _) = after(state, keys("j"));
    let (state, effects) = after(read(state), keys("a"));
    assert!(state.prompt.is_none() && decisions(&effects).is_empty());
    assert_eq!(card(&state), "uid-b");
    // The same question again: only its own frame counts.
    let (state, _) = typed(screen(vec![request("run")]), "a");
    let (state, effects) = after(state, keys("nay\r"));
    assert!(decisions(&effects).is_empty() && state.prompt.is_none());
}

#[test]
fn a_question_is_closed_when_what_it_is_about_changes() {
    for text in ["a", "ay", "ayseen", "dy"] {
        let (state, _) = typed(screen(vec![request("run")]), text);
        assert!(state.prompt.is_some());
        let (state, effects) = after(state, [Input::Came(Box::new(rebound("run", 11, EARLIER)))]);
        assert!(state.prompt.is_none() && said(&state).starts_with("What you were shown has changed, so nothing was"));
        assert!(matches!(effects[..], [Effect::Look(_)]));
        // Until the new card was read, and was drawn, there is nothing to ask about.
        let (state, effects) = typed(state, &format!("\r{text}\r"));
        assert!(state.prompt.is_none() && decisions(&effects).is_empty());
        let (state, _) = seen(read(state), USUAL);
        let changes: Vec<String> = state.card.as_ref().expect("a card").changes().into_iter().map(|r| r.text).collect();
        assert_eq!(changes[0], "sha256:aaaaaaaaaaaaaaaa is now sha256:bbbbbbbbbbbbbbbb:");
        assert!(changes.contains(&"+ Bounds: at most: runs 11 s".into()), "{changes:?}");
        let (_, effects) = typed(state, "ay\r");
        assert_eq!(decisions(&effects)[0].pin.digest, EARLIER, "asked anew, about what stands there now");
    }
}

#[test]
fn a_question_stays_where_others_are_heard_meanwhile() {
    let more = |version| {
        changed("run", version, |request| {
            request["spec"]["reviews"] = json!([review("bob", "Approve", DIGEST)]);
            request["status"]["approvals"][0]["required"] = json!(3);
            request["status"]["approvals"][0]["approvedBy"] = json!(["bob"]);
        })
    };
    let (state, _) = typed(screen(vec![request("run")]), "a");
    let (state, _) = after(state, [Input::Came(Box::new(more(11))), Input::Came(Box::new(request("other")))]);
    assert!(state.prompt.is_some());
    let view = state.card.as_ref().and_then(|card| card.view.as_ref()).expect("a card");
    assert_eq!(view.seen.request["status"]["approvals"][0]["approvedBy"], json!(["bob"]));
    assert!(view.seen.target.is_some() && !view.stale);
}

#[test]
fn a_question_is_closed_when_there_is_nothing_left_to_decide() {
    let now = |change: fn(&mut Value)| changed("run", 11, change);
    for (why, request_now) in [
        ("it is Released", now(|r| r["status"]["state"] = json!("Released"))),
        ("it is Denied", now(|r| r["status"]["state"] = json!("Denied"))),
        ("it is being deleted", now(|r| r["metadata"]["deletionTimestamp"] = json!("2026-11-20T17:30:00Z"))),
        ("you approved it", now(|r| r["spec"]["reviews"] = json!([review("alice", "Approve", DIGEST)]))),
    ] {
        let (state, _) = typed(screen(vec![request("run")]), "ay");
        let (state, _) = after(state, [Input::Came(Box::new(request_now))]);
        assert!(state.prompt.is_none() && said(&state).contains(why), "{why}: {}", said(&state));
        let (state, effects) = typed(state, "ay\r");
        assert!(decisions(&effects).is_empty() && said(&state).contains(why), "{why}: {}", said(&state));
    }
    // Its time ran out, and nobody said so.
    let (state, _) = typed(screen(vec![request("run")]), "ay");
    let (state, _) = state.update(Input::Tick, "2026-11-20T18:00:01Z".parse().expect("a time"));
    assert!(state.prompt.is_none() && said(&state).contains("its time ran out"), "{}", said(&state));
}

#[test]
fn what_left_the_list_stays_on_the_screen_and_is_not_decided() {
    let (state, effects) = after(screen(vec![request("run"), request("z")]), [Input::Went("uid-run".into())]);
    assert!(matches!(&effects[..], [Effect::Find { uid, .. }] if uid == "uid-run"));
    assert_eq!((names(&state), card(&state)), (vec!["z"], "uid-run"), "no card takes the place of another by itself");
    let released = changed("run", 11, |request| request["status"]["state"] = json!("Released"));
    for (found, why) in [
        (Ok(Some(Box::new(released))), "it is Released"),
        (Ok(None), "it is deleted"),
        (Ok(Some(Box::new(changed("run", 12, |r| r["metadata"]["uid"] = json!("another"))))), "another has its name"),
    ] {
        let (state, _) = after(state.clone(), [Input::Found("uid-run".into(), found)]);
        let (state, effects) = typed(state, "ay\r");
        assert!(decisions(&effects).is_empty() && said(&state).contains(why), "{}", said(&state));
        let (state, effects) = typed(state, "j");
        assert!(card(&state) == "uid-z" && matches!(effects[..], [Effect::Look(_)]));
    }
}

#[test]
fn a_refusal_because_it_changed_is_followed_by_what_changed() {
    let (state, _) = typed(screen(vec![request("run")]), "ay\r");
    let pin = Pin { uid: "uid-run".into(), digest: DIGEST.into() };
    let text = "payments/run: not approved: what you reviewed is not what stands here now".to_string();
    let (state, effects) = after(state, [Input::Refused { pin: pin.clone(), text, conflict: true }]);
    assert!(matches!(&effects[..], [Effect::Find { name, .. }] if name == "run"));
    let found = Ok(Some(Box::new(rebound("run", 12, EARLIER))));
    let (state, effects) = after(state, [Input::Found("uid-run".into(), found)]);
    assert!(matches!(effects[..], [Effect::Look(_)]));
    let (state, _) = seen(read(state), USUAL);
    assert!(!state.card.as_ref().expect("a card").changes().is_empty() && state.outcomes.is_empty());
    let (_, effects) = typed(state, "ay\r");
    assert_eq!(decisions(&effects)[0].pin.digest, EARLIER);
}

#[test]
fn one_review_is_on_its_way_at_a_time_and_all_that_came_of_them_is_kept() {
    let (state, _) = typed(screen(vec![request("a"), request("b")]), "ay\r");
    let (state, effects) = typed(state, "ay\r");
    assert!(decisions(&effects).is_empty() && said(&state).contains("on its way"));
    let outcome = |text: &str| Outcome {
        verb: Verb::Approve,
        pin: Pin { uid: "uid-a".into(), digest: DIGEST.into() },
        text: text.into(),
        alarm: false,
    };
    let (_, effects) = after(state.clone(), keys("q"));
    assert!(matches!(effects[..], [Effect::Leave(Leave::Interrupted)]), "whether it is stored is not known");
    let (state, _) = after(state, [Input::Stored(outcome("stored"))]);
    let (state, effects) = after(state, keys("q"));
    assert!(matches!(effects[..], [Effect::Leave(Leave::Done)]) && state.outcomes == [outcome("stored")]);
    let (state, _) = after(state, [Input::Settled(outcome("released"))]);
    assert!(state.outcomes == [outcome("released")] && said(&state) == "released");
    let (_, effects) = after(state, [Input::Key(Key::Control('c'))]);
    assert!(matches!(effects[..], [Effect::Leave(Leave::Interrupted)]));
}

#[test]
fn a_comment_is_taken_where_it_is_wanted_and_holds_what_can_be_seen() {
    let wanting = || vec![changed("run", 10, |request| request["status"]["requireComment"] = json!(true))];
    let (state, effects) = typed(screen(wanting()), "ay \r");
    assert!(decisions(&effects).is_empty() && said(&state).contains("takes a comment"));
    let (_, effects) = typed(state, "ok\r");
    assert_eq!(decisions(&effects)[0].comment.as_deref(), Some("ok"));
    let (_, effects) = typed(screen(wanting()), "dy\r");
    assert_eq!(decisions(&effects)[0].comment, None, "a denial takes none");
    let (state, _) = typed(screen(vec![request("run")]), "ayx");
    let pasted = Input::Key(Key::Pasted(format!("y\u{1b}[2J\u{202e}{}", "界".repeat(3000))));
    let (state, _) = after(state, [pasted]);
    let Some(Stage::Comment(text)) = state.prompt.as_ref().map(|prompt| prompt.stage.clone()) else { panic!("closed") };
    assert!(text.starts_with("xy[2J界") && text.chars().count() == 1024 && said(&state).contains("1024 characters"));
    let (state, _) =
        after(state, [Input::Key(Key::Backspace), Input::Key(Key::Control('u')), Input::Key(Key::Char('z'))]);
    let (_, effects) = after(seen(state, USUAL).0, keys("\r"));
    assert_eq!(decisions(&effects)[0].comment.as_deref(), Some("z"));
    // Pasted where no text is wanted, it does nothing.
    let (state, effects) = after(screen(vec![request("run")]), [Input::Key(Key::Pasted("ay\r".into()))]);
    assert!(state.prompt.is_none() && effects.is_empty());
}

#[test]
fn what_is_not_mine_is_listed_only_where_that_is_wanted_and_never_approved() {
    let own = || changed("own", 10, |request| request["spec"]["requester"]["username"] = json!("alice"));
    assert_eq!(names(&screen(vec![request("run"), own()])), ["run"]);
    let mut state = screen(vec![]);
    state.settings.all = true;
    let (state, _) = after(state, [list(vec![own()])]);
    let (state, _) = seen(read(state), USUAL);
    let (state, effects) = typed(state, "ay\r");
    assert!(decisions(&effects).is_empty() && said(&state).contains("you asked for it yourself"));
    let (_, effects) = typed(state, "dy\r");
    assert_eq!(decisions(&effects).len(), 1, "whoever asked may deny");
}

#[test]
fn the_list_follows_what_happens_and_never_goes_back() {
    let (state, effects) = after(State::default(), [list(vec![])]);
    assert!(state.card.is_none() && effects.is_empty());
    let late = |r: &mut Value| r["status"]["pendingUntil"] = json!("2026-11-20T19:00:00Z");
    let (state, effects) = after(state, [Input::Came(Box::new(changed("late", 10, late)))]);
    assert!(matches!(effects[..], [Effect::Look(_)]), "the first to come is opened");
    let (state, _) = after(state, [Input::Came(Box::new(request("soon")))]);
    assert_eq!((names(&state), card(&state), state.cursor), (vec!["soon", "late"], "uid-late", 1));
    let (state, _) = after(state, [Input::Came(Box::new(rebound("soon", 9, EARLIER)))]);
    assert_eq!(state.listed[0].request.status.digest.as_deref(), Some(DIGEST), "older than what is known");
    // A watch that lists anew says what is gone; so does a list, of what is not newer than it.
    let (again, _) =
        after(state.clone(), [Input::Begins, Input::Came(Box::new(changed("late", 10, late))), Input::Ends]);
    assert_eq!(names(&again), ["late"]);
    let newer = Input::Came(Box::new(changed("newer", 101, |_| {})));
    let (listed, _) = after(state, [newer, list(vec![request("soon")])]);
    assert_eq!(names(&listed), ["newer", "soon"]);
}

#[test]
fn whom_the_authorizer_lets_approve_is_asked_once_for_each_policy() {
    let authorized = |request: &mut Value| {
        request["status"]["approvals"][0]["approvers"] = json!([{"kind": "Authorized", "name": "production"}]);
    };
    let theirs = |name: &str| changed(name, 10, authorized);
    let (state, effects) =
        after(screen(vec![]), [Input::Came(Box::new(theirs("a"))), Input::Came(Box::new(theirs("b")))]);
    assert!(matches!(&effects[..], [Effect::Ask(policy)] if policy == "production") && state.listed.is_empty());
    let (no, _) = after(state.clone(), [Input::Authorized("production".into(), Some(false))]);
    assert!(no.listed.is_empty());
    let (unknown, _) = after(state.clone(), [Input::Authorized("production".into(), None)]);
    assert!(unknown.listed.is_empty() && said(&unknown).contains("policy production cannot be asked now"));
    // A list that is older than the request does not know of the policy.
    let (_, effects) = after(
        screen(vec![]),
        [
            Input::Came(Box::new(changed("c", 101, authorized))),
            Input::Listed(List { me: me(), version: 1, ..List::default() }),
        ],
    );
    assert_eq!(effects.iter().filter(|effect| matches!(effect, Effect::Ask(_))).count(), 2);
    let (yes, _) = after(state, [Input::Authorized("production".into(), Some(true))]);
    assert_eq!(names(&yes), ["a", "b"]);
}

#[test]
fn an_outage_is_said_and_tried_again_until_it_is_over() {
    let (state, effects) = after(screen(vec![request("run")]), [Input::Trouble("nobody answers".into())]);
    assert!(effects.is_empty() && state.trouble.as_deref() == Some("nobody answers"));
    let (state, effects) = after(state, [Input::Tick, Input::Tick]);
    assert!(matches!(effects[..], [Effect::List]), "one at a time");
    let (state, effects) = after(state, [Input::Unlisted("still not".into()), Input::Tick]);
    assert!(effects.is_empty() && state.trouble.as_deref() == Some("still not"), "and not at once");
    let (state, effects) = state.update(Input::Tick, now() + jiff::SignedDuration::from_secs(3));
    assert!(matches!(effects[..], [Effect::List]));
    let (state, effects) = after(state, [list(vec![request("run"), request("came")])]);
    assert!(matches!(effects[..], [Effect::Follow]), "the watch begins anew");
    assert!(state.trouble.is_none() && names(&state) == ["came", "run"] && card(&state) == "uid-run");
    // What was on the screen is still decided by what was seen of it.
    let (_, effects) = typed(state, "ay\r");
    assert_eq!(decisions(&effects)[0].pin.uid, "uid-run");
}

#[test]
fn what_was_read_for_another_card_is_not_shown_on_this_one() {
    let (state, _) = after(screen(vec![request("a"), request("b")]), keys("j"));
    let late = |uid: &str, digest: &str| Input::Looked {
        uid: uid.into(),
        digest: Some(digest.into()),
        target: Some(job()),
        before: vec!["late".into()],
    };
    let (state, _) = after(state, [late("uid-a", DIGEST), late("uid-b", EARLIER)]);
    assert!(state.card.as_ref().is_some_and(|card| card.view.is_none()));
    let (state, _) = after(state, [late("uid-b", DIGEST)]);
    assert!(state.card.as_ref().is_some_and(|card| card.view.is_some()));
}
