//! The signing keys in their Secret.
//!
//! The operator makes the first one, immutable, and changes none. Who replaces a key (`countersign keys`) writes the keys to a
//! second Secret and deletes the first only then, so that at no time there is none. Whoever reads looks for them in the opposite
//! order, and so misses neither.

use crate::api::names;
use crate::binding::{KeyError, KeySet, Keyring};
use crate::controller::error::{Error, call};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, PostParams};
use kube::{Client, core::ObjectMeta};

/// Reads the signing keys of the operator in `namespace`, and creates one from `fresh_seed` where there is none. When two
/// operators start at once, one creates the key and both use it.
pub async fn load_or_create(client: &Client, namespace: &str, fresh_seed: [u8; 32]) -> Result<Keyring, Error> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let name = names::SIGNING_KEY_SECRET;
    let first = call("read the signing key", secrets.get_opt(name)).await?;
    let rotated = call("read the signing keys", secrets.get_opt(names::SIGNING_KEYS_SECRET)).await?;
    let (first, rotated) = (first.as_ref(), rotated.as_ref());
    if first.is_some() || rotated.is_some() {
        return Ok(keys_of(namespace, first, rotated)?.keyring());
    }
    let secret = secret(namespace, name, &KeySet::new(fresh_seed), true);
    let created = match call("create the signing key", secrets.create(&PostParams::default(), &secret)).await {
        Err(Error::Api { source: kube::Error::Api(status), .. }) if status.code == 409 => {
            call("read the signing key", secrets.get(name)).await?
        }
        created => created?,
    };
    Ok(keys_of(namespace, Some(&created), None)?.keyring())
}

/// A Secret that holds keys.
pub fn secret(namespace: &str, name: &str, keys: &KeySet, immutable: bool) -> Secret {
    Secret {
        metadata: ObjectMeta { name: Some(name.into()), namespace: Some(namespace.into()), ..ObjectMeta::default() },
        data: Some(keys.data().into_iter().map(|(entry, bytes)| (entry, ByteString(bytes))).collect()),
        type_: Some("countersign.dev/signing-key".into()),
        immutable: immutable.then_some(true),
        ..Secret::default()
    }
}

/// The keys in these Secrets: in the second, where it is there. Beside the first it must come of that, so that nobody who may
/// create Secrets and not read them puts a key of his own in its place.
pub fn keys_of(namespace: &str, first: Option<&Secret>, rotated: Option<&Secret>) -> Result<KeySet, Error> {
    let broken = |name: &str, problem: String| Error::Key { namespace: namespace.into(), name: name.into(), problem };
    let read = |name: &str, secret: &Secret| {
        let data = secret.data.iter().flatten().map(|(entry, bytes)| (entry.as_str(), bytes.0.as_slice()));
        KeySet::read(data).map_err(|e| broken(name, e.to_string()))
    };
    let first = first.map(|secret| read(names::SIGNING_KEY_SECRET, secret)).transpose()?;
    let rotated = rotated.map(|secret| read(names::SIGNING_KEYS_SECRET, secret)).transpose()?;
    match (first, rotated) {
        (Some(first), Some(rotated)) if !rotated.continues(&first) => Err(broken(
            names::SIGNING_KEYS_SECRET,
            format!(
                "does not hold the key of Secret {}, which is there as well: one of the two was put there by somebody; delete that one",
                names::SIGNING_KEY_SECRET
            ),
        )),
        (_, Some(keys)) | (Some(keys), None) => Ok(keys),
        (None, None) => Err(broken(names::SIGNING_KEY_SECRET, KeyError::NoSeed.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, keys: &KeySet) -> Secret {
        secret("home", name, keys, name == names::SIGNING_KEY_SECRET)
    }

    #[test]
    fn the_rotated_keys_count_if_they_come_of_the_first() {
        let (first, other) = (KeySet::new([1; 32]), KeySet::new([9; 32]));
        let added = first.add([2; 32]).unwrap();
        let secrets = |keys: &KeySet| (of(names::SIGNING_KEY_SECRET, &first), of(names::SIGNING_KEYS_SECRET, keys));
        let (one, two) = secrets(&added);
        assert_eq!(keys_of("home", Some(&one), None).unwrap(), first);
        assert_eq!(keys_of("home", None, Some(&two)).unwrap(), added);
        assert_eq!(keys_of("home", Some(&one), Some(&two)).unwrap(), added, "between two writes");
        assert!(keys_of("home", None, None).is_err());
        for planted in [&other, &other.add([1; 32]).unwrap()] {
            let (one, two) = secrets(planted);
            let refused = keys_of("home", Some(&one), Some(&two)).unwrap_err().to_string();
            assert!(refused.starts_with("Secret home/countersign-signing-keys: does not hold the key of"), "{refused}");
        }
    }
}
