//! How far what is seen of the cluster has come: each kind of object is told of by a watch of its own, so that one may be
//! known in a newer state than another.

use crate::api::condition;
use crate::lifecycle::plan::{Observed, Target};
use crate::lifecycle::status;
use jiff::{SignedDuration, Timestamp};

/// How long after it was created a request may name a target that is not seen yet without a word about that. Times of creation
/// are whole seconds, so that it may be a second less.
const LAG: SignedDuration = SignedDuration::from_secs(3);

/// Whether this view of Jobs is older than the one that the request was bound from: it cannot tell a Job that is gone
/// from one that it has not seen yet.
pub(super) fn is_behind(o: &Observed<'_>) -> bool {
    let bound = o.request.status.target.is_some();
    bound && o.request.status.bound_at.is_some_and(|at| o.targets_version < at.target)
}

/// Until when a target that is not seen may still be on its way: whoever creates a Job and then the request for it is told of by
/// two watches, and the second may be the faster one. Nothing is waited for where it would have been seen by now, where the
/// request was looked at before, and where the clock that it was created by is further off than the wait is long.
pub(super) fn target_may_come(o: &Observed<'_>) -> Option<Timestamp> {
    let request = o.request;
    let unseen = matches!(o.target, Target::Missing) && o.targets_version < request.version;
    let told = condition::find(&request.status.conditions, "Evaluated").is_some();
    let until = request.created + LAG;
    (unseen && !told && request.created <= o.now + LAG && o.now < until).then_some(until)
}

/// Whether this view of policies, namespace and target is at least as new as the bound one in every part, and newer in one.
/// A target that reads nothing has no version of its inputs, and its own version tells whether that is news.
pub(super) fn is_newer(o: &Observed<'_>) -> bool {
    let Some(bound) = o.request.status.bound_at else { return true };
    let now = status::bound_at(o);
    let pairs = [
        (bound.policies, now.policies),
        (bound.namespace, now.namespace),
        (bound.target, now.target),
        (if now.inputs == 0 { 0 } else { bound.inputs }, now.inputs),
        (bound.surroundings, now.surroundings),
        (bound.format, now.format),
    ];
    pairs.iter().all(|(then, now)| now >= then) && pairs.iter().any(|(then, now)| now > then)
}
