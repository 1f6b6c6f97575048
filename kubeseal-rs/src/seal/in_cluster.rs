//! The values of a SealedSecret as its Secret in the cluster has them, for one who may read that.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use shared::base64;
use shared::plain::Plain;
use shared::resource::{SealedSecret, place};

use super::session::Session;
use super::target::TargetError;
use crate::cluster::{self, ClusterError};

/// Values by item key; none for a value that is not known.
pub type Values = BTreeMap<String, Option<Plain>>;

/// The cluster does not give them.
#[derive(Debug, thiserror::Error)]
#[error("the values of {place} cannot be had from the cluster; {otherwise}")]
pub struct NoValues {
    place: String,
    /// What to do instead.
    otherwise: &'static str,
    source: Box<ClusterError>,
}

/// The values of an object of this file. Where a template makes a key, the item behind it is not known.
///
/// # Errors
///
/// [`NoValues`], with what to do `otherwise`; or its namespace is not known.
pub fn values(
    session: &Session<'_>,
    file: &Path,
    sealed: &SealedSecret,
    otherwise: &'static str,
) -> Result<Values> {
    let settings = session.settings(file)?;
    let name = sealed.name_or_empty();
    let namespace = match &sealed.metadata.namespace {
        Some(namespace) => Some(namespace.clone()),
        None => session.namespace(&settings)?,
    };
    let namespace = namespace.ok_or_else(|| TargetError::NoNamespace(name.to_owned()))?;
    let access = session.access(&settings.certificate.value);
    let secret = cluster::secret(&access, &namespace, name).map_err(|error| NoValues {
        place: place(&namespace, name),
        otherwise,
        source: Box::new(error),
    })?;
    let templates = sealed.spec.template.data.as_ref();
    let value = |key: &String| {
        let made = templates.is_some_and(|templates| templates.contains_key(key));
        let text = secret["data"][key].as_str().filter(|_| !made)?;
        base64::decode(text.as_bytes()).ok().map(Plain::from)
    };
    let keys = sealed.spec.encrypted_data.keys();
    Ok(keys.map(|key| (key.clone(), value(key))).collect())
}
