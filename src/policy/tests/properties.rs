//! What holds for all policies and requests: more rules never mean less, and order never matters.

use super::generate::{Word, Written, policy, policy_of, request, rule, standing_in, words};
use super::*;
use crate::api::{Exclude, Review, ReviewDecision, Reviewer};
use crate::policy::outcome::normalised;
use crate::policy::validate;
use crate::review::{CountedReview, Terms, fold};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn named(policies: &[Written]) -> PolicySet {
    let mut set = PolicySet::default();
    for (i, Written { spec, editor }) in policies.iter().enumerate() {
        let name = format!("p{i}");
        match compile(&name, &standing_in(&name, spec.clone()), *editor) {
            Ok(policy) => set.ready.push(Arc::new(policy)),
            Err(broken) => set.broken.push(Arc::from(broken)),
        }
    }
    set
}

fn falls<T: PartialOrd>(before: &Option<T>, after: &Option<T>) -> bool {
    before.as_ref().is_none_or(|a| after.as_ref().is_some_and(|b| b <= a))
}

/// What is not as strict in `after` as in `before`.
fn weaker(before: &Outcome, after: &Outcome) -> Vec<&'static str> {
    let (a, b) = (&before.constraints, &after.constraints);
    let windows = |o: &Outcome| -> BTreeSet<(String, String, usize)> {
        o.windows.iter().map(|w| (w.rule.policy.to_string(), w.rule.rule.name.clone(), w.number)).collect()
    };
    let failures = |o: &Outcome| -> BTreeSet<(String, String)> {
        o.failures.iter().map(|f| (f.rule.policy.to_string(), f.rule.rule.name.clone())).collect()
    };
    let met =
        |r: &JoinedRequirement| after.requirements.iter().any(|s| s.approvers == r.approvers && s.count >= r.count);
    let sums = (before.approvals_required(), after.approvals_required());
    let asks = before.decision == Some(Decision::RequireApproval);
    let same = before.decision == after.decision;
    let parts = [
        ("decision", before.decision <= after.decision),
        ("doubts", before.doubts.iter().all(|doubt| after.doubts.contains(doubt))),
        ("failures", failures(after).is_superset(&failures(before))),
        ("runtime", falls(&a.max_runtime_seconds, &b.max_runtime_seconds)),
        ("retries", falls(&a.max_retries, &b.max_retries)),
        ("parallelism", falls(&a.max_parallelism, &b.max_parallelism)),
        ("cpu", falls(&a.max_cpu, &b.max_cpu)),
        ("memory", falls(&a.max_memory, &b.max_memory)),
        ("limits", a.limits.iter().all(|(k, v)| b.limits.get(k).is_some_and(|w| w <= v))),
        ("inputs", before.require_immutable_inputs <= after.require_immutable_inputs),
        ("images", before.require_image_digests <= after.require_image_digests),
        ("on denied", before.on_denied <= after.on_denied),
        ("delay", before.not_before_seconds <= after.not_before_seconds),
        ("windows", windows(after).is_superset(&windows(before))),
        ("requirements", before.requirements.iter().all(met)),
        ("sum", sums.0 <= sums.1),
        ("denials", !asks || after.denials <= before.denials),
        ("self-approval", !asks || after.self_approval <= before.self_approval),
        ("creator", before.exclude_creator <= after.exclude_creator),
        ("editors' policies", after.exclude_editors.is_superset(&before.exclude_editors)),
        ("editors", after.editors.is_superset(&before.editors)),
        ("comment", before.require_comment <= after.require_comment),
        ("pending", !same || after.pending_timeout_seconds <= before.pending_timeout_seconds),
        ("release", !same || after.release_timeout_seconds <= before.release_timeout_seconds),
    ];
    // Where nothing matched, nothing was let go either, and an Allow may help.
    let parts =
        parts.into_iter().filter(|(name, _)| before.decision.is_some() || ["doubts", "failures"].contains(name));
    parts.filter(|(_, holds)| !holds).map(|(name, _)| name).collect()
}

const DIGEST: &str = "sha256:now";

