//! Somebody else keeps the certificate, as cert-manager does: behind a Service, under an authority of theirs.

use super::*;
use countersign_testbed::{AuditFilter, Mark};
use k8s_openapi::ByteString;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use std::collections::BTreeSet;

/// The name that the API server asks for.
const HOST: &str = "countersign.countersign-system.svc";

/// How long users may notice another authority.
const MOMENT: Duration = Duration::from_secs(1);

/// One that signs certificates, over and over.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Result<Self> {
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// What a Secret with another certificate holds.
    fn issue(&self) -> Result<Value> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec![HOST.to_owned()])?.signed_by(&key, &self.issuer)?;
        let [crt, key, ca] = [&certificate.pem(), &key.serialize_pem(), &self.pem].map(|text| bytes(text));
        Ok(json!({"tls.crt": crt, "tls.key": key, "ca.crt": ca}))
    }
}

fn bytes(text: &str) -> ByteString {
    ByteString(text.as_bytes().to_vec())
}

/// A cluster whose API server reaches Services, of which operators are behind one; and what it takes to reach them.
async fn behind_a_service() -> Result<(Lab, tempfile::TempDir)> {
    let balancer = Balancer::start().await?;
    let dir = tempfile::tempdir()?;
    let (socket, file) = (dir.path().join("way-in"), dir.path().join("egress.json"));
    balancer.lead_in(&socket)?;
    let proxy = json!({"proxyProtocol": "HTTPConnect", "transport": {"uds": {"udsName": socket}}});
    let config = json!({"apiVersion": "apiserver.k8s.io/v1beta1", "kind": "EgressSelectorConfiguration",
        "egressSelections": [{"name": "cluster", "connection": proxy}]});
    std::fs::write(&file, config.to_string())?;
    let flag = format!("--egress-selector-config-file={}", file.display());
    let options = Options { extra_apiserver_args: vec![flag], ..Options::default() };
    let flags = ["--admission-service=countersign", "--admission-certificate=provided"];
    let lab = Lab::with(options, balancer, flags.map(String::from).into()).await?;
    let service = ["create", "service", "clusterip", "countersign", "--tcp=443:9443", "--namespace", HOME];
    lab.cluster.admin().kubectl(service).ok().await?;
    Ok((lab, dir))
}

impl Lab {
    async fn provide(&self, data: Value) -> Result<()> {
        let secret = json!({"metadata": {"name": CERTIFICATE}, "type": "kubernetes.io/tls", "data": data});
        self.secrets().await?.create(&PostParams::default(), &serde_json::from_value(secret)?).await?;
        Ok(())
    }

