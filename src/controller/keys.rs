//! The signing key in its Secret.

use crate::api::names;
use crate::binding::Keyring;
use crate::controller::error::{Error, call};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, PostParams};
use kube::{Client, core::ObjectMeta};
use std::collections::BTreeMap;

/// Key in the Secret's data: the 32 bytes of an ed25519 seed.
const SEED: &str = "seed";

/// Reads the signing key of the operator in `namespace`, and creates it from `fresh_seed` where there is none. When two
/// operators start at once, one creates the key and both use it.
pub async fn load_or_create(client: &Client, namespace: &str, fresh_seed: [u8; 32]) -> Result<Keyring, Error> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let name = names::SIGNING_KEY_SECRET;
    if let Some(secret) = call("read the signing key", secrets.get_opt(name)).await? {
        return read(namespace, &secret);
    }
    let secret = Secret {
        metadata: ObjectMeta { name: Some(name.into()), namespace: Some(namespace.into()), ..ObjectMeta::default() },
        data: Some(BTreeMap::from([(SEED.to_string(), ByteString(fresh_seed.to_vec()))])),
        type_: Some("countersign.dev/signing-key".into()),
        immutable: Some(true),
        ..Secret::default()
    };
    match call("create the signing key", secrets.create(&PostParams::default(), &secret)).await {
        Ok(created) => read(namespace, &created),
        Err(Error::Api { source: kube::Error::Api(status), .. }) if status.code == 409 => {
            read(namespace, &call("read the signing key", secrets.get(name)).await?)
        }
        Err(error) => Err(error),
    }
}

fn read(namespace: &str, secret: &Secret) -> Result<Keyring, Error> {
    let broken =
        |problem: String| Error::Key { namespace: namespace.into(), name: names::SIGNING_KEY_SECRET.into(), problem };
    let seed = secret.data.as_ref().and_then(|data| data.get(SEED)).ok_or_else(|| {
        broken(format!(
            "has no key {SEED}; delete the Secret to have a new one made (open reviews must then be given anew)"
        ))
    })?;
    Keyring::from_seed(&seed.0).map_err(|e| broken(e.to_string()))
}
