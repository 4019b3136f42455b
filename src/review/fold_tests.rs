use super::*;
use crate::api::SubjectKind;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use proptest::prelude::*;

const DIGEST: &str = "sha256:now";

fn group(name: &str) -> Subject {
    Subject { kind: SubjectKind::Group, name: name.into(), namespace: None }
}

fn needs(name: &str, count: i32, approvers: Vec<Subject>) -> JoinedRequirement {
    JoinedRequirement { name: name.into(), count, approvers }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// What somebody of these groups said at a time.
fn said(who: &str, groups: &[&str], decision: ReviewDecision, second: i64) -> CountedReview {
    let groups = groups.iter().map(ToString::to_string).collect();
    let reviewer = Reviewer { username: who.into(), groups, ..Reviewer::default() };
    let review = Review {
        reviewer,
        decision,
        digest: DIGEST.into(),
        comment: None,
        time: MicroTime(at(second)),
        seal: String::new(),
    };
    CountedReview { review, sealed: true }
}

fn approves(who: &str, groups: &[&str], second: i64) -> CountedReview {
    said(who, groups, ReviewDecision::Approve, second)
}

fn denies(who: &str, groups: &[&str], second: i64) -> CountedReview {
    said(who, groups, ReviewDecision::Deny, second)
}

fn terms(requirements: &[JoinedRequirement]) -> Terms<'_> {
    Terms {
        requirements,
        passers: &[],
        denials: 1,
        self_approval: SelfApproval::Forbid,
        requester: const { &Requester::NOBODY },
        parties: &[],
        excluded: &[],
        require_comment: false,
        digest: DIGEST,
    }
}

fn filled(tally: &Tally) -> usize {
    tally.progress.iter().map(|p| p.approved_by.len()).sum()
}

#[test]
fn whom_the_authorizer_granted_it_fills_that_place_and_no_other() {
    let authorized = |name: &str| Subject { kind: SubjectKind::Authorized, ..group(name) };
    let requirements = [needs("a", 1, vec![authorized("a")]), needs("b", 1, vec![authorized("b")])];
    let mut reviews = [approves("alice", &["a", "b"], 1), approves("a", &[], 2), approves("bob", &[], 3)];
    let tally = fold(&reviews, &terms(&requirements));
    assert_eq!((filled(&tally), tally.approving.len()), (0, 0), "neither a group nor a name is a grant");
    reviews[0].review.reviewer.authorized = vec!["b".into()];
    let tally = fold(&reviews, &terms(&requirements));
    assert_eq!((tally.progress[0].approved_by.len(), &*tally.progress[1].approved_by), (0, &["alice".to_string()][..]));
    reviews[2].review.reviewer.authorized = vec!["b".into(), "a".into()];
    let tally = fold(&reviews, &terms(&requirements));
    assert_eq!((filled(&tally), tally.approved_at), (2, Some(at(3))));
    assert!(tally.approving[0].authorized == ["b"], "the grants go along");
}

#[test]
fn whoever_may_pass_a_window_is_heard_and_fills_no_requirement() {
    let requirements = [needs("sre", 1, vec![group("sre")])];
    let passers = [group("leads"), Subject { kind: SubjectKind::Authorized, ..group("p") }];
    let terms = Terms { passers: &passers, ..terms(&requirements) };
    let mut reviews = vec![approves("carol", &["leads"], 1), approves("bob", &[], 2)];
    reviews[1].review.reviewer.authorized = vec!["p".into()];
    let tally = fold(&reviews, &terms);
    let names: Vec<_> = tally.approving.iter().map(|r| r.username.as_str()).collect();
    assert_eq!((names, filled(&tally), tally.approved_at), (vec!["carol", "bob"], 0, None));
    assert_eq!(tally.approvers, [""; 0], "they approved nothing that is required");
    reviews.push(approves("alice", &["sre", "leads"], 3));
    let tally = fold(&reviews, &terms);
    assert_eq!((filled(&tally), tally.approved_at, tally.approving.len()), (1, Some(at(3)), 3));
    assert_eq!(tally.approvers, ["alice"]);
    reviews.push(denies("carol", &["leads"], 4));
    let tally = fold(&reviews, &terms);
    assert_eq!((tally.denied, &*tally.deniers, tally.approving.len()), (true, &["carol".to_string()][..], 2));
    let others = Terms { passers: &[], ..terms };
    assert!(!fold(&reviews, &others).denied, "whom nobody asked does not deny");
}

