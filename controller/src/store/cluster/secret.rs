//! A Secret as the API has it ↔ ours, which wipes its values.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1 as core;
use shared::plain::Plain;
use shared::secret::Secret;

/// Moves the values; none is copied.
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

/// For a request.
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
