//! Which pairs can be served.

use super::{DAY, at, days, good, made, name};
use crate::admission::certificate::{Flaw, Good, Served, name_of};
use crate::admission::tls::{Serving, self_signed};

fn flaw(serving: &Serving) -> Flaw {
    Good::check(serving, &name(), at(0)).unwrap_err()
}

#[test]
fn one_that_was_made_here_is_good_for_its_name_and_time() {
    let pair = made(at(0), 90 * DAY);
    let good = Good::check(&pair, &name(), at(0)).unwrap();
    assert!((days(90).as_second() - good.until.as_second()).abs() <= 1, "{}", good.until);
    assert_eq!(good.serving.authority.matches("BEGIN CERTIFICATE").count(), 1);
    assert!(Good::check(&pair, &name(), at(-1800)).is_ok(), "clocks differ");
    assert!(matches!(Good::check(&pair, &name(), days(-2)), Err(Flaw::Refused(_))), "not yet");
    assert!(Good::check(&pair, &name(), days(89)).is_ok());
    assert_eq!(Good::check(&pair, &name(), days(91)).unwrap_err(), Flaw::Expired);
    for other in ["countersign.other.svc", "svc", "127.0.0.1"] {
        assert!(matches!(Good::check(&pair, &name_of(other).unwrap(), at(0)), Err(Flaw::Refused(_))), "{other}");
    }
    let address = self_signed("127.0.0.1", at(0), DAY).unwrap();
    assert!(Good::check(&address, &name_of("127.0.0.1").unwrap(), at(0)).is_ok());
    assert!(name_of("not a name").is_none() && name_of("").is_none());
}

#[test]
fn parts_of_two_pairs_are_no_pair() {
    let (one, other) = (made(at(0), DAY), made(at(0), DAY));
    assert!(matches!(flaw(&Serving { key: other.key.clone(), ..one.clone() }), Flaw::Key(_)));
    assert!(matches!(flaw(&Serving { authority: other.authority.clone(), ..one.clone() }), Flaw::Refused(_)));
    assert!(matches!(flaw(&Serving { certificate: other.certificate, ..one.clone() }), Flaw::Key(_)));
    // An authority beside ours changes nothing: whoever keeps the Secret may announce one there.
    let both = format!("{}# the next one\n{}", one.authority, other.authority);
    let good = Good::check(&Serving { authority: both, ..one }, &name(), at(0)).unwrap();
    assert_eq!(good.serving.authority.matches("BEGIN CERTIFICATE").count(), 2);
    assert!(!good.serving.authority.contains('#'), "nothing but certificates is registered");
}

#[test]
fn what_is_missing_or_no_pem_is_named() {
    let pair = made(at(0), DAY);
    assert_eq!(flaw(&Serving { authority: String::new(), ..pair.clone() }), Flaw::Missing("ca.crt"));
    assert_eq!(flaw(&Serving { certificate: " \n".into(), ..pair.clone() }), Flaw::Missing("tls.crt"));
    assert_eq!(flaw(&Serving { key: String::new(), ..pair.clone() }), Flaw::Missing("tls.key"));
    assert_eq!(flaw(&Serving { certificate: "x".into(), ..pair.clone() }), Flaw::Unreadable("tls.crt"));
    assert_eq!(flaw(&Serving { key: "x".into(), ..pair.clone() }), Flaw::Unreadable("tls.key"));
    let half = pair.certificate[..pair.certificate.len() / 2].to_string();
    assert_eq!(flaw(&Serving { certificate: half, ..pair.clone() }), Flaw::Unreadable("tls.crt"));
    let text = format!("{:?} {:?}", pair, good(at(0), DAY));
    assert!(!text.contains("PRIVATE KEY"), "a key is never printed");
}

#[test]
fn nothing_is_served_once_it_has_expired() {
    let served = Served::default();
    assert_eq!(served.now(at(0)), None);
    let pair = good(at(0), DAY);
    assert!(served.serve(pair.clone()) && !served.serve(pair.clone()));
    assert_eq!(served.now(at(60)), Some(pair));
    assert_eq!(served.now(days(2)), None);
}