/// Whether these words get it approved, and nobody stops it.
fn approved(outcome: &Outcome, asked: &Asked, words: &[Word]) -> bool {
    let reviews: Vec<CountedReview> = words.iter().enumerate().map(|(i, word)| said(word, i as i64)).collect();
    let mut excluded: Vec<String> = outcome.editors.iter().map(|e| e.to_string()).collect();
    if outcome.exclude_creator {
        excluded.push("bob".into());
    }
    let tally = fold(
        &reviews,
        &Terms {
            requirements: &outcome.requirements,
            passers: &outcome.passers(),
            denials: outcome.denials,
            self_approval: outcome.self_approval,
            requester: &asked.requester,
            parties: &["bob".to_string(), "system:serviceaccount:payments:default".into()],
            excluded: &excluded,
            require_comment: outcome.require_comment,
            digest: DIGEST,
        },
    );
    let people = outcome.decision != Some(Decision::RequireApproval) || tally.approved_at.is_some();
    outcome.decision < Some(Decision::Deny) && outcome.doubts.is_empty() && people && !tally.denied
}

fn said(word: &Word, second: i64) -> CountedReview {
    let texts = |all: &[&str]| all.iter().map(ToString::to_string).collect();
    let review = Review {
        reviewer: Reviewer {
            username: word.who.into(),
            uid: None,
            groups: texts(&word.groups),
            authorized: texts(&word.granted),
        },
        decision: if word.approves { ReviewDecision::Approve } else { ReviewDecision::Deny },
        digest: DIGEST.into(),
        comment: word.comment.then(|| "seen".into()),
        time: MicroTime(jiff::Timestamp::from_second(second).unwrap()),
        seal: String::new(),
    };
    CountedReview { review, sealed: true }
}

/// Both that nothing got weaker, and that no choice of reviews gets past `after` which does not get past `before`.
fn not_weaker(before: &Outcome, after: &Outcome, asked: &Asked, words: &[Word]) -> Result<(), TestCaseError> {
    prop_assert_eq!(weaker(before, after), [""; 0]);
    let escapes = before.decision.is_some() && approved(after, asked, words) && !approved(before, asked, words);
    prop_assert!(!escapes, "approved by more rules and not by fewer: {words:?}\n{before:#?}\n{after:#?}");
    Ok(())
}

fn policies(most: usize) -> impl Strategy<Value = Vec<Written>> {
    prop::collection::vec(policy(), 0..=most)
}

