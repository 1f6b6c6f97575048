//! The content-version key, in a Secret in the controller's namespace. All replicas use the same key, so that they
//! compute equal versions.

use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret as ApiSecret;
use kube::api::PostParams;
use kube::core::ObjectMeta;
use kube::{Api, Client};
use rand::CryptoRng;
use shared::resource::version_key_name;
use shared::v2::VersionKey;
use tracing::info;
use zeroize::Zeroizing;

use crate::readable::Readable;
use crate::store::{StoreError, api_error, require_readable};

/// The item of the Secret with the 32 random bytes of the key.
const ITEM: &str = "key";

/// Why there is no content-version key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoVersionKey {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "the item {ITEM:?} of the Secret {name:?} in the controller's namespace does not have 32 bytes; delete the Secret, and \
         the controller recreates it"
    )]
    Malformed { name: String },
}

/// Reads the key from its Secret, and creates the Secret if it does not exist. `prefix` is the name prefix of key
/// Secrets.
pub(crate) async fn load(
    client: &Client,
    namespace: &str,
    prefix: &str,
    random: &mut (impl CryptoRng + Send),
) -> Result<Arc<VersionKey>, NoVersionKey> {
    let name = version_key_name(prefix);
    let api: Api<Readable<ApiSecret>> = Api::namespaced(client.clone(), namespace);
    let stored = match read(&api, &name).await? {
        Some(stored) => stored,
        None => create(&api, &name, random).await?,
    };
    let key = parse(&stored).ok_or(NoVersionKey::Malformed { name })?;
    Ok(Arc::new(key))
}

/// Reads the key from its Secret; `None` if the Secret does not exist.
pub(crate) async fn find(
    client: &Client,
    namespace: &str,
    prefix: &str,
) -> Result<Option<Arc<VersionKey>>, NoVersionKey> {
    let name = version_key_name(prefix);
    let api: Api<Readable<ApiSecret>> = Api::namespaced(client.clone(), namespace);
    let Some(stored) = read(&api, &name).await? else {
        return Ok(None);
    };
    let key = parse(&stored).ok_or(NoVersionKey::Malformed { name })?;
    Ok(Some(Arc::new(key)))
}

async fn read(api: &Api<Readable<ApiSecret>>, name: &str) -> Result<Option<ApiSecret>, StoreError> {
    let operation = "cannot read the content-version key";
    let stored = api.get_opt(name).await.map_err(api_error(operation))?;
    let secret = stored.map(|secret| require_readable(secret, operation));
    secret.transpose()
}

/// Creates the Secret, or reads the Secret that another replica created in the meantime.
async fn create(
    api: &Api<Readable<ApiSecret>>,
    name: &str,
    random: &mut impl CryptoRng,
) -> Result<ApiSecret, StoreError> {
    let operation = "cannot create the content-version key";
    let secret = Readable::Object(new_secret(name, random));
    let created = match api.create(&PostParams::default(), &secret).await {
        Ok(created) => {
            info!(secretname = name, "Created the content-version key");
            created
        }
        Err(kube::Error::Api(status)) if status.code == 409 => {
            api.get(name).await.map_err(api_error(operation))?
        }
        Err(error) => return Err(api_error(operation)(error)),
    };
    require_readable(created, operation)
}

fn new_secret(name: &str, random: &mut impl CryptoRng) -> ApiSecret {
    let mut key = vec![0; 32];
    random.fill_bytes(&mut key);
    ApiSecret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        data: Some([(ITEM.to_owned(), ByteString(key))].into()),
        ..ApiSecret::default()
    }
}

fn parse(secret: &ApiSecret) -> Option<VersionKey> {
    let ByteString(bytes) = secret.data.as_ref()?.get(ITEM)?;
    let bytes: Zeroizing<[u8; 32]> = Zeroizing::new(bytes.as_slice().try_into().ok()?);
    Some(VersionKey::new(&bytes))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn reads_the_version_key_that_it_creates() {
        let secret = new_secret("n", &mut StdRng::seed_from_u64(1));
        let id = parse(&secret).unwrap().id().to_owned();
        let other = new_secret("n", &mut StdRng::seed_from_u64(2));
        assert_ne!(parse(&other).unwrap().id(), id);
        assert_eq!(id.len(), 8);
    }

    #[test]
    fn a_key_of_the_wrong_length_is_not_used() {
        for len in [0, 31, 33] {
            let data = [(ITEM.to_owned(), ByteString(vec![1; len]))];
            let secret = ApiSecret {
                data: Some(data.into()),
                ..ApiSecret::default()
            };
            assert!(parse(&secret).is_none(), "{len}");
        }
    }
}