#[test]
fn who_is_excluded_approves_nothing_whatever_else_is_allowed() {
    let requirements = [needs("sre", 1, vec![group("sre")])];
    let excluded = ["alice".to_string()];
    let passers = [group("sre")];
    let allowing = Terms { self_approval: SelfApproval::Allow, ..terms(&requirements) };
    let excluding = Terms { excluded: &excluded, passers: &passers, ..allowing };
    let review = approves("alice", &["sre"], 1);
    assert!(fold(std::slice::from_ref(&review), &allowing).approved_at.is_some());
    let tally = fold(&[review], &excluding);
    assert_eq!((tally.approved_at, tally.approving.len()), (None, 0));
    assert!(fold(&[approves("bob", &["sre"], 1)], &excluding).approved_at.is_some());
}

/// Who has a part in it is partly what its creator says: a name on a Job takes an approval from somebody, never a veto.
#[test]
fn nobody_who_is_asked_is_barred_from_denying() {
    let requirements = [needs("sre", 1, vec![group("sre")])];
    let (requester, names) = (Requester { username: "mallory".into(), ..Requester::default() }, ["alice".to_string()]);
    let terms = Terms { requester: &requester, ..terms(&requirements) };
    let excluded = Terms { excluded: &names, self_approval: SelfApproval::Allow, ..terms };
    for terms in [Terms { parties: &names, ..terms }, excluded] {
        assert!(fold(&[approves("alice", &["sre"], 1)], &terms).approved_at.is_none());
        assert!(fold(&[denies("alice", &["sre"], 1)], &terms).denied);
        assert!(!fold(&[denies("alice", &["developers"], 1)], &terms).denied, "an approver she still has to be");
    }
    // Else a rule more, which forbids self-approval, would take a denial back.
    for self_approval in [SelfApproval::Forbid, SelfApproval::Allow] {
        assert!(fold(&[denies("mallory", &["sre"], 1)], &Terms { self_approval, ..terms }).denied);
    }
}

#[test]
fn one_uid_is_one_person_whatever_the_names() {
    let requirements = [needs("sre", 2, vec![group("sre")])];
    let with_uid = |mut review: CountedReview, uid: &str| {
        review.review.reviewer.uid = Some(uid.into());
        review
    };
    let renamed = [with_uid(approves("alice", &["sre"], 1), "u-1"), with_uid(approves("alicia", &["sre"], 2), "u-1")];
    let tally = fold(&renamed, &terms(&requirements));
    assert_eq!((filled(&tally), tally.approved_at), (1, None));
    let nobody = [with_uid(approves("alice", &["sre"], 1), ""), with_uid(approves("bob", &["sre"], 2), "")];
    assert_eq!(filled(&fold(&nobody, &terms(&requirements))), 2, "an empty uid is none");
    // Also by way of a third: alice without a uid, alice with one, and another name for that one.
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let all = [approves("alice", &["sre"], 1), renamed[0].clone(), renamed[1].clone()];
        let tally = fold(&order.map(|i| all[i].clone()), &terms(&requirements));
        assert_eq!(filled(&tally), 1, "{order:?}");
    }
    let denied = [renamed[0].clone(), with_uid(denies("alicia", &["sre"], 2), "u-1"), renamed[0].clone()];
    let two = Terms { denials: 2, ..terms(&requirements) };
    let tally = fold(&denied, &two);
    assert_eq!(
        (filled(&tally), &*tally.deniers),
        (0, &["alicia".to_string()][..]),
        "nobody approves after their denial"
    );
    let twice = [with_uid(denies("alice", &["sre"], 1), "u-1"), with_uid(denies("alicia", &["sre"], 2), "u-1")];
    assert!(!fold(&twice, &two).denied, "and nobody denies twice");
}

