//! The certificate is deleted, spoiled and replaced, and users notice nothing; and the gate stays closed where none is good.

use super::*;
use countersign::admission::certificate::{Good, SETTLE, Stored, name_of};
use countersign::admission::tls;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};

impl Lab {
    /// What the Secret says, once it is as wanted.
    async fn stored(&self, what: &str, most: Duration, wanted: impl Fn(&Stored) -> bool) -> Result<Stored> {
        let began = Instant::now();
        loop {
            let secret = self.secrets().await?.get_opt(CERTIFICATE).await?;
            let data = secret.and_then(|secret| secret.data).unwrap_or_default();
            let data = data.into_iter().map(|(name, ByteString(bytes))| (name, bytes)).collect();
            let (stored, flaw) = Stored::read(&data, &self.name(), Timestamp::now());
            if wanted(&stored) {
                return Ok(stored);
            }
            ensure!(began.elapsed() < most, "{what}: not within {most:?}: {flaw:?} {stored:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn name(&self) -> rustls::pki_types::ServerName<'static> {
        name_of(&self.balancer.address.ip().to_string()).expect("an address")
    }

    fn pair(&self, from: Timestamp, lifetime: SignedDuration) -> Result<Good> {
        let made = tls::self_signed(&self.balancer.address.ip().to_string(), from, lifetime)?;
        Good::check(&made, &self.name(), from).map_err(|flaw| anyhow::anyhow!("{flaw}"))
    }

    async fn patch(&self, patch: serde_json::Value) -> Result<()> {
        self.secrets().await?.patch(CERTIFICATE, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }
}

fn bytes(text: &str) -> ByteString {
    ByteString(text.as_bytes().to_vec())
}

/// Whatever becomes of the Secret, both operators go on with what they serve, until the leader's next one is known everywhere.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_notices_what_happens_to_the_secret() -> Result<()> {
    let lab = Lab::new().await?;
    let two = lab.two().await?;
    let first = lab.stored("one is served", LEASE, |stored| stored.current.is_some()).await?.current.context("one")?;
    let space = lab.gated("certificate").await?;
    let stream = Stream::start(space, "certificate");

    let other = lab.pair(Timestamp::now(), SignedDuration::from_hours(24))?;
    lab.patch(json!({"data": {"tls.key": bytes(&other.serving.key)}})).await?;
    stream.more(20).await?;
    lab.patch(json!({"data": {"tls.crt": bytes("-----BEGIN CERT"), "tls.key": null}})).await?;
    stream.more(20).await?;
    lab.secrets().await?.delete(CERTIFICATE, &DeleteParams::default()).await?;
    let half = Duration::from_secs(30);
    lab.stored("another one is made", half, |stored| stored.next.is_some()).await?;
    stream.more(20).await?;

    // A minute later, once every API server trusts it, it is served by both.
    let most = Duration::try_from(SETTLE)? + half;
    let second = lab.stored("it is served", most, |stored| stored.current.is_some()).await?.current.context("one")?;
    ensure!(second.serving != first.serving, "the same is served");
    for replica in &two {
        let began = Instant::now();
        while replica.operator.log().matches("another certificate is served").count() < 2 {
            ensure!(began.elapsed() < LEASE, "{}", replica.operator.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    stream.more(40).await?;
    stream.end_without_refusal().await?;
    lab.gate_was_intact().await
}

/// Less than a third of its time is left: another follows, beside it first.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_notices_that_the_certificate_is_replaced_before_it_ends() -> Result<()> {
    let lab = Lab::new().await?;
    let old = lab.pair(Timestamp::now(), SignedDuration::from_hours(24))?;
    let stored = Stored { current: Some(old.clone()), ..Stored::default() };
    let data = stored.data().into_iter().map(|(name, bytes)| (name, ByteString(bytes))).collect();
    let metadata = kube::api::ObjectMeta { name: Some(CERTIFICATE.into()), ..Default::default() };
    let secret = Secret { metadata, data: Some(data), ..Secret::default() };
    lab.secrets().await?.create(&PostParams::default(), &secret).await?;
    let _two = lab.two().await?;
    let space = lab.gated("replaced").await?;
    let stream = Stream::start(space, "replaced");
    let most = Duration::try_from(SETTLE)? + Duration::from_secs(30);
    let is_new = |stored: &Stored| stored.current.as_ref().is_some_and(|now| now.serving != old.serving);
    let stored = lab.stored("another one is served", most, is_new).await?;
    ensure!(stored.trusts(&old), "the one before may be served still, and is trusted no longer");
    stream.more(40).await?;
    stream.end_without_refusal().await?;
    lab.gate_was_intact().await
}

/// After a long time without any operator the certificate has ended: the gate is closed, and one that starts needs no help.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_has_ended_closes_the_gate_until_another_is_made() -> Result<()> {
    let lab = Lab::new().await?;
    let two = lab.two().await?;
    let space = lab.gated("ended").await?;
    two.into_iter().for_each(|replica| replica.operator.kill());
    let day = SignedDuration::from_hours(24);
    let ended = lab.pair(Timestamp::now().checked_sub(day * 2)?, day)?;
    let [crt, key] = [bytes(&ended.serving.certificate), bytes(&ended.serving.key)];
    lab.patch(json!({"data": {"tls.crt": crt, "tls.key": key, "ca.crt": bytes(&ended.serving.authority)}})).await?;
    let refused = support::create(&space.api("approvalrequests"), &support::request("closed", None)).await;
    ensure!(refused.as_ref().is_err_and(|error| error.to_string().contains("calling webhook")), "{refused:?}");

    let began = Instant::now();
    let replica = lab.start().await?;
    lab.ready(&replica).await?;
    lab.until_registered().await?;
    eprintln!("open again {:?} after an operator started", began.elapsed());
    support::create(&space.api("approvalrequests"), &support::request("open", None)).await?;
    ensure!(replica.operator.log().contains("expired") || replica.operator.log().contains("ended"), "it says why");
    Ok(())
}
