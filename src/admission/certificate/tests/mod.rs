//! The certificate: what can be served, what is read of a Secret that anybody may have written, and that whatever happens, the
//! API server trusts what is served.

mod pairs;
mod secrets;
mod world;

use crate::admission::certificate::{Good, name_of};
use crate::admission::tls::{Serving, self_signed};
use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::ServerName;

const HOST: &str = "countersign.countersign-system.svc";
const DAY: SignedDuration = SignedDuration::from_hours(24);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn days(days: i64) -> Timestamp {
    at(days * DAY.as_secs())
}

fn name() -> ServerName<'static> {
    name_of(HOST).unwrap()
}

fn made(now: Timestamp, lifetime: SignedDuration) -> Serving {
    self_signed(HOST, now, lifetime).unwrap()
}

fn good(now: Timestamp, lifetime: SignedDuration) -> Good {
    Good::check(&made(now, lifetime), &name(), now).unwrap()
}
