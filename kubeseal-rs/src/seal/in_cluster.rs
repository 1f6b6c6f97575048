//! Reads the values of a SealedSecret from its Secret in the cluster, if the user may read it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use shared::base64;
use shared::plain::Plain;
use shared::resource::{SealedSecret, qualified_name};
use shared::v2;

use super::session::Session;
use super::target::TargetError;

use crate::failure::Failure;

/// Values by item key; `None` for an unknown value.
pub type Values = BTreeMap<String, Option<Plain>>;

/// Returns the values that the Secret in the cluster has for the items of an object in `file`. The Secret may come from
/// another version of the file. The value of an item is unknown if the Secret lacks its key, or if a template produces
/// this key.
///
/// # Errors
///
/// Fails with `hint` if the Secret cannot be read. Also fails if the settings for the file or the namespace of the
/// object cannot be determined.
pub fn values(
    session: &Session<'_>,
    file: &Path,
    sealed: &SealedSecret,
    hint: &'static str,
) -> Result<Values> {
    let settings = session.settings(file)?;
    let name = sealed.name_or_empty();
    let namespace = match &sealed.metadata.namespace {
        Some(namespace) => Some(namespace.clone()),
        None => session.namespace(&settings)?,
    };
    let namespace = namespace.ok_or_else(|| TargetError::NoNamespace(name.to_owned()))?;
    let access = session.access(&settings.certificate.value);
    let cluster = session.clusters.connect(&access);
    let secret = cluster.and_then(|cluster| cluster.secret(&namespace, name));
    let secret = secret.with_context(|| {
        let object_name = qualified_name(&namespace, name);
        Failure::new(format!(
            "cannot read the values of {object_name} from the cluster"
        ))
        .hint(hint)
    })?;
    let templates = sealed.spec.template.data.as_ref();
    let value = |key: &String| {
        let is_templated = templates.is_some_and(|templates| templates.contains_key(key));
        let text = secret["data"][key].as_str().filter(|_| !is_templated)?;
        base64::decode(text.as_bytes()).ok().map(Plain::from)
    };
    let items = v2::items(&sealed.spec.encrypted_data);
    Ok(items.map(|(key, _)| (key.clone(), value(key))).collect())
}
