//! Converts between the API's Secret type and [`Secret`], which wipes its values.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1 as core;
use shared::plain::Plain;
use shared::secret::Secret;

/// Converts from the API type. Moves the values without copying them.
pub(crate) fn from_api(secret: core::Secret) -> Secret {
    let data = secret.data.unwrap_or_default();
    Secret {
        metadata: secret.metadata,
        type_: secret.type_,
        immutable: secret.immutable,
        data: data
            .into_iter()
            .map(|(key, value)| (key, Plain::from(value.0)))
            .collect(),
    }
}

/// Converts to the API type, for a request.
pub(crate) fn to_api(secret: &Secret) -> core::Secret {
    let bytes =
        |(key, value): (&String, &Plain)| (key.clone(), ByteString(value.expose().to_vec()));
    let data: BTreeMap<String, ByteString> = secret.data.iter().map(bytes).collect();
    core::Secret {
        metadata: secret.metadata.clone(),
        type_: secret.type_.clone(),
        immutable: secret.immutable,
        data: Some(data),
        string_data: None,
    }
}