    async fn renew(&self, data: Value) -> Result<()> {
        let patch = Patch::Merge(json!({"data": data}));
        self.secrets().await?.patch(CERTIFICATE, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// What the operators did with the Secret, which is not theirs.
    async fn touched(&self) -> Result<BTreeSet<String>> {
        let log = self.cluster.audit_log();
        log.settle().await?;
        let operator = AuditFilter::new().user(&self.identity.name).resource("secrets").name(CERTIFICATE);
        let events = log.select(Mark::START, &operator)?;
        Ok(events.iter().filter_map(|event| Some(event["verb"].as_str()?.to_owned())).collect())
    }

    /// Waits until the API server is told to trust it.
    async fn until_trusted(&self, authority: &Authority) -> Result<()> {
        let began = Instant::now();
        while without_spaces(&self.trusted().await?) != without_spaces(&authority.pem) {
            ensure!(began.elapsed() < LEASE, "the API server is not told");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        eprintln!("another authority is registered {:?} later", began.elapsed());
        Ok(())
    }

    /// What the API server is told to trust, where every webhook says the same.
    async fn trusted(&self) -> Result<String> {
        let kinds = "mutatingwebhookconfiguration,validatingwebhookconfiguration";
        let all = self.cluster.admin().kubectl(["get", kinds]).json().await?;
        let webhooks = all["items"].as_array().into_iter().flatten().flat_map(|all| all["webhooks"].as_array());
        let mut trusted: Vec<_> = webhooks.flatten().map(|one| one["clientConfig"].clone()).collect();
        trusted.iter_mut().for_each(|config| config["service"]["path"] = Value::Null);
        trusted.dedup();
        let [one] = &trusted[..] else { anyhow::bail!("they differ: {trusted:#?}") };
        ensure!(one["service"]["name"] == "countersign" && one["service"]["namespace"] == HOME, "{one}");
        let ByteString(pem) = serde_json::from_value(one["caBundle"].clone())?;
        Ok(String::from_utf8(pem)?)
    }
}

/// Waits until both serve another certificate for that many times.
async fn served(two: &[Replica; 2], times: usize) -> Result<()> {
    told(two, "another certificate is served", times).await
}

async fn told(two: &[Replica; 2], what: &str, times: usize) -> Result<()> {
    for replica in two {
        let began = Instant::now();
        while replica.operator.log().matches(what).count() < times {
            ensure!(began.elapsed() < LEASE, "it does not say {what:?}:\n{}", replica.operator.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

fn without_spaces(text: &str) -> String {
    text.split_whitespace().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_notices_that_somebody_else_renews_or_spoils_the_certificate() -> Result<()> {
    let (lab, _way_in) = behind_a_service().await?;
    let authority = Authority::new()?;
    let two = [lab.start().await?, lab.start().await?];
    let unready = said(two[0].backend.readiness, "/readyz").await?;
    ensure!(unready.starts_with("HTTP/1.1 503") && unready.contains("it is not there"), "{unready}");
    lab.provide(authority.issue()?).await?;
    lab.settled(&two).await?;
    ensure!(without_spaces(&lab.trusted().await?) == without_spaces(&authority.pem), "another authority is registered");
    let space = lab.gated("provided").await?;

    let stream = Stream::start(space, "provided");
    lab.renew(authority.issue()?).await?;
    served(&two, 2).await?;
    stream.more(20).await?;
    // Garbage, half of a pair, and nothing at all: they go on with what they have.
    lab.renew(json!({"tls.crt": bytes("-----BEGIN CERT")})).await?;
    told(&two, "cannot be read as PEM", 1).await?;
    stream.more(20).await?;
    let half = authority.issue()?;
    lab.renew(json!({"tls.crt": half["tls.crt"]})).await?;
    told(&two, "tls.key is not the key of tls.crt", 1).await?;
    stream.more(20).await?;
    lab.secrets().await?.delete(CERTIFICATE, &DeleteParams::default()).await?;
    told(&two, "it is not there", 2).await?;
    stream.more(20).await?;
    // One that starts meanwhile has nothing to serve: it says so, and nobody is led there.
    let third = lab.start().await?;
    let unready = said(third.backend.readiness, "/readyz").await?;
    ensure!(unready.starts_with("HTTP/1.1 503") && unready.contains("it is not there"), "{unready}");
    stream.more(20).await?;
    lab.provide(authority.issue()?).await?;
    served(&two, 3).await?;
    lab.ready(&third).await?;
    stream.more(20).await?;
    stream.end_without_refusal().await?;
    assert_eq!(lab.touched().await?, BTreeSet::from(["list".into(), "watch".into()]));
    lab.gate_was_intact().await
}

/// States the window: connections that are there go on, and one that the API server opens after an operator serves under another
/// authority, and before it was told to trust that, is refused.
#[tokio::test(flavor = "multi_thread")]
async fn another_authority_that_is_provided_is_noticed_for_less_than_a_second() -> Result<()> {
    let (lab, _way_in) = behind_a_service().await?;
    let two = [lab.start().await?, lab.start().await?];
    lab.provide(Authority::new()?.issue()?).await?;
    lab.settled(&two).await?;
    let space = lab.gated("authority").await?;
    let stream = Stream::start(space, "authority");
    let mut changed = vec![];
    for times in 2..6 {
        stream.more(20).await?;
        let other = Authority::new()?;
        changed.push(Instant::now());
        lab.renew(other.issue()?).await?;
        lab.until_trusted(&other).await?;
        served(&two, times).await?;
    }
    stream.more(40).await?;
    let deeds = stream.end().await?;
    let refused: Vec<_> = deeds.iter().filter(|deed| deed.refused.is_some()).collect();
    eprintln!("{} of {} were refused: {refused:#?}", refused.len(), deeds.len());
    let strange = refused.iter().find(|deed| {
        let end = deed.at + deed.took;
        let since = changed.iter().filter(|at| **at <= end).map(|at| end.duration_since(*at)).min();
        let late = since.is_none_or(|since| since > MOMENT);
        late || !deed.refused.as_ref().is_some_and(|text| text.contains("calling webhook"))
    });
    ensure!(strange.is_none(), "{strange:#?}");
    lab.gate_was_intact().await
}