#[test]
fn whoever_approved_takes_it_back_also_when_no_longer_an_approver() {
    let requirements = [needs("sre", 1, vec![group("sre"), Subject { kind: SubjectKind::Authorized, ..group("p") }])];
    let mut granted = approves("bob", &[], 2);
    granted.review.reviewer.authorized = vec!["p".into()];
    for approval in [approves("alice", &["sre"], 1), granted] {
        let denial = denies(&approval.review.reviewer.username, &[], 3);
        let tally = fold(&[approval.clone(), denial.clone()], &terms(&requirements));
        assert_eq!((tally.denied, tally.approved_at), (true, None));
        assert!(!fold(std::slice::from_ref(&denial), &terms(&requirements)).denied, "who never counted does not deny");
        let stale = |mut r: CountedReview| {
            r.review.digest = "sha256:earlier".into();
            r
        };
        let unsealed = |mut r: CountedReview| {
            r.sealed = false;
            r
        };
        for gone in [stale(approval.clone()), unsealed(approval)] {
            assert!(!fold(&[gone, denial.clone()], &terms(&requirements)).denied, "nothing is left to take back");
        }
    }
}

#[test]
fn where_a_comment_is_wanted_an_approval_without_one_does_not_count() {
    let requirements = [needs("sre", 1, vec![group("sre")])];
    let wanting = Terms { require_comment: true, ..terms(&requirements) };
    for (comment, counts) in [(None, false), (Some(""), false), (Some(" \u{2003}\n"), false), (Some("read it"), true)] {
        let mut review = approves("alice", &["sre"], 1);
        review.review.comment = comment.map(Into::into);
        assert_eq!(fold(&[review], &wanting).approved_at.is_some(), counts, "{comment:?}");
        let mut review = denies("alice", &["sre"], 1);
        review.review.comment = comment.map(Into::into);
        assert!(fold(&[review], &wanting).denied, "a denial takes none");
    }
}

#[test]
fn an_approval_said_again_is_as_old_as_the_first() {
    let requirements = [needs("sre", 2, vec![group("sre")])];
    let reviews = [approves("alice", &["sre"], 1), approves("bob", &["sre"], 2), approves("alice", &["sre"], 9)];
    assert_eq!(fold(&reviews, &terms(&requirements)).approved_at, Some(at(2)));
    let withdrawn = [&reviews[..], &[denies("bob", &["sre"], 10), approves("bob", &["sre"], 11)]].concat();
    let tally = fold(&withdrawn, &terms(&requirements));
    assert_eq!((tally.approved_at, tally.denied, filled(&tally)), (None, true, 1), "nobody approves after a denial");
    let late = [&reviews[..1], &[approves("carol", &["sre"], 50)]].concat();
    assert_eq!(fold(&late, &terms(&requirements)).approved_at, Some(at(50)), "the last place says when");
}

const GROUPS: [&str; 4] = ["a", "b", "c", "d"];

/// Places that can be filled at most: each person tries each requirement of theirs, and none.
fn most(people: &[Vec<usize>], requirements: &[(i32, Vec<usize>)], left: &mut [i32]) -> usize {
    let Some((person, rest)) = people.split_first() else { return 0 };
    let mut best = most(rest, requirements, left);
    for (r, (_, groups)) in requirements.iter().enumerate() {
        if left[r] > 0 && groups.iter().any(|g| person.contains(g)) {
            left[r] -= 1;
            best = best.max(1 + most(rest, requirements, left));
            left[r] += 1;
        }
    }
    best
}

