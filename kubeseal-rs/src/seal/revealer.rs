//! Values of sealed files, from private keys or from the Secret in the cluster.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use shared::key_ring::KeyRing;
use shared::resource::SealedSecret;
use shared::unseal;

use super::in_cluster::{self, Values};
use super::session::Session;
use crate::command::read_keys;

/// The hint for a cluster that does not provide values.
const KEY_HINT: &str = "pass --key FILE to unseal the values locally";

/// The source of values.
pub enum Revealer<'a> {
    /// Private keys that decrypt the file.
    Keys(Box<KeyRing>),
    /// The Secret in the cluster, which the user may read.
    Cluster(&'a Session<'a>),
}

impl<'a> Revealer<'a> {
    /// Uses the private keys in these files, or the cluster if there are none.
    ///
    /// # Errors
    ///
    /// Fails if the keys cannot be read.
    pub fn new(keys: &[PathBuf], session: &'a Session<'a>) -> Result<Self> {
        if keys.is_empty() {
            return Ok(Self::Cluster(session));
        }
        Ok(Self::Keys(Box::new(read_keys(keys)?)))
    }

    /// Returns the values of the items. Templates are not rendered.
    ///
    /// # Errors
    ///
    /// Fails if a value cannot be decrypted, or the Secret cannot be read.
    pub fn values(&self, sealed: &SealedSecret, file: &Path) -> Result<Values> {
        let ring = match self {
            Self::Keys(ring) => ring,
            Self::Cluster(session) => {
                return in_cluster::values(session, file, sealed, KEY_HINT);
            }
        };
        let unsealed = unseal::unseal_values(sealed, ring).map_err(|why| {
            let object_name = sealed.qualified_name();
            anyhow!(
                "{object_name} cannot be unsealed with these keys: {}",
                why.diagnosis()
            )
        })?;
        Ok(unsealed
            .into_iter()
            .map(|(key, value)| (key, Some(value)))
            .collect())
    }
}