proptest! {
    #[test]
    fn another_policy_never_weakens(asked in request(), mut all in policies(3), more in policy(), words in words()) {
        let before = asked.of(&named(&all));
        all.push(more);
        not_weaker(&before, &asked.of(&named(&all)), &asked, &words)?;
    }

    #[test]
    fn another_rule_never_weakens(asked in request(), mut all in policies(2), first in policy(), mut more in rule(), words in words()) {
        all.insert(0, first);
        let before = asked.of(&named(&all));
        // A policy that does not compile is another matter: a rule may mend it.
        prop_assume!(all[0].spec["rules"] != json!([]));
        more["name"] = json!("another");
        all[0].spec["rules"].as_array_mut().unwrap().push(more);
        not_weaker(&before, &asked.of(&named(&all)), &asked, &words)?;
    }

    /// Of what is claimed, the name that no pattern but `*` covers, and no tags.
    #[test]
    fn a_claim_never_weakens(mut asked in request(), all in prop::collection::vec(policy_of(false), 0..4), tag in "[a-e]", words in words()) {
        let claimed = asked.of(&named(&all));
        asked.declared.push(tag);
        not_weaker(&claimed, &asked.of(&named(&all)), &asked, &words)?;
        let silent = Asked { requested_by: String::new(), declared: vec![], claims: json!({}), ..asked.clone() };
        not_weaker(&silent.of(&named(&all)), &claimed, &asked, &words)?;
    }

    #[test]
    fn every_rule_gets_the_people_that_it_asks_for(asked in request(), all in policies(3)) {
        let outcome = asked.of(&named(&all));
        for matched in &outcome.matches {
            let Some(approvals) = &matched.rule.approvals else { continue };
            let sum: i64 = approvals.requirements.iter().map(|r| i64::from(r.count)).sum();
            prop_assert!(outcome.approvals_required() >= sum, "{approvals:?}");
            if approvals.exclude.contains(&Exclude::PolicyEditor) {
                prop_assert!(outcome.matches.iter().all(|m| outcome.exclude_editors.contains(&m.policy)));
            }
        }
        for requirement in &outcome.requirements {
            prop_assert!(requirement.approvers.is_sorted() && !requirement.approvers.is_empty());
            for approver in &requirement.approvers {
                prop_assert!(validate::subject("at", approver).is_ok(), "{approver:?}");
                prop_assert_eq!(&normalised(approver), approver);
            }
        }
    }

    #[test]
    fn order_never_matters(asked in request(), all in policies(3)) {
        let mut set = named(&all);
        let before = asked.of(&set);
        set.ready.reverse();
        set.broken.reverse();
        for policy in &mut set.ready {
            Arc::get_mut(policy).unwrap().rules.reverse();
        }
        let after = asked.of(&set);
        prop_assert_eq!(before.snapshot(), after.snapshot());
        prop_assert_eq!((before.doubts, before.editors), (after.doubts, after.editors));
    }

    /// A rule said twice asks for nothing more.
    #[test]
    fn repetition_changes_nothing(asked in request(), all in policies(3)) {
        let mut set = named(&all);
        let before = asked.of(&set);
        for policy in &mut set.ready {
            let policy = Arc::get_mut(policy).unwrap();
            let again = policy.rules.clone();
            policy.rules.extend(again);
        }
        let after = asked.of(&set);
        prop_assert_eq!(weaker(&before, &after), [""; 0]);
        prop_assert_eq!((&before.requirements, before.denials), (&after.requirements, after.denials));
        prop_assert_eq!((&before.constraints, before.doubts), (&after.constraints, after.doubts));
    }

    #[test]
    fn compiling_and_evaluating_is_total(text in "\\PC{0,200}", user in "(system:serviceaccount:)?[a-z:.\\-]{0,9}", asked in request()) {
        let value: Value = serde_json::from_str(&text).unwrap_or(json!({"rules": [{"name": text}]}));
        let _ = asked.of(&set(&[("p", value)]));
        let approvers = json!([{"kind": "User", "name": user}]);
        let approvals = json!({"requirements": [{"name": "x", "approvers": approvers}]});
        let spec = json!({"rules": [{"name": "r", "decision": "RequireApproval", "approvals": approvals}]});
        for joined in asked.of(&set(&[("p", spec)])).requirements {
            prop_assert!(validate::subject("at", &joined.approvers[0]).is_ok(), "{joined:?}");
            let length = joined.approvers[0].namespace.as_ref().map_or(1, String::len);
            prop_assert!((1..=63).contains(&length) && !joined.approvers[0].name.is_empty());
        }
    }
}

/// The properties above say nothing of policies that never match, or of reviews that never suffice.
#[test]
fn what_is_generated_is_of_every_kind() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeMap::<&str, usize>::new();
    for _ in 0..2000 {
        let (asked, all, words) = (request(), policies(3), words()).new_tree(&mut runner).unwrap().current();
        let outcome = asked.of(&named(&all));
        let kinds = [
            ("allowed", outcome.decision == Some(Decision::Allow)),
            ("asked for", outcome.decision == Some(Decision::RequireApproval)),
            ("denied", outcome.decision == Some(Decision::Deny)),
            ("no match", outcome.decision.is_none()),
            ("in doubt", !outcome.doubts.is_empty()),
            ("failing", !outcome.failures.is_empty()),
            ("windows", !outcome.windows.is_empty()),
            ("editors", !outcome.editors.is_empty()),
            ("several", outcome.requirements.len() > 2),
            ("approved", outcome.decision == Some(Decision::RequireApproval) && approved(&outcome, &asked, &words)),
        ];
        kinds.into_iter().for_each(|(kind, is)| *seen.entry(kind).or_default() += usize::from(is));
    }
    assert!(seen.values().all(|count| *count >= 20), "{seen:?}");
}