proptest! {
    /// From stored reviews to filled places: as many as trying everything fills, by people who belong there, each once,
    /// whatever the order; and whoever denied fills none.
    #[test]
    fn reviews_fill_as_many_places_as_can_be_filled(
        requirements in prop::collection::vec((1..3i32, prop::collection::btree_set(0..4usize, 1..3)), 1..4),
        people in prop::collection::vec(prop::collection::btree_set(0..4usize, 0..4), 0..6),
        words in prop::collection::vec((0..6usize, 0..5u8), 0..10),
        order in any::<prop::sample::Index>(),
    ) {
        let requirements: Vec<(i32, Vec<usize>)> = requirements.into_iter().map(|(n, g)| (n, g.into_iter().collect())).collect();
        let joined: Vec<_> = requirements.iter().enumerate()
            .map(|(i, (count, groups))| needs(&format!("r{i}"), *count, groups.iter().map(|g| group(GROUPS[*g])).collect()))
            .collect();
        let speaks: Vec<_> = words.iter().filter(|(who, _)| *who < people.len()).collect();
        let reviews: Vec<_> = speaks.iter().enumerate().map(|(i, (who, word))| {
            let groups: Vec<&str> = people[*who].iter().map(|g| GROUPS[*g]).collect();
            let decision = if *word == 0 { ReviewDecision::Deny } else { ReviewDecision::Approve };
            let mut review = said(&format!("p{who}"), &groups, decision, i as i64);
            review.sealed = *word != 1;
            if *word == 2 { review.review.digest = "sha256:earlier".into(); }
            review
        }).collect();
        let terms = Terms { denials: 64, ..terms(&joined) };
        let tally = fold(&reviews, &terms);

        // Who approves in the end: said so, sealed and of this digest, and never denied so.
        let counted = |who: usize, wanted: bool| speaks.iter().any(|(w, word)| *w == who && *word != 1 && *word != 2 && (*word == 0) == wanted);
        let approving: Vec<Vec<usize>> = (0..people.len())
            .filter(|who| counted(*who, false) && !counted(*who, true))
            .map(|who| people[who].iter().copied().collect())
            .collect();
        let mut left: Vec<i32> = requirements.iter().map(|(count, _)| *count).collect();
        let most = most(&approving, &requirements, &mut left);
        prop_assert_eq!(filled(&tally), most);
        prop_assert_eq!(tally.approved_at.is_some(), most as i32 == requirements.iter().map(|(count, _)| count).sum::<i32>());

        let mut holders: Vec<_> = tally.progress.iter().flat_map(|p| &p.approved_by).collect();
        let places = holders.len();
        holders.sort();
        holders.dedup();
        prop_assert_eq!(holders.len(), places, "nobody holds two places");
        for progress in &tally.progress {
            prop_assert!(progress.approved_by.len() <= progress.required as usize);
            for name in &progress.approved_by {
                prop_assert!(!tally.deniers.contains(name), "a denial after an approval removes it");
                let who = &reviews.iter().find(|r| r.review.reviewer.username == *name).unwrap().review.reviewer;
                prop_assert!(covers(&progress.approvers, who));
            }
        }

        // Another order of people: each one's own words stay in theirs.
        let mut turned = reviews.clone();
        let by = if reviews.is_empty() { 0 } else { order.index(reviews.len()) };
        turned.sort_by_key(|r| {
            let who: usize = r.review.reviewer.username[1..].parse().unwrap();
            (who + by) % 6
        });
        let again = fold(&turned, &terms);
        prop_assert_eq!((filled(&again), again.approved_at), (filled(&tally), tally.approved_at));
        let names = |t: &Tally| { let mut d = t.deniers.clone(); d.sort(); d };
        prop_assert_eq!(names(&again), names(&tally));
    }
}
